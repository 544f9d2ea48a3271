from __future__ import annotations

import numpy as np
import pytest

from common.errors import SettingError
from common.label import entropy, label_map, label_values, remap

DISC_CUP = {"disc": 1, "cup": 2}


def test_values_of_structures_that_overlap_begin_at_one() -> None:
    assert label_values({"0": "disc", "1": "cup"}) == DISC_CUP
    assert label_values({"0": "vessel"}) == {"vessel": 1}


def test_values_of_classes_are_the_channels() -> None:
    values = label_values({"10": "INL", "2": "GCL", "0": "Background", "1": "NFL"})
    assert values == {"NFL": 1, "GCL": 2, "INL": 10}
    assert list(values) == ["NFL", "GCL", "INL"]


def test_the_cup_is_drawn_over_the_disc() -> None:
    masks = np.zeros((2, 3, 4), np.uint8)
    masks[0, :2], masks[1, 1, 2:] = 1, 255
    assert label_map(masks, DISC_CUP).tolist() == [[1, 1, 1, 1], [1, 1, 2, 2], [0, 0, 0, 0]]


def test_a_label_map_is_taken_as_it_is() -> None:
    labels = np.arange(12).reshape(1, 3, 4) % 3
    found = label_map(labels, DISC_CUP)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels[0])


def test_channels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"3 channels for 2 structures \(disc, cup\)"):
        label_map(np.zeros((3, 4, 4), np.uint8), DISC_CUP)


def test_labels_are_matched_by_name() -> None:
    labels = np.array([[0, 1, 2, 3]], np.uint8)
    drawn = {"Cup": 1, "fovea": 2, "Disc": 3}
    mapped = remap(labels, drawn, DISC_CUP, "a.png")
    assert mapped is not None
    assert mapped.tolist() == [[0, 2, 0, 1]]


def test_labels_of_other_structures() -> None:
    assert remap(np.ones((2, 2), np.uint8), {"vessel": 1}, DISC_CUP, "a.png") is None


def test_a_value_without_a_name() -> None:
    with pytest.raises(SettingError, match=r"a\.png has the values \[7\], for which it gives no name"):
        remap(np.array([[1, 7]], np.uint8), DISC_CUP, DISC_CUP, "a.png")


def test_entropy_of_structures_that_overlap() -> None:
    probability = np.array([[[0.0, 0.5, 1.0, 0.25]], [[1.0, 1.0, 0.0, 0.0]]])
    quarter = -0.25 * np.log2(0.25) - 0.75 * np.log2(0.75)
    assert entropy(probability, exclusive=False) == pytest.approx((1 + quarter) / 8)
    inside = np.array([[False, True, True, False]])
    assert entropy(probability, exclusive=False, inside=inside) == pytest.approx(1 / 4)


def test_entropy_of_classes() -> None:
    even, sure = np.full((4, 2, 3), 0.25), np.zeros((4, 2, 3))
    sure[2] = 1
    assert entropy(even, exclusive=True) == pytest.approx(1)
    assert entropy(sure, exclusive=True) == 0
    two_of_four = np.zeros((4, 2, 3))
    two_of_four[:2] = 0.5
    assert entropy(two_of_four, exclusive=True) == pytest.approx(0.5)


def test_entropy_of_nothing() -> None:
    assert np.isnan(entropy(np.full((1, 2, 3), 0.5), exclusive=False, inside=np.zeros((2, 3), bool)))
