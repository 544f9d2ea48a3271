from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from common.losses import PartialBCEDiceLoss


@pytest.fixture
def label() -> torch.Tensor:
    label = torch.zeros(3, 2, 32, 40)
    label[:, 0, 8:24, 10:30] = 1
    label[:, 1, 12:20, 16:24] = 1
    return label


def channel(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """The formula on one channel of the photos on which it was annotated."""
    p = torch.sigmoid(logits)
    dice = (2 * (p * label).sum() + 1e-5) / (p.sum() + label.sum() + 1e-5)
    return functional.binary_cross_entropy_with_logits(logits, label) + 1 - dice


def test_value_is_the_formula(label: torch.Tensor) -> None:
    logits = torch.randn(label.shape, generator=torch.Generator().manual_seed(0))
    expected = (channel(logits[:, 0], label[:, 0]) + channel(logits[:, 1], label[:, 1])) / 2

    torch.testing.assert_close(PartialBCEDiceLoss()(logits, label), expected)


def test_what_was_not_annotated_takes_no_part(label: torch.Tensor) -> None:
    logits = torch.randn(label.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    label[1, 1] = -1
    kept = torch.tensor([0, 2])
    expected = (channel(logits[:, 0], label[:, 0]) + channel(logits[kept, 1], label[kept, 1])) / 2
    loss = PartialBCEDiceLoss()(logits, label)
    loss.backward()

    torch.testing.assert_close(loss, expected)
    assert logits.grad is not None
    assert not logits.grad[1, 1].any()
    assert logits.grad[1, 0].any()


def test_a_channel_that_nobody_annotated_is_left_out(label: torch.Tensor) -> None:
    logits = torch.randn(label.shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    label[:, 1] = -1
    torch.testing.assert_close(PartialBCEDiceLoss()(logits, label), channel(logits[:, 0], label[:, 0]))

    loss = PartialBCEDiceLoss()(logits, torch.full_like(label, -1))
    loss.backward()
    assert loss == 0
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_perfect_prediction_is_near_zero(label: torch.Tensor) -> None:
    assert PartialBCEDiceLoss()((label * 2 - 1) * 20, label) < 0.01
