"""Cross-entropy of the two classes "not there" and "there"."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class PresenceCrossEntropy(nn.Module):
    """Softmax cross-entropy of two classes, with a weight for each.

    `torch.nn.CrossEntropyLoss` divides by the weights of the batch, so that they cancel out in a batch of one item, and
    a loss over single items could not be compared with one over batches; here the mean is over the items.

    Args:
        weight: of the classes, ``(2,)``; None for 1 each.
        label_smoothing: share of the target that is divided among both classes, from 0 to 1.
    """

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor | None = None, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(2) if weight is None else weight.float())
        self.label_smoothing = label_smoothing

    def forward(self, logits: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        """Give the loss.

        Args:
            logits: of "not there" and "there", ``(B, 2)``.
            present: 1 where it is there and 0 where not, ``(B, 1)``.

        Returns:
            The mean, a scalar.
        """
        target = present[:, 0].long()
        losses = functional.cross_entropy(logits, target, reduction="none", label_smoothing=self.label_smoothing)
        return (self.weight[target] * losses).mean()
