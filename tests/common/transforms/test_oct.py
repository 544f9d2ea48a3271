from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.io
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from numpy.typing import NDArray
from PIL import Image

from common.biomarkers.layers import LAYERS, UNANNOTATED, boundaries_to_labels, order_violations
from common.errors import SettingError
from common.phantoms import oct_phantom
from common.readers import from_picture, to_picture
from common.scans import read_scan
from common.transforms import (
    FitBScand,
    LayerBiomarkersd,
    LayerChannelsd,
    LoadBScand,
    LoadFluidd,
    LoadLayersd,
    NormalizeBScan,
    NormalizeBScand,
    OrderedLayersd,
    RandCystd,
    RandGraderd,
    RandSpeckled,
    find_white_border,
    inflate_layer,
    is_layer,
)


def tensor_of(picture: NDArray[Any]) -> MetaTensor:
    return MetaTensor(torch.as_tensor(from_picture(picture)))


# --- loading ---------------------------------------------------------------------------------------------------------


def test_scan_and_labels_of_pictures(tmp_path: Path) -> None:
    phantom = oct_phantom(128, 200, seed=1)
    Image.fromarray(phantom.scan).save(tmp_path / "scan.tif")
    Image.fromarray(phantom.labels).save(tmp_path / "labels.png")
    load = Compose([LoadBScand("image"), LoadLayersd("label")])

    data = load({"image": str(tmp_path / "scan.tif"), "label": str(tmp_path / "labels.png")})

    assert data["image"].shape == data["label"].shape == (1, 200, 128)
    np.testing.assert_array_equal(to_picture(data["image"]), phantom.scan)
    np.testing.assert_array_equal(to_picture(data["label"]), phantom.labels)


def test_labels_of_both_graders_from_a_volume(tmp_path: Path) -> None:
    phantom = oct_phantom(128, 200, seed=1)
    one, two = (np.full((8, 200, 2), np.nan) for _ in range(2))
    one[:, 20:150, 1] = np.rint(phantom.boundaries[:, 20:150]) + 1
    two[:, 30:150, 1] = one[:, 30:150, 1] + 2
    images = np.repeat(phantom.scan[..., None], 2, axis=2)
    scipy.io.savemat(tmp_path / "v.mat", {"images": images, "manualLayers1": one, "manualLayers2": two})
    address = f"{tmp_path / 'v.mat'}#2"
    load = Compose([LoadBScand("image"), LoadLayersd(["label", "label_2"])])

    data = load({"image": address, "label": address, "label_2": address})

    first, second = to_picture(data["label"]), to_picture(data["label_2"])
    np.testing.assert_array_equal(first[:, 20:150], phantom.labels[:, 20:150])
    np.testing.assert_array_equal(second[2:, 30:150], phantom.labels[:-2, 30:150])
    assert (first[:, :20] == UNANNOTATED).all()
    assert (second[:, :30] == UNANNOTATED).all()


def test_columns_of_a_label_map_without_a_layer_are_not_annotated(tmp_path: Path) -> None:
    phantom = oct_phantom(128, 200, seed=1)
    labels = phantom.labels.copy()
    labels[:, :40] = 0
    Image.fromarray(phantom.scan).save(tmp_path / "scan.png")
    Image.fromarray(labels).save(tmp_path / "labels.png")
    load = Compose([LoadBScand("image"), LoadLayersd("label")])

    found = to_picture(load({"image": str(tmp_path / "scan.png"), "label": str(tmp_path / "labels.png")})["label"])

    assert (found[:, :40] == UNANNOTATED).all()
    np.testing.assert_array_equal(found[:, 40:], phantom.labels[:, 40:])


