"""The checks that every list passes before it is written."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from common.errors import UnreadableImageError
from data_lists._base import BINARY, DataListError, Dataset, Item, tell

Result = TypeVar("Result")

_BINARY_VALUES = ({0, 1}, {0, 255})


def check_files(root: Path, items: Collection[Item], dataset: Dataset) -> list[str]:
    """Open every file of every item to its end and compare images with their masks.

    Args:
        root: folder that the items' paths start from.
        items: the items.
        dataset: says how to read a file, and which files are masks with which values.

    Returns:
        The digest of each item's image.

    Raises:
        DataListError: a file cannot be read, or a mask has another size than its image or wrong values.
    """

    def check(item: Item) -> str:
        image = read(root / item.files["image"], dataset.read)
        for key, name in item.files.items():
            if key in dataset.masks:
                mask = read(root / name, dataset.read)
                _check_size(root, item.files["image"], image, name, mask)
                _check_values(root / name, mask, dataset.masks[key])
            elif key != "image":
                read(root / name, dataset.read)
        return digest(image)

    return in_parallel(check, items)


def read(path: Path, reader: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
    """Read a file to its end.

    Args:
        path: the file.
        reader: reads it into an array.

    Raises:
        DataListError: it is missing, truncated, or of a wrong kind.
    """
    try:
        return reader(path)
    except UnreadableImageError as error:
        raise DataListError(f"{error}; download it again or leave it out with --exclude") from error


def digest(pixels: NDArray[Any]) -> str:
    """Give the SHA-256 of decoded pixels, their type and shape.

    Two files with the same picture have one digest, whatever their format, compression or metadata.
    """
    head = f"{pixels.dtype}{pixels.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(pixels).tobytes()).hexdigest()


def in_parallel(check: Callable[[Any], Result], items: Collection[Any]) -> list[Result]:
    """Call a function on every item, on all processor cores; the first error stops the rest."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            return list(pool.map(check, items))
        finally:
            pool.shutdown(cancel_futures=True)


def check_leaks(entries: Iterable[tuple[str, str, str, str]]) -> None:
    """Refuse a list in which a patient or a picture stands in two splits.

    Args:
        entries: split, patient, image path and image digest of each item.

    Raises:
        DataListError: there is one.
    """
    patients: dict[str, tuple[str, str]] = {}
    pictures: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for split, patient, image, image_digest in entries:
        first_split, first_image = patients.setdefault(patient, (split, image))
        if split != first_split:
            raise DataListError(
                f"patient {patient} is in {first_split} ({first_image}) and in {split} ({image}); make the list "
                "without one of them (--exclude)"
            )
        pictures[image_digest].append((split, image))
    twice = []
    for same in pictures.values():
        for split, image in same[1:]:
            first_split, first_image = same[0]
            if split != first_split:
                raise DataListError(
                    f"{first_image} in {first_split} and {image} in {split} are the same picture (same SHA-256 of the "
                    "decoded pixels); make the list without one of them (--exclude)"
                )
            twice.append(f"{first_image} and {image} in {split}")
    tell("pairs of files that are the same picture, both in one split", twice)


def linked(marks: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """Give each patient a group, one for all patients who share a mark, so that no division can part them.

    Args:
        marks: a patient and what others may share with this one, such as the digest of a photo.

    Returns:
        The group of each patient, named after one of its patients.
    """
    group = {patient: patient for patient, _ in marks}
    owner: dict[str, str] = {}
    for patient, mark in marks:
        old, new = group[patient], group[owner.setdefault(mark, patient)]
        if old != new:
            group = {patient: min(old, new) if name in (old, new) else name for patient, name in group.items()}
    return group


def _check_size(root: Path, image_name: str, image: NDArray[Any], mask_name: str, mask: NDArray[Any]) -> None:
    if image.shape[:2] != mask.shape[:2]:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape[:2]
        raise DataListError(
            f"{root / mask_name} is {mask_width}x{mask_height} pixels, its image {image_name} {width}x{height} (both "
            "as shown, turned by EXIF orientation); replace one of them or leave the image out with --exclude"
        )


def _check_values(path: Path, mask: NDArray[Any], allowed: Collection[int]) -> None:
    if mask.ndim == 3 and (mask != mask[..., :1]).any():
        raise DataListError(f"{path} is a colour picture; a mask has one channel, or three that are equal")
    values = [int(value) for value in np.unique(mask)]
    choices = _BINARY_VALUES if allowed == BINARY else (set(allowed),)
    if not any(set(values) <= choice for choice in choices):
        found = ", ".join(map(str, values[:8])) + (f", ... ({len(values)} values)" if len(values) > 8 else "")
        wanted = " or ".join(" and ".join(map(str, sorted(choice))) for choice in choices)
        raise DataListError(
            f"{path} has the grey values {found}; only {wanted} are allowed. Was it resized, or saved as JPEG? Use the "
            "released file, or leave the image out with --exclude"
        )
