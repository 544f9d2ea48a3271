"""A U-Net whose every width can be chosen, as a search for hyperparameters needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.nets.basic_unet import Down, TwoConv, UpCat
from torch import nn

from common.errors import SettingError


class PlainUNet(nn.Module):
    """U-Net (Ronneberger et al., MICCAI 2015) of MONAI's blocks, with batch normalisation and ReLU, for any input size.

    MONAI's `BasicUNet` has five levels, and its decoder mirrors its encoder; here all widths and the depth are free.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        encoder_channels: channels of the encoder's levels, at 1, 1/2, 1/4 ... of the input's size.
        bottleneck_channels: channels of the deepest level.
        decoder_channels: channels of the decoder's levels, deepest first; as many as the encoder has.
        dropout: dropout of the deepest level.

    Raises:
        SettingError: a width is no positive whole number, or encoder and decoder differ in depth.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        encoder_channels: Sequence[int] = (32, 64, 128, 256),
        bottleneck_channels: int = 512,
        decoder_channels: Sequence[int] = (256, 128, 64, 32),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [*encoder_channels, bottleneck_channels, *decoder_channels]
        if not encoder_channels or len(encoder_channels) != len(decoder_channels):
            raise SettingError(
                f"encoder_channels has {len(encoder_channels)} widths and decoder_channels {len(decoder_channels)}; "
                "give both as many, at least one."
            )
        if not all(isinstance(width, int) and width > 0 for width in widths):
            raise SettingError(f"encoder, bottleneck and decoder widths are {widths}; give whole numbers above 0.")
        style: dict[str, Any] = {"act": "relu", "norm": "batch", "bias": False}
        self.stem = TwoConv(2, in_channels, encoder_channels[0], **style)
        deeper = [*encoder_channels[1:], bottleneck_channels]
        self.down = nn.ModuleList(
            Down(2, above, width, **style, dropout=dropout if number == len(deeper) else 0.0)
            for number, (above, width) in enumerate(zip(encoder_channels, deeper, strict=True), start=1)
        )
        below = [bottleneck_channels, *decoder_channels[:-1]]
        self.up = nn.ModuleList(
            UpCat(2, inputs, skip, outputs, **style, halves=False)
            for inputs, skip, outputs in zip(below, encoder_channels[::-1], decoder_channels, strict=True)
        )
        self.head = nn.Conv2d(decoder_channels[-1], out_channels, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Give the logits.

        Args:
            inputs: ``(B, in_channels, W, H)``.

        Returns:
            ``(B, out_channels, W, H)``.
        """
        features = [self.stem(inputs)]
        for down in self.down:
            features.append(down(features[-1]))
        decoded = features.pop()
        for up in self.up:
            decoded = up(decoded, features.pop())
        logits: torch.Tensor = self.head(decoded)
        return logits
