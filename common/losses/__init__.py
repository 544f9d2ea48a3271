"""Losses that MONAI's do not cover as they are."""

from common.losses.vessel import BCEDiceClDiceLoss

__all__ = ["BCEDiceClDiceLoss"]
