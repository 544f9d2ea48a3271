"""Confidence intervals by resampling, of single values or of whole groups such as patients."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


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
