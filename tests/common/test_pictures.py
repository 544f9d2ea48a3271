from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from common.pictures import COLOURS, encode_mask, encode_picture, encode_probability, overlay


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
