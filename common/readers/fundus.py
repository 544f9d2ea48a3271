"""MONAI image readers for fundus photos and their masks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple
from numpy.typing import NDArray

from common.errors import UnreadableImageError
from common.pixels import read_pixels


def to_picture(image: Any) -> NDArray[Any]:
    """Turn a channel-first ``(C, W, H)`` tensor or array into a picture.

    Args:
        image: shape ``(C, W, H)``.

    Returns:
        A contiguous array ``(H, W)`` when there is one channel, else ``(H, W, C)``; the type is unchanged.
    """
    array = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    picture = np.ascontiguousarray(array.transpose(2, 1, 0))
    return picture[..., 0] if picture.shape[-1] == 1 else picture


def from_picture(picture: NDArray[Any]) -> NDArray[Any]:
    """Turn a picture ``(H, W)`` or ``(H, W, C)`` into a contiguous channel-first array ``(C, W, H)``."""
    channels_last = picture[..., None] if picture.ndim == 2 else picture
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

    def get_data(self, img: tuple[Path, NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Give the pixels as ``(W, H, C)`` with the metadata that MONAI's loader needs."""
        _, pixels = img
        height, width = pixels.shape[:2]
        colour = pixels.ndim == 3
        meta = {
            MetaKeys.SPATIAL_SHAPE: np.asarray((width, height)),
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if colour else float("nan"),
        }
        return np.swapaxes(pixels, 0, 1), meta


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
