"""Loss for label maps of which a part is not annotated."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import nn

from common.biomarkers.layers import UNANNOTATED


class LayerLoss(nn.Module):
    """Weighted sum of Dice loss and cross-entropy over classes, on the pixels that were annotated.

    ``loss = dice_weight * (1 - Dice) + cross_entropy_weight * CE``, Dice of each class over the whole batch, averaged
    over the classes, background among them. `monai.losses.DiceCELoss` has no label that is left out.

    Args:
        dice_weight: weight of the first term.
        cross_entropy_weight: weight of the second.
        unannotated: label of the pixels that are left out.
    """

    def __init__(
        self, dice_weight: float = 0.7, cross_entropy_weight: float = 0.3, unannotated: int = UNANNOTATED
    ) -> None:
        super().__init__()
        self.dice_weight = dice_weight
        self.cross_entropy_weight = cross_entropy_weight
        self.unannotated = unannotated
        self.dice = DiceLoss(batch=True)

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Give the loss.

        Args:
            logits: ``(B, classes, W, H)``.
            label: ``(B, 1, W, H)``, whole numbers of any type.

        Returns:
            A scalar.
        """
        logits = torch.as_tensor(logits)
        classes = torch.as_tensor(label)[:, 0].long()
        annotated = classes != self.unannotated
        target = torch.where(annotated, classes, 0)
        entropy = nn.functional.cross_entropy(logits, target, reduction="none")
        mask = annotated[:, None].to(logits.dtype)
        one_hot = nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1).to(logits.dtype)
        dice = self.dice(torch.softmax(logits, dim=1) * mask, one_hot * mask)
        mean_entropy = (entropy * mask[:, 0]).sum() / mask.sum().clamp(min=1)
        return self.dice_weight * dice + self.cross_entropy_weight * mean_entropy
