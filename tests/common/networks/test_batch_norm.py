from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from common.networks import FusionClassifier, calibrate_encoder


@pytest.fixture
def batches() -> list[dict[str, MetaTensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"image": MetaTensor(torch.rand(8, 3, 64, 64, generator=generator))} for _ in range(4)]


def folded() -> FusionClassifier:
    """A classifier whose scales and statistics are folded into the convolutions, as in converted weights."""
    torch.manual_seed(0)
    network = FusionClassifier(out_channels=2, dropout=0.0)
    for layer in network.encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.bias, 1.0, 2.0)
            nn.init.uniform_(layer.weight, 0.5, 2.0)
    return network


def encoded(network: FusionClassifier, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        features: torch.Tensor = network.encoder(image)[-1]
    return features


def test_the_encoder_computes_the_same_and_in_training_too(batches: list[dict[str, MetaTensor]]) -> None:
    network, image = folded(), torch.cat([batch["image"].as_tensor() for batch in batches])
    before = encoded(network.eval(), image)
    far = encoded(network.train(), image)
    network = folded()

    calibrate_encoder(network.train(), batches)

    assert network.training
    assert torch.allclose(encoded(network.eval(), image), before, rtol=1e-3, atol=1e-3)
    near = encoded(network.train(), image)
    assert (near - before).abs().mean() < 0.05 * (far - before).abs().mean()


def test_only_so_many_batches_are_used(batches: list[dict[str, MetaTensor]]) -> None:
    one, other = folded(), folded()

    calibrate_encoder(one, batches, count=1)
    calibrate_encoder(other, batches[:1])

    assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())
