"""Losses that MONAI's do not cover as they are."""

from common.losses.classification import positive_weights
from common.losses.disc_cup import PartialBCEDiceLoss
from common.losses.layers import LayerLoss
from common.losses.lesions import LesionLoss
from common.losses.presence import PresenceCrossEntropy
from common.losses.vessel import BCEDiceClDiceLoss

__all__ = [
    "BCEDiceClDiceLoss",
    "LayerLoss",
    "LesionLoss",
    "PartialBCEDiceLoss",
    "PresenceCrossEntropy",
    "positive_weights",
]
