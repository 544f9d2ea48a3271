from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from common.benchmark_examine import measure
from common.bundles import find_bundle
from common.cli import main
from common.errors import SettingError
from common.phantoms import write_fundus_phantoms

NAME = "vessel_segmentation"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Photos, and one bundle with a small network."""
    bundle = tmp_path / "bundles" / NAME
    shutil.copytree(find_bundle(NAME) / "configs", bundle / "configs")
    path = bundle / "configs" / "inference.json"
    network = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 1}
    config = {**json.loads(path.read_text()), "diameter": 96, "window_size": 96, "network_def": network}
    path.write_text(json.dumps(config))
    (bundle / "models").mkdir()
    torch.save(torch.nn.Conv2d(3, 1, 1).state_dict(), bundle / "models" / "model.pt")
    monkeypatch.setattr("common.bundles.BUNDLES", bundle.parent)
    return write_fundus_phantoms(tmp_path, 3, sizes=[(120, 150)]) / "image"


def test_time_and_memory_of_an_examination(photos: Path, tmp_path: Path) -> None:
    measure(str(photos), str(tmp_path / "out"), str(tmp_path / "report.json"), after=2)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["photos"] == 3
    assert 0 < found["network_seconds"] < found["seconds"]
    assert 0 < found["network_cpu_seconds"] < found["cpu_seconds"]
    assert 0.1 < found["gigabytes_after"] <= found["gigabytes"]
    (run,) = json.loads((tmp_path / "out" / "run.json").read_text())["runs"]
    assert found["seconds"] == pytest.approx(run["seconds"], rel=0.5)
    assert (tmp_path / "out" / "report.html").is_file()


def test_a_photo_that_fails_stops_the_measurement(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"")
    with pytest.raises(SettingError, match=r"broken\.png failed \(is empty \(0 bytes\)\): give photos that can be"):
        measure(str(photos), str(tmp_path / "out"), str(tmp_path / "report.json"))
    assert not (tmp_path / "report.json").exists()


def test_number_of_photos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--bundles", "examine", "--photos", "0", "--output", str(tmp_path / "a.md")]) == 2
    assert "--photos is 0: give 1 or more" in capsys.readouterr().err
