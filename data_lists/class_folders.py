"""Any photos in folders that are named after their classes, such as ``DR/`` and ``No_DR/``.

Features:
    photos of any size. Class: the photo's folder. Patient: the photo's path, so that each photo counts as a patient,
    unless ``--patients`` says more; the same pixels are kept in one split all the same.

Layout:
    ``DR/NAME.jpg``, ``No_DR/NAME.jpg`` ..., at any depth below the root; also in ``train/``, ``valid/`` and ``test/``
    (``train/DR/NAME.jpg`` ...). Lower and upper case do not matter.

Labels:
    ``["DR"]`` in the folders of ``--positive`` (default ``DR``), none in all others. Or any label of each folder, with
    ``--labels cataract=C glaucoma=G normal=N``; ``normal=`` is for photos with no label.

Official split:
    the folders ``test``, ``valid`` (or ``val``, ``validation``) and ``train`` where they are there; ``train`` is
    divided where there is no ``valid``. ``--redivide`` divides all photos anew, as it is needed where pictures stand in
    two of these folders.

Terms: those of the dataset; read them on the page that it comes from.

Get it: for instance https://www.kaggle.com/datasets/pkdarabi/diagnosis-of-diabetic-retinopathy or
    https://www.kaggle.com/datasets/gunavenkatdoddi/eye-diseases-classification
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from common.pixels import PHOTO_SUFFIXES
from data_lists._base import DataListError, Dataset, Item, Tree, read_patients, tell
from data_lists._grading import dr_labels
from data_lists.odir5k import LABELS

SPLIT_FOLDERS = {
    "train": "training", "training": "training", "valid": "validation", "val": "validation",
    "validation": "validation", "test": "test", "testing": "test",
}  # fmt: skip


def find(
    tree: Tree,
    *,
    positive: tuple[str, ...] = ("DR",),
    labels: tuple[str, ...] = (),
    patients: Path | None = None,
    redivide: bool = False,
) -> list[Item]:
    """Find the photos of every class.

    Args:
        tree: the dataset's folder.
        positive: folders whose photos have the label DR; those of all other folders have none.
        labels: FOLDER=LABEL for every folder, instead of DR and none; FOLDER= for no label.
        patients: CSV file with the columns image (path relative to the root) and patient, a row for each image.
        redivide: divide the photos by the seed also where they lie in folders train, valid and test.
    """
    every = [path for path in tree.files() if PurePosixPath(path).suffix.lower() in PHOTO_SUFFIXES]
    every = [path for path in every if not tree.is_excluded(path)]
    photos = [path for path in every if "/" in path]
    if not photos:
        raise tree.nothing_found("DR/NAME.jpg, No_DR/NAME.jpg ..., also in train/, valid/ and test/")
    tell("photos left out, which lie in no folder of a class", [path for path in every if "/" not in path])
    folders = {path: PurePosixPath(path).parent.name for path in photos}
    meaning = _given(labels, set(folders.values())) if labels else _positive(positive, set(folders.values()))
    given = {} if patients is None else read_patients(patients, photos)
    splits = {} if redivide else {path: _split(path) for path in photos}
    if "validation" not in splits.values():
        splits = {path: split if split == "test" else None for path, split in splits.items()}
    return [
        Item(
            {"image": path},
            patient=given.get(path, str(PurePosixPath(path).with_suffix(""))),
            category=folders[path],
            split=splits.get(path),
            values={"label": meaning[folders[path].lower()]},
        )
        for path in photos
    ]


def meanings(*, labels: tuple[str, ...] = (), **_: Any) -> Mapping[str, str]:
    """Give the meaning of each label, for `Dataset.labels`: the letters are those of ODIR."""
    known = {**dr_labels(), **LABELS}
    names = sorted({pair.rpartition("=")[2] for pair in labels} - {""}) if labels else list(dr_labels())
    return {name: known.get(name, name) for name in names}


def _split(path: str) -> str | None:
    """Give the split of the folder above the class's folder."""
    return SPLIT_FOLDERS.get(PurePosixPath(path).parent.parent.name.lower())


def _positive(positive: Collection[str], folders: Collection[str]) -> dict[str, list[str]]:
    """Give the label of each folder, in lower case, where there is one label.

    Raises:
        DataListError: a positive folder is not there, or there are no others.
    """
    _check_folders("--positive", positive, folders)
    wanted = {name.lower() for name in positive}
    meaning = {name.lower(): ["DR"] if name.lower() in wanted else [] for name in folders}
    if all(meaning.values()):
        raise DataListError(f"--positive {' '.join(positive)} are all folders with photos; there is none without DR")
    return meaning


def _given(pairs: Collection[str], folders: Collection[str]) -> dict[str, list[str]]:
    """Read ``--labels``.

    Raises:
        DataListError: one is no pair, or its folder is not there, or a folder has none.
    """
    meaning: dict[str, list[str]] = {}
    for pair in pairs:
        folder, equals, label = pair.rpartition("=")
        if not (equals and folder) or folder.lower() in meaning:
            raise DataListError(f"--labels {pair!r} has to be FOLDER=LABEL, or FOLDER= for no label, once a folder")
        meaning[folder.lower()] = [label] if label else []
    _check_folders("--labels", meaning, folders)
    without = sorted(name for name in folders if name.lower() not in meaning)
    if without:
        raise DataListError(f"--labels has no label of the folder {without[0]}; add {without[0]}=LABEL")
    return meaning


def _check_folders(option: str, names: Collection[str], folders: Collection[str]) -> None:
    for name in names:
        if name.lower() not in {folder.lower() for folder in folders}:
            raise DataListError(
                f"{option}: there is no folder {name!r} with photos; the folders are {', '.join(sorted(folders))}"
            )


DATASET = Dataset(
    name="class_folders",
    description="Any fundus photos in folders that are named after their classes.",
    licence="that of the dataset; see where it comes from",
    reference="see where the dataset comes from",
    labels=meanings,
    find=find,
    guide=__doc__,
    masks={},
)
