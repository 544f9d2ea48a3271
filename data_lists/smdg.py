"""SMDG-19: 19 public glaucoma datasets in one form; those of its photos that have a disc mask, about 3100 of 12449.

Features:
    photos of 512 x 512 pixels with masks of disc and cup, which are soft maps (the grey value is the share of experts
    who agree) where several experts marked them. Class: glaucoma, no glaucoma or suspect (column ``types``: 1, 0, -1).
    Patient: column ``patient_id`` where it is filled, and else the photo. Eye: column ``eye`` where it is filled.

Layout:
    ``metadata - standardized.csv`` with the columns ``names``, ``types``, ``fundus``, ``fundus_od_seg`` and
    ``fundus_oc_seg``; ``full-fundus/full-fundus/BEH-1.png``, ``optic-disc/optic-disc/BEH-1.png`` and
    ``optic-cup/optic-cup/BEH-1.png``. Where the table's path leads to no file, a file of that name is searched in the
    folder of its kind (``full-fundus``, ``optic-disc``, ``optic-cup``), at any depth. A row without a disc mask, or
    without a file, is left out. An item without a cup mask has only the disc. Every mended path and every row that was
    left out stands in the report beside the list.

Labels:
    masks with other values than 0 and 1, or 0 and 255, count from the grey value ``--min_value`` on.

Official split:
    none. The photos of REFUGE and Drishti-GS1 are in it, resized, so that no check finds that one photo is in two
    datasets: before a merge with those, leave them out here, ``--exclude '*REFUGE1*' '*DRISHTI-GS1*'``.

Terms: those of each of the 19 datasets; see the page.

Get it: https://www.kaggle.com/datasets/deathtrooper/multichannel-glaucoma-benchmark-dataset

Reference:
    Kiefer et al., A Catalog of Public Glaucoma Datasets for Machine Learning Applications, 7th International Conference
    on Information System and Data Mining, 2023.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from common.pixels import PHOTO_SUFFIXES, read_pixels
from common.tables import EYES
from data_lists._base import DISC_CUP, SHARES, DataListError, Dataset, Item, Tree, read_table, tell
from data_lists._checks import in_parallel, read

TABLE = "metadata - standardized.csv"
FOLDERS = {"fundus": "full-fundus", "fundus_od_seg": "optic-disc", "fundus_oc_seg": "optic-cup"}
CLASSES = {1: "glaucoma", 0: "no glaucoma", -1: "suspect"}
ABSENT = {"", "nan", "none", "n/a", "not visible"}


class _Files:
    """The files below the root, by the table's paths; remembers which paths it had to mend."""

    def __init__(self, tree: Tree) -> None:
        self.mended: list[tuple[str, str]] = []
        self.left_out: set[str] = set()
        self._tree = tree
        self._paths = {path for path in tree.files() if Path(path).suffix.lower() in PHOTO_SUFFIXES}
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in tree.files():
            if path in self._paths:
                self._by_name[PurePosixPath(path).name].append(path)

    def find(self, written: str, column: str) -> str | None:
        """Give the file that a path of the table means; None if there is none, or if it is to be left out.

        Raises:
            DataListError: several files could be meant.
        """
        path = PurePosixPath(written.replace("\\", "/").lstrip("/"))
        if path.as_posix() in self._paths:
            return self._unless_excluded(written, [path.as_posix()])
        folders = {FOLDERS[column], path.parent.name.lower()}
        same = [
            file
            for file in self._by_name.get(path.name, ())
            if folders & {part.lower() for part in PurePosixPath(file).parts[:-1]}
        ]
        found = self._unless_excluded(written, same)
        if found is not None:
            self.mended.append((written, found))
        return found

    def _unless_excluded(self, written: str, paths: list[str]) -> str | None:
        kept = [path for path in paths if not self._tree.is_excluded(path)]
        if len(kept) > 1:
            raise DataListError(
                f"{kept[0]} and {kept[1]} in {self._tree.root} could both be what {TABLE} calls {written!r}; keep one "
                f"of them or leave one out with --exclude '{kept[1]}'"
            )
        if paths and not kept:
            self.left_out.add(written)
        return kept[0] if kept else None


