"""What is made of the table when the last photo is done: its order, the other tables, and ``report.html``.

Everything is read from the table, one row after the other, so that the memory does not grow with the number of photos.
"""

from __future__ import annotations

import base64
import csv
import json
import math
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np

from common.biomarkers import LAYERS
from common.examine.folder import SALIENCY, THUMBNAIL, ExaminationFolder, file_columns, read_rows
from common.examine.shown import BY_COLUMN, SOURCES, Shown, first_shown, shown_as
from common.examine.table import OCT, Entry
from common.examine.thumbnails import colour_of, is_saliency, saliency_key, saliency_name
from common.patients import write_patients
from common.pictures import COLOURS
from common.results import FAILED

REPORT, PARQUET = "report.html", "results.parquet"
CARDS_PER_PAGE = 200
"""A browser shows no more pictures at ease; with more photos, the report has further pages beside it."""
_FEWEST_BINS, _MOST_BINS = 8, 30
_MOST_FAILURES = 200
_NAMES = {"dice": "Dice", "iou": "IoU", "auc": "AUC", "aupr": "AUPR", "f1": "F1", "odir": "ODIR"}
_ROWS_AT_ONCE = 1000
HEAT_COLOURS = "linear-gradient(90deg,#4675ed,#1bcfd4,#a4fc3c,#fb8022,#c92903)"
"""The colours of saliency, from little to much, as CSS."""
_TEXT_COLUMNS = ("image", "patient", "eye", "sex", "volume", "modality", "note", "fov_found", "isnt_rule")


def finish(folder: ExaminationFolder, entries: Sequence[Entry], disclaimer: str) -> None:
    """Put the table in order, and write ``results.parquet``, ``patients.csv`` and the report.

    Args:
        folder: the folder with its rows.
        entries: the bundles that were run.
        disclaimer: what the report says on its use.
    """
    write_patients(folder, _classifiers(folder, entries))
    if not folder.results.exists():
        for stale in (PARQUET, REPORT):
            (folder.folder / stale).unlink(missing_ok=True)
        return
    folder.sort()
    write_parquet(folder.results, folder.folder / PARQUET)
    write_report(folder, entries, disclaimer)


def write_parquet(table: Path, target: Path) -> None:
    """Write a CSV table as Parquet: numbers as float64, an empty cell as null, everything else as text.

    Args:
        table: the CSV file.
        target: the Parquet file; it is written whole or not at all.
    """
    import pyarrow
    import pyarrow.parquet

    with table.open(encoding="utf-8", newline="") as file:
        columns = next(csv.reader(file))
    numbers = set(columns) - set(_TEXT_COLUMNS)
    for row in read_rows(table):
        numbers -= {name for name in numbers if row[name] and not _is_number(row[name])}
    schema = pyarrow.schema([(name, pyarrow.float64() if name in numbers else pyarrow.string()) for name in columns])
    part = target.with_name(f".{target.name}.part")
    rows = read_rows(table)
    with pyarrow.parquet.ParquetWriter(part, schema) as writer:
        while block := list(islice(rows, _ROWS_AT_ONCE)):
            cells = [{name: _parsed(row[name], name in numbers) for name in columns} for row in block]
            writer.write_table(pyarrow.Table.from_pylist(cells, schema=schema))
    os.replace(part, target)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parsed(text: str, is_number: bool) -> Any:
    if not text:
        return None
    return float(text) if is_number else text