def test_fluid_of_a_volume_and_of_a_mask(tmp_path: Path) -> None:
    phantom = oct_phantom(128, 200, seed=1, cysts=2)
    drawn = np.where(phantom.fluid, 3.0, np.nan)
    images = np.repeat(phantom.scan[..., None], 2, axis=2)
    scipy.io.savemat(tmp_path / "v.mat", {"images": images, "manualFluid1": np.stack([drawn * 0, drawn], axis=2)})
    Image.fromarray(phantom.fluid.astype(np.uint8) * 255).save(tmp_path / "fluid.png")
    load = Compose([LoadBScand("image"), LoadFluidd("fluid", allow_missing_keys=True)])
    address = f"{tmp_path / 'v.mat'}#2"

    assert phantom.fluid.any()
    for path in (address, str(tmp_path / "fluid.png")):
        found = load({"image": address, "fluid": path})["fluid"]
        np.testing.assert_array_equal(to_picture(found), phantom.fluid.astype(np.uint8))
    assert not load({"image": address, "fluid": f"{tmp_path / 'v.mat'}#1"})["fluid"].any()
    assert "fluid" not in load({"image": address})
    Image.fromarray(np.zeros((20, 200), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(SettingError, match="has 200x20 pixels, its photo 200x128"):
        LoadFluidd("fluid")({**load({"image": address}), "fluid": str(tmp_path / "small.png")})


def test_as_many_variables_as_keys_are_needed() -> None:
    with pytest.raises(SettingError, match="give one for each key"):
        LoadLayersd(["a", "b", "c"])


# --- white borders ---------------------------------------------------------------------------------------------------


def grown(border: NDArray[np.bool_], by: int = 5) -> NDArray[np.bool_]:
    """A border and the pixels around it, which a lossy file may have changed."""
    return cv2.dilate(border.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0


def test_a_phantoms_white_border_is_found() -> None:
    phantom = oct_phantom(300, 400, seed=2, border="white")

    found = find_white_border(phantom.scan)

    assert phantom.border.any()
    assert found[phantom.border].all()
    assert not found[~grown(phantom.border)].any()


@pytest.mark.parametrize("edge", ["left", "right", "top", "bottom"])
def test_a_border_along_one_edge(edge: str) -> None:
    scan = oct_phantom(200, 260, seed=3).scan
    strips: dict[str, Any] = {
        "left": np.s_[:, :3],
        "right": np.s_[:, -12:],
        "top": np.s_[:9],
        "bottom": np.s_[-2:],
    }
    border = np.zeros(scan.shape, dtype=bool)
    border[strips[edge]] = True
    scan[border] = 255

    found = find_white_border(scan)
    assert found[border].all()
    assert not found[~grown(border)].any()


@pytest.mark.parametrize("white", [255, 250])
@pytest.mark.parametrize("quality", [90, 60])
def test_a_border_in_a_lossy_file(white: int, quality: int) -> None:
    scan = oct_phantom(200, 260, seed=3).scan
    framed = cv2.copyMakeBorder(scan, 50, 30, 40, 80, cv2.BORDER_CONSTANT, value=white)
    border = cv2.copyMakeBorder(np.zeros(scan.shape, np.uint8), 50, 30, 40, 80, cv2.BORDER_CONSTANT, value=1) > 0
    decoded = cv2.imdecode(cv2.imencode(".jpg", framed, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)

    found = find_white_border(np.asarray(decoded, dtype=np.uint8))

    assert found[border].all()
    assert not found[~grown(border)].any()


@pytest.mark.parametrize("grey", [0, 90, 255])
def test_columns_of_one_grey_value_at_the_ends_show_nothing(grey: int) -> None:
    scan = oct_phantom(200, 260, seed=3).scan
    scan[:, :50] = scan[:, -7:] = scan[:, 120:130] = grey

    found = find_white_border(scan)

    assert found[:, :50].all()
    assert found[:, -7:].all()
    assert not found[:, 55:250].any()


def test_a_picture_of_one_grey_value_has_no_border() -> None:
    assert not find_white_border(np.full((200, 260), 90, np.uint8)).any()
    faint = (oct_phantom(200, 260, seed=3).scan // 20).astype(np.uint8)
    assert not find_white_border(faint).any()


def test_white_layers_are_no_border() -> None:
    scan = np.full((200, 260), 30, dtype=np.uint8)
    scan[100:112] = 255  # as a saturated pigment epithelium that runs from edge to edge
    scan[20:60, 100:140] = 255  # a white spot inside

    assert not find_white_border(scan).any()


def test_a_bright_layer_that_the_edge_cuts_off_is_no_border() -> None:
    random = np.random.default_rng(0)
    scan = random.integers(0, 60, (200, 260)).astype(np.uint8)
    scan[:16, 40:220] = np.clip(random.normal(270, 25, (16, 180)), 0, 255)  # speckle, most of it saturated

    assert not find_white_border(scan).any()


def test_a_border_is_not_followed_into_a_white_layer() -> None:
    scan = np.full((200, 260), 30, dtype=np.uint8)
    scan[100:107] = 255
    scan[:, :20] = 255

    found = find_white_border(scan)

    assert found[:, :20].all()
    assert not found[:, 32:].any()


@pytest.mark.real_data
def test_borders_of_real_scans(real_folder: Callable[[str], Path]) -> None:
    folder = real_folder("2015_BOE_Chiu")

    tilted = find_white_border(read_scan(folder / "Subject_04.mat#06"))
    shifted = find_white_border(read_scan(folder / "Subject_01.mat#01"))

    assert tilted[0, 0]
    assert tilted[-1, -1]
    assert not tilted[0, 400:].any()
    assert not tilted[100:450].any()
    assert shifted[:44].all()
    assert not shifted[60:480, :760].any()


def test_normal_values_leave_the_border_out() -> None:
    phantom = oct_phantom(300, 400, seed=2, border="white")

    values = to_picture(NormalizeBScan()(tensor_of(phantom.scan)))

    inside = ~find_white_border(phantom.scan)
    assert values.dtype == np.float32
    assert values[inside].mean() == pytest.approx(0, abs=1e-4)
    assert values[inside].std() == pytest.approx(1, abs=1e-4)
    assert (values[~inside] == 0).all()


@pytest.mark.parametrize("grey", [0, 77, 255])
def test_a_picture_of_one_grey_value_becomes_zero(grey: int) -> None:
    values = NormalizeBScan()(tensor_of(np.full((50, 60), grey, np.uint8)))

    assert (values == 0).all()


def test_a_border_is_noted_and_kept() -> None:
    transform = NormalizeBScand("image")
    with_border = oct_phantom(300, 400, seed=2, border="white")

    plain = transform({"image": tensor_of(oct_phantom(300, 400, seed=2).scan)})
    found = transform({"image": tensor_of(with_border.scan), "note": "seen"})

    assert "note" not in plain
    assert not plain["white_border"].any()
    assert found["note"] == "seen; border left out"
    np.testing.assert_array_equal(to_picture(found["white_border"]), find_white_border(with_border.scan))


# --- the canvas ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(100, 300), (128, 64), (300, 128), (97, 131)], ids=str)
def test_every_size_fits_the_canvas_and_comes_back(shape: tuple[int, int]) -> None:
    # A smooth pattern without symmetry survives scaling down and up.
    rows, columns = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    picture = (np.sin(3 * rows) + columns**2).astype(np.float32)
    fit = Compose([FitBScand("image", columns=128, rows=128)])
    data = fit({"image": tensor_of(picture)})
    assert data["image"].shape == (1, 128, 128)
    data["pred"] = data["image"]

    back = Invertd("pred", fit, orig_keys="image", nearest_interp=False)(data)["pred"]

    assert to_picture(back).shape == shape
    # At the very edge the smoothing before a reduction has nothing beyond it to average with.
    np.testing.assert_allclose(to_picture(back)[4:-4, 4:-4], picture[4:-4, 4:-4], atol=0.02)


def test_rows_that_fit_are_kept_as_they_are() -> None:
    scan = oct_phantom(100, 128, seed=1).scan.astype(np.float32)

    fitted = to_picture(FitBScand("image", columns=128, rows=160)({"image": tensor_of(scan)})["image"])

    np.testing.assert_allclose(fitted[:100], scan, atol=1e-3)
    assert (fitted[100:] == 0).all()


def test_label_maps_keep_their_labels() -> None:
    labels = oct_phantom(300, 400, seed=1).labels
    fit = FitBScand(["image", "label"], columns=128, rows=160, mode=["bilinear", "nearest"], fill=[0, UNANNOTATED])

    fitted = fit({"image": tensor_of(labels.astype(np.float32)), "label": tensor_of(labels[:100])})

    values = to_picture(fitted["label"])
    assert set(np.unique(values[:100])) <= set(range(8))
    assert (values[100:] == UNANNOTATED).all()


def test_a_canvas_that_is_too_small_is_refused() -> None:
    with pytest.raises(SettingError, match="The canvas is 8x512"):
        FitBScand("image", columns=8)


# --- augmentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("prob", "value"), [(0.0, 1), (1.0, 2)])
def test_one_of_the_graders_is_taken(prob: float, value: int) -> None:
    data = {"label": torch.tensor([1]), "label_2": torch.tensor([2])}

    found = RandGraderd("label", prob=prob)(data)

    assert found["label"].item() == value
    assert "label_2" not in found


def test_without_a_second_grader_the_first_is_taken() -> None:
    assert RandGraderd("label", prob=1.0)({"label": torch.tensor([1])})["label"].item() == 1


def test_speckle_keeps_the_mean_and_grows_with_the_brightness() -> None:
    image = torch.cat([torch.zeros(1, 1, 400), torch.full((1, 100, 400), 1.0), torch.full((1, 100, 400), 4.0)], dim=1)
    speckle = RandSpeckled("image", prob=1.0, max_deviation=0.3)
    speckle.set_random_state(3)

    found = speckle({"image": image})["image"]

    dark, bright = found[0, 1:101], found[0, 101:]
    assert found[0, 0].abs().max() == 0
    assert dark.mean().item() == pytest.approx(1, abs=0.01)
    assert bright.mean().item() == pytest.approx(4, abs=0.04)
    assert bright.std().item() == pytest.approx(4 * dark.std().item(), rel=0.05)
    assert RandSpeckled("image", prob=0.0)({"image": image})["image"] is image


def test_a_cyst_swells_its_layer_and_lifts_what_lies_above() -> None:
    phantom = oct_phantom(256, 200, seed=4, tilt_deg=0, shadows=0)
    scan = phantom.scan.astype(np.float32)

    swollen, labels = inflate_layer(scan, phantom.labels, 5, 100, 30, 20, np.random.RandomState(0))

    def thickness(values: NDArray[Any], layer: int) -> NDArray[Any]:
        return np.asarray((values == layer).sum(axis=0))

    assert thickness(labels, 5)[100] == thickness(phantom.labels, 5)[100] + 30
    assert thickness(labels, 5)[5] == thickness(phantom.labels, 5)[5]
    for layer in (1, 2, 3, 4, 6, 7):
        np.testing.assert_array_equal(thickness(labels, layer), thickness(phantom.labels, layer))
    assert order_violations(labels) == 0
    # The layers below stay where they are, and the cyst is as dark as the vitreous.
    below = phantom.labels[:, 100] >= 6
    np.testing.assert_array_equal(swollen[below, 100], scan[below, 100])
    middle = int(np.flatnonzero(labels[:, 100] == 5).mean()) - 4
    assert swollen[middle - 5 : middle + 5, 95:105].mean() < 0.6 * scan[phantom.labels == 5].mean()


@pytest.mark.parametrize("labels", ["no layer", "no vitreous"])
def test_where_no_cyst_can_be_drawn_nothing_changes(labels: str) -> None:
    phantom = oct_phantom(128, 100, seed=1)
    given = phantom.labels.copy()
    given[(given == 3) if labels == "no layer" else (given == 0)] = UNANNOTATED
    scan = phantom.scan.astype(np.float32)

    swollen, found = inflate_layer(scan, given, 3, 50, 20, 20, np.random.RandomState(0))

    assert swollen is scan
    assert found is given


def test_no_cyst_is_drawn_beyond_the_retina() -> None:
    phantom = oct_phantom(256, 200, seed=4, tilt_deg=0, shadows=0)
    scan, labels = phantom.scan.astype(np.float32), phantom.labels.copy()
    scan[:, 110:] = labels[:, 110:] = 0

    swollen, found = inflate_layer(scan, labels, 5, 100, 30, 20, np.random.RandomState(0))

    assert (found[:, 100] == 5).sum() == (labels[:, 100] == 5).sum() + 30
    assert not found[:, 110:].any()
    assert not swollen[:, 110:].any()
    labels[:, 110:] = UNANNOTATED
    found = inflate_layer(scan, labels, 5, 100, 30, 20, np.random.RandomState(0))[1]
    assert (found[:, 110:] == UNANNOTATED).all()


def test_cysts_at_random_keep_scan_and_labels_together() -> None:
    phantom = oct_phantom(256, 200, seed=4)
    data = {"image": tensor_of(phantom.scan.astype(np.float32)), "label": tensor_of(phantom.labels)}
    cyst = RandCystd(["image", "label"], prob=1.0)
    cyst.set_random_state(1)

    found = cyst(data)

    labels = to_picture(found["label"])
    assert found["image"].shape == found["label"].shape == (1, 200, 256)
    assert not torch.equal(found["label"], data["label"])
    assert order_violations(labels) == 0
    assert to_picture(found["image"])[labels == 1].mean() > to_picture(found["image"])[labels == 0].mean()
    assert RandCystd(["image", "label"], prob=0.0)(data)["image"] is data["image"]


def test_is_layer_is_retina_that_was_annotated() -> None:
    assert is_layer(torch.tensor([0, 1, 7, UNANNOTATED])).tolist() == [False, True, True, False]


# --- after the network -----------------------------------------------------------------------------------------------


def test_channels_for_metrics_leave_out_what_is_not_annotated() -> None:
    labels = torch.tensor([[[0, 1, 7, UNANNOTATED]]])
    logits = torch.nn.functional.one_hot(torch.tensor([[1, 1, 7, 3]]), 8).permute(2, 0, 1).float()

    found = LayerChannelsd("pred")({"pred": logits, "label": labels})

    assert found["pred"].shape == found["label"].shape == (7, 1, 4)
    assert found["pred"][0, 0].tolist() == [1, 1, 0, 0]
    assert found["pred"][2, 0].tolist() == [0, 0, 0, 0]
    assert found["label"][:, 0].sum(dim=1).tolist() == [1, 0, 0, 0, 0, 0, 1]


def ordered(labels: NDArray[np.uint8], border: NDArray[np.bool_] | None = None, **options: Any) -> dict[str, Any]:
    right = (labels == np.arange(8)[:, None, None]).astype(np.float32)
    probability = 0.93 * right + 0.01 * (1 - right)
    data: dict[str, Any] = {"pred": torch.as_tensor(from_picture(probability.transpose(1, 2, 0)))}
    if border is not None:
        data["white_border"] = torch.as_tensor(from_picture(border))
    return OrderedLayersd("pred", **options)(data)


def test_a_label_map_in_order_with_its_boundaries() -> None:
    phantom = oct_phantom(160, 120, seed=7)

    found = ordered(phantom.labels)

    labels = to_picture(found["pred"])
    assert found["pred"].shape == (1, 120, 160)
    assert labels.dtype == np.uint8
    assert order_violations(labels) == 0
    assert (labels == phantom.labels).mean() > 0.99
    boundaries = found["boundaries"].numpy()
    np.testing.assert_array_equal(labels, boundaries_to_labels(boundaries, 160))
    assert np.abs(boundaries - phantom.boundaries).max() < 1


def test_there_is_no_retina_in_a_white_border() -> None:
    phantom = oct_phantom(160, 120, seed=7)
    border = np.zeros(phantom.labels.shape, dtype=bool)
    border[:, :17] = True

    found = ordered(phantom.labels, border)

    assert np.isnan(found["boundaries"][:, :17]).all()
    assert not np.isnan(found["boundaries"][:, 17:]).any()
    assert (to_picture(found["pred"])[:, :17] == 0).all()


def test_boundaries_on_an_edge_are_not_known() -> None:
    phantom = oct_phantom(160, 120, seed=7)
    cut = int(phantom.boundaries[1].mean())
    border = np.zeros((160 - cut, 120), dtype=bool)
    border[-1:, 60:] = True

    found = ordered(phantom.labels[cut:], border)

    boundaries = found["boundaries"].numpy()
    inside = (phantom.boundaries - cut >= 1.5) & (phantom.boundaries < 156)
    outside = phantom.boundaries - cut <= 0.5
    assert outside.any()
    assert not np.isnan(boundaries[inside]).any()
    assert np.isnan(boundaries[outside]).all()
    assert (to_picture(found["pred"]) > 0).any()


@pytest.mark.parametrize(
    ("option", "value"),
    [("certainty", 0), ("certainty", "high"), ("certainty", True), ("smoothing", -1), ("smoothing", 99.0)],
)
def test_settings_of_the_order_are_checked(option: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"{option} is {value!r}; give a number"):
        OrderedLayersd("pred", **{option: value})


def test_biomarkers_and_their_notes() -> None:
    phantom = oct_phantom(160, 120, seed=6)
    boundaries = torch.as_tensor(phantom.boundaries)
    boundaries[:, :10] = torch.nan

    found = LayerBiomarkersd("boundaries", 3.87, 50.0)({"boundaries": boundaries, "note": "seen"})

    mean = float(np.diff(phantom.boundaries, axis=0)[1, 10:].mean())
    assert found["biomarkers"]["gcl_ipl_thickness_mean_um"] == pytest.approx(3.87 * mean)
    assert found["note"] == "seen; no retina in 10 of 120 columns"


@pytest.mark.parametrize(("scales", "name"), [((0, None), "pixel_size"), ((3.87, "wide"), "lateral_scale")])
def test_scales_are_checked(scales: tuple[Any, Any], name: str) -> None:
    with pytest.raises(SettingError, match=f"{name} is .*; give the micrometres of one pixel"):
        LayerBiomarkersd("boundaries", *scales)


@pytest.mark.parametrize("shape", [(496, 768), (200, 130), (1024, 600)], ids=str)
def test_from_file_to_label_map_at_the_scans_own_size(tmp_path: Path, shape: tuple[int, int]) -> None:
    """With a network that gives the truth, all that is lost is what scaling to the canvas loses."""
    phantom = oct_phantom(*shape, seed=8)
    Image.fromarray(phantom.scan).save(tmp_path / "scan.png")
    pre = Compose([LoadBScand("image"), NormalizeBScand("image"), FitBScand("image", columns=256, rows=256)])
    data = pre({"image": str(tmp_path / "scan.png")})
    rows = min(256, shape[0])
    small = cv2.resize(phantom.labels, (256, rows), interpolation=cv2.INTER_NEAREST_EXACT)
    small = np.pad(small, ((0, 256 - rows), (0, 0)))
    truth = from_picture((small[..., None] == np.arange(8)).astype(np.float32) * 0.9 + 0.01)
    data["pred"] = MetaTensor(torch.as_tensor(truth))

    post = Compose([Invertd("pred", pre, orig_keys="image", nearest_interp=False), OrderedLayersd("pred")])
    found = to_picture(post(data)["pred"])

    assert found.shape == shape
    assert order_violations(found) == 0
    for layer in range(1, len(LAYERS) + 1):
        one, other = found == layer, phantom.labels == layer
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.85
