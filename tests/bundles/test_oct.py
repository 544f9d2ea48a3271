"""What is special about the layers of OCT: a file may hold many B-scans, each an input of its own."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from common.bundles import find_bundle, has_weights
from common.phantoms import oct_phantom
from common.pixels import read_pixels

BUNDLE = find_bundle("oct_layer_segmentation")
SETTINGS = {"columns": 128, "rows": 128, "mirrored_views": 1}


@pytest.mark.skipif(not has_weights(BUNDLE), reason="the bundle has no weights")
def test_pages_give_what_their_pictures_give(in_process: Callable[..., None], tmp_path: Path) -> None:
    scans = [oct_phantom(120, 150, seed=seed, border="none").scan for seed in (1, 2)]
    (tmp_path / "in").mkdir()
    for number, scan in enumerate(scans, start=1):
        tifffile.imwrite(tmp_path / "in" / f"alone_{number}.tif", scan, photometric="minisblack")
    deep: NDArray[np.integer] = np.stack(scans).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "in" / "deep.tif", deep, photometric="minisblack", compression="zlib")
    small: NDArray[np.uint8] = np.zeros((8, 8), np.uint8)
    with tifffile.TiffWriter(tmp_path / "in" / "volume.tif") as file:
        for page in (*scans, small):
            file.write(page, photometric="minisblack", contiguous=False)
    options: dict[str, Any] = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "out"), **SETTINGS}

    in_process("run", config_file=str(BUNDLE / "configs" / "inference.json"), bundle_root=str(BUNDLE), **options)

    with (tmp_path / "out" / "results.csv").open(encoding="utf-8", newline="") as table:
        rows = {row["image"]: row for row in csv.DictReader(table)}
    assert list(rows) == ["alone_1.tif", "alone_2.tif", "deep.tif#1", "deep.tif#2", "volume.tif#1", "volume.tif#2"]
    assert [row["volume"] for row in rows.values()] == [".", ".", "deep.tif", "deep.tif", "volume.tif", "volume.tif"]
    for number in (1, 2):
        expected = rows[f"alone_{number}.tif"]
        labels = read_pixels(tmp_path / "out" / expected["labels"])
        assert labels.shape == (120, 150)
        for name in ("deep", "volume"):
            row = rows[f"{name}.tif#{number}"]
            assert row["labels"] == f"{name}_{number}_labels.png"
            np.testing.assert_array_equal(read_pixels(tmp_path / "out" / row["labels"]), labels)
            assert row["retina_thickness_mean_px"] == expected["retina_thickness_mean_px"]
    failures = (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert len(failures) == 1
    assert failures[0].startswith("volume.tif#3,read,is 8x8 pixels")
