"""A bundle's inference on one item at a time, by the parts of its own ``inference.json``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer
from monai.transforms import Compose

from common.bundles import open_bundle
from common.handlers.results import RowWriter

# What belongs to runs over a folder; everything else of the bundle's evaluator is taken as it is.
_OF_A_RUN = ("_target_", "results", "val_data_loader", "val_handlers")


class BundleRunner:
    """A bundle with its weights, ready for one item after the other.

    Preprocessing, network, inferer and postprocessing are those that ``inference.json`` defines, run by MONAI's
    `SupervisedEvaluator`, so that a mask is the one that the bundle's own run writes, pixel for pixel. One item at a
    time: who has several threads, has to lock.

    Args:
        bundle: the bundle's folder.
        settings: ids of ``inference.json`` to override, e.g. ``ckpt_path``.
        write: whether the bundle's writers of rows take part.

    Attributes:
        parser: the parsed config.
        preprocessing: makes of an item what `run` takes.
        network: with its weights.
        inferer: the bundle's own.
        network_seconds: time that network and inferer have taken so far.
        network_cpu_seconds: the same of the processor.

    Raises:
        SettingError: a setting is wrong, or the weights are missing or do not fit.
    """

    def __init__(self, bundle: Path, settings: Mapping[str, Any], *, write: bool = False) -> None:
        self.parser: ConfigParser = open_bundle(bundle, ["inference.json"], settings).parser
        parser = self.parser
        self.preprocessing: Compose = parser.get_parsed_content("preprocessing")
        self._collate: Callable[..., Any] = parser.get_parsed_content("dataloader#collate_fn")
        self._parts = {
            name: parser.get_parsed_content(f"evaluator#{name}")
            for name in parser["evaluator"]
            if name not in _OF_A_RUN
        }
        self.network: torch.nn.Module = self._parts["network"]
        self.inferer: Inferer = self._parts["inferer"]
        handlers = parser.get_parsed_content("handlers") if write else []
        # Others write at the end of a run, and here every item is a run of its own.
        self._writers = [handler for handler in handlers if isinstance(handler, RowWriter)]
        self.network_seconds = self.network_cpu_seconds = 0.0
        self._started = (0.0, 0.0)
        self._evaluator = self._new_evaluator()

    def _new_evaluator(self) -> SupervisedEvaluator:
        evaluator = SupervisedEvaluator(val_data_loader=[], val_handlers=self._writers, **self._parts)
        evaluator.logger.setLevel("WARNING")
        evaluator.add_event_handler(Events.GET_BATCH_COMPLETED, self._note_start)
        evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._note_end)
        return evaluator

    def _note_start(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def _note_end(self) -> None:
        self.network_seconds += time.perf_counter() - self._started[0]
        self.network_cpu_seconds += time.process_time() - self._started[1]

    def run(self, item: Mapping[str, Any], inferer: Inferer | None = None) -> dict[str, Any]:
        """Run the evaluator on one item that the preprocessing has made.

        Args:
            item: the item.
            inferer: in place of the bundle's own.

        Returns:
            All that is known of the item then: its own keys and what the postprocessing made.
        """
        self._evaluator.inferer = inferer or self.inferer
        self._evaluator.data_loader = DataLoader(Dataset([item]), batch_size=1, collate_fn=self._collate)
        self._evaluator.state.epoch_length = 1
        try:
            self._evaluator.run()
        except BaseException:
            # An engine that something broke off would go on where it stopped, with that item in place of the next.
            self._evaluator = self._new_evaluator()
            raise
        state: Any = self._evaluator.state
        return {**state.batch[0], **state.output[0]}