@dataclass
class _Totals:
    """What the totals are made of: the values of the columns that have a histogram, counts, and notes."""

    values: dict[str, array[float]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _notes: dict[str, set[str]] = field(default_factory=dict)
    _numbers_of_notes: Counter[tuple[str, int]] = field(default_factory=Counter)

    def add(self, row: Mapping[str, str], columns: Sequence[str]) -> None:
        """Count one row."""
        modality, notes = row["modality"], notes_of(row)
        self.counts[modality] += 1
        self._notes[modality] = self._notes.get(modality, notes) & notes
        self._numbers_of_notes[modality, len(notes)] += 1
        for column in columns:
            if _is_number(row[column]) and math.isfinite(float(row[column])):
                self.values.setdefault(column, array("d")).append(float(row[column]))

    def common_notes(self, modality: str) -> set[str]:
        """What the notes of all images of a modality say, if there are several: it is shown once, and not on each.

        That a bundle failed is shown on each.
        """
        notes = self._notes[modality] if self.counts[modality] > 1 else set()
        return {note for note in notes if FAILED not in note}

    @property
    def noted(self) -> int:
        """Number of images whose notes say more than those of all."""
        numbers = self._numbers_of_notes.items()
        return sum(count for (modality, notes), count in numbers if notes > len(self.common_notes(modality)))

    def plotted(self) -> Iterator[tuple[str, array[float]]]:
        """The columns that get a histogram, and their values; none in pixels where all are in micrometres too."""
        for column, values in self.values.items():
            stem = column.removesuffix("_px")
            if stem == column or len(self.values.get(f"{stem}_um", ())) < len(values):
                yield column, values


def notes_of(row: Mapping[str, str]) -> set[str]:
    """The parts of a row's note."""
    return {part for part in row["note"].split("; ") if part}


def write_report(folder: ExaminationFolder, entries: Sequence[Entry], disclaimer: str) -> None:
    """Write ``report.html`` and, where there are many photos, further pages beside it; none needs any other file.

    Args:
        folder: the folder with its rows.
        entries: the bundles that were run.
        disclaimer: what the report says on its use.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template(REPORT)
    plotted = {
        column: entry
        for entry in entries
        for column in folder.blocks[entry.name]
        if _plain(column, entry) in BY_COLUMN or _is_probability(column, entry)
    }
    totals = _Totals()
    count = 0
    for row in read_rows(folder.results):
        totals.add(row, list(plotted))
        count += 1
    bundles = {entry.name: about(entry) for entry in entries}
    pages = max(1, math.ceil(count / CARDS_PER_PAGE))
    names = [REPORT, *(REPORT.replace(".", f"_{page}.") for page in range(2, pages + 1))]
    failures = list(islice(read_rows(folder.failures), _MOST_FAILURES + 1))
    common = {
        "disclaimer": disclaimer,
        "source": folder.record.get("settings", {}).get("dataset_dir", ""),
        "count": count,
        "counts": totals.counts,
        "noted": totals.noted,
        "common_notes": {modality: sorted(totals.common_notes(modality)) for modality in totals.counts},
        "failed": folder.failed,
        "failures": failures[:_MOST_FAILURES],
        "more_failures": len(failures) > _MOST_FAILURES,
        "bundles": list(bundles.values()),
        "histograms": [
            _histogram(name, plotted[name], bundles[plotted[name].name], values) for name, values in totals.plotted()
        ],
        "sources": SOURCES,
        "pages": names,
        "per_page": CARDS_PER_PAGE,
        "has_saliency": any(column.startswith(f"{SALIENCY}_") for names in folder.blocks.values() for column in names),
        "heat_colours": HEAT_COLOURS,
        "colours": {name: css(COLOURS[name]) for name in LAYERS},
    }
    rows = read_rows(folder.results)
    for number, name in enumerate(names):
        cards = (
            _card(folder, row, entries, bundles, totals.common_notes(row["modality"]))
            for row in islice(rows, CARDS_PER_PAGE)
        )
        part = folder.folder / f".{name}.part"
        with part.open("w", encoding="utf-8") as file:
            file.writelines(template.generate(**common, number=number, cards=cards))
        os.replace(part, folder.folder / name)
    for stale in folder.folder.glob("report_*.html"):
        if stale.name not in names:
            stale.unlink()


def _classifiers(folder: ExaminationFolder, entries: Sequence[Entry]) -> list[dict[str, str]]:
    """For each bundle that gives probabilities, label to the column of its probability."""
    columns = {
        entry.name: [column for column in folder.blocks[entry.name] if _is_probability(column, entry)]
        for entry in entries
    }
    found = [{entry.prefix + _label(column, entry): column for column in columns[entry.name]} for entry in entries]
    return [labels for labels in found if labels]


def _label(column: str, entry: Entry) -> str:
    return _plain(column, entry).removeprefix("p_")


def _plain(column: str, entry: Entry) -> str:
    return column.removeprefix(entry.prefix)


def _is_probability(column: str, entry: Entry) -> bool:
    return _plain(column, entry).startswith("p_")


def about(entry: Entry) -> dict[str, Any]:
    """What a report says of a bundle, from its ``metadata.json``."""
    assert entry.folder is not None
    metadata = json.loads((entry.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    return {
        "name": entry.name,
        "title": metadata["name"],
        "version": metadata["version"],
        "description": metadata["description"],
        "data": metadata["data_source"],
        "labels": label_names(metadata),
        "performance": performance(metadata),
    }


def label_names(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The names of a classifier's labels, which its metadata give in ``label_classes`` as ``G (glaucoma)``."""
    return dict(re.findall(r"(\w+) \(([^()]+)\)", metadata["label_classes"]))


def performance(metadata: Mapping[str, Any]) -> str:
    """The measured performance in a bundle's metadata, in words, and of which weights it is if not the shipped ones."""
    parts = []
    for name, value in metadata["eval_metrics"].items():
        words = " ".join(_NAMES.get(word, word) for word in name.split("_"))
        parts.append(f"{words} {value:.3g}" if isinstance(value, float) else f"{words} {value}")
    of = metadata.get("eval_metrics_of")
    return ", ".join(parts) + (f" ({of})" if of else "")


def _card(
    folder: ExaminationFolder,
    row: Mapping[str, str],
    entries: Sequence[Entry],
    bundles: Mapping[str, dict[str, Any]],
    said: Set[str],
) -> dict[str, Any]:
    """What the card of one photo shows, without the notes that are said elsewhere."""
    small = folder.folder / row[THUMBNAIL]
    sections = []
    layers = []
    for entry in entries:
        cells = {column: row[column] for column in folder.blocks[entry.name] if column in row}
        if not any(cells.values()):
            continue
        paths = set(file_columns(cells))
        for column, place in cells.items():
            key = column.replace("mask_", "")
            picture = small.with_name(f"{small.stem}_{key}.png")
            if place.startswith(("masks/", f"{SALIENCY}/")) and picture.is_file():
                layers.append(_layer(key, picture))
        chances = {column: cell for column, cell in cells.items() if _is_probability(column, entry)}
        rest = [column for column in cells if column not in paths and column not in chances]
        measured = {_plain(column, entry): cells[column] for column in rest}
        bundle = bundles[entry.name]
        percents = [(label_of(_label(name, entry), bundle), float(cell)) for name, cell in chances.items() if cell]
        key = saliency_key(entry.name)
        sections.append(
            {
                "title": bundle["title"],
                "performance": bundle["performance"],
                "saliency": saliency_name(key) if any(layer["key"] == key for layer in layers) else "",
                "most": max(percents, key=lambda percent: percent[1])[0] if percents else "",
                "measured": [_measured(shown, measured[shown.column]) for shown in first_shown(measured)],
                "all": [(column, cell) for column, cell in measured.items()],
                "chances": percents,
                "files": [(Path(cells[path]).name, quote(cells[path])) for path in cells if path in paths],
            }
        )
    return {
        "row": row,
        "note": "; ".join(part for part in row["note"].split("; ") if part not in said),
        "is_oct": row["modality"] == OCT,
        "photo": _data_uri(small, "image/jpeg"),
        "layers": layers,
        "sections": sections,
    }


def label_of(label: str, bundle: Mapping[str, Any]) -> str:
    """A label as it is shown: ``G, glaucoma``; ``bundle`` is what `about` says of its bundle."""
    return f"{label}, {bundle['labels'][label]}" if label in bundle["labels"] else label


def _layer(key: str, picture: Path) -> dict[str, Any]:
    """One layer of a picture and its switch. Saliency is switched on when it is asked for: it hides what is below."""
    heat = is_saliency(key)
    words = saliency_name(key).replace("S", "s", 1) if heat else key.replace("_", " ")
    known = {"labels": ("layers", "linear-gradient(90deg,#e63c3c,#f0e13c,#3cbee6,#be5adc)")}
    label, colour = known.get(key, (words, HEAT_COLOURS if heat else css(colour_of(key))))
    return {"key": key, "label": label, "colour": colour, "uri": _data_uri(picture, "image/png"), "heat": heat}


def css(colour: tuple[int, int, int]) -> str:
    """An RGB colour as CSS."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _measured(shown: Shown, cell: str) -> dict[str, Any]:
    """One measurement of a card, with its reference range."""
    outside = False
    value = cell or "–"
    if _is_number(cell):
        number = float(cell) * shown.factor
        value = f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
        low = -math.inf if shown.low is None else shown.low
        high = math.inf if shown.high is None else shown.high
        outside = not low <= number <= high
    return {"shown": shown, "value": value, "outside": outside}


def _histogram(column: str, entry: Entry, bundle: Mapping[str, Any], values: Sequence[float]) -> dict[str, Any]:
    """The bars of a histogram, in percent of its width and height."""
    plain = _plain(column, entry)
    chance = _is_probability(column, entry)
    shown = Shown(column, f"Probability of {label_of(plain[2:], bundle)}") if chance else shown_as(plain)
    numbers = np.asarray(values) * shown.factor
    limits = (0.0, 1.0) if chance else (float(numbers.min()), float(numbers.max()))
    if limits[0] == limits[1]:
        limits = (limits[0] - 0.5, limits[1] + 0.5)
    bins = min(_MOST_BINS, max(_FEWEST_BINS, round(2 * math.sqrt(len(numbers)))))
    counts, edges = np.histogram(numbers, bins=bins, range=limits)
    highest = int(counts.max())
    prefix = entry.prefix.replace("_", " ")
    return {
        "label": prefix + shown.label,
        "unit": shown.unit,
        "bars": [
            {
                "left": 100 * (place + 0.05) / bins,
                "width": 90 / bins,
                "height": 96 * int(number) / highest,
                "count": int(number),
                "start": f"{edges[place]:.3g}",
                "stop": f"{edges[place + 1]:.3g}",
            }
            for place, number in enumerate(counts)
            if number
        ],
        "low": f"{limits[0]:.3g}",
        "high": f"{limits[1]:.3g}",
        "highest": highest,
        "count": len(numbers),
        "mean": f"{numbers.mean():.3g}",
        "deviation": f"{numbers.std(ddof=1):.3g}" if len(numbers) > 1 else "–",
        "median": f"{np.median(numbers):.3g}",
        "band": _band(shown, limits),
    }


def _band(shown: Shown, limits: tuple[float, float]) -> tuple[float, float] | None:
    """Where the reference range lies, as left edge and width in percent; None where there is none, or none of it."""
    if shown.low is None and shown.high is None:
        return None
    low = limits[0] if shown.low is None else max(limits[0], shown.low)
    high = limits[1] if shown.high is None else min(limits[1], shown.high)
    span = limits[1] - limits[0]
    return (100 * (low - limits[0]) / span, 100 * (high - low) / span) if high > low else None
