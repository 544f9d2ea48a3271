"""The evaluation report of optic disc and cup: what `SegmentationReport` has, and the cup-to-disc ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from common.biomarkers import cup_to_disc_ratios
from common.handlers.evaluation import SegmentationReport
from common.readers import to_picture

_GLAUCOMA = {"glaucoma": True, "no glaucoma": False}


class DiscCupReport(SegmentationReport):
    """Adds to the report what is of the whole photo, under ``photos``.

    ``disc_not_found`` names the photos, of all that were evaluated, on which no disc was found. Per photo on which disc
    and cup were annotated: ``dice_mean`` and ``iou_mean`` over both, the vertical cup-to-disc ratio of the prediction
    and of the truth, and ``vertical_cdr_error``, the absolute difference (not defined where no disc or no cup was
    found: ``not_found`` counts these). Where the data list says who has glaucoma (``class``), the area under the ROC
    curve of the predicted vertical cup-to-disc ratio, with a bootstrap interval over the photos of each class; photos
    without a ratio are left out of it, ``n`` counts the others.

    Args:
        *args: as for `SegmentationReport`; channel 0 is the disc, channel 1 the cup.
        **kwargs: likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.photos: list[dict[str, Any]] = []
        self.without_disc: list[str] = []

    def start(self, engine: Engine) -> None:
        """Forget an earlier run."""
        super().start(engine)
        self.photos = []
        self.without_disc = []

    def score(self, engine: Engine) -> None:
        """Score the photos of one iteration."""
        before = len(self.rows)
        super().score(engine)
        rows = self.rows[before:]
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            data = {**item, **output}
            if not (torch.as_tensor(data[self.pred_key or "pred"])[0] > 0).any():
                self.without_disc.append(str(data["name"]))
            own = [row for row in rows if row["image"] == data["name"]]
            if len(own) < len(self.structures):
                continue
            masks = [to_picture(data[self.pred_key or "pred"][[channel]]) > 0 for channel in range(2)]
            truths = [to_picture(data[self.label_key][[channel]]) > 0.5 for channel in range(2)]
            predicted = cup_to_disc_ratios(*masks).vertical if masks[0].any() and masks[1].any() else np.nan
            truth = cup_to_disc_ratios(*truths).vertical
            self.photos.append(
                {
                    **{name: own[0][name] for name in ("image", "patient", "dataset")},
                    "category": data.get("class", ""),
                    "dice_mean": float(np.mean([row["dice"] for row in own])),
                    "iou_mean": float(np.mean([row["iou"] for row in own])),
                    "vertical_cdr": predicted,
                    "vertical_cdr_truth": truth,
                    "vertical_cdr_error": abs(predicted - truth),
                }
            )

    def report(self) -> dict[str, Any]:
        """Put together what `write` writes."""
        report = super().report()
        report["photos"] = {"disc_not_found": self.without_disc}
        if self.photos:
            named = ("dice_mean", "iou_mean", "vertical_cdr_error")
            datasets = sorted({row["dataset"] for row in self.photos} - {""})
            report["photos"] |= {
                "images": len(self.photos),
                "not_found": sum(bool(np.isnan(row["vertical_cdr"])) for row in self.photos),
                "all": self._photo_summary(self.photos, named),
                "by_dataset": {
                    name: self._photo_summary([row for row in self.photos if row["dataset"] == name], named)
                    for name in datasets
                },
                "per_image": [
                    {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in row.items()}
                    for row in self.photos
                ],
            }
        return report

    def _photo_summary(self, rows: list[dict[str, Any]], named: tuple[str, ...]) -> dict[str, Any]:
        summary = self._summary([{**{name: row[name] for name in named}, "patient": row["patient"]} for row in rows])
        known = [row for row in rows if row["category"] in _GLAUCOMA and not np.isnan(row["vertical_cdr"])]
        sick = np.array([row["vertical_cdr"] for row in known if _GLAUCOMA[row["category"]]])
        healthy = np.array([row["vertical_cdr"] for row in known if not _GLAUCOMA[row["category"]]])
        if len(sick) > 1 and len(healthy) > 1:
            summary["glaucoma_auc_of_vertical_cdr"] = self._separation(sick, healthy)
        return summary

    def _separation(self, sick: NDArray[np.float64], healthy: NDArray[np.float64]) -> dict[str, float | int]:
        def auc(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
            truth = np.repeat([1, 0], [len(one), len(other)])
            return float(roc_auc_score(truth, np.concatenate([one, other])))

        interval = stats.bootstrap(
            (sick, healthy), auc, vectorized=False, paired=False, method="percentile", n_resamples=2000, rng=self.seed
        ).confidence_interval
        return {
            "mean": auc(sick, healthy),
            "low": float(interval.low),
            "high": float(interval.high),
            "n": len(sick) + len(healthy),
            "glaucoma": len(sick),
        }
