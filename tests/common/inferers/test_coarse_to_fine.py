from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from common.errors import SettingError
from common.inferers import CoarseToFineInferer


class Bright:
    """A "network" that finds what is brighter than a half: its truth is known exactly."""

    def __init__(self, gain: float = 20.0) -> None:
        self.gain = gain
        self.views: list[torch.Tensor] = []

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        self.views.append(inputs)
        return self.gain * (inputs - 0.5)


def scene(width: int, height: int, x: float, y: float, radius: float) -> torch.Tensor:
    """An image ``(2, W, H)``: a disc in channel 0, a disc of half its size in channel 1."""
    picture = np.zeros((height, width, 2), np.float32)
    for channel, size in enumerate((radius, radius / 2)):
        layer = np.zeros((height, width), np.float32)
        cv2.circle(layer, (round(x * 16), round(y * 16)), round(size * 16), 1.0, cv2.FILLED, shift=4)
        picture[..., channel] = layer
    return torch.as_tensor(picture.transpose(2, 1, 0).copy())


def iou(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize(
    ("width", "height", "x", "y", "radius"),
    [
        (640, 480, 150, 300, 40),  # a whole photo, wider than high
        (300, 700, 200, 90, 30),  # higher than wide
        (256, 256, 128, 128, 51),  # a crop of 2.5 diameters
        (200, 200, 100, 100, 95),  # the object fills the frame
        (640, 480, 10, 470, 40),  # in a corner, cut off
    ],
)
@pytest.mark.parametrize("views", [1, 4])
def test_it_finds_the_object_at_its_place(
    width: int, height: int, x: float, y: float, radius: float, views: int
) -> None:
    image = scene(width, height, x, y, radius)
    logits = CoarseToFineInferer(size=128, mirrored_views=views)(image[None], Bright())[0]

    assert logits.shape == (2, width, height)
    for channel in range(2):
        assert iou(logits[channel] > 0, image[channel] > 0.5) > 0.95


def test_the_second_pass_sees_more_than_the_first() -> None:
    image = scene(1000, 800, 300, 500, 20)
    one_pass = CoarseToFineInferer(size=64, passes=0)(image[None], Bright())[0]
    two_passes = CoarseToFineInferer(size=64)(image[None], Bright())[0]

    assert iou(one_pass[0] > 0, image[0] > 0.5) < 0.8
    assert iou(two_passes[0] > 0, image[0] > 0.5) > 0.93


def test_the_square_is_about_the_asked_number_of_diameters() -> None:
    network = Bright()
    CoarseToFineInferer(size=96, margin=2.5, mirrored_views=1)(scene(900, 900, 450, 400, 60)[None], network)

    last = network.views[-1][0, 0] > 0.5
    share: NDArray[np.float64] = last.sum(0).numpy().max() / 100
    assert share == pytest.approx(1 / 2.5, abs=0.04)
    assert len(network.views) <= 3


def test_of_two_objects_the_surer_one_is_kept() -> None:
    large, small = scene(600, 400, 450, 250, 40), scene(600, 400, 100, 100, 25)
    for strong, weak in ((large, small), (small, large)):
        logits = CoarseToFineInferer(size=128)(torch.maximum(strong, 0.7 * weak)[None], Bright(8.0))[0]

        assert iou(logits[0] > 0, strong[0] > 0.5) > 0.95


def test_of_two_objects_one_candidate_is_the_larger_one() -> None:
    image = torch.maximum(scene(600, 400, 100, 100, 20), scene(600, 400, 450, 250, 40))
    logits = CoarseToFineInferer(size=128, candidates=1)(image[None], Bright())[0]

    assert iou(logits[0] > 0, scene(600, 400, 450, 250, 40)[0] > 0.5) > 0.95


def test_a_weak_sign_gets_a_second_look() -> None:
    image = scene(1600, 1600, 700, 900, 11)  # of the size of a pixel of the first pass

    assert not (CoarseToFineInferer(size=64, passes=0)(image[None], Bright(6.0))[0, 0] > 0).any()
    logits = CoarseToFineInferer(size=64)(image[None], Bright(6.0))[0]
    assert iou(logits[0] > 0, image[0] > 0.5) > 0.7


def test_nothing_there_is_nothing_found() -> None:
    network = Bright()
    logits = CoarseToFineInferer(size=64, mirrored_views=1)(torch.zeros(1, 2, 300, 200), network)

    assert logits.shape == (1, 2, 300, 200)
    assert (logits < 0).all()
    assert len(network.views) == 1


def test_what_lies_beyond_the_photo_has_the_value_of_black() -> None:
    network = Bright()
    CoarseToFineInferer(size=64, passes=0, mirrored_views=1, fill=-1.0)(torch.zeros(1, 2, 128, 64), network)

    (view,) = network.views
    assert (view[0, 0, :, 18:46] == 0).all()
    assert (view[0, 0, :, :14] == -1).all()
    assert (view[0, 0, :, 50:] == -1).all()


def test_images_of_a_batch_do_not_mix() -> None:
    images = torch.stack([scene(400, 300, 100, 100, 30), scene(400, 300, 300, 200, 50)])
    together = CoarseToFineInferer(size=96)(images, Bright())

    for number in range(2):
        alone = CoarseToFineInferer(size=96)(images[number : number + 1], Bright())[0]
        torch.testing.assert_close(together[number], alone)


@pytest.mark.parametrize("size", [0, -5, 16, 100, 64.0])
def test_a_size_that_is_not_usable_is_refused(size: int) -> None:
    with pytest.raises(SettingError, match="view_size is"):
        CoarseToFineInferer(size=size)
