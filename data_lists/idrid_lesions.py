"""IDRiD, part A: lesions of diabetic retinopathy in 81 photos, marked pixel by pixel.

Features:
    81 photos, 4288 x 2848 pixels, Kowa VX-10 alpha camera, 50 degrees, with masks of microaneurysms, haemorrhages, hard
    exudates and soft exudates. A mask may be a colour on black: what is not black is lesion. A photo without a file
    for a lesion was looked at, and has none. Patient: the photo's number; the release does not say which photos are of
    one person. An item has a mask under the name of each lesion that is there; ``lesions`` are the names of those that
    were looked for, ``absent`` of those that are not there. Photos of this part stand in part B too, under other
    numbers.

Layout:
    ``1. Original Images/a. Training Set/IDRiD_01.jpg``, ``2. All Segmentation Groundtruths/a. Training Set/1.
    Microaneurysms/IDRiD_01_MA.tif`` (or ``.png``), ``2. Haemorrhages/IDRiD_01_HE.tif``, ``3. Hard
    Exudates/IDRiD_01_EX.tif``, ``4. Soft Exudates/IDRiD_03_SE.tif`` ... and the same in ``b. Testing Set``. The root is
    the folder with these two, ``A. Segmentation``, or the one above it.

Official split:
    the folders ``b. Testing Set`` (27 photos). The others are divided by the seed, photos with the same kinds of lesion
    in the same shares.

Terms: CC BY 4.0.

Get it: https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid

Reference:
    Porwal et al., Indian Diabetic Retinopathy Image Dataset (IDRiD): A Database for Diabetic Retinopathy Screening
    Research, Data 3(3), 25, 2018.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.lesions import LESIONS
from common.pixels import read_pixels
from data_lists._base import BINARY, LESION_LABELS, DataListError, DataListWarning, Dataset, Found, Item, Tree
from data_lists.idrid_disc import IMAGES, MASKS, PARTS, base_folder

FOLDERS: Mapping[str, tuple[str, str]] = {
    "exudate": ("3. Hard Exudates", "EX"),
    "haemorrhage": ("2. Haemorrhages", "HE"),
    "microaneurysm": ("1. Microaneurysms", "MA"),
    "soft_exudate": ("4. Soft Exudates", "SE"),
}


def find(tree: Tree) -> list[Item]:
    """Find the photos and their lesion masks.

    Args:
        tree: the dataset's folder.
    """
    base = base_folder(tree)
    items = []
    for part, split in PARTS.items():
        images = tree.find(f"{base}{IMAGES}/{part}", "IDRiD_{key}", r"\d+")
        masks = {lesion: _masks(tree, f"{base}{MASKS}/{part}", lesion, images) for lesion in LESIONS}
        for key, path in images.paths.items():
            there = {lesion: paths[key] for lesion, paths in masks.items() if key in paths}
            items.append(
                Item(
                    {"image": path, **there},
                    patient=key,
                    category="+".join(FOLDERS[lesion][1] for lesion in there) or "none",
                    split=split,
                    values={
                        "label_format": "masks",
                        "lesions": list(LESIONS),
                        "absent": [lesion for lesion in LESIONS if lesion not in there],
                    },
                )
            )
    if not items:
        raise tree.nothing_found(
            f"{IMAGES}/a. Training Set/IDRiD_01.jpg, {MASKS}/a. Training Set/3. Hard Exudates/IDRiD_01_EX.tif ..., "
            "also in A. Segmentation/"
        )
    return items


def _masks(tree: Tree, folder: str, lesion: str, images: Found) -> Mapping[str, str]:
    """Find the masks of a lesion by the number of the photo.

    Raises:
        DataListError: there are photos, but no folder for this lesion.
    """
    name, code = FOLDERS[lesion]
    if images.paths and not tree.has(f"{folder}/{name}"):
        raise DataListError(
            f"{tree.root / folder} has no folder '{name}'; without it no photo would have that lesion. Download the "
            "release again"
        )
    found = tree.find(f"{folder}/{name}", f"IDRiD_{{key}}_{code}", r"\d+")
    for key in sorted(found.paths.keys() - images.paths.keys() - set(images.excluded)):
        warnings.warn(f"{found.paths[key]} is left out: it is a mask without an image", DataListWarning, stacklevel=2)
    return found.paths


def read(path: Path) -> NDArray[Any]:
    """Read a photo, or a mask as 0 and 255: in the release a mask is a colour on black.

    Args:
        path: the file.
    """
    pixels = read_pixels(path)
    if pixels.ndim == 2 or not path.stem.endswith(tuple(f"_{code}" for _, code in FOLDERS.values())):
        return pixels
    return np.where(pixels.any(axis=-1), 255, 0).astype(np.uint8)


DATASET = Dataset(
    name="idrid_lesions",
    description="IDRiD: lesions of diabetic retinopathy, marked pixel by pixel.",
    licence="CC BY 4.0",
    reference="Porwal et al., Data 3(3), 25, 2018.",
    labels=LESION_LABELS,
    find=find,
    guide=__doc__,
    masks=dict.fromkeys(LESIONS, BINARY),
    read=read,
)
