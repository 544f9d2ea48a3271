from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from common.losses import LesionLoss


def label_of(classes: torch.Tensor, count: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(classes, count).movedim(-1, 1).float()


@pytest.fixture
def classes() -> torch.Tensor:
    return torch.randint(0, 3, (2, 16, 12), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(1), requires_grad=True)


def test_the_cross_entropy_is_the_usual_one(classes: torch.Tensor, logits: torch.Tensor) -> None:
    loss = LesionLoss(dice_weight=0.0)(logits, label_of(classes))

    assert loss.item() == pytest.approx(cross_entropy(logits, classes).item(), rel=1e-5)


def test_a_perfect_prediction_costs_nothing(classes: torch.Tensor) -> None:
    label = label_of(classes)

    assert LesionLoss()(30 * label, label).item() == pytest.approx(0, abs=0.01)
    assert LesionLoss()(30 * label_of((classes + 1) % 3), label).item() > 20


def test_a_lesion_that_was_not_looked_for_counts_as_background(classes: torch.Tensor, logits: torch.Tensor) -> None:
    label = label_of(torch.where(classes == 2, 0, classes))
    unknown = label.clone()
    unknown[0, 2] = -1.0
    certain, other = logits.detach().clone(), logits.detach().clone()
    certain[0, 2] += 3.0
    # On the first photo all of the probability of background and unknown lesion may go from one to the other.
    both = torch.logsumexp(certain[0, [0, 2]], dim=0)
    other[0, 0], other[0, 2] = both + torch.log(torch.tensor(0.9)), both + torch.log(torch.tensor(0.1))

    assert LesionLoss()(certain, unknown).item() == pytest.approx(LesionLoss()(other, unknown).item(), rel=1e-5)
    assert LesionLoss()(certain, label).item() > LesionLoss()(certain, unknown).item() + 0.1


def test_the_gradient_is_finite(classes: torch.Tensor, logits: torch.Tensor) -> None:
    label = label_of(classes)
    label[0, 1] = -1.0
    label[1, 1:] = -1.0
    LesionLoss()(logits, label).backward()  # type: ignore[no-untyped-call]

    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_pixel_of_two_lesions_is_shared() -> None:
    label = torch.zeros(1, 3, 1, 1)
    label[0, 1:] = 1.0
    halves = torch.tensor([0.0, 0.5, 0.5])[None, :, None, None]

    loss = LesionLoss(dice_weight=0.0)

    assert loss(torch.log(halves + 1e-9), label).item() == pytest.approx(torch.log(torch.tensor(2.0)).item(), rel=1e-4)
