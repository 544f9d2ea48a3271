"""Losses that MONAI's do not cover as they are."""

from common.losses.disc_cup import PartialBCEDiceLoss
from common.losses.vessel import BCEDiceClDiceLoss

__all__ = ["BCEDiceClDiceLoss", "PartialBCEDiceLoss"]
