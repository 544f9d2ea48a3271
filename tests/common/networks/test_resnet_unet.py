from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from monai.networks.nets import FlexibleUNet

from common.errors import SettingError
from common.networks import ResNetUNet, load_encoder_weights, load_weights, read_checkpoint, save_durably
from common.networks.weights import half_precision
from common.torchvision_compat import ensure_torchvision

SMALL: dict[str, Any] = {"backbone": "resnet18_b", "decoder_channels": (16, 8, 8, 8, 4)}
# Multiples of 32, odd sides, sides that a ResNet rounds up at every level, and smaller than its stride.
SIZES = [(64, 96), (65, 64), (70, 33), (47, 31), (94, 95), (20, 70)]


@pytest.fixture(scope="module")
def network() -> ResNetUNet:
    torch.manual_seed(0)
    return ResNetUNet(**SMALL).eval()


@pytest.mark.parametrize("size", SIZES)
def test_output_has_the_size_of_the_input(network: ResNetUNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network(torch.rand(2, 3, *size)).shape == (2, 1, *size)


def test_same_as_monai_where_monai_works(network: ResNetUNet) -> None:
    theirs = FlexibleUNet(3, 1, SMALL["backbone"], decoder_channels=SMALL["decoder_channels"]).eval()
    theirs.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(image), theirs(image))


def test_script_trace_and_onnx_agree_at_other_sizes(network: ResNetUNet) -> None:
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
    session = onnxruntime.InferenceSession(model.getvalue())
    for size in ((64, 64), (65, 90)):
        image = torch.rand(2, 3, *size)
        with torch.no_grad():
            expected = network(image)
            torch.testing.assert_close(scripted(image), expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(traced(image), expected, atol=1e-4, rtol=0)
        found = session.run(None, {"image": image.numpy()})[0]
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize(("backbone", "name"), [("resnet18_b", "resnet18"), ("resnet34_b", "resnet34")])
def test_encoder_is_that_of_torchvision(backbone: str, name: str, tmp_path: Path) -> None:
    ensure_torchvision()
    import torchvision

    torch.manual_seed(1)
    reference = getattr(torchvision.models, name)(weights=None).eval()
    torch.save(reference.state_dict(), tmp_path / "encoder.pth")
    network = ResNetUNet(
        backbone=backbone, decoder_channels=(16, 8, 8, 8, 4), encoder_weights=tmp_path / "encoder.pth"
    ).eval()
    own = {key: value.shape for key, value in network.encoder.state_dict().items()}
    theirs = {k: v.shape for k, v in reference.state_dict().items() if not k.startswith("fc.")}
    assert own == theirs
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(image))))
        expected = reference.layer4(reference.layer3(reference.layer2(reference.layer1(x))))
        torch.testing.assert_close(network.encoder(image)[-1], expected)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    (tmp_path / "served").mkdir()
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_encoder_weights_from_url(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: ResNetUNet
) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    state = {**network.encoder.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    torch.save(state, tmp_path / "served" / "encoder.pth")
    started = ResNetUNet(**SMALL, encoder_weights=f"{server}/encoder.pth")
    for key, value in started.encoder.state_dict().items():
        assert torch.equal(value, state[key]), key
    for address in (f"{server}/missing.pth", "http://127.0.0.1:9/none.pth"):
        with pytest.raises(SettingError, match=r"cannot be fetched .*download the file and give its path"):
            load_encoder_weights(started.encoder, address)


def test_encoder_weights_from_file_url(tmp_path: Path, network: ResNetUNet) -> None:
    path = tmp_path / "my encoder.pth"
    torch.save(network.encoder.state_dict(), path)
    load_encoder_weights(ResNetUNet(**SMALL).encoder, path.as_uri())


@pytest.mark.parametrize("wrapped", [None, "model", "state_dict"])
def test_weights_round_trip(tmp_path: Path, network: ResNetUNet, wrapped: str | None) -> None:
    state = network.state_dict()
    save_durably({wrapped: state} if wrapped else state, tmp_path / "sub" / "model.pt")
    other = ResNetUNet(**SMALL)
    load_weights(other, tmp_path / "sub" / "model.pt")
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["model.pt"]


def test_half_precision_is_widened(tmp_path: Path, network: ResNetUNet) -> None:
    half = half_precision(network.state_dict())
    assert {v.dtype for v in half.values()} == {torch.float16, torch.int64}
    save_durably(half, tmp_path / "model.pt")
    other = ResNetUNet(**SMALL).eval()
    load_weights(other, tmp_path / "model.pt")
    assert all(parameter.dtype == torch.float32 for parameter in other.parameters())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(other(image), network(image), atol=0.02, rtol=0.02)


def test_weights_that_do_not_fit(tmp_path: Path, network: ResNetUNet) -> None:
    state = dict(network.state_dict())
    key = next(iter(state))
    cases: dict[str, Any] = {
        "missing: ": {k: v for k, v in state.items() if k != key},
        "not expected: extra": {**state, "extra": torch.zeros(1)},
        "of another shape: " + re.escape(key): {**state, key: torch.zeros(2, 2)},
    }
    for message, content in cases.items():
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(SettingError, match=rf"a\.pt do not fit the network.*{message}"):
            load_weights(network, tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 broken zip", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(SettingError, match=r"a\.pt"):
        read_checkpoint(tmp_path / "a.pt")


def test_missing_weights_and_code_in_a_checkpoint(tmp_path: Path, network: ResNetUNet) -> None:
    with pytest.raises(SettingError, match=r"none\.pt do not exist"):
        read_checkpoint(tmp_path / "none.pt")
    with pytest.raises(SettingError):
        read_checkpoint(tmp_path)
    torch.save(network, tmp_path / "code.pt")
    with pytest.raises(SettingError, match="no checkpoint that can be read"):
        read_checkpoint(tmp_path / "code.pt")
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(SettingError, match="no state"):
        read_checkpoint(tmp_path / "list.pt")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(50)}, tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    for length in range(0, len(content), 61):
        (tmp_path / "a.pt").write_bytes(content[:length])
        with pytest.raises(SettingError):
            read_checkpoint(tmp_path / "a.pt")


def test_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    save_durably({"a": 1}, tmp_path / "a.pt")
    with pytest.raises(Exception, match="pickle"):
        save_durably({"a": lambda: None}, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_pretrained_is_refused() -> None:
    with pytest.raises(ValueError, match="encoder_weights"):
        FlexibleUNet(3, 1, "resnet18_b", pretrained=True)
