"""Decoding of image files to 8-bit pixels; no torch, so that tools which only read files start at once."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import UnreadableImageError

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".ppm", ".gif"})


def _to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale integers of more than 8 bits to 0-255 by the smallest bit depth (8 to 16) that holds their maximum."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"its pixels are of type {values.dtype}; 8 or 16 bit integers are supported")
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels range from {values.min()} to {values.max()}; 8 or 16 bits are supported")
    full_scale = 2 ** max(8, int(values.max()).bit_length()) - 1
    return np.rint(values * (255.0 / full_scale)).astype(np.uint8)


def _decode_tiff(content: bytes) -> NDArray[Any]:
    """Decode what Pillow cannot: TIFF with 16 bits in each of several channels."""
    pixels = tifffile.imread(io.BytesIO(content))
    if pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[-1] not in (3, 4):
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim not in (2, 3):
        raise ValueError(f"its pixels have shape {pixels.shape}; one page of a grey or colour photo is expected")
    return pixels


def _flatten(image: Image.Image) -> Image.Image | NDArray[Any]:
    """Bring any Pillow mode to RGB or L; a transparent pixel becomes black. More than 8 bits stay as an array."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def read_pixels(path: str | Path) -> NDArray[np.uint8]:
    """Read one image file as 8-bit pixels, turned as its EXIF orientation says.

    Grey, RGB, RGBA (on black), palette, CMYK, 1, 8 and 16 bits; of an animation the first frame. Integers of more
    than 8 bits are scaled by the smallest bit depth that holds the image's maximum, so that 12-bit data in a 16-bit
    file do not come out black.

    Args:
        path: the file.

    Returns:
        ``(H, W)`` or ``(H, W, 3)``, uint8.

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, no image, or of a kind that is not supported.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableImageError(path, f"cannot be opened ({error.strerror or error})") from error
    if not content:
        raise UnreadableImageError(path, "is empty (0 bytes)")
    try:
        try:
            with Image.open(io.BytesIO(content)) as opened:
                flat = _flatten(ImageOps.exif_transpose(opened))
        except UnidentifiedImageError:
            if path.suffix.lower() not in (".tif", ".tiff"):
                raise
            flat = _decode_tiff(content)
        pixels = _to_uint8(np.asarray(flat))
    except UnidentifiedImageError as error:
        raise UnreadableImageError(path, "is not an image of a known format") from error
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise UnreadableImageError(path, f"cannot be decoded ({error})") from error
    except tifffile.TiffFileError as error:
        raise UnreadableImageError(path, f"cannot be decoded ({error})") from error
    return pixels[..., :3] if pixels.ndim == 3 else pixels
