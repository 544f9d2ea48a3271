"""Metrics that MONAI and scikit-learn lack, and confidence intervals for all of them."""

from common.metrics.bootstrap import bootstrap_interval
from common.metrics.macro_auc import MacroAUC
from common.metrics.pooled import PooledAveragePrecision, count_by_probability, pooled_average_precision
from common.metrics.segmentation import lesion_detection, segmentation_scores, summarise

__all__ = [
    "MacroAUC",
    "PooledAveragePrecision",
    "bootstrap_interval",
    "count_by_probability",
    "lesion_detection",
    "pooled_average_precision",
    "segmentation_scores",
    "summarise",
]
