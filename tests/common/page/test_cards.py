from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.page.cards import Card, Chances, chances_of, draw_layers, results_html, show_value
from common.pictures import encode_label_map, encode_mask, encode_picture
from common.pixels import read_pixels


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "–"),
        (None, "–"),
        ("", "–"),
        (0.0, "0"),
        (1234.56, "1235"),
        (0.00123456, "0.001235"),
        (-12.345678, "-12.35"),
        (3, "3"),
        ("true", "yes"),
        (False, "no"),
        ("OD", "OD"),
    ],
)
def test_show_value(value: object, said: str) -> None:
    assert show_value(value) == said


def test_measures_have_names_units_and_groups() -> None:
    card = Card(
        "a.png",
        row={
            "image": "a.png",
            "eye": "OD",
            "vessel_density": 0.125,
            "vessel_length_density_per_px": 0.02,
            "cdr_vertical": 0.5,
            "disc_area_um2": math.nan,
            "hqsam_cdr_vertical": 0.6,
            "nfl_thickness_mean_um": 20.0,
            "gcl_ipl_thickness_max_um": 50.0,
            "p_DR": 0.25,
            "p_N": math.nan,
            "axial_scale_um": 3.5,
            "vessel_segmentation_version": "0.1.0",
            "note": "",
        },
    )
    shown = {
        group: [(one.label, value, one.unit) for one, value in measures] for group, measures in card.measures.items()
    }
    assert list(shown) == ["Vessels", "Optic disc and cup", "Optic disc and cup, by HQ-SAM", "Picture"]
    assert shown["Vessels"] == [
        ("Vessel density (share of the field of view)", "12.5", "%"),
        ("Vessel length density", "0.02", "1/px"),
    ]
    assert ("Disc area", "–", "µm²") in shown["Optic disc and cup"]
    assert card.thicknesses == {"µm": [["NFL", "20", "–", "–", "–"], ["GCL-IPL", "–", "–", "–", "50"]]}


def test_probabilities_have_the_names_of_their_labels() -> None:
    bundle = {"title": "Eyes <b>", "performance": "AUC 0.9", "labels": {"G": "glaucoma"}}
    row = {"p_G": 0.25, "p_N": math.nan, "p_DR": "0.5", "cdr_vertical": 0.5, "p_X": 1.0}
    chances = chances_of(row, ["cdr_vertical", "p_G", "p_N", "p_DR"], bundle)
    assert chances == Chances("Eyes <b>", "AUC 0.9", [("G, glaucoma", 25.0), ("DR", 50.0)])
    assert chances_of(row, ["cdr_vertical"], bundle) is None
    html = results_html([Card("a.png", row=row, base=Path("a.jpg"), size=(4, 3), chances=[chances])], str)
    assert "<h4>Eyes &lt;b&gt;</h4>" in html
    assert "Measured performance: AUC 0.9. A probability is no diagnosis." in html
    assert "G, glaucoma" in html


def test_names_are_no_markup() -> None:
    html = results_html([Card("<script>.png", failure="<b>&"), Card("b.png")], str)
    assert "<script>" not in html
    assert "&lt;script&gt;.png: &lt;b&gt;&amp;" in html


def test_layers_lie_where_the_masks_do(tmp_path: Path) -> None:
    mask = np.zeros((30, 40), bool)
    mask[:10, 20:] = True
    (tmp_path / "mask.png").write_bytes(encode_mask(mask))
    (tmp_path / "labels.png").write_bytes(encode_label_map(mask.astype(np.uint8) * np.uint8(2)))
    masks = {"disc": tmp_path / "mask.png", "labels": tmp_path / "labels.png"}
    picture = np.full((30, 40, 3), 90, np.uint8)
    card = draw_layers(Card("a.png"), picture, masks, tmp_path, max_side=20)
    assert card.base is not None
    assert card.size == (20, 15)
    assert read_pixels(card.base).shape == (15, 20, 3)
    assert [layer.name for layer in card.layers] == ["Disc", "NFL", "GCL-IPL", "INL", "OPL", "ONL-ISM", "ISE", "OS-RPE"]
    opaque = np.zeros((15, 20), bool)
    opaque[:5, 10:] = True
    for layer, expected in zip(card.layers, [opaque, opaque & False, opaque, *[opaque & False] * 5], strict=True):
        pixels = np.asarray(Image.open(layer.picture))
        assert pixels.shape == (15, 20, 4)
        np.testing.assert_array_equal(pixels[..., 3] > 0, expected)
        assert "#{:02x}{:02x}{:02x}".format(*pixels[0, 0, :3]) == layer.colour


def test_saliency_lies_over_the_picture_and_is_off_at_first(tmp_path: Path) -> None:
    heat = np.zeros((30, 40), np.uint8)
    heat[:10, 20:] = 255
    (tmp_path / "heat.png").write_bytes(encode_picture(heat, ".png"))
    chances = Chances("Eyes", "AUC 0.9", [("N", 20.0), ("G, glaucoma", 60.0)], "Saliency (ODIR)")
    card = Card("a.png", row={"p_N": 0.2}, chances=[chances])
    picture = np.full((60, 80, 3), 90, np.uint8)
    card = draw_layers(card, picture, {"saliency_odir": tmp_path / "heat.png"}, tmp_path)
    (layer,) = card.layers
    assert (layer.name, layer.heat) == ("Saliency (ODIR)", True)
    pixels = np.asarray(Image.open(layer.picture).convert("RGBA"))
    np.testing.assert_array_equal(pixels[..., 3] > 0, heat > 0)
    assert pixels[0, -1, 0] > 2 * max(pixels[0, -1, 1:3])  # red
    html = results_html([card], str)
    assert "Saliency (ODIR) (Grad-CAM, coarse) shows what speaks for G, glaucoma." in html
    assert 'class="rb-layer rb-off"' in html
    assert "data-heat>" in html
    assert " checked>" not in html
