"""Scores of a binary segmentation against its truth, and their summary over the images of a test set."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from skimage.morphology import skeletonize

from common.metrics.bootstrap import bootstrap_interval


def segmentation_scores(
    probability: NDArray[np.floating],
    truth: NDArray[np.bool_],
    region: NDArray[np.bool_] | None = None,
    threshold: float = 0.5,
    predicted: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Score one image's probability map against the truth, inside a region.

    With TP, FP, FN and TN the pixels of the region in which ``probability >= threshold`` and the truth agree or not:

    - ``dice = 2 TP / (2 TP + FP + FN)``, ``iou = TP / (TP + FP + FN)``, ``precision = TP / (TP + FP)``,
      ``recall = TP / (TP + FN)`` (sensitivity), ``specificity = TN / (TN + FP)``, ``accuracy = (TP + TN) / all``.
    - ``auc``: area under the receiver operating characteristic; ``aupr``: average precision, the sum over the
      thresholds of ``(R_n - R_(n-1)) P_n``. Both over every distinct probability, as scikit-learn's `roc_auc_score` and
      `average_precision_score` have them, several times sooner.
    - ``cldice``: the harmonic mean of the share of the prediction's skeleton that lies in the truth and the share of
      the truth's skeleton that lies in the prediction; skeletons of `skimage.morphology.skeletonize`.

    What is 0 / 0 is NaN: dice, iou and cldice when prediction and truth are both empty, precision when the prediction
    is, recall and aupr when the truth is, specificity when the truth fills the region, auc when the truth is empty or
    fills the region. cldice is 0 when only one of the two is empty.

    Args:
        probability: ``(H, W)``, floating point, from 0 to 1.
        truth: ``(H, W)`` of bool.
        region: ``(H, W)`` of bool, what counts, such as the field of view; everything when None.
        threshold: from which probability on a pixel is predicted to be in the object.
        predicted: ``(H, W)`` of bool, the prediction itself where it is more than the probabilities above the
            threshold, such as their largest connected part.

    Returns:
        ``dice``, ``iou``, ``precision``, ``recall``, ``specificity``, ``accuracy``, ``auc``, ``aupr``, ``cldice``.

    Raises:
        ValueError: an array has another type, the shapes differ, the region is empty, or a probability inside the
            region is not a number from 0 to 1.

    References:
        clDice: Shit et al., "clDice - a novel topology-preserving loss function for tubular structure segmentation",
        CVPR 2021.
    """
    if probability.ndim != 2 or not np.issubdtype(probability.dtype, np.floating):
        raise ValueError(
            f"probability must be an array (H, W) of floating point, not {probability.shape} of {probability.dtype}."
        )
    region = np.ones(probability.shape, dtype=bool) if region is None else region
    called = probability >= threshold if predicted is None else predicted
    for name, mask in (("truth", truth), ("region", region), ("predicted", called)):
        if mask.dtype != np.bool_:
            raise ValueError(f"{name} must be an array of bool, not of {mask.dtype}.")
        if mask.shape != probability.shape:
            raise ValueError(
                f"{name} is {mask.shape} and probability is {probability.shape}; give both the same shape."
            )
    if not region.any():
        raise ValueError("region is empty; give a mask that is true where pixels count, or None.")
    scores = probability[region]
    labels = truth[region]
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("probability has values that are not between 0 and 1; give probabilities, not logits.")

    inside = called[region]
    tp = int(np.count_nonzero(inside & labels))
    fp = int(np.count_nonzero(inside)) - tp
    fn = int(np.count_nonzero(labels)) - tp
    tn = labels.size - tp - fp - fn
    auc, aupr = _areas_under_curves(scores, labels)
    return {
        "dice": _ratio(2 * tp, 2 * tp + fp + fn),
        "iou": _ratio(tp, tp + fp + fn),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "accuracy": _ratio(tp + tn, labels.size),
        "auc": auc,
        "aupr": aupr,
        "cldice": _centerline_dice(called & region, truth & region),
    }


