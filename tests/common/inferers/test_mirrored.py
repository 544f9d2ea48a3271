from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer

from common.errors import SettingError
from common.inferers import MirroredInferer


def ramp(inputs: torch.Tensor) -> torch.Tensor:
    """A "network" whose output depends on the place alone: mirroring it turns it round."""
    width = inputs.shape[2]
    return inputs + torch.linspace(0, 1, width)[None, None, :, None]


@pytest.mark.parametrize("views", [1, 2, 4])
def test_outputs_come_back_in_the_orientation_of_the_input(views: int) -> None:
    image = torch.rand(2, 1, 6, 9, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(MirroredInferer(views=views)(image, lambda inputs: inputs * 2), image * 2)


def test_it_is_the_mean_over_the_views() -> None:
    image = torch.zeros(1, 1, 5, 4)

    torch.testing.assert_close(MirroredInferer(views=1)(image, ramp), ramp(image))
    for views in (2, 4):
        torch.testing.assert_close(MirroredInferer(views=views)(image, ramp), torch.full_like(image, 0.5))


def test_it_wraps_another_inferer() -> None:
    shapes = []

    def network(inputs: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(inputs.shape))
        return inputs

    image = torch.rand(1, 3, 16, 12)
    torch.testing.assert_close(MirroredInferer(SlidingWindowInferer((8, 8), overlap=0.0), 2)(image, network), image)
    assert len(shapes) == 8


def test_another_number_of_views_is_refused() -> None:
    with pytest.raises(SettingError, match="mirrored_views is 3"):
        MirroredInferer(views=3)
