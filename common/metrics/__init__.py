"""Metrics that MONAI and scikit-learn lack, and confidence intervals for all of them."""

from common.metrics.bootstrap import bootstrap_interval
from common.metrics.macro_auc import MacroAUC
from common.metrics.segmentation import segmentation_scores, summarise

__all__ = ["MacroAUC", "bootstrap_interval", "segmentation_scores", "summarise"]
