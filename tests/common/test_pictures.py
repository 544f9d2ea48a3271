from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from common.pictures import COLOURS, encode_mask, encode_picture, encode_probability, outline, overlay, panels


def decoded(content: bytes, flag: int = cv2.IMREAD_UNCHANGED) -> Any:
    return cv2.imdecode(np.frombuffer(content, np.uint8), flag)


def test_mask_is_stored_exactly() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (21, 34)).astype(bool)
    for given in (mask, mask.astype(np.float32), mask.astype(np.uint8) * 255):
        stored = decoded(encode_mask(given))
        assert stored.dtype == np.uint8
        np.testing.assert_array_equal(stored, mask * np.uint8(255))


def test_probability_has_sixteen_bits() -> None:
    probability = np.linspace(-0.1, 1.1, 600, dtype=np.float32).reshape(20, 30)
    stored = decoded(encode_probability(probability))
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 65535, np.clip(probability, 0, 1), atol=1e-5)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_picture_keeps_its_colours(suffix: str) -> None:
    picture = np.full((20, 30, 3), (200, 100, 20), np.uint8)
    stored = decoded(encode_picture(picture, suffix), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(stored.astype(int) - picture).max() <= 4


def test_overlay_draws_where_the_masks_are() -> None:
    photo = np.full((60, 90, 3), 100, np.uint8)
    disc, cup = np.zeros((2, 60, 90), bool)
    disc[10:50, 20:60], cup[20:30, 30:40] = True, True
    before = photo.copy()
    result = overlay(photo, {"disc": disc, "cup": cup}, opacity=1.0)
    np.testing.assert_array_equal(photo, before)
    assert result.shape == photo.shape
    assert (result[cup] == COLOURS["cup"]).all()
    assert (result[disc & ~cup] == COLOURS["disc"]).all()
    assert (result[~disc] == 100).all()
    mixed = overlay(photo, {"x": disc}, {"x": (255, 0, 0)}, opacity=0.5)
    assert np.abs(mixed[15, 25].astype(int) - (178, 50, 50)).max() <= 1


def test_overlay_is_reduced_in_proportion() -> None:
    photo = np.zeros((300, 900, 3), np.uint8)
    assert overlay(photo, {}, max_side=300).shape == (100, 300, 3)
    assert overlay(photo[:, :1], {}, max_side=50).shape == (50, 1, 3)
    line = np.zeros((300, 900), bool)
    line[:, 451:454] = True
    assert (overlay(photo, {"vessel": line}, max_side=300)[..., 2] > 0).any()


def disc_and_cup(height: int, width: int, x: int, y: int, radius: int) -> dict[str, NDArray[np.uint8]]:
    masks = {}
    for name, size in (("disc", radius), ("cup", radius // 2)):
        mask = np.zeros((height, width), np.uint8)
        cv2.circle(mask, (x, y), size, 1, cv2.FILLED)
        masks[name] = mask
    return masks


def test_outlines_lie_on_the_edges_and_nowhere_else() -> None:
    photo = np.full((200, 300, 3), 100, np.uint8)
    masks = disc_and_cup(200, 300, 90, 70, 40)

    picture = outline(photo, masks)

    drawn = (picture != photo).any(axis=2)
    for name, mask in masks.items():
        edge = (mask - cv2.erode(mask, np.ones((3, 3), np.uint8))) > 0
        assert np.abs(picture[edge].astype(int) - COLOURS[name]).sum(axis=1).mean() < 60
        drawn &= ~(cv2.dilate(edge.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0)
    assert not drawn.any()


def test_outlines_follow_the_masks_of_a_reduced_photo() -> None:
    masks = disc_and_cup(1000, 2000, 1500, 300, 200)

    picture = outline(np.full((1000, 2000, 3), 100, np.uint8), masks, max_side=500)

    assert picture.shape == (250, 500, 3)
    rows, columns = np.nonzero((picture == COLOURS["disc"]).all(axis=2))
    assert (columns.min() + columns.max()) / 2 == pytest.approx(375, abs=1)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(75, abs=1)
    assert np.ptp(columns) == pytest.approx(100, abs=3)


@pytest.mark.parametrize(
    ("height", "width", "x", "y"), [(400, 600, 150, 300), (600, 400, 90, 60), (2400, 3000, 900, 800)]
)
def test_panels_show_the_square_around_the_disc(height: int, width: int, x: int, y: int) -> None:
    radius = min(height, width) // 10
    masks = disc_and_cup(height, width, x, y, radius)
    photo = np.full((height, width, 3), 100, np.uint8)
    photo[masks["disc"] > 0] = (240, 200, 120)

    picture = panels(photo, masks, margin=2.5, side=256)

    assert picture.shape == (256, 4 * 256, 3)
    overview, disc, cup, outlines = np.split(picture, 4, axis=1)
    for panel, size in ((disc, 1.0), (cup, 0.5)):
        rows, columns = np.nonzero(panel[..., 0] > 127)
        assert (rows.min() + rows.max()) / 2 == pytest.approx(128, abs=3)
        assert (columns.min() + columns.max()) / 2 == pytest.approx(128, abs=3)
        assert np.ptp(columns) == pytest.approx(size * 256 / 2.5, abs=4)
    assert outlines[128, 128].tolist() == [240, 200, 120]
    # The photo stands in the middle of the first panel, whole and undistorted.
    scale = 256 / max(height, width)
    place = ((256 - height * scale) / 2 + y * scale, (256 - width * scale) / 2 + x * scale)
    bright = np.argwhere((np.abs(overview.astype(int) - (240, 200, 120)) < 20).all(axis=2))
    assert bright.mean(axis=0) == pytest.approx(place, abs=1)
    assert (overview == 255).all(axis=2).any()


def test_panels_without_a_disc_show_the_whole_photo() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8)
    masks = {name: np.zeros((200, 200), bool) for name in ("disc", "cup")}

    overview, disc, cup, outlines = np.split(panels(photo, masks, side=128), 4, axis=1)

    assert not disc.any()
    assert not cup.any()
    np.testing.assert_array_equal(overview, outlines)
