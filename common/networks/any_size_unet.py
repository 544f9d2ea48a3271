"""MONAI's `FlexibleUNet` for inputs of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from monai.networks.nets import FlexibleUNet
from torch import nn

from common.networks.weights import load_encoder_weights


def extend_to_multiple(inputs: torch.Tensor, multiple: int = 32) -> torch.Tensor:
    """Extend images at their ends by repeating the last row and column, until both sides are multiples.

    Args:
        inputs: ``(B, C, W, H)``.
        multiple: what the sides shall be multiples of.

    Returns:
        ``(B, C, W', H')``.
    """
    beyond = [0, -inputs.shape[3] % multiple, 0, -inputs.shape[2] % multiple]
    return nn.functional.pad(inputs, beyond, mode="replicate")


class AnySizeUNet(FlexibleUNet):
    """MONAI's `FlexibleUNet` for inputs of any size, optionally started from ImageNet weights.

    `FlexibleUNet` itself fails on sides that are no multiple of 32, since a ResNet rounds up where it halves. Here such
    an input is extended to the next multiple by repeating its last row and column, and the output is cut back.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        backbone: name of a backbone of `FlexibleUNet`.
        decoder_channels: channels of the five decoder levels, deepest first.
        spatial_dims: 2.
        dropout: dropout of the decoder.
        encoder_weights: path or URL of a checkpoint with torchvision's key names, or None to start from random weights.

    Raises:
        SettingError: the checkpoint cannot be read or does not fit the encoder.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        backbone: str,
        decoder_channels: Sequence[int],
        spatial_dims: int = 2,
        dropout: float = 0.0,
        encoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            backbone=backbone,
            decoder_channels=tuple(decoder_channels),
            spatial_dims=spatial_dims,
            dropout=dropout,
            is_pad=False,
        )
        if encoder_weights is not None:
            load_encoder_weights(self.encoder, encoder_weights)

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
