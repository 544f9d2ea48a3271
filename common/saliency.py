"""Where a classifier looks: Grad-CAM of any network."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from monai.visualize import GradCAM
from numpy.typing import NDArray
from torch import nn

from common.errors import SettingError
from common.readers import to_picture


def last_feature_layer(network: nn.Module, image: torch.Tensor, **inputs: Any) -> tuple[str, int]:
    """Find the last layer of a network whose output still is a picture, ``(B, C, W, H)`` with more than one pixel.

    Args:
        network: the network.
        image: an input ``(B, C, W, H)``.
        **inputs: further inputs by name.

    Returns:
        Its name, and the number of the network's logits.

    Raises:
        SettingError: there is no such layer.
    """
    seen: list[str] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
                seen.append(name)

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in network.named_modules() if name]
    try:
        with torch.no_grad():
            logits = network(image, **inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise SettingError("The network has no layer whose output is a picture: set saliency to False.")
    return seen[-1], int(logits.shape[1])


class Saliency:
    """Says which parts of a photo speak for a label: Grad-CAM (Selvaraju et al., ICCV 2017) by MONAI.

    It works on a copy of the network as it is at the first call: the network itself gets no gradients and no hooks,
    with which it could not be traced.

    Args:
        network: the classifier.
        labels: number of labels. Where the network has more logits than labels, the first ones are of none of them.
    """

    def __init__(self, network: nn.Module, labels: int) -> None:
        self.network = network
        self.labels = labels
        self._cam: GradCAM | None = None
        self._first = 0

    def __call__(self, image: torch.Tensor, label: int, tabular: torch.Tensor | None = None) -> NDArray[np.float32]:
        """Give the saliency of one label.

        Args:
            image: the network's input ``(3, W, H)``.
            label: number of the label.
            tabular: what else the network is given, ``(F,)``.

        Returns:
            ``(H, W)`` from 0 to 1, as large as the input; 0 everywhere when nothing speaks for the label.
        """
        device = next(self.network.parameters()).device
        batch = torch.as_tensor(image)[None].to(device).contiguous()
        inputs = {} if tabular is None else {"tabular": torch.as_tensor(tabular)[None].to(device)}
        if self._cam is None:
            network = copy.deepcopy(self.network).eval()
            layer, logits = last_feature_layer(network, batch, **inputs)
            self._first = logits - self.labels
            self._cam = GradCAM(network, layer, postprocessing=_as_it_is)
        with torch.enable_grad():
            found = self._cam(batch.requires_grad_(), class_idx=self._first + label, **inputs)
        heat = to_picture(torch.as_tensor(found)[0].detach().cpu()).astype(np.float32)
        largest = heat.max()
        return heat / largest if largest > 0 else heat


def _as_it_is(values: torch.Tensor) -> torch.Tensor:
    """MONAI's own postprocessing turns the scale around."""
    return values
