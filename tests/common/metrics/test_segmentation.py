from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from common.metrics import segmentation_scores, summarise

METRICS = ["dice", "iou", "precision", "recall", "specificity", "accuracy", "auc", "aupr", "cldice"]


def test_scores_counted_by_hand() -> None:
    probability = np.array([[0.9, 0.8, 0.2, 0.1], [0.6, 0.5, 0.4, 0.0]])
    truth = np.array([[True, False, True, False], [True, True, False, False]])
    scores = segmentation_scores(probability, truth)
    # Three hits, one false alarm, one miss, three rightly left out.
    assert scores["dice"] == pytest.approx(6 / 8)
    assert scores["iou"] == pytest.approx(3 / 5)
    assert scores["precision"] == pytest.approx(3 / 4)
    assert scores["recall"] == pytest.approx(3 / 4)
    assert scores["specificity"] == pytest.approx(3 / 4)
    assert scores["accuracy"] == pytest.approx(6 / 8)
    # Of the 16 pairs, 0.8 beats 0.6, 0.5 and 0.2, and 0.4 beats 0.2.
    assert scores["auc"] == pytest.approx(12 / 16)
    assert scores["aupr"] == pytest.approx((1 + 2 / 3 + 3 / 4 + 4 / 6) / 4)
    assert list(scores) == METRICS


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 30.0])
def test_areas_are_those_of_scikit_learn(dtype: type, sharpness: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((120, 150)) < 0.1
    logits = sharpness * (rng.normal(size=truth.shape) + 1.5 * truth - 1)
    probability: NDArray[np.floating] = (1 / (1 + np.exp(-logits))).astype(dtype)
    scores = segmentation_scores(probability, truth)
    assert scores["auc"] == pytest.approx(metrics.roc_auc_score(truth.ravel(), probability.ravel()), abs=1e-6)
    assert scores["aupr"] == pytest.approx(
        metrics.average_precision_score(truth.ravel(), probability.ravel()), abs=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([-0.0, 0.0, 1e-30, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=30))
def test_scores_with_ties_are_those_of_scikit_learn(pixels: list[tuple[float, bool]]) -> None:
    probability = np.array([[score for score, _ in pixels]])
    truth = np.array([[label for _, label in pixels]])
    labels, predicted = truth.ravel(), probability.ravel() >= 0.5
    scores = segmentation_scores(probability, truth)
    expected = {
        "precision": metrics.precision_score(labels, predicted, zero_division=np.nan),
        "recall": metrics.recall_score(labels, predicted, zero_division=np.nan),
        "specificity": metrics.recall_score(~labels, ~predicted, zero_division=np.nan),
        "dice": metrics.f1_score(labels, predicted, zero_division=np.nan),
        "iou": metrics.jaccard_score(labels, predicted) if (labels | predicted).any() else np.nan,
        "accuracy": metrics.accuracy_score(labels, predicted),
        "auc": metrics.roc_auc_score(labels, probability.ravel()) if 0 < labels.sum() < labels.size else np.nan,
        "aupr": metrics.average_precision_score(labels, probability.ravel()) if labels.any() else np.nan,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def lines(*rows: int) -> NDArray[np.bool_]:
    mask = np.zeros((30, 40), dtype=bool)
    mask[list(rows), 5:35] = True
    return mask


def test_cldice_of_one_found_line_of_two() -> None:
    scores = segmentation_scores(lines(10).astype(np.float32), lines(10, 20))
    assert scores["cldice"] == pytest.approx(2 * 1 * 0.5 / 1.5)


def test_cldice_does_not_see_the_width() -> None:
    scores = segmentation_scores(lines(9, 10, 11).astype(np.float32), lines(10))
    assert scores["cldice"] > 0.95
    assert scores["dice"] == pytest.approx(0.5)


def test_cldice_of_lines_apart() -> None:
    assert segmentation_scores(lines(10).astype(np.float32), lines(20))["cldice"] == 0


def test_only_the_region_counts() -> None:
    probability, truth = lines(10, 25).astype(np.float32), lines(10)
    region = np.zeros(truth.shape, dtype=bool)
    region[:20] = True
    scores = segmentation_scores(probability, truth, region)
    assert scores == dict.fromkeys(METRICS, 1.0)
    probability[25] = np.nan
    assert segmentation_scores(probability, truth, region) == scores


def test_threshold_is_included() -> None:
    probability = np.where(lines(10), 0.3, 0.0)
    assert segmentation_scores(probability, lines(10), threshold=0.3)["dice"] == 1
    assert segmentation_scores(probability, lines(10))["dice"] == 0


@pytest.mark.parametrize(
    ("predicted", "truth", "undefined", "zero"),
    [
        (False, False, {"dice", "iou", "precision", "recall", "auc", "aupr", "cldice"}, set()),
        (True, False, {"recall", "auc", "aupr"}, {"dice", "iou", "precision", "specificity", "accuracy", "cldice"}),
        (False, True, {"precision", "specificity", "auc"}, {"dice", "iou", "recall", "accuracy", "cldice"}),
    ],
)
def test_undefined_scores_are_nan(predicted: bool, truth: bool, undefined: set[str], zero: set[str]) -> None:
    scores = segmentation_scores(np.full((9, 9), float(predicted)), np.full((9, 9), truth))
    assert {name for name, score in scores.items() if math.isnan(score)} == undefined
    assert {name for name, score in scores.items() if score == 0} == zero


@pytest.mark.parametrize(
    ("probability", "truth", "region", "message"),
    [
        (np.zeros((2, 3, 1)), np.zeros((2, 3), bool), None, "floating point, not"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), bool), None, "of uint8"),
        (np.zeros((2, 3)), np.zeros((2, 3)), None, "truth must be an array of bool"),
        (np.zeros((2, 3)), np.zeros((3, 2), bool), None, "truth is .* same shape"),
        (np.zeros((2, 3)), np.zeros((2, 3), bool), np.ones((3, 2), bool), "region is .* same shape"),
        (np.zeros((2, 3)), np.zeros((2, 3), bool), np.zeros((2, 3), bool), "region is empty"),
        (np.full((2, 3), -2.0), np.zeros((2, 3), bool), None, "not logits"),
        (np.full((2, 3), np.nan), np.zeros((2, 3), bool), None, "between 0 and 1"),
    ],
)
def test_wrong_arrays(
    probability: NDArray[np.float64],
    truth: NDArray[np.bool_],
    region: NDArray[np.bool_] | None,
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        segmentation_scores(probability, truth, region)


def test_summary_counts_what_is_defined() -> None:
    rows = [{"dice": 0.8, "auc": 0.9}, {"dice": 0.6, "auc": float("nan")}, {"dice": 0.7, "cldice": float("nan")}]
    summary = summarise(rows)
    assert summary["dice"]["mean"] == pytest.approx(0.7)
    assert summary["dice"]["n"] == 3
    low, high = summary["dice"]["low"], summary["dice"]["high"]
    assert low is not None
    assert high is not None
    assert (low, high) == pytest.approx((0.6, 0.8))
    assert summary["auc"] == {"mean": 0.9, "low": None, "high": None, "n": 1}
    assert summary["cldice"] == {"mean": None, "low": None, "high": None, "n": 0}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_summary_draws_whole_groups() -> None:
    rows = [{"dice": value} for value in (0.2, 0.2, 0.2, 0.8, 0.8, float("nan"))]
    grouped = summarise(rows, groups=["a", "a", "a", "b", "b", "c"])["dice"]
    assert (grouped["low"], grouped["high"], grouped["n"]) == (pytest.approx(0.2), pytest.approx(0.8), 5)
    assert summarise(rows, groups=["a"] * 6)["dice"]["low"] is None


@pytest.mark.parametrize(
    ("rows", "groups", "message"), [([], None, "rows is empty"), ([{}], [], "0 entries for 1 rows")]
)
def test_wrong_rows(rows: list[dict[str, float]], groups: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(rows, groups=groups)
