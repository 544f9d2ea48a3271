"""Which photo comes next, and inference of all that have no label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

MODEL = "disc_cup_segmentation"


@pytest.fixture(scope="module")
def unlabelled(server: Any, draw: Any) -> list[str]:
    """All photos without a final label; among them two that differ in how sure a bundle is of them."""
    server.upload("aaa_sharp", draw(11))
    server.upload("aab_blurred", cv2.GaussianBlur(draw(12), (0, 0), 6))
    # As if somebody had copied a broken file into the folder.
    (server.studies / "aac_broken.png").write_bytes(b"no picture")
    server.wait_until(lambda: "aac_broken" in server.get("/datastore/", output="all")["objects"])
    objects = server.get("/datastore/", output="all")["objects"]
    return sorted(name for name, entry in objects.items() if "final" not in entry["labels"])


def test_first(server: Any, unlabelled: list[str]) -> None:
    answer = server.client.post("/activelearning/first", json={}).raise_for_status().json()
    assert answer["id"] == unlabelled[0] == "aaa_sharp"
    assert Path(answer["path"]).name == "aaa_sharp.png"


def test_random(server: Any, unlabelled: list[str]) -> None:
    chosen = {server.client.post("/activelearning/random", json={}).json()["id"] for _ in range(12)}
    assert chosen <= set(unlabelled)
    assert len(chosen) > 1


def test_the_most_uncertain_photo_comes_first(server: Any, unlabelled: list[str]) -> None:
    request = {"model": MODEL, "max_new": len(unlabelled)}
    answer = server.client.post("/activelearning/uncertainty", json=request).raise_for_status().json()
    readable = [name for name in unlabelled if name != "aac_broken"]
    entropies = {name: server.infer(MODEL, name)["entropy"] for name in readable}
    assert answer["id"] == max(entropies, key=lambda name: entropies[name])
    assert answer["entropy"] == pytest.approx(max(entropies.values()))
    again = server.client.post("/activelearning/uncertainty", json={**request, "max_new": 0}).json()
    assert again["id"] == answer["id"]


def test_a_label_takes_a_photo_out_of_the_choice(server: Any, unlabelled: list[str], draw: Any) -> None:
    server.upload("aa_done", draw(13))
    assert server.client.post("/activelearning/first", json={}).json()["id"] == "aa_done"
    # Of no bundle's structures, so that no training of another test takes it.
    server.save_label("aa_done", np.zeros(draw(13).shape[:2], np.uint8), label_info=[{"name": "fovea", "idx": 1}])
    assert server.client.post("/activelearning/first", json={}).json()["id"] == "aaa_sharp"


def test_batch_inference_of_the_unlabelled(server: Any, unlabelled: list[str], decode: Any) -> None:
    server.client.post(f"/batch/infer/{MODEL}", params={"images": "unlabeled"}).raise_for_status()
    status = server.wait_for("/batch/infer")
    assert status["status"] == "DONE", status["details"]
    folder = server.studies / "labels" / "original"
    assert {path.stem for path in folder.glob("*.png")} == set(unlabelled) - {"aac_broken"}
    mask = decode(server.client.get("/datastore/label", params={"label": "aaa_sharp", "tag": "original"}).content)
    np.testing.assert_array_equal(mask, decode(server.infer(MODEL, "aaa_sharp", "image")))
    info = server.get("/datastore/label/info", label="aaa_sharp", tag="original")
    assert info["model"] == MODEL
    assert info["params"]["biomarkers"]["cdr_vertical"] > 0
