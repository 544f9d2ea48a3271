"""The camera's circle: find it, blank what is outside, bring every photo to one scale, and back again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from numpy.typing import NDArray

from common.errors import SettingError
from common.pictures import reduce_picture
from common.readers import from_picture, to_picture

_WORKING_SIDE = 384
_FRAME_MARGIN = 3
_MIN_ARC_POINTS = 24
_MAX_RESIDUAL = 0.02
_MIN_AGREEMENT = 0.88
_CLEAR_AGREEMENT = 0.95
# Thresholds in the order in which they are tried: share of the way from dark to bright, and the least of grey levels.
_THRESHOLDS = ((0.12, 3.0), (0.05, 1.0), (0.25, 3.0), (0.02, 0.5), (0.4, 3.0))
_MAX_SURROUND = 0.35
_MIN_RADIUS = 0.4
_LIGHT, _COLOURLESS = 170, 16
_INTERPOLATION = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}


@dataclass(frozen=True)
class FieldOfView:
    """The circle that the camera's aperture draws on the sensor.

    Attributes:
        center: row and column of the circle's centre, in pixels; it may lie anywhere when the circle is cut off.
        radius: in pixels. Half the longer side of the frame when no circle was found.
        shape: height and width of the photo.
        found: whether a circle was found; if not, the whole frame is the field of view.
        limits: first row, row after the last, first column and column after the last that the camera shows, where
            black bands inside the frame cut the circle off; None where none do.
    """

    center: tuple[float, float]
    radius: float
    shape: tuple[int, int]
    found: bool
    limits: tuple[int, int, int, int] | None = None

    @property
    def note(self) -> str:
        """What a user has to know about it: empty when the circle was found."""
        return "" if self.found else "no field of view found: the whole frame is used"

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the smallest box that holds what is seen of the circle."""
        if not self.found:
            return slice(0, self.shape[0]), slice(0, self.shape[1])
        starts = [max(0, int(np.floor(middle - self.radius))) for middle in self.center]
        stops = [
            min(side, int(np.ceil(middle + self.radius)) + 1)
            for middle, side in zip(self.center, self.shape, strict=True)
        ]
        if self.limits is not None:
            top, bottom, left, right = self.limits
            starts, stops = [max(starts[0], top), max(starts[1], left)], [min(stops[0], bottom), min(stops[1], right)]
        return slice(starts[0], stops[0]), slice(starts[1], stops[1])

    def mask(self) -> NDArray[np.bool_]:
        """The field of view as a mask ``(H, W)``."""
        if not self.found:
            return np.ones(self.shape, dtype=bool)
        rows = (np.arange(self.shape[0], dtype=np.float32) - self.center[0]) ** 2
        columns = (np.arange(self.shape[1], dtype=np.float32) - self.center[1]) ** 2
        inside: NDArray[np.bool_] = rows[:, None] + columns[None, :] <= self.radius**2
        if self.limits is not None:
            top, bottom, left, right = self.limits
            inside[:top] = inside[bottom:] = inside[:, :left] = inside[:, right:] = False
        return inside


