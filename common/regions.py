"""Regions as annotation tools draw them (rectangle, polygon, polyline, circle, ellipse, point), and masks.

A region is a mapping with the names of VGG Image Annotator's shape attributes: ``name`` of the shape, and its numbers
in pixels; x goes to the right, y down. Whole coordinates are the centres of pixels, but for a rectangle, which covers
``width`` times ``height`` pixels from its first one on.

Dutta and Zisserman, The VIA annotation software for images, audio and video, ACM Multimedia 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_COORDINATE = 100_000
"""Coordinates and lengths may have at most this size in pixels."""

_POINTS = ("all_points_x", "all_points_y")
SHAPES: Mapping[str, tuple[str, ...]] = {
    "rect": ("x", "y", "width", "height"),
    "circle": ("cx", "cy", "r"),
    "ellipse": ("cx", "cy", "rx", "ry"),
    "point": ("cx", "cy"),
    "polygon": _POINTS,
    "polyline": _POINTS,
}
"""The shapes, and the numbers that each needs; an ellipse may also have ``theta``, its turn in radians."""
_LEAST_POINTS = {"polygon": 3, "polyline": 2}
_LENGTHS = ("width", "height", "r", "rx", "ry")


def check_region(region: Mapping[str, Any]) -> None:
    """Refuse what is no region.

    Args:
        region: the shape attributes.

    Raises:
        ValueError: the shape is unknown, a number is missing, no number or too large, a length is negative, or a
            polygon or polyline has too few points.
    """
    name = region.get("name")
    if not isinstance(name, str) or name not in SHAPES:
        raise ValueError(f"the shape is {name!r}; known are {', '.join(SHAPES)}")
    for key in SHAPES[name]:
        if key not in region:
            raise ValueError(f"the {name} has no {key!r}")
        values = region[key] if key in _POINTS else [region[key]]
        if not isinstance(values, list):
            raise ValueError(f"{key!r} of the {name} is no list of numbers")
        for value in values:
            _check_number(name, key, value)
    if name in _LEAST_POINTS:
        counts = [len(region[key]) for key in _POINTS]
        if counts[0] != counts[1]:
            raise ValueError(f"the {name} has {counts[0]} x and {counts[1]} y coordinates")
        if counts[0] < _LEAST_POINTS[name]:
            raise ValueError(f"the {name} has {counts[0]} points; it needs {_LEAST_POINTS[name]}")
    if name == "ellipse":
        _check_number(name, "theta", region.get("theta", 0.0))


def _check_number(name: str, key: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= MAX_COORDINATE:  # also refuses NaN
        raise ValueError(f"{key!r} of the {name} is {value!r}; a number of at most {MAX_COORDINATE} is expected")
    if key in _LENGTHS and value < 0:
        raise ValueError(f"{key!r} of the {name} is {value!r}; it cannot be negative")


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)


def region_box(region: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Give the smallest box around a region: left, top, right, bottom, in pixels; the last two lie beyond it."""
    name = region["name"]
    if name == "rect":
        left, top = _rounded(region["x"]), _rounded(region["y"])
        return left, top, _rounded(region["x"] + region["width"]), _rounded(region["y"] + region["height"])
    if name in _LEAST_POINTS:
        xs, ys = (region[key] for key in _POINTS)
        return min(xs), min(ys), max(xs) + 1, max(ys) + 1
    theta = region.get("theta", 0.0)
    long, short = (region.get(key, region.get("r", 0.0)) for key in ("rx", "ry"))
    reach_x = math.hypot(long * math.cos(theta), short * math.sin(theta))
    reach_y = math.hypot(long * math.sin(theta), short * math.cos(theta))
    x, y = region["cx"], region["cy"]
    return x - reach_x, y - reach_y, x + reach_x + 1, y + reach_y + 1


