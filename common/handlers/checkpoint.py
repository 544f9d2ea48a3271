"""Checkpoints of a training: the best weights, and everything that is needed to go on."""

from __future__ import annotations

import json
import logging
import math
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.handlers import EMAHandler
from monai.data.utils import set_rnd
from monai.handlers import EarlyStopHandler
from torch import nn

from common.errors import SettingError
from common.networks.weights import half_precision, read_checkpoint, save_durably

_NAME = re.compile(r"checkpoint_epoch=(\d+)\.pt")


def _bare(network: nn.Module) -> nn.Module:
    return network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network


def rank() -> int:
    """Number of this process among those of a distributed training; 0 when there is only one."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_rank() if distributed else 0


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of a training in a folder, the newest first."""
    found = [(int(match[1]), path) for path in Path(folder).glob("*.pt") if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


class BestWeights:
    """Saves the network in half precision whenever the evaluator's key metric is better than ever before.

    Attach it to the evaluator. The best value belongs to the state of `ResumableTraining`, and stands in a file beside
    the weights (``model.best.json``) as well, since checkpoints may be rarer than validations: a training that goes on
    does not overwrite better weights of its first part.

    Args:
        network: the network.
        path: the file, usually ``models/model.pt``.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network = network
        self.path = Path(path)
        self.record = self.path.with_suffix(".best.json")
        self.best: float | None = None
        self.logger = logging.getLogger(type(self).__name__)

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Compare and save."""
        state: Any = engine.state
        name = state.key_metric_name
        value = float(state.metrics[name])
        if self.best is not None and not math.isnan(self.best) and not value > self.best:
            return
        self.best = value
        if rank() == 0:
            save_durably(half_precision(_bare(self.network).state_dict()), self.path)
            self.record.write_text(json.dumps({name: value}), encoding="utf-8")
            self.logger.info(f"Best {name} so far: {value:.4f}; weights saved to {self.path}")

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the best value: that of the checkpoint, or that of better weights which were saved after it."""
        self.best = state["best"]
        try:
            (recorded,) = json.loads(self.record.read_text(encoding="utf-8")).values()
        except (OSError, ValueError):  # not there, or half written when the process was killed
            return
        if self.path.is_file() and (self.best is None or recorded > self.best):
            self.best = float(recorded)


class EarlyStop(EarlyStopHandler):
    """MONAI's `EarlyStopHandler` with a state, so that a training that goes on keeps its patience.

    Args:
        kwargs: as for `EarlyStopHandler`; call `set_trainer` before the training.
    """

    @property
    def stopped(self) -> bool:
        """Whether the patience is used up."""
        handler: Any = self._handler
        return bool(handler.counter >= handler.patience)

    def state_dict(self) -> dict[str, Any]:
        """The best score and the number of validations since."""
        handler: Any = self._handler
        return dict(handler.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them."""
        handler: Any = self._handler
        handler.load_state_dict(dict(state))


class WeightAverage:
    """Keeps an exponential moving average of the weights of a training, to be validated and saved in their place.

    After each iteration the average ``a`` of each weight ``w`` becomes ``(1 - momentum) a + momentum w``; running means
    and variances of normalisation layers are averaged too (Tarvainen and Valpola, Mean teachers are better role models,
    NeurIPS 2017). It is Ignite's `EMAHandler` that can be switched off, begins with the weights that the training
    begins with, and has a state. Attach it to the trainer, before `ResumableTraining`.

    Args:
        network: the network that is trained.
        momentum: above 0 and below 1; about the last ``1 / momentum`` iterations count. None for no average.

    Attributes:
        network: the network with the averaged weights; without an average, the one that is trained.

    Raises:
        SettingError: the momentum is no such number.
    """

    def __init__(self, network: nn.Module, momentum: float | None = None) -> None:
        if momentum is not None and not (isinstance(momentum, float) and 0 < momentum < 1):
            raise SettingError(f"ema_momentum is {momentum!r}; give a number above 0 and below 1, or None.")
        self.trained = _bare(network)
        self.handler = None if momentum is None else EMAHandler(self.trained, momentum, handle_buffers="update")
        self.network: nn.Module = self.trained if self.handler is None else self.handler.ema_model

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        if self.handler is not None:
            engine.add_event_handler(Events.STARTED, self._begin)
            self.handler.attach(engine)

    def _begin(self, engine: Engine) -> None:
        self.network.load_state_dict(self.trained.state_dict())

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights; nothing without an average."""
        return {} if self.handler is None else self.network.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore them.

        Raises:
            ValueError: there are some, but no average is wanted.
        """
        if self.handler is not None:
            self.network.load_state_dict(state)
        elif state:
            raise ValueError("it was made with ema_momentum")


class ResumableTraining:
    """Saves everything that a training needs to go on, and goes on from it when the training is started again.

    Attach it to the trainer, last in its list of handlers, so that a checkpoint holds the epoch's validation too. At
    the start the newest checkpoint that can be read is loaded; one that is damaged is reported and the one before it
    is tried. Then a checkpoint is written every ``interval`` epochs and at the end, by writing beside the file,
    flushing to the disk and renaming (`save_durably`); the older ones are removed afterwards. The states of the
    random generators are part of it, and of the gradient scaler of mixed precision. MONAI's random transforms have
    generators of their own: those of ``dataset`` are seeded anew for every epoch, so that a training that goes on does
    not see the augmentations of its first epochs again. A training that had stopped early stays stopped.

    Args:
        folder: folder of the checkpoints.
        state: named objects with ``state_dict`` and ``load_state_dict``: network, optimizer, scheduler, early stopping,
            best weights. The trainer itself is added.
        interval: epochs between two checkpoints.
        resume: whether to go on from a checkpoint that is there; if False, old checkpoints are an error.
        dataset: the data set of the training, for its random transforms.
        seed: of the first epoch's random transforms.

    Raises:
        SettingError: at the start, when a checkpoint does not belong to this configuration.
    """

    def __init__(
        self,
        folder: str | Path,
        state: Mapping[str, Any],
        interval: int = 1,
        resume: bool = True,
        dataset: Any = None,
        seed: int = 0,
    ) -> None:
        if interval < 1:
            raise SettingError(f"The checkpoint interval is {interval}; give a whole number of epochs from 1 on.")
        self.folder = Path(folder)
        self.state = dict(state)
        self.interval = interval
        self.resume = resume
        self.dataset = dataset
        self.seed = seed
        self.logger = logging.getLogger(type(self).__name__)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_STARTED, self.seed_epoch)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self.save)
        engine.add_event_handler(Events.COMPLETED, self.save)

    def seed_epoch(self, engine: Engine) -> None:
        """Seed the random transforms for the epoch and this process."""
        if self.dataset is not None:
            set_rnd(self.dataset, self.seed + 1000 * engine.state.epoch + rank())

    def load(self, engine: Engine) -> None:
        """Load the newest checkpoint that can be read."""
        for partial in self.folder.glob(".*.part"):
            partial.unlink(missing_ok=True)
        found = checkpoints(self.folder)
        if found and not self.resume:
            raise SettingError(f"The folder {self.folder} has a checkpoint: give another output_dir, or resume.")
        for path in found:
            try:
                content = read_checkpoint(path)
            except SettingError as error:
                self.logger.warning(f"{error} The checkpoint before it is tried.")
                continue
            self._restore(engine, content, path)
            self.logger.info(f"Going on from {path}, after epoch {engine.state.epoch}")
            if any(getattr(part, "stopped", False) for part in self.state.values()):
                self.logger.info("This training had stopped early; nothing is left to do.")
                engine.terminate()
            return

    def _restore(self, engine: Engine, content: Mapping[str, Any], path: Path) -> None:
        if set(content) != {*self.state, "trainer", "random"}:
            raise SettingError(
                f"The checkpoint {path} holds {sorted(content)}, not {sorted([*self.state, 'trainer', 'random'])}: "
                "it is of another configuration. Give another output_dir."
            )
        try:
            for name, part in self.state.items():
                (_bare(part) if isinstance(part, nn.Module) else part).load_state_dict(content[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise SettingError(
                f"The checkpoint {path} does not fit this configuration ({str(error).splitlines()[0]}). "
                "Give the configuration that it was made with, or another output_dir."
            ) from error
        engine.state.epoch = int(content["trainer"]["epoch"])
        engine.state.iteration = int(content["trainer"]["iteration"])
        scaler = getattr(engine, "scaler", None)
        if scaler is not None and content["trainer"]["scaler"]:
            scaler.load_state_dict(content["trainer"]["scaler"])
        torch.set_rng_state(content["random"]["torch"])
        version, keys, gauss = content["random"]["python"]
        random.setstate((version, tuple(keys), gauss))
        kind, numbers, *rest = content["random"]["numpy"]
        np.random.set_state((kind, np.asarray(numbers, dtype=np.uint32), *rest))

    def save(self, engine: Engine) -> None:
        """Write a checkpoint of the epochs done, then remove the older ones."""
        if rank() != 0:
            return
        path = self.folder / f"checkpoint_epoch={engine.state.epoch}.pt"
        version, keys, gauss = random.getstate()
        numpy_state: Any = np.random.get_state()
        kind, numbers, position, has_gauss, cached = numpy_state
        content: dict[str, Any] = {
            name: (_bare(part) if isinstance(part, nn.Module) else part).state_dict()
            for name, part in self.state.items()
        }
        scaler = getattr(engine, "scaler", None)
        content["trainer"] = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        content["random"] = {
            "torch": torch.get_rng_state(),
            "python": [version, list(keys), gauss],
            "numpy": [str(kind), numbers.tolist(), int(position), int(has_gauss), float(cached)],
        }
        save_durably(content, path)
        for older in checkpoints(self.folder):
            if older != path:
                older.unlink(missing_ok=True)
