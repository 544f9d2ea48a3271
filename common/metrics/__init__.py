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
from common.metrics.segmentation import segmentation_scores, summarise

__all__ = [
    "MacroAUC",
    "best_threshold",
    "bootstrap_interval",
    "bootstrap_intervals",
    "calibration_error",
    "classification_scores",
    "odir_scores",
    "score_labels",
    "score_labels_with_intervals",
    "segmentation_scores",
    "summarise",
]
