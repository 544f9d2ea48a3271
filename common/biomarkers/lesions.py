"""Biomarkers of lesions: how many, how large, and how near to the fovea and the optic disc."""

from __future__ import annotations

import math
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from common.biomarkers._base import Biomarkers

Position = tuple[float, float]


def lesion_areas(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Give the area of each lesion of a mask, in pixels; pixels that touch at a side or a corner are of one lesion.

    Args:
        mask: ``(H, W)`` of bool.

    Returns:
        ``(lesions,)``, in no certain order.
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return np.asarray(stats[1:, cv2.CC_STAT_AREA], dtype=np.int64)


def nearest_distance(mask: NDArray[np.bool_], position: Position) -> float:
    """Give the distance from a position to the centre of the nearest pixel of a mask, in pixels.

    Args:
        mask: ``(H, W)`` of bool.
        position: row and column.

    Returns:
        The distance; NaN for an empty mask.
    """
    rows, columns = np.nonzero(mask)
    if not rows.size:
        return math.nan
    return float(np.sqrt(((rows - position[0]) ** 2 + (columns - position[1]) ** 2).min()))


def lesion_biomarkers(
    masks: Mapping[str, NDArray[np.bool_]],
    field_of_view: NDArray[np.bool_],
    *,
    landmarks: Mapping[str, Position] | None = None,
    pixel_size: float | None = None,
) -> Biomarkers:
    """Compute every biomarker of lesions, inside the field of view.

    Columns of each lesion, here an exudate, all as floats:

    - ``exudate_count``: number of connected regions (8 neighbours).
    - ``exudate_area_px2``: area of all. ``exudate_area_ratio``: that over the area of the field of view.
    - ``exudate_largest_px2``: area of the largest region. ``exudate_largest_diameter_px``: diameter of the circle that
      has this area.
    - ``exudate_<landmark>_distance_px``: distance from each landmark to the nearest pixel of the lesion.
    - with ``pixel_size`` all columns in ``_px`` and ``_px2`` also in ``_um`` and ``_um2``.

    Args:
        masks: name of the lesion to ``(H, W)`` of bool. What lies outside the field of view is ignored.
        field_of_view: ``(H, W)`` of bool.
        landmarks: name, such as ``fovea`` or ``disc``, to row and column of its centre in pixels, where known.
        pixel_size: side of a pixel in micrometres, when it is known.

    Returns:
        Values and notes. Without a lesion its number and areas are 0; the largest and the distances are NaN, with the
        note ``no exudate found``.

    Raises:
        ValueError: a mask is not a two-dimensional array of bool, the shapes differ, the field of view is empty, a
            landmark is no pair of finite numbers, or ``pixel_size`` is not a positive number.
    """
    _check(masks, field_of_view, landmarks or {}, pixel_size)
    total = int(np.count_nonzero(field_of_view))
    values: dict[str, float] = {}
    notes = []
    for lesion, mask in masks.items():
        inside = mask & field_of_view
        areas = lesion_areas(inside)
        if not areas.size:
            notes.append(f"no {lesion.replace('_', ' ')} found")
        largest = float(areas.max()) if areas.size else math.nan
        numbers = {
            f"{lesion}_area_px2": float(areas.sum()),
            f"{lesion}_largest_px2": largest,
            f"{lesion}_largest_diameter_px": 2 * math.sqrt(largest / math.pi),
        }
        for landmark, position in (landmarks or {}).items():
            numbers[f"{lesion}_{landmark}_distance_px"] = nearest_distance(inside, position)
        values |= {f"{lesion}_count": float(areas.size), f"{lesion}_area_ratio": float(areas.sum()) / total, **numbers}
        if pixel_size is not None:
            values |= {
                name.replace("_px", "_um"): value * pixel_size ** (2 if name.endswith("2") else 1)
                for name, value in numbers.items()
            }
    return Biomarkers(values, tuple(notes))


def _check(
    masks: Mapping[str, NDArray[np.bool_]],
    field_of_view: NDArray[np.bool_],
    landmarks: Mapping[str, Position],
    pixel_size: float | None,
) -> None:
    for name, mask in {**masks, "field_of_view": field_of_view}.items():
        if mask.ndim != 2 or mask.dtype != np.bool_:
            raise ValueError(f"{name} must be an array (H, W) of bool, not {mask.shape} of {mask.dtype}.")
        if mask.shape != field_of_view.shape:
            raise ValueError(f"{name} is {mask.shape} and field_of_view is {field_of_view.shape}; give both one shape.")
    if not field_of_view.any():
        raise ValueError("field_of_view is empty; give a mask that is true inside the camera's circle.")
    for name, position in landmarks.items():
        if len(position) != 2 or not np.isfinite(position).all():
            raise ValueError(f"{name} is at {position}; give its row and column in pixels.")
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ValueError(f"pixel_size is {pixel_size}; give the side of a pixel in micrometres, or None if unknown.")