def find(tree: Tree, *, min_value: int = 128) -> list[Item]:
    """Find the photos that have a disc mask.

    Args:
        tree: the dataset's folder.
        min_value: a pixel of a mask that is a soft map, or was smoothed, counts from this grey value on.
    """
    if not 1 <= min_value <= 255:
        raise DataListError(f"--min_value is {min_value}; it has to be a grey value from 1 to 255")
    tables = [path for path in tree.files() if PurePosixPath(path).name.lower() == TABLE]
    if not tables:
        raise tree.nothing_found(f"{TABLE}, full-fundus/full-fundus/NAME.png, optic-disc/optic-disc/NAME.png ...")
    rows = read_table(tree.root / tables[0], "the table")
    for column in ("names", "types", *FOLDERS):
        if not rows or column not in rows[0]:
            raise DataListError(f"{tree.root / tables[0]} has no column {column!r}, or no rows; take the released file")
    files = _Files(tree)
    found: list[tuple[dict[str, str], dict[str, str]]] = []
    without_disc: list[str] = []
    without_file: list[str] = []
    without_cup_file: list[str] = []
    for row in rows:
        if row["fundus_od_seg"].lower() in ABSENT:
            without_disc.append(row["names"])
            continue
        image, disc = (files.find(row[column], column) for column in ("fundus", "fundus_od_seg"))
        if image is None or disc is None:
            missing = [row[key] for key, path in (("fundus", image), ("fundus_od_seg", disc)) if path is None]
            without_file += [f"{row['names']} ({path!r})" for path in missing[:1] if path not in files.left_out]
            continue
        item_files = {"image": image, "disc": disc}
        if row["fundus_oc_seg"].lower() not in ABSENT:
            cup = files.find(row["fundus_oc_seg"], "fundus_oc_seg")
            if cup is not None:
                item_files["cup"] = cup
            elif row["fundus_oc_seg"] not in files.left_out:
                without_cup_file.append(f"{row['names']} ({row['fundus_oc_seg']!r})")
        found.append((row, item_files))
    mended = [f"{written!r} to {path}" for written, path in files.mended]
    tell(f"paths in {TABLE} that lead to no file and were mended by the file name", mended)
    tell(f"rows of {len(rows)} left out, which name no disc mask", without_disc)
    tell("rows left out, of which the photo or the disc mask is not there", without_file)
    tell("rows with only the disc, of which the cup mask is not there", without_cup_file)
    return _items(tree, found, min_value)


def _items(tree: Tree, found: list[tuple[dict[str, str], dict[str, str]]], min_value: int) -> list[Item]:
    """Make the items, leaving out empty masks."""
    masks = [path for _, files in found for key, path in files.items() if key != "image"]
    kinds = dict(zip(masks, in_parallel(lambda path: _kind(tree.root / path), masks), strict=True))
    items = []
    empty_discs: list[str] = []
    empty_cups: list[str] = []
    for row, files in found:
        if kinds[files["disc"]] == "empty":
            empty_discs.append(files["disc"])
            continue
        if "cup" in files and kinds[files["cup"]] == "empty":
            empty_cups.append(files.pop("cup"))
        used = {kinds[path] for key, path in files.items() if key != "image"}
        if used == {"soft", "0/1"}:
            raise DataListError(
                f"of {' and '.join(path for key, path in files.items() if key != 'image')} in {tree.root} one is a "
                "binary mask with 0 and 1, the other a soft map; bring both to one form, or leave the cup mask out "
                "with --exclude"
            )
        soft = {"label_format": "softmaps", "min_value": min_value}
        eye = {"eye": EYES[row["eye"].lower()]} if row.get("eye", "").lower() in EYES else {}
        items.append(
            Item(
                files,
                patient=_patient(row),
                category=_category(row["types"]),
                values={**(soft if "soft" in used else {"label_format": "masks"}), **eye},
            )
        )
    tell("rows left out, of which the disc mask is empty", empty_discs)
    tell("rows with only the disc, of which the cup mask is empty", empty_cups)
    if not items:
        raise DataListError(f"{tree.root} has no row in {TABLE} with a photo and a disc mask")
    return items


def _kind(path: Path) -> str:
    """Say what a mask holds: ``empty``, ``0/1``, ``0/255`` or ``soft``."""
    values = set(np.unique(read(path, read_pixels)).tolist())
    if values == {0}:
        return "empty"
    return "0/1" if values <= {0, 1} else "0/255" if values <= {0, 255} else "soft"


def _patient(row: dict[str, str]) -> str:
    """Name the patient, with the source's name, since two sources may number their patients alike."""
    number = row.get("patient_id", "")
    if number.lower() in ABSENT:
        return row["names"]
    return f"{re.sub(r'-[0-9]+$', '', row['names'])}_{number.removesuffix('.0')}"


def _category(written: str) -> str | None:
    try:
        return CLASSES.get(int(float(written)))
    except ValueError:
        return None


DATASET = Dataset(
    name="smdg",
    description="SMDG-19: optic disc and cup in photos of 19 public glaucoma datasets.",
    licence="those of the 19 datasets; see the page on Kaggle",
    reference="Kiefer et al., 7th International Conference on Information System and Data Mining, 2023.",
    labels=DISC_CUP,
    find=find,
    guide=__doc__,
    masks={"disc": SHARES, "cup": SHARES},
)