def summarise(
    rows: Sequence[Mapping[str, float]], groups: Sequence[Hashable] | None = None, seed: int = 0
) -> dict[str, dict[str, float | int | None]]:
    """Summarise the scores of many images: the mean of each metric with its 95 % bootstrap interval.

    Args:
        rows: metric to value, one for each image; NaN, or a metric that a row lacks, counts as undefined.
        groups: what each image belongs to, such as the patient; the bootstrap then draws whole groups.
        seed: of the bootstrap.

    Returns:
        For each metric ``mean``, ``low`` and ``high`` (the interval) and ``n``, the number of images in which it is
        defined. Plain numbers, and None for NaN, so that it can be written as JSON.

    Raises:
        ValueError: there are no rows, or not as many groups as rows.
    """
    if not rows:
        raise ValueError("rows is empty; give the scores of at least one image.")
    if groups is not None and len(groups) != len(rows):
        raise ValueError(f"groups has {len(groups)} entries for {len(rows)} rows; give one for each row.")
    summary: dict[str, dict[str, float | int | None]] = {}
    for metric in dict.fromkeys(name for row in rows for name in row):
        values = np.array([row.get(metric, float("nan")) for row in rows], dtype=np.float64)
        defined = np.flatnonzero(~np.isnan(values))
        kept_groups = None if groups is None else [groups[int(place)] for place in defined]
        low, high = bootstrap_interval(values[defined], seed=seed, groups=kept_groups)
        summary[metric] = {
            "mean": float(values[defined].mean()) if defined.size else None,
            "low": None if np.isnan(low) else low,
            "high": None if np.isnan(high) else high,
            "n": int(defined.size),
        }
    return summary


def _ratio(part: float, whole: float) -> float:
    """Part over whole, NaN when the whole is 0."""
    return part / whole if whole else float("nan")


def _areas_under_curves(scores: NDArray[np.floating], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """Areas under the ROC curve and the precision-recall curve of scores ``(n,)`` from 0 to 1.

    The bits of non-negative floating-point numbers, read as integers, are in the order of the numbers, and those of
    numbers up to 1 leave the two highest bits free; so score and label are packed in one integer and sorted together.
    """
    positives = int(np.count_nonzero(labels))
    if not positives:
        return float("nan"), float("nan")
    # Adding 0 turns a negative zero, whose bits are those of a large integer, into a positive one.
    if scores.dtype.itemsize <= 4:
        keys = ((scores.astype(np.float32) + np.float32(0)).view(np.uint32) << 1) | labels
    else:
        keys = ((scores.astype(np.float64) + 0.0).view(np.uint64) << 1) | labels
    keys.sort()
    keys = keys[::-1]
    last_of_score = np.append(np.flatnonzero(np.diff(keys >> 1)), keys.size - 1)
    tp = np.cumsum(keys & 1, dtype=np.int64)[last_of_score]
    called = last_of_score + 1
    aupr = float(np.sum(np.diff(tp, prepend=0) / positives * (tp / called)))
    negatives = labels.size - positives
    if not negatives:
        return float("nan"), aupr
    auc = trapezoid(np.append(0, tp) / positives, np.append(0, called - tp) / negatives)
    return float(auc), aupr


def _centerline_dice(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Centerline Dice of two masks."""
    if not predicted.any() and not truth.any():
        return float("nan")
    if not predicted.any() or not truth.any():
        return 0.0
    predicted_line, true_line = skeletonize(predicted), skeletonize(truth)
    precision = np.count_nonzero(predicted_line & truth) / np.count_nonzero(predicted_line)
    sensitivity = np.count_nonzero(true_line & predicted) / np.count_nonzero(true_line)
    if precision + sensitivity == 0:
        return 0.0
    return float(2 * precision * sensitivity / (precision + sensitivity))


def lesion_detection(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, int]:
    """Count lesions that were found, and regions that are none, of one image.

    Connected regions (8 neighbours) are counted: a lesion is found when at least one of its pixels is, and a predicted
    region that touches no lesion is a false positive.

    Args:
        predicted: ``(H, W)`` of bool.
        truth: ``(H, W)`` of bool.

    Returns:
        ``lesions``, ``detected`` and ``false_positives``.
    """
    lesions, lesion_of = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
    regions, region_of = cv2.connectedComponents(predicted.astype(np.uint8), connectivity=8)
    both = predicted & truth
    touched = np.unique(region_of[both]).size
    return {
        "lesions": int(lesions) - 1,
        "detected": int(np.unique(lesion_of[both]).size),
        "false_positives": int(regions) - 1 - int(touched),
    }
