"""Areas under curves, and overlap, over the pixels of all images together, in little memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from numpy.typing import NDArray

BINS = 1 << 16
"""Into how many steps probabilities are counted: those of an image of 16 bits."""


def count_by_probability(probability: NDArray[np.floating], truth: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the pixels outside and inside the truth by their probability.

    Args:
        probability: of any shape, from 0 to 1.
        truth: of the same shape, bool.

    Returns:
        ``(2, BINS)``: outside, inside; counts of several images can be added.
    """
    steps = np.rint(np.asarray(probability, dtype=np.float32).ravel() * (BINS - 1)).astype(np.int64)
    counts = np.bincount(steps + BINS * truth.ravel(), minlength=2 * BINS)
    return np.asarray(counts.reshape(2, BINS), dtype=np.int64)


def pooled_average_precision(counts: NDArray[np.integer]) -> float:
    """Give the average precision of pixels counted by their probability.

    ``sum of (R_n - R_(n-1)) P_n`` over the thresholds from high to low, the area under the precision-recall curve as
    scikit-learn's `average_precision_score` has it, but for probabilities rounded to `BINS` steps.

    Args:
        counts: ``(2, BINS)``, from `count_by_probability`.

    Returns:
        From 0 to 1; NaN when no pixel is inside the truth.
    """
    outside, inside = np.asarray(counts, dtype=np.int64)[:, ::-1]
    if not inside.any():
        return float("nan")
    found = np.cumsum(inside)
    called = found + np.cumsum(outside)
    return float(np.sum(inside / found[-1] * (found / np.maximum(called, 1))))


def pooled_overlap(counts: NDArray[np.integer], threshold: float) -> dict[str, float]:
    """Compare the pixels of all images from a threshold on with the truth.

    Args:
        counts: ``(2, BINS)``, from `count_by_probability`.
        threshold: probability from which a pixel counts as found, from 0 to 1.

    Returns:
        ``dice``, ``iou``, ``precision`` and ``recall``; NaN where the denominator is 0.
    """
    outside, inside = np.asarray(counts, dtype=np.int64)
    first = int(np.ceil(threshold * (BINS - 1)))
    hit, wrong = int(inside[first:].sum()), int(outside[first:].sum())
    missed = int(inside[:first].sum())

    def ratio(part: int, whole: int) -> float:
        return part / whole if whole else float("nan")

    return {
        "dice": ratio(2 * hit, 2 * hit + wrong + missed),
        "iou": ratio(hit, hit + wrong + missed),
        "precision": ratio(hit, hit + wrong),
        "recall": ratio(hit, hit + missed),
    }


def best_dice_threshold(counts: NDArray[np.integer]) -> float:
    """Give the threshold at which the Dice of the pixels of all images is highest.

    Args:
        counts: ``(2, BINS)``, from `count_by_probability`.

    Returns:
        From 0 to 1; the highest of several; NaN when no pixel is inside the truth.
    """
    outside, inside = np.asarray(counts, dtype=np.int64)[:, ::-1]
    if not inside.any():
        return float("nan")
    found = np.cumsum(inside)
    dice = 2 * found / (found + np.cumsum(outside) + found[-1])
    return (BINS - 1 - int(np.argmax(dice))) / (BINS - 1)


class PooledAveragePrecision(Metric):
    """Mean over the channels of the average precision over the pixels of all images, as an Ignite metric.

    Metrics of MONAI and Ignite keep every pixel; this one keeps counts.

    Args:
        channels: number of channels of ``pred`` and ``label``.
        kwargs: as for `ignite.metrics.Metric`. ``output_transform`` gives ``pred`` and ``label``, each a list of
            tensors ``(C, W, H)``, from 0 to 1; a channel of ``label`` that was not annotated is negative,
            and is left out.
    """

    _state_dict_all_req_keys = ("counts",)

    def __init__(self, channels: int, **kwargs: Any) -> None:
        self.channels = channels
        super().__init__(**kwargs)

    @reinit__is_reduced
    def reset(self) -> None:
        """Forget what was counted."""
        self.counts = torch.zeros(self.channels, 2, BINS, dtype=torch.int64)

    @reinit__is_reduced
    def update(self, output: Any) -> None:
        """Count the pixels of a batch."""
        for pred, label in zip(*output, strict=True):
            for channel in range(self.channels):
                truth = torch.as_tensor(label[channel]).detach().cpu().numpy()
                if truth.min() >= 0:
                    probability = torch.as_tensor(pred[channel]).detach().cpu().numpy()
                    self.counts[channel] += torch.as_tensor(count_by_probability(probability, truth > 0.5))

    @sync_all_reduce("counts")
    def compute(self) -> float:
        """Give the mean over the channels in which some pixel was marked; NaN when there is none."""
        areas = [pooled_average_precision(counts.cpu().numpy()) for counts in self.counts]
        defined = [area for area in areas if not np.isnan(area)]
        return float(np.mean(defined)) if defined else float("nan")
