"""Networks that MONAI does not have, and the loading of weights."""

from common.networks.resnet_unet import ResNetBEncoder, ResNetUNet
from common.networks.weights import load_encoder_weights, load_weights, read_checkpoint, save_durably

__all__ = [
    "ResNetBEncoder",
    "ResNetUNet",
    "load_encoder_weights",
    "load_weights",
    "read_checkpoint",
    "save_durably",
]
