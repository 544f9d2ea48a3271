"""Loss for exclusive classes, some of which were not looked for on every photo."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn


class LesionLoss(nn.Module):
    """Weighted sum of Dice loss and cross-entropy on the softmax of background and lesions.

    ``loss = dice_weight * (1 - Dice) + cross_entropy_weight * CE``; Dice of each lesion over the whole batch, averaged
    over the lesions. Where two lesions overlap, or a pixel is covered in part, the target is the share of each class. A
    lesion that was not looked for on a photo may be there unmarked: its probability counts as that of the background,
    and it takes no part in Dice.

    Args:
        dice_weight: weight of the first term.
        cross_entropy_weight: weight of the second.
    """

    def __init__(self, dice_weight: float = 1.0, cross_entropy_weight: float = 1.0) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.cross_entropy_weight = cross_entropy_weight
        # Smooth enough that a batch without a lesion asks for little of it, not for none with all its weight.
        self.dice = DiceLoss(batch=True, smooth_nr=1.0, smooth_dr=1.0)

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Give the loss.

        Args:
            logits: ``(B, 1 + lesions, W, H)``.
            label: ``(B, 1 + lesions, W, H)``, from 0 to 1; a lesion's channel that was not annotated is negative.

        Returns:
            A scalar.
        """
        logits, label = torch.as_tensor(logits), torch.as_tensor(label).to(logits.dtype)
        unknown = (label < 0).flatten(2).any(dim=2)[:, :, None, None]
        target = label.masked_fill(unknown, 0.0)
        target = target / target.sum(dim=1, keepdim=True).clamp(min=1e-6)
        logarithms = torch.log_softmax(logits, dim=1)
        unmarked = unknown.clone()
        unmarked[:, 0] = True
        background = torch.logsumexp(logarithms.masked_fill(~unmarked, -torch.inf), dim=1)
        entropy = -(target[:, 0] * background + (target[:, 1:] * logarithms[:, 1:]).sum(dim=1)).mean()
        dice = self.dice(torch.exp(logarithms[:, 1:]).masked_fill(unknown[:, 1:], 0.0), target[:, 1:])
        total: torch.Tensor = self.dice_weight * dice + self.cross_entropy_weight * entropy
        return total
