"""The U-Net for layers on B-scans."""

from __future__ import annotations

from monai.networks.nets import BasicUNet
from monai.networks.nets.basic_unet import Down


class LayerUNet(BasicUNet):
    """MONAI's `BasicUNet` (Ronneberger et al., MICCAI 2015) with batch normalisation and ReLU, by its first width.

    Five levels of ``base_channels`` times 1, 2, 4, 8 and 16 channels: 64 gives 64-128-256-512-1024. Dropout is applied
    in the two deepest levels, where there are the most channels; at full resolution the neighbouring pixels would
    give back what it takes away.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        base_channels: channels of the first level.
        dropout: dropout of the two deepest levels.
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 8, base_channels: int = 64, dropout: float = 0.2
    ) -> None:
        features = [base_channels * factor for factor in (1, 2, 4, 8, 16, 1)]
        super().__init__(2, in_channels, out_channels, features, act="relu", norm="batch")
        self.down_3 = Down(2, features[2], features[3], "relu", "batch", bias=True, dropout=dropout)
        self.down_4 = Down(2, features[3], features[4], "relu", "batch", bias=True, dropout=dropout)
