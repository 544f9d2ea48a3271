from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from common.metrics import bootstrap_interval


def test_mean_of_normal_values_has_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap_interval(values)
    error = stats.norm.ppf(0.975) * values.std() / np.sqrt(values.size)
    assert low == pytest.approx(values.mean() - error, abs=0.03)
    assert high == pytest.approx(values.mean() + error, abs=0.03)


def test_same_seed_same_interval() -> None:
    values = np.random.default_rng(2).random(20)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_higher_confidence_is_wider() -> None:
    values = np.random.default_rng(3).random(30)
    narrow, wide = bootstrap_interval(values, confidence=0.8), bootstrap_interval(values, confidence=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_any_statistic() -> None:
    low, high = bootstrap_interval([1.0, 2.0, 3.0, 4.0, 100.0], statistic=np.median)
    assert (low, high) == (1.0, 100.0)


def test_repeated_patients_widen_the_interval() -> None:
    patient_means = np.random.default_rng(4).random(10)
    values = np.repeat(patient_means, 20)
    groups = np.repeat(np.arange(10), 20).tolist()
    single, grouped = bootstrap_interval(values), bootstrap_interval(values, groups=groups)
    assert grouped[1] - grouped[0] > 3 * (single[1] - single[0])
    assert grouped == pytest.approx(bootstrap_interval(patient_means))


def test_groups_of_one_are_no_groups() -> None:
    values = np.random.default_rng(5).random(12)
    assert bootstrap_interval(values, groups=[f"p{n}" for n in range(12)]) == bootstrap_interval(values)


@pytest.mark.parametrize(("values", "groups"), [([], None), ([1.0], None), ([1.0, 2.0], ["a", "a"])])
def test_nothing_to_draw_from(values: list[float], groups: list[str] | None) -> None:
    assert np.isnan(bootstrap_interval(values, groups=groups)).all()


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=15))
def test_interval_lies_within_the_values(values: list[float]) -> None:
    low, high = bootstrap_interval(values, resamples=100)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([1.0, float("nan")], {}, "NaN 1 times"),
        ([[1.0, 2.0]], {}, "list of numbers"),
        ([1.0, 2.0], {"confidence": 95}, "confidence is 95"),
        ([1.0, 2.0], {"resamples": 0}, "resamples is 0"),
        ([1.0, 2.0], {"groups": ["a"]}, "groups has 1 entries for 2 values"),
    ],
)
def test_wrong_settings(values: list[float], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values, **options)  # type: ignore[arg-type]