def draw_region(mask: NDArray[np.uint8], region: Mapping[str, Any]) -> None:
    """Set the pixels of a mask that a region covers to 1; what lies outside the mask is left out.

    A rectangle covers its pixels, a polygon those inside (by the even-odd rule) and on its outline, a polyline those
    that it runs through, a circle and an ellipse those whose centre is inside, a point the pixel that it lies in.

    Args:
        mask: ``(H, W)`` of uint8.
        region: what `check_region` accepts.
    """
    name = region["name"]
    height, width = mask.shape
    if name == "rect":
        left, top, right, bottom = (max(0, int(edge)) for edge in region_box(region))
        mask[top:bottom, left:right] = 1
    elif name in _LEAST_POINTS:
        xs, ys = (region[key] for key in _POINTS)
        points = np.array([[(_rounded(x), _rounded(y)) for x, y in zip(xs, ys, strict=True)]], dtype=np.int32)
        if name == "polygon":
            cv2.fillPoly(mask, points, 1)
        else:
            cv2.polylines(mask, points, isClosed=False, color=1)
    elif name == "point":
        x, y = _rounded(region["cx"]), _rounded(region["cy"])
        if 0 <= x < width and 0 <= y < height:
            mask[y, x] = 1
    else:
        _draw_ellipse(mask, region)


def _draw_ellipse(mask: NDArray[np.uint8], region: Mapping[str, Any]) -> None:
    left, top, right, bottom = region_box(region)
    rows = slice(max(0, math.floor(top)), max(0, math.ceil(bottom)))
    columns = slice(max(0, math.floor(left)), max(0, math.ceil(right)))
    part = mask[rows, columns]
    if not part.size:
        return
    y, x = np.mgrid[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]]
    dx, dy = x - region["cx"], y - region["cy"]
    theta = region.get("theta", 0.0)
    along, across = dx * math.cos(theta) + dy * math.sin(theta), dy * math.cos(theta) - dx * math.sin(theta)
    long, short = (max(1e-6, float(region.get(key, region.get("r", 0.0)))) for key in ("rx", "ry"))
    part[np.hypot(along / long, across / short) <= 1] = 1


def mask_to_polygons(mask: NDArray[Any], least_area: int = 1) -> list[dict[str, Any]]:
    """Give polygons whose `draw_region` is exactly a mask: one for each connected part, more for one with holes.

    A polygon cannot have a hole, so a part with a hole is cut in two there.

    Args:
        mask: ``(H, W)``; what is above 0 counts.
        least_area: smaller connected parts are left out, in pixels.

    Returns:
        Polygons, or a point for a single pixel and a polyline for a line of one pixel's width, as VIA knows them.
    """
    values = (np.asarray(mask) > 0).astype(np.uint8)
    if least_area > 1:
        _, labels, stats, _ = cv2.connectedComponentsWithStats(values, connectivity=8)
        values[np.isin(labels, np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < least_area))] = 0
    return [_polygon(*piece) for piece in _pieces(values)]


def _pieces(mask: NDArray[np.uint8]) -> list[tuple[NDArray[np.uint8], int, int]]:
    """Cut a mask into connected parts without holes; each with its first column and row."""
    found: list[tuple[NDArray[np.uint8], int, int]] = []
    waiting = [(mask, 0, 0)]
    while waiting:
        values, left, top = waiting.pop()
        count, labels, stats, _ = cv2.connectedComponentsWithStats(values, connectivity=8)
        for label in range(1, count):
            x, y, width, height = (int(value) for value in stats[label, :4])
            part = (labels[y : y + height, x : x + width] == label).astype(np.uint8)
            contours, hierarchy = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
            inner = [contour for contour, link in zip(contours, hierarchy[0], strict=True) if link[3] >= 0]
            if not inner:
                found.append((part, left + x, top + y))
                continue
            # The contour of a hole runs around it on the part's own pixels, so that its middle column is in the hole.
            cut = int(inner[0][:, 0, 0].min() + inner[0][:, 0, 0].max()) // 2
            waiting.append((np.ascontiguousarray(part[:, :cut]), left + x, top + y))
            waiting.append((np.ascontiguousarray(part[:, cut:]), left + x + cut, top + y))
    return sorted(found, key=lambda piece: (piece[2], piece[1]))


def _polygon(part: NDArray[np.uint8], left: int, top: int) -> dict[str, Any]:
    """The outline of a connected part without holes."""
    contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = contours[0][:, 0] + (left, top)
    xs, ys = points[:, 0].tolist(), points[:, 1].tolist()
    if len(xs) == 1:
        return {"name": "point", "cx": xs[0], "cy": ys[0]}
    return {"name": "polyline" if len(xs) == 2 else "polygon", "all_points_x": xs, "all_points_y": ys}
