from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.biomarkers import lesion_areas, lesion_biomarkers, nearest_distance


def disc(x: int, y: int, radius: int, mask: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    canvas = np.zeros((200, 260), np.uint8) if mask is None else mask
    return np.asarray(cv2.circle(canvas, (x, y), radius, 1, cv2.FILLED))


@pytest.fixture
def exudate() -> NDArray[np.bool_]:
    return np.asarray(disc(180, 60, 10, disc(80, 60, 20)) > 0)


@pytest.fixture
def view() -> NDArray[np.bool_]:
    return np.asarray(disc(130, 100, 98) > 0)


def test_number_area_and_largest(exudate: NDArray[np.bool_], view: NDArray[np.bool_]) -> None:
    found = lesion_biomarkers({"exudate": exudate}, view)

    assert found.notes == ()
    assert found.values["exudate_count"] == 2
    assert found.values["exudate_area_px2"] == exudate.sum() == pytest.approx(math.pi * 500, rel=0.03)
    assert found.values["exudate_area_ratio"] == exudate.sum() / view.sum()
    assert found.values["exudate_largest_px2"] == pytest.approx(math.pi * 400, rel=0.03)
    assert found.values["exudate_largest_diameter_px"] == pytest.approx(40, rel=0.02)
    assert not [name for name in found.values if "_um" in name or "distance" in name]


def test_distances_to_fovea_and_disc(exudate: NDArray[np.bool_], view: NDArray[np.bool_]) -> None:
    found = lesion_biomarkers({"exudate": exudate}, view, landmarks={"fovea": (60.0, 130.0), "disc": (60.0, 180.0)})

    assert found.values["exudate_fovea_distance_px"] == 30
    assert found.values["exudate_disc_distance_px"] == 0
    assert nearest_distance(exudate, (60.0, 130.5)) == 30.5
    assert np.isnan(nearest_distance(np.zeros((3, 3), bool), (0, 0)))


def test_micrometres(exudate: NDArray[np.bool_], view: NDArray[np.bool_]) -> None:
    found = lesion_biomarkers({"exudate": exudate}, view, landmarks={"fovea": (60.0, 130.0)}, pixel_size=5.0).values

    assert found["exudate_area_um2"] == 25 * found["exudate_area_px2"]
    assert found["exudate_largest_diameter_um"] == 5 * found["exudate_largest_diameter_px"]
    assert found["exudate_fovea_distance_um"] == 150


def test_without_a_lesion_the_number_is_0_and_the_largest_unknown(view: NDArray[np.bool_]) -> None:
    empty = np.zeros_like(view)

    found = lesion_biomarkers({"soft_exudate": empty, "haemorrhage": ~view}, view, landmarks={"disc": (1.0, 1.0)})

    assert found.notes == ("no soft exudate found", "no haemorrhage found")
    for lesion in ("soft_exudate", "haemorrhage"):
        assert found.values[f"{lesion}_count"] == found.values[f"{lesion}_area_px2"] == 0
        for name in ("largest_px2", "largest_diameter_px", "disc_distance_px"):
            assert np.isnan(found.values[f"{lesion}_{name}"])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.booleans())
def test_turning_changes_nothing(turns: int, mirrored: bool) -> None:
    mask = np.random.default_rng(3).random((40, 60)) < 0.2
    turned = np.rot90(mask[::-1] if mirrored else mask, turns)

    assert sorted(lesion_areas(turned)) == sorted(lesion_areas(mask))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": {"exudate": np.zeros((4, 4), np.uint8)}}, "exudate must be an array"),
        ({"masks": {"exudate": np.zeros((4, 5), bool)}}, "give both one shape"),
        ({"field_of_view": np.zeros((4, 4), bool)}, "field_of_view is empty"),
        ({"landmarks": {"fovea": (1.0, math.nan)}}, "fovea is at"),
        ({"pixel_size": 0.0}, "pixel_size is 0"),
    ],
)
def test_wrong_arguments(changes: dict[str, object], message: str) -> None:
    given = {"masks": {"exudate": np.zeros((4, 4), bool)}, "field_of_view": np.ones((4, 4), bool), **changes}

    with pytest.raises(ValueError, match=message):
        lesion_biomarkers(**given)  # type: ignore[arg-type]
