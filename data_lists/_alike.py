"""Finding photos that show the same, although their pixels differ: scaled, compressed anew, or taken a second time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from common.pixels import read_pixels
from data_lists._base import DataListError, Dataset, Item, class_of, tell
from data_lists._checks import in_parallel, read

SAME_EYE = 0.7
"""The correlation from which on two photos of one camera and field of view show one eye.

Measured on IDRiD: photos of part A that are in part B too, half as large, have at least 0.98, second photos of an eye
0.76 to 0.92, and photos of two eyes at most 0.61.
"""
SAME_PHOTO = 0.95
"""The correlation from which on two photos are one, also where cameras and fields of view differ.

Measured on ODIR-5K: photos that stand there twice have more than 0.99; hazy photos of two eyes have up to 0.91.
"""
_SIDE = 64
_MARGIN = 0.2
_SIGMA = 3.0
_BLOCK = 256


def thumbnail(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """Shrink the middle of a photo to what tells it from others: the fine structure of its green channel.

    Args:
        pixels: ``(H, W)`` or ``(H, W, 3)``.

    Returns:
        64 x 64 values in a row, with the mean 0 and the length 1, so that the scalar product of two is their
        correlation; zeros for a photo without structure.
    """
    green = pixels if pixels.ndim == 2 else pixels[..., 1]
    height, width = green.shape
    top, left = int(height * _MARGIN), int(width * _MARGIN)
    middle = green[top : height - top, left : width - left].astype(np.float32)
    small = cv2.resize(middle, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    fine = (small - cv2.GaussianBlur(small, (0, 0), _SIGMA)).ravel()
    fine -= fine.mean()
    length = float(np.linalg.norm(fine))
    return fine / length if length > 1e-3 else np.zeros_like(fine)


def thumbnails(paths: Sequence[Path], dataset: Dataset | None = None) -> NDArray[np.float32]:
    """Give the `thumbnail` of every photo, ``(N, 4096)``.

    Args:
        paths: the files.
        dataset: says how to read them; None for photos.

    Raises:
        DataListError: a file cannot be read.
    """
    reader = read_pixels if dataset is None else dataset.read
    return np.stack(in_parallel(lambda path: thumbnail(read(path, reader)), paths))


def alike(first: NDArray[np.float32], second: NDArray[np.float32], correlation: float) -> list[tuple[int, int]]:
    """Give the pairs of a thumbnail of the first and one of the second that have at least a correlation."""
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(first), _BLOCK):
        found = np.argwhere(first[start : start + _BLOCK] @ second.T >= correlation)
        pairs += [(start + int(i), int(j)) for i, j in found]
    return pairs


def leave_out_alike(
    root: Path, items: Sequence[Item], dataset: Dataset, folder: Path, others: Sequence[str], source: str
) -> list[Item]:
    """Leave out the items whose photo, or another one of that eye, is among others; they are told.

    Args:
        root: folder that the items' paths start from.
        items: the items.
        dataset: says how to read a file.
        folder: folder that the others' paths start from.
        others: the other photos.
        source: what names these, for messages.

    Raises:
        DataListError: a file cannot be read, or no item is left.
    """
    pairs = alike(
        thumbnails([root / item.files["image"] for item in items], dataset),
        thumbnails([folder / path for path in others]),
        SAME_EYE,
    )
    found = {i: others[j] for i, j in reversed(pairs)}
    told = [f"{items[i].files['image']} (as {found[i]})" for i in sorted(found)]
    tell(f"photos left out, which show the same as one in {source}", told)
    if len(found) == len(items):
        raise DataListError(f"--without {source} leaves nothing: all {len(items)} photos show the same as one in it")
    return [item for i, item in enumerate(items) if i not in found]


def find_alike(
    root: Path, items: Sequence[Item], dataset: Dataset, correlation: float
) -> tuple[list[Item], list[tuple[str, str]]]:
    """Find patients with photos that look alike, and leave out photos that look like one of the test split.

    Args:
        root: folder that the items' paths start from.
        items: the items.
        dataset: says how to read a file.
        correlation: from which on photos look alike.

    Returns:
        The items, and pairs of patients who are to be kept together; what was found is told.

    Raises:
        DataListError: a file cannot be read.
    """
    small = thumbnails([root / item.files["image"] for item in items], dataset)
    pairs = alike(small, small, correlation)
    is_test = [item.split == "test" for item in items]
    left_out = {i: j for i, j in reversed(pairs) if is_test[j] and not is_test[i]}
    together = [
        (i, j) for i, j in pairs if i < j and items[i].patient != items[j].patient and not {i, j} & left_out.keys()
    ]
    names = [item.files["image"] for item in items]
    tell(
        "photos left out, which show the same as one of the release's test split",
        [f"{names[i]} (as {names[left_out[i]]})" for i in sorted(left_out)],
    )
    tell(
        "pairs of photos of two patients that show the same, kept in one split",
        [f"{names[i]} ({class_of(items[i])}) and {names[j]} ({class_of(items[j])})" for i, j in together],
    )
    kept = [item for i, item in enumerate(items) if i not in left_out]
    return kept, [(items[i].patient, items[j].patient) for i, j in together]
