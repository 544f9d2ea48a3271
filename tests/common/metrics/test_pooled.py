from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, precision_score, recall_score

from common.metrics import (
    PooledAveragePrecision,
    best_dice_threshold,
    count_by_probability,
    lesion_detection,
    pooled_average_precision,
    pooled_overlap,
)
from common.metrics.pooled import BINS


def draw(seed: int, share: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.random((30, 40)) < share
    probability = np.clip(generator.normal(0.3 + 0.3 * truth, 0.15), 0, 1).astype(np.float32)
    return np.rint(probability * 65535).astype(np.float32) / 65535, truth


def test_it_is_that_of_scikit_learn_over_the_pixels_of_all_images() -> None:
    images = [draw(seed, share) for seed, share in enumerate((0.02, 0.1, 0.3))]

    counts = sum(count_by_probability(*image) for image in images)

    probability = np.concatenate([image[0].ravel() for image in images])
    truth = np.concatenate([image[1].ravel() for image in images])
    assert np.sum(counts) == truth.size
    assert pooled_average_precision(np.asarray(counts)) == pytest.approx(average_precision_score(truth, probability))


def test_it_is_not_defined_without_the_structure() -> None:
    probability, truth = draw(0, 0.0)

    assert not truth.any()
    assert np.isnan(pooled_average_precision(count_by_probability(probability, truth)))


def test_overlap_is_that_of_scikit_learn_over_the_pixels_of_all_images() -> None:
    images = [draw(seed, share) for seed, share in enumerate((0.02, 0.1, 0.3))]

    counts = np.asarray(sum(count_by_probability(*image) for image in images))

    probability = np.concatenate([image[0].ravel() for image in images])
    truth = np.concatenate([image[1].ravel() for image in images])
    for threshold in (0.0, 0.3, 0.5, 1.0):
        predicted = probability >= threshold
        assert pooled_overlap(counts, threshold) == pytest.approx(
            {
                "dice": f1_score(truth, predicted),
                "iou": jaccard_score(truth, predicted),
                "precision": precision_score(truth, predicted, zero_division=np.nan),
                "recall": recall_score(truth, predicted),
            },
            nan_ok=True,
        )
    best = best_dice_threshold(counts)
    highest = max(f1_score(truth, probability >= value) for value in np.unique(probability))
    assert pooled_overlap(counts, best)["dice"] == pytest.approx(highest)
    assert pooled_overlap(counts, best + 1e-4)["dice"] < highest


def test_at_the_best_threshold_the_pixels_of_its_own_step_count() -> None:
    counts = np.zeros((2, BINS), np.int64)
    counts[0, :100] = 1
    for step in (BINS - 1026, 30001, 12345):
        counts[1] = 0
        counts[1, step] = 7

        assert pooled_overlap(counts, best_dice_threshold(counts))["dice"] == 1


def test_without_the_structure_no_threshold_is_best() -> None:
    counts = count_by_probability(*draw(0, 0.0))

    assert np.isnan(best_dice_threshold(counts))
    overlap = pooled_overlap(counts, 0.5)
    assert overlap["dice"] == overlap["precision"] == 0
    assert np.isnan(overlap["recall"])


def test_the_metric_is_the_mean_over_the_channels_and_leaves_out_what_was_not_annotated() -> None:
    metric = PooledAveragePrecision(channels=3)
    (first, true_first), (second, true_second), (third, _) = draw(1), draw(2), draw(3)
    pred = torch.as_tensor(np.stack([first, second, third]))
    label = torch.as_tensor(np.stack([true_first, true_second, -np.ones_like(third)]).astype(np.float32))

    metric.update(([pred[:, :15]], [label[:, :15]]))
    metric.update(([pred[:, 15:]], [label[:, 15:]]))

    wanted = [average_precision_score(t.ravel(), p.ravel()) for t, p in ((true_first, first), (true_second, second))]
    assert metric.compute() == pytest.approx(np.mean(wanted))
    metric.reset()
    assert np.isnan(metric.compute())


def test_lesions_are_counted_one_by_one() -> None:
    truth, predicted = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    truth[2:5, 2:5] = truth[5, 5] = True  # one lesion: it touches at the corner
    truth[10, 10] = truth[15, 15] = True
    predicted[4, 4] = predicted[2, 2] = True  # two regions in one lesion
    predicted[10, 8:12] = True
    predicted[18, 1] = predicted[0, 18] = True

    assert lesion_detection(predicted, truth) == {"lesions": 3, "detected": 2, "false_positives": 2}
    assert lesion_detection(np.zeros_like(truth), truth) == {"lesions": 3, "detected": 0, "false_positives": 0}
    assert lesion_detection(predicted, np.zeros_like(truth)) == {"lesions": 0, "detected": 0, "false_positives": 5}
