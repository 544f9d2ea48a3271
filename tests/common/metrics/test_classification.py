from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, cohen_kappa_score, f1_score, roc_auc_score

from common.metrics import (
    best_threshold,
    bootstrap_intervals,
    calibration_error,
    classification_scores,
    odir_scores,
    score_labels,
    score_labels_with_intervals,
)

# One false positive above the lowest positive: 1 of 5 x 4 pairs is in the wrong order.
PROBABILITY = np.array([0.9, 0.8, 0.7, 0.6, 0.3, 0.4, 0.2, 0.1, 0.05])
TRUTH = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)


def test_scores_of_a_known_list() -> None:
    scores = classification_scores(PROBABILITY, TRUTH)

    assert scores["auc"] == pytest.approx(19 / 20)
    assert scores["aupr"] == pytest.approx((4 + 5 / 6) / 5)
    assert scores["sensitivity_at_90"] == pytest.approx(0.8)
    assert scores["accuracy"] == pytest.approx(8 / 9)
    assert scores["precision"] == 1
    assert scores["recall"] == pytest.approx(0.8)
    assert scores["specificity"] == 1
    assert scores["f1"] == pytest.approx(8 / 9)
    assert not any(name.endswith("_chosen") for name in scores)


def test_another_threshold_beside_the_first() -> None:
    chosen = best_threshold(PROBABILITY, TRUTH)
    scores = classification_scores(PROBABILITY, TRUTH, chosen=chosen)

    assert chosen == 0.3
    assert scores["f1_chosen"] == pytest.approx(10 / 11)
    assert scores["recall_chosen"] == 1
    assert scores["specificity_chosen"] == pytest.approx(0.75)
    assert scores["f1"] == pytest.approx(8 / 9)


def test_a_specificity_of_exactly_nine_tenths_counts() -> None:
    probability = np.array([0.95, 0.5, 0.9, *np.linspace(0, 0.4, 9)])
    truth = np.array([True, True, *[False] * 10])

    # Above 0.5 lies one of ten negatives.
    assert classification_scores(probability, truth)["sensitivity_at_90"] == 1


@pytest.mark.parametrize("positive", [True, False])
def test_what_is_not_defined_is_nan(positive: bool) -> None:
    scores = classification_scores(np.array([0.2, 0.3]), np.full(2, positive))

    assert np.isnan(scores["auc"])
    assert np.isnan(scores["sensitivity_at_90"])
    assert np.isnan(scores["precision"])
    assert np.isnan(scores["aupr"]) == (not positive)
    assert np.isnan(scores["recall"]) == (not positive)
    assert np.isnan(scores["specificity"]) == positive
    assert np.isnan(best_threshold(np.array([0.2, 0.3]), np.full(2, positive))) == (not positive)


@pytest.mark.parametrize(
    ("probability", "truth", "words"),
    [
        (np.array([1.5]), np.array([True]), "not logits"),
        (np.array([0.5, np.nan]), np.array([True, False]), "not logits"),
        (np.array([0.5]), np.array([1]), "of bool"),
        (np.array([0.5, 0.1]), np.array([True]), "one length"),
        (np.array([]), np.array([], dtype=bool), "one length"),
    ],
)
def test_wrong_arguments(probability: np.ndarray, truth: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        classification_scores(probability, truth)


def test_calibration_error_of_known_frequencies() -> None:
    # In one bin 0.9 is said and 3 of 4 are positive; in another 0.1 is said and none is.
    probability = np.array([0.9] * 4 + [0.1] * 4)
    truth = np.array([1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)

    assert calibration_error(probability, truth) == pytest.approx(0.5 * 0.15 + 0.5 * 0.1)
    assert calibration_error(np.array([0.0, 1.0]), np.array([False, True])) == 0
    assert calibration_error(np.array([1.0, 0.0]), np.array([False, True])) == 1


def test_odir_scores_of_a_known_table() -> None:
    truth = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], dtype=bool)
    probability = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.5]])

    scores = odir_scores(probability, truth)

    # 2 of 3 positives are called and 1 of 5 negatives: 0.5 itself is not above the threshold.
    observed, expected = 6 / 8, (3 * 3 + 5 * 5) / 64
    assert scores["kappa"] == pytest.approx((observed - expected) / (1 - expected))
    assert scores["f1"] == pytest.approx(6 / 8)
    assert scores["auc"] == pytest.approx(13 / 15)
    assert scores["score"] == pytest.approx((scores["kappa"] + scores["f1"] + scores["auc"]) / 3)
    assert np.isnan(odir_scores(probability, np.zeros((4, 2), bool))["score"])


