"""Confidence intervals by resampling, of single values or of whole groups such as patients."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Name = TypeVar("Name", bound=Hashable)


def bootstrap_interval(
    values: ArrayLike,
    *,
    statistic: Callable[[NDArray[np.float64]], float] = np.mean,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> tuple[float, float]:
    """Give the percentile bootstrap interval of a statistic.

    With ``groups``, groups are drawn instead of values, and a group that is drawn brings all its values: two eyes or
    two visits of a patient are no independent observations.

    Args:
        values: ``(n,)``, one for each image. NaN is refused: leave undefined values out, and say how many there were.
        statistic: from values ``(m,)`` to a number.
        confidence: level of the interval, between 0 and 1.
        resamples: how many samples are drawn.
        seed: of the random numbers; the same seed gives the same interval.
        groups: what each value belongs to, such as the patient.

    Returns:
        Lower and upper end; NaN for both when there are fewer than two values, or two groups, to draw from.

    Raises:
        ValueError: the values are not a list of numbers, hold NaN, or are not as many as the groups, or ``confidence``
            or ``resamples`` is out of range.

    References:
        Efron and Tibshirani, "An introduction to the bootstrap", Chapman and Hall 1993, chapter 13. Whole groups: Field
        and Welsh, "Bootstrapping clustered data", Journal of the Royal Statistical Society B 69, 2007.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1:
        raise ValueError(f"values has the shape {numbers.shape}; give a list of numbers, one for each image.")
    if np.isnan(numbers).any():
        raise ValueError(f"values holds NaN {int(np.isnan(numbers).sum())} times; leave undefined values out.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a level between 0 and 1, such as 0.95.")
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; draw at least one sample, better 2000.")
    if groups is None:
        members = list(numbers[:, None])
    else:
        if len(groups) != len(numbers):
            raise ValueError(f"groups has {len(groups)} entries for {len(numbers)} values; give one for each value.")
        places: dict[Hashable, list[int]] = {}
        for place, group in enumerate(groups):
            places.setdefault(group, []).append(place)
        members = [numbers[chosen] for chosen in places.values()]
    if len(members) < 2:
        return float("nan"), float("nan")

    def of_drawn(drawn: NDArray[np.intp]) -> float:
        return float(statistic(np.concatenate([members[index] for index in drawn])))

    interval = stats.bootstrap(
        (np.arange(len(members)),),
        of_drawn,
        vectorized=False,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def bootstrap_intervals(
    statistics: Callable[[NDArray[np.intp]], Mapping[Name, float]],
    groups: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[Name, tuple[float, float]]:
    """Give the percentile bootstrap intervals of many statistics of the same rows, drawing whole groups.

    Args:
        statistics: from the numbers of some rows ``(m,)``, which may occur several times, to name and value; NaN for
            what is not defined on them.
        groups: what each row belongs to, such as the patient.
        confidence: level of the interval, between 0 and 1.
        resamples: how many samples are drawn.
        seed: of the random numbers; the same seed gives the same intervals.

    Returns:
        Name to lower and upper end, over the samples in which the statistic is defined; NaN where it is in none, or
        when there are fewer than two groups.

    Raises:
        ValueError: there is no group, or ``confidence`` or ``resamples`` is out of range.

    References:
        See `bootstrap_interval`.
    """
    if not groups or not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"There are {len(groups)} groups, confidence is {confidence} and resamples {resamples}; give groups, a "
            "level between 0 and 1, and at least one sample."
        )
    places: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups):
        places.setdefault(group, []).append(place)
    members = [np.array(rows) for rows in places.values()]
    if len(members) < 2:
        return dict.fromkeys(statistics(np.arange(len(groups))), (float("nan"), float("nan")))
    generator = np.random.default_rng(seed)
    found: dict[Name, list[float]] = {}
    for _ in range(resamples):
        drawn = generator.integers(len(members), size=len(members))
        for name, value in statistics(np.concatenate([members[index] for index in drawn])).items():
            found.setdefault(name, []).append(value)
    tail = 50 * (1 - confidence)
    intervals = {}
    for name, values in found.items():
        defined = np.array(values)[~np.isnan(values)]
        ends = np.percentile(defined, (tail, 100 - tail)) if defined.size else (np.nan, np.nan)
        intervals[name] = (float(ends[0]), float(ends[1]))
    return intervals
