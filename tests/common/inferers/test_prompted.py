from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from common.errors import SettingError
from common.inferers import CoarseToFineInferer, CorrectingInferer, PromptInferer, SimulatedUser
from common.inferers.prompted import mirror_prompts
from common.networks import HQSAM, Features
from common.networks.hq_sam import ABSENT, BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE

SIZE = 128


class Stamp(nn.Module):
    """A network with an encoder and a decoder whose answer is known: what is bright, and a square around each point.

    Positive points set it, negative ones clear it; inside a box everything is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(20.0))
        self.encoded: list[torch.Tensor] = []
        self.decoded = 0

    def encode(self, image: torch.Tensor) -> Features:
        self.encoded.append(image)
        return Features(image[:, :2], image)

    def decode(self, features: Features, prompts: torch.Tensor | None = None) -> torch.Tensor:
        self.decoded += 1
        logits = self.gain * (features.final - 0.5)
        if prompts is not None:
            for channel, rows in enumerate(prompts[0]):
                first, last = rows[rows[:, 2] == BOX_FIRST], rows[rows[:, 2] == BOX_LAST]
                if len(first):
                    (x0, y0), (x1, y1) = (corner[0, :2].round().int().tolist() for corner in (first, last))
                    logits[0, channel, max(x0, 0) : x1 + 1, max(y0, 0) : y1 + 1] = 10
                for x, y, kind in rows.tolist():
                    if kind in (POSITIVE, NEGATIVE):
                        places = (slice(max(round(x) - 4, 0), round(x) + 5), slice(max(round(y) - 4, 0), round(y) + 5))
                        logits[0, channel][places] = 10 if kind == POSITIVE else -10
        return logits

    def forward(self, image: torch.Tensor, prompts: torch.Tensor | None = None) -> torch.Tensor:
        return self.decode(self.encode(image), prompts)


def scene(width: int = 320, height: int = 240) -> torch.Tensor:
    """An image ``(1, 3, W, H)`` with a bright square "disc" of 40 x 30 pixels at (60, 150) and a "cup" in it."""
    image = torch.zeros(1, 3, width, height)
    image[:, 0, 60:100, 150:180] = 1
    image[:, 1, 70:85, 160:172] = 1
    return image


def rows_of(*rows: tuple[float, float, int], structure: int = 0) -> torch.Tensor:
    prompts = torch.full((1, 2, len(rows), 3), float(ABSENT))
    prompts[0, structure] = torch.tensor(rows, dtype=torch.float32)
    return prompts


def box_of(mask: torch.Tensor) -> list[int]:
    places = torch.nonzero(mask)
    return [*places.amin(0).tolist(), *places.amax(0).tolist()]


@pytest.mark.parametrize("views", [1, 4])
def test_without_prompts_it_is_coarse_to_fine(views: int) -> None:
    plain = CoarseToFineInferer(SIZE, mirrored_views=views)(scene(), Stamp())

    for keep in (False, True):
        found = PromptInferer(SIZE, mirrored_views=views, keep=keep)(scene(), Stamp())
        torch.testing.assert_close(found, plain)


@pytest.mark.parametrize("views", [1, 2, 4])
def test_a_click_lands_where_it_was_made(views: int) -> None:
    inferer = PromptInferer(SIZE, mirrored_views=views)
    before = inferer(scene(), Stamp())[0, 0] > 0

    after = inferer(scene(), Stamp(), prompts=rows_of((110, 144, POSITIVE)))[0, 0] > 0

    changed = after & ~before
    x, y = torch.nonzero(changed).float().mean(0).tolist()
    assert (x, y) == (pytest.approx(110, abs=1), pytest.approx(144, abs=1))
    assert not (before & ~after).any()


@pytest.mark.parametrize("views", [1, 4])
def test_a_box_is_looked_at_where_it_is(views: int) -> None:
    network = Stamp()
    box = ((200, 40, BOX_FIRST), (239, 79, BOX_LAST))

    logits = PromptInferer(SIZE, mirrored_views=views)(scene(), network, prompts=rows_of(*box))

    found = box_of(logits[0, 0] > 0)
    assert np.abs(np.array(found) - [200, 40, 239, 79]).max() <= 1
    assert len(network.encoded) == views, "the box says where to look: no coarse look is needed"


def test_a_point_far_from_what_was_found_moves_the_square() -> None:
    logits = PromptInferer(SIZE, mirrored_views=1)(scene(), Stamp(), prompts=rows_of((250, 60, POSITIVE)))

    found = torch.nonzero(logits[0, 0] > 0).float().mean(0)
    torch.testing.assert_close(found, torch.tensor([250.0, 60.0]), rtol=0, atol=1.5)


class Blind(Stamp):
    """A network that sees nothing by itself, and at a point nine pixels of the look, whatever its scale."""

    def decode(self, features: Features, prompts: torch.Tensor | None = None) -> torch.Tensor:
        logits = super().decode(Features(torch.zeros_like(features.final), features.early), prompts)
        sure = features.early[:, :2] - 0.5  # it is the surer, the brighter what it sees
        return torch.where(logits > 0, logits + 10 * sure.mean(), logits)


@pytest.mark.parametrize("first", [None, rows_of((300, 10, NEGATIVE))])
def test_a_point_at_what_was_not_found_moves_the_square(first: torch.Tensor | None) -> None:
    inferer, network = PromptInferer(SIZE, mirrored_views=1, keep=True), Blind()
    assert not (inferer(scene(), network, prompts=first) > 0).any()

    logits = inferer(scene(), network, prompts=rows_of((80, 165, POSITIVE)))

    low_x, low_y, high_x, high_y = box_of(logits[0, 0] > 0)
    assert ((low_x + high_x) / 2, (low_y + high_y) / 2) == (pytest.approx(80, abs=1), pytest.approx(165, abs=1))
    assert high_x - low_x < 12, "nine pixels of a look at 0.4 of the photo, not of a look at the whole of it"
    encoded = len(network.encoded)
    inferer(scene(), network, prompts=rows_of((80, 165, POSITIVE), (84, 160, POSITIVE)))
    assert len(network.encoded) == encoded, "the square is settled"


def test_a_point_on_a_crop_on_which_nothing_was_found_keeps_the_whole_crop() -> None:
    crop = torch.ones(1, 3, 200, 200)  # the whole of it is surer than a square that reaches beyond its edge

    logits = PromptInferer(SIZE, mirrored_views=1)(crop, Blind(), prompts=rows_of((20, 20, POSITIVE)))

    low_x, _, high_x, _ = box_of(logits[0, 0] > 0)
    assert high_x - low_x >= 12


def test_a_negative_point_in_the_middle_of_what_was_found_passes_it_over() -> None:
    image = scene()
    image[:, 0, 220:250, 60:90] = 0.6  # a second "disc", of which the network is less sure
    inferer = PromptInferer(SIZE, mirrored_views=1, keep=True)
    assert np.abs(np.array(box_of(inferer(image, Stamp())[0, 0] > 0)) - [60, 150, 99, 179]).max() <= 1

    for rows in (rows_of((80, 165, NEGATIVE)), rows_of((80, 165, NEGATIVE), (222, 62, NEGATIVE))):
        found = inferer(image, Stamp(), prompts=rows)[0, 0] > 0
        assert np.abs(np.array(box_of(found)) - [220, 60, 249, 89]).max() <= 1

    again = inferer(image, Stamp())[0, 0] > 0
    assert np.abs(np.array(box_of(again)) - [60, 150, 99, 179]).max() <= 1, "without the point it is as before"

    edge = inferer(image, Stamp(), prompts=rows_of((96, 152, NEGATIVE)))[0, 0] > 0
    assert edge[60:90, 155:180].all(), "a point near its edge corrects it"
    assert not edge[220:250, 60:90].any()


def test_taking_a_negative_point_back_brings_the_object_back_and_others_cost_no_encoder() -> None:
    image = scene()
    image[:, 0, 220:250, 60:90] = 0.6
    inferer, network = PromptInferer(SIZE, mirrored_views=1, keep=True), Stamp()
    inferer(image, network, prompts=rows_of((80, 165, NEGATIVE)))

    back = inferer(image, network, prompts=rows_of((230, 100, NEGATIVE)))[0, 0] > 0
    assert np.abs(np.array(box_of(back)) - [60, 150, 99, 179]).max() <= 1

    pointed = rows_of((300, 20, POSITIVE), (301, 21, NEGATIVE))
    inferer(image, network, prompts=pointed)
    encoded = len(network.encoded)
    inferer(image, network, prompts=rows_of((300, 20, POSITIVE), (301, 21, NEGATIVE), (306, 30, NEGATIVE)))
    assert len(network.encoded) == encoded


def test_behind_strong_objects_that_are_denied_a_weak_one_is_found() -> None:
    image = torch.zeros(1, 3, 640, 640)
    wrong = [(40, 40), (40, 400), (400, 40), (280, 280)]
    for x, y in wrong:
        image[:, 0, x : x + 120, y : y + 120] = 1
    image[:, 0, 500:520, 500:520] = 1
    denied = rows_of(*((x + 60, y + 60, NEGATIVE) for x, y in wrong))

    logits = PromptInferer(SIZE, mirrored_views=1)(image, Stamp(), prompts=denied)

    assert np.abs(np.array(box_of(logits[0, 0] > 0)) - [500, 500, 519, 519]).max() <= 2


def test_a_negative_point_on_all_that_was_found_leaves_nothing_to_find() -> None:
    inferer, network = PromptInferer(SIZE, mirrored_views=1, keep=True), Stamp()
    logits = inferer(scene(), network, prompts=rows_of((80, 165, NEGATIVE)))

    assert logits.shape == (1, 2, 320, 240)
    assert not (logits[0, 0, 76:85, 161:170] > 0).any()
    # So a point elsewhere is looked at closely: its nine pixels are of a look at 0.4 of the photo.
    pointed = inferer(scene(), network, prompts=rows_of((80, 165, NEGATIVE), (250, 60, POSITIVE)))
    low_x, low_y, high_x, high_y = box_of(pointed[0, 0, 200:] > 0)
    assert (200 + (low_x + high_x) / 2, (low_y + high_y) / 2) == (pytest.approx(250, abs=1), pytest.approx(60, abs=1))
    assert high_x - low_x < 12


def test_negative_points_outside_the_square_do_not_move_it() -> None:
    logits = PromptInferer(SIZE, mirrored_views=1)(scene(), Stamp(), prompts=rows_of((300, 10, NEGATIVE)))

    assert np.abs(np.array(box_of(logits[0, 0] > 0)) - [60, 150, 99, 179]).max() <= 1


def test_a_further_click_costs_one_pass_of_the_decoder() -> None:
    network, inferer = Stamp(), PromptInferer(SIZE, mirrored_views=1, keep=True)
    inferer(scene(), network)
    encoded, decoded = len(network.encoded), network.decoded

    for prompts in (rows_of((110, 144, POSITIVE)), rows_of((80, 165, NEGATIVE), structure=1)):
        kept = inferer(scene(), network, prompts=prompts)
        torch.testing.assert_close(kept, PromptInferer(SIZE, mirrored_views=1)(scene(), Stamp(), prompts=prompts))

    assert len(network.encoded) == encoded
    assert network.decoded == decoded + 2


def test_another_image_and_other_weights_are_encoded_anew() -> None:
    network, inferer = Stamp(), PromptInferer(SIZE, mirrored_views=1, keep=True)
    inferer(scene(), network)
    moved = scene().roll(30, dims=2)

    found = inferer(moved, network)
    assert np.abs(np.array(box_of(found[0, 0] > 0)) - [90, 150, 129, 179]).max() <= 1
    encoded = len(network.encoded)
    network.load_state_dict({"gain": torch.tensor(5.0)})
    inferer(moved, network)

    assert len(network.encoded) > encoded


def test_a_batch_of_images_has_prompts_of_its_own() -> None:
    images = torch.cat([scene(), scene().flip(2)])
    prompts = torch.cat([rows_of((110, 144, POSITIVE)), rows_of((0, 0, ABSENT))])
    inferer = PromptInferer(SIZE, mirrored_views=1)

    found = inferer(images, Stamp(), prompts=prompts)

    torch.testing.assert_close(found[:1], inferer(scene(), Stamp(), prompts=prompts[:1]))
    torch.testing.assert_close(found[1:], inferer(scene().flip(2), Stamp()))


def test_a_network_without_prompts() -> None:
    plain = nn.Conv2d(3, 2, 1)
    with torch.inference_mode():
        expected = CoarseToFineInferer(SIZE)(scene(), plain)
        torch.testing.assert_close(PromptInferer(SIZE, keep=True)(scene(), plain), expected)
    with pytest.raises(SettingError, match="There are prompts, but Conv2d takes none"):
        PromptInferer(SIZE)(scene(), plain, prompts=rows_of((1, 1, POSITIVE)))


@pytest.mark.parametrize("axes", [(2,), (3,), (2, 3)])
def test_mirrored_prompts_belong_to_the_mirrored_image(axes: tuple[int, ...]) -> None:
    image = torch.zeros(1, 3, SIZE, SIZE)
    prompts = torch.cat(
        [rows_of((20, 30, BOX_FIRST), (60, 100, BOX_LAST), (0, 0, ABSENT)), rows_of((90, 20, 1), (9, 7, 1), (5, 90, 1))]
    )
    prompts = torch.stack([prompts[0, 0], prompts[1, 0]])[None]
    network = Stamp()

    mirrored = mirror_prompts(prompts, axes, SIZE)

    torch.testing.assert_close(network(torch.flip(image, axes), mirrored), torch.flip(network(image, prompts), axes))
    torch.testing.assert_close(mirror_prompts(mirrored, axes, SIZE), prompts)


# --- a simulated user ------------------------------------------------------------------------------------------------


def target() -> torch.Tensor:
    """The truth ``(1, 2, W, H)``: larger than what is bright."""
    truth = torch.zeros(1, 2, 320, 240)
    truth[:, 0, 60:108, 150:180] = 1
    truth[:, 1, 70:85, 150:172] = 1
    return truth


def user(**settings: Any) -> SimulatedUser:
    return SimulatedUser(PromptInferer(SIZE, mirrored_views=1, keep=True), **settings)


def error(logits: torch.Tensor) -> list[float]:
    return ((logits > 0) != (target() > 0.5)).float().sum(dim=(0, 2, 3)).tolist()


def test_a_box_and_clicks_correct_both_structures() -> None:
    none = error(user()(scene(), Stamp(), target=target()))
    box = error(user(prompts="box")(scene(), Stamp(), target=target()))
    one, three = (error(user(prompts="clicks", clicks=n)(scene(), Stamp(), target=target())) for n in (1, 3))

    for channel in range(2):
        assert none[channel] > one[channel] > three[channel]
        assert box[channel] < 0.6 * none[channel]


def test_a_structure_that_is_not_known_gets_no_prompt() -> None:
    truth = target()
    truth[:, 1] = -1

    for prompts in ("box", "clicks"):
        found = user(prompts=prompts)(scene(), Stamp(), target=truth)
        assert ((found[0, 1] > 0) == (scene()[0, 1] > 0)).float().mean() > 0.999


def test_it_does_without_the_truth_when_there_are_no_prompts() -> None:
    torch.testing.assert_close(user()(scene(), Stamp()), PromptInferer(SIZE, mirrored_views=1)(scene(), Stamp()))
    with pytest.raises(SettingError, match="with the truth as target"):
        user(prompts="box")(scene(), Stamp())


@pytest.mark.parametrize(
    ("settings", "words"), [({"prompts": "boxes"}, "prompts is 'boxes'"), ({"clicks": 0}, "clicks is 0")]
)
def test_wrong_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        user(**settings)


def test_with_the_real_network_a_click_changes_the_mask_there() -> None:
    torch.manual_seed(0)
    network, inferer = HQSAM(image_size=64).eval(), PromptInferer(64, mirrored_views=1, keep=True)
    with torch.inference_mode():
        before = inferer(scene(), network)
        after = inferer(scene(), network, prompts=rows_of((80, 160, POSITIVE)))

    assert before.shape == after.shape == (1, 2, 320, 240)
    assert (after - before)[0, 0].abs().max() > 1e-3


# --- clicks in training ----------------------------------------------------------------------------------------------


def test_a_training_clicks_on_its_own_errors() -> None:
    image, truth = torch.zeros(1, 3, SIZE, SIZE), torch.zeros(1, 2, SIZE, SIZE)
    image[0, 0, 20:60, 30:50] = 1
    truth[0, 0, 20:60, 30:70] = 1  # the network misses a part
    truth[0, 1] = -1  # not known: no click
    given = {"prompts": torch.full((1, 2, 1, 3), float(ABSENT)), "target": truth}
    plain = Stamp()(image)

    logits = CorrectingInferer(prob=1.0, clicks=1)(image, Stamp(), **given)

    changed = (logits > 0)[0] != (plain > 0)[0]
    x, y = torch.nonzero(changed[0]).float().mean(0).tolist()
    assert truth[0, 0, round(x), round(y)] == 1
    assert not changed[1].any()
    assert logits.requires_grad
    torch.testing.assert_close(CorrectingInferer(prob=0.0)(image, Stamp(), **given), plain)
    torch.testing.assert_close(CorrectingInferer(prob=1.0)(image, Stamp()), plain)
