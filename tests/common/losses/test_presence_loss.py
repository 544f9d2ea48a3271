from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from common.losses import PresenceCrossEntropy
from common.transforms import PresenceProbabilityd

LOGITS = torch.tensor([[2.0, -1.0], [0.5, 0.5], [-1.0, 3.0], [1.0, 0.0]])
PRESENT = torch.tensor([[0.0], [1.0], [1.0], [1.0]])


def test_without_weights_it_is_the_cross_entropy() -> None:
    expected = functional.cross_entropy(LOGITS, PRESENT[:, 0].long())

    assert PresenceCrossEntropy()(LOGITS, PRESENT).item() == pytest.approx(expected.item())


def test_a_weight_counts_in_a_batch_of_one_too() -> None:
    weighted, plain = PresenceCrossEntropy(torch.tensor([2.5, 1.0])), PresenceCrossEntropy()

    assert weighted(LOGITS[:1], PRESENT[:1]).item() == pytest.approx(2.5 * plain(LOGITS[:1], PRESENT[:1]).item())
    assert weighted(LOGITS[1:], PRESENT[1:]).item() == pytest.approx(plain(LOGITS[1:], PRESENT[1:]).item())
    single = [weighted(LOGITS[i : i + 1], PRESENT[i : i + 1]).item() for i in range(4)]
    assert weighted(LOGITS, PRESENT).item() == pytest.approx(sum(single) / 4)


def test_the_probability_is_that_of_the_second_class() -> None:
    (found,) = PresenceProbabilityd(keys="pred")({"pred": LOGITS[0]})["pred"]

    assert found.item() == pytest.approx(1 / (1 + torch.e**3))
