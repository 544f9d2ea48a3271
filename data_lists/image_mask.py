"""Any vessel dataset with a folder of images and a folder of masks under the same names.

Features:
    photos of any size with binary vessel masks, such as the "Retina Blood Vessel" set on Kaggle (80 training and 20
    test photos). Patient: the name without suffix, so each photo counts as a patient, unless ``--patients`` says more.

Layout:
    ``image/0.png`` and ``mask/0.png``; or ``train/image/0.png``, ``train/mask/0.png``, ``test/image/0.png`` and
    ``test/mask/0.png``. Other folder names: ``--image_folder`` and ``--mask_folder``.

Official split:
    the folder ``test/`` where there is one.

Terms: those of the dataset; read them on the page that it comes from.

Get it: for instance https://www.kaggle.com/datasets/abdallahwagih/retina-blood-vessel
"""

from __future__ import annotations

import csv
from collections.abc import Collection
from pathlib import Path

from data_lists._base import VESSELS, DataListError, Dataset, Item, Tree


def find(
    tree: Tree, *, image_folder: str = "image", mask_folder: str = "mask", patients: Path | None = None
) -> list[Item]:
    """Find the photos and their masks.

    Args:
        tree: the dataset's folder.
        image_folder: name of the folders with images.
        mask_folder: name of the folders with masks.
        patients: CSV file with the columns image (path relative to the root) and patient, a row for each image.
    """
    parts = [part for part in ("train", "test") if tree.has(f"{part}/{image_folder}")]
    found: dict[str, tuple[str, str, str | None]] = {}
    for part in parts or [""]:
        folder = f"{part}/" if part else ""
        images = tree.find(f"{folder}{image_folder}", "{key}", ".+")
        labels = tree.pair(images, tree.find(f"{folder}{mask_folder}", "{key}", ".+"))
        for name, path in images.paths.items():
            found[path] = (labels[name], f"{part}_{name}" if part else name, "test" if part == "test" else None)
    if not found:
        raise tree.nothing_found(f"{image_folder}/0.png, {mask_folder}/0.png ..., also in train/ and test/")
    given = {} if patients is None else _read_patients(patients, found)
    return [
        Item({"image": path, "label": label}, given.get(path, name), split=split)
        for path, (label, name, split) in found.items()
    ]


def _read_patients(table: Path, images: Collection[str]) -> dict[str, str]:
    """Read the patient of each image.

    Raises:
        DataListError: the table cannot be read, lacks a column or an image, or names an image that is not there.
    """
    try:
        with Path(table).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            missing = [column for column in ("image", "patient") if column not in (rows.fieldnames or ())]
            if missing:
                raise DataListError(f"--patients {table} has no column {missing[0]!r}; it needs image and patient")
            given = {row["image"]: row["patient"] for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataListError(f"--patients {table} cannot be read ({error})") from error
    for path in images:
        if not given.get(path):
            raise DataListError(f"--patients {table} gives no patient for {path}; add a row for it")
    for path in given:
        if path not in images:
            raise DataListError(
                f"--patients {table} names {path}, which is not an image of the dataset; remove the row"
            )
    return given


DATASET = Dataset(
    name="image_mask",
    description="Any folder of fundus photos with a folder of vessel masks under the same names.",
    licence="that of the dataset; see where it comes from",
    reference="see where the dataset comes from",
    labels=VESSELS,
    find=find,
    guide=__doc__,
)
