"""Mixed precision on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer


class AutocastInferer(Inferer):
    """Apply another inferer under `torch.autocast` of the input's device.

    The ``amp`` of MONAI's trainer and evaluator is for CUDA alone; this one also serves CPUs, where bfloat16 about
    halves the time of a training step if the processor multiplies it (AVX-512 BF16, AMX) and is far slower if not.

    Args:
        inferer: the inferer to apply; None is `monai.inferers.SimpleInferer`.
        dtype: the lower precision. float16 needs a gradient scaler in training; bfloat16 does not.
        enabled: False applies the inferer as it is, also under an autocast of the caller.
    """

    def __init__(
        self, inferer: Inferer | None = None, dtype: torch.dtype = torch.bfloat16, enabled: bool = True
    ) -> None:
        self.inferer = inferer or SimpleInferer()
        self.dtype = dtype
        self.enabled = enabled

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Give the network's output as float32.

        Args:
            inputs: a batch.
            network: the network.
            *args: passed on to the inferer.
            **kwargs: passed on to the inferer.

        Returns:
            What the inferer gives, as float32, so that the loss and the sigmoid are computed in full precision.
        """
        output: torch.Tensor
        if not self.enabled:
            output = self.inferer(inputs, network, *args, **kwargs)
            return output
        with torch.autocast(inputs.device.type, dtype=self.dtype):
            output = self.inferer(inputs, network, *args, **kwargs)
        return output.float()
