"""MONAI image readers for fundus photos and their masks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple
from numpy.typing import NDArray

from common.errors import UnreadableImageError
from common.pixels import read_pixels

# OpenCV transposes these in blocks, several times faster than NumPy copies a transposed view of a large photo.
_FAST_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))
_FAST_CHANNELS = 4


def _is_fast(array: NDArray[Any], channels: int) -> bool:
    return array.dtype in _FAST_TYPES and array.size > 0 and channels <= _FAST_CHANNELS


def to_picture(image: Any) -> NDArray[Any]:
    """Turn a channel-first ``(C, W, H)`` tensor or array into a picture.

    Args:
        image: shape ``(C, W, H)``.

    Returns:
        A contiguous array ``(H, W)`` when there is one channel, else ``(H, W, C)``; the type is unchanged.
    """
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if _is_fast(array, array.shape[0]):
        planes = [cv2.transpose(plane) for plane in array]
        return planes[0] if len(planes) == 1 else cv2.merge(planes)
    picture = np.ascontiguousarray(array.transpose(2, 1, 0))
    return picture[..., 0] if picture.shape[-1] == 1 else picture


def from_picture(picture: NDArray[Any]) -> NDArray[Any]:
    """Turn a picture ``(H, W)`` or ``(H, W, C)`` into a contiguous channel-first array ``(C, W, H)``."""
    channels_last = picture[..., None] if picture.ndim == 2 else picture
    height, width, channels = channels_last.shape
    if _is_fast(picture, channels):
        image = np.empty((channels, width, height), picture.dtype)
        cv2.split(cv2.transpose(channels_last), list(image))
        return image
    return np.ascontiguousarray(channels_last.transpose(2, 1, 0))


class _PictureReader(ImageReader):
    """What the two readers share: one file at a time, pixels by `read_pixels`, axes as `common.readers` says."""

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Accept every file: a file that is no image raises in `read`, with its path and the reason."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, NDArray[np.uint8]]:
        """Read one file.

        Args:
            data: the file's path, or a sequence with one path.
            kwargs: not used; MONAI's interface has them.

        Returns:
            The path and the pixels ``(H, W)`` or ``(H, W, 3)``.

        Raises:
            UnreadableImageError: the file cannot be used.
        """
        names = ensure_tuple(data)
        if len(names) != 1:
            raise UnreadableImageError(str(names[0]), f"was given with {len(names) - 1} more; one photo at a time")
        path = Path(names[0])
        return path, self._check(path, read_pixels(path))

    @abstractmethod
    def _check(self, path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Refuse what this reader cannot use; give the pixels as the network expects them."""

    def get_data(self, img: tuple[Path, NDArray[np.uint8]]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Give the pixels as ``(C, W, H)`` with the metadata that MONAI's loader needs."""
        _, pixels = img
        height, width = pixels.shape[:2]
        meta: dict[str, Any] = {MetaKeys.SPATIAL_SHAPE: np.asarray((width, height)), MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
        return from_picture(pixels), meta


class FundusReader(_PictureReader):
    """Reads a fundus photo (jpg, png, tif, bmp, ppm, gif; 8 or 16 bit; grey, RGB, RGBA, palette, CMYK) as RGB uint8.

    Args:
        min_side: shortest side in pixels that can still be a fundus photo.
        max_aspect: largest ratio of the longer to the shorter side.
    """

    def __init__(self, min_side: int = 32, max_aspect: float = 4.0) -> None:
        super().__init__()
        self.min_side = min_side
        self.max_aspect = max_aspect

    def _check(self, path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = pixels.shape[:2]
        if min(height, width) < self.min_side:
            raise UnreadableImageError(
                path, f"is {width}x{height} pixels; a photo needs at least {self.min_side} on each side"
            )
        if max(height, width) > self.max_aspect * min(height, width):
            raise UnreadableImageError(
                path, f"is {width}x{height} pixels; no side may be more than {self.max_aspect:g} times the other"
            )
        return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


class MaskReader(_PictureReader):
    """Reads a mask as one channel of uint8: 0 is background, every other value is kept as it is.

    A colour file is accepted when its channels are equal.
    """

    def _check(self, path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels.ndim == 2:
            return pixels
        if (pixels != pixels[..., :1]).any():
            raise UnreadableImageError(path, "is a colour picture; a mask has one channel")
        return pixels[..., 0]
