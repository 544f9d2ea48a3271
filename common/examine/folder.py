"""The folder that an examination fills: `ResultFolder` with a lock, a growing set of columns, and more files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from common.errors import SettingError
from common.results import FAILURES, RESULTS, ResultFolder

LOCK = ".lock"
THUMBNAIL = "thumbnail"
SALIENCY = "saliency"
_FOLDERS = {
    "mask_": "masks",
    "labels": "masks",
    "probability_": "masks",
    "overlay": "overlays",
    "profile": "profiles",
    SALIENCY: SALIENCY,
}
_WORDS = ("image", "patient", "volume", "note")


def place_of(column: str, path: str, output_name: str, prefix: str, short: str) -> tuple[str, str]:
    """Say where a file of a bundle goes in the folder of an examination.

    Args:
        column: the bundle's column of the file, e.g. ``mask_disc`` or ``overlay``.
        path: what the bundle calls it, ``<output_name>_disc.png``.
        output_name: what the names of the photo's files begin with.
        prefix: of the bundle's columns.
        short: the bundle's short name.

    Returns:
        The column, and the path relative to the folder.
    """
    folder = next((place for start, place in _FOLDERS.items() if column.startswith(start)), "files")
    ending = path.removeprefix(output_name).lstrip("_")
    if folder in ("overlays", SALIENCY, "files"):
        return f"{column}_{short}", f"{folder}/{output_name}_{short}{os.path.splitext(ending)[1]}"
    return prefix + column, f"{folder}/{output_name}_{prefix}{ending}"


class ExaminationFolder(ResultFolder):
    """A `ResultFolder` of several bundles, for one run at a time.

    The columns of a bundle are known when it has done its first photo, so the table may get new columns: it is then
    written anew, whole or not at all. A photo of which an earlier run could not do all is done again. ``run.json`` has
    the settings under ``settings``, and the columns of each bundle under ``columns``.

    Args:
        output_dir: the folder; it is made.
        blocks: names of the parts of a row, in their order.
        overwrite: see `ResultFolder`.
        settings: see `ResultFolder`.

    Raises:
        SettingError: another run is writing into the folder, or see `ResultFolder`.
    """

    def __init__(
        self, output_dir: str | Path, blocks: Sequence[str], overwrite: bool, settings: Mapping[str, Any]
    ) -> None:
        self.folder = Path(output_dir)
        self._lock = self._locked()
        self.blocks: dict[str, list[str]] = {name: [] for name in blocks}
        self.record: dict[str, Any] = {}
        self._unfinished = set() if overwrite else {row.get("image") for row in read_rows(self.folder / FAILURES)}
        try:
            super().__init__(output_dir, overwrite, settings)
        except BaseException:
            self.close()
            raise

    def _locked(self) -> FileLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / LOCK, timeout=0, thread_local=False)
            lock.acquire()
        except Timeout as error:
            raise SettingError(
                f"Another run is writing into {self.folder}: wait until it ends, or give another OUTPUT folder."
            ) from error
        except OSError as error:
            raise SettingError(
                f"The output folder {self.folder} cannot be written to ({error.strerror}): give another OUTPUT."
            ) from error
        return lock

    def close(self) -> None:
        """Let other runs write into the folder."""
        self._lock.release()

    def _read_run(self) -> dict[str, Any] | None:
        content = super()._read_run()
        if content is None:
            return None
        if not isinstance(content.get("settings"), dict) or not isinstance(content.get("columns"), dict):
            raise SettingError(f"The results in {self.folder} are of another command: give another OUTPUT folder.")
        self.record = content
        self.blocks.update({name: content["columns"].get(name, []) for name in self.blocks})
        return dict(content["settings"])

    def _write_run(self) -> None:
        self.record |= {"settings": self._settings, "columns": self.blocks}
        content = json.dumps(self.record, indent=4, ensure_ascii=False) + "\n"
        self._replace(self.run, content.encode("utf-8"), durably=True)

    def write_record(self, **entries: Any) -> None:
        """Put further entries into ``run.json``."""
        self._begin()
        self.record |= entries
        self._write_run()

    def add_blocks(self, blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Append one photo's row, given in parts, and flush it to the disk.

        Args:
            blocks: name of each part that the photo has to its columns.

        Returns:
            The row.
        """
        before = [list(names) for names in self.blocks.values()]
        for name, part in blocks.items():
            self.blocks[name] = _merged(self.blocks[name], list(part))
        row = {column: value for name in self.blocks for column, value in blocks.get(name, {}).items()}
        columns = [column for names in self.blocks.values() for column in names]
        if columns != self.columns:
            self._begin()
            if self.columns is not None and self.results.exists():
                self._widen(columns)
        if before != list(self.blocks.values()):
            self._begin()
            self._write_run()
        self.add_row({column: row.get(column, "") for column in columns})
        return row

    def _widen(self, columns: list[str]) -> None:
        """Write the table anew with more columns."""
        self._rewrite(columns, read_rows(self.results))
        self.columns = columns

    def _rewrite(self, columns: Sequence[str], rows: Iterator[Mapping[str, str]]) -> None:
        part = self.results.with_name(f".{RESULTS}.part")
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([row.get(column, "") for column in columns] for row in rows)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.results)

    def sort(self) -> None:
        """Bring the rows into the order of their images, if they are not: that of a run without interruption."""
        places = list(_places(self.results))
        if places == sorted(places):
            return
        self._rewrite(self.columns or [], _rows_at(self.results, [place for _, place in sorted(places)]))

    def _remember(self, row: Mapping[str, Any]) -> None:
        image = str(row["image"])
        self.done.add(image)
        self.outputs[image] = os.path.splitext(str(row[THUMBNAIL]).partition("/")[2])[0]

    def _files_are_there(self, row: Mapping[str, str]) -> bool:
        whole = set(row) == set(self.columns or ()) and None not in row.values()
        return whole and THUMBNAIL in row and all((self.folder / row[column]).is_file() for column in file_columns(row))

    def _counts(self, row: Mapping[str, str]) -> bool:
        return row["image"] not in self._unfinished


def file_columns(row: Mapping[str, Any]) -> list[str]:
    """The columns of a row that name files of the folder; what a user wrote may look like one, but names none."""
    starts = tuple(f"{start}/" for start in (*_FOLDERS.values(), "thumbnails", "files"))
    return [name for name, value in row.items() if name not in _WORDS and str(value).startswith(starts)]


def _merged(known: list[str], new: list[str]) -> list[str]:
    """Columns with those of one more row, each new one after the one that stands before it there."""
    merged = list(known)
    for number, column in enumerate(new):
        if column not in merged:
            merged.insert(merged.index(new[number - 1]) + 1 if number else 0, column)
    return merged


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a table, one after the other; none when it is not there."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _places(path: Path) -> Iterator[tuple[str, int]]:
    """The image of each row, and where in the file the row begins."""
    with path.open("rb") as file:
        lines = (line.decode("utf-8") for line in iter(file.readline, b""))
        reader = csv.reader(lines)
        column = next(reader).index("image")
        place = file.tell()
        for row in reader:
            yield row[column], place
            place = file.tell()


def _rows_at(path: Path, places: Sequence[int]) -> Iterator[dict[str, str]]:
    with path.open("rb") as file:
        names = next(csv.reader(line.decode("utf-8") for line in iter(file.readline, b"")))
        for place in places:
            file.seek(place)
            yield dict(
                zip(names, next(csv.reader(line.decode("utf-8") for line in iter(file.readline, b""))), strict=True)
            )
