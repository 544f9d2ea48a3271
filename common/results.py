"""The folder that a run of inference fills: masks, pictures, `results.csv`, `failures.csv` and `run.json`."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from common.errors import SettingError

RESULTS = "results.csv"
FAILURES = "failures.csv"
RUN = "run.json"
INPUT = "dataset_dir"
FAILED = " failed: "  # in the note of an examined photo, after the name of the bundle that failed on it
FAILURE_COLUMNS = ("image", "stage", "reason")
_FILE_COLUMNS = ("mask_", "probability_", "overlay", "figure", "labels", "profile", "saliency")


def _line(values: list[Any]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode("utf-8")


def _cell(value: Any) -> Any:
    """Numbers with six significant digits, NaN as an empty cell, everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def rounded(row: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a row as they come back from its table: with six significant digits, and None for NaN."""
    return {
        name: None if math.isnan(value) else float(_cell(value))
        for name, value in row.items()
        if isinstance(value, float)
    }


def _end_of_last_row(content: bytes) -> int:
    """Where the last whole row of a table ends: a line break inside quotes ends none."""
    end = position = quotes = 0
    for line in content.splitlines(keepends=True):
        position += len(line)
        quotes += line.count(b'"')
        if line.endswith(b"\n") and quotes % 2 == 0:
            end = position
    return end


def check_flag(name: str, value: Any) -> bool:
    """Give a setting that is true or false; the text 'false' would count as true.

    Args:
        name: id of the setting.
        value: its value.

    Raises:
        SettingError: the value is neither True nor False.
    """
    if not isinstance(value, bool):
        raise SettingError(f"{name} is {value!r}: give True or False.")
    return value


def escaped(name: str) -> str:
    """Give a name that can be written to a table: what is not UTF-8 in a file's name becomes an escape sequence."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _check_utf8(what: str, path: str) -> None:
    """Refuse a path that no table, record or message could name."""
    if escaped(path) != path:
        raise SettingError(f"{what} {escaped(path)} has a name that is not in UTF-8: rename it.")


def _resolved(source: str) -> str:
    """Give a path without links and relative to nothing; the address of a file in the web stays as it is."""
    url = urlparse(source)
    if url.scheme in ("http", "https"):
        return source
    return os.path.realpath(url2pathname(url.path) if url.scheme == "file" else source)


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a JSON file, with paths resolved."""
    values = {
        name: _resolved(str(value)) if name.endswith("_path") and isinstance(value, (str, Path)) else value
        for name, value in settings.items()
    }
    for name, value in values.items():
        _check_utf8(name, str(value))
    content: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return content


def _sync(folder: Path) -> None:
    """Flush the names of a folder's files to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ResultFolder:
    """Writes what a run finds, so that every finished image is on the disk and none is lost.

    A row is appended and flushed to the disk when its image's files are there. Nothing that an earlier run has left is
    touched before `start`, so that a run that is refused does no harm; then a line that was cut short when that run was
    killed is removed, and ``failures.csv`` begun anew, since every run tries the failed images again. ``run.json`` says
    with which settings and from which input the rows were made; it is written before the first file of a run, and a run
    with others does not add to them. No file is ever written outside the folder.

    Attributes:
        done: images that an earlier run has done, and this one.
        earlier_rows: number of rows that an earlier run has left, those that this run makes anew among them.

    Args:
        output_dir: the folder; it is made.
        overwrite: do every image again: rows of earlier runs are dropped when this run writes its first file.
        settings: what the results depend on, by the ids of the config; a value whose id ends with ``_path`` is
            compared as a resolved path. By default, settings are neither compared nor written.

    Raises:
        SettingError: the folder cannot be written to, its tables cannot be read, its rows were made with other
            settings, or a path is not in UTF-8.
    """

    def __init__(
        self, output_dir: str | Path, overwrite: bool = False, settings: Mapping[str, Any] | None = None
    ) -> None:
        check_flag("overwrite", overwrite)
        self.folder = Path(output_dir)
        _check_utf8("The output folder", str(self.folder))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise SettingError(
                f"The output folder {self.folder} cannot be written to ({error.strerror}): set output_dir to another."
            ) from error
        self.results = self.folder / RESULTS
        self.failures = self.folder / FAILURES
        self.run = self.folder / RUN
        self.columns: list[str] | None = None
        self.done: set[str] = set()
        self.outputs: dict[str, str] = {}
        self.skipped = self.written = self.failed = 0
        self.earlier_rows = 0
        self._started = self._begun = False
        self._repaired: bytes | None = None
        self._listed: list[tuple[str, str, str]] = []
        self._settings: dict[str, Any] = {}
        self._earlier: dict[str, Any] | None = None
        if self.results.exists() and not overwrite:
            self._read_earlier_rows()
        if self.earlier_rows:
            self._earlier = self._read_run()
        self._settings.update(self._earlier or {})
        if settings is not None:
            self._bind(_as_json(settings), {INPUT})

    def start(self) -> None:
        """Begin the run when all that could refuse it is checked: the tables are brought into order.

        Whatever writes a row or a file does it too; a run that may write neither has to ask for it.
        """
        if self._started:
            return
        self._started = True
        # In this order: what failed in an earlier run is known until its rows are gone.
        if self._repaired is not None:
            self._replace(self.results, self._repaired, durably=True)
            self._repaired = None
        self.failures.unlink(missing_ok=True)
        for failure in self._listed:
            self.add_failure(*failure)

    def _read_run(self) -> dict[str, Any] | None:
        try:
            content = json.loads(self.run.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise SettingError(
                f"The file {self.run} cannot be read ({error}): set output_dir to another folder, or overwrite."
            ) from error
        if not isinstance(content, dict):
            raise SettingError(
                f"The file {self.run} holds no settings: set output_dir to another folder, or overwrite."
            )
        return content

    def _bind(self, settings: dict[str, Any], unknown: set[str]) -> None:
        """Keep settings for `run.json`; those of earlier rows have to be the same, but for the unknown ones."""
        if self.earlier_rows and self._earlier is None:
            raise SettingError(
                f"The folder {self.folder} has {RESULTS} but no {RUN}, so nothing says how its rows were made: "
                "set output_dir to another folder, or overwrite."
            )
        earlier = self._earlier
        if earlier is not None:
            names = [name for name in {**earlier, **settings} if name not in unknown]
            different = [
                f"{name} was {self._shown(earlier, name)} and is now {self._shown(settings, name)}"
                for name in names
                if name not in earlier or name not in settings or earlier[name] != settings[name]
            ]
            if different:
                raise SettingError(
                    f"The results in {self.folder} are of a run with other settings ({'; '.join(different)}): "
                    "set output_dir to another folder, or overwrite."
                )
        self._settings.update(settings)

    @staticmethod
    def _shown(settings: Mapping[str, Any], name: str) -> str:
        return json.dumps(settings[name], ensure_ascii=False) if name in settings else "not set"

    def bind_input(self, folder: str | Path) -> None:
        """Say where the images come from: their names in the table are relative to it.

        Args:
            folder: the input folder.

        Raises:
            SettingError: the rows that are there are of images from another folder, or its name is not in UTF-8.
        """
        given = {INPUT: os.path.realpath(folder)}
        _check_utf8("The input folder", given[INPUT])
        if self._earlier is not None and INPUT in self._earlier:
            self._bind(given, set(self._earlier) - {INPUT})
        else:
            self._settings.update(given)

    def _begin(self) -> None:
        """Before the first file: drop a table without rows that count, and say in `run.json` what will be written."""
        if self._begun:
            return
        self.start()
        if not self.done:
            self.results.unlink(missing_ok=True)
            _sync(self.folder)
        if not self._settings:
            self.run.unlink(missing_ok=True)
        elif self._earlier != self._settings:
            self._write_run()
        self._begun = True

    def _write_run(self) -> None:
        content = json.dumps(self._settings, indent=4, ensure_ascii=False) + "\n"
        self._replace(self.run, content.encode("utf-8"), durably=True)

    def _read_earlier_rows(self) -> None:
        content = self.results.read_bytes()
        whole = content[: _end_of_last_row(content)]
        try:
            rows = list(csv.DictReader(io.StringIO(whole.decode("utf-8"), newline="")))
        except (UnicodeDecodeError, csv.Error) as error:
            raise SettingError(
                f"The table {self.results} cannot be read ({error}): set output_dir to another folder, or overwrite."
            ) from error
        header = whole.split(b"\n", 1)[0].decode("utf-8") if whole else ""
        self.columns = next(csv.reader([header])) if header else None
        if self.columns is not None and "image" not in self.columns:
            raise SettingError(
                f"The table {self.results} has no column 'image', so it is of no such run: set output_dir to another."
            )
        if len(whole) != len(content):
            self._repaired = whole
        there = [row for row in rows if self._files_are_there(row)]
        self.earlier_rows = len(there)
        kept = [row for row in there if self._counts(row)]
        for row in kept:
            self._remember(row)
        if len(kept) != len(rows):
            lines = [_line(list(self.columns or []))] + [
                _line([row[name] for name in self.columns or ()]) for row in kept
            ]
            self._repaired = b"".join(lines)
        if not kept:
            self.columns = None  # no rows to mix with

    def _counts(self, row: Mapping[str, str]) -> bool:
        """Whether a row whose files are there is of an image that is done."""
        return True

    def _remember(self, row: Mapping[str, Any]) -> None:
        """Keep that an image is done, and what the names of its files begin with."""
        image = str(row["image"])
        self.done.add(image)
        for column, value in row.items():
            if column.startswith(_FILE_COLUMNS) and value:
                ending = "_" + column.removeprefix("mask_")
                self.outputs[image] = os.path.splitext(str(value))[0].removesuffix(ending)
                break

    def _files_are_there(self, row: Mapping[str, str]) -> bool:
        if set(row) != set(self.columns or ()) or None in row.values():
            return False
        files = [value for name, value in row.items() if name.startswith(_FILE_COLUMNS) and value]
        return all((self.folder / name).is_file() for name in files)

    def path(self, name: str) -> Path:
        """Give the path of an output file and make its folder.

        Args:
            name: path relative to the output folder.

        Raises:
            SettingError: the path would lie outside the output folder, or has a part ``..``.
        """
        path = self.folder / name
        root = os.path.realpath(self.folder)
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise SettingError(f"The output {name} would be written outside {self.folder}: rename the input.")
        if ".." in PurePath(name).parts:
            raise SettingError(
                f"The output {name} has a part '..', so that it may be the same file as another: give the input by a "
                "path without '..'."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all.

        Args:
            name: path relative to the output folder.
            content: its bytes.

        Raises:
            SettingError: see `path`.
            OSError: the file cannot be written.
        """
        path = self.path(name)
        self._begin()
        self._replace(path, content)

    @staticmethod
    def _replace(path: Path, content: bytes, durably: bool = False) -> None:
        # A short name, since the file's own may be as long as the file system allows.
        temporary = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}.part")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                if durably:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        if durably:
            _sync(path.parent)

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Append one image's row to ``results.csv`` and flush it to the disk.

        Args:
            row: ``image`` and the other columns, in their order.

        Raises:
            SettingError: the table that is there has other columns.
        """
        names = list(row)
        self._begin()
        if self.columns is None:
            self._append(self.results, _line(names))
            self.columns = names
        elif names != self.columns:
            different = sorted(set(names) ^ set(self.columns)) or names
            raise SettingError(
                f"The table {self.results} is of a run with other settings (columns {', '.join(different)}): "
                "set output_dir to another folder, or overwrite."
            )
        self._append(self.results, _line([_cell(value) for value in row.values()]))
        self._remember(row)
        self.written += 1

    def list_failure(self, image: str, stage: str, reason: str) -> None:
        """Keep, until `start`, that an image cannot be used: it was found while what is to be done was still checked.

        Args:
            image: as of `add_failure`, and so are the others.
            stage: ``list`` or ``read``.
            reason: why, in words.
        """
        self._listed.append((image, stage, reason))

    def add_failure(self, image: str, stage: str, reason: str) -> None:
        """Append one image that could not be used to ``failures.csv`` and flush it to the disk.

        Args:
            image: path relative to the input folder.
            stage: ``list``, ``read``, ``preprocess``, ``network``, ``postprocess`` or ``write``.
            reason: why, in words.
        """
        self.start()
        if not self.failures.exists():
            self._append(self.failures, _line(list(FAILURE_COLUMNS)))
        self._append(self.failures, _line([image, stage, " ".join(reason.split())]))
        self.failed += 1

    @staticmethod
    def _append(path: Path, line: bytes) -> None:
        with path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def summary(self) -> str:
        """One sentence on what was done, skipped and failed, and where to look."""
        text = (
            f"{self.written} done, {self.skipped} skipped (done before), {self.failed} failed; results: {self.results}"
        )
        return text + (f"; failures: {self.failures}" if self.failed else "")
