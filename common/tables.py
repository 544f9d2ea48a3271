"""Tables that a user gives: CSV files, and what one says of each photo (the eye, the patient, the size of a pixel)."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
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
    return [
        dict(zip_longest(columns, values[: len(columns)], fillvalue="")) for _, columns, values in _lines(path, what)
    ]


def read_rows(path: str | Path, what: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file that has to have certain columns, strictly: a value beyond the header is an error too.

    Args:
        path: the file.
        what: name of the table in an error.
        columns: the columns that it has to have, in lower case.

    Returns:
        The number of the line (1 for the header) and the row as of `read_table`, for each line that is not empty.

    Raises:
        SettingError: as of `read_table`, or a column or every row is missing, or a line has too many values.
    """
    rows = []
    for number, names, values in _lines(path, what):
        missing = [column for column in columns if column not in names]
        if missing:
            has = ", ".join(filter(None, names)) or "none"
            raise SettingError(f"{what} {path} has no column {missing[0]!r}; its columns are: {has}")
        if any(values[len(names) :]):
            raise SettingError(
                f"{what} {path} has {len(values)} values in line {number}, but {len(names)} columns: put a value that "
                "has a comma in it between quotation marks"
            )
        rows.append((number, dict(zip_longest(names, values[: len(names)], fillvalue=""))))
    if not rows:
        raise SettingError(f"{what} {path} has no rows below its header")
    return rows


