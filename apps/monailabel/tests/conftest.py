"""One real server for all tests, the same app in this process, and what the bundles themselves find."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import httpx
import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from common.bundles import available_bundles, has_weights, open_bundle
from common.label.inference import describe
from common.phantoms import fundus_phantom, oct_phantom
from common.pixels import read_pixels
from common.torchvision_compat import ensure_torchvision

APP = Path(__file__).resolve().parents[1]
TIMEOUT = 900.0
HEIGHT, WIDTH = 300, 380
# What makes inference and training small enough for a test; a bundle that is not named here runs as it is shipped.
INFERENCE: Mapping[str, Mapping[str, Any]] = {
    "vessel_segmentation": {"diameter": 288, "window_size": 160, "mirrored_views": 1},
    "disc_cup_segmentation": {"diameter": 384, "mirrored_views": 1},
    "disc_cup_hqsam_segmentation": {"mirrored_views": 1},
    "oct_layer_segmentation": {"columns": 128, "rows": 128, "mirrored_views": 1},
    "dr_lesion_segmentation": {"diameter": 384, "window_size": 160, "mirrored_views": 1},
}
TRAINING: Mapping[str, Mapping[str, Any]] = {
    "vessel_segmentation": {"diameter": 160, "patch_size": 64, "patches_per_image": 1, "window_size": 96},
    "disc_cup_segmentation": {"diameter": 160, "view_size": 64, "views_per_image": 1},
    "disc_cup_hqsam_segmentation": {"diameter": 160},
    "oct_layer_segmentation": {"columns": 128, "rows": 128, "strip_columns": 64, "strip_rows": 96},
    "dr_lesion_segmentation": {"diameter": 160, "patch_size": 64, "patches_per_image": 1, "window_size": 96},
}
OF_SCANS = ("oct_layer_segmentation",)
LESIONS: Mapping[str, Mapping[str, Any]] = {"dr_lesion_segmentation": {"exudates": 3, "haemorrhages": 5}}
CLASSIFIERS = [name for name, path in available_bundles().items() if describe(path).classifies]
BUNDLES = [name for name in available_bundles() if name not in CLASSIFIERS]
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@functools.cache
def random_weights(bundle: str) -> str:
    """Weights for a classifier that ships none yet."""
    parser = ConfigParser.load_config_file(str(available_bundles()[bundle] / "configs" / "inference.json"))
    path = Path(tempfile.mkdtemp()) / "model.pt"
    torch.save(ConfigParser(parser).get_parsed_content("network_def").state_dict(), path)
    return str(path)


def settings_of(bundle: str) -> dict[str, Any]:
    """Ids of `inference.json` with which a bundle is served here."""
    settings = dict(INFERENCE.get(bundle, {}))
    if bundle in CLASSIFIERS and not has_weights(available_bundles()[bundle]):
        settings["ckpt_path"] = random_weights(bundle)
    return settings


def conf() -> dict[str, str]:
    """What `--conf` gives the app."""
    given = {"models": "all"}
    for bundle in available_bundles():
        given |= {f"{bundle}.{name}": json.dumps(value) for name, value in settings_of(bundle).items()}
    return given


def draw_photo(seed: int) -> NDArray[np.uint8]:
    """A fundus photo, neither square nor symmetric."""
    photo: NDArray[np.uint8] = fundus_phantom(HEIGHT, WIDTH, seed=seed).photo
    return photo


def write_photo(path: Path, photo: NDArray[np.uint8]) -> None:
    """Write a photo in the format of its ending; NIfTI as ITK does, columns first and the colours as a vector."""
    if path.name.endswith(".nii.gz"):
        columns_first = photo.swapaxes(0, 1).reshape(photo.shape[1], photo.shape[0], 1, *photo.shape[2:])
        nibabel.save(nibabel.Nifti1Image(columns_first, np.diag([-0.5, -0.5, 2.0, 1.0])), path)
        return
    written, content = cv2.imencode(path.suffix, photo[..., ::-1] if photo.ndim == 3 else photo)
    assert written
    path.write_bytes(content.tobytes())


@pytest.fixture(scope="session")
def draw() -> Callable[[int], NDArray[np.uint8]]:
    """Draws a fundus photo, neither square nor symmetric, of a seed."""
    return draw_photo


@pytest.fixture(scope="session")
def write() -> Callable[[Path, NDArray[np.uint8]], None]:
    """Writes a photo in the format of its ending."""
    return write_photo


@pytest.fixture(scope="session")
def decode() -> Callable[[bytes], NDArray[Any]]:
    """Gives the pixels of a picture that the server sent."""
    return lambda content: np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))


def draw_annotated(bundle: str, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A picture of the kind that a bundle takes, and its label map as a person would draw it."""
    if bundle in OF_SCANS:
        scan = oct_phantom(HEIGHT, WIDTH, seed=seed)
        return scan.scan, np.where(scan.labels > len(describe(available_bundles()[bundle]).values), 0, scan.labels)
    phantom = fundus_phantom(HEIGHT, WIDTH, seed=seed, **LESIONS.get(bundle, {}))
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for name, value in describe(available_bundles()[bundle]).values.items():
        labels[getattr(phantom, name)] = value
    return phantom.photo, labels


