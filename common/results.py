"""The folder that a run of inference fills: masks, pictures, `results.csv` and `failures.csv`."""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.errors import SettingError

RESULTS = "results.csv"
FAILURES = "failures.csv"
FAILURE_COLUMNS = ("image", "stage", "reason")
_FILE_COLUMNS = ("mask_", "probability_", "overlay", "labels")


def _line(values: list[Any]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(values)
    return buffer.getvalue().encode("utf-8")


def _cell(value: Any) -> Any:
    """Numbers with six significant digits, NaN as an empty cell, everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.6g}"


def _end_of_last_row(content: bytes) -> int:
    """Where the last whole row of a table ends: a line break inside quotes ends none."""
    end = position = quotes = 0
    for line in content.splitlines(keepends=True):
        position += len(line)
        quotes += line.count(b'"')
        if line.endswith(b"\n") and quotes % 2 == 0:
            end = position
    return end


class ResultFolder:
    """Writes what a run finds, so that every finished image is on the disk and none is lost.

    A row is appended and flushed to the disk when its image's files are there; a line that was cut short when an
    earlier run was killed is removed. ``failures.csv`` is begun anew by every run, since a run tries the failed
    images again. No file is ever written outside the folder.

    Args:
        output_dir: the folder; it is made.
        overwrite: do every image again: rows of earlier runs are dropped.

    Raises:
        SettingError: the folder cannot be written to, or its table cannot be read.
    """

    def __init__(self, output_dir: str | Path, overwrite: bool = False) -> None:
        self.folder = Path(output_dir)
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
        if overwrite:
            self.results.unlink(missing_ok=True)
        self.failures.unlink(missing_ok=True)
        self.columns: list[str] | None = None
        self.done: set[str] = set()
        self.skipped = self.written = self.failed = 0
        if self.results.exists():
            self._read_earlier_rows()

    def _read_earlier_rows(self) -> None:
        content = self.results.read_bytes()
        whole = content[: _end_of_last_row(content)]
        if len(whole) != len(content):
            with self.results.open("r+b") as file:
                file.truncate(len(whole))
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
        kept = [row for row in rows if self._files_are_there(row)]
        self.done = {row["image"] for row in kept}
        if len(kept) != len(rows):
            lines = [_line(list(self.columns or []))] + [
                _line([row[name] for name in self.columns or ()]) for row in kept
            ]
            self.write(RESULTS, b"".join(lines))

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
            SettingError: the path would lie outside the output folder.
        """
        path = self.folder / name
        root = os.path.realpath(self.folder)
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise SettingError(f"The output {name} would be written outside {self.folder}: rename the input.")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all.

        Args:
            name: path relative to the output folder.
            content: its bytes.

        Raises:
            SettingError: the path would lie outside the output folder.
        """
        path = self.path(name)
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_bytes(content)
        os.replace(temporary, path)

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Append one image's row to ``results.csv`` and flush it to the disk.

        Args:
            row: ``image`` and the other columns, in their order.

        Raises:
            SettingError: the table that is there has other columns.
        """
        names = list(row)
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
        self.done.add(str(row["image"]))
        self.written += 1

    def add_failure(self, image: str, stage: str, reason: str) -> None:
        """Append one image that could not be used to ``failures.csv`` and flush it to the disk.

        Args:
            image: path relative to the input folder.
            stage: ``list``, ``read``, ``preprocess``, ``network`` or ``write``.
            reason: why, in words.
        """
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
