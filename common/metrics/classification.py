"""Scores of a classifier of one or several labels, each with a bootstrap interval over patients."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.metrics import (
    auc,
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from common.metrics.bootstrap import bootstrap_intervals

Floats = NDArray[np.floating]
Truth = NDArray[np.bool_]
_AT_THRESHOLD = ("accuracy", "precision", "recall", "specificity", "f1")


def _ratio(part: float, whole: float) -> float:
    return float(part) / float(whole) if whole else float("nan")


def decision_scores(probability: Floats, truth: Truth, threshold: float = 0.5) -> dict[str, float]:
    """Score the decisions at a threshold.

    With TP, FP, FN and TN the items for which ``probability >= threshold`` and the truth agree or not: ``accuracy = (TP
    + TN) / all``, ``precision = TP / (TP + FP)``, ``recall = TP / (TP + FN)`` (sensitivity), ``specificity = TN / (TN +
    FP)``, ``f1 = 2 TP / (2 TP + FP + FN)``. What is 0 / 0 is NaN.

    Args:
        probability: ``(n,)``.
        truth: ``(n,)`` of bool.
        threshold: from which probability on an item is called positive.

    Returns:
        ``accuracy``, ``precision``, ``recall``, ``specificity``, ``f1``.
    """
    called = probability >= threshold
    tp, fp, fn, tn = (
        int(np.count_nonzero(part)) for part in (called & truth, called & ~truth, ~called & truth, ~called & ~truth)
    )
    return {
        "accuracy": _ratio(tp + tn, truth.size),
        "precision": _ratio(tp, tp + fp),
        "recall": _ratio(tp, tp + fn),
        "specificity": _ratio(tn, tn + fp),
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
    }


def best_threshold(probability: Floats, truth: Truth) -> float:
    """Give the threshold with the highest F1, the higher of two that are equally good; NaN without a positive.

    Choose it on validation data, and measure with it on others.

    Args:
        probability: ``(n,)``.
        truth: ``(n,)`` of bool.
    """
    if not truth.any():
        return float("nan")
    precision, recall, thresholds = precision_recall_curve(truth, probability)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return float(thresholds[np.flatnonzero(f1[:-1] == f1[:-1].max())[-1]])


def calibration_error(probability: Floats, truth: Truth, bins: int = 10) -> float:
    """Give the expected calibration error: how far probabilities are from the frequencies of the label.

    ``sum_b n_b / n |mean probability in b - share of positives in b|`` over bins of equal width, of the probability of
    the label itself (Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
    AAAI 2015).

    Args:
        probability: ``(n,)``, from 0 to 1.
        truth: ``(n,)`` of bool.
        bins: number of bins.
    """
    place = np.minimum((probability * bins).astype(np.intp), bins - 1)
    surplus = np.bincount(place, weights=probability - truth, minlength=bins)
    return float(np.abs(surplus).sum() / truth.size)


def classification_scores(
    probability: Floats, truth: Truth, threshold: float = 0.5, chosen: float | None = None
) -> dict[str, float]:
    """Score the probabilities of one label.

    - ``auc``: area under the receiver operating characteristic; ``aupr``: average precision; ``sensitivity_at_90``: the
      highest sensitivity of a threshold with a specificity of at least 90%.
    - ``calibration_error`` (`calibration_error`).
    - `decision_scores` at ``threshold``, and under names that end in ``_chosen`` at ``chosen``.

    Args:
        probability: ``(n,)``, from 0 to 1.
        truth: ``(n,)`` of bool.
        threshold: from which probability on an item is called positive.
        chosen: another threshold, such as that of `best_threshold` on validation data; None for none.

    Returns:
        Name to value. ``auc`` and ``sensitivity_at_90`` are NaN when all items are positive or all negative, ``aupr``
        when there is no positive.

    Raises:
        ValueError: the arrays are not of one length, or a probability is not from 0 to 1.
    """
    if probability.shape != truth.shape or probability.ndim != 1 or truth.dtype != np.bool_ or not truth.size:
        raise ValueError(
            f"probability {probability.shape} and truth {truth.shape} of {truth.dtype} must be lists of one length, "
            "the truth of bool."
        )
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("probability has values that are not from 0 to 1; give probabilities, not logits.")
    scores = dict.fromkeys(("auc", "aupr", "sensitivity_at_90"), float("nan"))
    if truth.any():
        scores["aupr"] = float(average_precision_score(truth, probability))
        if not truth.all():
            false_positive, sensitivity, _ = roc_curve(truth, probability, drop_intermediate=False)
            scores["auc"] = float(auc(false_positive, sensitivity))
            # A share such as 1 of 10 is not exactly 0.1 in floating point.
            scores["sensitivity_at_90"] = float(sensitivity[false_positive <= 0.1 + 1e-9].max())
    scores["calibration_error"] = calibration_error(probability, truth)
    scores |= decision_scores(probability, truth, threshold)
    if chosen is not None:
        at_chosen = decision_scores(probability, truth, chosen)
        scores |= {f"{name}_chosen": at_chosen[name] for name in _AT_THRESHOLD}
    return scores


def odir_scores(probability: Floats, truth: Truth) -> dict[str, float]:
    """Score all labels together as the challenge ODIR-2019 did.

    On the flattened arrays, with the threshold 0.5: Cohen's kappa, F1, the area under the ROC curve, and their mean.
    As in the challenge's script, F1 is that of both classes pooled (micro average), which is the accuracy. Both are
    computed from the counts, since scikit-learn's functions take longer than all else in a bootstrap.

    Args:
        probability: ``(n, C)``, a row for each patient.
        truth: ``(n, C)`` of bool.

    Returns:
        ``kappa``, ``f1``, ``auc`` and ``score``; NaN where all truths are alike.

    References:
        The challenge's evaluation script, https://odir2019.grand-challenge.org/evaluation/.
    """
    flat, labels = probability.ravel(), truth.ravel()
    if labels.all() or not labels.any():
        return dict.fromkeys(("kappa", "f1", "auc", "score"), float("nan"))
    called = flat > 0.5
    agreed, share, said = float(np.mean(called == labels)), float(labels.mean()), float(called.mean())
    by_chance = share * said + (1 - share) * (1 - said)
    found = {
        "kappa": (agreed - by_chance) / (1 - by_chance),
        "f1": agreed,
        "auc": float(roc_auc_score(labels, flat)),
    }
    return {**found, "score": float(np.mean(list(found.values())))}


def score_labels(
    probability: Floats,
    truth: Truth,
    labels: Sequence[str],
    threshold: float = 0.5,
    chosen: Mapping[str, float | None] | None = None,
) -> dict[str, dict[str, float]]:
    """Score several labels: each one, their mean (``macro``), and all together (``odir``, `odir_scores`).

    Args:
        probability: ``(n, C)``.
        truth: ``(n, C)`` of bool.
        labels: name of each column.
        threshold: from which probability on a label is called.
        chosen: further threshold of each label, see `classification_scores`.

    Returns:
        Name of a label, ``macro`` or ``odir`` to its scores. The macro average of a score is over the labels for which
        it is defined.
    """
    found = {
        label: classification_scores(probability[:, i], truth[:, i], threshold, (chosen or {}).get(label))
        for i, label in enumerate(labels)
    }
    names = dict.fromkeys(name for scores in found.values() for name in scores)
    macro = {}
    for name in names:
        values = np.array([scores[name] for scores in found.values() if name in scores])
        defined = values[~np.isnan(values)]
        macro[name] = float(defined.mean()) if defined.size else float("nan")
    return {**found, "macro": macro, "odir": odir_scores(probability, truth)}


def score_labels_with_intervals(
    probability: Floats,
    truth: Truth,
    labels: Sequence[str],
    groups: Sequence[Hashable],
    threshold: float = 0.5,
    chosen: Mapping[str, float | None] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """Give `score_labels` with a 95% bootstrap interval for each score, drawing whole groups.

    Args:
        probability: ``(n, C)``.
        truth: ``(n, C)`` of bool.
        labels: name of each column.
        groups: what each row belongs to, such as the patient.
        threshold: see `score_labels`.
        chosen: see `score_labels`.
        resamples: how many samples are drawn.
        seed: of the bootstrap.

    Returns:
        As `score_labels`, with ``value``, ``low`` and ``high`` for each score; None for what is not defined.
    """

    def score(rows: NDArray[np.intp]) -> dict[tuple[str, str], float]:
        found = score_labels(probability[rows], truth[rows], labels, threshold, chosen)
        return {(part, name): value for part, scores in found.items() for name, value in scores.items()}

    values, intervals = _scored_quickly(score, groups, resamples, seed)
    result: dict[str, dict[str, dict[str, float | None]]] = {}
    for (part, name), value in values.items():
        low, high = intervals[part, name]
        result.setdefault(part, {})[name] = {"value": _plain(value), "low": _plain(low), "high": _plain(high)}
    return result


def _scored_quickly(
    score: Callable[[NDArray[np.intp]], dict[tuple[str, str], float]],
    groups: Sequence[Hashable],
    resamples: int,
    seed: int,
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], tuple[float, float]]]:
    """Score all rows, and resamples of them; scikit-learn looks at what it is given once, not a thousand times."""
    values = score(np.arange(len(groups)))
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        return values, bootstrap_intervals(score, groups, resamples=resamples, seed=seed)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
