"""ODIR-5K: both eyes of patients with any of eight labels, with age, sex and the doctors' keywords.

Features:
    photos of both eyes of 3500 patients (7000 photos; Kaggle has 6392 of them, cropped to 512 x 512 pixels). Each
    patient has flags N (normal), D (diabetes), G (glaucoma), C (cataract), A (age-related macular degeneration), H
    (hypertension), M (myopia) and O (other findings), each eye has diagnostic keywords.

Layout:
    as on Kaggle, ``full_df.csv`` and ``preprocessed_images/0_left.jpg``; or the original table, with the columns
    ``ID``, ``Patient Age``, ``Patient Sex``, ``Left-Fundus``, ``Right-Fundus``, ``Left-Diagnostic Keywords``,
    ``Right-Diagnostic Keywords`` and ``N`` to ``O``, saved as CSV in UTF-8 (the release has an Excel file), anywhere
    below the root, with its folder of photos. Where several folders have photos of the table's names, the one with
    most of them is taken, ``preprocessed_images`` where two have as many; or the one named by ``--images``.

Labels:
    ``patient_label`` are the patient's flags. ``label`` is what the eye's own keywords say, one or more of the eight: N
    for "normal fundus", D for diabetic or (non-)proliferative retinopathy, G for glaucoma, C for cataract, A for
    age-related macular degeneration, H for hypertensive retinopathy, M for pathological myopia, myopic retinopathy or
    maculopathy, also where it is suspected, and O for every other finding. Words about the photo ("lens dust", "low
    image quality", "image offset", "optic disk photographically invisible", "anterior segment image", "no fundus
    image") are no finding. A photo with no other words has Kaggle's label where there is one, else the flags that the
    other eye's keywords do not account for, and is left out where there are none: the flags are about the other eye.
    The union of both eyes' labels has to be the patient's flags, N only where both eyes are normal, and Kaggle's
    ``labels`` has to be one of the eye's; where this is not so, the keywords are taken, and the report beside the list
    names the row.

    Photos that stand there twice, under two patients, though not with the same bytes, are kept in one split.

    An age below 5 or above 110 is an artefact and becomes null.

Official split:
    none; the labels of the challenge's own test photos were not released.

Terms: those of the challenge; for research. Read them on the page.

Get it: https://www.kaggle.com/datasets/andrewmvd/ocular-disease-recognition-odir5k; originally
    https://odir2019.grand-challenge.org

Reference:
    Peking University International Competition on Ocular Disease Intelligent Recognition (ODIR-2019).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from common.pixels import PHOTO_SUFFIXES
from data_lists._alike import SAME_PHOTO
from data_lists._base import DataListError, Dataset, Item, Tree, read_rows, tell

TABLE = "full_df.csv"
FOLDER = "preprocessed_images"
LABELS: Mapping[str, str] = {
    "N": "normal fundus",
    "D": "diabetic retinopathy",
    "G": "glaucoma",
    "C": "cataract",
    "A": "age-related macular degeneration",
    "H": "hypertensive retinopathy",
    "M": "pathological myopia",
    "O": "other findings",
}
EYES: Mapping[str, tuple[str, str]] = {"left": ("OS", "right"), "right": ("OD", "left")}
"""The eye's name in a list, and the other eye, by the eye's name in the table."""
COLUMNS = (
    "id", "patient age", "patient sex", "left-fundus", "right-fundus",
    "left-diagnostic keywords", "right-diagnostic keywords", *map(str.lower, LABELS),
)  # fmt: skip
AGES = (5, 110)
_PHOTO_WORDS = {
    "lens dust",
    "optic disk photographically invisible",
    "optic disc photographically invisible",
    "low image quality",
    "image offset",
    "anterior segment image",
    "no fundus image",
}
_RULES = (
    ("N", r"normal fundus"),
    ("H", r".*\bhypertensive retinopathy"),
    ("D", r".*\b(diabetic|(non ?-?)?proliferative) retinopathy"),
    ("G", r".*\bglaucoma"),
    ("C", r".*\bcataract"),
    ("A", r".*\bage-related macular degeneration"),
    ("M", r".*\b(pathological myopia|(myopia|myopic) (retinopathy|maculopathy))"),
)


def eye_labels(keywords: str) -> list[str]:
    """Give the labels that an eye's keywords stand for, in the order of `LABELS`.

    Args:
        keywords: diagnostic keywords with commas, of either width, between them.

    Returns:
        The labels; none where the keywords say nothing or speak of the photo alone. N only stands alone.
    """
    words = [" ".join(word.lower().split()) for word in re.split("[,\uff0c]", keywords)]
    found = {
        next((label for label, rule in _RULES if re.fullmatch(rule, word)), "O")
        for word in words
        if word and word not in _PHOTO_WORDS
    }
    return [label for label in LABELS if label in found and (label != "N" or found == {"N"})]


@dataclass(frozen=True)
class _Patient:
    """What the table says of a patient: facts for the list, flags, and each eye's keywords (``left``, ``right``)."""

    values: Mapping[str, Any]
    flags: list[str]
    keywords: Mapping[str, str]

    def label(self, eye: str, given: str | None) -> list[str]:
        """Give an eye's labels; none if they cannot be told.

        Args:
            eye: ``left`` or ``right``.
            given: Kaggle's label of it, for an eye of which no finding is named.
        """
        own = eye_labels(self.keywords[eye])
        if own or given:
            return own or [given or ""]
        others = eye_labels(self.keywords[EYES[eye][1]])
        return [flag for flag in self.flags if flag not in others] if others or self.flags == ["N"] else []

    def contradiction(self) -> str | None:
        """Say how the flags differ from the keywords, if they do."""
        eyes = [eye_labels(keywords) for keywords in self.keywords.values()]
        union = {label for labels in eyes for label in labels}
        union -= {"N"} if union != {"N"} else set()
        # Of an eye without a finding the flags may say more.
        if union == set(self.flags) or (not all(eyes) and union - {"N"} <= set(self.flags)):
            return None
        return f"keywords {'+'.join(sorted(union)) or 'none'}, flags {'+'.join(sorted(self.flags)) or 'none'}"


