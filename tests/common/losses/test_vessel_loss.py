from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from common.losses import BCEDiceClDiceLoss


@pytest.fixture
def label() -> torch.Tensor:
    label = torch.zeros(2, 1, 48, 40)
    label[:, :, 10:13, 4:36] = 1
    label[:, :, 5:44, 20:22] = 1
    return label


def test_perfect_prediction_is_near_zero_and_worse_is_more(label: torch.Tensor) -> None:
    for weight in (0.0, 0.5):
        loss = BCEDiceClDiceLoss(weight)
        perfect, blank, wrong = ((label * 2 - 1) * 20, torch.full_like(label, -5), (1 - label * 2) * 20)
        assert loss(perfect, label) < 0.01
        assert loss(perfect, label) < loss(blank, label) < loss(wrong, label)


def test_value_is_the_formula(label: torch.Tensor) -> None:
    logits = torch.randn(label.shape, generator=torch.Generator().manual_seed(0))
    p = torch.sigmoid(logits)
    dice = (2 * (p * label).sum() + 1e-5) / (p.sum() + label.sum() + 1e-5)
    expected = functional.binary_cross_entropy_with_logits(logits, label) + 1 - dice
    torch.testing.assert_close(BCEDiceClDiceLoss()(logits, label), expected)


def test_cldice_weight_changes_the_loss(label: torch.Tensor) -> None:
    torch.manual_seed(0)
    logits = torch.randn(label.shape)
    values = [float(BCEDiceClDiceLoss(weight)(logits, label)) for weight in (0.0, 0.5, 1.0)]
    assert values[0] < values[1] < values[2]
    assert values[2] - values[1] == pytest.approx(values[1] - values[0], abs=1e-5)
    # A gap costs more where the centre line counts.
    broken = label.clone()
    broken[:, :, 10:13, 26:30] = 0
    gap = [float(BCEDiceClDiceLoss(weight)((broken * 2 - 1) * 20, label)) for weight in (0.0, 1.0)]
    assert gap[1] > gap[0] + 0.02


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("soft", [False, True])
def test_gradient_leads_to_the_label(label: torch.Tensor, weight: float, soft: bool) -> None:
    target = functional.avg_pool2d(label, 3, 1, 1) if soft else label
    logits = torch.zeros_like(target, requires_grad=True)
    loss = BCEDiceClDiceLoss(weight)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    first = float(loss(logits, target))
    for _ in range(30):
        optimizer.zero_grad()
        value = loss(logits, target)
        value.backward()
        assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
        optimizer.step()
    assert float(value) < 0.6 * first
    assert ((torch.sigmoid(logits) > 0.5) == (target > 0.5)).float().mean() > 0.97


def test_empty_label_and_integer_label(label: torch.Tensor) -> None:
    logits = torch.randn(label.shape, requires_grad=True)
    for weight in (0.0, 1.0):
        value = BCEDiceClDiceLoss(weight)(logits, torch.zeros_like(label))
        value.backward()
        assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
    torch.testing.assert_close(BCEDiceClDiceLoss()(logits, label.to(torch.uint8)), BCEDiceClDiceLoss()(logits, label))
