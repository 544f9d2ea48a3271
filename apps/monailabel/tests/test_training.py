"""The way of a corrected mask into the weights, with every bundle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from common.bundles import available_bundles


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def labelled(server: Any, bundle: str, annotate: Any) -> list[str]:
    """Photos in the datastore with labels of the bundle's structures, under the bundle's own tag."""
    names = [f"labelled_{bundle}_{seed}" for seed in range(3)]
    for seed, name in enumerate(names):
        photo, labels = annotate(bundle, seed)
        server.upload(name, photo)
        server.save_label(name, labels, tag=bundle)
    return names


def test_fine_tuned_weights_are_used_and_the_shipped_ones_stay(
    server: Any, bundle: str, labelled: list[str], training: Any
) -> None:
    shipped = available_bundles()[bundle] / "models" / "model.pt"
    before, files = digest(shipped), sorted(path.name for path in shipped.parent.iterdir())
    first = server.infer(bundle, labelled[0])
    params = {"max_epochs": 1, "val_split": 0.3, "learning_rate": 0.01, "settings": dict(training[bundle])}
    server.client.post(f"/train/{bundle}", json=params).raise_for_status()
    status = server.wait_for("/train/")
    assert status["status"] == "DONE", status["details"]
    assert digest(shipped) == before
    assert sorted(path.name for path in shipped.parent.iterdir()) == files

    weights = server.studies / "training" / bundle / "model.pt"
    assert digest(weights) != before
    stats = server.get("/info/")["train_stats"][bundle]
    assert stats["training"] == 2
    assert stats["validation"] == 1
    assert stats["epochs"] == stats["total_epochs"] == 1
    assert 0 <= stats["best_metric"] <= 1
    second = server.infer(bundle, labelled[0])
    assert second["entropy"] != first["entropy"]

    downloaded = server.client.get(f"/model/{bundle}").raise_for_status().content
    assert hashlib.sha256(downloaded).hexdigest() == digest(weights)
    server.client.delete(f"/model/{bundle}").raise_for_status()
    assert not weights.exists()
    assert digest(shipped) == before
    assert server.infer(bundle, labelled[0])["entropy"] == first["entropy"]


def test_too_few_labels_is_said(server: Any, bundle: str) -> None:
    server.client.post(f"/train/{bundle}", json={"val_split": 1.5}).raise_for_status()
    status = server.wait_for("/train/")
    assert status["status"] == "ERROR"
    assert any("val_split is 1.5" in line for line in status["details"])


def test_labels_of_other_structures_are_left_out(app: Any, draw: Any) -> None:
    labels = np.zeros(draw(0).shape[:2], np.uint8)
    labels[10:20, 10:30] = 1
    for name in ("foreign 1", "foreign 2"):
        photo, label = (cv2.imencode(".png", picture)[1].tobytes() for picture in (draw(0), labels))
        app.put("/datastore/image", params={"image": name}, files={"file": ("a.png", photo)}).raise_for_status()
        app.put(
            "/datastore/label",
            params={"image": name},
            files={"label": ("a.png", label)},
            data={"params": json.dumps({"label_info": [{"name": "fovea", "idx": 1}]})},
        ).raise_for_status()
    answer = app.post("/train/vessel_segmentation", params={"run_sync": True}, json={})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("There are 0 labelled images of 0 patients")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"settings": {"epochs": "$print(1)"}}, "The setting epochs is '$print(1)'; a client can set numbers"),
        ({"settings": {"output_dir": "/tmp"}}, "The setting output_dir is '/tmp'"),
        ({"settings": {"network_def": {"_target_": "os.system"}}}, "The setting network_def is"),
        ({"max_epochs": "$print(1)"}, "The setting epochs is"),
        ({"device": "cpu') or print('"}, "device is"),
        ({"settings": [1]}, "settings is [1]"),
    ],
)
def test_settings_that_a_client_cannot_give(app: Any, request_: dict[str, Any], sentence: str) -> None:
    answer = app.post("/train/vessel_segmentation", params={"run_sync": True}, json=request_)
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]