def _without_bright_frame(small: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The photo with white or light grey that touches the frame's edge set to black; None if there is none.

    Such is a page or a viewer's window around the photo, or a strip with a caption.
    """
    red, green, blue = cv2.split(small)
    lowest, highest = cv2.min(cv2.min(red, green), blue), cv2.max(cv2.max(red, green), blue)
    light = ((lowest >= _LIGHT) & (highest - lowest <= _COLOURLESS)).astype(np.uint8)
    edge = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
    if np.count_nonzero(edge) < 0.2 * len(edge):
        return None
    _, labels = cv2.connectedComponents(cv2.copyMakeBorder(light, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1))
    frame = cv2.dilate((labels == labels[0, 0]).astype(np.uint8), np.ones((5, 5), np.uint8))[1:-1, 1:-1]
    return np.where(frame[..., None] > 0, np.uint8(0), small)


def _bright_region(smooth: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    """The largest connected region brighter than the threshold, filled: the retina, without burnt-in text."""
    foreground = (smooth > threshold).astype(np.uint8)
    opened = cv2.morphologyEx(foreground, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.zeros_like(foreground)
    largest = (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    filled = np.zeros_like(largest)
    contours, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(filled, contours, -1, 1, thickness=cv2.FILLED)
    return filled


def _fit_circle(points: NDArray[np.float64]) -> tuple[float, float, float]:
    """Least-squares circle through points ``(n, 2)`` (Kåsa, IEEE Trans. Instrum. Meas. 1976): x, y, radius."""
    design = np.column_stack([2 * points, np.ones(len(points))])
    solution, *_ = np.linalg.lstsq(design, (points**2).sum(axis=1), rcond=None)
    x, y, offset = (float(value) for value in solution)
    return x, y, float(np.sqrt(max(offset + x * x + y * y, 0.0)))


def _fit_circle_robustly(points: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Fit, drop the points farthest from the circle, fit again; returns x, y, radius and the relative residual."""
    kept = points
    for share in (0.8, 0.9, 1.0):
        x, y, radius = _fit_circle(kept)
        distance = np.abs(np.hypot(kept[:, 0] - x, kept[:, 1] - y) - radius)
        kept = kept[distance <= np.quantile(distance, share)]
    residual = np.abs(np.hypot(kept[:, 0] - x, kept[:, 1] - y) - radius)
    return x, y, radius, float(residual.mean() / max(radius, 1e-6))


def _first_full_line(region: NDArray[np.uint8], disc: NDArray[np.bool_], smooth: NDArray[np.uint8]) -> int:
    """Number of the first row if there the region begins at once with the circle's whole width, else 0.

    So it does below a black band that cuts the circle off. Where a circle is dark near its rim, the region widens
    slowly, or its brightness grows slowly.
    """
    chord = np.count_nonzero(disc, axis=1)
    covered = np.count_nonzero(disc & (region > 0), axis=1)
    first = int(np.argmax(chord > 0))
    full = (covered >= 0.8 * chord) & (chord > 0)
    line = int(np.argmax(full))
    gap = line - first
    if not full.any() or gap < max(4, 0.02 * len(chord)) or covered[line - 4] > 0.3 * chord[line - 4]:
        return 0
    step = min(line + 4, len(chord) - 1)
    if chord[step] == 0:
        return 0
    rise = float(np.median(smooth[step][disc[step]])) - float(np.median(smooth[line - 4][disc[line]]))
    return line if rise > 0.2 * float(np.median(smooth[disc])) else 0


def _circle_of(region: NDArray[np.uint8], smooth: NDArray[np.uint8]) -> tuple[FieldOfView, float] | None:
    """Fit a circle to a region's outline; also say how well region and circle agree. None if it is not round."""
    height, width = region.shape
    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return None
    contour: NDArray[Any] = max(contours, key=len)
    corners = cv2.convexHull(contour, returnPoints=False)
    points = contour[np.sort(corners.ravel()), 0].astype(np.float64)
    last = np.array([width, height]) - 1 - _FRAME_MARGIN
    points = points[((points >= _FRAME_MARGIN) & (points <= last)).all(axis=1)]
    if len(points) < _MIN_ARC_POINTS:
        return None
    x, y, radius, residual = _fit_circle_robustly(points)
    if residual > _MAX_RESIDUAL or not 0.25 * min(height, width) <= radius <= 1.5 * max(height, width):
        return None
    disc = FieldOfView((y, x), radius, (height, width), True).mask()
    top, left = _first_full_line(region, disc, smooth), _first_full_line(region.T, disc.T, smooth.T)
    bottom = height - _first_full_line(region[::-1], disc[::-1], smooth[::-1])
    right = width - _first_full_line(region.T[::-1], disc.T[::-1], smooth.T[::-1])
    limits = (top, bottom, left, right)
    is_cut = limits != (0, height, 0, width)
    circle = FieldOfView((y, x), radius, (height, width), True, limits if is_cut else None)
    disc = circle.mask()
    inside: NDArray[np.bool_] = region > 0
    agreement = float(np.count_nonzero(disc & inside)) / max(1.0, float(np.count_nonzero(disc | inside)))
    return (circle, agreement) if agreement >= _MIN_AGREEMENT else None


def _stands_out(circle: FieldOfView, smooth: NDArray[np.uint8]) -> bool:
    """Whether the circle is large and what is around it dark: the optic disc on a photo of it alone is neither."""
    disc = circle.mask()
    if disc.all() or circle.radius < _MIN_RADIUS * min(circle.shape):
        return False
    return float(np.quantile(smooth[~disc], 0.75)) <= _MAX_SURROUND * float(np.median(smooth[disc]))


def _find_circle(small: NDArray[np.uint8]) -> FieldOfView | None:
    """Find the circle on a reduced photo, at the first threshold at which there clearly is one."""
    red, green, blue = cv2.split(small)
    smooth = np.asarray(cv2.medianBlur(cv2.max(cv2.max(red, green), blue), 5), dtype=np.uint8)
    dark, bright = np.percentile(smooth, (1, 90)).astype(float)
    best: tuple[float, FieldOfView] | None = None
    for number, (share, least) in enumerate(_THRESHOLDS):
        fitted = _circle_of(_bright_region(smooth, dark + max(least, share * (bright - dark))), smooth)
        if fitted is None:
            continue
        circle, agreement = fitted
        if number > 0 and not _stands_out(circle, smooth):
            continue
        if best is None or agreement > best[0]:
            best = (agreement, circle)
        if agreement >= _CLEAR_AGREEMENT:
            break
    return None if best is None else best[1]


_SHARED: ContextVar[list[tuple[NDArray[np.uint8], FieldOfView]] | None] = ContextVar("shared views", default=None)


@contextmanager
def shared_views(views: list[tuple[NDArray[np.uint8], FieldOfView]]) -> Iterator[None]:
    """Have `find_field_of_view` look at each photo once, as long as this lasts, for several bundles that get the same.

    Args:
        views: photos with their fields of view; what is found is added.
    """
    token = _SHARED.set(views)
    try:
        yield
    finally:
        _SHARED.reset(token)


def find_field_of_view(photo: NDArray[np.uint8]) -> FieldOfView:
    """Find the camera's circle on a fundus photo.

    The photo is reduced, the largest region brighter than the border is filled, and a circle is fitted to the part
    of its convex outline that is not the frame's own edge; the circle counts as found when it explains that outline and
    that region. For dark, unevenly lit and hazy photos this is tried at lower and higher thresholds, and last without
    a white frame or caption around the photo.

    Args:
        photo: ``(H, W, 3)``, uint8.

    Returns:
        The circle, in the photo's own pixels; the whole frame where there is none (a crop that fills the frame).

    Raises:
        ValueError: the array is not ``(H, W, 3)`` uint8.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8:
        raise ValueError(f"A photo is an array (H, W, 3) of uint8, not {photo.shape} of {photo.dtype}.")
    shared = _SHARED.get()
    if shared is None:
        return _find(photo)
    for known, view in shared:
        if known is photo or np.array_equal(known, photo):
            return view
    shared.append((photo, _find(photo)))
    return shared[-1][1]


def _find(photo: NDArray[np.uint8]) -> FieldOfView:
    """Find the circle on the photo or, where there is none on it, without its white frame."""
    height, width = photo.shape[:2]
    scale = min(2.0, _WORKING_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = reduce_picture(photo, size) if scale < 1 else np.asarray(cv2.resize(photo, size), dtype=np.uint8)
    circle = _find_circle(small)
    if circle is None:
        bare = _without_bright_frame(small)
        circle = None if bare is None else _find_circle(bare)
    if circle is None:
        return FieldOfView(((height - 1) / 2, (width - 1) / 2), max(height, width) / 2, (height, width), False)
    rows, columns = height / size[1], width / size[0]
    center = ((circle.center[0] + 0.5) * rows - 0.5, (circle.center[1] + 0.5) * columns - 0.5)
    limits = None
    if circle.limits is not None:
        top, bottom, left, right = circle.limits
        limits = (round(top * rows), round(bottom * rows), round(left * columns), round(right * columns))
    return FieldOfView(center, circle.radius * (rows + columns) / 2, (height, width), True, limits)


def _resize(picture: NDArray[Any], size: tuple[int, int], mode: str) -> NDArray[Any]:
    """Resize ``(H, W[, C])`` to ``size`` (height, width); enlarging by area would be nearest, so it is bilinear."""
    enlarged = size[0] >= picture.shape[0] and size[1] >= picture.shape[1]
    interpolation = cv2.INTER_LINEAR if mode == "area" and enlarged else _INTERPOLATION[mode]
    return cv2.resize(picture, (size[1], size[0]), interpolation=interpolation)


def _like(picture: NDArray[Any], image: torch.Tensor) -> torch.Tensor:
    """Give a picture back as a ``(C, W, H)`` tensor with the metadata of ``image``."""
    return _with_meta(torch.as_tensor(from_picture(picture), device=image.device), image)


def _with_meta(tensor: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Give a tensor the metadata of ``image``."""
    return MetaTensor(tensor).copy_meta_from(image) if isinstance(image, MetaTensor) else tensor


class FieldOfViewd(MapTransform, InvertibleTransform):
    """Blank what is outside the camera's circle, crop to it and scale it to a canonical diameter.

    The circle is found once on ``ref_key``; every key is cropped and scaled alike, so image and label stay together.
    Adds ``fov_key``, the field of view as a mask ``(1, W, H)`` of uint8 at the input's own size, and appends to
    ``note`` when no circle was found. `inverse` returns a key to the input's own size, with 0 outside the crop.

    Args:
        keys: keys to crop and scale.
        ref_key: the photo, ``(3, W, H)`` uint8.
        diameter: what the circle's diameter becomes, in pixels; for a photo without a circle, the longer side.
        mode: ``area`` (photo; a 0/1 label becomes the share of each pixel that it covers), ``bilinear`` or ``nearest``,
            one for all keys or one each.
        blank: whether to set what is outside the circle to 0.
        fov_key: key of the mask, or of one that the data already has (from the data set), which is then kept.
        photo_key: key under which the photo of ``ref_key`` is kept as it was; None for not at all.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        SettingError: the diameter or a mode is not usable.
    """

    def __init__(
        self,
        keys: KeysCollection,
        ref_key: str = "image",
        diameter: int = 1024,
        mode: str | tuple[str, ...] | list[str] = "area",
        blank: bool = True,
        fov_key: str = "fov",
        photo_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.modes = (mode,) * len(self.keys) if isinstance(mode, str) else tuple(mode)
        if len(self.modes) != len(self.keys) or not set(self.modes) <= set(_INTERPOLATION):
            raise SettingError(f"mode is {mode}; give one of {sorted(_INTERPOLATION)}, or one for each key.")
        if not (isinstance(diameter, int) and diameter >= 32):
            raise SettingError(f"diameter is {diameter!r}; give a whole number of pixels, at least 32.")
        self.ref_key = ref_key
        self.diameter = diameter
        self.blank = blank
        self.fov_key = fov_key
        self.photo_key = photo_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Find the circle on the photo and apply it to every key."""
        d = dict(data)
        photo = to_picture(d[self.ref_key]).astype(np.uint8, copy=False)
        if self.photo_key is not None:
            d[self.photo_key] = d[self.ref_key]
        view = find_field_of_view(photo)
        mask = view.mask()
        rows, columns = view.box
        scale = self.diameter / (2 * view.radius)
        box = (rows.start, rows.stop, columns.start, columns.stop)
        size = tuple(min(self.diameter, max(1, round((part.stop - part.start) * scale))) for part in (rows, columns))
        for key, mode in self.key_iterator(d, self.modes):
            image = d[key]
            picture = (photo if key == self.ref_key else to_picture(image))[rows, columns]
            if self.blank and view.found:
                picture = cv2.copyTo(picture, mask[rows, columns].astype(np.uint8))
            d[key] = _like(_resize(np.ascontiguousarray(picture), (size[0], size[1]), mode), image)
            self.push_transform(
                d[key], orig_size=view.shape, extra_info={"box": box, "mode": mode, "shape": view.shape}
            )
        if self.fov_key not in d:
            d[self.fov_key] = _like(mask.astype(np.uint8), d[self.ref_key])
            d[self.fov_key].applied_operations = []
        d["note"] = "; ".join(part for part in (str(d.get("note", "")), view.note) if part)
        return d

    def inverse(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return every key to the input's own size."""
        d = dict(data)
        for key in self.key_iterator(d):
            info = self.pop_transform(d[key])["extra_info"]
            top, bottom, left, right = (int(edge) for edge in info["box"])
            height, width = (int(side) for side in info["shape"])
            mode = "nearest" if info["mode"] == "nearest" else "bilinear"
            image = d[key]
            planes = torch.as_tensor(image).detach().cpu().numpy()
            original = np.zeros((len(planes), width, height), dtype=planes.dtype)
            # Each plane as it lies in memory, (W, H): to turn large pictures takes longer than to resize them.
            for plane, whole in zip(planes, original, strict=True):
                whole[left:right, top:bottom] = _resize(np.ascontiguousarray(plane), (right - left, bottom - top), mode)
            d[key] = _with_meta(torch.as_tensor(original, device=image.device), image)
        return d


class KeepInsided(MapTransform):
    """Set what lies outside the field of view to 0.

    Args:
        keys: keys ``(C, W, H)`` at the input's own size.
        fov_key: mask ``(1, W, H)`` of the field of view.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(self, keys: KeysCollection, fov_key: str = "fov", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.fov_key = fov_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Multiply every key by the mask."""
        d = dict(data)
        inside = torch.as_tensor(d[self.fov_key]) > 0
        for key in self.key_iterator(d):
            d[key] = d[key] * inside.to(d[key].device)
        return d
