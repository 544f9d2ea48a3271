"""Export of HQ-SAM's encoder and decoder, each as a file of its own: encode once, decode for every click."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fire
import torch
from monai.networks.utils import convert_to_onnx
from torch import nn

from common.networks.hq_sam import ABSENT, HQSAM, PATCH, HQSAMDecoder, HQSAMEncoder
from common.networks.weights import load_weights


def export_hq_sam(network: HQSAM, folder: str | Path) -> dict[str, Path]:
    """Write ``encoder.ts``, ``decoder.ts`` (TorchScript), ``encoder.onnx`` and ``decoder.onnx``.

    The encoder takes ``image`` ``(1, 3, W, H)`` from -1 to 1 and gives ``final`` and ``early``. The decoder takes these
    and ``prompts`` ``(1, S, N, 3)`` with any N from 1 on (`common.networks.hq_sam`; rows of the kind -1 do not count)
    and gives ``logits`` ``(1, S, W / 4, H / 4)``.

    Args:
        network: the network; it is put into evaluation mode.
        folder: it is made.

    Returns:
        The files, by their names.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    network.eval()
    device = next(network.parameters()).device
    image = torch.zeros(1, 3, network.image_size, network.image_size, device=device)
    side = network.image_size // PATCH
    with torch.no_grad():
        final, early = network.encode(image)
    # A row of each sort, so that every branch is traced.
    prompts = torch.tensor([[side, side, 1], [0, 0, ABSENT]], dtype=torch.float32, device=device)
    prompts = prompts.expand(1, network.structures, -1, -1).contiguous()
    files = {name: folder / name for name in ("encoder.ts", "decoder.ts", "encoder.onnx", "decoder.onnx")}
    parts: tuple[tuple[str, nn.Module, tuple[torch.Tensor, ...], list[str], list[str], Any], ...] = (
        ("encoder", HQSAMEncoder(network), (image,), ["image"], ["final", "early"], {}),
        (
            "decoder",
            HQSAMDecoder(network),
            (final, early, prompts),
            ["final", "early", "prompts"],
            ["logits"],
            {"prompts": {2: "rows"}},
        ),
    )
    for name, part, inputs, input_names, output_names, axes in parts:
        with torch.no_grad():
            torch.jit.trace(part, inputs, check_trace=False).save(str(files[f"{name}.ts"]))
        convert_to_onnx(
            part,
            inputs,
            input_names=input_names,
            output_names=output_names,
            opset_version=17,
            dynamic_axes=axes,
            filename=str(files[f"{name}.onnx"]),
            dynamo=False,
        )
    return files


def export_weights(weights: str, folder: str, model_type: str = "vit_tiny", image_size: int = 224) -> None:
    """Export the weights of a bundle or a training.

    Args:
        weights: path of ``model.pt``.
        folder: where the four files are written.
        model_type: of the network.
        image_size: of the network, in pixels.
    """
    network = HQSAM(model_type, image_size)
    load_weights(network, weights)
    export_hq_sam(network, folder)


if __name__ == "__main__":
    fire.Fire(export_weights)
