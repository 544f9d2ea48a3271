"""What a classifier of two classes does about one of them being rare: draw it more often, or let it weigh more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.data import DistributedSampler, DistributedWeightedRandomSampler
from torch.utils.data import Dataset, RandomSampler, Sampler, WeightedRandomSampler

from common.errors import SettingError

STRATEGIES = ("none", "oversample", "weighted")


def _check(imbalance: str) -> None:
    if imbalance not in STRATEGIES:
        raise SettingError(f"imbalance is {imbalance!r}; give one of {', '.join(STRATEGIES)}.")


def _positive(items: Sequence[Mapping[str, Any]], label: str) -> torch.Tensor:
    """1 for each item that has the label, and else 0; both have to be there."""
    positive = torch.tensor([int(label in item["label"]) for item in items])
    if positive.all() or not positive.any():
        raise SettingError(
            f"The label {label!r} stands at {int(positive.sum())} of {len(items)} items of 'training', so nothing can "
            "be learned of it: give a data list that has both."
        )
    return positive


def class_weights(
    items: Sequence[Mapping[str, Any]], label: str, imbalance: str, rare_class_weight: str | float = "auto"
) -> torch.Tensor:
    """Weights of the classes in the loss: 1 for the common one, and without ``weighted`` for the rare one too.

    Args:
        items: items of the training split; ``item["label"]`` is a list of names.
        label: the name that makes an item positive.
        imbalance: one of `STRATEGIES`.
        rare_class_weight: with ``weighted``, the weight of the class with fewer items; ``auto`` for the ratio of the
            numbers of items, so that both classes weigh the same as a whole.

    Returns:
        Weights of the negative and of the positive class, ``(2,)`` of float32.

    Raises:
        SettingError: the strategy is unknown, the weight is no number above 0, or one class is missing.
    """
    _check(imbalance)
    is_number = isinstance(rare_class_weight, (int, float)) and not isinstance(rare_class_weight, bool)
    if rare_class_weight != "auto" and not (is_number and 0 < float(rare_class_weight) < float("inf")):
        raise SettingError(f"rare_class_weight is {rare_class_weight!r}; give auto, or a number above 0.")
    counts = torch.bincount(_positive(items, label), minlength=2)
    weights = torch.ones(2)
    if imbalance == "weighted":
        ratio = float(counts.max() / counts.min())
        weights[counts.argmin()] = ratio if rare_class_weight == "auto" else float(rare_class_weight)
    return weights


def training_sampler(
    dataset: Dataset[Any],
    items: Sequence[Mapping[str, Any]],
    label: str,
    imbalance: str,
    distributed: bool = False,
) -> Sampler[int]:
    """Choose how the items of the training are drawn.

    With ``oversample`` an epoch has twice the number of the common class's items, drawn with replacement, as many of
    one class as of the other on average; otherwise every item comes once, in random order.

    Args:
        dataset: the data set.
        items: its items; ``item["label"]`` is a list of names.
        label: the name that makes an item positive.
        imbalance: one of `STRATEGIES`.
        distributed: whether several processes share the items.

    Returns:
        The sampler, for a `DataLoader`.

    Raises:
        SettingError: the strategy is unknown, or one class is missing.
    """
    _check(imbalance)
    positive = _positive(items, label)
    if imbalance != "oversample":
        return DistributedSampler(dataset, shuffle=True) if distributed else RandomSampler(dataset)  # type: ignore[arg-type]
    counts = torch.bincount(positive, minlength=2)
    weights = (1.0 / counts)[positive].tolist()
    count = 2 * int(counts.max())
    if not distributed:
        return WeightedRandomSampler(weights, count, replacement=True)
    processes = torch.distributed.get_world_size()
    return DistributedWeightedRandomSampler(dataset, weights, num_samples_per_rank=-(-count // processes))
