"""Tables that a user gives: CSV files, and what one says of each photo (the eye, the patient, the size of a pixel)."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from common.errors import SettingError

EYES: Mapping[str, str] = {
    "od": "OD", "r": "OD", "re": "OD", "right": "OD", "os": "OS", "l": "OS", "le": "OS", "left": "OS"
}  # fmt: skip
"""The eye of an item, right OD or left OS, by what tables write for it in lower case."""
_UNKNOWN = ("", "unknown")


def read_table(path: str | Path, what: str) -> list[dict[str, str]]:
    """Read a CSV file with a header.

    Args:
        path: the file.
        what: name of the table in an error.

    Returns:
        A row for each line, by column name in lower case; spaces around names and values are taken away.

    Raises:
        SettingError: it cannot be read, has no header, or has two columns of one name.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingError(f"{what} {path} cannot be read ({error})") from error
    if not lines:
        raise SettingError(f"{what} {path} is empty")
    columns = [column.strip().lower() for column in lines[0]]
    twice = [column for number, column in enumerate(columns) if column and column in columns[:number]]
    if twice:
        raise SettingError(f"{what} {path} has two columns {twice[0]!r}; keep one of them")
    return [
        dict(zip_longest(columns, (value.strip() for value in line[: len(columns)]), fillvalue=""))
        for line in lines[1:]
        if any(value.strip() for value in line)
    ]


def _eye(text: str) -> str | None:
    return None if text.lower() in _UNKNOWN else EYES[text.lower()]


def _patient(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _pixel_size(text: str) -> float:
    size = float(text)
    if not 0 < size < math.inf:
        raise ValueError
    return size


def _coordinate(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


COLUMNS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "eye": (_eye, "OD, OS, right, left or unknown"),
    "patient": (_patient, "the patient's name or number"),
    "pixel_size": (_pixel_size, "the micrometres of one pixel"),
    **{
        f"{landmark}_{axis}": (_coordinate, f"the {what} of the {landmark}'s centre in pixels, counted from 0")
        for landmark in ("fovea", "disc")
        for axis, what in (("x", "column"), ("y", "row"))
    },
}
"""What a table may say of a photo: how a cell is read (None: not known), and what it has to be."""


def read_photo_table(table_path: str | Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read what a CSV table says of photos: the column ``image`` and any of `COLUMNS`.

    A row belongs to the photo whose path it gives, or, where there is no such photo, to the one that has this file
    name. Rows of other photos are allowed, so that one table serves for parts of a folder too.

    Args:
        table_path: the file.
        names: paths of the photos, relative to the input folder, with POSIX separators.

    Returns:
        For each photo, column name to value; what is not known is left out.

    Raises:
        SettingError: the table cannot be read, lacks the column ``image`` or has one that is not known, has two rows of
            one photo, or none of a photo, or has a value that is none of its column.
    """
    rows = read_table(table_path, "The table")
    columns = [column for column in (rows[0] if rows else ()) if column]
    if "image" not in columns:
        raise SettingError(
            f"The table {table_path} has no column 'image', or no rows: give the photos' paths, and separate the "
            "columns by commas."
        )
    for column in columns:
        if column != "image" and column not in COLUMNS:
            near = get_close_matches(column, COLUMNS, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"leave it out; known are {', '.join(COLUMNS)}."
            raise SettingError(f"The table {table_path} has the unknown column {column!r}: {advice}")
    by_image: dict[str, dict[str, str]] = {}
    for row in rows:
        image = PurePath(row["image"]).as_posix()
        if image in by_image:
            raise SettingError(f"The table {table_path} has two rows with the image {row['image']!r}: keep one.")
        by_image[image] = row
    return {name: _values(table_path, row) for name, row in _assign(table_path, by_image, names).items()}


def _assign(
    table_path: str | Path, by_image: Mapping[str, dict[str, str]], names: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Give each photo its row."""
    found = {name: by_image[name] for name in names if name in by_image}
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if name not in found:
            by_file[PurePosixPath(name).name].append(name)
    for file, sharing in by_file.items():
        if file not in by_image or file in found:
            raise SettingError(
                f"The table {table_path} has no row of the photo {sharing[0]}: add one (column 'image': its path "
                "relative to dataset_dir, or its file name)."
            )
        if len(sharing) > 1:
            raise SettingError(
                f"The table {table_path} has one row {file!r} for the photos {sharing[0]} and {sharing[1]}: give their "
                "paths relative to dataset_dir in the column 'image'."
            )
        found[sharing[0]] = by_image[file]
    return found


def _values(table_path: str | Path, row: Mapping[str, str]) -> dict[str, Any]:
    """Read the cells of a row."""
    values = {}
    for column, (parse, expected) in COLUMNS.items():
        if column not in row:
            continue
        try:
            value = parse(row[column])
        except (ValueError, KeyError) as error:
            raise SettingError(
                f"The table {table_path} has {row[column]!r} in the column {column!r} of {row['image']}: give "
                f"{expected}."
            ) from error
        if value is not None:
            values[column] = value
    return values
