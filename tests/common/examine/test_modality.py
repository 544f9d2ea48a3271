from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from common.examine.modality import colourfulness, layeredness, modality_of
from common.phantoms import fundus_phantom, oct_phantom
from common.pixels import read_pixels
from common.scans import frame_count, read_scan


@pytest.mark.parametrize("border", ["none", "white"])
@pytest.mark.parametrize(("height", "width"), [(496, 768), (496, 512), (300, 900), (650, 512)])
def test_b_scans(border: Any, height: int, width: int) -> None:
    for seed in range(3):
        scan = oct_phantom(height, width, seed=seed, border=border).scan
        assert modality_of(scan) == "oct"
        assert modality_of(np.repeat(scan[..., None], 3, axis=2)) == "oct"
        assert modality_of(scan.T.copy()) == "fundus"


@pytest.mark.parametrize("kind", ["round", "cut", "none"])
def test_photos(kind: Any) -> None:
    for seed in range(3):
        photo = fundus_phantom(300, 360, seed=seed, field_of_view=kind).photo
        assert modality_of(photo) == "fundus"
        assert modality_of(photo[..., 1].copy()) == "fundus"


def test_a_grey_jpeg_is_grey(tmp_path: Path) -> None:
    scan = np.repeat(oct_phantom(496, 768, seed=1).scan[..., None], 3, axis=2)
    assert cv2.imwrite(str(tmp_path / "a.jpg"), scan, [cv2.IMWRITE_JPEG_QUALITY, 40])
    assert modality_of(read_pixels(tmp_path / "a.jpg")) == "oct"


def test_the_measures() -> None:
    rows = np.repeat(np.linspace(0, 255, 100, dtype=np.uint8)[:, None], 120, axis=1)
    assert layeredness(rows) == pytest.approx(1, abs=1e-5)
    assert layeredness(rows.T.copy()) == pytest.approx(0, abs=1e-5)
    assert layeredness(np.zeros((50, 50), np.uint8)) == 0
    assert colourfulness(rows) == 0
    assert colourfulness(np.stack([rows, rows, rows // 2], axis=2)) > 50


@pytest.mark.real_data
def test_real_pictures(real_folder: Any) -> None:
    for path in sorted(real_folder("2015_BOE_Chiu").glob("*.mat")):
        for frame in range(1, frame_count(path) + 1, 4):
            assert modality_of(read_scan(f"{path}#{frame}")) == "oct"
    for path in sorted(real_folder("CHASE_DB1").rglob("*.jpg")):
        photo = read_pixels(path)
        assert modality_of(photo) == "fundus"
        assert modality_of(photo[..., 1].copy()) == "fundus"
