"""What only the bundle of optic disc and cup does: crops around the disc, and ellipses."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from common.phantoms import fundus_phantom
from common.pixels import read_pixels

ROOT = Path(__file__).resolve().parents[2] / "bundles" / "disc_cup_segmentation"


def run(in_process: Callable[..., None], folder: Path, **options: object) -> list[dict[str, str]]:
    in_process(
        "run",
        config_file=str(ROOT / "configs" / "inference.json"),
        bundle_root=str(ROOT),
        dataset_dir=str(folder / "in"),
        output_dir=str(folder / "out"),
        **options,
    )
    with (folder / "out" / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def mask(folder: Path, name: str) -> NDArray[np.bool_]:
    with Image.open(folder / "out" / name) as picture:
        return np.asarray(picture) > 0


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


def write_crop(path: Path, photo: NDArray[np.uint8], disc: NDArray[np.bool_], diameters: float) -> NDArray[np.bool_]:
    """Write a square of a photo around its disc, so many disc diameters wide, at twice its size; gives the truth."""
    left, top, width, height = cv2.boundingRect(disc.astype(np.uint8))
    side = round(diameters * max(width, height))
    x, y = left + width // 2 - side // 2, top + height // 2 - side // 2
    part = (slice(max(0, y), y + side), slice(max(0, x), x + side))
    crop = cv2.resize(photo[part], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(crop, dtype=np.uint8)).save(path)
    return np.repeat(np.repeat(disc[part], 2, axis=0), 2, axis=1)


def test_the_shipped_weights_work_on_a_crop(in_process: Callable[..., None], tmp_path: Path) -> None:
    phantom = fundus_phantom(700, 800, seed=3)
    truth = write_crop(tmp_path / "in" / "crop.png", phantom.photo, phantom.disc > 0, 2.5)

    (row,) = run(in_process, tmp_path)

    assert dice(mask(tmp_path, row["mask_disc"]), truth) > 0.8
    assert "no field of view found" in row["note"]
    assert row["eye"] == "unknown"


@pytest.mark.real_data
@pytest.mark.parametrize("diameters", [1.2, 1.5])
def test_the_shipped_weights_work_on_tight_crops_of_photos(
    in_process: Callable[..., None], real_folder: Callable[[str], Path], tmp_path: Path, diameters: float
) -> None:
    drishti = real_folder("Drishti-GS1")
    truths = {}
    for name in ("drishtiGS_002", "drishtiGS_031", "drishtiGS_045", "drishtiGS_060", "drishtiGS_068"):
        disc = read_pixels(drishti / "masks" / f"{name}.png") > 0
        photo = read_pixels(drishti / "images" / f"{name}.jpg")
        truths[f"{name}.png"] = write_crop(tmp_path / "in" / f"{name}.png", photo, disc, diameters)

    rows = run(in_process, tmp_path)

    assert [row["image"] for row in rows] == list(truths)
    for row in rows:
        assert dice(mask(tmp_path, row["mask_disc"]), truths[row["image"]]) > 0.85, row["image"]
        assert 0 < float(row["cdr_vertical"]) < 1


def test_ellipses(in_process: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(fundus_phantom(400, 500, seed=1).photo).save(tmp_path / "in" / "photo_OD.png")

    (row,) = run(in_process, tmp_path, ellipse_fit=True)

    assert row["eye"] == "OD"
    disc, cup = mask(tmp_path, row["mask_disc"]), mask(tmp_path, row["mask_cup"])
    assert not (cup & ~disc).any()
    contours, _ = cv2.findContours(disc.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    (contour,) = contours
    drawn = cv2.ellipse(np.zeros(disc.shape, np.uint8), cv2.fitEllipseDirect(contour), 1, cv2.FILLED)
    assert dice(disc, drawn > 0) > 0.98
