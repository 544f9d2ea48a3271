"""Loss for labels of which a channel may be missing."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn


class PartialBCEDiceLoss(nn.Module):
    """Binary cross-entropy + (1 - Dice) on sigmoid channels, over the channels that were annotated.

    A channel of a label that is negative everywhere was not annotated; it takes part in neither term. Both terms are
    computed for each channel over the whole batch, then averaged over the channels.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=False, batch=True, reduction="none")

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Give the loss.

        Args:
            logits: ``(B, C, W, H)``.
            label: ``(B, C, W, H)``, from 0 to 1, or negative in a channel that was not annotated.

        Returns:
            A scalar; 0 where nothing was annotated.
        """
        logits, label = torch.as_tensor(logits), torch.as_tensor(label).to(logits.dtype)
        annotated = (label >= 0).to(logits.dtype)
        target = label.clamp(min=0)
        counted = annotated.sum(dim=(0, 2, 3))
        present = (counted > 0).to(logits.dtype)
        entropy = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * annotated
        dice = self.dice(torch.sigmoid(logits) * annotated, target).flatten()
        channels = entropy.sum(dim=(0, 2, 3)) / counted.clamp(min=1) + dice
        return (channels * present).sum() / present.sum().clamp(min=1)
