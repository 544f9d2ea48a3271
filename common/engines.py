"""An evaluator that outlives a broken photo."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents, SupervisedEvaluator
from monai.engines.utils import PrepareBatch, PrepareBatchExtraInput

from common.data import Failure, failure_of
from common.prompts import compact_prompts
from common.results import ResultFolder


class PrepareOptional(PrepareBatch):
    """Gives the network image and label, and further inputs where the batch has some.

    MONAI's `PrepareBatchExtraInput` does it for batches that always have them.

    Args:
        extra_keys: keys of the batch, passed on by these names to the inferer where the batch has them.
    """

    def __init__(self, extra_keys: Sequence[str]) -> None:
        self.extra_keys = tuple(extra_keys)

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, Any, tuple[Any, ...], dict[str, Any]]:
        """Give image, label, no further arguments, and the named ones."""
        present = {key: key for key in self.extra_keys if key in batchdata}
        prepare = PrepareBatchExtraInput(extra_keys=present)
        image, label, args, named = prepare(batchdata, device, non_blocking, **kwargs)
        return image, label, args, named


class PreparePrompts(PrepareOptional):
    """`PrepareOptional` for prompts, of which the rows that count nowhere in the batch are left out.

    Args:
        extra_keys: as for `PrepareOptional`.
    """

    def __init__(self, extra_keys: Sequence[str] = ("prompts",)) -> None:
        super().__init__(extra_keys)

    def __call__(
        self, batchdata: dict[str, Any], *options: Any, **kwargs: Any
    ) -> tuple[Any, Any, tuple[Any, ...], dict[str, Any]]:
        """Give image, label, no further arguments, and the named ones."""
        image, label, args, named = super().__call__(batchdata, *options, **kwargs)
        if "prompts" in named:
            named["prompts"] = compact_prompts(named["prompts"])
        return image, label, args, named


class TolerantEvaluator(SupervisedEvaluator):
    """MONAI's `SupervisedEvaluator`; an input that fails is recorded and the run goes on.

    Args:
        results: where failures are recorded.
        kwargs: as for `SupervisedEvaluator`.
    """

    def __init__(self, results: ResultFolder, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.results = results
        self.stage = "network"
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._enter_postprocessing)
        self.add_event_handler(Events.COMPLETED, self._report)

    def _iteration(self, engine: Any, batchdata: Any) -> Any:
        if isinstance(batchdata, Failure):
            return self._fail(batchdata)
        name = batchdata["name"][0]
        self.stage = "network"
        try:
            return super()._iteration(engine, batchdata)
        except Exception as error:
            return self._fail(failure_of(name, self.stage, error))

    def _enter_postprocessing(self, engine: Any) -> None:
        self.stage = "postprocess"

    def _fail(self, failure: Failure) -> list[Any]:
        self.results.add_failure(failure.name, failure.stage, failure.reason)
        self.logger.warning(f"{failure.name} failed ({failure.stage}): {failure.reason}")
        self.state.batch = []
        return []

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Run over all inputs; when every one was done before there is nothing to run."""
        loader: Any = self.data_loader
        self.results.start()
        if len(loader) == 0:
            self.fire_event(Events.COMPLETED)
            return
        super().run(global_epoch)

    def _report(self, engine: Engine) -> None:
        logging.getLogger(type(self).__name__).info(self.results.summary())
