from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, sync_playwright

from common.bundles import BUNDLES
from common.page import PageServer, PageSettings, build_app
from common.phantoms import write_fundus_phantoms
from common.pixels import read_pixels

BUNDLE = "vessel_segmentation"
MAX_FILES, MAX_MEGABYTES = 3, 1
# As root, and without the many connections that the browser tries on its own.
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


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
    """A folder with a copy of a bundle whose network takes what is dark in green for a vessel."""
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(BUNDLES / BUNDLE / "configs", folder / BUNDLE / "configs")
    path = folder / BUNDLE / "configs" / "inference.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    network = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 1}
    path.write_text(json.dumps({**config, "diameter": 96, "window_size": 96, "network_def": network}), encoding="utf-8")
    (folder / BUNDLE / "models").mkdir()
    weights = {"weight": torch.tensor([0.0, -1.0, 0.0]).view(1, 3, 1, 1), "bias": torch.tensor([-1.0])}
    torch.save(weights, folder / BUNDLE / "models" / "model.pt")
    return folder


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
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("there is no Chromium: install it (Debian: apt-get install chromium) to test the page in a browser")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_ARGUMENTS))
        yield running
        running.close()


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
