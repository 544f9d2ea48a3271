from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.bundles import find_bundle
from common.errors import SettingError
from common.label import Annotation, fine_tune
from common.label.training import DATA_LIST, SUMMARY, write_data_list
from common.phantoms import write_fundus_phantoms
from common.pixels import read_pixels

SETTINGS = {
    "network_def": {
        "_target_": "BasicUNet",
        "spatial_dims": 2,
        "in_channels": 3,
        "out_channels": 2,
        "features": [8] * 6,
    },
    "diameter": 128,
    "view_size": 64,
    "views_per_image": 2,
    "epochs": 2,
    "val_interval": 1,
}


def annotated(folder: Path, count: int) -> list[Annotation]:
    write_fundus_phantoms(folder, count, sizes=((128, 160), (160, 128)))
    found = []
    for image in sorted((folder / "image").iterdir()):
        disc, cup = (read_pixels(folder / name / f"{image.stem}.png") > 0 for name in ("disc", "cup"))
        found.append(Annotation(image, disc.astype(np.uint8) + (cup & disc), f"patient {image.stem}"))
    return found


def test_patients_stay_together(tmp_path: Path) -> None:
    labels = np.zeros((4, 5), np.uint8)
    annotations = [Annotation(tmp_path / f"{number}.png", labels, f"p{number // 2}") for number in range(10)]
    counts = write_data_list(annotations, tmp_path / "a", 0.2, {"label_format": "rim1_cup2"})
    assert counts == {"training": 8, "validation": 2}
    splits = json.loads((tmp_path / "a" / DATA_LIST).read_text(encoding="utf-8"))
    patients = {name: {item["patient"] for item in items} for name, items in splits.items()}
    assert not patients["training"] & patients["validation"]
    assert all(item["label_format"] == "rim1_cup2" for items in splits.values() for item in items)
    write_data_list(annotations, tmp_path / "b", 0.2, {})
    again = json.loads((tmp_path / "b" / DATA_LIST).read_text(encoding="utf-8"))
    assert {item["patient"] for item in again["validation"]} == patients["validation"]


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_impossible_share(tmp_path: Path, share: float) -> None:
    with pytest.raises(SettingError, match="val_split is"):
        write_data_list([], tmp_path, share, {})


def test_too_few_patients(tmp_path: Path) -> None:
    labels = np.zeros((4, 5), np.uint8)
    with pytest.raises(SettingError, match="2 labelled images of 1 patients, and at least two"):
        write_data_list([Annotation(tmp_path / name, labels, "p") for name in "ab"], tmp_path, 0.5, {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("trained")
    bundle = find_bundle("disc_cup_segmentation")
    summary = fine_tune(bundle, annotated(folder, 4), folder / "model.pt", None, folder / "run", 0.25, SETTINGS)
    return folder, summary


def test_the_best_weights_are_put_in_place(trained: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = trained
    assert summary["training"] == 3
    assert summary["validation"] == 1
    assert summary["epochs"] == 2
    assert summary["metric"] == "val_dice"
    assert 0 <= summary["best_metric"] <= 1
    assert json.loads((folder / SUMMARY).read_text(encoding="utf-8")) == summary
    state = torch.load(folder / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state.values())
    assert list((folder / "run").glob("events.out.tfevents.*"))
    assert not list(folder.glob(".*"))


def test_a_training_starts_from_the_weights_given(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = trained
    before = hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest()
    frozen = {**SETTINGS, "learning_rate": 0.0, "epochs": 1}
    bundle = find_bundle("disc_cup_segmentation")
    annotations = annotated(tmp_path, 2)
    fine_tune(bundle, annotations, tmp_path / "new" / "model.pt", folder / "model.pt", tmp_path / "run", 0.5, frozen)
    assert hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest() == before
    old, new = (torch.load(path, weights_only=True) for path in (folder / "model.pt", tmp_path / "new" / "model.pt"))
    learned = [key for key in old if old[key].is_floating_point() and "running" not in key]
    assert learned
    assert all(torch.equal(old[key], new[key]) for key in learned)


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    annotations = annotated(tmp_path, 2)
    with pytest.raises(SettingError, match="--epoch is no id"):
        fine_tune(
            find_bundle("disc_cup_segmentation"),
            annotations,
            tmp_path / "m.pt",
            None,
            tmp_path / "run",
            0.5,
            {"epoch": 1},
        )
    assert not (tmp_path / "m.pt").exists()
