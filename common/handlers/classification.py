"""What training, evaluation and inference of a classifier write: figures, the report, tables, saliency."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from monai.data import MetaTensor
from monai.transforms import Invertd, InvertibleTransform
from numpy.typing import NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from common.errors import SettingError
from common.handlers.figures import NormalizedPhoto
from common.handlers.results import RowWriter
from common.metrics import best_threshold, score_labels_with_intervals
from common.patients import PATIENTS, patient_rows, patient_table, patient_truths, write_patients
from common.pictures import caption, encode_picture, heat_overlay, reduced
from common.readers import from_picture, to_picture
from common.results import ResultFolder, check_flag
from common.saliency import Saliency

PHOTOS = "photos.csv"
REPORT = "evaluation_report.json"
_SALIENCY_SIDE = 512


class _Predictions:
    """Gathers name, probabilities and truth of every photo of a run, and does something with them at its end.

    Args:
        labels: name of each probability.
        pred_key: probabilities ``(C,)``.
        label_key: truth ``(C,)``, 0 or 1.
    """

    def __init__(self, labels: Sequence[str], pred_key: str = "pred", label_key: str = "label") -> None:
        self.labels = list(labels)
        self.pred_key = pred_key
        self.label_key = label_key
        self.names: list[str] = []
        self._probabilities: list[NDArray[np.float64]] = []
        self._truths: list[NDArray[np.bool_]] = []

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Forget an earlier run."""
        self.names, self._probabilities, self._truths = [], [], []

    def add(self, engine: Engine) -> None:
        """Keep the photos of one iteration."""
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            data = {**item, **output}
            probability = torch.as_tensor(data[self.pred_key]).detach().double().cpu().numpy()
            truth = torch.as_tensor(data[self.label_key]).detach().cpu().numpy() > 0.5
            if probability.shape != (len(self.labels),) or truth.shape != probability.shape:
                raise SettingError(
                    f"labels are {', '.join(self.labels)}, and there are {probability.size} probabilities and "
                    f"{truth.size} truths of a photo: give as many labels as the postprocessing leaves probabilities."
                )
            self.names.append(str(data["name"]))
            self._probabilities.append(probability)
            self._truths.append(truth)

    @property
    def probability(self) -> NDArray[np.float64]:
        """``(n, C)``."""
        return np.stack(self._probabilities)

    @property
    def truth(self) -> NDArray[np.bool_]:
        """``(n, C)``."""
        return np.stack(self._truths)

    def finish(self, engine: Engine) -> None:
        """Do what is done at the end of a run."""
        raise NotImplementedError


# --- figures ---------------------------------------------------------------------------------------------------------


def _grid(count: int, side: float, columns: int = 4) -> tuple[Figure, list[Any]]:
    """A figure with a place for each of some plots."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(side * columns, side * rows), layout="constrained", dpi=90)
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place in places[count:]:
        place.set_axis_off()
    return figure, places[:count]


def confusion_figure(
    probability: NDArray[np.float64], truth: NDArray[np.bool_], labels: Sequence[str], threshold: float = 0.5
) -> Figure:
    """Draw a confusion matrix of each label at a threshold.

    Args:
        probability: ``(n, C)``.
        truth: ``(n, C)``.
        labels: name of each column.
        threshold: from which probability on a label is called.
    """
    figure, places = _grid(len(labels), 2.6)
    for i, (place, label) in enumerate(zip(places, labels, strict=True)):
        counts = confusion_matrix(truth[:, i], probability[:, i] >= threshold, labels=[False, True])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        place.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.6 else "black"
            place.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color=colour)
        place.set_xticks([0, 1], [f"not {label}", label])
        place.set_yticks([0, 1], [f"not {label}", label])
        place.set(xlabel="predicted", ylabel="truth", title=label)
    return figure


def roc_figure(probability: NDArray[np.float64], truth: NDArray[np.bool_], labels: Sequence[str]) -> Figure:
    """Draw the ROC curve of each label that has both kinds of items.

    Args:
        probability: ``(n, C)``.
        truth: ``(n, C)``.
        labels: name of each column.
    """
    figure = Figure(figsize=(6.5, 5.5), layout="constrained", dpi=90)
    axis = figure.subplots()
    for i, label in enumerate(labels):
        if 0 < truth[:, i].sum() < len(truth):
            false_positive, sensitivity, _ = roc_curve(truth[:, i], probability[:, i])
            area = roc_auc_score(truth[:, i], probability[:, i])
            axis.plot(false_positive, sensitivity, label=f"{label} ({truth[:, i].sum()}): AUC {area:.3f}")
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axis.axvline(0.1, color="grey", linewidth=0.8)
    axis.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1), title="ROC")
    axis.grid(alpha=0.3)
    if len(axis.lines) > 2:
        axis.legend(loc="lower right")
    return figure


def calibration_figure(
    probability: NDArray[np.float64], truth: NDArray[np.bool_], labels: Sequence[str], bins: int = 10
) -> Figure:
    """Draw how often each label is there among the photos of about the same probability.

    Args:
        probability: ``(n, C)``.
        truth: ``(n, C)``.
        labels: name of each column.
        bins: number of bins of equal width.
    """
    figure = Figure(figsize=(6.5, 5.5), layout="constrained", dpi=90)
    axis = figure.subplots()
    for i, label in enumerate(labels):
        if truth[:, i].any():
            share, mean = calibration_curve(truth[:, i], probability[:, i], n_bins=bins)
            axis.plot(mean, share, marker="o", label=label)
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":")
    axis.set(xlabel="mean probability", ylabel="share with the label", xlim=(0, 1), ylim=(0, 1), title="calibration")
    axis.grid(alpha=0.3)
    if len(axis.lines) > 1:
        axis.legend(loc="upper left")
    return figure


def figure_picture(figure: Figure) -> NDArray[np.uint8]:
    """Draw a figure as an RGB picture ``(H, W, 3)``."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()


