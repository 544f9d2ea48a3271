"""Averages over mirrored views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer

from common.errors import SettingError

_AXES: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (2, 3))


class MirroredInferer(Inferer):
    """Apply another inferer to the input and to its mirrored views, and average the outputs (test-time augmentation).

    Args:
        inferer: the inferer to apply; None is `monai.inferers.SimpleInferer`.
        views: 1 is the input as it is, 2 adds the one mirrored left to right, 4 also those mirrored top to bottom.

    Raises:
        SettingError: another number of views.
    """

    def __init__(self, inferer: Inferer | None = None, views: int = 4) -> None:
        if views not in (1, 2, 4):
            raise SettingError(f"mirrored_views is {views!r}; give 1, 2 or 4.")
        self.inferer = inferer or SimpleInferer()
        self.axes = _AXES[:views]

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Give the mean output, in the orientation of the input.

        Args:
            inputs: ``(B, C, W, H)``.
            network: the network.
            *args: passed on to the inferer.
            **kwargs: passed on to the inferer.

        Returns:
            What the inferer gives, averaged: logits stay logits. The output of a classifier, ``(B, C)``, has no
            orientation and is averaged as it is.
        """
        total: torch.Tensor | None = None
        for axes in self.axes:
            view = torch.flip(inputs, axes) if axes else inputs
            output = torch.as_tensor(self.inferer(view, network, *args, **kwargs))
            output = torch.flip(output, axes) if axes and output.ndim > 2 else output
            total = output if total is None else total + output
        assert total is not None
        return total / len(self.axes)
