"""Tells OCT B-scans from fundus photos by what is on them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from common.examine.table import FUNDUS, OCT
from common.transforms.field_of_view import find_field_of_view
from common.transforms.oct import find_white_border

_SIDE = 256
_MAX_COLOUR = 4.0
"""Mean difference of the channels up to which a picture is grey: JPEG adds a little colour to grey pictures."""
_SMOOTHING = 4
"""Standard deviation of the smoothing against speckle, in pixels of a picture of `_SIDE`."""
_MIN_LAYERED = 0.63
"""Share of the gradients' energy along the columns from which a picture is layered."""


def colourfulness(pixels: NDArray[np.uint8]) -> float:
    """Mean over the pixels of the difference between the strongest and the weakest channel, in grey levels.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``.
    """
    if pixels.ndim == 2:
        return 0.0
    small = np.asarray(cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), dtype=np.float32)
    return float((small.max(axis=2) - small.min(axis=2)).mean())


def layeredness(pixels: NDArray[np.uint8]) -> float:
    """How much a picture is made of layers that lie on one another, from 0 to 1; 0.5 for one without a direction.

    It is the share of the energy of the gradients that is along the columns, on the picture scaled to a square, without
    speckle and white borders. Layers of the retina run across the whole B-scan; vessels and the disc on a photo run in
    all directions.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``.
    """
    grey = pixels if pixels.ndim == 2 else np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    border = find_white_border(grey).astype(np.uint8)
    seen = cv2.resize(1 - border, (_SIDE, _SIDE), interpolation=cv2.INTER_NEAREST)
    small = np.asarray(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), dtype=np.float32)
    smooth = cv2.GaussianBlur(small, (0, 0), _SMOOTHING)
    down, across = np.gradient(smooth)
    # What is nearer to the frame or to a white border has the border's own edge in it.
    reach = 4 * _SMOOTHING + 1
    inside = cv2.erode(seen, np.ones((reach, reach), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    energy = float((down[inside] ** 2).sum()), float((across[inside] ** 2).sum())
    return energy[0] / max(sum(energy), 1e-9)


def modality_of(pixels: NDArray[np.uint8]) -> str:
    """Tell what a picture shows.

    It is an OCT B-scan when it is grey (`colourfulness` at most 4), has no round field of view, and is layered
    (`layeredness` at least 0.63); else a fundus photo. In public data, the green channels of photos are at most 0.55
    layered, whole and as crops around the disc, and B-scans at least 0.72.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``.

    Returns:
        ``oct`` or ``fundus``.
    """
    if colourfulness(pixels) > _MAX_COLOUR or layeredness(pixels) < _MIN_LAYERED:
        return FUNDUS
    return FUNDUS if find_field_of_view(as_photo(pixels)).found else OCT


def as_photo(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give pixels ``(H, W)`` or ``(H, W, 3)`` as ``(H, W, 3)``, as `common.readers.FundusReader` does."""
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
