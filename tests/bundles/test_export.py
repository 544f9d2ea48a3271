"""MONAI's checks and exports of the network that the bundle ships."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from common.networks import load_weights

if TYPE_CHECKING:
    from tests.bundles.conftest import Bundle, Command

SIZES = [(256, 192), (160, 288)]
TRACED_SIZE = (256, 256)


@pytest.fixture(scope="module")
def eager(bundle: Bundle, workflow: Callable[..., Any], weights_of: Path) -> nn.Module:
    """The network of `inference.json` with the shipped weights."""
    made = workflow(bundle, "inference")
    network: nn.Module = made.parser.get_parsed_content("network_def")
    load_weights(network, weights_of)
    return network.eval()


@pytest.fixture(scope="module")
def inputs(
    bundle: Bundle, workflow: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> list[torch.Tensor]:
    """Parts of a phantom as the network gets it, in two sizes that are not square where the network takes any size."""

    path = tmp_path_factory.mktemp("photo") / "photo.png"
    picture, _ = bundle.pictures_of.draw(320, 320, 3)
    Image.fromarray(picture).save(path)
    made = workflow(bundle, "inference", **{**bundle.settings, **(bundle.canvas or bundle.pictures_of.canvas)})
    photo = made.parser.get_parsed_content("preprocessing")({"image": str(path)})["image"]
    (width, height), (other_width, other_height) = [bundle.input_size] * 2 if bundle.input_size else SIZES
    parts = [photo[:, :width, :height], photo[:, -other_width:, -other_height:]]
    return [part[None].as_tensor().contiguous() for part in parts]


def shape_of(bundle: Bundle) -> list[int]:
    """Shape of the input with which the network is traced."""
    return [1, bundle.pictures_of.channels, *(bundle.input_size or TRACED_SIZE)]


def test_verify_net_in_out(bundle: Bundle, in_process: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    in_process(
        "verify_net_in_out",
        "network_def",
        meta_file=str(bundle.root / "configs" / "metadata.json"),
        config_file=bundle.config("inference"),
        n=4,
    )

    assert "data shape of network is verified with no error" in caplog.text


@pytest.fixture(scope="module")
def torchscript(bundle: Bundle, command: Command, weights_of: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchscript")
    tracing: dict[str, Any] = {"use_trace": True, "input_shape": shape_of(bundle)} if bundle.input_size else {}
    command(
        folder,
        "ckpt_export",
        "network_def",
        filepath="model.ts",
        ckpt_file=str(weights_of),
        meta_file=str(bundle.root / "configs" / "metadata.json"),
        config_file=bundle.config("inference"),
        **tracing,
    )
    return folder / "model.ts"


@pytest.mark.parametrize("place", range(len(SIZES)))
def test_torchscript_gives_the_same_output(
    eager: nn.Module, torchscript: Path, inputs: list[torch.Tensor], place: int
) -> None:
    with torch.inference_mode():
        expected = eager(inputs[place])
        found = torch.jit.load(torchscript)(inputs[place])

    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_torchscript_carries_config_and_metadata(bundle: Bundle, torchscript: Path) -> None:
    files = {"inference.json": "", "metadata.json": ""}

    torch.jit.load(torchscript, _extra_files=files)

    assert json.loads(files["inference.json"])["network_def"] == bundle.read("inference")["network_def"]
    assert json.loads(files["metadata.json"])["version"] == bundle.read("metadata")["version"]


@pytest.fixture(scope="module")
def onnx_file(bundle: Bundle, command: Command, weights_of: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    axes = {} if bundle.input_size else {0: "batch", 2: "width", 3: "height"}
    command(
        folder,
        "onnx_export",
        "network_def",
        filepath="model.onnx",
        ckpt_file=str(weights_of),
        meta_file=str(bundle.root / "configs" / "metadata.json"),
        config_file=bundle.config("inference"),
        use_trace=True,
        input_shape=shape_of(bundle),
        converter_kwargs={
            "input_names": ["image"],
            "output_names": ["pred"],
            "dynamic_axes": {"image": axes, "pred": {0: "batch"} if bundle.labels else axes},
        },
    )
    return folder / "model.onnx"


@pytest.mark.parametrize("place", range(len(SIZES)))
def test_onnx_gives_the_same_output(eager: nn.Module, onnx_file: Path, inputs: list[torch.Tensor], place: int) -> None:
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = eager(inputs[place]).numpy()

    (found,) = session.run(["pred"], {"image": inputs[place].numpy()})

    # Float32 itself has seven digits, and what is summed up is as large as the largest logit: 1e-5 of it on top.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 + 1e-5 * np.abs(expected).max())
