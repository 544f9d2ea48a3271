"""Overlay pictures, and the encoding of masks and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.biomarkers.layers import LAYERS

COLOURS: dict[str, tuple[int, int, int]] = {
    "vessel": (0, 255, 255),
    "disc": (0, 255, 0),
    "cup": (0, 0, 255),
    "exudate": (255, 255, 0),
    "haemorrhage": (255, 0, 255),
    "NFL": (230, 60, 60),
    "GCL-IPL": (245, 150, 40),
    "INL": (240, 225, 60),
    "OPL": (90, 200, 90),
    "ONL-ISM": (60, 190, 230),
    "ISE": (70, 110, 240),
    "OS-RPE": (190, 90, 220),
}

_LINE = (255, 255, 255)


def encode_mask(mask: NDArray[Any]) -> bytes:
    """Encode a mask ``(H, W)`` as PNG with 0 and 255."""
    return encode_label_map((np.asarray(mask) > 0).astype(np.uint8) * np.uint8(255))


def encode_label_map(labels: NDArray[np.uint8]) -> bytes:
    """Encode a label map ``(H, W)`` as PNG with its own values."""
    # Runs of equal pixels are long in a mask: this way it takes a quarter of the time and half the bytes.
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
    if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # since OpenCV 4.12, which NumPy 1 cannot have
        options += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return _encode(".png", labels, options)


def encode_probability(probability: NDArray[Any]) -> bytes:
    """Encode probabilities ``(H, W)`` as 16-bit PNG: 65535 is 1."""
    values = np.rint(np.clip(probability, 0, 1) * 65535.0).astype(np.uint16)
    return _encode(".png", values, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def encode_picture(picture: NDArray[np.uint8], suffix: str = ".jpg", quality: int = 92) -> bytes:
    """Encode an RGB or grey picture as JPEG of a quality up to 100, or as ``.png`` or ``.tif``, without loss.

    Args:
        picture: ``(H, W, 3)`` or ``(H, W)``, uint8.
        suffix: ``.jpg``, ``.png`` or ``.tif``.
        quality: of a JPEG.
    """
    options = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality], ".png": [cv2.IMWRITE_PNG_COMPRESSION, 3]}.get(suffix, [])
    return _encode(suffix, picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)


def _encode(suffix: str, picture: NDArray[Any], options: Sequence[int]) -> bytes:
    written, content = cv2.imencode(suffix, picture, list(options))
    if not written:
        raise ValueError(f"A picture of shape {picture.shape} could not be encoded as {suffix}.")
    return content.tobytes()


def reduce_picture(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reduce a picture to a size, each pixel the mean of the area that it covers.

    Halving is many times faster than other factors, so as often as it goes exactly the picture is halved first.

    Args:
        picture: ``(H, W[, C])``, uint8.
        size: width and height, at most those of the picture.

    Returns:
        ``(height, width[, C])``, uint8.
    """
    height, width = picture.shape[:2]
    while height % 2 == 0 and width % 2 == 0 and width // 2 >= size[0] and height // 2 >= size[1]:
        height, width = height // 2, width // 2
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def reduced(photo: NDArray[np.uint8], max_side: int = 1600) -> NDArray[np.uint8]:
    """Reduce a photo ``(H, W, 3)`` so that its longer side has at most ``max_side`` pixels."""
    scale = min(1.0, max_side / max(photo.shape[:2]))
    return reduce_picture(photo, (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale))))


def overlay(
    photo: NDArray[np.uint8],
    masks: Mapping[str, NDArray[Any]],
    colours: Mapping[str, tuple[int, int, int]] | None = None,
    opacity: float = 0.6,
    max_side: int = 1600,
) -> NDArray[np.uint8]:
    """Lay masks over a photo in colour.

    Args:
        photo: RGB ``(H, W, 3)``, uint8; it may be reduced already.
        masks: name to mask, as large as the photo was before; drawn in this order.
        colours: name to RGB; by default those of `COLOURS`.
        opacity: of the colour, from 0 to 1.
        max_side: the picture is reduced so that its longer side has at most this many pixels.

    Returns:
        RGB picture, uint8.
    """
    picture = reduced(photo, max_side)
    size = (picture.shape[1], picture.shape[0])
    for name, mask in masks.items():
        covered = (np.asarray(mask) > 0).view(np.uint8)
        if covered.shape != picture.shape[:2]:
            covered = (reduce_picture(covered * np.uint8(255), size) >= 96).view(np.uint8)
        left, top, width, height = cv2.boundingRect(covered)
        if not width:
            continue
        part = picture[top : top + height, left : left + width]
        tint = np.full_like(part, (colours or COLOURS)[name])
        tinted = cv2.addWeighted(part, 1 - opacity, tint, opacity, 0)
        cv2.copyTo(tinted, covered[top : top + height, left : left + width], part)
    return picture


def heat_overlay(photo: NDArray[np.uint8], heat: NDArray[np.floating], opacity: float = 0.5) -> NDArray[np.uint8]:
    """Lay a map over a photo, from nothing (0) to red (1).

    Args:
        photo: RGB ``(H, W, 3)``, uint8.
        heat: ``(H, W)``, from 0 to 1.
        opacity: of the colour where the map is 1, from 0 to 1.

    Returns:
        RGB picture ``(H, W, 3)``, uint8.
    """
    coloured = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    share = opacity * heat[..., None].astype(np.float32)
    return np.asarray(np.rint(photo * (1 - share) + coloured * share), dtype=np.uint8)


