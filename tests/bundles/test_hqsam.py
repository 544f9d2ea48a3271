"""What only the bundle of HQ-SAM does: prompts at inference, in training and in evaluation, and frozen encoders."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from common.phantoms import fundus_phantom, write_fundus_phantoms
from data_lists import build

ROOT = Path(__file__).resolve().parents[2] / "bundles" / "disc_cup_hqsam_segmentation"
SMALL = {"diameter": 128, "view_size": 64}
SHORT = {**SMALL, "epochs": 2, "val_interval": 1, "checkpoint_interval": 1, "images_per_batch": 2}


def configs(*names: str) -> str:
    return repr([str(ROOT / "configs" / f"{name}.json") for name in names])


def dice(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


# --- inference -------------------------------------------------------------------------------------------------------


def infer(in_process: Callable[..., None], folder: Path, output: str, **options: object) -> dict[str, dict[str, str]]:
    in_process(
        "run",
        config_file=str(ROOT / "configs" / "inference.json"),
        bundle_root=str(ROOT),
        dataset_dir=str(folder / "in"),
        output_dir=str(folder / output),
        mirrored_views=1,
        **options,
    )
    with (folder / output / "results.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def mask(folder: Path, name: str) -> NDArray[np.bool_]:
    with Image.open(folder / name) as picture:
        return np.asarray(picture) > 0


@pytest.fixture
def two_photos(tmp_path: Path) -> Path:
    """Two photos that are not square."""
    (tmp_path / "in" / "visit").mkdir(parents=True)
    for seed, name in enumerate(("visit/first.png", "second.png")):
        Image.fromarray(fundus_phantom(380, 460, seed=seed).photo).save(tmp_path / "in" / name)
    return tmp_path


def write_prompts(folder: Path, prompts: Any) -> str:
    path = folder / "prompts.json"
    path.write_text(json.dumps(prompts), encoding="utf-8")
    return str(path)


def test_a_box_of_the_file_says_where_the_disc_is(two_photos: Path, in_process: Callable[..., None]) -> None:
    truth = fundus_phantom(380, 460, seed=1).disc > 0
    x, y, width, height = cv2.boundingRect(truth.astype(np.uint8))
    box = {"disc": {"box": [x, y, x + width - 1, y + height - 1]}}
    infer(in_process, two_photos, "plain")

    led = infer(in_process, two_photos, "led", prompts=write_prompts(two_photos, {"second.png": box}))

    first = [mask(two_photos / run, "visit/first_disc.png") for run in ("plain", "led")]
    assert (first[0] == first[1]).all(), "a photo without prompts is done as before"
    found = mask(two_photos / "led", led["second.png"]["mask_disc"])
    assert dice(found, truth) > 0.6
    left, top, wide, high = cv2.boundingRect(found.astype(np.uint8))
    shared = max(0, min(x + width, left + wide) - max(x, left)) * max(0, min(y + height, top + high) - max(y, top))
    assert shared > 0.6 * (width * height + wide * high - shared), "the mask fills the box"


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ({"third.png": {"disc": {"box": [1, 2, 3, 4]}}}, "There are prompts for third.png, but no such photo"),
        ({"second.png": {"disk": {}}}, "The prompts of second.png in "),
        (None, "does not exist: check the path"),
    ],
)
def test_wrong_prompts_stop_the_run(
    two_photos: Path, setting_error: Callable[..., str], prompts: Any, words: str
) -> None:
    path = str(two_photos / "gone.json") if prompts is None else write_prompts(two_photos, prompts)

    sentence = setting_error(
        "run",
        config_file=str(ROOT / "configs" / "inference.json"),
        bundle_root=str(ROOT),
        dataset_dir=str(two_photos / "in"),
        output_dir=str(two_photos / "out"),
        prompts=path,
    )

    assert words in sentence
    assert not (two_photos / "out" / "results.csv").exists()


def test_results_with_other_prompts_are_not_mixed(
    two_photos: Path, in_process: Callable[..., None], setting_error: Callable[..., str]
) -> None:
    infer(in_process, two_photos, "out")

    sentence = setting_error(
        "run",
        config_file=str(ROOT / "configs" / "inference.json"),
        bundle_root=str(ROOT),
        dataset_dir=str(two_photos / "in"),
        output_dir=str(two_photos / "out"),
        mirrored_views=1,
        prompts=write_prompts(two_photos, {"second.png": {"cup": {"points": [[5, 5, 0]]}}}),
    )

    assert "prompts was {} and is now" in sentence


# --- training and evaluation -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Options that name five phantoms and their list: four for training, one of them of another data set."""
    root = tmp_path_factory.mktemp("phantoms")
    write_fundus_phantoms(root, 5, sizes=((128, 160), (160, 128)))
    items = [
        {
            "image": path.relative_to(root).as_posix(),
            "disc": f"disc/{path.stem}.png",
            "cup": f"cup/{path.stem}.png",
            "label_format": "masks",
            "patient": path.stem,
            "dataset": "many" if number else "few",
        }
        for number, path in enumerate(sorted((root / "image").iterdir()))
    ]
    (root / "list.json").write_text(json.dumps({"training": items[:4], "validation": items[4:]}), encoding="utf-8")
    return {"dataset_dir": str(root), "data_list": str(root / "list.json"), "bundle_root": str(ROOT)}


