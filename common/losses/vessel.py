"""Loss for thin tubular structures."""

from __future__ import annotations

import torch
from monai.losses import DiceCELoss, SoftclDiceLoss
from torch import nn


class BCEDiceClDiceLoss(nn.Module):
    """Binary cross-entropy + Dice, with an optional soft centerline-Dice term.

    ``loss = BCE + (1 - Dice) + cldice_weight * (1 - softclDice)``, each on the sigmoid of the logits. Soft clDice is
    that of Shit et al., CVPR 2021, as `monai.losses.SoftclDiceLoss` has it. Labels may be soft (the share of a pixel
    that a vessel covers).

    Args:
        cldice_weight: weight of the third term; 0 leaves it out.
        cldice_iterations: iterations of the soft skeleton: the largest half width of a vessel in pixels.
    """

    def __init__(self, cldice_weight: float = 0.0, cldice_iterations: int = 8) -> None:
        super().__init__()
        self.cross_entropy_and_dice = DiceCELoss(sigmoid=True, batch=True)
        self.cldice = SoftclDiceLoss(iter_=cldice_iterations)
        self.cldice_weight = cldice_weight

    def forward(self, logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Give the loss.

        Args:
            logits: ``(B, 1, W, H)``.
            label: ``(B, 1, W, H)``, from 0 to 1.

        Returns:
            A scalar.
        """
        logits, label = torch.as_tensor(logits), torch.as_tensor(label).to(logits.dtype)
        loss: torch.Tensor = self.cross_entropy_and_dice(logits, label)
        if self.cldice_weight:
            loss = loss + self.cldice_weight * self.cldice(torch.sigmoid(logits), label)
        return loss
