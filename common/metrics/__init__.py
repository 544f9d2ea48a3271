"""Metrics that MONAI and scikit-learn lack, and confidence intervals for all of them."""

from common.metrics.bootstrap import bootstrap_interval, bootstrap_intervals
from common.metrics.classification import (
    best_threshold,
    calibration_error,
    classification_scores,
    odir_scores,
    score_labels,
    score_labels_with_intervals,
)
from common.metrics.macro_auc import MacroAUC
from common.metrics.pooled import (
    PooledAveragePrecision,
    best_dice_threshold,
    count_by_probability,
    pooled_average_precision,
    pooled_overlap,
)
from common.metrics.segmentation import lesion_detection, segmentation_scores, summarise

__all__ = [
    "MacroAUC",
    "PooledAveragePrecision",
    "best_dice_threshold",
    "best_threshold",
    "bootstrap_interval",
    "bootstrap_intervals",
    "calibration_error",
    "classification_scores",
    "count_by_probability",
    "lesion_detection",
    "odir_scores",
    "pooled_average_precision",
    "pooled_overlap",
    "score_labels",
    "score_labels_with_intervals",
    "segmentation_scores",
    "summarise",
]