def caption(picture: NDArray[np.uint8], text: str) -> NDArray[np.uint8]:
    """Put a strip with a line of text over a picture.

    Args:
        picture: RGB ``(H, W, 3)``, uint8.
        text: ASCII; it is made small enough to fit the width.

    Returns:
        RGB picture of the same width and some more rows.
    """
    height, scale = 18, 0.42
    strip = np.zeros((height, picture.shape[1], 3), dtype=np.uint8)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    scale *= min(1.0, (picture.shape[1] - 4) / max(1, width))
    cv2.putText(strip, text, (2, height - 5), cv2.FONT_HERSHEY_SIMPLEX, scale, _LINE, 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def layer_overlay(
    scan: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    boundaries: NDArray[np.floating],
    opacity: float = 0.55,
    max_side: int = 1600,
) -> NDArray[np.uint8]:
    """Lay retinal layers over a B-scan in colour, with their boundaries as lines.

    Args:
        scan: ``(H, W)``, uint8.
        labels: ``(H, W)``, 1 to 7 for the layers of `common.biomarkers.layers.LAYERS`.
        boundaries: ``(8, W)``, rows from 0 on; NaN where there is none.
        opacity: of the colours, from 0 to 1.
        max_side: the picture is reduced so that its longer side has at most this many pixels.

    Returns:
        RGB picture, uint8.
    """
    grey = np.repeat(scan[..., None], 3, axis=2)
    masks = {name: labels == layer for layer, name in enumerate(LAYERS, start=1)}
    picture = overlay(grey, masks, opacity=opacity, max_side=max_side)
    scale = picture.shape[1] / scan.shape[1]
    for rows in boundaries:
        columns = np.flatnonzero(~np.isnan(rows))
        # A line for each run of columns that lie side by side.
        for run in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
            # OpenCV takes parts of a pixel as whole numbers of 1/16.
            points = np.stack([(run + 0.5) * scale, rows[run] * scale], axis=1) - 0.5
            line = np.rint(points * 16).astype(np.int32)[:, None]
            cv2.polylines(picture, [line], False, _LINE, 1, cv2.LINE_AA, 4)
    return picture


def outline(
    photo: NDArray[np.uint8],
    masks: Mapping[str, NDArray[Any]],
    colours: Mapping[str, tuple[int, int, int]] | None = None,
    max_side: int = 1600,
) -> NDArray[np.uint8]:
    """Draw the outlines of masks over a photo in colour.

    Args:
        photo: RGB ``(H, W, 3)``, uint8; it may be reduced already.
        masks: name to mask, as large as the photo was before; drawn in this order.
        colours: name to RGB; by default those of `COLOURS`.
        max_side: the picture is reduced so that its longer side has at most this many pixels.

    Returns:
        RGB picture, uint8.
    """
    picture = reduced(photo, max_side)
    thickness = max(2, round(max(picture.shape[:2]) / 500))
    for name, mask in masks.items():
        values = (np.asarray(mask) > 0).astype(np.uint8)
        contours, _ = cv2.findContours(values, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        scale = max(picture.shape[:2]) / max(values.shape)
        scaled = [np.rint((contour + 0.5) * scale - 0.5).astype(np.int32) for contour in contours]
        cv2.drawContours(picture, scaled, -1, (colours or COLOURS)[name], thickness, cv2.LINE_AA)
    return picture


def panels(
    photo: NDArray[np.uint8],
    masks: Mapping[str, NDArray[Any]],
    margin: float = 2.5,
    side: int = 512,
    small: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Put photo, each mask and the outlines side by side; masks and outlines show a square around the first mask.

    Args:
        photo: RGB ``(H, W, 3)``, uint8. A frame on it shows where the square is.
        masks: name to mask ``(H, W)``.
        margin: side of the square, in sizes of the first mask; the whole photo is shown where that mask is empty.
        side: height and width of each panel in pixels.
        small: the photo, reduced already, to save time.

    Returns:
        RGB picture ``(side, side * (2 + number of masks), 3)``, uint8.
    """
    height, width = photo.shape[:2]
    first = np.ascontiguousarray(next(iter(masks.values())) > 0).view(np.uint8)
    left, top, wide, high = cv2.boundingRect(first)
    reach = max(height, width) if not wide else min(max(height, width), max(16, round(margin * max(wide, high))))
    x, y = (left + wide / 2, top + high / 2) if wide else (width / 2, height / 2)
    # A translation and a scale, so that the square may reach beyond the photo.
    scale = side / reach
    to_square = np.array([[scale, 0, side / 2 - x * scale], [0, scale, side / 2 - y * scale]])
    whole = side / max(height, width)
    to_whole = np.array([[whole, 0, (side - width * whole) / 2], [0, whole, (side - height * whole) / 2]])
    source = reduced(photo if small is None else small, 2 * side)
    fitted = to_whole * np.array([[width / source.shape[1], height / source.shape[0], 1.0]])
    overview = np.array(cv2.warpAffine(source, fitted, (side, side), flags=cv2.INTER_LINEAR), dtype=np.uint8)
    corners = [(to_whole @ (x + dx * reach / 2, y + dy * reach / 2, 1)) for dx, dy in ((-1, -1), (1, 1))]
    if reach < 0.9 * max(height, width):
        start, stop = (tuple(int(value) for value in np.rint(corner)) for corner in corners)
        cv2.rectangle(overview, start, stop, (255, 255, 255), max(1, side // 256))
    detail = np.asarray(cv2.warpAffine(photo, to_square, (side, side), flags=cv2.INTER_LINEAR), dtype=np.uint8)
    cut = {
        name: cv2.warpAffine((mask > 0).astype(np.uint8), to_square, (side, side), flags=cv2.INTER_NEAREST)
        for name, mask in masks.items()
    }
    shown = [np.repeat((mask * 255)[..., None], 3, axis=2) for mask in cut.values()]
    return np.concatenate([overview, *shown, outline(detail, cut)], axis=1)
