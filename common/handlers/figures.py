"""Figures of a training: learning curves, and panels of photo, truth and prediction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from common.handlers.checkpoint import rank
from common.pictures import COLOURS, encode_picture, overlay
from common.readers import to_picture


class LearningCurves:
    """Keeps the loss and the metrics of every epoch and draws them as ``learning_curves.png``.

    Attach it to the trainer, after the validation. Its values go into the state of `ResumableTraining`, so a training
    that goes on has whole curves.

    Args:
        output_dir: folder of the figure; the values are in ``learning_curves.json`` beside it.
        loss: gives the loss from the trainer's output.
        validator: the evaluator, for its metrics in the epochs in which it ran.
    """

    def __init__(self, output_dir: str | Path, loss: Callable[[Any], Any], validator: Engine | None = None) -> None:
        self.folder = Path(output_dir)
        self.loss = loss
        self.validator = validator
        self.values: dict[str, list[list[float]]] = {}
        self._sum = 0.0
        self._count = 0

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.draw)

    def _begin(self, engine: Engine) -> None:
        self._sum, self._count = 0.0, 0

    def _add(self, engine: Engine) -> None:
        value = self.loss(engine.state.output)
        self._sum += float(value[0] if isinstance(value, Sequence) else value)
        self._count += 1

    def draw(self, engine: Engine) -> None:
        """Add the epoch and draw the figure."""
        epoch = float(engine.state.epoch)
        values = {"train_loss": self._sum / max(1, self._count)}
        values.update(_numbers(engine.state.metrics))
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            values.update(_numbers(self.validator.state.metrics))
        for name, value in values.items():
            self.values.setdefault(name, []).append([epoch, value])
        if rank() != 0:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "learning_curves.json").write_text(json.dumps(self.values, indent=4), encoding="utf-8")
        figure = Figure(figsize=(11, 4), layout="constrained")
        loss, metric = figure.subplots(1, 2)
        for name, points in self.values.items():
            axis = loss if "loss" in name else metric
            axis.plot(*np.transpose(points), marker=".", label=name)
        for axis, title in ((loss, "loss"), (metric, "metrics")):
            axis.set(xlabel="epoch", title=title)
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend()
        figure.savefig(self.folder / "learning_curves.png", dpi=100)

    def state_dict(self) -> dict[str, Any]:
        """The values so far."""
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the values."""
        self.values = {name: [list(point) for point in points] for name, points in state["values"].items()}


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if isinstance(value, (int, float, np.number))}


class FigurePanels:
    """After every validation draws the first photos as rows of photo, truth and prediction, to PNG and TensorBoard.

    Attach it to the evaluator.

    Args:
        output_dir: folder of ``figures/epoch_<n>.png`` and of the TensorBoard log.
        structures: names of the channels of the masks.
        count: number of photos.
        photo: gives an RGB picture ``(H, W, 3)`` of uint8 from a network's input ``(3, W, H)``.
        side: longer side of one picture, in pixels.
    """

    def __init__(
        self,
        output_dir: str | Path,
        structures: Sequence[str],
        photo: Callable[[Any], NDArray[np.uint8]],
        count: int = 3,
        side: int = 512,
    ) -> None:
        self.folder = Path(output_dir)
        self.structures = tuple(structures)
        self.photo = photo
        self.count = count
        self.side = side
        self._rows: list[NDArray[np.uint8]] = []
        self._writer: SummaryWriter | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self.draw)

    def _begin(self, engine: Engine) -> None:
        self._rows = []

    def _add(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            if len(self._rows) < self.count:
                data = {**item, **output}
                photo = self.photo(data["image"])
                pictures = [photo, *(self._drawn(photo, data[key]) for key in ("label", "pred"))]
                self._rows.append(np.concatenate([_fit(picture, self.side) for picture in pictures], axis=1))

    def _drawn(self, photo: NDArray[np.uint8], masks: Any) -> NDArray[np.uint8]:
        named = {name: to_picture(masks[[i]]) > 0.5 for i, name in enumerate(self.structures)}
        return overlay(photo, named, COLOURS, opacity=1.0)

    def draw(self, engine: Engine) -> None:
        """Write the figure."""
        if not self._rows:
            return
        picture = np.concatenate(self._rows, axis=0)
        folder = self.folder / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"epoch_{engine.state.epoch:04d}.png").write_bytes(encode_picture(picture, ".png"))
        if self._writer is None:
            self._writer = SummaryWriter(str(self.folder))
        self._writer.add_image("photo, truth, prediction", picture, engine.state.epoch, dataformats="HWC")
        self._writer.flush()


def _fit(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scale a picture into a square of black."""
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    square = np.zeros((side, side, 3), dtype=np.uint8)
    square[: size[1], : size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return square


class NormalizedPhoto:
    """Turns a normalised network input back into a picture.

    Args:
        mean: mean of each channel that was subtracted.
        std: standard deviation of each channel that was divided by.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean = np.asarray(mean, dtype=np.float32)
        self.std = np.asarray(std, dtype=np.float32)

    def __call__(self, image: Any) -> NDArray[np.uint8]:
        """Give the picture ``(H, W, 3)``, uint8, of an input ``(3, W, H)``, or of a grey one ``(1, W, H)``."""
        values = to_picture(image).astype(np.float32) * self.std + self.mean
        picture = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        return np.repeat(picture[..., None], 3, axis=2) if picture.ndim == 2 else picture
