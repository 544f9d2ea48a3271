"""MobileNetV2, as an encoder of `FlexibleUNet`, and a U-Net on it with a light decoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.blocks import BaseEncoder
from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE, SegmentationHead
from torch import nn

from common.errors import SettingError
from common.networks.any_size_unet import extend_to_multiple
from common.networks.weights import load_encoder_weights

# Expansion, channels, number of blocks and first stride of each stage: table 2 of Sandler et al., CVPR 2018.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM_CHANNELS, _LAST_CHANNELS = 32, 1280
# Channels of the last feature map at each resolution.
_TAP_CHANNELS = (16, 24, 32, 96, _LAST_CHANNELS)


def _convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear projection; added to the input where the shapes allow it."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [_convolution(inputs, hidden, kernel=1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *expand,
            _convolution(hidden, hidden, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Apply the block."""
        outputs: torch.Tensor = self.conv(inputs)
        return inputs + outputs if self.is_residual else outputs


class MobileNetV2Encoder(nn.Module, BaseEncoder):
    """MobileNetV2 of width 1 (Sandler et al., CVPR 2018), with torchvision's key names (``features.*``).

    Registered with `FlexibleUNet` as ``mobilenet_v2``. Its five feature maps have 16, 24, 32, 96 and 1280 channels.

    Args:
        pretrained: not used here; give ``encoder_weights`` to the network.
        spatial_dims: 2.
        in_channels: channels of the input.

    Raises:
        ValueError: pretrained weights or another dimension are asked for.
    """

    def __init__(self, pretrained: bool = False, spatial_dims: int = 2, in_channels: int = 3) -> None:
        super().__init__()
        if pretrained:
            raise ValueError("pretrained is not used here: give encoder_weights, the path or URL of a checkpoint.")
        if spatial_dims != 2:
            raise ValueError(f"MobileNetV2 is for images of 2 dimensions, not {spatial_dims}.")
        features: list[nn.Module] = [_convolution(in_channels, _STEM_CHANNELS, stride=2)]
        channels = _STEM_CHANNELS
        for expansion, outputs, count, stride in _STAGES:
            for number in range(count):
                features.append(_InvertedResidual(channels, outputs, stride if number == 0 else 1, expansion))
                channels = outputs
        features.append(_convolution(channels, _LAST_CHANNELS, kernel=1))
        self.features = nn.ModuleList(features)

    def forward(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Give the feature maps, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's size.

        Args:
            inputs: ``(B, in_channels, W, H)``.
        """
        maps: list[torch.Tensor] = []
        features = inputs
        for number, block in enumerate(self.features):
            features = block(features)
            if number in (1, 3, 6, 13, 18):  # the last block at each resolution
                maps.append(features)
        return maps

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """Parameters with which `FlexibleUNet` makes the encoder."""
        return [{"pretrained": False, "spatial_dims": 2, "in_channels": 3}]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of the five feature maps."""
        return [_TAP_CHANNELS]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Number of feature maps."""
        return [len(_TAP_CHANNELS)]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Name of the backbone."""
        return ["mobilenet_v2"]


FLEXUNET_BACKBONE.register_class(MobileNetV2Encoder)


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    """Depthwise separable convolution (Howard et al., MobileNets, 2017)."""
    return nn.Sequential(_convolution(inputs, inputs, groups=inputs), _convolution(inputs, outputs, kernel=1))


class SeparableDecoder(nn.Module):
    """U-Net decoder of depthwise separable convolutions.

    Each level doubles the size (bilinear), joins the encoder's feature map of that size, and applies two depthwise
    separable convolutions.

    Args:
        encoder_channels: channels of the encoder's feature maps, largest map first.
        decoder_channels: channels of the levels, deepest first; the last one has no feature map to join.
        dropout: dropout before the deepest level.
    """

    def __init__(self, encoder_channels: Sequence[int], decoder_channels: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        skips = [*encoder_channels[-2::-1], 0]
        inputs = [encoder_channels[-1], *decoder_channels[:-1]]
        self.dropout = nn.Dropout2d(dropout)
        self.up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(_separable(channels + skip, outputs), _separable(outputs, outputs))
            for channels, skip, outputs in zip(inputs, skips, decoder_channels, strict=True)
        )

    def forward(self, features: list[torch.Tensor], skip_connect: int = 4) -> torch.Tensor:
        """Give the features at the input's size.

        Args:
            features: the encoder's feature maps, largest first.
            skip_connect: number of feature maps to join, deepest first.
        """
        decoded = self.dropout(features[-1])
        for level, block in enumerate(self.blocks):
            decoded = self.up(decoded)
            if level < skip_connect:
                decoded = torch.cat([decoded, features[-2 - level]], dim=1)
            decoded = block(decoded)
        return decoded


def make_encoder(
    backbone: str, in_channels: int, spatial_dims: int = 2, encoder_weights: str | Path | None = None
) -> tuple[nn.Module, Sequence[int]]:
    """Make an encoder of `FlexibleUNet`'s.

    Args:
        backbone: ``mobilenet_v2``, ``resnet50`` or any other backbone of `FlexibleUNet`.
        in_channels: channels of the input.
        spatial_dims: 2.
        encoder_weights: path or URL of a checkpoint with torchvision's key names, or None to start from random weights.

    Returns:
        The encoder, and the channels of its feature maps, largest map first.

    Raises:
        SettingError: there is no such backbone, or the checkpoint cannot be read or does not fit the encoder.
    """
    if backbone not in FLEXUNET_BACKBONE.register_dict:
        known = ", ".join(sorted(FLEXUNET_BACKBONE.register_dict))
        raise SettingError(f"backbone is {backbone!r}; give one of {known}.")
    entry = FLEXUNET_BACKBONE.register_dict[backbone]
    options = {"pretrained": False, "spatial_dims": spatial_dims, "in_channels": in_channels}
    encoder: nn.Module = entry["type"](**{**entry["parameter"], **options})
    if encoder_weights is not None:
        load_encoder_weights(encoder, encoder_weights)
    return encoder, entry["feature_channel"]


class MobileNetV2UNet(nn.Module):
    """U-Net with a MobileNetV2 encoder and a decoder of depthwise separable convolutions, for inputs of any size.

    Encoder and head are those of `FlexibleUNet`, which takes no other decoder than its own.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        backbone: ``mobilenet_v2``, or any other backbone of `FlexibleUNet`.
        decoder_channels: channels of the five decoder levels, deepest first.
        spatial_dims: 2.
        dropout: dropout of the deepest feature map.
        encoder_weights: path or URL of a checkpoint with torchvision's key names (``mobilenet_v2-7ebf99e0.pth``), or
            None to start from random weights.

    Raises:
        SettingError: there is no such backbone, or the checkpoint cannot be read or does not fit the encoder.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        backbone: str = "mobilenet_v2",
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        spatial_dims: int = 2,
        dropout: float = 0.0,
        encoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.encoder, map_channels = make_encoder(backbone, in_channels, spatial_dims, encoder_weights)
        self.decoder = SeparableDecoder(map_channels, decoder_channels, dropout)
        self.segmentation_head = SegmentationHead(spatial_dims, decoder_channels[-1], out_channels, kernel_size=3)
        self.skip_connect = len(map_channels) - 1

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Give the logits.

        Args:
            inputs: ``(B, in_channels, W, H)``.

        Returns:
            ``(B, out_channels, W, H)``.
        """
        width, height = inputs.shape[2], inputs.shape[3]
        features = self.encoder(extend_to_multiple(inputs))
        logits: torch.Tensor = self.segmentation_head(self.decoder(features, self.skip_connect))
        return logits[:, :, :width, :height]
