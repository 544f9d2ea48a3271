from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from common.errors import SettingError
from common.transforms import MultiHotd, TabularFeaturesd


def test_a_list_of_names_becomes_a_vector() -> None:
    transform = MultiHotd("label", ["N", "D", "G"])

    assert transform({"label": ["G", "D"]})["label"].tolist() == [0, 1, 1]
    assert transform({"label": []})["label"].tolist() == [0, 0, 0]
    assert transform({"label": ["H"]})["label"].dtype == torch.float32


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (["G", "X"], "label of 1.jpg has 'X', and labels are N, D, G"),
        ("G", "label of 1.jpg is 'G': give a list"),
        (1, "label of 1.jpg is 1: give a list"),
    ],
)
def test_a_label_that_is_not_known_is_named(label: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        MultiHotd("label", ["N", "D", "G"], others=["H"])({"label": label, "name": "1.jpg"})


@pytest.mark.parametrize("labels", ["ND", [], ["N", "N"]])
def test_labels_are_a_list_of_different_names(labels: Any) -> None:
    with pytest.raises(SettingError, match="give a list of different names"):
        MultiHotd("label", labels)


def test_features_are_gathered_in_the_order_of_the_columns() -> None:
    transform = TabularFeaturesd("tabular", {"sex": ["female", "male"], "age": None})

    values = transform({"age": 61, "sex": "male"})["tabular"]

    assert (values.dtype, values.tolist()) == (torch.float32, [0, 1, 61])
    assert math.isnan(transform({"sex": "male"})["tabular"][2])
