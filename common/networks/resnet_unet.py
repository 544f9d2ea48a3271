"""U-Net with a ResNet encoder that can be scripted, exported and started from torchvision's ImageNet weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.networks.nets.flexible_unet import FLEXUNET_BACKBONE
from monai.networks.nets.resnet import ResNet, ResNetBlock, ResNetEncoder

from common.networks.any_size_unet import AnySizeUNet


class ResNetBEncoder(ResNetEncoder):
    """ResNet18 and ResNet34 (He et al., CVPR 2016) with projection shortcuts (type B), as torchvision builds them.

    MONAI's own encoders of these depths use shortcut type A, which cannot be scripted or exported and has other keys.
    Registered with `FlexibleUNet` as ``resnet18_b`` and ``resnet34_b``.
    """

    backbone_names = ["resnet18_b", "resnet34_b"]  # noqa: RUF012
    _layers = {"resnet18_b": [2, 2, 2, 2], "resnet34_b": [3, 4, 6, 3]}  # noqa: RUF012

    def __init__(self, model_name: str, pretrained: bool = False, spatial_dims: int = 2, in_channels: int = 3) -> None:
        if pretrained:
            raise ValueError("pretrained is not used here: give encoder_weights, the path or URL of a checkpoint.")
        ResNet.__init__(
            self,
            block=ResNetBlock,
            layers=self._layers[model_name],
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=spatial_dims,
            n_input_channels=in_channels,
            conv1_t_stride=2,
            shortcut_type="B",
            feed_forward=False,
            bias_downsample=False,
        )

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of the five feature maps of each backbone."""
        return [(64, 64, 128, 256, 512)] * len(cls.backbone_names)

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Number of feature maps of each backbone."""
        return [5] * len(cls.backbone_names)


FLEXUNET_BACKBONE.register_class(ResNetBEncoder)


class ResNetUNet(AnySizeUNet):
    """`AnySizeUNet` on a `ResNetBEncoder`.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output (logits).
        backbone: ``resnet18_b``, ``resnet34_b``, or any other backbone of `FlexibleUNet`.
        decoder_channels: channels of the five decoder levels, deepest first.
        spatial_dims: 2.
        dropout: dropout of the decoder.
        encoder_weights: path or URL of a checkpoint with torchvision's key names (``resnet34-b627a593.pth``), or None
            to start from random weights.

    Raises:
        SettingError: the checkpoint cannot be read or does not fit the encoder.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        backbone: str = "resnet34_b",
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        spatial_dims: int = 2,
        dropout: float = 0.0,
        encoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__(in_channels, out_channels, backbone, decoder_channels, spatial_dims, dropout, encoder_weights)
