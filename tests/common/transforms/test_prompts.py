from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from common.errors import SettingError
from common.networks.hq_sam import ABSENT, BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE
from common.phantoms import fundus_phantom
from common.readers import from_picture
from common.transforms import FieldOfViewd, LabClahed, PlacePromptsd, RandPromptsd

WIDTH, HEIGHT = 90, 60


@pytest.fixture
def label() -> torch.Tensor:
    """Disc and cup ``(2, W, H)``, not centred."""
    picture = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    for channel, (x, y, radius) in enumerate(((30, 25, 15), (33, 22, 7))):
        picture[..., channel] = cv2.circle(np.zeros((HEIGHT, WIDTH), np.float32), (x, y), radius, 1.0, cv2.FILLED)
    return torch.as_tensor(picture.transpose(2, 1, 0).copy())


def draw(label: torch.Tensor, seed: int, **settings: Any) -> np.ndarray[Any, Any]:
    transform = RandPromptsd("label", **settings)
    transform.set_random_state(seed=seed)
    rows: torch.Tensor = transform({"label": label})["prompts"]
    assert rows.dtype == torch.float32
    return rows.numpy()


def test_boxes_lie_near_the_structures_and_points_near_their_outlines(label: torch.Tensor) -> None:
    kinds = set()
    for seed in range(60):
        rows = draw(label, seed, prob=1.0)
        assert rows.shape == (2, 5, 3)
        for (x, y, radius), own, mask in zip(((30, 25, 15), (33, 22, 7)), rows, label, strict=True):
            for px, py, kind in own.tolist():
                kinds.add(kind)
                if kind in (POSITIVE, NEGATIVE):
                    assert bool(mask[int(px), int(py)]) == (kind == POSITIVE)
                    assert abs(np.hypot(px - x, py - y) - radius) < 0.2 * 2 * radius + 2
                elif kind == BOX_FIRST:
                    assert max(abs(px - (x - radius)), abs(py - (y - radius))) <= 0.1 * (2 * radius + 1)
                elif kind == BOX_LAST:
                    assert max(abs(px - (x + radius)), abs(py - (y + radius))) <= 0.1 * (2 * radius + 1)
            assert (own[:, 2] != ABSENT).any()
    assert kinds == {ABSENT, POSITIVE, NEGATIVE, BOX_FIRST, BOX_LAST}


def test_the_same_seed_draws_the_same_prompts_and_another_others(label: torch.Tensor) -> None:
    first = draw(label, 3, prob=1.0)

    assert (draw(label, 3, prob=1.0) == first).all()
    assert any((draw(label, seed, prob=1.0) != first).any() for seed in (4, 5))


def test_the_share_of_structures_with_prompts(label: torch.Tensor) -> None:
    drawn = [(draw(label, seed, prob=0.3)[..., 2] != ABSENT).any(axis=1) for seed in range(300)]

    assert np.mean(drawn) == pytest.approx(0.3, abs=0.06)


def test_prompts_in_pixels_of_a_larger_image(label: torch.Tensor) -> None:
    small, large = draw(label, 1, prob=1.0), draw(label, 1, prob=1.0, scale=4.0)

    np.testing.assert_allclose(large[..., :2] + 0.5, 4 * (small[..., :2] + 0.5))
    assert (large[..., 2] == small[..., 2]).all()


def test_unknown_and_empty_structures_get_none(label: torch.Tensor) -> None:
    label[0], label[1] = 0, -1

    assert (draw(label, 0, prob=1.0)[..., 2] == ABSENT).all()


def test_a_structure_that_fills_the_frame_has_no_point_outside() -> None:
    rows = np.stack([draw(torch.ones(1, 20, 20), seed, prob=1.0) for seed in range(20)])

    assert not (rows[..., 2] == NEGATIVE).any()


def test_probability_0_adds_nothing(label: torch.Tensor) -> None:
    assert set(RandPromptsd("label", prob=0)({"label": label})) == {"label"}
    with pytest.raises(SettingError, match="probability of prompts is 2"):
        RandPromptsd("label", prob=2)


@pytest.mark.parametrize(("height", "width"), [(300, 420), (420, 300)])
def test_prompts_follow_the_photo_into_the_networks_image(height: int, width: int) -> None:
    phantom = fundus_phantom(height, width, seed=2)
    y, x = (int(np.median(axis)) for axis in np.nonzero(phantom.disc))
    photo = phantom.photo.copy()
    photo[y - 3 : y + 4, x - 3 : x + 4] = (0, 0, 255)
    chain = Compose(
        [FieldOfViewd("image", diameter=256), PlacePromptsd("prompts", ("disc", "cup")), LabClahed("image")]
    )
    given = {"cup": {"points": [[x, y, 1]]}, "disc": {"box": [x - 20, y - 9, x + 10, y + 30]}}

    placed = chain({"image": MetaTensor(torch.as_tensor(from_picture(photo))), "prompts": given})

    image = placed["image"].numpy().astype(int)
    blue = np.argwhere(image[2] - image[0] > 120)
    disc, cup = placed["prompts"]
    np.testing.assert_allclose(cup[0, :2], blue.mean(axis=0), atol=0.8)
    assert cup[0, 2] == POSITIVE
    scale = image.shape[1] / np.ptp(np.nonzero((phantom.field_of_view > 0).any(axis=0))[0])
    np.testing.assert_allclose((disc[1, :2] - disc[0, :2]).numpy(), np.array([30, 39]) * scale, rtol=0.05)
    assert disc[:2, 2].tolist() == [BOX_FIRST, BOX_LAST]


def test_photos_without_prompts_pass() -> None:
    photo = MetaTensor(torch.as_tensor(from_picture(fundus_phantom(120, 150).photo)))

    assert "prompts" not in PlacePromptsd("prompts", ("disc",))({"image": photo})
    with pytest.raises(ValueError, match="put PlacePromptsd after it"):
        PlacePromptsd("prompts", ("disc",))({"image": photo, "prompts": {}})
