"""Runs every bundle on every photo: one row, its masks and its overlays at a time."""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import platform
import tempfile
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from common.bundles import checked_device
from common.data import Failure, failure_of
from common.errors import SettingError
from common.examine.findings import NOTE, PHOTO, WEIGHTS, Findings, Sheet
from common.examine.folder import ExaminationFolder
from common.examine.inputs import list_inputs
from common.examine.photos import Photos, Prepared, Step
from common.examine.report import REPORT, finish
from common.examine.table import FUNDUS, OCT, Entry, choose
from common.results import check_flag, rounded
from common.runner import BundleRunner
from common.transforms.biomarkers import check_pixel_size

DISCLAIMER = "Research use only. Not a medical device: not for diagnosis or treatment of patients."
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
        saliency: name of a classifier to the map of what speaks for its most probable label, in the photo's frame.
        failure: what could not be done and why, or None. There may still be a row of what the other bundles found.
    """

    image: str
    path: str
    modality: str
    row: dict[str, Any]
    masks: dict[str, Path]
    overlays: dict[str, Path]
    saliency: dict[str, Path]
    failure: str | None


class _Loaded:
    """One bundle with its weights."""

    def __init__(self, entry: Entry, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        assert entry.folder is not None
        self.entry = entry
        self.sheet = Sheet()
        config = json.loads((entry.folder / "configs" / "inference.json").read_text(encoding="utf-8"))
        overrides = {id_: options[option] for option, id_ in entry.settings.items()}
        overrides["device"] = options["device"]
        # The figures of several panels take time, and the report shows the same.
        quiet = {
            f"handlers#{number}#figure": False
            for number, handler in enumerate(config["handlers"])
            if handler.get("figure")
        }
        self.settings = {**overrides, **settings}
        self.runner = BundleRunner(entry.folder, {**quiet, **self.settings, "results": self.sheet}, write=True)
        # What the bundle's own list of photos is told to expect, too.
        parser = self.runner.parser
        ids = [f"dataset#data#{name}" for name in ("clinical_columns", "biomarker_columns")]
        columns = [name for id_ in ids if id_ in parser for name in parser.get_parsed_content(id_)]
        self.step = Step(self.runner.preprocessing, columns)
        metadata = json.loads((entry.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        self.version: str = metadata["version"]
        with Path(self.runner.parser.get_parsed_content("ckpt_path")).open("rb") as file:
            self.weights = hashlib.file_digest(file, "sha256").hexdigest()


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
        saliency: whether classifiers draw which parts of a photo speak for their most probable label.
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
        saliency: bool = True,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
            raise SettingError(f"--workers is {workers!r}: give a number of processes, 0 for none.")
        scales = {"pixel_size": pixel_size, "axial_scale": axial_scale, "lateral_scale": lateral_scale}
        for name, value in scales.items():
            check_pixel_size(value, name)
        self.entries = choose(bundles)
        self.workers = workers
        self.scales: dict[str, float | None] = scales
        options = {"device": checked_device(device), "saliency": check_flag("saliency", saliency)}
        self._loaded = {
            entry.name: _Loaded(entry, options, (settings or {}).get(entry.name, {})) for entry in self.entries
        }
        self._lock = threading.Lock()

    def only(self, bundles: Sequence[str], **scales: float | None) -> Examiner:
        """Give an examiner of some of these bundles, which shares the networks.

        Args:
            bundles: names; those that they need are added.
            **scales: ``pixel_size``, ``axial_scale`` or ``lateral_scale`` in place of this examiner's.

        Raises:
            SettingError: a bundle is not among these, or a scale is wrong.
        """
        for name, value in scales.items():
            check_pixel_size(value, name)
        part = copy.copy(self)
        part.scales = {**self.scales, **scales}
        part.entries = choose(bundles)
        missing = [entry.name for entry in part.entries if entry.name not in self._loaded]
        if missing:
            raise SettingError(f"The bundle {missing[0]} is not loaded: choose from {', '.join(self._loaded)}.")
        part._loaded = {entry.name: self._loaded[entry.name] for entry in part.entries}
        return part

    @property
    def network_seconds(self) -> float:
        """Time that the networks have taken so far."""
        return sum(loaded.runner.network_seconds for loaded in self._loaded.values())

    @property
    def network_cpu_seconds(self) -> float:
        """Time of the processor that the networks have taken so far."""
        return sum(loaded.runner.network_cpu_seconds for loaded in self._loaded.values())

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
        blocks = [PHOTO, *self._loaded, WEIGHTS, NOTE]
        folder = ExaminationFolder(output_dir, blocks, overwrite, settings)
        try:
            if folder.earlier_rows and not resume:
                raise SettingError(
                    f"The folder {output_dir} has results: give another OUTPUT, go on with --resume, or --overwrite."
                )
            items = list_inputs(inputs, folder)
        except BaseException:
            folder.close()
            raise
        return Run(self, folder, items)

    def _prepare(self, items: Sequence[dict[str, Any]]) -> Iterator[Prepared]:
        """Read and prepare the photos, in other processes where there are some."""
        steps: dict[str, dict[str, Step]] = {FUNDUS: {}, OCT: {}}
        for entry in self.entries:
            if not entry.needs:
                steps[entry.modality][entry.name] = self._loaded[entry.name].step
        workers = min(self.workers, len(items))
        photos = Photos(items, steps, self.scales)
        # A photo's inputs take some 50 MB: no more than one for each process waits for its turn.
        ahead = 1 if workers else None
        return iter(DataLoader(photos, 1, num_workers=workers, collate_fn=_only_one, prefetch_factor=ahead))

    def _examine(self, prepared: Prepared, folder: ExaminationFolder) -> Examination:
        """Run the bundles on one photo and write what they find."""
        if prepared.failure is not None:
            return _failed(prepared, folder, prepared.failure)
        findings = Findings(prepared)
        entries = [entry for entry in self.entries if entry.modality == prepared.modality]
        if not entries:
            reason = f"no bundle for the modality '{prepared.modality}' was chosen"
            return _failed(prepared, folder, Failure(str(prepared.item["name"]), "list", reason))
        for entry in entries:
            with self._lock:
                found = self._run_bundle(entry, findings)
            if isinstance(found, Failure):
                findings.fail(entry, found)
            else:
                findings.add(entry, found)
        return self._store(findings, folder)

    def _run_bundle(self, entry: Entry, findings: Findings) -> Sheet | Failure:
        """Run one bundle on one photo."""
        name = str(findings.prepared.item["name"])
        for need in entry.needs:
            if need in findings.failures:
                return Failure(name, "preprocess", f"{entry.name}: it needs {need}, which failed")
        loaded = self._loaded[entry.name]
        given = findings.prepared.inputs.get(entry.name)
        if given is None:
            # As it would take them from the other bundles' tables.
            found = {key: value for need in entry.needs for key, value in rounded(findings.rows[need]).items()}
            given = findings.prepared.again(loaded.step, found)
        failure = given if isinstance(given, Failure) else None
        if failure is None:
            try:
                loaded.runner.run(given)
            except Exception as error:
                failure = failure_of(name, "network", error)
        sheet = loaded.sheet.torn_off()
        failure = failure or sheet.failure
        return sheet if failure is None else Failure(name, failure.stage, f"{entry.name}: {failure.reason}")

    def _store(self, findings: Findings, folder: ExaminationFolder) -> Examination:
        """Write files and row of one photo."""
        prepared, name = findings.prepared, str(findings.prepared.item["name"])
        for failure in findings.failures.values():
            folder.add_failure(name, failure.stage, failure.reason)
        if not findings.rows:
            return _failed(prepared, folder, None, findings.failure)
        findings.add_thumbnails()
        try:
            for place, content in findings.files.items():
                folder.write(place, content)
        except OSError as error:
            # A full or broken disk would fail every photo; a name that is too long is this photo's own.
            if error.errno != errno.ENAMETOOLONG:
                raise
            return _failed(prepared, folder, failure_of(name, "write", error))
        weights: dict[str, str] = {}
        for bundle, loaded in self._loaded.items():
            made = (loaded.version, loaded.weights) if bundle in findings.rows else ("", "")
            weights |= dict(zip((f"{bundle}_version", f"{bundle}_sha256"), made, strict=True))
        row = folder.add_blocks({**findings.blocks, WEIGHTS: weights, NOTE: {NOTE: findings.note}})
        masks = {structure: folder.folder / place for structure, place in findings.masks.items()}
        overlays = {bundle: folder.folder / place for bundle, place in findings.overlays.items()}
        saliency = {bundle: folder.folder / place for bundle, place in findings.saliency.items()}
        path = str(prepared.item["image"])
        return Examination(name, path, prepared.modality, row, masks, overlays, saliency, findings.failure)


def _failed(
    prepared: Prepared, folder: ExaminationFolder, failure: Failure | None, reason: str | None = None
) -> Examination:
    """Record that there is no row of a photo, unless its failures are recorded already."""
    if failure is not None:
        folder.add_failure(failure.name, failure.stage, failure.reason)
        reason = failure.reason
    item = prepared.item
    return Examination(str(item["name"]), str(item["image"]), prepared.modality, {}, {}, {}, {}, reason)


def _only_one(batch: list[Prepared]) -> Prepared:
    """A batch is one photo."""
    return batch[0]


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
            self.folder.start()
            for prepared in self._examiner._prepare(items):
                yield self._examiner._examine(prepared, self.folder)
            versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
            self.folder.write_record(disclaimer=DISCLAIMER, versions=versions)
            finish(self.folder, self._examiner.entries, DISCLAIMER)
            this = {
                "started": started.isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - clock, 3),
                "network_seconds": round(self._examiner.network_seconds - before, 3),
                "done": self.folder.written,
                "skipped": self.folder.skipped,
                "failed": self.folder.failed,
            }
            self.folder.write_record(runs=[*runs, this])
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
