from __future__ import annotations

import pytest
import torch

from common.biomarkers.layers import UNANNOTATED
from common.losses import LayerLoss


def one_hot_logits(classes: torch.Tensor, size: float = 20.0) -> torch.Tensor:
    return size * torch.nn.functional.one_hot(classes, 8).movedim(-1, 1).float()


@pytest.fixture
def classes() -> torch.Tensor:
    return torch.randint(0, 8, (2, 12, 20), generator=torch.Generator().manual_seed(0))


def test_the_truth_costs_nothing_and_everything_else_something(classes: torch.Tensor) -> None:
    loss = LayerLoss()

    assert loss(one_hot_logits(classes), classes[:, None]).item() == pytest.approx(0, abs=1e-3)
    assert loss(one_hot_logits((classes + 1) % 8), classes[:, None]).item() > 1


def test_what_is_not_annotated_takes_no_part(classes: torch.Tensor) -> None:
    label = classes[:, None].clone()
    label[:, :, 3:7, 5:] = UNANNOTATED
    logits = torch.randn(2, 8, 12, 20, generator=torch.Generator().manual_seed(1))
    other = logits.clone()
    other[:, :, 3:7, 5:] += 10 * torch.randn(2, 8, 4, 15, generator=torch.Generator().manual_seed(2))
    other.requires_grad_()

    value = LayerLoss()(other, label)
    value.backward()

    assert value.item() == pytest.approx(LayerLoss()(logits, label).item(), rel=1e-5)
    assert other.grad is not None
    assert other.grad[:, :, 3:7, 5:].abs().max() == 0
    assert other.grad.abs().max() > 0


def test_the_weights_of_both_terms(classes: torch.Tensor) -> None:
    logits = torch.randn(2, 8, 12, 20, generator=torch.Generator().manual_seed(1))
    label = classes[:, None]
    entropy = torch.nn.functional.cross_entropy(logits, classes)
    probability = torch.softmax(logits, dim=1)
    truth = torch.nn.functional.one_hot(classes, 8).movedim(-1, 1)
    axes = (0, 2, 3)
    dice = 1 - (2 * (probability * truth).sum(axes) / (probability + truth).sum(axes)).mean()

    assert LayerLoss(0.0, 1.0)(logits, label).item() == pytest.approx(entropy.item(), rel=1e-5)
    assert LayerLoss(1.0, 0.0)(logits, label).item() == pytest.approx(dice.item(), rel=1e-4)
    assert LayerLoss()(logits, label).item() == pytest.approx((0.7 * dice + 0.3 * entropy).item(), rel=1e-4)


def test_nothing_annotated_is_finite() -> None:
    logits = torch.randn(1, 8, 4, 4, requires_grad=True)

    value = LayerLoss()(logits, torch.full((1, 1, 4, 4), UNANNOTATED))
    value.backward()

    assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
