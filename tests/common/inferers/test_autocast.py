from __future__ import annotations

import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from common.inferers import AutocastInferer


class Recorder(nn.Module):
    """A convolution that remembers the type in which it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 2, 3, padding=1)
        self.dtypes: list[torch.dtype] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.convolution(inputs)
        self.dtypes.append(output.dtype)
        return output


def test_it_computes_in_bfloat16_and_gives_float32() -> None:
    network, image = Recorder(), torch.rand(2, 3, 8, 10)
    output = AutocastInferer()(image, network)

    assert network.dtypes == [torch.bfloat16]
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, network.convolution(image), atol=0.02, rtol=0.02)


def test_switched_off_it_is_the_inferer_itself() -> None:
    network, image = Recorder(), torch.rand(1, 3, 8, 10)

    assert torch.equal(AutocastInferer(enabled=False)(image, network), network.convolution(image))
    assert network.dtypes == [torch.float32]


def test_switched_off_it_leaves_the_callers_mixed_precision_alone() -> None:
    network = Recorder()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        AutocastInferer(enabled=False)(torch.rand(1, 3, 8, 10), network)

    assert network.dtypes == [torch.bfloat16]


def test_it_wraps_another_inferer_and_gradients_flow() -> None:
    network, image = Recorder(), torch.rand(1, 3, 16, 12)
    AutocastInferer(SlidingWindowInferer((8, 8), overlap=0.0))(image, network).sum().backward()

    assert len(network.dtypes) == 4
    assert network.convolution.weight.grad is not None
