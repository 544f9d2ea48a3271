"""Weights of labels, computed from the training list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from common.errors import SettingError


def positive_weights(
    items: Iterable[Mapping[str, Any]], labels: Sequence[str], power: float = 0.5, key: str = "label"
) -> torch.Tensor:
    """Weights of the positive items of each label, for `torch.nn.BCEWithLogitsLoss`.

    ``(negatives / positives) ** power``: with 1, the positive items of a label weigh as much as its negative ones; with
    0, every item weighs the same.

    Args:
        items: items of the training split; ``item[key]`` is a list of names.
        labels: the names, in the order of the weights.
        power: from 0 to 1.
        key: where an item's names stand.

    Returns:
        ``(len(labels),)`` of float32.

    Raises:
        SettingError: the power is not from 0 to 1, or no item, or every one, has a label.
    """
    if not 0 <= power <= 1:
        raise SettingError(f"class_weight_power is {power!r}; give a number from 0 to 1.")
    counted = [item[key] for item in items]
    weights = []
    for label in labels:
        positives = sum(label in names for names in counted)
        if positives in (0, len(counted)):
            raise SettingError(
                f"The label {label!r} stands at {positives} of {len(counted)} items of 'training', so nothing can be "
                "learned of it: give a data list that has both, or leave it out of labels."
            )
        weights.append(((len(counted) - positives) / positives) ** power)
    return torch.tensor(weights)
