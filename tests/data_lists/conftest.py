from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image


class Pictures:
    """Writes tiny photos and masks; every photo is a different one, the same in every run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.random = np.random.default_rng(0)

    def photo(self, name: str, size: tuple[int, int] = (48, 40)) -> Path:
        width, height = size
        return self.save(name, self.random.integers(0, 256, (height, width, 3), dtype=np.uint8))

    def mask(self, name: str, size: tuple[int, int] = (48, 40), high: int = 255) -> Path:
        width, height = size
        pixels = np.zeros((height, width), np.uint8)
        pixels[height // 4 : height // 2, width // 3 :] = high
        return self.save(name, pixels)

    def save(self, name: str, pixels: NDArray[Any], **options: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        return path


def make_chase(pictures: Pictures, folder: str = "", children: int = 6, fov: bool = False) -> None:
    for child in range(1, children + 1):
        for eye in "LR":
            pictures.photo(f"{folder}Image_{child:02d}{eye}.jpg")
            pictures.mask(f"{folder}Image_{child:02d}{eye}_1stHO.png")
            pictures.mask(f"{folder}Image_{child:02d}{eye}_2ndHO.png")
            if fov:
                pictures.mask(f"{folder}fov/Image_{child:02d}{eye}.png")


def make_hrf(pictures: Pictures, folder: str = "", number: int = 5, mask: str = "tif", photo: str = "jpg") -> None:
    for index in range(1, number + 1):
        for kind in ("h", "dr", "g"):
            pictures.photo(f"{folder}images/{index:02d}_{kind}.{photo}")
            pictures.mask(f"{folder}manual1/{index:02d}_{kind}.{mask}")
            pictures.mask(f"{folder}mask/{index:02d}_{kind}_mask.{mask}")


def make_fives(pictures: Pictures, folder: str = "", released: bool = True) -> None:
    parts = [("train/Original", "train/Ground truth", "png"), ("test/Original", "test/Ground truth", "png")]
    for photos, masks, suffix in parts if released else [("images", "masks", "jpg")]:
        for number in range(20, 26):
            for letter in "ADGN":
                pictures.photo(f"{folder}{photos}/{number}_{letter}.{suffix}")
                pictures.mask(f"{folder}{masks}/{number}_{letter}.png")


def make_drive(pictures: Pictures, test_labels: bool = True) -> None:
    for number in range(21, 27):
        pictures.photo(f"training/images/{number}_training.tif")
        pictures.mask(f"training/1st_manual/{number}_manual1.gif")
        pictures.mask(f"training/mask/{number}_training_mask.gif")
    for number in range(1, 4):
        pictures.photo(f"test/images/{number:02d}_test.tif")
        pictures.mask(f"test/mask/{number:02d}_test_mask.gif")
        if test_labels:
            pictures.mask(f"test/1st_manual/{number:02d}_manual1.gif")
            pictures.mask(f"test/2nd_manual/{number:02d}_manual2.gif")


def make_stare(pictures: Pictures, photos: str = "", masks: bool = False) -> None:
    for number in range(1, 7):
        pictures.photo(f"{photos}im{number:04d}.ppm")
        for observer in ("ah", "vk"):
            folder = f"labels-{observer}/" if masks else ""
            pictures.mask(f"{folder}im{number:04d}.{observer}.ppm")


def make_image_mask(pictures: Pictures, parts: tuple[str, ...] = ("",), suffix: str = "png") -> None:
    for part in parts:
        for number in range(6):
            pictures.photo(f"{part}image/{number}.{suffix}")
            pictures.mask(f"{part}mask/{number}.png")


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path / "data")


@pytest.fixture
def chase(pictures: Pictures) -> Path:
    make_chase(pictures)
    return pictures.root


@pytest.fixture
def make() -> dict[str, Callable[..., None]]:
    return {
        "chase_db1": make_chase,
        "drive": make_drive,
        "fives": make_fives,
        "hrf": make_hrf,
        "image_mask": make_image_mask,
        "stare": make_stare,
    }
