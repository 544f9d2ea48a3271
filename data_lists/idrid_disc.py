"""IDRiD, part A: the optic disc in 81 photos of people with diabetes.

Features:
    81 photos, 4288 x 2848 pixels, Kowa VX-10 alpha camera, 50 degrees, with masks of the optic disc and of lesions, of
    which the disc is used here; the cup is not marked. A mask may be a colour on black: what is not black is disc.
    Patient: the photo's number; the release does not say which photos are of one person.

Layout:
    ``1. Original Images/a. Training Set/IDRiD_01.jpg``, ``2. All Segmentation Groundtruths/a. Training Set/5. Optic
    Disc/IDRiD_01_OD.tif`` (or ``.png``) ... and the same in ``b. Testing Set``. The root is the folder with these two,
    ``A. Segmentation``, or the one above it.

Official split:
    the folders ``b. Testing Set`` (27 photos).

Terms: CC BY 4.0.

Get it: https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid

Reference:
    Porwal et al., Indian Diabetic Retinopathy Image Dataset (IDRiD): A Database for Diabetic Retinopathy Screening
    Research, Data 3(3), 25, 2018.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.pixels import read_pixels
from data_lists._base import BINARY, DISC_CUP, Dataset, Item, Tree

IMAGES, MASKS = "1. Original Images", "2. All Segmentation Groundtruths"
PARTS = {"a. Training Set": None, "b. Testing Set": "test"}


def base_folder(tree: Tree) -> str:
    """Give the folder of photos and masks relative to the root, with a slash at its end where it is not the root."""
    part_a = "A. Segmentation/"
    return next((base for base in ("", part_a, part_a * 2) if tree.has(f"{base}{MASKS}")), "")


def find(tree: Tree) -> list[Item]:
    """Find the photos and their disc masks.

    Args:
        tree: the dataset's folder.
    """
    base = base_folder(tree)
    items = []
    for part, split in PARTS.items():
        images = tree.find(f"{base}{IMAGES}/{part}", "IDRiD_{key}", r"\d+")
        discs = tree.find(f"{base}{MASKS}/{part}/5. Optic Disc", "IDRiD_{key}_OD", r"\d+")
        paths = tree.pair(images, discs, "disc mask")
        items += [
            Item({"image": path, "disc": paths[key]}, patient=key, split=split, values={"label_format": "masks"})
            for key, path in images.paths.items()
        ]
    if not items:
        raise tree.nothing_found(
            f"{IMAGES}/a. Training Set/IDRiD_01.jpg, {MASKS}/a. Training Set/5. Optic Disc/IDRiD_01_OD.tif ..., also "
            "in A. Segmentation/"
        )
    return items


def read(path: Path) -> NDArray[Any]:
    """Read a photo, or a mask as 0 and 255: in the release a mask is a colour on black.

    Args:
        path: the file.
    """
    pixels = read_pixels(path)
    if not path.stem.endswith("_OD") or pixels.ndim == 2:
        return pixels
    return np.where(pixels.any(axis=-1), 255, 0).astype(np.uint8)


DATASET = Dataset(
    name="idrid_disc",
    description="IDRiD: the optic disc in photos of people with diabetes.",
    licence="CC BY 4.0",
    reference="Porwal et al., Data 3(3), 25, 2018.",
    labels=DISC_CUP,
    find=find,
    guide=__doc__,
    masks={"disc": BINARY},
    read=read,
)
