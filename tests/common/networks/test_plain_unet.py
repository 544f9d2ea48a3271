from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

from common.bundles import BUNDLES
from common.errors import SettingError
from common.networks import PlainUNet


@pytest.mark.parametrize("size", [(32, 48), (37, 50)])
def test_every_width_is_free(size: tuple[int, int]) -> None:
    network = PlainUNet(
        out_channels=4, encoder_channels=[6, 10, 8], bottleneck_channels=20, decoder_channels=[12, 4, 5]
    ).eval()

    inputs = torch.rand(2, 3, *size)

    assert network(inputs).shape == (2, 4, *size)
    torch.testing.assert_close(torch.jit.script(network)(inputs), network(inputs))
    widths = {tuple(weight.shape[:2]) for weight in network.state_dict().values() if weight.ndim == 4}
    assert {(6, 3), (10, 6), (8, 10), (20, 8), (12, 20 + 8), (4, 12 + 10), (5, 4 + 6), (4, 5)} <= widths


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ({"decoder_channels": [8]}, "encoder_channels has 2 widths and decoder_channels 1"),
        ({"encoder_channels": [], "decoder_channels": []}, "at least one"),
        ({"bottleneck_channels": 0}, "whole numbers above 0"),
        ({"bottleneck_channels": 2.5}, "whole numbers above 0"),
    ],
)
def test_widths_that_make_no_network(widths: dict[str, object], message: str) -> None:
    given = {"encoder_channels": [4, 8], "bottleneck_channels": 16, "decoder_channels": [8, 4], **widths}

    with pytest.raises(SettingError, match=message):
        PlainUNet(**given)  # type: ignore[arg-type]


def test_its_widths_are_ids_of_the_lesion_bundle() -> None:
    configs = BUNDLES / "dr_lesion_segmentation" / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / "train.json"), str(configs / "plain_unet.json")])
    parser.update(
        {"encoder_channels#1": 10, "encoder_channels#0": 6, "bottleneck_channels": 12, "decoder_channels#3": 5}
    )
    parser.update({"encoder_channels#2": 8, "encoder_channels#3": 8})

    network = parser.get_parsed_content("network_def")

    assert network.stem.conv_0.conv.out_channels == 6
    assert network.head.in_channels == 5
    assert network.head.out_channels == 3
