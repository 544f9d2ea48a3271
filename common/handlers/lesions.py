"""The evaluation report of lesions: what `SegmentationReport` has, the curves over all pixels, and lesion by lesion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine
from numpy.typing import NDArray

from common.handlers.evaluation import SegmentationReport
from common.metrics import (
    best_dice_threshold,
    bootstrap_interval,
    count_by_probability,
    lesion_detection,
    pooled_average_precision,
    pooled_overlap,
)
from common.readers import to_picture

_RESAMPLES = 1000
_OVERLAPS = ("pooled_dice", "pooled_iou", "pooled_precision", "pooled_recall")
_POOLED = ("pooled_aupr", *_OVERLAPS, "best_dice", "sensitivity", "false_positives_per_image")


class LesionReport(SegmentationReport):
    """Adds to the report, under ``lesions``, what is of the pixels of all photos together, and of each single lesion.

    For each lesion: ``pooled_aupr``, the area under the precision-recall curve over the pixels of all photos, with a
    95% bootstrap interval over patients; ``pooled_dice``, ``pooled_iou``, ``pooled_precision`` and ``pooled_recall`` of
    these pixels at the threshold; ``best_threshold``, with which ``pooled_dice`` would be highest on these photos, and
    ``best_dice``; ``sensitivity``, the share of the true lesions of all photos of which a part was found;
    ``false_positives_per_image``, the regions that were found where there is none of that lesion (see
    `common.metrics.lesion_detection`). ``mean`` has the means over the lesions, of these and of Dice, IoU, precision,
    recall and accuracy; ``per_image`` the counts of each photo.

    Args:
        *args: as for `SegmentationReport`.
        **kwargs: likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.found: list[dict[str, Any]] = []
        self.counts: dict[str, list[NDArray[np.int64]]] = {}

    def start(self, engine: Engine) -> None:
        """Forget an earlier run."""
        super().start(engine)
        self.found = []
        self.counts = {structure: [] for structure in self.structures}

    def score(self, engine: Engine) -> None:
        """Score the photos of one iteration."""
        super().score(engine)
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            data = {**item, **output}
            region = next((to_picture(data[key]) > 0 for key in self.region_keys if key in data), None)
            row: dict[str, Any] = {"image": data["name"], "patient": data.get("patient", data["name"])}
            for channel, structure in enumerate(self.structures):
                label = to_picture(data[self.label_key][[channel]])
                if label.min() < 0:  # it was not looked for on this photo
                    continue
                probability = to_picture(data[self.probability_key][[channel]])
                inside = np.ones(label.shape, dtype=bool) if region is None else region
                self.counts[structure].append(count_by_probability(probability[inside], label[inside] > 0.5))
                found = lesion_detection((probability >= self.threshold) & inside, (label > 0.5) & inside)
                row |= {f"{structure}_{name}": value for name, value in found.items()}
            self.found.append(row)

    def report(self) -> dict[str, Any]:
        """Put together what `write` writes."""
        report = super().report()
        annotated = {structure: self._of_lesion(structure) for structure in self._annotated()}
        pooled = {name: _mean([found[name] for found in annotated.values()]) for name in _POOLED}
        means = {
            name: _mean([content["all"][name]["mean"] for content in report["structures"].values()])
            for name in ("dice", "iou", "precision", "recall", "accuracy")
        }
        report["lesions"] = {
            "images": len(self.found),
            "mean": {**means, **pooled},
            **annotated,
            "per_image": self.found,
        }
        return report

    def _of_lesion(self, structure: str) -> dict[str, Any]:
        rows = [row for row in self.found if f"{structure}_lesions" in row]
        counts = np.stack(self.counts[structure])
        low, high = bootstrap_interval(
            np.arange(len(rows)),
            statistic=lambda drawn: pooled_average_precision(counts[drawn.astype(np.intp)].sum(axis=0)),
            groups=[row["patient"] for row in rows],
            resamples=_RESAMPLES,
            seed=self.seed,
        )
        together = counts.sum(axis=0)
        overlap, best = pooled_overlap(together, self.threshold), best_dice_threshold(together)
        best_dice = None if np.isnan(best) else _plain(pooled_overlap(together, best)["dice"])
        lesions = sum(row[f"{structure}_lesions"] for row in rows)
        detected = sum(row[f"{structure}_detected"] for row in rows)
        return {
            "images": len(rows),
            "pooled_aupr": _plain(pooled_average_precision(together)),
            "pooled_aupr_low": _plain(low),
            "pooled_aupr_high": _plain(high),
            **{name: _plain(overlap[name.removeprefix("pooled_")]) for name in _OVERLAPS},
            "best_threshold": _plain(best),
            "best_dice": best_dice,
            "lesions": lesions,
            "sensitivity": detected / lesions if lesions else None,
            "false_positives_per_image": sum(row[f"{structure}_false_positives"] for row in rows) / len(rows),
        }


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
