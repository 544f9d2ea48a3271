from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from monai.networks.nets import FlexibleUNet
from monai.networks.nets.resnet import ResNetEncoder

from common.errors import SettingError
from common.networks import MobileNetV2Encoder, MobileNetV2UNet
from common.torchvision_compat import ensure_torchvision

SMALL = (16, 16, 8, 8, 8)


@pytest.fixture(scope="module")
def network() -> MobileNetV2UNet:
    torch.manual_seed(0)
    return MobileNetV2UNet(decoder_channels=SMALL).eval()


@pytest.mark.parametrize("size", [(64, 96), (65, 64), (70, 33), (20, 70)])
def test_output_has_the_size_of_the_input(network: MobileNetV2UNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size)).shape == (2, 2, *size)


def test_monai_makes_it_by_name() -> None:
    made = FlexibleUNet(3, 2, "mobilenet_v2", decoder_channels=SMALL)

    assert isinstance(made.encoder, MobileNetV2Encoder)
    assert made(torch.rand(2, 3, 64, 64)).shape == (2, 2, 64, 64)


def test_same_features_and_keys_as_torchvision() -> None:
    ensure_torchvision()
    from torchvision.models import mobilenet_v2

    theirs, ours = mobilenet_v2().eval(), MobileNetV2Encoder().eval()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("classifier.")}
    ours.load_state_dict(state)
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        maps = ours(image)
        torch.testing.assert_close(maps[-1], theirs.features(image))
        torch.testing.assert_close(maps[1], theirs.features[:4](image))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (16, 32, 48),
        (24, 16, 24),
        (32, 8, 12),
        (96, 4, 6),
        (1280, 2, 3),
    ]


def test_encoder_weights_with_and_without_a_classifier(tmp_path: Path) -> None:
    encoder = MobileNetV2Encoder()
    state = {key: value + 1 if value.is_floating_point() else value for key, value in encoder.state_dict().items()}
    for extra in ({}, {"classifier.1.weight": torch.zeros(3, 1280), "classifier.1.bias": torch.zeros(3)}):
        torch.save({**state, **extra}, tmp_path / "weights.pth")
        made = MobileNetV2UNet(decoder_channels=SMALL, encoder_weights=tmp_path / "weights.pth")
        for key, value in made.encoder.state_dict().items():
            assert torch.equal(value, state[key])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    with pytest.raises(SettingError, match=re.escape(str(tmp_path / "resnet.pth"))):
        MobileNetV2UNet(decoder_channels=SMALL, encoder_weights=tmp_path / "resnet.pth")


@pytest.mark.parametrize(("options", "text"), [({"pretrained": True}, "encoder_weights"), ({"spatial_dims": 3}, "2")])
def test_what_the_encoder_has_not_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MobileNetV2Encoder(**options)


def test_an_unknown_backbone_is_refused() -> None:
    with pytest.raises(SettingError, match=r"mobilenet_v3.*mobilenet_v2"):
        MobileNetV2UNet(backbone="mobilenet_v3")


def test_the_encoder_is_one_of_monai() -> None:
    network = MobileNetV2UNet(backbone="resnet10", decoder_channels=SMALL).eval()

    assert isinstance(network.encoder, ResNetEncoder)
    with torch.no_grad():
        assert network(torch.rand(1, 3, 40, 64)).shape == (1, 2, 40, 64)


def test_the_decoder_is_light() -> None:
    separable, plain = MobileNetV2UNet(), FlexibleUNet(3, 2, "mobilenet_v2")

    def size(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert size(separable.decoder) < size(plain.decoder) / 6
    assert size(separable) * 2 < 15e6


def test_script_trace_and_onnx_agree_at_other_sizes(network: MobileNetV2UNet) -> None:
    example = torch.rand(1, 3, 64, 64)
    axes = {0: "batch", 2: "width", 3: "height"}
    model: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted, traced = torch.jit.script(network), torch.jit.trace(network, example)
        torch.onnx.export(
            network,
            (example,),
            model,
            dynamo=False,
            input_names=["image"],
            output_names=["pred"],
            dynamic_axes={"image": axes, "pred": axes},
        )
    session = onnxruntime.InferenceSession(model.getvalue(), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 64, 64), (2, 3, 96, 64)):
        image = torch.rand(*shape)
        with torch.no_grad():
            expected = network(image)
            torch.testing.assert_close(scripted(image), expected, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(traced(image), expected, atol=1e-4, rtol=1e-4)
        found = session.run(None, {"image": image.numpy()})[0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
