from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest

from common.examine import Examiner, available
from common.phantoms import fundus_phantom, oct_phantom

# Small, so that a photo takes less than a second.
SETTINGS: dict[str, dict[str, Any]] = {
    "vessel_segmentation": {"diameter": 256, "window_size": 256, "mirrored_views": 1},
    "disc_cup_segmentation": {"mirrored_views": 1},
    "oct_layer_segmentation": {"columns": 256, "rows": 256, "mirrored_views": 1},
}


Draw = Callable[..., Path]


@pytest.fixture(scope="session")
def draw_photo() -> Draw:
    def draw(path: Path, seed: int, shape: tuple[int, int] = (200, 256)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        photo = fundus_phantom(*shape, seed=seed, field_of_view="round").photo
        assert cv2.imwrite(str(path), photo[..., ::-1])
        return path

    return draw


@pytest.fixture(scope="session")
def draw_scan() -> Draw:
    def draw(path: Path, seed: int, shape: tuple[int, int] = (200, 256)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), oct_phantom(*shape, seed=seed, border="none").scan)
        return path

    return draw


@pytest.fixture(scope="session")
def settings() -> dict[str, dict[str, Any]]:
    return SETTINGS


@pytest.fixture(scope="session")
def weights() -> None:
    missing = set(tuple(SETTINGS)) - {entry.name for entry in available()}
    if missing:
        pytest.skip(f"no weights of {', '.join(sorted(missing))}")


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory, draw_photo: Draw, draw_scan: Draw) -> Path:
    """Three photos, two B-scans, one of them first by name, and three files that cannot be used."""
    folder = tmp_path_factory.mktemp("mixed")
    draw_scan(folder / "a_scan.png", 1)
    draw_photo(folder / "b_OD.png", 2)
    draw_photo(folder / "visit 1" / "c.jpg", 3, (240, 200))
    draw_scan(folder / "visit 1" / "d.tif", 4)
    draw_photo(folder / "visit 1" / "e <b>&amp;.png", 5)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    (folder / "readme.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="session")
def examiner(weights: None) -> Examiner:
    return Examiner(tuple(SETTINGS), "cpu", settings=SETTINGS)


@pytest.fixture(scope="session")
def examined(examiner: Examiner, mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a whole run over `mixed`."""
    folder = tmp_path_factory.mktemp("examined")
    for _ in examiner.run(mixed, folder):
        pass
    return folder
