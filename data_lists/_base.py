"""What every dataset module uses: the description of a dataset, its items, and the search through its folders."""

from __future__ import annotations

import csv
import os
import re
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from common import tables
from common.errors import SettingError
from common.lesions import LESIONS
from common.pixels import PHOTO_SUFFIXES, read_pixels
from common.results import escaped

VESSELS: Mapping[str, str] = {"0": "background", "1": "vessel"}
"""The meaning of the values of a binary vessel mask, for `Dataset.labels`."""

DISC_CUP: Mapping[str, str] = {"0": "background", "1": "optic disc outside the cup (rim)", "2": "optic cup"}
"""The classes of every disc and cup dataset, for `Dataset.labels`; how its files hold them: ``label_format``."""

LESION_LABELS: Mapping[str, str] = {"0": "background", **{str(i): name for i, name in enumerate(LESIONS, start=1)}}
"""The lesions of every lesion dataset, for `Dataset.labels`; each has its own masks or regions."""

BINARY: frozenset[int] = frozenset()
"""The value rule of a mask with 0 and 1, or 0 and 255, for `Dataset.masks`."""

SHARES: frozenset[int] = frozenset(range(256))
"""The value rule of a soft map, in which a grey value is the share of experts who agree, for `Dataset.masks`."""


class DataListError(SettingError):
    """A dataset's folder or an option does not allow a correct list; the text names the file and what to do."""


class DataListWarning(UserWarning):
    """Something in a dataset's folder that a user should know, although a correct list can be made.

    Args:
        text: what, with some of the cases.
        cases: all of them, for the report beside the list: files, rows, or what was done to them.
    """

    def __init__(self, text: str, cases: Collection[str] = ()) -> None:
        super().__init__(text)
        self.cases = tuple(cases)


@dataclass(frozen=True)
class Item:
    """One entry of a data list.

    Args:
        files: paths relative to the root, with POSIX separators, by key: ``image``, and ``label``, ``fov`` and so on.
        patient: name of the patient; all images of one patient stay in one split.
        category: class for a balanced split and for the printed counts, such as a diagnosis; None if there is none. A
            tuple of labels where one item may have several; they stand in the list under ``label`` of ``values``.
        split: ``training``, ``validation`` or ``test`` where the release says it; None: divide it by the seed.
        values: further entries that are no paths, such as a grade or an age.
    """

    files: Mapping[str, str]
    patient: str
    category: str | tuple[str, ...] | None = None
    split: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """A public dataset: what is said about it in a list, and how its files are found and checked.

    Args:
        name: name on the command line and in the items.
        description: one sentence.
        licence: its terms of use.
        reference: the paper to cite.
        labels: meaning of each label value; or a function that gives it for the dataset's own options.
        find: ``find(tree, **options)`` gives the items. Its keyword-only parameters are the dataset's own options;
            their types, defaults and docstring make the command line.
        guide: the module's docstring, shown by ``--help``.
        masks: allowed grey values of each file key that is a mask as large as the image; `BINARY` for 0/1 or 0/255.
        read: reads one file into an array whose first two axes are height and width.
        same_patient: correlation (`data_lists._alike`) from which on two photos are of one patient, for a dataset with
            photos that stand there twice or second photos of an eye; None to compare photos by their hash alone.
    """

    name: str
    description: str
    licence: str
    reference: str
    labels: Mapping[str, str] | Callable[..., Mapping[str, str]]
    find: Callable[..., list[Item]]
    guide: str
    masks: Mapping[str, Collection[int]] = field(default_factory=lambda: {"label": BINARY, "fov": BINARY})
    read: Callable[[Path], NDArray[Any]] = read_pixels
    same_patient: float | None = None


@dataclass(frozen=True)
class Found:
    """The files of one folder whose names follow one template.

    Args:
        folder: folder relative to the root, empty for the root itself; ``...`` stands for folders below it.
        template: file name without its suffix, ``{key}`` standing for the part that differs.
        paths: path relative to the root by key.
        excluded: keys of the files that are to be left out.
    """

    folder: str
    template: str
    paths: Mapping[str, str]
    excluded: Collection[str]

    def expected(self, key: str) -> str:
        """Give the path that the file of a key should have, without its suffix."""
        return _join(self.folder, self.template.replace("{key}", key))


