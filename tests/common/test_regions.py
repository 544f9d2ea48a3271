"""Regions and masks: each shape's pixels, and that polygons give a mask back exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from common.regions import SHAPES, check_region, draw_region, mask_to_polygons, region_box


def drawn(region: dict[str, Any], shape: tuple[int, int] = (20, 30)) -> NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    check_region(region)
    draw_region(mask, region)
    return mask


def test_a_rectangle_covers_width_times_height_pixels() -> None:
    mask = drawn({"name": "rect", "x": 4, "y": 2, "width": 7, "height": 3})

    assert mask.sum() == 21
    assert mask[2:5, 4:11].all()


@pytest.mark.parametrize("x", [-3, 27])
def test_what_lies_outside_is_left_out(x: int) -> None:
    mask = drawn({"name": "rect", "x": x, "y": -2, "width": 6, "height": 5})

    assert mask.sum() == 9
    assert not drawn({"name": "rect", "x": 40, "y": 0, "width": 6, "height": 5}).any()
    assert not drawn({"name": "circle", "cx": -50, "cy": 0, "r": 6}).any()
    assert not drawn({"name": "point", "cx": 30, "cy": 0}).any()


def test_a_polygon_covers_its_outline_and_inside() -> None:
    xs, ys = [3, 12, 12], [2, 2, 11]

    mask = drawn({"name": "polygon", "all_points_x": xs, "all_points_y": ys})

    assert mask.sum() == 10 * 11 / 2
    assert mask[2, 3:13].all()
    assert mask[2:12, 12].all()


def test_a_polyline_is_open() -> None:
    mask = drawn({"name": "polyline", "all_points_x": [3, 12, 12], "all_points_y": [2, 2, 11]})

    assert mask.sum() == 10 + 9
    assert mask[2, 3:13].all()
    assert mask[2:12, 12].all()


@pytest.mark.parametrize("theta", [0.0, 0.4, math.pi / 2])
def test_an_ellipse_has_its_area_and_turn(theta: float) -> None:
    mask = drawn({"name": "ellipse", "cx": 60, "cy": 50, "rx": 40, "ry": 12, "theta": theta}, (101, 121))

    rows, columns = np.nonzero(mask)
    assert mask.sum() == pytest.approx(math.pi * 40 * 12, rel=0.01)
    assert (rows.mean(), columns.mean()) == pytest.approx((50, 60), abs=0.1)
    turn = 0.5 * math.atan2(2 * np.cov(columns, rows)[0, 1], np.var(columns) - np.var(rows))
    assert abs(math.sin(turn - theta)) < 0.02


def test_a_circle_and_a_point() -> None:
    mask = drawn({"name": "circle", "cx": 10, "cy": 9, "r": 2})

    assert mask.sum() == 13
    assert mask[9, 8:13].all()
    assert mask[7:12, 10].all()
    assert np.argwhere(drawn({"name": "point", "cx": 4.4, "cy": 2.6})).tolist() == [[3, 4]]


numbers = st.integers(-40, 60) | st.floats(-40, 60)
lengths = st.integers(0, 40) | st.floats(0, 40)


@st.composite
def regions(draw: Any) -> dict[str, Any]:
    name = draw(st.sampled_from(sorted(SHAPES)))
    if name in ("polygon", "polyline"):
        points = draw(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=8))
        return {"name": name, "all_points_x": [x for x, _ in points], "all_points_y": [y for _, y in points]}
    extent = ("width", "height", "r", "rx", "ry")
    region = {key: draw(lengths if key in extent else numbers) for key in SHAPES[name]}
    return {"name": name, **region, **({"theta": draw(st.floats(-4, 4))} if name == "ellipse" else {})}


@settings(max_examples=200, deadline=None)
@given(regions())
def test_a_region_lies_in_its_box_and_moves_with_it(region: dict[str, Any]) -> None:
    mask = drawn(region, (40, 50))

    left, top, right, bottom = region_box(region)
    rows, columns = np.nonzero(mask)
    assert ((rows >= math.floor(top)) & (rows < math.ceil(bottom) + 1)).all()
    assert ((columns >= math.floor(left)) & (columns < math.ceil(right) + 1)).all()


@settings(max_examples=150, deadline=None)
@given(arrays.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24))))
def test_polygons_give_the_mask_back(mask: NDArray[np.bool_]) -> None:
    found = np.zeros(mask.shape, np.uint8)
    for region in mask_to_polygons(mask):
        check_region(region)
        draw_region(found, region)

    assert (found == mask).all()


def test_a_ring_is_cut_since_a_polygon_has_no_hole() -> None:
    ring = np.zeros((20, 30), np.uint8)
    ring[3:17, 4:25] = 1
    ring[8:12, 10:18] = 0
    ring[1, 28] = 1

    shapes = mask_to_polygons(ring)

    assert sorted(shape["name"] for shape in shapes) == ["point", "polygon", "polygon"]
    assert len(mask_to_polygons(ring, least_area=2)) == 2
