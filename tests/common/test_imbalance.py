from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from common.errors import SettingError
from common.imbalance import class_weights, training_sampler

# Three of sixteen photos are without the label, so the negative class is the rare one.
ITEMS = [{"name": str(number), "label": [] if number < 3 else ["DR"]} for number in range(16)]


class _Items(Dataset[Any]):
    def __len__(self) -> int:
        return len(ITEMS)

    def __getitem__(self, index: int) -> int:
        return index


@pytest.mark.parametrize(
    ("imbalance", "weight", "expected"),
    [
        ("none", "auto", [1, 1]),
        ("oversample", 2.5, [1, 1]),
        ("weighted", "auto", [13 / 3, 1]),
        ("weighted", 2.5, [2.5, 1]),
        ("weighted", 3, [3, 1]),
    ],
)
def test_the_rare_class_weighs_more(imbalance: str, weight: Any, expected: list[float]) -> None:
    assert class_weights(ITEMS, "DR", imbalance, weight).tolist() == pytest.approx(expected)


def test_the_rare_class_may_be_the_positive_one() -> None:
    items = [{"label": ["DR"] if number == 0 else []} for number in range(5)]

    assert class_weights(items, "DR", "weighted").tolist() == [1, 4]


def drawn(imbalance: str) -> list[int]:
    torch.manual_seed(0)
    dataset = _Items()
    loader: DataLoader[Any] = DataLoader(dataset, 4, sampler=training_sampler(dataset, ITEMS, "DR", imbalance))
    return [int(index) for batch in loader for index in batch]


@pytest.mark.parametrize("imbalance", ["none", "weighted"])
def test_every_item_is_drawn_once(imbalance: str) -> None:
    indices = drawn(imbalance)

    assert sorted(indices) == list(range(16))
    assert indices != sorted(indices)


def test_the_rare_class_is_drawn_as_often_as_the_common_one() -> None:
    epochs = [drawn("oversample")]
    dataset = _Items()
    sampler = training_sampler(dataset, ITEMS, "DR", "oversample")
    epochs += [list(sampler) for _ in range(99)]
    counts = Counter(index for epoch in epochs for index in epoch)

    assert {len(epoch) for epoch in epochs} == {2 * 13}
    assert sum(counts[number] for number in range(3)) / counts.total() == pytest.approx(0.5, abs=0.05)
    assert set(counts) == set(range(16))


@pytest.mark.parametrize(
    ("items", "imbalance", "weight", "said"),
    [
        (ITEMS, "smote", "auto", "imbalance is 'smote'; give one of none, oversample, weighted"),
        (ITEMS, "weighted", "large", "rare_class_weight is 'large'; give auto, or a number above 0"),
        (ITEMS, "weighted", 0, "rare_class_weight is 0"),
        (ITEMS, "weighted", True, "rare_class_weight is True"),
        (ITEMS[3:], "none", "auto", "'DR' stands at 13 of 13 items"),
        (ITEMS[:3], "weighted", "auto", "'DR' stands at 0 of 3 items"),
    ],
)
def test_what_cannot_be_done_is_refused(items: Any, imbalance: str, weight: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        class_weights(items, "DR", imbalance, weight)


def test_an_unknown_strategy_has_no_sampler() -> None:
    with pytest.raises(SettingError, match="imbalance is 'over'"):
        training_sampler(_Items(), ITEMS, "DR", "over")
