"""Any disc and cup dataset with a folder of images and a folder of masks for each structure.

Features:
    photos of any size with one binary mask of the disc (with the cup in it) and one of the cup, under the same names.
    Patient, eye and diagnosis as ``labels.csv`` says; without its column patient, each photo counts as a patient.

Layout:
    ``images/0001.jpg``, ``segmentation_masks/disc/0001.png``, ``segmentation_masks/cup/0001.png``, and optionally
    ``labels.csv``: a column with the image's name or path (``image``, ``image_name``, ``image_path``, ``file``,
    ``filename``, ``file_name`` or ``name``), and any of ``patient`` (or ``patient_id``), ``eye`` (OD or OS, R or L,
    right or left) and ``diagnosis`` (or ``label``, or ``class``).

Official split:
    none.

Terms: those of the dataset; read them on the page that it comes from.

Get it: a layout for your own annotations, and for datasets that were brought into it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from common.tables import EYES
from data_lists._base import (
    BINARY,
    DISC_CUP,
    DataListError,
    DataListWarning,
    Dataset,
    Found,
    Item,
    Tree,
    read_table,
)

IMAGE = ("image", "image_name", "image_path", "file", "filename", "file_name", "name")
PATIENT, EYE, DIAGNOSIS = ("patient", "patient_id"), ("eye",), ("diagnosis", "label", "class")


def find(tree: Tree, *, allow_missing_cup: bool = False, labels: Path | None = None) -> list[Item]:
    """Find the photos and their masks.

    Args:
        tree: the dataset's folder.
        allow_missing_cup: accept images without a cup mask; their items have only the disc.
        labels: the table, in place of labels.csv in the dataset's folder.
    """
    images = tree.find("images", "{key}", ".+")
    if not images.paths:
        raise tree.nothing_found(
            "images/0001.jpg, segmentation_masks/disc/0001.png, segmentation_masks/cup/0001.png ..., labels.csv"
        )
    discs = tree.pair(images, tree.find("segmentation_masks/disc", "{key}", ".+"), "disc mask")
    found_cups = tree.find("segmentation_masks/cup", "{key}", ".+")
    cups = _cups(tree, images, found_cups, allow_missing_cup)
    table = tree.root / "labels.csv" if labels is None else Path(labels)
    rows = _read_labels(table, images) if labels is not None or table.exists() else {}
    items = []
    for key, path in images.paths.items():
        row = rows.get(key, {})
        files = {"image": path, "disc": discs[key], **({"cup": cups[key]} if key in cups else {})}
        eye = {"eye": row["eye"]} if row.get("eye") else {}
        items.append(
            Item(
                files, row.get("patient") or key, row.get("diagnosis") or None, values={"label_format": "masks", **eye}
            )
        )
    return items


def _cups(tree: Tree, images: Found, cups: Found, allow_missing: bool) -> Mapping[str, str]:
    """Give the cup masks that the images have.

    Raises:
        DataListError: one has none, and that is not allowed.
    """
    missing = [path for key, path in images.paths.items() if key not in cups.paths]
    if missing and not allow_missing:
        more = f" ({len(missing) - 1} more images have none either)" if len(missing) > 1 else ""
        expected = cups.expected(PurePosixPath(missing[0]).stem)
        raise DataListError(
            f"{missing[0]} in {tree.root} has no cup mask: a file {expected}.* is expected{more}; add it, leave the "
            f"image out with --exclude '{missing[0]}', or accept images of which only the disc is marked with "
            "--allow_missing_cup"
        )
    if missing:
        warnings.warn(
            f"{len(missing)} of {len(images.paths)} images have no cup mask, such as {missing[0]}: only their disc is "
            "in the list",
            DataListWarning,
            stacklevel=2,
        )
    having = {key: path for key, path in images.paths.items() if key in cups.paths}
    return tree.pair(Found(images.folder, images.template, having, images.excluded), cups, "cup mask")


def _read_labels(table: Path, images: Found) -> dict[str, dict[str, str]]:
    """Read patient, eye and diagnosis of each image, as far as the table has these columns.

    Raises:
        DataListError: the table cannot be read, lacks the image column, an image or a patient, or has a wrong eye.
    """
    rows = read_table(table, "the table")
    columns = set(rows[0]) if rows else set()
    image_column, patient, eye, diagnosis = (
        next((name for name in names if name in columns), None) for names in (IMAGE, PATIENT, EYE, DIAGNOSIS)
    )
    if image_column is None:
        raise DataListError(f"{table} has no column for the image's name, such as 'image', or no rows")
    names = {PurePosixPath(path).name: key for key, path in images.paths.items()}
    names |= {key: key for key in images.paths}
    read: dict[str, dict[str, str]] = {}
    unused = []
    for row in rows:
        name = PurePosixPath(row[image_column].replace("\\", "/")).name
        key = names.get(name) or names.get(PurePosixPath(name).stem)
        if key is None:
            if name not in images.excluded and PurePosixPath(name).stem not in images.excluded:
                unused.append(row[image_column])
            continue
        if key in read:
            raise DataListError(f"{table} has two rows for {images.paths[key]}; remove one of them")
        facts = {"patient": row[patient] if patient else "", "diagnosis": row[diagnosis] if diagnosis else ""}
        if patient and not facts["patient"]:
            raise DataListError(f"{table} gives no patient for {images.paths[key]}; fill the column {patient!r} in")
        written = row[eye] if eye else ""
        if written and written.lower() not in EYES:
            raise DataListError(
                f"{table} gives {images.paths[key]} the eye {written!r}; it has to be OD or OS, right or left, or empty"
            )
        read[key] = {**facts, "eye": EYES.get(written.lower(), "")}
    missing = [path for key, path in images.paths.items() if key not in read]
    if missing:
        raise DataListError(
            f"{table} has no row for {missing[0]} ({len(missing)} of {len(images.paths)} images have none); add it"
        )
    if unused:
        warnings.warn(
            f"{table} has rows without an image: {len(unused)}, such as {unused[0]!r}", DataListWarning, stacklevel=2
        )
    return read


DATASET = Dataset(
    name="disc_cup_folder",
    description="Any folder of fundus photos with folders of disc and cup masks under the same names.",
    licence="that of the dataset; see where it comes from",
    reference="see where the dataset comes from",
    labels=DISC_CUP,
    find=find,
    guide=__doc__,
    masks={"disc": BINARY, "cup": BINARY},
)