class Tree:
    """The files below a root, always in the same order, without those that are left out.

    Args:
        root: folder of the dataset.
        exclude: paths or shell patterns, relative to the root, of files to leave out.

    Raises:
        DataListError: the root is missing or is no folder.
    """

    def __init__(self, root: str | Path, exclude: Collection[str] = ()) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataListError(f"{self.root} is not a folder; give the folder that holds the dataset")
        self._unused = set(exclude)
        self._exclude = tuple(exclude)
        self._files: list[str] | None = None
        self._misnamed: set[str] = set()

    def has(self, folder: str) -> bool:
        """Say whether the root has this folder."""
        return (self.root / folder).is_dir()

    def find(
        self,
        folder: str,
        template: str,
        key: str,
        *,
        shared: bool = False,
        suffixes: Collection[str] = PHOTO_SUFFIXES,
        below: str | None = None,
    ) -> Found:
        """Find the files of one folder whose names follow a template.

        Args:
            folder: folder relative to the root, empty for the root itself. A missing folder has no files.
            template: file name without its suffix, ``{key}`` standing for the part that differs.
            key: regular expression of that part.
            shared: the folder also holds files of other kinds, so that other names are no reason for a warning.
            suffixes: accepted suffixes in lower case.
            below: search in the folders below instead, at any depth: in those whose path relative to the root fits this
                regular expression, in lower or upper case. None: only in the folder itself.

        Returns:
            The files in natural order (2 before 10).

        Raises:
            DataListError: two files have one key, or a file is still compressed.
        """
        before, after = template.split("{key}")
        pattern = re.compile(re.escape(before) + f"({key})" + re.escape(after))
        paths: dict[str, str] = {}
        excluded: set[str] = set()
        for relative in self._below(folder, below) if below is not None else self._paths(folder):
            path = Path(relative)
            unpacked = Path(path.stem) if path.suffix.lower() == ".gz" else path
            if unpacked.suffix.lower() not in suffixes:
                continue
            match = pattern.fullmatch(unpacked.stem)
            if match is None:
                if not shared:
                    warnings.warn(
                        f"{relative} is left out: its name is not like {template.replace('{key}', '...')}",
                        DataListWarning,
                        stacklevel=2,
                    )
                continue
            if self.is_excluded(relative):
                excluded.add(match[1])
                continue
            if unpacked is not path:
                raise DataListError(f"{self.root / relative} is compressed; unpack it first, for instance with gunzip")
            if match[1] in paths:
                raise DataListError(
                    f"{paths[match[1]]} and {relative} in {self.root} stand for the same thing; keep one of them or "
                    f"leave one out with --exclude '{relative}'"
                )
            paths[match[1]] = relative
        return Found(folder if below is None else _join(folder, "..."), template, paths, excluded)

    def files(self) -> list[str]:
        """Give the paths of all visible files below the root, at any depth, in natural order."""
        if self._files is None:
            found: list[str] = []
            seen: set[str] = set()
            for folder, folders, names in os.walk(self.root, followlinks=True):
                real = os.path.realpath(folder)
                folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
                if real in seen:
                    continue
                seen.add(real)
                above = Path(folder).relative_to(self.root)
                found += [(above / name).as_posix() for name in names if not name.startswith(".")]
            self._files = sorted(self._in_utf8(found), key=natural_order)
        return self._files

    def pair(self, images: Found, others: Found, what: str = "label") -> Mapping[str, str]:
        """Give each image its other file.

        Args:
            images: the images.
            others: the labels, or other files with the same keys.
            what: name of the other files in an error.

        Returns:
            The other file's path by key, for every image.

        Raises:
            DataListError: an image has none.
        """
        missing = [key for key in images.paths if key not in others.paths]
        if missing:
            more = f" ({len(missing) - 1} more images have none either)" if len(missing) > 1 else ""
            path = images.paths[missing[0]]
            raise DataListError(
                f"{path} in {self.root} has no {what}: a file {others.expected(missing[0])}.* is expected{more}; add "
                f"it or leave the image out with --exclude '{path}'"
            )
        for key, path in others.paths.items():
            if key not in images.paths and key not in images.excluded:
                warnings.warn(f"{path} is left out: it is a {what} without an image", DataListWarning, stacklevel=2)
        return {key: others.paths[key] for key in images.paths}

    def nothing_found(self, expected: str) -> DataListError:
        """Make the error for a root without the dataset's files.

        Args:
            expected: how a right root looks.
        """
        listing = ", ".join(self._names("")[:8]) or "nothing"
        return DataListError(
            f"{self.root} has no images in the expected layout ({expected}). The folder has: {listing}"
        )

    def check_exclude(self) -> None:
        """Refuse a path or pattern to leave out that fits no file of the dataset.

        Raises:
            DataListError: there is one.
        """
        if self._unused:
            raise DataListError(
                f"--exclude '{min(self._unused)}' fits no file of the dataset in {self.root}; paths are relative to it"
            )

    def is_excluded(self, relative: str) -> bool:
        """Say whether a path is to be left out, and remember that the pattern was of use."""
        fits = [pattern for pattern in self._exclude if fnmatchcase(relative, pattern)]
        self._unused.difference_update(fits)
        return bool(fits)

    def _names(self, folder: str) -> list[str]:
        """Give the visible names in a folder in natural order."""
        path = self.root / folder
        names = [entry.name for entry in path.iterdir()] if path.is_dir() else []
        visible = [_join(folder, name) for name in names if not name.startswith(".")]
        return sorted((PurePosixPath(name).name for name in self._in_utf8(visible)), key=natural_order)

    def _in_utf8(self, paths: Collection[str]) -> list[str]:
        """Give the paths that a list can name, and warn once of each of the others."""
        for path in paths:
            if escaped(path) != path and path not in self._misnamed and not self.is_excluded(path):
                self._misnamed.add(path)
                warnings.warn(
                    f"{escaped(path)} is left out: its name is not in UTF-8; rename it", DataListWarning, stacklevel=2
                )
        return [path for path in paths if escaped(path) == path]

    def _paths(self, folder: str) -> list[str]:
        """Give the path of each visible name in a folder."""
        return [_join(folder, name) for name in self._names(folder)]

    def _below(self, folder: str, pattern: str) -> list[str]:
        """Give the files below a folder whose own folder fits a pattern."""
        start = f"{folder}/" if folder else ""
        return [
            path
            for path in self.files()
            if path.startswith(start) and re.fullmatch(pattern, path.rpartition("/")[0], re.IGNORECASE)
        ]


