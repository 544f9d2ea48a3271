"""Networks that MONAI does not have, and the loading of weights."""

from common.networks.any_size_unet import AnySizeUNet
from common.networks.batch_norm import calibrate_encoder
from common.networks.fusion import (
    FusionClassifier,
    feature_count,
    feature_names,
    fit_standardisation,
    load_encoder,
    prepare_network,
    tabular_columns,
)
from common.networks.hq_sam import HQSAM, Features, HQSAMDecoder, HQSAMEncoder
from common.networks.layer_unet import LayerUNet
from common.networks.mobilenet import MobileNetV2Encoder, MobileNetV2UNet, SeparableDecoder
from common.networks.plain_unet import PlainUNet
from common.networks.resnet_unet import ResNetBEncoder, ResNetUNet
from common.networks.weights import load_encoder_weights, load_weights, read_checkpoint, save_durably

__all__ = [
    "HQSAM",
    "AnySizeUNet",
    "Features",
    "FusionClassifier",
    "HQSAMDecoder",
    "HQSAMEncoder",
    "LayerUNet",
    "MobileNetV2Encoder",
    "MobileNetV2UNet",
    "PlainUNet",
    "ResNetBEncoder",
    "ResNetUNet",
    "SeparableDecoder",
    "calibrate_encoder",
    "feature_count",
    "feature_names",
    "fit_standardisation",
    "load_encoder",
    "load_encoder_weights",
    "load_weights",
    "prepare_network",
    "read_checkpoint",
    "save_durably",
    "tabular_columns",
]
