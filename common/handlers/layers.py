"""What inference and evaluation of retinal layers write: label maps, profiles, and the report against both graders."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from ignite.engine import Engine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.metrics import compute_hausdorff_distance
from numpy.typing import NDArray

from common.biomarkers.layers import (
    BOUNDARIES,
    LAYERS,
    UNANNOTATED,
    column_name,
    labels_to_boundaries,
    layer_thickness,
    order_violations,
)
from common.handlers.evaluation import SegmentationReport
from common.handlers.results import ResultWriter
from common.metrics import segmentation_scores
from common.pictures import COLOURS, encode_label_map, encode_picture, encode_probability, layer_overlay
from common.readers import to_picture

Floats = NDArray[np.floating]
_SCORES = ("dice", "iou", "precision", "recall", "specificity", "accuracy")
_PARTS = ("scans", "second_grader", "between_graders", "with_fluid", "without_fluid")


class LayerWriter(ResultWriter):
    """Writes one row and the files of every B-scan as soon as it is done.

    Per B-scan: ``<name>_labels.png`` (uint8, the label map at the B-scan's own size), ``<name>_overlay.jpg`` (layers in
    colour with the eight boundaries), ``<name>_figure.jpg`` (B-scan, overlay and thickness along it),
    ``<name>_profile.csv`` (boundaries and thickness of every column), and with ``save_probability``
    ``<name>_probability_<layer>.png``.

    Args:
        *args: as for `ResultWriter`; the structures are the layers, and ``pred`` is the label map ``(1, W, H)``.
        boundaries_key: boundaries ``(8, W)``.
        pixel_size: micrometres per row of B-scans whose item has no ``axial_scale``, or None when it is not known.
        **kwargs: as for `ResultWriter`.
    """

    def __init__(
        self, *args: Any, boundaries_key: str = "boundaries", pixel_size: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.boundaries_key = boundaries_key
        self.pixel_size = pixel_size
        self._figures = _Figures() if self.figure else None

    def _write(self, data: Mapping[str, Any]) -> None:
        name = data["output_name"]
        labels = to_picture(data[self.pred_key])
        boundaries = torch.as_tensor(data[self.boundaries_key]).cpu().numpy()
        scan = to_picture(data[self.photo_key])
        pixel_size = data.get("axial_scale", self.pixel_size)
        row: dict[str, Any] = {"image": data["name"], "labels": f"{name}_labels.png"}
        self.results.write(row["labels"], encode_label_map(labels))
        if self.save_probability:
            for channel, layer in enumerate(self.structures, start=1):
                row[f"probability_{layer}"] = f"{name}_probability_{layer}.png"
                probability = to_picture(data[self.probability_key][[channel]])
                self.results.write(row[f"probability_{layer}"], encode_probability(probability))
        row["overlay"] = f"{name}_overlay.jpg"
        drawn = layer_overlay(scan, labels, boundaries)
        self.results.write(row["overlay"], encode_picture(drawn))
        if self._figures is not None:
            row["figure"] = f"{name}_figure.jpg"
            self.results.write(row["figure"], self._figures.draw(scan, drawn, boundaries, pixel_size))
        row["profile"] = f"{name}_profile.csv"
        self.results.write(row["profile"], profile_table(boundaries, pixel_size))
        row["volume"] = data["volume"]
        row.update(data.get(self.biomarker_key, {}))
        row["note"] = data.get("note", "")
        self.results.add_row(row)


def profile_table(boundaries: Floats, pixel_size: float | None = None) -> bytes:
    """Write boundaries and thickness of every column as a table.

    Args:
        boundaries: ``(8, W)``, NaN where there are none.
        pixel_size: micrometres per row; thickness is given in micrometres too when it is known.

    Returns:
        CSV: ``column_px`` (from 0 on), ``<boundary>_row_px`` (rows from 0 on), ``<layer>_thickness_px`` and ``_um``;
        an empty cell where there is none.
    """
    columns: dict[str, NDArray[Any]] = {"column_px": np.arange(boundaries.shape[1])}
    for boundary, rows in zip(BOUNDARIES, boundaries, strict=True):
        columns[f"{column_name(boundary).replace('/', '_')}_row_px"] = rows
    for layer, thickness in layer_thickness(boundaries).items():
        columns[f"{column_name(layer)}_thickness_px"] = thickness
        if pixel_size is not None:
            columns[f"{column_name(layer)}_thickness_um"] = thickness * pixel_size
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(columns)
    line = "%d" + ",%.6g" * (len(columns) - 1) + "\n"
    for values in np.stack(list(columns.values()), axis=1).tolist():
        text.write((line % tuple(values)).replace("nan", ""))
    return text.getvalue().encode("utf-8")


class _Figures:
    """Draws B-scan, overlay, and the thickness of each layer along the B-scan, as JPEG.

    Most of the time goes to the axes, ticks and legend, so they are kept from one B-scan to the next.
    """

    def __init__(self) -> None:
        self.figure = Figure(figsize=(12, 7), dpi=80)
        self.canvas = FigureCanvasAgg(self.figure)
        self.profile = self.figure.add_axes((0.06, 0.09, 0.8, 0.4))
        self.lines = {
            layer: self.profile.plot([], label=layer, color=[value / 255 for value in COLOURS[layer]])[0]
            for layer in LAYERS
        }
        self.profile.set(xlabel="column (px)")
        self.profile.grid(alpha=0.3)
        self.profile.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)

    def draw(
        self, scan: NDArray[np.uint8], drawn: NDArray[np.uint8], boundaries: Floats, pixel_size: float | None
    ) -> bytes:
        """Draw one B-scan ``(H, W)`` with its overlay ``(h, w, 3)`` and boundaries ``(8, W)``.

        Args:
            scan: the B-scan.
            drawn: its overlay.
            boundaries: its boundaries.
            pixel_size: micrometres per row, or None when it is not known.
        """
        thickness = layer_thickness(boundaries)
        for layer, line in self.lines.items():
            line.set_data(np.arange(boundaries.shape[1]), thickness[layer] * (pixel_size or 1.0))
        self.profile.relim()
        self.profile.autoscale()
        unit = "px" if pixel_size is None else "µm"
        self.profile.set(ylabel=f"thickness ({unit})", xlim=(0, boundaries.shape[1] - 1), ylim=(0, None))
        self.canvas.draw()
        picture = np.array(self.canvas.buffer_rgba(), dtype=np.uint8)[..., :3]
        height, width = picture.shape[:2]
        for left, shown in ((0.04, np.repeat(scan[..., None], 3, axis=2)), (0.52, drawn)):
            x, y = round(left * width), round(0.05 * height)
            size = (round(0.44 * width), round(0.4 * height))
            picture[y : y + size[1], x : x + size[0]] = cv2.resize(shown, size, interpolation=cv2.INTER_AREA)
        return encode_picture(picture)


def compare_layers(labels: NDArray[np.integer], boundaries: Floats, truth: NDArray[np.integer]) -> dict[str, float]:
    """Compare layers with a grader's, over the columns in which the grader drew all eight boundaries.

    - ``dice_<layer>`` ... ``specificity_<layer>`` as in `common.metrics.segmentation_scores`, ``<score>_mean`` over the
      layers in which it is defined, ``pixel_accuracy`` (the share of pixels with the grader's label, background too).
    - ``hausdorff95_<layer>_px``: the larger of the two 95th percentiles of the distances from the edge of one region to
      that of the other, as MONAI has it. It is NaN, not 0, where the prediction or the truth has no pixel of the layer;
      ``hausdorff95_undefined_count`` says for how many layers.
    - ``error_<boundary>_px``: mean absolute distance of the boundaries in the columns in which both have them,
      ``bias_<boundary>_px``: mean distance, positive where the prediction lies deeper; ``boundary_error_px``: mean over
      the boundaries. ``missing_columns_count``: columns that the grader drew and in which no retina was found.
    - ``order_violations_count``: `common.biomarkers.layers.order_violations` over all columns.

    Args:
        labels: ``(H, W)``, 0 to 7.
        boundaries: ``(8, W)``, NaN where no retina was found.
        truth: ``(H, W)``, with `UNANNOTATED`.

    Returns:
        Measure to value; NaN for what is not defined, everything but the counts where no column is annotated.
    """
    true_boundaries = labels_to_boundaries(truth)
    columns = ~np.isnan(true_boundaries).any(axis=0)
    found: dict[str, float] = {}
    by_score: dict[str, list[float]] = {name: [] for name in (*_SCORES, "hausdorff95")}
    for layer, name in enumerate(LAYERS, start=1):
        predicted, true = (labels == layer) & columns, (truth == layer) & columns
        inside = true[:, columns]
        scores = (
            segmentation_scores(inside.astype(np.float32), inside, predicted=predicted[:, columns])
            if columns.any()
            else dict.fromkeys(_SCORES, float("nan"))
        )
        for score in _SCORES:
            found[f"{score}_{name}"] = scores[score]
            by_score[score].append(scores[score])
        found[f"hausdorff95_{name}_px"] = hausdorff95(predicted, true)
        by_score["hausdorff95"].append(found[f"hausdorff95_{name}_px"])
    for score, values in by_score.items():
        column = "hausdorff95_mean_px" if score == "hausdorff95" else f"{score}_mean"
        found[column] = float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
    found["hausdorff95_undefined_count"] = int(np.isnan(by_score["hausdorff95"]).sum())
    same = (labels == truth)[:, columns]
    found["pixel_accuracy"] = float(same.mean()) if same.size else float("nan")
    distance = boundaries - true_boundaries
    both = ~np.isnan(distance).any(axis=0)
    for boundary, values in zip(BOUNDARIES, distance[:, both], strict=True):
        found[f"error_{boundary}_px"] = float(np.abs(values).mean()) if values.size else float("nan")
        found[f"bias_{boundary}_px"] = float(values.mean()) if values.size else float("nan")
    found["boundary_error_px"] = float(np.mean([found[f"error_{boundary}_px"] for boundary in BOUNDARIES]))
    found["missing_columns_count"] = int((columns & ~both).sum())
    found["order_violations_count"] = order_violations(labels)
    return found


def compare_argmax(probability: torch.Tensor, truth: NDArray[np.integer]) -> dict[str, float]:
    """Compare the most probable class of each pixel with a grader's layers, over the columns that he drew.

    Args:
        probability: ``(8, W, H)``.
        truth: ``(H, W)``, with `UNANNOTATED`.

    Returns:
        ``dice_argmax_mean`` over the layers in which it is defined, and ``order_violations_argmax_count``.
    """
    labels = to_picture(probability.argmax(dim=0, keepdim=True).to(torch.uint8))
    columns = ~np.isnan(labels_to_boundaries(truth)).any(axis=0)
    found, true = labels[:, columns], truth[:, columns]
    dice = [
        segmentation_scores((true == layer).astype(np.float32), true == layer, predicted=found == layer)["dice"]
        for layer in range(1, len(LAYERS) + 1)
        if columns.any()
    ]
    mean = float("nan") if np.isnan(dice).all() else float(np.nanmean(dice))
    return {"dice_argmax_mean": mean, "order_violations_argmax_count": order_violations(labels)}


def hausdorff95(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """95th percentile Hausdorff distance of two masks ``(H, W)`` in pixels; NaN where one of them is empty."""
    if not one.any() or not other.any():
        return float("nan")
    # Nothing lies outside the box around both, and the smaller the picture the sooner it is done.
    rows, columns = (np.flatnonzero((one | other).any(axis=axis)) for axis in (1, 0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    first, second = (torch.as_tensor(np.pad(mask[box], 1)[None, None].astype(np.uint8)) for mask in (one, other))
    return float(compute_hausdorff_distance(first, second, include_background=True, percentile=95))


class LayerReport(SegmentationReport):
    """The evaluation report of retinal layers: what `SegmentationReport` has for each layer, and whole B-scans.

    Columns count in which the first grader drew all eight boundaries. For each layer ``hausdorff95_px`` is added. Under
    ``scans`` stands `compare_layers` of every B-scan with the first grader (lengths in micrometres too where
    ``pixel_size`` is given), with means and intervals over patients; ``dice_argmax_mean`` and
    ``order_violations_argmax_count`` are those of the most probable class of each pixel (`compare_argmax`). Under
    ``second_grader`` stands the same with the second grader, and under ``between_graders`` that of the second grader,
    taken as a prediction, with the first, where the data have one; under ``with_fluid`` and ``without_fluid`` the
    columns with and without the fluid of oedema, against the first grader, where the data have it. The means go to
    TensorBoard, too. B-scans without an annotated column are named in ``not_annotated``.

    Args:
        *args: as for `SegmentationReport`; ``probability`` ``(8, W, H)`` has the background as its first channel.
        pixel_size: micrometres per row, or None when it is not known.
        second_key: label map of the second grader.
        boundaries_key: predicted boundaries ``(8, W)``.
        fluid_key: mask ``(1, W, H)`` of the fluid.
        **kwargs: as for `SegmentationReport`; the key of the prediction is that of a label map ``(1, W, H)``.
    """

    def __init__(
        self,
        *args: Any,
        pixel_size: float | None = None,
        second_key: str = "label_2",
        boundaries_key: str = "boundaries",
        fluid_key: str = "fluid",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **{"pred_key": "pred", "metrics": (*_SCORES, "auc", "aupr"), **kwargs})
        self.pixel_size = pixel_size
        self.second_key = second_key
        self.boundaries_key = boundaries_key
        self.fluid_key = fluid_key
        self.scans: dict[str, list[dict[str, Any]]] = {}
        self.not_annotated: list[str] = []

    def start(self, engine: Engine) -> None:
        """Forget an earlier run."""
        super().start(engine)
        self.scans = {name: [] for name in _PARTS}
        self.not_annotated = []

    def score(self, engine: Engine) -> None:
        """Score the B-scans of one iteration."""
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            data = {**item, **output}
            labels = to_picture(data[self.pred_key or "pred"])
            boundaries = torch.as_tensor(data[self.boundaries_key]).cpu().numpy()
            truth = to_picture(data[self.label_key]).astype(np.uint8)
            about = {
                "image": data["name"],
                "patient": data.get("patient", data["name"]),
                "dataset": data.get("dataset", ""),
            }
            if np.isnan(labels_to_boundaries(truth)).all():
                self.not_annotated.append(str(data["name"]))
            else:
                plain = compare_argmax(torch.as_tensor(data[self.probability_key]), truth)
                self.scans["scans"].append({**about, **self._compare(labels, boundaries, truth), **plain})
                if self.fluid_key in data:
                    self._score_fluid(to_picture(data[self.fluid_key]) > 0, labels, boundaries, truth, about)
                self._score_layers(data, labels, truth, about, engine.state.iteration)
            if self.second_key in data:
                second = to_picture(data[self.second_key]).astype(np.uint8)
                second_boundaries = labels_to_boundaries(second)
                if not np.isnan(second_boundaries).all():
                    self.scans["second_grader"].append({**about, **self._compare(labels, boundaries, second)})
                both = ~np.isnan(second_boundaries).any(axis=0)
                shared = np.where(both, truth, UNANNOTATED).astype(np.uint8)
                if not np.isnan(labels_to_boundaries(shared)).all():
                    drawn = np.where(both, second, 0)
                    self.scans["between_graders"].append({**about, **self._compare(drawn, second_boundaries, shared)})

    def _score_fluid(
        self,
        fluid: NDArray[np.bool_],
        labels: NDArray[np.integer],
        boundaries: Floats,
        truth: NDArray[np.uint8],
        about: Mapping[str, Any],
    ) -> None:
        """Add a row for the columns with fluid and one for those without, where such columns are annotated."""
        for part, columns in (("with_fluid", fluid.any(axis=0)), ("without_fluid", ~fluid.any(axis=0))):
            shown = np.where(columns, truth, UNANNOTATED).astype(np.uint8)
            if not np.isnan(labels_to_boundaries(shown)).all():
                self.scans[part].append({**about, **self._compare(labels, boundaries, shown)})

    def _compare(self, labels: NDArray[np.integer], boundaries: Floats, truth: NDArray[np.integer]) -> dict[str, float]:
        found = compare_layers(labels, boundaries, truth)
        if self.pixel_size is None:
            return found
        lengths = {
            f"{name[:-3]}_um": value * self.pixel_size
            for name, value in found.items()
            if name.endswith("_px") and not name.startswith("hausdorff95")
        }
        return {**found, **lengths}

    def _score_layers(
        self,
        data: Mapping[str, Any],
        labels: NDArray[np.integer],
        truth: NDArray[np.uint8],
        about: Mapping[str, Any],
        iteration: int,
    ) -> None:
        """Add a row for each layer, and a sample of its probabilities for the curves."""
        columns = ~np.isnan(labels_to_boundaries(truth)).any(axis=0)
        region = np.broadcast_to(columns, truth.shape)
        generator = np.random.default_rng((self.seed, iteration))
        for layer, structure in enumerate(self.structures, start=1):
            probability = np.clip(to_picture(data[self.probability_key][[layer]]), 0, 1)
            true, predicted = truth == layer, labels == layer
            scores = segmentation_scores(probability, true, region, self.threshold, predicted)
            kept = {name: scores[name] for name in self.metrics or scores}
            distance = hausdorff95(predicted & region, true & region)
            self.rows.append({**about, "structure": structure, **kept, "hausdorff95_px": distance})
            self._sample(structure, probability, true, region, generator)

    def report(self) -> dict[str, Any]:
        """Put together what `write` writes."""
        report = super().report()
        report["settings"]["pixel_size"] = self.pixel_size
        if self.not_annotated:
            report["not_annotated"] = self.not_annotated
        for part, rows in self.scans.items():
            if rows:
                datasets = sorted({row["dataset"] for row in rows} - {""})
                report[part] = {
                    "images": len(rows),
                    "patients": len({row["patient"] for row in rows}),
                    "all": self._summary(rows),
                    "by_dataset": {name: self._summary([r for r in rows if r["dataset"] == name]) for name in datasets},
                    "per_image": [
                        {key: None if isinstance(v, float) and np.isnan(v) else v for key, v in row.items()}
                        for row in rows
                    ],
                }
        return report

    def _means(self, report: Mapping[str, Any]) -> dict[str, float | None]:
        parts = {
            f"{part}/{name}": measure["mean"]
            for part in _PARTS
            if part in report
            for name, measure in report[part]["all"].items()
        }
        return {**super()._means(report), **parts}

    def write(self, engine: Engine) -> None:
        """Write the report and its figure, and log what is most looked at."""
        super().write(engine)
        for part, rows in self.scans.items():
            if rows:
                summary = self._summary(rows)
                shown = [
                    f"{name} {summary[name]['mean']:.4f}"
                    for name in ("dice_mean", "boundary_error_px", "boundary_error_um", "order_violations_count")
                    if summary.get(name, {}).get("mean") is not None
                ]
                self.logger.info(f"{part}: {len(rows)} B-scans, {', '.join(shown)}")

    def _figure(self) -> Figure:
        figure = Figure(figsize=(13, 4.6), layout="constrained")
        dice, error = figure.subplots(1, 2)
        named = {"scans": "grader 1", "second_grader": "grader 2", "between_graders": "grader 2 against grader 1"}
        parts = [part for part in named if self.scans[part]]
        for place, part in enumerate(parts):
            shift = (place - (len(parts) - 1) / 2) * 0.25
            rows = self.scans[part]
            for axis, names, column in (
                (dice, LAYERS, "dice_{}"),
                (error, BOUNDARIES, "error_{}_px" if self.pixel_size is None else "error_{}_um"),
            ):
                values = [_defined(rows, column.format(name)) for name in names]
                boxes = axis.boxplot(
                    values,
                    positions=np.arange(len(names)) + shift,
                    widths=0.2,
                    patch_artist=True,
                    manage_ticks=False,
                    medianprops={"color": "black"},
                )
                for box in boxes["boxes"]:
                    box.set_facecolor(f"C{place}")
                axis.plot([], [], color=f"C{place}", linewidth=6, label=named[part])
        dice.set(title="Dice of each layer, by B-scan", ylim=(0, 1))
        dice.set_xticks(range(len(LAYERS)), LAYERS)
        unit = "px" if self.pixel_size is None else "µm"
        error.set(title=f"mean absolute error of each boundary, by B-scan ({unit})", ylim=(0, None))
        error.set_xticks(range(len(BOUNDARIES)), BOUNDARIES)
        for axis in (dice, error):
            axis.grid(alpha=0.3, axis="y")
            axis.legend(loc="best")
        return figure


def _defined(rows: Sequence[Mapping[str, Any]], column: str) -> list[float]:
    return [row[column] for row in rows if not np.isnan(row[column])]