def test_after(numbers: Mapping[str, int], train_first: int | None) -> dict[str, str | None]:
    """Divide numbered patients as papers do: the first ones for training, the others for testing.

    Args:
        numbers: number of the patient by key.
        train_first: the last number that is not in the test split; None to divide by the seed instead.

    Returns:
        ``test`` or None (still to be divided into training and validation) by key.

    Raises:
        DataListError: nothing would be left for training.
    """
    splits = {
        key: "test" if train_first is not None and number > train_first else None for key, number in numbers.items()
    }
    if train_first is not None and len(set(splits.values())) < 2:
        empty = "test" if None in splits.values() else "training"
        message = (
            f"--train_first {train_first} leaves nothing for {empty}; the numbers are {min(numbers.values())} to "
            f"{max(numbers.values())}"
        )
        if empty == "training":
            raise DataListError(message)
        # A part of the release may have only the patients that papers train on.
        warnings.warn(message, DataListWarning, stacklevel=2)
    return splits


def read_table(path: Path, what: str) -> list[dict[str, str]]:
    """Read a CSV file with a header (`common.tables.read_table`).

    Raises:
        DataListError: it cannot be read, has no header, or has two columns of one name.
    """
    try:
        return tables.read_table(path, what)
    except SettingError as error:
        raise DataListError(str(error)) from error


def read_rows(path: Path, what: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a CSV file that has to have certain columns (`common.tables.read_rows`).

    Raises:
        DataListError: it cannot be read, or a column, every row or the header is missing, or a line is too long.
    """
    try:
        return tables.read_rows(path, what, columns)
    except SettingError as error:
        raise DataListError(str(error)) from error


def read_patients(table: Path, images: Collection[str]) -> dict[str, str]:
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


def class_of(item: Item) -> str:
    """Name an item's class, or its labels, in a text."""
    return "+".join(item.category) if isinstance(item.category, tuple) else item.category or "no class"


def tell(what: str, cases: Sequence[str]) -> None:
    """Warn how many cases there are, with the first ones; all of them go into the report beside the list."""
    if cases:
        shown = ", ".join(cases[:3]) + (" ..." if len(cases) > 3 else "")
        warnings.warn(DataListWarning(f"{what}: {len(cases)} ({shown})", cases), stacklevel=3)


def natural_order(text: str) -> tuple[list[tuple[int, str]], str]:
    """Sort key that puts 2 before 10, the same on every system."""
    parts = re.findall(r"\d+|\D+", text)
    return [(int(part), "") if part.isdigit() else (-1, part.lower()) for part in parts], text


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
