from __future__ import annotations

import pytest
import torch
from torch import nn

from common.networks import LayerUNet


def widths(network: nn.Module) -> list[int]:
    return sorted({layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)} - {8})


def test_64_gives_the_reference_network() -> None:
    network = LayerUNet()

    assert widths(network) == [64, 128, 256, 512, 1024]
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(31e6, rel=0.02)


def test_dropout_is_in_the_two_deepest_levels() -> None:
    def dropouts(network: nn.Module) -> dict[str, float]:
        layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Dropout)}
        return {name.split(".")[0]: layer.p for name, layer in layers.items() if layer.p}

    assert dropouts(LayerUNet(base_channels=4)) == {"down_3": 0.2, "down_4": 0.2}
    assert dropouts(LayerUNet(base_channels=4, dropout=0.0)) == {}


def test_it_has_batch_norm_and_relu_only() -> None:
    kinds = {type(layer) for layer in LayerUNet(base_channels=4).modules()}

    assert {nn.BatchNorm2d, nn.ReLU} <= kinds
    assert not kinds & {nn.InstanceNorm2d, nn.LeakyReLU, nn.PReLU}


@pytest.mark.parametrize("shape", [(64, 48), (50, 70), (33, 47)], ids=str)
def test_any_size_comes_back(shape: tuple[int, int]) -> None:
    network = LayerUNet(base_channels=4).eval()

    with torch.inference_mode():
        assert network(torch.randn(2, 1, *shape)).shape == (2, 8, *shape)


def test_it_can_be_scripted() -> None:
    network = LayerUNet(base_channels=4).eval()
    image = torch.randn(1, 1, 48, 64)

    with torch.inference_mode():
        torch.testing.assert_close(torch.jit.script(network)(image), network(image))