def find(tree: Tree, *, images: str | None = None, table: str | None = None) -> list[Item]:
    """Find the photos of the table's rows.

    Args:
        tree: the dataset's folder.
        images: folder of the photos, relative to the root, where there are several with the same names.
        table: the CSV file, relative to the root, where it is not the only one with the columns of ODIR.
    """
    table = _find_table(tree, table)
    rows = read_rows(tree.root / table, "the table", COLUMNS)
    patients = _patients(tree.root / table, rows)
    photos = _photos(tree.root / table, rows)
    folder, paths = _find_photos(tree, photos, images)
    items: list[Item] = []
    missing: list[str] = []
    unclear: list[str] = []
    contradicting: list[str] = []
    for name, (eye, line, row) in photos.items():
        if name not in paths:
            missing.append(f"{name} (line {line})")
            continue
        if tree.is_excluded(paths[name]):
            continue
        patient, given = patients[row["id"]], _given(row)
        label = patient.label(eye, given)
        if not label:
            unclear.append(f"{name} (line {line}, {patient.keywords[eye]!r})")
            continue
        if given and given not in label:
            contradicting.append(f"{name} (line {line}, {given} but {patient.keywords[eye]!r})")
        values = {
            "eye": EYES[eye][0],
            **patient.values,
            "label": label,
            "patient_label": patient.flags,
            "keywords": patient.keywords[eye],
        }
        items.append(Item({"image": paths[name]}, row["id"], category=tuple(label), values=values))
    tell(f"photos of {table} left out, which are not in the folder {folder!r}", missing)
    tell(f"photos in {folder} left out, which no row of {table} names", sorted(paths.keys() - photos.keys()))
    tell("photos left out, of which neither the keywords nor the flags tell a label", unclear)
    tell("photos with a label that contradicts the keywords, which were taken", contradicting)
    differing = {name: patient.contradiction() for name, patient in patients.items()}
    tell(
        "patients with flags that contradict the keywords, which were taken",
        [f"patient {name}: {text}" for name, text in differing.items() if text],
    )
    if not items:
        raise DataListError(f"{tree.root} has no photo in the folder {folder!r} with a label in {table}")
    return items


def _find_table(tree: Tree, given: str | None) -> str:
    """Give the path of the table, relative to the root.

    Raises:
        DataListError: there is none, or several could be meant.
    """
    if given is not None:
        if given not in tree.files():
            raise DataListError(f"--table {given} is no file in {tree.root}; give a path relative to it")
        return given
    tables = [path for path in tree.files() if path.lower().endswith(".csv")]
    kaggle = [path for path in tables if PurePosixPath(path).name.lower() == TABLE]
    found = kaggle or [path for path in tables if _is_odir(tree.root / path)]
    if not found:
        raise tree.nothing_found(
            f"{TABLE}, {FOLDER}/0_left.jpg ...; or the annotations of the release, saved as CSV in UTF-8 with the "
            "columns ID, Patient Age ... N, D ... O, and its folder of photos"
        )
    if len(found) > 1:
        raise DataListError(f"{found[0]} and {found[1]} in {tree.root} could both be the table; name one with --table")
    return found[0]