class _Pictures:
    """Writes pictures as PNG into a folder ``figures`` and to TensorBoard."""

    def __init__(self, output_dir: str | Path) -> None:
        self.folder = Path(output_dir)
        self._writer: SummaryWriter | None = None

    def write(self, pictures: Mapping[str, NDArray[np.uint8]], epoch: int) -> None:
        """Write each picture under its name."""
        figures = self.folder / "figures"
        figures.mkdir(parents=True, exist_ok=True)
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder))
        for name, picture in pictures.items():
            (figures / f"{name.replace(' ', '_')}.png").write_bytes(encode_picture(picture, ".png"))
            self._writer.add_image(name, picture, epoch, dataformats="HWC")
        self._writer.flush()


class ClassificationFigures(_Predictions):
    """At the end of every validation draws confusion matrices, ROC curves and calibration, to PNG and TensorBoard.

    The files in the folder ``figures`` are those of the newest validation; TensorBoard keeps all.

    Args:
        output_dir: folder of ``figures`` and of the TensorBoard log.
        labels: name of each probability.
        threshold: of the confusion matrices.
        **kwargs: keys of prediction and truth.
    """

    def __init__(self, output_dir: str | Path, labels: Sequence[str], threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(labels, **kwargs)
        self.threshold = threshold
        self._pictures = _Pictures(output_dir)

    def finish(self, engine: Engine) -> None:
        """Draw them."""
        if not self.names:
            return
        given = (self.probability, self.truth, self.labels)
        figures = {
            "confusion matrices": confusion_figure(*given, self.threshold),
            "ROC curves": roc_figure(*given),
            "calibration": calibration_figure(*given),
        }
        drawn = {name: figure_picture(figure) for name, figure in figures.items()}
        self._pictures.write(drawn, engine.state.epoch)


class ExamplePage:
    """At the end of an evaluation draws a page of photos with saliency: for each label right and wrong predictions.

    A row for each label: the photo with it that has the highest probability, the one with it that has the lowest, and
    the one without it that has the highest; each beside the same photo with the parts that speak for the label
    (`common.saliency`).

    Args:
        output_dir: folder of ``figures/examples.png`` and of the TensorBoard log.
        labels: name of each probability.
        network: the classifier.
        photo: gives a picture ``(H, W, 3)`` from the network's input.
        threshold: from which probability on a label is called.
        pred_key: probabilities ``(C,)``.
        label_key: truth ``(C,)``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        labels: Sequence[str],
        network: nn.Module,
        photo: NormalizedPhoto,
        threshold: float = 0.5,
        pred_key: str = "pred",
        label_key: str = "label",
    ) -> None:
        self.labels = list(labels)
        self.photo = photo
        self.threshold = threshold
        self.pred_key = pred_key
        self.label_key = label_key
        self._saliency = Saliency(network, len(self.labels))
        self._pictures = _Pictures(output_dir)
        self._chosen: dict[tuple[int, int], tuple[float, dict[str, Any]]] = {}

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.draw)

    def start(self, engine: Engine) -> None:
        """Forget an earlier run."""
        self._chosen = {}

    def add(self, engine: Engine) -> None:
        """Keep a photo where it is a better example than the one before."""
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            data = {**item, **output}
            for label, (p, truth) in enumerate(zip(data[self.pred_key], data[self.label_key], strict=True)):
                probability = float(p)
                # With the label: the most and the least certain one; without it: the most certain one.
                for column, score in ((0, probability), (1, -probability)) if truth > 0.5 else ((2, probability),):
                    if (label, column) not in self._chosen or score > self._chosen[label, column][0]:
                        self._chosen[label, column] = score, data

    def draw(self, engine: Engine) -> None:
        """Draw the page."""
        if not self._chosen:
            return
        rows = [[self._example(label, column) for column in range(3)] for label in range(len(self.labels))]
        shape = next(panel.shape for row in rows for panel in row if panel is not None)
        blank = np.zeros(shape, dtype=np.uint8)
        page = np.concatenate(
            [np.concatenate([blank if panel is None else panel for panel in row], axis=1) for row in rows]
        )
        self._pictures.write({"examples": page}, engine.state.epoch)

    def _example(self, label: int, column: int) -> NDArray[np.uint8] | None:
        """A photo and its saliency side by side, with a line of text."""
        if (label, column) not in self._chosen:
            return None
        data = self._chosen[label, column][1]
        probability, truth = float(data[self.pred_key][label]), bool(data[self.label_key][label] > 0.5)
        right = (probability >= self.threshold) == truth
        photo = self.photo(data["image"])
        heat = self._saliency(data["image"], label, data.get("tabular"))
        text = f"{'' if truth else 'not '}{self.labels[label]}, p {probability:.2f}, {'right' if right else 'wrong'}"
        both = np.concatenate([photo, heat_overlay(photo, heat)], axis=1)
        return caption(both, f"{text}: {Path(data['name']).name}".encode("ascii", "replace").decode())


# --- the report ------------------------------------------------------------------------------------------------------


class ClassificationReport(_Predictions):
    """Scores photos and patients, and writes ``evaluation_report.json``, ``photos.csv`` and ``patients.csv``.

    The report has, for photos and, where the list has several photos or own labels of a patient, for patients
    (`common.patients.combine_eyes`), the scores of each label, their macro average and ODIR's score
    (`common.metrics.score_labels`) with 95% bootstrap intervals over patients, and the same over the photos of each
    data set that the list names. Its ``thresholds`` are those with the highest F1 on what was evaluated: evaluate the
    validation split, then give its report as ``thresholds_path`` to the evaluation of other data, which then also has
    the scores at these thresholds (``f1_chosen`` and so on).

    Args:
        output_dir: folder of the report.
        labels: name of each probability.
        items: items of the data list: by ``name``, what is known of each photo (``patient``, ``eye``, ``dataset``,
            and ``patient_label``, the labels of the patient, which else are those of the photos together).
        threshold: from which probability on a label is called.
        thresholds_path: report of another evaluation whose thresholds are used too; None for none.
        settings: what else the report should say (data list, weights, split).
        resamples: number of samples of the bootstrap.
        seed: of the bootstrap.
        **kwargs: keys of prediction and truth.

    Raises:
        SettingError: the threshold is not from 0 to 1, or the other report cannot be read or is of other labels.
    """

    def __init__(
        self,
        output_dir: str | Path,
        labels: Sequence[str],
        items: Iterable[Mapping[str, Any]] = (),
        threshold: float = 0.5,
        thresholds_path: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
        resamples: int = 1000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(labels, **kwargs)
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
            raise SettingError(f"threshold is {threshold!r}; give a probability above 0 and below 1.")
        self.folder = Path(output_dir)
        self.known = {str(item["name"]): item for item in items}
        self.threshold = float(threshold)
        self.chosen = read_thresholds(thresholds_path, self.labels)
        self.settings = {**(settings or {}), "threshold": threshold, "thresholds_path": thresholds_path}
        self.resamples = resamples
        self.seed = seed
        self.logger = logging.getLogger(type(self).__name__)

    def _patient(self, name: str) -> str:
        return str(self.known.get(name, {}).get("patient", name))

    def _section(
        self, probability: NDArray[np.float64], truth: NDArray[np.bool_], groups: Sequence[str], level: str
    ) -> dict[str, Any]:
        """What the report says of photos, or of patients."""
        scores = score_labels_with_intervals(
            probability,
            truth,
            self.labels,
            groups,
            self.threshold,
            self.chosen.get(level),
            resamples=self.resamples,
            seed=self.seed,
        )
        thresholds = {label: best_threshold(probability[:, i], truth[:, i]) for i, label in enumerate(self.labels)}
        return {
            "n": len(truth),
            "patients": len(set(groups)),
            "positives": {label: int(truth[:, i].sum()) for i, label in enumerate(self.labels)},
            "labels": {label: scores[label] for label in self.labels},
            "macro": scores["macro"],
            "odir": scores["odir"],
            "thresholds": {label: None if np.isnan(value) else value for label, value in thresholds.items()},
        }

    def patients(self) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
        """The probabilities of each patient, and their truths ``(n, C)``."""
        groups = [self._patient(name) for name in self.names]
        values = [dict(zip(self.labels, probability, strict=True)) for probability in self.probability]
        predicted = patient_rows(zip(groups, values, strict=True), self.labels)
        photos = [(group, self.known.get(name, {})) for group, name in zip(groups, self.names, strict=True)]
        truths = patient_truths(photos, self.truth, self.labels)
        return predicted, np.stack(list(truths.values()))

    def report(self) -> dict[str, Any]:
        """Put together what `finish` writes."""
        groups = [self._patient(name) for name in self.names]
        content: dict[str, Any] = {
            "settings": {name: value if value is None else _as_plain(value) for name, value in self.settings.items()},
            "labels": self.labels,
            "photos": self._section(self.probability, self.truth, groups, "photos"),
        }
        stated = any("patient_label" in self.known.get(name, {}) for name in self.names)
        if stated or len(set(groups)) < len(groups):
            predicted, truth = self.patients()
            content["patients"] = self._section(np.stack(list(predicted.values())), truth, list(predicted), "patients")
        datasets = [str(self.known.get(name, {}).get("dataset", "")) for name in self.names]
        content["by_dataset"] = {}
        for dataset in sorted(set(datasets) - {""}) if len(set(datasets)) > 1 else ():
            rows = [i for i, name in enumerate(datasets) if name == dataset]
            content["by_dataset"][dataset] = self._section(
                self.probability[rows], self.truth[rows], [groups[i] for i in rows], "photos"
            )
        return content

    def finish(self, engine: Engine) -> None:
        """Write report and tables."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = self.report()
        path = self.folder / REPORT
        path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")
        (self.folder / PHOTOS).write_bytes(self._photo_table())
        if "patients" in content:
            (self.folder / PATIENTS).write_bytes(patient_table(self.patients()[0], self.labels))
        level = "patients" if "patients" in content else "photos"
        macro, odir = content[level]["macro"]["auc"]["value"], content[level]["odir"]["score"]["value"]
        self.logger.info(
            f"{content['photos']['n']} photos of {content['photos']['patients']} patients; over {level}: macro AUC "
            f"{_number(macro)}, ODIR score {_number(odir)}; report: {path}"
        )

    def _photo_table(self) -> bytes:
        """A row for each photo: what it is, probabilities and truths."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        predicted, true = ([f"{kind}_{label}" for label in self.labels] for kind in ("p", "true"))
        writer.writerow(["image", "patient", "eye", *predicted, *true])
        for name, probability, truth in zip(self.names, self.probability, self.truth, strict=True):
            known = self.known.get(name, {})
            numbers = [f"{value:.6g}" for value in probability]
            writer.writerow(
                [name, known.get("patient", ""), known.get("eye", ""), *numbers, *truth.astype(int).tolist()]
            )
        return text.getvalue().encode("utf-8")


def read_thresholds(path: str | Path | None, labels: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Read the thresholds that an evaluation report gives for photos and patients.

    Args:
        path: ``evaluation_report.json``, or None for no thresholds.
        labels: the labels that it has to be of.

    Returns:
        ``photos`` and ``patients`` to threshold of each label.

    Raises:
        SettingError: it cannot be read, or is of other labels.
    """
    if path is None:
        return {}
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        found = {level: report[level]["thresholds"] for level in ("photos", "patients") if level in report}
        missing = [label for thresholds in found.values() for label in labels if label not in thresholds]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(
            f"thresholds_path is {path}, which is no evaluation_report.json of a classifier ({error!r}): give the "
            "report of the validation split."
        ) from error
    if missing or not found:
        raise SettingError(
            f"The report {path} has no threshold of {', '.join(missing) or 'any label'}: give one of the labels "
            f"{', '.join(labels)}."
        )
    return found


def _as_plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else str(value)


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


# --- inference -------------------------------------------------------------------------------------------------------


class ProbabilityWriter(RowWriter):
    """Writes a row of probabilities, and a picture with saliency, of every photo as soon as it is done.

    The row has ``image``, ``patient`` and ``eye`` (empty where they are not known), ``p_<label>`` for each label, with
    ``saliency`` two pictures of the parts that speak for its most probable label, and ``note``. The pictures are
    ``overlay`` (``<name>_overlay.jpg``: the photo as the network sees it, and beside it the parts in colour) and
    ``saliency`` (``<name>_saliency.png``: the map alone, 255 where most speaks for the label, in the photo's own frame,
    reduced to at most 512 pixels, since it is coarse).

    Args:
        results: the folder of the results.
        labels: name of each probability.
        network: the classifier.
        photo: gives a picture ``(H, W, 3)`` from the network's input.
        preprocessing: what made the network's input of the photo; its inverse brings the map into the photo's frame.
        saliency: whether to draw the pictures.
        pred_key: probabilities ``(C,)``.

    Raises:
        SettingError: ``saliency`` is neither True nor False.
    """

    def __init__(
        self,
        results: ResultFolder,
        labels: Sequence[str],
        network: nn.Module,
        photo: NormalizedPhoto,
        preprocessing: InvertibleTransform,
        saliency: bool = True,
        pred_key: str = "pred",
    ) -> None:
        super().__init__(results)
        self.labels = list(labels)
        self.photo = photo
        self.pred_key = pred_key
        self._to_photo = Invertd("heat", preprocessing, orig_keys="image", nearest_interp=False)
        self.saliency = Saliency(network, len(self.labels)) if check_flag("saliency", saliency) else None

    def _write(self, data: Mapping[str, Any]) -> None:
        probability = [float(value) for value in data[self.pred_key]]
        if len(probability) != len(self.labels):
            raise SettingError(
                f"labels are {', '.join(self.labels)}, and the network gives {len(probability)} probabilities: give "
                "the labels that it was trained with."
            )
        row: dict[str, Any] = {name: data.get(name, "") for name in ("patient", "eye")}
        row = {"image": data["name"], **row, **{f"p_{k}": p for k, p in zip(self.labels, probability, strict=True)}}
        if self.saliency is not None:
            row["overlay"] = f"{data['output_name']}_overlay.jpg"
            label = int(np.argmax(probability))
            photo = self.photo(data["image"])
            heat = self.saliency(data["image"], label, data.get("tabular"))
            both = np.concatenate([photo, heat_overlay(photo, heat)], axis=1)
            text = f"{self.labels[label]} {probability[label]:.2f}"
            self.results.write(row["overlay"], encode_picture(caption(both, text.encode("ascii", "replace").decode())))
            row["saliency"] = f"{data['output_name']}_saliency.png"
            self.results.write(row["saliency"], encode_picture(self._on_photo(heat, data["image"]), ".png"))
        row["note"] = data.get("note", "")
        self.results.add_row(row)

    def _on_photo(self, heat: NDArray[np.float32], image: torch.Tensor) -> NDArray[np.uint8]:
        """Bring a map from the geometry of the network's input to the photo's own, in grey levels, and reduce it."""
        whole = self._to_photo({"heat": MetaTensor(from_picture(heat)), "image": image})["heat"]
        levels = np.rint(to_picture(torch.as_tensor(whole)) * 255).astype(np.uint8)
        return reduced(levels, _SALIENCY_SIDE)


class PatientTable:
    """At the end of a run of inference writes ``patients.csv``: a row for each patient in ODIR's submission format.

    `common.patients.write_patients` says of what it is made. Attach it after the writer of the rows.

    Args:
        results: the folder of the results.
        labels: name of each probability.
    """

    def __init__(self, results: ResultFolder, labels: Sequence[str]) -> None:
        self.results = results
        self.labels = list(labels)

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write it, where any patient is known."""
        write_patients(self.results, [{label: f"p_{label}" for label in self.labels}])
