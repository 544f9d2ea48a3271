from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from common.bundles import BUNDLES
from common.page import PageServer, PageSettings, build_app
from common.phantoms import write_fundus_phantoms
from common.pixels import read_pixels

BUNDLE, CLASSIFIER, SCANS = "vessel_segmentation", "dr_classification", "oct_layer_segmentation"
_NETWORK = {"_target_": "Classifier", "in_shape": [3, 64, 64], "classes": 2, "channels": [8, 8], "strides": [2, 2]}
SMALL: dict[str, dict[str, Any]] = {
    CLASSIFIER: {"size": 64, "network_def": _NETWORK},
    SCANS: {"columns": 96, "rows": 96},
}
MAX_FILES, MAX_MEGABYTES = 3, 1


@dataclass(frozen=True)
class RunningPage:
    url: str
    root: Path

    def files(self) -> list[Path]:
        """What visitors have on the disk."""
        walked = [step for folder in ("uploads", "runs") for step in os.walk(self.root / folder)]
        return [Path(folder, name) for folder, _, names in walked for name in names]

    def wait_for_no_files(self) -> None:
        deadline = time.monotonic() + 30
        while self.files() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert self.files() == []


@pytest.fixture(scope="session")
def _bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle whose network takes what is dark in green for a vessel, and others with random weights."""
    folder = tmp_path_factory.mktemp("bundles")
    network = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 1}
    weights = {"weight": torch.tensor([0.0, -1.0, 0.0]).view(1, 3, 1, 1), "bias": torch.tensor([-1.0])}
    _install(folder, BUNDLE, weights, diameter=96, window_size=96, network_def=network)
    for name, small in SMALL.items():
        torch.manual_seed(0)
        network_def = _install(folder, name, {}, **small).get_parsed_content("network_def")
        torch.save(network_def.state_dict(), folder / name / "models" / "model.pt")
    return folder


def _install(folder: Path, name: str, weights: dict[str, torch.Tensor], **changed: Any) -> ConfigParser:
    """Copy a bundle with another config and weights."""
    shutil.copytree(BUNDLES / name / "configs", folder / name / "configs")
    path = folder / name / "configs" / "inference.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **changed}
    path.write_text(json.dumps(config), encoding="utf-8")
    (folder / name / "models").mkdir()
    torch.save(weights, folder / name / "models" / "model.pt")
    return ConfigParser(config)


@pytest.fixture(scope="module")
def _served(_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPage]:
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("common.bundles.BUNDLES", _bundles)
        patch.setenv("GRADIO_TEMP_DIR", str(root))
        app = build_app(PageSettings(max_files=MAX_FILES, max_megabytes=MAX_MEGABYTES), root)
        server = PageServer(app, host="127.0.0.1", port=0)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        yield RunningPage(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", root)
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(_served: RunningPage, _bundles: Path, monkeypatch: pytest.MonkeyPatch) -> RunningPage:
    """The page as it runs, and its bundle as the one that commands find."""
    monkeypatch.setattr("common.bundles.BUNDLES", _bundles)
    return _served


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = write_fundus_phantoms(tmp_path_factory.mktemp("photos"), 2, sizes=[(120, 150), (140, 130)])
    return sorted((folder / "image").iterdir())


@pytest.fixture(scope="session")
def inferred(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], bytes]:
    """Gives the mask that `retina infer` writes of a photo."""
    from common.cli import main

    def infer(photo: Path) -> bytes:
        folder = tmp_path_factory.mktemp("inferred")
        assert main(["infer", BUNDLE, str(photo), str(folder)]) == 0
        mask = folder / f"{photo.stem}_vessel.png"
        assert 0 < (read_pixels(mask) > 0).mean() < 1
        return mask.read_bytes()

    return infer