@pytest.fixture(scope="session")
def annotate() -> Callable[[str, int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Draws a picture of the kind that a bundle takes, and its label map."""
    return draw_annotated


@pytest.fixture(scope="session")
def training() -> Mapping[str, Mapping[str, Any]]:
    """Ids of each bundle's `train.json` that make a training small."""
    return TRAINING


# --- the server ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running server and its folder of studies."""

    client: httpx.Client
    studies: Path
    log: Path

    def get(self, path: str, **params: Any) -> Any:
        return self.client.get(path, params=params).raise_for_status().json()

    def infer(self, model: str, image: str, output: str = "json", file: Path | None = None, **params: Any) -> Any:
        """Ask for a mask; with `output` None the answer has both the parameters and the mask."""
        files = {"file": (file.name, file.read_bytes())} if file else None
        answer = self.client.post(
            f"/infer/{model}",
            params={"image": image, "output": output},
            data={"params": json.dumps(params)},
            files=files,
        ).raise_for_status()
        return answer.json() if output == "json" else answer.content

    def upload_file(self, name: str, path: Path, **info: Any) -> None:
        """Put a file into the datastore."""
        self.client.put(
            "/datastore/image",
            params={"image": name},
            files={"file": (path.name, path.read_bytes())},
            data={"params": json.dumps(info)},
        ).raise_for_status()

    def upload(self, name: str, photo: NDArray[np.uint8], suffix: str = ".png", **info: Any) -> None:
        """Put a photo into the datastore."""
        path = self.studies.parent / f"upload{suffix}"
        write_photo(path, photo)
        self.upload_file(name, path, **info)

    def save_label(self, image: str, labels: NDArray[np.uint8], tag: str = "final", **info: Any) -> None:
        """Put a label map into the datastore."""
        content = cv2.imencode(".png", labels)[1].tobytes()
        self.client.put(
            "/datastore/label",
            params={"image": image, "tag": tag},
            files={"label": ("label.png", content)},
            data={"params": json.dumps(info)},
        ).raise_for_status()

    @staticmethod
    def wait_until(happened: Callable[[], bool]) -> None:
        """Wait for something that happens in the background."""
        limit = time.monotonic() + TIMEOUT
        while not happened():
            assert time.monotonic() < limit, "it did not happen"
            time.sleep(0.2)

    def wait_for(self, path: str) -> dict[str, Any]:
        """Wait for a task in the background and give its status."""
        self.wait_until(lambda: self.get(path)["status"] not in ("SUBMITTED", "RUNNING"))
        status: dict[str, Any] = self.get(path)
        return status


def start_server(studies: Path, log: Path, port: int, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the app as its users do."""
    flags = [part for name, value in settings.items() for part in ("--conf", name, value)]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(APP), "--studies", str(studies)]
    with log.open("wb") as output:
        return subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *flags],
            env={**os.environ, **THREADS},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server on 127.0.0.1, with every bundle and an empty folder of studies."""
    root = tmp_path_factory.mktemp("server")
    studies, log = root / "studies", root / "log.txt"
    studies.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start_server(studies, log, port, conf())
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client:
            limit = time.monotonic() + TIMEOUT
            while True:
                try:
                    client.get("/info/").raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None, log.read_text(errors="replace")[-6000:]
                    assert time.monotonic() < limit, "the server did not start"
                    time.sleep(0.2)
            yield Server(client, studies, log)
    finally:
        process.terminate()
        process.wait(TIMEOUT)


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The app in this process, behind FastAPI's test client."""
    ensure_torchvision()
    from fastapi.testclient import TestClient
    from monailabel.app import app as api
    from monailabel.config import settings

    studies = tmp_path_factory.mktemp("studies")
    settings.MONAI_LABEL_APP_DIR, settings.MONAI_LABEL_STUDIES = str(APP), str(studies)
    settings.MONAI_LABEL_APP_CONF = conf()
    with TestClient(api, raise_server_exceptions=False) as client:
        client.studies = studies
        yield client


# --- what the bundles themselves find --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Own:
    """What a bundle's own inference wrote."""

    folder: Path
    rows: dict[str, dict[str, str]]

    def masks(self, image: str) -> dict[str, NDArray[np.bool_]]:
        """Name of a structure to its mask."""
        return {
            column.removeprefix("mask_"): read_pixels(self.folder / name) > 0
            for column, name in self.rows[image].items()
            if column.startswith("mask_")
        }

    def labels(self, image: str, values: Mapping[str, int]) -> NDArray[np.uint8]:
        """The label map: as the bundle wrote it, or from its masks, the later structures over the earlier ones."""
        if "labels" in self.rows[image]:
            return read_pixels(self.folder / self.rows[image]["labels"])
        masks = self.masks(image)
        labels = np.zeros(next(iter(masks.values())).shape, np.uint8)
        for name, value in values.items():
            labels[masks[name]] = value
        return labels


@pytest.fixture(scope="session", params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> str:
    """The name of each bundle in turn."""
    name: str = request.param
    return name


def write_formats(folder: Path, picture: NDArray[np.uint8]) -> Path:
    """Write a picture in several formats."""
    for suffix in (".png", ".jpg", ".tif"):
        write_photo(folder / f"eye_OD_{suffix[1:]}{suffix}", picture)
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one fundus photo in several formats."""
    return write_formats(tmp_path_factory.mktemp("photos"), draw_photo(3))


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory, bundle: str, photos: Path) -> Path:
    """A folder with one picture of the kind that each bundle takes, in several formats."""
    if bundle not in OF_SCANS:
        return photos
    return write_formats(tmp_path_factory.mktemp("scans"), draw_annotated(bundle, 3)[0])


def run_bundle(bundle: str, photos: Path, output: Path) -> Own:
    """Run a bundle on a folder of photos, with the server's settings."""
    settings = {"dataset_dir": str(photos), "output_dir": str(output), **settings_of(bundle)}
    open_bundle(available_bundles()[bundle], ["inference.json"], settings).run()
    table = csv.DictReader(io.StringIO((output / "results.csv").read_text(encoding="utf-8")))
    return Own(output, {row["image"]: row for row in table})


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory, pictures: Path, bundle: str) -> Own:
    """What each bundle writes when it is run on the folder of pictures."""
    return run_bundle(bundle, pictures, tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="session", params=CLASSIFIERS)
def classifier(request: pytest.FixtureRequest) -> str:
    """The name of each bundle that classifies."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def own_classes(tmp_path_factory: pytest.TempPathFactory, photos: Path, classifier: str) -> Own:
    """What each classifier writes."""
    return run_bundle(classifier, photos, tmp_path_factory.mktemp("own_classes"))


@pytest.fixture(scope="session")
def own_disc(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Own:
    """What the bundle of disc and cup writes."""
    return run_bundle("disc_cup_segmentation", photos, tmp_path_factory.mktemp("own_disc"))
