from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import LoadImage, SaveImage
from PIL import Image

from common.errors import UnreadableImageError
from common.readers import FundusReader, MaskReader, from_picture, to_picture


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int64, bool])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_picture_round_trip(dtype: Any, channels: int) -> None:
    image = (np.arange(channels * 6 * 4).reshape(channels, 6, 4) % 251).astype(dtype)
    picture = to_picture(image)
    assert picture.shape == ((4, 6) if channels == 1 else (4, 6, channels))
    assert picture.dtype == image.dtype
    assert picture.flags.c_contiguous
    for channel in range(channels):
        plane = picture if channels == 1 else picture[..., channel]
        np.testing.assert_array_equal(plane, image[channel].T)
    back = from_picture(picture)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, image)


def test_picture_of_views_and_tensors() -> None:
    image = torch.rand(3, 8, 10, requires_grad=True)
    part = image[:, ::2, 1:7]
    np.testing.assert_array_equal(to_picture(part), part.detach().numpy().transpose(2, 1, 0))
    picture = np.arange(240, dtype=np.uint8).reshape(8, 10, 3)[::2, 1:7]
    np.testing.assert_array_equal(from_picture(picture), picture.transpose(2, 1, 0))


def test_photo_has_the_axes_of_monai(tmp_path: Path) -> None:
    picture = np.zeros((40, 64, 3), np.uint8)
    picture[3, 50] = (10, 20, 30)
    Image.fromarray(picture).save(tmp_path / "a.png")
    ours = LoadImage(reader=FundusReader(), ensure_channel_first=True)(tmp_path / "a.png")
    theirs = LoadImage(reader="PILReader", ensure_channel_first=True)(tmp_path / "a.png")
    assert ours.shape == (3, 64, 40)
    assert ours[:, 50, 3].tolist() == [10, 20, 30]
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert ours.meta["spatial_shape"].tolist() == [64, 40]
    assert Path(ours.meta["filename_or_obj"]) == tmp_path / "a.png"


def test_saved_by_monai_it_is_the_same_file(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    image = LoadImage(reader=FundusReader(), ensure_channel_first=True, dtype=np.uint8)(tmp_path / "a.png")
    SaveImage(
        output_dir=tmp_path / "out",
        output_ext=".png",
        output_postfix="",
        separate_folder=False,
        output_dtype=np.uint8,
        resample=False,
        print_log=False,
    )(image)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), picture)


def test_grey_photo_becomes_colour(tmp_path: Path) -> None:
    grey = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    image = LoadImage(reader=FundusReader(), ensure_channel_first=True)(tmp_path / "a.png")
    assert image.shape == (3, 50, 40)
    np.testing.assert_array_equal(to_picture(image), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("width", "height", "reason"), [(1, 1, "1x1 pixels; a photo needs"), (40, 400, "40x400.*more than 4 times")]
)
def test_photo_of_impossible_shape(tmp_path: Path, width: int, height: int, reason: str) -> None:
    Image.new("RGB", (width, height)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match=reason):
        FundusReader().read(tmp_path / "a.png")


def test_limits_can_be_set(tmp_path: Path) -> None:
    Image.new("RGB", (10, 90)).save(tmp_path / "a.png")
    _, pixels = FundusReader(min_side=5, max_aspect=10).read(tmp_path / "a.png")
    assert pixels.shape == (90, 10, 3)


def test_one_file_at_a_time() -> None:
    with pytest.raises(UnreadableImageError, match="one photo at a time"):
        FundusReader().read(["a.png", "b.png"])


def test_mask_keeps_its_values(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [128, 255, 0]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "a.png")
    image = LoadImage(reader=MaskReader(), ensure_channel_first=True)(tmp_path / "a.png")
    assert image.shape == (1, 3, 2)
    np.testing.assert_array_equal(to_picture(image), mask)
