"""MONAI image reader for OCT B-scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, ensure_tuple
from numpy.typing import NDArray

from common.errors import UnreadableImageError
from common.readers.fundus import from_picture
from common.scans import read_scan


class BScanReader(ImageReader):
    """Reads one OCT B-scan as a single channel of uint8, depth along the rows of the picture.

    Picture files of any kind that `common.pixels.read_pixels` reads, and ``.mat`` files of the Duke DME data set, of
    which ``file.mat#03`` names the third B-scan.

    Args:
        min_side: shortest side in pixels that can still be a B-scan.
        max_aspect: largest ratio of the longer to the shorter side.
    """

    def __init__(self, min_side: int = 32, max_aspect: float = 8.0) -> None:
        super().__init__()
        self.min_side = min_side
        self.max_aspect = max_aspect

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Accept every file: one that is no B-scan raises in `read`, with its path and the reason."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[Path, NDArray[np.uint8]]:
        """Read one B-scan.

        Args:
            data: its path or address, or a sequence with one.
            kwargs: not used; MONAI's interface has them.

        Returns:
            The path, and the pixels ``(H, W)``.

        Raises:
            UnreadableImageError: the file cannot be used.
        """
        names = ensure_tuple(data)
        if len(names) != 1:
            raise UnreadableImageError(str(names[0]), f"was given with {len(names) - 1} more; one B-scan at a time")
        path = Path(names[0])
        pixels = read_scan(path)
        height, width = pixels.shape
        if min(height, width) < self.min_side:
            raise UnreadableImageError(
                path, f"is {width}x{height} pixels; a B-scan needs at least {self.min_side} on each side"
            )
        if max(height, width) > self.max_aspect * min(height, width):
            raise UnreadableImageError(
                path, f"is {width}x{height} pixels; no side may be more than {self.max_aspect:g} times the other"
            )
        return path, pixels

    def get_data(self, img: tuple[Path, NDArray[np.uint8]]) -> tuple[NDArray[Any], dict[str, Any]]:
        """Give the pixels as ``(1, W, H)`` with the metadata that MONAI's loader needs."""
        _, pixels = img
        height, width = pixels.shape
        meta: dict[str, Any] = {MetaKeys.SPATIAL_SHAPE: np.asarray((width, height)), MetaKeys.ORIGINAL_CHANNEL_DIM: 0}
        return from_picture(pixels), meta
