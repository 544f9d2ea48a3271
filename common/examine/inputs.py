"""Finds the photos and B-scans to examine: a file, a folder, a CSV table, or several of them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

from common.data import add_what_the_name_says, list_photos, name_items, usable_names
from common.errors import SettingError, UnreadableImageError
from common.examine.modality import modality_of
from common.examine.table import FUNDUS, OCT, SCALES
from common.pages import TIFF_SUFFIXES, tiff_pages
from common.pixels import read_pixels
from common.results import ResultFolder
from common.scans import SCAN_SUFFIXES, VOLUME_SUFFIX, split_address
from common.tables import COLUMNS as PHOTO_COLUMNS
from common.tables import read_cells, read_table

KIND = "photo or B-scan"
SUFFIXES = SCAN_SUFFIXES
_TABLE_SUFFIX = ".csv"
_PATH = "path"


def _age(text: str) -> float | None:
    if not text:
        return None
    age = float(text)
    if not 0 <= age < math.inf:
        raise ValueError
    return age


def _one_of(words: Mapping[str, str]) -> Any:
    def parse(text: str) -> str | None:
        return words[text.lower()] if text else None

    return parse


def _if_given(parse: Any) -> Any:
    return lambda text: parse(text) if text else None


_SEXES = {"male": "male", "m": "male", "female": "female", "f": "female"}
COLUMNS: Mapping[str, tuple[Any, str]] = {
    **{name: (_if_given(parse), expected) for name, (parse, expected) in PHOTO_COLUMNS.items()},
    "age": (_age, "years"),
    "sex": (_one_of(_SEXES), "male, female, m, f, or nothing"),
    **{
        name: (_if_given(PHOTO_COLUMNS["pixel_size"][0]), f"the micrometres of one {what} of a B-scan")
        for name, what in zip(SCALES[OCT], ("row", "column"), strict=True)
    },
    "modality": (_one_of({FUNDUS: FUNDUS, OCT: OCT}), "fundus, oct, or nothing"),
}
"""What a table may say of a photo beside its path: how a cell is read (None: not known), and what it has to be."""


def list_inputs(inputs: str | Path | Sequence[str | Path], results: ResultFolder) -> list[dict[str, Any]]:
    """List what is to be examined and is not done yet.

    A folder is searched with its sub-folders. A CSV table has the column ``path`` (relative to the table's folder, or
    absolute) and any of `COLUMNS`; a file that it names and that is not there is recorded as a failure.
    Each B-scan of a ``.mat`` file is an item of its own, and each page of a TIFF file of several whose first page is a
    B-scan. Where no table says so, ``patient`` and ``eye`` are those that the file's name says (``12_left.jpg``).

    Args:
        inputs: a photo or B-scan, a folder, a CSV table, or a list of them.
        results: the folder of the results.

    Returns:
        Items as of `common.data.list_photos`, with ``volume`` and what the table says.

    Raises:
        SettingError: there is nothing to examine, or the table is wrong.
    """
    given = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(path) for path in inputs]
    if not given:
        raise SettingError("There is no input: give a photo, a folder, or a CSV table.")
    if len(given) == 1 and given[0].suffix.lower() != _TABLE_SUFFIX:
        items = list_photos(given[0], results, suffixes=SUFFIXES, kind=KIND, is_volume=_is_volume)
    else:
        items = _list_files(given, results)
    for item in items:
        add_what_the_name_says(item)
        file, frame = split_address(item["name"])
        item["volume"] = (file if frame is not None else file.parent).as_posix()
    return items


def _list_files(given: Sequence[Path], results: ResultFolder) -> list[dict[str, Any]]:
    """List the files that tables name, and others."""
    known: dict[Path, dict[str, Any]] = {}
    for path in given:
        rows = _read_inputs_table(path) if path.suffix.lower() == _TABLE_SUFFIX else {_place(path): {}}
        for file, values in rows.items():
            if file.is_dir():
                raise SettingError(f"The input {file} is a folder: give it alone, or give files.")
            if file in known:
                raise SettingError(f"The input {file} is given twice: give it once.")
            known[file] = values
    there = [file for file in known if file.is_file()]
    if not there:
        raise SettingError(f"None of the inputs exists, the first of which is {next(iter(known))}: give other paths.")
    folder = Path(os.path.commonpath([file.parent for file in known]))
    names = {file: file.relative_to(folder).as_posix() for file in known}
    failures = {names[file]: "does not exist" for file in known if file not in there}
    usable, unusable = usable_names([names[file] for file in there], SUFFIXES, KIND)
    failures |= unusable
    by_name = {names[file]: values for file, values in known.items()}
    return name_items(folder, usable, results, by_name, failures, _is_volume)


def _place(path: Path) -> Path:
    """Give a path by which a file is known, whatever way leads to it: names of results have no part ``..``."""
    return Path(os.path.abspath(path))


def _is_volume(path: Path, known: Mapping[str, Any]) -> bool:
    """Tell whether each picture of a file is an input of its own: of OCT they are; of a photo the first page counts."""
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix == VOLUME_SUFFIX
    if known.get("modality"):
        return bool(known["modality"] == OCT)
    first = 1
    try:
        pages = tiff_pages(path)
        if pages.count == 1:
            return False
        first = pages.pictures[0]
    except UnreadableImageError:
        pass  # its first page may still be that of a photo
    try:
        return modality_of(read_pixels(path, first)) == OCT
    except UnreadableImageError:
        return False  # its failure is recorded when it is to be examined


def _read_inputs_table(table: Path) -> dict[Path, dict[str, Any]]:
    """Read a CSV table: each path with what is known of it."""
    rows = read_table(table, "The table")
    columns = [column for column in (rows[0] if rows else ()) if column]
    if _PATH not in columns:
        raise SettingError(
            f"The table {table} has no column '{_PATH}', or no rows: give the paths of the photos in it."
        )
    for column in columns:
        if column != _PATH and column not in COLUMNS:
            near = get_close_matches(column, COLUMNS, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"leave it out; known are {', '.join(COLUMNS)}."
            raise SettingError(f"The table {table} has the unknown column {column!r}: {advice}")
    known: dict[Path, dict[str, Any]] = {}
    for row in rows:
        if not row[_PATH]:
            raise SettingError(f"The table {table} has a row without a 'path': fill it in.")
        file = _place(table.parent / PurePosixPath(row[_PATH]))
        if file in known:
            raise SettingError(f"The table {table} has two rows with the path {row[_PATH]!r}: keep one.")
        known[file] = read_cells(table, row, COLUMNS, _PATH)
    return known
