"""Runs every bundle on every photo: one row, its masks and its overlays at a time."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import platform
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from common.data import Failure, failure_of
from common.errors import SettingError, UnreadableImageError
from common.examine.folder import THUMBNAIL, ExaminationFolder, place_of
from common.examine.inputs import list_inputs
from common.examine.modality import as_photo, modality_of
from common.examine.report import REPORT, finish
from common.examine.table import FUNDUS, OCT, Entry, choose
from common.examine.thumbnails import layers, thumbnail
from common.pixels import read_pixels, shared_pixels
from common.results import rounded
from common.runner import BundleRunner
from common.scans import read_scan, split_address
from common.transforms.biomarkers import check_pixel_size
from common.transforms.field_of_view import FieldOfView, find_field_of_view, shared_views

DISCLAIMER = "Research use only. Not a medical device: not for diagnosis or treatment of patients."
_PHOTO, _WEIGHTS, _NOTE = "photo", "weights", "note"
_IDENTITY = ("patient", "eye", "age", "sex", "volume")
"""Columns of the photo, not of a bundle, even where a bundle writes them."""
_PACKAGES = ("torch", "monai", "numpy", "opencv-python-headless", "scikit-image", "retina-bundles")


@dataclass(frozen=True)
class Examination:
    """What was found on one photo or B-scan.

    Attributes:
        image: its name: path relative to the input folder.
        path: its file; of a B-scan in a ``.mat`` file, its address (``file.mat#03``).
        modality: ``fundus`` or ``oct``; empty when the file could not be read.
        row: the columns of ``results.csv`` to their values; empty when there is no row.
        masks: structure (``vessel``, ``disc``; ``labels`` for the label map of OCT) to file.
        overlays: name of the bundle to its picture of photo and masks.
        failure: what could not be done and why, or None. There may still be a row of what the other bundles found.
    """

    image: str
    path: str
    modality: str
    row: dict[str, Any]
    masks: dict[str, Path]
    overlays: dict[str, Path]
    failure: str | None


@dataclass
class _Sheet:
    """Takes, in place of a folder, what a bundle's writer writes of one photo."""

    files: dict[str, bytes] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    def write(self, name: str, content: bytes) -> None:
        """Keep a file."""
        self.files[name] = content

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Keep the row."""
        self.row = dict(row)

    def add_failure(self, image: str, stage: str, reason: str) -> None:
        """Keep that it failed."""
        self.failure = Failure(image, stage, reason)

    def clear(self) -> None:
        """Forget the last photo."""
        self.files, self.row, self.failure = {}, {}, None


@dataclass
class _Prepared:
    """A photo that was read, with what the preprocessing of each bundle made of it."""

    item: dict[str, Any]
    modality: str = ""
    path: Path = Path()
    pixels: NDArray[np.uint8] | None = None
    view: FieldOfView | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


class _Loaded:
    """One bundle with its weights."""

    def __init__(self, entry: Entry, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        assert entry.folder is not None
        self.entry = entry
        self.sheet = _Sheet()
        config = json.loads((entry.folder / "configs" / "inference.json").read_text(encoding="utf-8"))
        overrides = {id_: options[option] for option, id_ in entry.settings.items() if options[option] is not None}
        if options["device"] is not None:
            overrides["device"] = f"$torch.device({options['device']!r})"
        # The figures of several panels take time, and the report shows the same.
        quiet = {
            f"handlers#{number}#figure": False
            for number, handler in enumerate(config["handlers"])
            if handler.get("figure")
        }
        self.settings = {**overrides, **settings}
        self.runner = BundleRunner(entry.folder, {**quiet, **self.settings, "results": self.sheet}, write=True)
        metadata = json.loads((entry.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        self.version: str = metadata["version"]
        with Path(self.runner.parser.get_parsed_content("ckpt_path")).open("rb") as file:
            self.weights = hashlib.file_digest(file, "sha256").hexdigest()


class _Photos(Dataset[_Prepared]):
    """Reads the photos and prepares them for the bundles that need no other one; it may run in other processes."""

    def __init__(self, items: Sequence[dict[str, Any]], steps: Mapping[str, Mapping[str, Compose]]) -> None:
        self.items = items
        self.steps = steps

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> _Prepared:
        item = self.items[index]
        pixels: dict[Path, NDArray[np.uint8]] = {}
        with shared_pixels(pixels), shared_views([]):
            path, frame = split_address(item["image"])
            prepared = _Prepared(item, path=path)
            try:
                prepared.pixels = read_pixels(path) if frame is None else read_scan(item["image"])
            except UnreadableImageError as error:
                prepared.failure = failure_of(item["name"], "read", error)
                return prepared
            prepared.modality = item.get("modality") or (modality_of(prepared.pixels) if frame is None else OCT)
            if prepared.modality == FUNDUS:
                prepared.view = find_field_of_view(as_photo(prepared.pixels))
            steps = self.steps.get(prepared.modality, {})
            prepared.inputs = {name: _preprocess(step, item) for name, step in steps.items()}
        return prepared


def _preprocess(step: Compose, item: Mapping[str, Any]) -> Any:
    """Give what the preprocessing makes of an item, or the failure."""
    try:
        return step(dict(item))
    except Exception as error:
        return failure_of(item["name"], "preprocess", error)


class Examiner:
    """The bundles with their weights, loaded once, ready for any number of photos.

    It may be used by several threads, each with its own output folder: the networks do one photo at a time.

    Args:
        bundles: names of bundles; None for all that are available and run by default. Those that they need are added.
        device: of the networks, e.g. ``cpu`` or ``cuda:0``; None for the GPU where there is one.
        pixel_size: micrometres of one pixel of fundus photos of which no table gives it; None when it is not known.
        axial_scale: micrometres of one row of B-scans, or None.
        lateral_scale: micrometres of one column of B-scans, or None.
        workers: processes that read and prepare photos meanwhile; 0 for none.
        settings: name of a bundle to further ids of its ``inference.json`` and their values.

    Raises:
        SettingError: a setting is wrong, or a bundle is missing.
    """

    def __init__(
        self,
        bundles: Sequence[str] | None = None,
        device: str | None = None,
        pixel_size: float | None = None,
        *,
        axial_scale: float | None = None,
        lateral_scale: float | None = None,
        workers: int = 0,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise SettingError(f"--workers is {workers!r}: give a number of processes, 0 for none.")
        scales = {"pixel_size": pixel_size, "axial_scale": axial_scale, "lateral_scale": lateral_scale}
        for name, value in scales.items():
            check_pixel_size(value, name)
        self.entries = choose(bundles)
        self.workers = workers
        self.scales = scales
        options = {**scales, "device": _checked_device(device)}
        self._loaded = {
            entry.name: _Loaded(entry, options, (settings or {}).get(entry.name, {})) for entry in self.entries
        }
        self._lock = threading.Lock()

    @property
    def network_seconds(self) -> float:
        """Time that the networks have taken so far."""
        return sum(loaded.runner.network_seconds for loaded in self._loaded.values())

    def run(
        self,
        inputs: str | Path | Sequence[str | Path],
        output_dir: str | Path,
        overwrite: bool = False,
        resume: bool = True,
    ) -> Run:
        """Examine photos and B-scans; each is done when the iteration comes to it.

        Args:
            inputs: a photo or B-scan, a folder, a CSV table (`common.examine.inputs.list_inputs`), or a list of files.
            output_dir: folder for the results; it is made.
            overwrite: do everything again, in place of going on with what an earlier run has done.
            resume: whether the folder may have results of an earlier run, which is then gone on with.

        Returns:
            An iterator over the photos that this run does. When it has come to its end, the table is in order, and
            ``results.parquet``, ``report.html`` and ``run.json`` are written.

        Raises:
            SettingError: an input or the table is wrong, or the folder is in use or has results of other settings.
        """
        settings: dict[str, Any] = {
            **self.scales,
            "bundles": {
                name: {"version": one.version, "weights": one.weights, **_without_device(one.settings)}
                for name, one in self._loaded.items()
            },
        }
        blocks = [_PHOTO, *self._loaded, _WEIGHTS, _NOTE]
        folder = ExaminationFolder(output_dir, blocks, overwrite, settings)
        try:
            if folder.done and not resume:
                raise SettingError(
                    f"The folder {output_dir} has results: give another OUTPUT, go on with --resume, or --overwrite."
                )
            items = list_inputs(inputs, folder)
        except BaseException:
            folder.close()
            raise
        return Run(self, folder, items)

    def _prepare(self, items: Sequence[dict[str, Any]]) -> Iterator[_Prepared]:
        """Read and prepare the photos, in other processes where there are some."""
        steps: dict[str, dict[str, Compose]] = {FUNDUS: {}, OCT: {}}
        for entry in self.entries:
            if not entry.needs:
                steps[entry.modality][entry.name] = self._loaded[entry.name].runner.preprocessing
        loader = DataLoader(
            _Photos(items, steps),
            batch_size=1,
            num_workers=min(self.workers, len(items)),
            collate_fn=_only_one,
            prefetch_factor=1 if self.workers and items else None,
        )
        return iter(loader)

    def _examine(self, prepared: _Prepared, folder: ExaminationFolder) -> Examination:
        """Run the bundles on one photo and write what they find."""
        item = prepared.item
        name, path = str(item["name"]), str(item["image"])
        if prepared.failure is None:
            unread = [
                given for given in prepared.inputs.values() if isinstance(given, Failure) and given.stage == "read"
            ]
            prepared.failure = unread[0] if unread else None
        if prepared.failure is not None:
            folder.add_failure(name, prepared.failure.stage, prepared.failure.reason)
            return Examination(name, path, prepared.modality, {}, {}, {}, prepared.failure.reason)
        assert prepared.pixels is not None
        blocks: dict[str, dict[str, Any]] = {_PHOTO: _photo_block(prepared)}
        files: dict[str, bytes] = {}
        masks: dict[str, str] = {}
        overlays: dict[str, str] = {}
        failures: dict[str, Failure] = {}
        notes: list[str] = []
        rows: dict[str, dict[str, Any]] = {}
        for entry in self.entries:
            if entry.modality != prepared.modality:
                continue
            with self._lock:
                sheet = self._run_bundle(entry, prepared, rows, failures)
            if isinstance(sheet, Failure):
                failures[entry.name] = sheet
                notes.append(f"{entry.name} failed: {sheet.reason}")
                continue
            rows[entry.name] = sheet.row
            block: dict[str, Any] = {}
            for column, value in sheet.row.items():
                if column in _IDENTITY:
                    blocks[_PHOTO][column] = blocks[_PHOTO][column] or value
                elif column == _NOTE:
                    notes += str(value).split("; ")
                elif value in sheet.files:
                    new, place = place_of(column, str(value), str(item["output_name"]), entry.prefix, entry.short)
                    block[new], files[place] = place, sheet.files[str(value)]
                    if place.startswith("masks/"):
                        masks[new.replace("mask_", "")] = place
                    elif place.startswith("overlays/"):
                        overlays[entry.name] = place
                elif column != "image":
                    block[entry.prefix + column] = value
            blocks[entry.name] = block
        for failed in failures.values():
            folder.add_failure(name, failed.stage, failed.reason)
        reason = "; ".join(failed.reason for failed in failures.values()) or None
        if not rows:
            if reason is None:
                reason = f"no bundle of the modality '{prepared.modality}' was chosen"
                folder.add_failure(name, "list", reason)
            return Examination(name, path, prepared.modality, {}, {}, {}, reason)
        small = thumbnail(prepared.pixels)
        files[blocks[_PHOTO][THUMBNAIL]] = small.content
        stem = blocks[_PHOTO][THUMBNAIL].rpartition(".")[0]
        files |= {f"{stem}_{key}.png": content for key, content in layers(files, masks, small.size).items()}
        try:
            for place, content in files.items():
                folder.write(place, content)
        except OSError as error:
            # A full or broken disk would fail every photo; a name that is too long is this photo's own.
            if error.errno != errno.ENAMETOOLONG:
                raise
            failure = failure_of(name, "write", error)
            folder.add_failure(failure.name, failure.stage, failure.reason)
            return Examination(name, path, prepared.modality, {}, {}, {}, failure.reason)
        blocks[_WEIGHTS] = {}
        for one, loaded in self._loaded.items():
            made = (loaded.version, loaded.weights) if one in rows else ("", "")
            blocks[_WEIGHTS] |= dict(zip((f"{one}_version", f"{one}_sha256"), made, strict=True))
        blocks[_NOTE] = {_NOTE: "; ".join(dict.fromkeys(part for part in notes if part))}
        row = folder.add_blocks(blocks)
        return Examination(
            name,
            path,
            prepared.modality,
            row,
            {key: folder.folder / place for key, place in masks.items()},
            {key: folder.folder / place for key, place in overlays.items()},
            reason,
        )

    def _run_bundle(
        self,
        entry: Entry,
        prepared: _Prepared,
        rows: Mapping[str, Mapping[str, Any]],
        failures: Mapping[str, Failure],
    ) -> _Sheet | Failure:
        """Run one bundle on one photo."""
        loaded, name = self._loaded[entry.name], str(prepared.item["name"])
        lacking = [need for need in entry.needs if need in failures]
        if lacking:
            return Failure(name, "preprocess", f"{entry.name} needs {lacking[0]}, which failed")
        given = prepared.inputs.get(entry.name) or self._with_needs(entry, prepared, rows)
        stage = "network"
        try:
            if not isinstance(given, Failure):
                loaded.sheet.clear()
                loaded.runner.run(given)
                given = loaded.sheet.failure or _Sheet(loaded.sheet.files, loaded.sheet.row)
        except Exception as error:
            given = failure_of(name, stage, error)
        if isinstance(given, Failure):
            return Failure(name, given.stage, f"{entry.name}: {given.reason}")
        return given

    def _with_needs(self, entry: Entry, prepared: _Prepared, rows: Mapping[str, Mapping[str, Any]]) -> Any:
        """Prepare a photo for a bundle that takes what others found, as it would take it from their table."""
        item = dict(prepared.item)
        for need in entry.needs:
            item |= rounded(rows[need])
        shared = {} if prepared.pixels is None else {prepared.path: prepared.pixels}
        views = [] if prepared.view is None else [(as_photo(shared[prepared.path]), prepared.view)]
        with shared_pixels(shared), shared_views(views):
            return _preprocess(self._loaded[entry.name].runner.preprocessing, item)


def _photo_block(prepared: _Prepared) -> dict[str, Any]:
    """The columns of the photo itself."""
    item, view = prepared.item, prepared.view
    assert prepared.pixels is not None
    height, width = prepared.pixels.shape[:2]
    block: dict[str, Any] = {"image": item["name"]}
    block |= {column: "" if item.get(column) is None else item[column] for column in _IDENTITY}
    if prepared.modality == FUNDUS:
        block["volume"] = ""
    block |= {
        "modality": prepared.modality,
        "pixel_size_um": item.get("pixel_size", ""),
        "width_px": width,
        "height_px": height,
        "fov_found": "" if view is None else str(view.found).lower(),
        "fov_center_x_px": view.center[1] if view is not None and view.found else math.nan,
        "fov_center_y_px": view.center[0] if view is not None and view.found else math.nan,
        "fov_diameter_px": 2 * view.radius if view is not None and view.found else math.nan,
        THUMBNAIL: f"thumbnails/{item['output_name']}.jpg",
    }
    return block


def _only_one(batch: list[_Prepared]) -> _Prepared:
    """A batch is one photo."""
    return batch[0]


def _checked_device(device: str | None) -> str | None:
    """Give the name of a device that is there.

    Raises:
        SettingError: there is no such device.
    """
    if device is None:
        return None
    try:
        name = str(torch.device(device))
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingError(f"--device is {device!r}, which cannot be used ({reason}): give cpu or cuda.") from error
    return name


def _without_device(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that results depend on: a run may go on on another device."""
    return {name: value for name, value in settings.items() if name != "device"}


class Run(Iterator[Examination]):
    """The photos of one run, done one after the other as it is iterated over.

    Attributes:
        folder: where the results are.
        total: number of photos that this run has to do.
    """

    def __init__(self, examiner: Examiner, folder: ExaminationFolder, items: Sequence[dict[str, Any]]) -> None:
        self._examiner = examiner
        self.folder = folder
        self.total = len(items)
        self._examinations = self._go(items)

    def __next__(self) -> Examination:
        """Do the next photo."""
        return next(self._examinations)

    def close(self) -> None:
        """End before the last photo; what is done stays, and the folder is free for other runs."""
        self._examinations.close()
        self.folder.close()

    def summary(self) -> str:
        """One sentence on what was done, skipped and failed, and where to look."""
        report = self.folder.folder / REPORT
        return self.folder.summary() + (f"; report: {report}" if report.exists() else "")

    def _go(self, items: Sequence[dict[str, Any]]) -> Generator[Examination, None, None]:
        started, clock = datetime.now(UTC), time.perf_counter()
        before = self._examiner.network_seconds
        runs = list(self.folder.record.get("runs", []))
        try:
            for prepared in self._examiner._prepare(items):
                yield self._examiner._examine(prepared, self.folder)
            finish(self.folder, self._examiner.entries, DISCLAIMER)
            this = {
                "started": started.isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - clock, 3),
                "network_seconds": round(self._examiner.network_seconds - before, 3),
                "done": self.folder.written,
                "skipped": self.folder.skipped,
                "failed": self.folder.failed,
            }
            versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
            self.folder.write_record(disclaimer=DISCLAIMER, versions=versions, runs=[*runs, this])
        finally:
            self.folder.close()


def examine(
    paths: str | Path | Sequence[str | Path],
    output_dir: str | Path | None = None,
    bundles: Sequence[str] | None = None,
    **options: Any,
) -> Run:
    """Examine photos and B-scans: `Examiner` and its `run` in one call.

    Args:
        paths: a photo or B-scan, a folder, a CSV table, or a list of files.
        output_dir: folder for the results; None for a new temporary one, which stays (``.folder.folder``).
        bundles: names of bundles; None for all that are available and run by default.
        **options: as for `Examiner`, and ``overwrite`` and ``resume`` of `Examiner.run`.

    Returns:
        An iterator over the photos.

    Raises:
        SettingError: see `Examiner` and `Examiner.run`.
    """
    of_run = {name: options.pop(name) for name in ("overwrite", "resume") if name in options}
    folder = tempfile.mkdtemp(prefix="examination_") if output_dir is None else output_dir
    return Examiner(bundles, **options).run(paths, folder, **of_run)
