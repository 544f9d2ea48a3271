"""The demonstration: every bundle that has weights, on pictures drawn here, beside the exact truth."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from common.bundles import available_bundles, has_weights, inference_command, reason_in
from common.errors import SettingError
from common.pixels import read_pixels
from common.results import FAILURES, RESULTS

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class DemoInput:
    """What a bundle is shown in the demonstration, as folders of `common.phantoms`.

    Attributes:
        photos: folder of the pictures.
        truth: column of ``results.csv`` to the folder of the masks that it is compared with; in a label map each label
            but 0 is a mask of its own.
        modality: ``fundus`` (`write_fundus_phantoms`) or ``oct`` (`write_oct_phantoms`).
    """

    photos: str
    truth: Mapping[str, str] = field(default_factory=dict)
    modality: str = "fundus"


# A new bundle needs one line here.
DEMO_INPUTS: dict[str, DemoInput] = {
    "vessel_segmentation": DemoInput("image", {"mask_vessel": "mask"}),
    "disc_cup_segmentation": DemoInput("image", {"mask_disc": "disc", "mask_cup": "cup"}),
    "disc_cup_hqsam_segmentation": DemoInput("image", {"mask_disc": "disc", "mask_cup": "cup"}),
    "dr_lesion_segmentation": DemoInput("image", {"mask_exudate": "exudate", "mask_haemorrhage": "haemorrhage"}),
    "oct_layer_segmentation": DemoInput("image", {"labels": "labels"}, "oct"),
    "odir_classification": DemoInput("image"),
    "dr_classification": DemoInput("image"),
}


@dataclass(frozen=True)
class DemoResult:
    """What one bundle did.

    Attributes:
        bundle: its name.
        done: how many images it finished.
        images: how many it was given.
        dice: mean Dice against the truth, over images and masks; NaN when there is no truth.
        seconds: time from one finished image to the next, on average; with a single image that of the whole run.
        problem: why it did not finish, else empty.
        labels: of a classifier, on how many images each label has a probability of at least 0.5.
    """

    bundle: str
    done: int
    images: int
    dice: float
    seconds: float
    problem: str = ""
    labels: Mapping[str, int] = field(default_factory=dict)


def run_demo(output: str | Path, count: int) -> int:
    """Draw phantoms, run every bundle that has weights on them, print a table, and examine them all at once.

    Args:
        output: folder for ``phantoms_<count>``, ``oct_phantoms_<count>``, one folder of results per bundle, and
            ``examination`` with the report of `common.examine`.
        count: number of phantoms.

    Returns:
        The exit code: 1 when a bundle did not finish every image.

    Raises:
        SettingError: no bundle has weights, or ``count`` or the folder cannot be used.
    """
    if type(count) is not int or count < 1:
        raise SettingError(f"--count is {count!r}: give the number of pictures, 1 or more.")
    folder = Path(output).resolve()
    bundles = {name: path for name, path in available_bundles().items() if has_weights(path)}
    for name in available_bundles():
        if name not in bundles:
            print(f"{name} is left out: it has no models/model.pt yet.")
        elif name not in DEMO_INPUTS:
            print(f"{name} is left out: it has weights, but no entry in DEMO_INPUTS of common/demo.py.")
    shown = [name for name in bundles if name in DEMO_INPUTS]
    if not shown:
        raise SettingError("No bundle has weights to demonstrate: train one with `retina train` and put them into it.")
    phantoms = {
        modality: folder / (f"phantoms_{count}" if modality == "fundus" else f"{modality}_phantoms_{count}")
        for modality in dict.fromkeys(DEMO_INPUTS[name].modality for name in shown)
    }
    for modality, drawn in phantoms.items():
        _draw_phantoms(drawn, count, modality)
    results = [
        _run_bundle(bundles[name], DEMO_INPUTS[name], phantoms[DEMO_INPUTS[name].modality], folder) for name in shown
    ]
    print(_table(results))
    for result in results:
        print(f"{result.bundle}: overlays and {RESULTS} in {folder / result.bundle}")
        if result.labels:
            counts = ", ".join(f"{label} {count}" for label, count in result.labels.items())
            print(f"{result.bundle}: images with a probability of at least 0.5: {counts}")
        if result.problem:
            print(f"{result.bundle}: {result.problem}", file=sys.stderr)
    if any(result.problem or result.done < result.images for result in results):
        return 1
    pictures = sorted({phantoms[DEMO_INPUTS[name].modality] / DEMO_INPUTS[name].photos for name in shown})
    return _examine_all([path for pictured in pictures for path in sorted(pictured.iterdir())], folder)


def _examine_all(pictures: list[Path], folder: Path) -> int:
    """Run `retina examine` on the phantoms; gives the exit code."""
    from common.examine import available, examine

    if not any(entry.by_default for entry in available()):
        return 0
    run = examine(pictures, folder / "examination", overwrite=True)
    for _ in tqdm(run, total=run.total, desc="examine", unit="image"):
        pass
    print(f"\nEverything at once, by `retina examine`: open {folder / 'examination' / 'report.html'} in a browser.")
    return int(run.folder.failed > 0)


def _draw_phantoms(folder: Path, count: int, modality: str) -> None:
    from common.phantoms import write_fundus_phantoms, write_oct_phantoms

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(
            f"The folder {folder} cannot be made ({error.strerror}): set --output to another."
        ) from error
    print(f"Drawing {count} {'B-scans' if modality == 'oct' else 'photos'} with exact truth in {folder}")
    if modality == "oct":
        write_oct_phantoms(folder, count)
    else:
        write_fundus_phantoms(folder, count)


def _run_bundle(bundle: Path, given: DemoInput, phantoms: Path, folder: Path) -> DemoResult:
    """Run one bundle as a user would, in a process of its own and from another working directory."""
    photos, output = phantoms / given.photos, folder / bundle.name
    images = sum(1 for _ in photos.iterdir())
    output.mkdir(exist_ok=True)
    log = output / "run.log"
    command = inference_command(bundle, photos, output)
    # Not a row of an earlier demonstration is counted as progress of this one.
    for table in (RESULTS, FAILURES):
        (output / table).unlink(missing_ok=True)
    started = time.perf_counter()
    moments: list[float] = []
    with (
        tempfile.TemporaryDirectory() as elsewhere,
        log.open("wb") as stream,
        subprocess.Popen(command, cwd=elsewhere, stdout=stream, stderr=subprocess.STDOUT) as process,
        tqdm(total=images, desc=bundle.name, unit="image") as bar,
    ):
        running = True
        while running:
            running = process.poll() is None
            for _ in range(len(_rows(output / RESULTS)) - len(moments)):
                moments.append(time.perf_counter())
                bar.update()
            if running:
                time.sleep(_POLL_SECONDS)
    rows = _rows(output / RESULTS)
    problem = ""
    if process.returncode:
        reason = reason_in(log.read_text(encoding="utf-8", errors="replace"))
        problem = f"the run ended with exit code {process.returncode}: {reason} (its log: {log})"
    elif len(rows) < images:
        problem = f"{images - len(rows)} images failed: {output / FAILURES}"
    seconds = (moments[-1] - moments[0]) / (len(moments) - 1) if len(moments) > 1 else time.perf_counter() - started
    dice = _mean_dice(rows, given, phantoms, output)
    return DemoResult(bundle.name, len(rows), images, dice, seconds, problem, _called(rows))


def _rows(table: Path) -> list[dict[str, str]]:
    """The finished rows of a table that may just be written; none when it is not there yet."""
    if not table.is_file():
        return []
    whole = [line for line in table.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]
    return list(csv.DictReader(whole))


def _called(rows: list[dict[str, str]]) -> dict[str, int]:
    """On how many images each label of a classifier is called; nothing of other bundles."""
    columns = [column for column in (rows[0] if rows else ()) if column.startswith("p_")]
    return {column.removeprefix("p_"): sum(float(row[column]) >= 0.5 for row in rows) for column in columns}


def _mean_dice(rows: list[dict[str, str]], given: DemoInput, phantoms: Path, output: Path) -> float:
    values = []
    for row in rows:
        for column, truth in given.truth.items():
            found = read_pixels(output / row[column])
            true = read_pixels(phantoms / truth / f"{Path(row['image']).stem}.png")
            # A mask has one value beside 0, a label map several.
            values += [_dice(found == label, true == label) for label in np.unique(true) if label]
    return float(np.mean(values)) if values else math.nan


def _dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks ``(H, W)``: ``2 |A and B| / (|A| + |B|)``; 1 when both are empty."""
    total = np.count_nonzero(mask) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(mask & truth) / total if total else 1.0


def _table(results: list[DemoResult]) -> str:
    lines = [f"\n{'bundle':<30} {'images':>8} {'Dice':>7} {'s/image':>8}"]
    for result in results:
        images = f"{result.done}/{result.images}"
        dice = "-" if math.isnan(result.dice) else f"{result.dice:.3f}"
        lines.append(f"{result.bundle:<30} {images:>8} {dice:>7} {result.seconds:>8.1f}")
    return "\n".join(lines) + "\n"
