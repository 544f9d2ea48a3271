from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray
from PIL import Image

from common.errors import SettingError, UnreadableImageError
from common.phantoms import fundus_phantom
from common.readers import from_picture, to_picture
from common.transforms import (
    LabClahe,
    LabClahed,
    LoadMaskd,
    LoadPhotod,
    RandHued,
    ThresholdProbabilityd,
    lab_clahe,
    turn_hue,
)


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return fundus_phantom(120, 200, seed=0).photo


def innermost(error: BaseException) -> BaseException:
    while error.__cause__ is not None and not isinstance(error, UnreadableImageError):
        error = error.__cause__
    return error


def test_clahe_array_equals_dictionary(photo: NDArray[np.uint8]) -> None:
    image = MetaTensor(torch.as_tensor(from_picture(photo)), meta={"filename_or_obj": "a.png"})
    array: Any = LabClahe(3.0, 4)(image)
    dictionary = LabClahed("image", 3.0, 4)({"image": image})["image"]
    assert torch.equal(array, dictionary)
    assert array.dtype == torch.uint8
    assert array.meta["filename_or_obj"] == "a.png"
    np.testing.assert_array_equal(to_picture(array), lab_clahe(photo, 3.0, 4))


def test_clahe_raises_contrast_and_keeps_colours(photo: NDArray[np.uint8]) -> None:
    result = lab_clahe(photo)
    before, after = (cv2.cvtColor(p, cv2.COLOR_RGB2LAB).astype(float) for p in (photo, result))
    inside = (photo.min(axis=2) > 25) & (photo.max(axis=2) < 200)
    assert np.abs(before - after)[inside][:, 0].mean() > 3
    assert np.median(np.abs(before - after)[inside][:, 1:]) <= 2


def test_clahe_leaves_grey_grey() -> None:
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (64, 80, 1), dtype=np.uint8), 3, axis=2)
    result = lab_clahe(grey).astype(int)
    assert np.ptp(result, axis=2).max() <= 2


def test_clahe_refuses_scaled_photo() -> None:
    with pytest.raises(ValueError, match="uint8"):
        LabClahe()(torch.rand(3, 20, 30))


def luma(image: torch.Tensor) -> torch.Tensor:
    return torch.einsum("c,cxy->xy", torch.tensor([0.299, 0.587, 0.114], dtype=image.dtype), image)


@pytest.mark.parametrize(("angle", "saturation"), [(0.4, 1.0), (-2.0, 0.5), (3.0, 1.6)])
def test_hue_keeps_luma(angle: float, saturation: float) -> None:
    image = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(0))
    turned = turn_hue(image, angle, saturation)
    assert not torch.allclose(turned, image, atol=0.05)
    torch.testing.assert_close(luma(turned), luma(image), atol=1e-3, rtol=0)


def test_hue_identities() -> None:
    image = torch.rand(3, 9, 7)
    torch.testing.assert_close(turn_hue(image, 0.0), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(turn_hue(image, 2 * np.pi), image, atol=1e-5, rtol=0)
    torch.testing.assert_close(turn_hue(turn_hue(image, 0.7), -0.7), image, atol=1e-5, rtol=0)
    grey = torch.rand(1, 9, 7).expand(3, 9, 7)
    torch.testing.assert_close(turn_hue(grey, 1.0), grey, atol=1e-3, rtol=0)
    torch.testing.assert_close(turn_hue(image, 1.0, 0.0), luma(image).expand(3, 9, 7), atol=1e-3, rtol=0)


def test_random_hue_is_the_same_for_the_same_seed() -> None:
    image = MetaTensor(torch.rand(3, 9, 7))
    transform: Any = RandHued("image", prob=1.0)
    first = transform.set_random_state(3)({"image": image})["image"]
    again = transform.set_random_state(3)({"image": image})["image"]
    other = transform.set_random_state(4)({"image": image})["image"]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert isinstance(first, MetaTensor)
    assert first.shape == image.shape
    assert RandHued("image", prob=0.0)({"image": image})["image"] is image


def test_photo_is_loaded_untransposed(tmp_path: Path, photo: NDArray[np.uint8]) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    image = LoadPhotod("image")({"image": str(tmp_path / "a.png")})["image"]
    assert image.shape == (3, 200, 120)
    assert image.dtype == torch.uint8
    np.testing.assert_array_equal(to_picture(image), photo)


def test_unreadable_photo_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps the error
        LoadPhotod("image")({"image": tmp_path / "a.png"})
    assert isinstance(innermost(caught.value), UnreadableImageError)


def masked(folder: Path, mask: NDArray[Any]) -> dict[str, Any]:
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(folder / "photo.png")
    Image.fromarray(mask).save(folder / "mask.png")
    return LoadMaskd("label")(LoadPhotod("image")({"image": folder / "photo.png", "label": folder / "mask.png"}))


@pytest.mark.parametrize("value", [1, 128, 255])
def test_mask_becomes_zero_and_one(tmp_path: Path, value: int) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:10, 20:50] = value
    label = masked(tmp_path, mask)["label"]
    assert label.dtype == torch.uint8
    np.testing.assert_array_equal(to_picture(label), mask > 0)


@pytest.mark.parametrize("value", [0, 255])
def test_even_mask_is_empty_or_full(tmp_path: Path, value: int) -> None:
    assert (masked(tmp_path, np.full((40, 60), value, np.uint8))["label"] == int(value > 0)).all()


def test_mask_in_equal_colours_is_accepted(tmp_path: Path) -> None:
    mask = np.zeros((40, 60, 3), np.uint8)
    mask[3:9, 4:30] = 255
    np.testing.assert_array_equal(to_picture(masked(tmp_path, mask)["label"]), mask[..., 0] > 0)


def test_wrong_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"mask\.png has 40x60 pixels, its photo 60x40"):
        masked(tmp_path, np.zeros((60, 40), np.uint8))
    with pytest.raises(SettingError, match="not binary: it has 3 grey values"):
        masked(tmp_path, np.arange(2400, dtype=np.uint8).reshape(40, 60) % 3)
    with pytest.raises(SettingError, match="not binary: it has 2 grey values"):
        masked(tmp_path, 7 + np.arange(2400, dtype=np.uint8).reshape(40, 60) % 2)
    colour = np.zeros((40, 60, 3), np.uint8)
    colour[..., 1] = 9
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps the error
        masked(tmp_path, colour)
    assert "colour picture" in str(innermost(caught.value))


def test_threshold_gives_masks_of_uint8() -> None:
    found = ThresholdProbabilityd("pred", 0.25)({"pred": torch.tensor([[[0.2, 0.25, 0.9]]])})["pred"]
    assert found.dtype == torch.uint8
    assert found.tolist() == [[[0, 1, 1]]]


@pytest.mark.parametrize("threshold", [0.0, 1.0, 40, "abc", None])
def test_threshold_has_to_be_a_probability(threshold: Any) -> None:
    with pytest.raises(SettingError, match="threshold is"):
        ThresholdProbabilityd("pred", threshold)
