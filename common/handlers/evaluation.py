"""The evaluation report: metrics per photo and over all of them, as JSON and as a figure."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve
from torch.utils.tensorboard import SummaryWriter

from common.metrics import segmentation_scores, summarise
from common.readers import to_picture

_CURVE_SAMPLE = 20_000


class SegmentationReport:
    """Scores every photo inside its field of view at its own size, and writes ``evaluation_report.json`` and ``.png``.

    The report has, for each structure that was annotated on some photo, the metrics of every photo, their means with
    95% bootstrap intervals over patients, and the same for each data set that the list names. The means and the figure
    go to a TensorBoard log in the same folder, too.

    Args:
        output_dir: folder of the report.
        structures: names of the channels.
        threshold: probability from which a pixel counts as found.
        settings: what else the report should say (data list, weights, split).
        probability_key: probabilities ``(C, W, H)``.
        label_key: truth ``(C, W, H)``; a channel that was not annotated is negative.
        region_keys: masks ``(1, W, H)`` of the field of view; the first that is there is used, the whole photo if none.
        pred_key: final masks ``(C, W, H)``, where they are more than the probabilities above the threshold.
        metrics: names of the metrics to report; all of `common.metrics.segmentation_scores` when None.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        output_dir: str | Path,
        structures: Sequence[str],
        threshold: float = 0.5,
        settings: Mapping[str, Any] | None = None,
        probability_key: str = "probability",
        label_key: str = "label",
        region_keys: Sequence[str] = ("region", "fov"),
        pred_key: str | None = None,
        metrics: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.folder = Path(output_dir)
        self.structures = tuple(structures)
        self.threshold = threshold
        self.settings = dict(settings or {})
        self.probability_key = probability_key
        self.label_key = label_key
        self.region_keys = tuple(region_keys)
        self.pred_key = pred_key
        self.metrics = None if metrics is None else tuple(metrics)
        self.seed = seed
        self.logger = logging.getLogger(type(self).__name__)
        self.rows: list[dict[str, Any]] = []
        self.samples: dict[str, list[NDArray[np.float32]]] = {}

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.score)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def start(self, engine: Engine) -> None:
        """Forget an earlier run."""
        self.rows = []
        self.samples = {structure: [] for structure in self.structures}

    def score(self, engine: Engine) -> None:
        """Score the photos of one iteration."""
        generator = np.random.default_rng((self.seed, engine.state.iteration))
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            data = {**item, **output}
            region = next((to_picture(data[key]) > 0 for key in self.region_keys if key in data), None)
            for channel, structure in enumerate(self.structures):
                probability = to_picture(data[self.probability_key][[channel]])
                label = to_picture(data[self.label_key][[channel]])
                if label.min() < 0:  # this structure was not annotated on this photo
                    continue
                truth = label > 0.5
                predicted = None if self.pred_key is None else to_picture(data[self.pred_key][[channel]]) > 0
                scores = segmentation_scores(probability, truth, region, self.threshold, predicted)
                if self.metrics is not None:
                    scores = {name: scores[name] for name in self.metrics}
                self.rows.append(
                    {
                        "image": data["name"],
                        "patient": data.get("patient", data["name"]),
                        "dataset": data.get("dataset", ""),
                        "structure": structure,
                        **scores,
                    }
                )
                self._sample(structure, probability, truth, region, generator)

    def _sample(
        self,
        structure: str,
        probability: NDArray[np.floating],
        truth: NDArray[np.bool_],
        region: NDArray[np.bool_] | None,
        generator: np.random.Generator,
    ) -> None:
        """Keep some pixels of a photo for the curves."""
        inside = np.arange(truth.size) if region is None else np.flatnonzero(region)
        drawn = generator.choice(inside, min(_CURVE_SAMPLE, len(inside)), replace=False)
        self.samples[structure].append(np.stack([probability.ravel()[drawn], truth.ravel()[drawn].astype(np.float32)]))

    def _summary(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        described = ("image", "patient", "dataset", "structure")
        scores = [{name: value for name, value in row.items() if name not in described} for row in rows]
        summary: dict[str, Any] = summarise(scores, groups=[row["patient"] for row in rows], seed=self.seed)
        return summary

    def _annotated(self) -> list[str]:
        """The structures that were annotated on some photo."""
        return [structure for structure in self.structures if self.samples[structure]]

    def report(self) -> dict[str, Any]:
        """Put together what `write` writes."""
        structures: dict[str, Any] = {}
        for structure in self._annotated():
            rows = [row for row in self.rows if row["structure"] == structure]
            datasets = sorted({row["dataset"] for row in rows} - {""})
            structures[structure] = {
                "images": len(rows),
                "patients": len({row["patient"] for row in rows}),
                "all": self._summary(rows),
                "by_dataset": {name: self._summary([r for r in rows if r["dataset"] == name]) for name in datasets},
                "per_image": [
                    {name: _plain(value) for name, value in row.items() if name != "structure"} for row in rows
                ],
            }
        return {"settings": {**self.settings, "threshold": self.threshold}, "structures": structures}

    def write(self, engine: Engine) -> None:
        """Write the report and its figure, and both to TensorBoard."""
        self.folder.mkdir(parents=True, exist_ok=True)
        report = self.report()
        path = self.folder / "evaluation_report.json"
        path.write_text(json.dumps(report, indent=4) + "\n", encoding="utf-8")
        figure = self._figure()
        figure.savefig(self.folder / "evaluation_report.png", dpi=120)
        with SummaryWriter(str(self.folder)) as writer:
            for name, mean in self._means(report).items():
                if mean is not None:
                    writer.add_scalar(f"evaluation/{name}", mean, 0)
            writer.add_figure("evaluation_report", figure, 0)
        for structure, content in report["structures"].items():
            dice, auc = content["all"]["dice"], content["all"]["auc"]
            self.logger.info(
                f"{structure}: {content['images']} photos of {content['patients']} patients, "
                f"Dice {_number(dice['mean'])}, AUC {_number(auc['mean'])}; report: {path}"
            )

    def _means(self, report: Mapping[str, Any]) -> dict[str, float | None]:
        """What goes to TensorBoard: name to mean."""
        return {
            f"{structure}/{name}": measure["mean"]
            for structure, content in report["structures"].items()
            for name, measure in content["all"].items()
        }

    def _figure(self) -> Figure:
        structures = self._annotated()
        figure = Figure(figsize=(13, 4.2 * len(structures)), layout="constrained")
        axes = figure.subplots(len(structures), 3, squeeze=False)
        for (roc, precision_recall, dice), structure in zip(axes, structures, strict=True):
            probability, truth = np.concatenate(self.samples[structure], axis=1)
            both = 0 < truth.sum() < len(truth)
            if both:
                false_positive, sensitivity, _ = roc_curve(truth, probability)
                roc.plot(false_positive, sensitivity)
                precision, recall, _ = precision_recall_curve(truth, probability)
                precision_recall.plot(recall, precision)
            roc.set(xlabel="1 - specificity", ylabel="sensitivity", title=f"{structure}: ROC", xlim=(0, 1), ylim=(0, 1))
            precision_recall.set(
                xlabel="recall", ylabel="precision", title=f"{structure}: precision-recall", xlim=(0, 1), ylim=(0, 1)
            )
            rows = [row for row in self.rows if row["structure"] == structure]
            names = sorted({row["dataset"] for row in rows})
            for place, name in enumerate(names):
                values = [row["dice"] for row in rows if row["dataset"] == name]
                dice.plot(np.full(len(values), place) + np.linspace(-0.15, 0.15, len(values)), values, "o", alpha=0.6)
            dice.set(title=f"{structure}: Dice of each photo", ylim=(0, 1), ylabel="Dice")
            dice.set_xticks(range(len(names)), [name or "all" for name in names])
            for axis in (roc, precision_recall, dice):
                axis.grid(alpha=0.3)
        return figure


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"