def _is_odir(path: Path) -> bool:
    """Say whether a file starts with a header of ODIR; one that cannot be read does not."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline(10_000).lower()
    except (OSError, UnicodeDecodeError):
        return False
    return all(column in header for column in ("id", "left-fundus", "right-fundus"))


def _find_photos(tree: Tree, names: Collection[str], given: str | None) -> tuple[str, dict[str, str]]:
    """Give the folder of the photos, and the path of every photo in it by file name.

    Raises:
        DataListError: the given folder is not there, or no folder has a photo of the table.
    """
    folders: dict[str, dict[str, str]] = defaultdict(dict)
    for path in tree.files():
        if PurePosixPath(path).suffix.lower() in PHOTO_SUFFIXES:
            folder, _, name = path.rpartition("/")
            folders[folder][name] = path
    if given is not None:
        given = given.strip("/")
        if not folders.get(given):
            raise DataListError(f"--images {given} is no folder with photos in {tree.root}; give a path relative to it")
        return given, folders[given]

    def fit(folder: str) -> tuple[int, bool]:
        return len(folders[folder].keys() & set(names)), PurePosixPath(folder).name == FOLDER

    best = max(folders, key=fit, default="")
    if not fit(best)[0]:
        raise DataListError(f"no folder in {tree.root} has a photo that the table names, such as {next(iter(names))}")
    return best, folders[best]


def _photos(table: Path, rows: Sequence[tuple[int, dict[str, str]]]) -> dict[str, tuple[str, int, dict[str, str]]]:
    """Give eye, line and row of each photo: of Kaggle's table one a row (``filename``), else both eyes' photos.

    Raises:
        DataListError: a photo stands in two rows, has no name, or is of neither eye of its row, or a label is wrong.
    """
    photos: dict[str, tuple[str, int, dict[str, str]]] = {}
    for line, row in rows:
        eyes = {row[f"{eye}-fundus"]: eye for eye in EYES}
        names = [row["filename"]] if "filename" in row else list(eyes)
        for name in names:
            if not name or name not in eyes or len(eyes) < len(EYES):
                raise DataListError(
                    f"{table}, line {line}: the photos are {' and '.join(map(repr, eyes))}, and 'filename' is "
                    f"{row.get('filename')!r}; Left-Fundus and Right-Fundus have to name two, and filename one of them"
                )
            if name in photos:
                raise DataListError(f"{table}, lines {photos[name][1]} and {line} are both of {name}; remove one")
            if _given(row) not in (None, *LABELS):
                raise DataListError(
                    f"{table}, line {line}: the column 'labels' has {row['labels']!r}; it has to be one of the eight "
                    f"in brackets, such as ['{next(iter(LABELS))}']"
                )
            photos[name] = (eyes[name], line, row)
    return photos


def _patients(table: Path, rows: Sequence[tuple[int, dict[str, str]]]) -> dict[str, _Patient]:
    """Read what the rows say of the patients.

    Raises:
        DataListError: a value is wrong, or two rows of a patient differ.
    """
    first: dict[str, tuple[int, dict[str, str]]] = {}
    patients: dict[str, _Patient] = {}
    odd_ages: list[str] = []
    for line, row in rows:
        first_line, first_row = first.setdefault(row["id"], (line, row))
        for column in COLUMNS:
            if row[column] != first_row[column]:
                raise DataListError(
                    f"{table}, lines {first_line} and {line} are both of patient {row['id']}, but differ in the column "
                    f"{column!r} ({first_row[column]!r} and {row[column]!r}); mend one of them"
                )
        if row["id"] not in patients:
            patients[row["id"]] = _patient(f"{table}, line {line}", row)
            if row["patient age"] and patients[row["id"]].values["age"] is None:
                odd_ages.append(f"patient {row['id']}: {row['patient age']}")
    tell(f"ages that are not from {AGES[0]} to {AGES[1]} years, taken as not known", odd_ages)
    return patients


def _patient(where: str, row: Mapping[str, str]) -> _Patient:
    def wrong(column: str, expected: str) -> DataListError:
        return DataListError(f"{where}: the column {column!r} has {row[column]!r}; it has to be {expected}")

    if not row["id"]:
        raise wrong("id", "the patient's number")
    for column in map(str.lower, LABELS):
        if row[column] not in ("0", "1"):
            raise wrong(column, "0 or 1")
    try:
        age = float(row["patient age"] or "nan")
    except ValueError as error:
        raise wrong("patient age", "a number of years, or empty") from error
    if row["patient sex"].lower() not in ("male", "female", ""):
        raise wrong("patient sex", "Male, Female or empty")
    values = {"age": age if AGES[0] <= age <= AGES[1] else None, "sex": row["patient sex"].lower() or None}
    flags = [label for label in LABELS if row[label.lower()] == "1"]
    return _Patient(values, flags, {eye: row[f"{eye}-diagnostic keywords"] for eye in EYES})


def _given(row: Mapping[str, str]) -> str | None:
    """Give Kaggle's label of a row's photo, written ``['N']``; None where the table has none, or rows of both eyes."""
    return row.get("labels", "").strip("[]'\" ") or None if "filename" in row else None


DATASET = Dataset(
    name="odir5k",
    description="ODIR-5K: eight labels of both eyes of patients, with age, sex and diagnostic keywords.",
    licence="that of the ODIR-2019 challenge; for research",
    reference="Peking University International Competition on Ocular Disease Intelligent Recognition (ODIR-2019).",
    labels=LABELS,
    find=find,
    guide=__doc__,
    masks={},
    same_patient=SAME_PHOTO,
)
