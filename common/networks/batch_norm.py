"""Batch normalisation of networks whose weights come from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import ignite.distributed as idist
import torch
from monai.utils import convert_to_tensor
from torch import nn


def calibrate_encoder(network: nn.Module, batches: Iterable[Mapping[str, Any]], count: int = 8) -> None:
    """Give the encoder's batch normalisation the statistics of the data, without a change of what the encoder computes.

    Converted weights often have batch normalisation folded into the convolutions: a running mean of 0 and a variance of
    1, those of no data. Such an encoder works in evaluation mode; in training mode, which takes the statistics of the
    batch, it computes something else, and what it had learned is lost. With m and v the mean and variance of what goes
    into a layer, scale s and shift b become ``s' = s sqrt((v + eps) / (v_old + eps))`` and
    ``b' = b + s (m - m_old) / sqrt(v_old + eps)``: the output in evaluation mode stays the same, and that in training
    mode is close to it.

    Args:
        network: a network with an ``encoder``, or one wrapped in ``DistributedDataParallel``; it is called on photos.
        batches: batches with ``image``, ``(B, C, W, H)``, such as the data loader of the training.
        count: how many of them are used.
    """
    bare: Any = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    layers: list[Any] = [layer for layer in bare.encoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    sums: dict[nn.Module, torch.Tensor] = {}

    def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0].double()
        number = torch.full_like(values[0, :, 0, 0], values.numel() / values.shape[1])
        found = torch.stack([number, values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])
        sums[layer] = sums[layer] + found if layer in sums else found

    hooks = [layer.register_forward_pre_hook(add) for layer in layers]
    training, device = bare.training, next(bare.parameters()).device
    bare.eval()
    with torch.no_grad():
        for batch in islice(batches, count):
            bare(convert_to_tensor(batch["image"], device=device, track_meta=False))
    bare.train(training)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        for layer in layers:
            reduced: Any = idist.all_reduce(sums[layer])
            number, total, squares = reduced
            mean = total / number
            variance = (squares / number - mean.square()).clamp(min=0)
            scale = layer.weight / (layer.running_var + layer.eps).sqrt()
            layer.bias.add_(scale * (mean - layer.running_mean))
            layer.weight.copy_(scale * (variance + layer.eps).sqrt())
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
