"""Reading of OCT B-scans and their boundaries; no torch, so that tools which only read files start at once.

A file may hold many B-scans: a ``.mat`` file of the Duke DME data set, or a TIFF file with a page for each. One of them
is named by an address: the path, ``#``, and its number from 1 on, as in ``Subject_01.mat#03`` or ``scan.tif#03``.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from common.errors import UnreadableImageError
from common.pages import TIFF_SUFFIXES, tiff_pages
from common.pixels import PHOTO_SUFFIXES, read_pixels

VOLUME_SUFFIX = ".mat"
SCAN_SUFFIXES = PHOTO_SUFFIXES | {VOLUME_SUFFIX}
VOLUME_SUFFIXES = TIFF_SUFFIXES | {VOLUME_SUFFIX}
"""Those of the files that can hold many B-scans."""
FLUID = "manualFluid1"
"""The variable of a Duke DME file in which the first grader's fluid is."""
_IMAGES = "images"
_ADDRESS = re.compile(r"(?P<file>.+\.(?:mat|tiff?))#(?P<frame>\d+)", re.IGNORECASE)


def split_address(path: str | Path) -> tuple[Path, int | None]:
    """Split the address of a B-scan into its file and its number there, from 1 on.

    Args:
        path: an address, or the path of a file with one B-scan.

    Returns:
        The file, and the number; None where the path names none.
    """
    match = _ADDRESS.fullmatch(str(path))
    return (Path(match["file"]), int(match["frame"])) if match else (Path(path), None)


def frame_address(path: str | Path, frame: int, count: int) -> str:
    """Give the address of a B-scan of a file.

    Args:
        path: the file.
        frame: its number, from 1 on.
        count: how many the file has; all their addresses have the same length, so that they sort by number.
    """
    return f"{path}#{frame:0{len(str(count))}d}"


@functools.lru_cache(maxsize=4)
def _variable(path: str, changed: int, name: str) -> NDArray[Any] | None:
    """One variable of a MATLAB file; ``changed`` is the file's time of change, so that no old content is given."""
    content = scipy.io.loadmat(path, variable_names=[name])
    return content.get(name)


def read_variable(path: str | Path, name: str) -> NDArray[Any]:
    """Read one variable ``(rows, columns, frames)`` of a MATLAB file; the last ones read are kept in memory.

    Args:
        path: the file.
        name: name of the variable.

    Returns:
        The array, of three axes: one B-scan gets a last axis of length 1.

    Raises:
        UnreadableImageError: the file is missing, empty, damaged, of MATLAB 7.3 (HDF5), or lacks the variable.
    """
    path = Path(path)
    try:
        stat = path.stat()
    except OSError as error:
        raise UnreadableImageError(path, f"cannot be opened ({error.strerror or error})") from error
    if not stat.st_size:
        raise UnreadableImageError(path, "is empty (0 bytes)")
    try:
        values = _variable(str(path), stat.st_mtime_ns, name)
    except NotImplementedError as error:
        raise UnreadableImageError(path, "is a MATLAB 7.3 file; save it as version 7 (save -v7)") from error
    except Exception as error:  # what a decoder raises on a damaged file has no end
        raise UnreadableImageError(path, f"cannot be decoded ({error or type(error).__name__})") from error
    if values is None:
        raise UnreadableImageError(path, f"has no variable '{name}'")
    if values.ndim not in (2, 3) or not np.issubdtype(values.dtype, np.number) or not values.size:
        raise UnreadableImageError(
            path, f"has a variable '{name}' of shape {values.shape} and type {values.dtype}; numbers (rows, columns, "
            "frames) are expected"
        )  # fmt: skip
    return values[..., None] if values.ndim == 2 else values


def has_variable(path: str | Path, name: str) -> bool:
    """Whether a MATLAB file that can be read has a variable.

    Raises:
        UnreadableImageError: the file is damaged or cannot be opened.
    """
    try:
        return any(name == found for found, _, _ in scipy.io.whosmat(str(path)))
    except Exception as error:  # what a decoder raises on a damaged file has no end
        raise UnreadableImageError(path, f"cannot be decoded ({error or type(error).__name__})") from error


def frame_count(path: str | Path) -> int:
    """Count the B-scans of a ``.mat`` file.

    Args:
        path: the file, with the variable ``images``.

    Raises:
        UnreadableImageError: see `read_variable`.
    """
    return int(read_variable(path, _IMAGES).shape[2])