@pytest.fixture(scope="module")
def trained(
    phantoms: dict[str, str], in_process: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two epochs with prompts."""
    folder = tmp_path_factory.mktemp("trained")
    in_process("run", config_file=configs("train"), **phantoms, **SHORT, output_dir=str(folder), prompt_probability=0.9)
    return folder


def test_a_training_with_prompts_trains_all_parts(trained: Path) -> None:
    content = torch.load(trained / "models" / "checkpoint_epoch=2.pt", weights_only=True)

    assert content["trainer"]["iteration"] == 4
    # Adam has a state for each parameter that ever had a gradient.
    assert len(content["optimizer"]["state"]) == len(content["optimizer"]["param_groups"][0]["params"])
    assert set(content["average"]) == set(content["network"])
    embedding = "prompt_encoder.point_embeddings.1.weight"
    assert not torch.equal(content["average"][embedding], content["network"][embedding])


@pytest.mark.parametrize("prompts", ["none", "box", "clicks"])
def test_an_evaluation_with_a_simulated_user(
    phantoms: dict[str, str], trained: Path, in_process: Callable[..., None], tmp_path: Path, prompts: str
) -> None:
    in_process(
        "run",
        config_file=configs("train", "evaluate"),
        **phantoms,
        **SMALL,
        output_dir=str(tmp_path),
        ckpt_path=str(trained / "models" / "model.pt"),
        prompts=prompts,
        clicks=1,
        mirrored_views=1,
    )

    report = json.loads((tmp_path / "evaluation_report.json").read_text(encoding="utf-8"))
    assert report["settings"]["prompts"] == prompts
    assert report["structures"]["disc"]["images"] == report["structures"]["cup"]["images"] == 1


def test_a_frozen_encoder_is_used_once_and_the_decoder_is_trained(
    phantoms: dict[str, str], trained: Path, in_process: Callable[..., None], tmp_path: Path
) -> None:
    given = {
        "config_file": configs("train", "train_frozen"),
        **phantoms,
        **SHORT,
        "output_dir": str(tmp_path),
        "initial_weights": str(trained / "models" / "model.pt"),
        "cached_views": 2,
    }
    in_process("run", **{**given, "epochs": 1})
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}

    in_process("run", **given)

    assert 1 <= len(kept) <= 8
    assert kept.items() <= {path.name: path.stat().st_mtime_ns for path in (tmp_path / "features").iterdir()}.items()
    start = torch.load(trained / "models" / "model.pt", weights_only=True)
    network = torch.load(tmp_path / "models" / "checkpoint_epoch=2.pt", weights_only=True)["network"]
    changed = {name for name, value in network.items() if not torch.equal(value, start[name].to(value.dtype))}
    assert "hf_tokens" in changed
    assert "learned_prompt" in changed
    assert not any(name.startswith(("image_encoder.", "prompt_encoder.", "mask_tokens")) for name in changed)
    assert not any(".transformer." in name for name in changed)


# --- real photos -----------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_prompts_raise_the_overlap_on_real_photos(
    real_folder: Callable[[str], Path], in_process: Callable[..., None], tmp_path: Path
) -> None:
    root = real_folder("Drishti-GS1")
    content = build("drishti_gs1", root, seed=0, validation=0.2)
    path = tmp_path / "list.json"
    path.write_text(json.dumps({**content, "validation": content["validation"][:5]}), encoding="utf-8")

    means = {}
    for prompts in ("none", "box", "clicks"):
        in_process(
            "run",
            config_file=configs("train", "evaluate"),
            bundle_root=str(ROOT),
            dataset_dir=str(root),
            data_list=str(path),
            output_dir=str(tmp_path / prompts),
            prompts=prompts,
            mirrored_views=1,
        )
        report = json.loads((tmp_path / prompts / "evaluation_report.json").read_text(encoding="utf-8"))
        means[prompts] = report["photos"]["all"]["dice_mean"]["mean"]

    assert means["none"] > 0.8
    assert means["box"] > means["none"]
    assert means["clicks"] > means["none"]
