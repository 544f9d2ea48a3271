"""Decoding of image files to 8-bit pixels; no torch, so that tools which only read files start at once."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from common.errors import UnreadableImageError
from common.pages import TIFF_SUFFIXES

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".gif"}) | TIFF_SUFFIXES
NIFTI_SUFFIXES = (".nii", ".nii.gz")
"""What viewers of volumes save pictures as; `read_pixels` reads them, folders of photos are not searched for them."""
_BITS_PER_SAMPLE, _ORIENTATION = 258, 274
_PNG_COLOUR_TYPES = (2, 6)
_NO_PAGE = "the file has fewer pages"
_SHARED: ContextVar[dict[Path, NDArray[np.uint8]] | None] = ContextVar("shared pixels", default=None)


@contextmanager
def shared_pixels(pixels: dict[Path, NDArray[np.uint8]]) -> Iterator[None]:
    """Have `read_pixels` decode each file once, as long as this lasts, for several bundles that read the same photo.

    Args:
        pixels: path to pixels ``(H, W)`` or ``(H, W, 3)``; what is read is added, and what is there is not read. They
            are given out read-only.
    """
    token = _SHARED.set(pixels)
    try:
        yield
    finally:
        _SHARED.reset(token)


def _full_scale(values: NDArray[Any]) -> int:
    """The highest value of the smallest bit depth (8 to 16) that holds the maximum of integers."""
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"its pixels are of type {values.dtype}; 8 or 16 bit integers are supported")
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels range from {values.min()} to {values.max()}; 8 or 16 bits are supported")
    return int(2 ** max(8, int(values.max()).bit_length()) - 1)


def _to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale integers of more than 8 bits to 0-255 by the smallest bit depth (8 to 16) that holds their maximum."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    return np.rint(values * (255.0 / _full_scale(values))).astype(np.uint8)


def _white_is_high(pixels: NDArray[Any]) -> NDArray[Any]:
    """Invert the grey values of a TIFF in which 0 is white (MINISWHITE); transparency, behind them, stays.

    Black is taken to be the highest value of the smallest bit depth that holds the darkest pixel, as in `_to_uint8`.
    """
    grey = pixels if pixels.ndim == 2 else pixels[..., :1]
    inverted = ~grey if grey.dtype == bool else _full_scale(grey) - grey
    return inverted if pixels.ndim == 2 else np.concatenate([inverted, pixels[..., 1:]], axis=2)


def _turn(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn pixels ``(H, W[, C])`` as the TIFF and EXIF tag ``Orientation`` says."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _decompress_tiff(content: bytes, page: Any) -> NDArray[Any]:
    """Decode a page whose compression (LZW) tifffile has no codec for; pixels as stored, not turned."""
    changed = bytearray(content)
    order: Literal["big", "little"] = "big" if page.parent.byteorder == ">" else "little"
    # OpenCV reads the page that the head of the file points to.
    size = page.parent.tiff.offsetsize
    changed[size : 2 * size] = page.offset.to_bytes(size, order)
    tag = page.tags.get("Orientation")
    if tag is not None:
        # OpenCV would turn the pixels; the caller does, for every compression alike.
        changed[tag.valueoffset : tag.valueoffset + 2] = (1).to_bytes(2, order)
    pixels = _decode_by_opencv(changed)
    if pixels is None or pixels.dtype != page.dtype or pixels.size != page.size:
        kind = getattr(page.compression, "name", page.compression)
        raise ValueError(f"its data are damaged, or of a kind that cannot be read with {kind} compression")
    return pixels


def _decode_by_opencv(content: bytes | bytearray) -> NDArray[Any] | None:
    """Decode an image at its own depth, colours as RGB or RGBA; None when OpenCV cannot."""
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim == 2:
        return pixels
    code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, code))


def _decode_deep_tiff(stream: BinaryIO, number: int) -> NDArray[Any]:
    """Decode a page, from 1 on, of a TIFF with more than 8 bits, of which Pillow loses some or misreads them."""
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        if number > len(file.pages):
            raise LookupError(_NO_PAGE)
        page: Any = file.pages[number - 1]
        if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
            raise ValueError("it is CMYK with more than 8 bits; save it as RGB")
        if page.size > 2 * (Image.MAX_IMAGE_PIXELS or page.size):
            raise ValueError(f"it claims to have {page.size} values")
        tag = page.tags.get("Orientation")
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            stream.seek(0)
            pixels = _decompress_tiff(stream.read(), page)
        else:
            if pixels.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
                pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim not in (2, 3):
        raise ValueError(f"its pixels have shape {pixels.shape}; one page of a grey or colour photo is expected")
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = _white_is_high(pixels)
    return _turn(pixels, int(tag.value) if tag is not None else 1)


def _turn_to(image: Image.Image, page: int) -> None:
    """Go to a page, from 1 on."""
    try:
        image.seek(page - 1)
    except EOFError as error:
        raise LookupError(_NO_PAGE) from error


def _decode_deep_png(content: bytes) -> NDArray[Any]:
    """Decode a colour PNG with 16 bits, of which Pillow keeps only the upper 8."""
    pixels = _decode_by_opencv(content)
    if pixels is None:
        raise ValueError("its data are damaged")
    return pixels


def is_nifti(path: str | Path) -> bool:
    """Whether a file's name is that of a NIfTI file."""
    return Path(path).name.lower().endswith(NIFTI_SUFFIXES)