def scan_addresses(folder: Path, name: str) -> list[str]:
    """Give the address of every B-scan of a file.

    Args:
        folder: where the file is.
        name: its path there, with which the addresses begin.

    Returns:
        The addresses, which sort by number: of each B-scan of a ``.mat`` file, and of each page of a TIFF file of
        several (those that are no copies or masks of others, `common.pages.Pages`). Of any other file its name.

    Raises:
        UnreadableImageError: see `read_variable` and `common.pages.tiff_pages`.
    """
    suffix = Path(name).suffix.lower()
    if suffix == VOLUME_SUFFIX:
        count = frame_count(folder / name)
        return [frame_address(name, frame, count) for frame in range(1, count + 1)]
    if suffix not in TIFF_SUFFIXES:
        return [name]
    pages = tiff_pages(folder / name)
    if pages.pictures == (1,):
        return [name]
    return [frame_address(name, page, pages.count) for page in pages.pictures]


def _page(path: Path, frame: int | None) -> int:
    """The page of a picture file that an address means: the only one where it names none."""
    if frame is not None:
        return frame
    if path.suffix.lower() not in TIFF_SUFFIXES:
        return 1
    pictures = tiff_pages(path).pictures
    if len(pictures) > 1:
        raise UnreadableImageError(path, f"holds {len(pictures)} B-scans; name one, as in {path.name}#{pictures[0]}")
    return pictures[0]


def _frame(address: str | Path, name: str) -> NDArray[Any]:
    """One frame ``(rows, columns)`` of a variable; the only one where the address names none."""
    path, frame = split_address(address)
    values = read_variable(path, name)
    if frame is None and values.shape[2] > 1:
        raise UnreadableImageError(path, f"holds {values.shape[2]} B-scans; name one, as in {path.name}#1")
    if frame is not None and not 1 <= frame <= values.shape[2]:
        raise UnreadableImageError(path, f"has no B-scan {frame}; it holds {values.shape[2]}")
    return np.asarray(values[..., (frame or 1) - 1])


def read_scan(address: str | Path) -> NDArray[np.uint8]:
    """Read one B-scan as grey values.

    Args:
        address: a picture file (png, tif and so on, see `common.pixels.read_pixels`), or a B-scan of a ``.mat`` file or
            of a TIFF file of several pages. A coloured picture becomes grey by its luma (ITU-R BT.601); one whose
            channels are equal keeps its values.

    Returns:
        ``(H, W)`` uint8, depth along the rows.

    Raises:
        UnreadableImageError: the file or the frame cannot be used.
    """
    path, frame = split_address(address)
    if path.suffix.lower() != VOLUME_SUFFIX:
        pixels = read_pixels(path, _page(path, frame))
        if pixels.ndim == 2:
            return pixels
        if (pixels == pixels[..., :1]).all():
            return np.ascontiguousarray(pixels[..., 0])
        return np.rint(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    values = _frame(address, _IMAGES)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise UnreadableImageError(path, "has grey values outside 0-255")
    return np.ascontiguousarray(np.rint(values).astype(np.uint8))


def read_boundaries(address: str | Path, variable: str) -> NDArray[np.float64]:
    """Read the boundaries that a grader drew on one B-scan of a Duke DME file.

    Args:
        address: the B-scan.
        variable: ``manualLayers1`` or ``manualLayers2``.

    Returns:
        ``(8, W)``, rows counted from 0 (the file counts from 1), NaN where nothing was drawn.

    Raises:
        UnreadableImageError: the file, the variable or the frame cannot be used.
    """
    return np.asarray(_frame(address, variable), dtype=np.float64) - 1


def read_fluid(address: str | Path, variable: str = FLUID) -> NDArray[np.bool_]:
    """Read the fluid that a grader drew on one B-scan.

    Args:
        address: the B-scan of a Duke DME file, whose variable numbers the pools of fluid; or the file of a mask.
        variable: the variable of a ``.mat`` file.

    Returns:
        ``(H, W)``, true where there is fluid; false where nothing was drawn (0 or NaN).

    Raises:
        UnreadableImageError: the file, the variable or the frame cannot be used.
    """
    if split_address(address)[0].suffix.lower() != VOLUME_SUFFIX:
        return read_scan(address) > 0
    return np.nan_to_num(_frame(address, variable).astype(np.float64)) > 0
