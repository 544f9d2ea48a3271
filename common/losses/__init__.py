"""Losses that MONAI's do not cover as they are."""

from common.losses.classification import positive_weights
from common.losses.disc_cup import PartialBCEDiceLoss
from common.losses.layers import LayerLoss
from common.losses.vessel import BCEDiceClDiceLoss

__all__ = ["BCEDiceClDiceLoss", "LayerLoss", "PartialBCEDiceLoss", "positive_weights"]