def _decode_nifti(path: Path) -> NDArray[Any]:
    """Decode a picture kept as NIfTI: its first axis is the column, its second the row, whatever its affine says.

    Colours are of NIfTI's RGB types, or lie along the last axis, as vectors or as slices.
    """
    import nibabel  # a reader of volumes, that few need

    image: Any = nibabel.load(path)
    if np.prod(image.shape) > 2 * (Image.MAX_IMAGE_PIXELS or np.inf):
        raise ValueError(f"it claims to have {np.prod(image.shape)} values")
    values = np.asanyarray(image.dataobj)
    if values.dtype.names:  # RGB24 and RGBA32: a record of bytes for each pixel
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
        single = values.shape[2:-1]
    else:
        colours = values.ndim > 2 and values.shape[-1] in (3, 4)
        single = values.shape[2:-1] if colours else values.shape[2:]
    if values.ndim < 2 or any(size != 1 for size in single):
        raise ValueError(f"it is a volume of shape {image.shape}; a picture has one slice, grey or in colour")
    width, height = values.shape[:2]
    picture = values.reshape(width, height, -1).swapaxes(0, 1)
    if np.issubdtype(picture.dtype, np.floating) and (picture == np.rint(picture)).all():
        picture = picture.astype(np.int64)  # viewers save whole numbers as floating point
    return picture[..., 0] if picture.shape[2] == 1 else picture


