from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import SettingError
from common.networks import FusionClassifier
from common.saliency import Saliency, last_feature_layer


class Corner(nn.Module):
    """Two logits: how bright the photo is, and how dark."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Conv2d(3, 2, 1, bias=False)
        self.features = nn.Sequential(first, nn.ReLU(inplace=True))
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            first.weight[:] = torch.tensor([1.0, -1.0])[:, None, None, None]
            self.head.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(inputs).mean(dim=(2, 3)))
        return logits


def photo() -> torch.Tensor:
    """``(3, W, H)``, bright in the columns from 20 on of the rows up to 10, dark elsewhere."""
    image = torch.full((3, 32, 24), -1.0)
    image[:, 20:, :10] = 1.0
    return image


def test_what_speaks_for_a_label_is_found_and_not_transposed() -> None:
    saliency = Saliency(Corner().train(), 2)

    bright, dark = saliency(photo(), 0), saliency(photo(), 1)

    assert bright.shape == (24, 32)
    assert bright[2:8, 22:30].min() > 0.9
    assert bright[14:, :].max() < 0.1
    assert dark[2:8, 22:30].max() < 0.1
    assert dark[14:, :].min() > 0.9
    assert saliency.network.training
    assert not any(module._backward_hooks or module._forward_hooks for module in saliency.network.modules())
    assert all(parameter.grad is None for parameter in saliency.network.parameters())


def test_logits_before_those_of_the_labels_are_of_none() -> None:
    np.testing.assert_array_equal(Saliency(Corner(), 1)(photo(), 0), Saliency(Corner(), 2)(photo(), 1))


def test_nothing_that_speaks_for_it_is_zero() -> None:
    heat = Saliency(Corner(), 2)(torch.full((3, 32, 24), -1.0), 0)

    assert not heat.any()


@pytest.mark.parametrize(
    ("backbone", "layer"), [("mobilenet_v2", "encoder.features.18"), ("resnet50", "encoder.layer4")]
)
def test_the_last_features_of_the_fusion_network(backbone: str, layer: str) -> None:
    network = FusionClassifier(out_channels=3, backbone=backbone, tabular_features=2).eval()
    tabular = torch.tensor([0.5, float("nan")])

    assert last_feature_layer(network, torch.zeros(1, 3, 64, 64), tabular=tabular[None]) == (layer, 3)
    heat = Saliency(network, 3)(torch.rand(3, 64, 96), 1, tabular)
    assert heat.shape == (96, 64)
    assert np.isfinite(heat).all()


def test_a_network_without_pictures_inside() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))

    with pytest.raises(SettingError, match="no layer whose output is a picture"):
        Saliency(network, 2)(torch.zeros(3, 2, 2), 0)