def _lines(path: str | Path, what: str) -> list[tuple[int, list[str], list[str]]]:
    """Give number, column names and values of each line below the header that is not empty."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, [value.strip() for value in line]) for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingError(f"{what} {path} cannot be read ({error})") from error
    if not lines:
        raise SettingError(f"{what} {path} is empty")
    columns = [column.lower() for column in lines[0][1]]
    twice = [column for number, column in enumerate(columns) if column and column in columns[:number]]
    if twice:
        raise SettingError(f"{what} {path} has two columns {twice[0]!r}; keep one of them")
    return [(number, columns, values) for number, values in lines[1:] if any(values)]


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


def _number_of(text: str) -> float | None:
    if not text:
        return None
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


def _category_of(categories: Sequence[str]) -> Callable[[str], str | None]:
    by_name = {category.casefold(): category for category in categories}
    return lambda text: None if text.casefold() in _UNKNOWN else by_name[text.casefold()]


def _with_further(further: Mapping[str, Sequence[str] | None]) -> dict[str, tuple[Callable[[str], Any], str]]:
    """`COLUMNS` and further ones, by their names in lower case."""
    columns = dict(COLUMNS)
    for name, categories in further.items():
        if categories is None:
            columns[name.lower()] = (_number_of, "a number, or nothing")
        else:
            columns[name.lower()] = (_category_of(categories), f"{', '.join(categories)} or nothing")
    return columns


def read_photo_table(
    table_path: str | Path, names: Sequence[str], further: Mapping[str, Sequence[str] | None] | None = None
) -> dict[str, dict[str, Any]]:
    """Read what a CSV table says of photos: the column ``image``, and any of `COLUMNS` and of further columns.

    A row belongs to the photo whose path it gives, or, where there is no such photo, to the one that has this file
    name. Rows of other photos are allowed, so that one table serves for parts of a folder too.

    Args:
        table_path: the file.
        names: paths of the photos, relative to the input folder, with POSIX separators.
        further: further columns that it may have, by name: None for a number, or the texts that it may hold.

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
    known = _with_further(further or {})
    for column in columns:
        if column != "image" and column not in known:
            near = get_close_matches(column, known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"leave it out; known are {', '.join(known)}."
            raise SettingError(f"The table {table_path} has the unknown column {column!r}: {advice}")
    by_image: dict[str, dict[str, str]] = {}
    for row in rows:
        image = PurePath(row["image"]).as_posix()
        if image in by_image:
            raise SettingError(f"The table {table_path} has two rows with the image {row['image']!r}: keep one.")
        by_image[image] = row
    spelt = {name.lower(): name for name in further or {}}
    return {
        name: {spelt.get(column, column): value for column, value in read_cells(table_path, row, known).items()}
        for name, row in _assign(table_path, by_image, names).items()
    }


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


def read_cells(
    table_path: str | Path,
    row: Mapping[str, str],
    columns: Mapping[str, tuple[Callable[[str], Any], str]],
    name: str = "image",
) -> dict[str, Any]:
    """Read the cells of a row.

    Args:
        table_path: the table, for errors.
        row: column to text.
        columns: how a column's cell is read (None: not known), and what it has to be; a table may lack them.
        name: the column that says what the row is of, for errors.

    Returns:
        Column to value; what is not known is left out.

    Raises:
        SettingError: a cell is not what it has to be, or one coordinate of a landmark is given without the other.
    """
    values: dict[str, Any] = {}
    for column, (parse, expected) in columns.items():
        if column not in row:
            continue
        try:
            value = parse(row[column])
        except (ValueError, KeyError) as error:
            raise SettingError(
                f"The table {table_path} has {row[column]!r} in the column {column!r} of {row[name]}: give {expected}."
            ) from error
        if value is not None:
            values[column] = value
    for column in values:
        other = {"_x": column[:-2] + "_y", "_y": column[:-2] + "_x"}.get(column[-2:])
        if other in columns and other not in values:
            raise SettingError(
                f"The table {table_path} gives {column} of {row[name]} without {other}: give both, or leave both empty."
            )
    return values


def join_table(
    items: Sequence[Mapping[str, Any]], table_path: str | Path, columns: Sequence[str], done: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Add columns of a table of results, such as the biomarkers that another bundle measured, to items.

    A row belongs to the item whose ``name`` it has in its column ``image``, or else to the one whose path ends like
    it, or like whose path it ends: the table may be that of a folder further up or down, or give file names alone.

    Args:
        items: items with ``name``.
        table_path: the table; it has the column ``image``.
        columns: names of columns of numbers.
        done: names of items that an earlier run has done: their rows may be in the table, too, and it is then no error
            that it has no row of any item.

    Returns:
        The items with the columns as numbers; an item without a row, and an empty cell, have None.

    Raises:
        SettingError: the table cannot be read, lacks a column or has no row of any item, an item has several rows, the
            file name in a row is that of several items, or a cell is no number.
    """
    rows = read_table(table_path, "The table")
    missing = [column for column in ("image", *columns) if not rows or column.lower() not in rows[0]]
    if missing:
        raise SettingError(f"The table {table_path} has no column {missing[0]!r}, or no rows: give another table.")
    names = dict.fromkeys([*(item["name"] for item in items), *done])
    by_file: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_file[PurePosixPath(name).name].append(name)
    rows_of: dict[str, list[dict[str, str]]] = defaultdict(list)
    paths = [PurePath(row["image"]).as_posix() for row in rows]
    for path, row in zip(paths, rows, strict=True):
        if path in names:
            rows_of[path].append(row)
    others: dict[str, list[dict[str, str]]] = defaultdict(list)
    for path, row in zip(paths, rows, strict=True):
        owners = [name for name in by_file.get(PurePosixPath(path).name, []) if _ends_alike(name, path)]
        if path in names or all(owner in rows_of for owner in owners):
            continue
        if len(owners) > 1:
            raise SettingError(
                f"The table {table_path} has one row {path!r} for the photos {owners[0]} and {owners[1]}: give "
                "their paths in the column 'image'."
            )
        for owner in owners:
            others[owner].append(row)
    joined, found = [], 0
    for item in items:
        name = item["name"]
        own = rows_of.get(name) or others.get(name, [])
        if len(own) > 1:
            raise SettingError(f"The table {table_path} has {len(own)} rows that may be those of {name}: keep one.")
        found += len(own)
        values = {column: _number(table_path, own[0], column) if own else None for column in columns}
        joined.append({**item, **values})
    if items and not found and not done:
        raise SettingError(
            f"The table {table_path} has no row of any of the {len(items)} photos (column 'image': their paths or file "
            "names): give the table of the same photos."
        )
    return joined


def _ends_alike(one: str, other: str) -> bool:
    """Whether one path is the end of the other."""
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def with_biomarkers(
    items: Sequence[Mapping[str, Any]], table_path: str | Path | None, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """`join_table` for a training: a network that is to learn from biomarkers has to be given some.

    Args:
        items: items with ``name``.
        table_path: ``results.csv`` of a bundle that measured the biomarkers.
        columns: the biomarkers; without any, the items are given back as they are.

    Raises:
        SettingError: there is no table, or see `join_table`.
    """
    if not columns:
        return [dict(item) for item in items]
    if table_path is None:
        raise SettingError(
            "biomarkers_path is not set: run `disc_cup_segmentation` over the photos and give its results.csv, or set "
            "use_biomarkers to False."
        )
    return join_table(items, table_path, columns)


def _number(table_path: str | Path, row: Mapping[str, str], column: str) -> float | None:
    """Read a cell; None when it is empty."""
    cell = row[column.lower()]
    try:
        return _number_of(cell)
    except ValueError as error:
        raise SettingError(
            f"The table {table_path} has {cell!r} in the column {column!r} of {row['image']}: give a number."
        ) from error