def _on_black(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bring ``(H, W[, C])`` with or without transparency to ``(H, W)`` or ``(H, W, 3)``."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return pixels
    if pixels.shape[2] not in (1, 2, 4):
        raise ValueError(f"it has {pixels.shape[2]} channels; a photo has 1, 3, or one more for transparency")
    colours = pixels[..., :3] if pixels.shape[2] == 4 else pixels[..., 0]
    if pixels.shape[2] == 1:
        return colours
    share = pixels[..., -1] / 255.0
    return np.rint(colours * (share[..., None] if colours.ndim == 3 else share)).astype(np.uint8)


def _flatten(image: Image.Image) -> Image.Image | NDArray[Any]:
    """Bring any Pillow mode to RGB or L; a transparent pixel becomes black. More than 8 bits stay as an array."""
    if image.mode.startswith("I") or image.mode == "F":
        return np.asarray(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def read_pixels(path: str | Path, page: int = 1) -> NDArray[np.uint8]:
    """Read one image file as 8-bit pixels, turned as its EXIF orientation says.

    Grey, RGB, RGBA (on black), palette, CMYK, 1, 8 and 16 bits; of an animation or of several pages the first, unless
    another page is asked for. Integers of more than 8 bits are scaled by the smallest bit depth that holds the image's
    maximum, so that 12-bit data in a 16-bit file do not come out black. A NIfTI file holds one picture: ``(W, H)``,
    ``(W, H, 1)``, with colours along the last axis ``(W, H, 3)``, ``(W, H, 1, 3)``, ``(W, H, 1, 1, 3)``, or of NIfTI's
    RGB types.

    Args:
        path: the file.
        page: number of the page, from 1 on; its own bytes alone are read where the file's compression allows it.

    Returns:
        ``(H, W)`` or ``(H, W, 3)``, uint8.

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, no image, or of a kind that is not supported, or
            has no such page.
    """
    path = Path(path)
    shared = _SHARED.get()
    if shared is None:
        return _read(path, page)
    key = path if page == 1 else path.with_name(f"{path.name}#{page}")
    if key not in shared:
        shared[key] = _read(path, page)
        shared[key].flags.writeable = False
    return shared[key]


def _read(path: Path, page: int) -> NDArray[np.uint8]:
    """Read and decode a page of a file."""
    try:
        with path.open("rb") as file:
            # Of a file with many pages only what belongs to the page is read.
            stream: BinaryIO = io.BytesIO(file.read()) if page == 1 else file
            if not stream.read(1):
                raise UnreadableImageError(path, "is empty (0 bytes)")
            return _decode_file(path, stream, page)
    except OSError as error:
        raise UnreadableImageError(path, f"cannot be opened ({error.strerror or error})") from error


def _decode_file(path: Path, stream: BinaryIO, page: int) -> NDArray[np.uint8]:
    """Decode a page of an opened file, and say why where it cannot be done."""
    try:
        if is_nifti(path):
            return np.ascontiguousarray(_on_black(_to_uint8(_decode_nifti(path))))
        return _decode(stream, path.suffix.lower() in TIFF_SUFFIXES, page)
    except UnidentifiedImageError as error:
        raise UnreadableImageError(path, "is not an image of a known format") from error
    except Exception as error:  # what a decoder raises on a damaged file has no end
        which = f"page {page} " if page > 1 else ""
        raise UnreadableImageError(path, f"{which}cannot be decoded ({error or type(error).__name__})") from error


def _decode(stream: BinaryIO, may_be_tiff: bool, page: int) -> NDArray[np.uint8]:
    """Decode a page of a file."""
    stream.seek(0)
    head = stream.read(26)
    try:
        with Image.open(stream) as opened:
            if page != 1:
                _turn_to(opened, page)
            if opened.format == "TIFF" and max(opened.tag_v2.get(_BITS_PER_SAMPLE, (1,))) > 8:  # type: ignore[attr-defined]
                flat: Any = _decode_deep_tiff(stream, page)
            elif opened.format == "PNG" and head[24] == 16 and head[25] in _PNG_COLOUR_TYPES:
                stream.seek(0)
                flat = _turn(_decode_deep_png(stream.read()), opened.getexif().get(_ORIENTATION, 1))
            else:
                flat = _flatten(ImageOps.exif_transpose(opened))
    except UnidentifiedImageError:
        if not may_be_tiff:
            raise
        flat = _decode_deep_tiff(stream, page)
    pixels = np.asarray(flat)
    if pixels.size == 0:
        raise ValueError("it has no pixels")
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4) and pixels.dtype == np.uint16:
        full_scale = max(255, int(pixels[..., -1].max()))
        alpha = np.rint(pixels[..., -1:] * (255.0 / full_scale)).astype(np.uint8)
        return _on_black(np.concatenate([_to_uint8(pixels[..., :-1]), alpha], axis=2))
    return np.ascontiguousarray(_on_black(_to_uint8(pixels)))