def test_the_macro_average_is_over_what_is_defined() -> None:
    truth = np.stack([TRUTH, np.zeros(9, bool)], axis=1)
    probability = np.stack([PROBABILITY, PROBABILITY], axis=1)

    found = score_labels(probability, truth, ["G", "M"], chosen={"G": 0.3, "M": None})

    assert list(found) == ["G", "M", "macro", "odir"]
    assert found["macro"]["auc"] == found["G"]["auc"]
    assert np.isnan(found["M"]["auc"])
    assert found["macro"]["accuracy"] == pytest.approx((found["G"]["accuracy"] + found["M"]["accuracy"]) / 2)
    assert "f1_chosen" not in found["M"]


@given(st.integers(0, 2**32 - 1))
def test_areas_are_those_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probability = np.round(generator.random(40), 1)  # with ties
    truth = np.append(generator.random(38) < 0.3, [True, False])

    scores = classification_scores(probability, truth)

    assert scores["auc"] == pytest.approx(roc_auc_score(truth, probability))
    assert scores["aupr"] == pytest.approx(average_precision_score(truth, probability))
    odir = odir_scores(probability.reshape(20, 2), truth.reshape(20, 2))
    assert odir["kappa"] == pytest.approx(cohen_kappa_score(truth, probability > 0.5))
    assert odir["f1"] == pytest.approx(f1_score(truth, probability > 0.5, average="micro"))


def test_intervals_hold_the_value_and_are_wider_for_whole_patients() -> None:
    generator = np.random.default_rng(1)
    truth = np.repeat(generator.random((60, 1)) < 0.4, 2, axis=0)  # both eyes alike
    probability = np.repeat(np.clip(truth[::2] * 0.3 + generator.random((60, 1)) * 0.7, 0, 1), 2, axis=0)
    patients = [str(number) for number in np.repeat(np.arange(60), 2)]

    by_patient = score_labels_with_intervals(probability, truth, ["G"], patients, resamples=100)["G"]["auc"]
    by_eye = score_labels_with_intervals(probability, truth, ["G"], list(range(120)), resamples=100)["G"]["auc"]

    for found in (by_patient, by_eye):
        assert found["low"] is not None
        assert found["high"] is not None
        assert found["value"] is not None
        assert found["low"] < found["value"] < found["high"]
    assert by_patient["high"] - by_patient["low"] > 1.2 * (by_eye["high"] - by_eye["low"])  # type: ignore[operator]
    again = score_labels_with_intervals(probability, truth, ["G"], patients, resamples=100)["G"]["auc"]
    assert again == by_patient


def test_intervals_of_one_patient_are_not_defined() -> None:
    found = score_labels_with_intervals(PROBABILITY[:, None], TRUTH[:, None], ["G"], ["1"] * 9)

    assert found["G"]["auc"] == {"value": pytest.approx(0.95), "low": None, "high": None}
    assert found["G"]["recall"]["value"] == pytest.approx(0.8)


def test_the_bootstrap_of_many_statistics_draws_groups() -> None:
    values = np.array([0.0, 0.0, 1.0, 1.0])

    found = bootstrap_intervals(
        lambda rows: {"mean": float(values[rows].mean()), "n": float(len(rows)), "never": float("nan")},
        ["a", "a", "b", "b"],
        resamples=300,
    )

    assert found["mean"] == (0.0, 1.0)
    assert found["n"] == (4.0, 4.0)
    assert np.isnan(found["never"]).all()
    with pytest.raises(ValueError, match="0 groups"):
        bootstrap_intervals(lambda rows: {"n": 1.0}, [])
