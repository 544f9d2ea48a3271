from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from common.ablation import Outcome, compare, run_ablation
from common.cli import main
from common.errors import SettingError
from common.phantoms import write_fundus_phantoms

SMALL = {"size": 32, "images_per_batch": 2, "epochs": 1, "mirrored_views": 1}


def outcome(strength: float, seed: int, count: int = 120) -> Outcome:
    """Two seeds of a classifier of two labels that knows as much as its strength, on patients that are always alike."""
    truth = np.random.default_rng(0).random((count, 2)) < 0.4
    noise = np.random.default_rng(seed).random((2, count, 2))
    return Outcome(["N", "G"], [str(i) for i in range(count)], truth, (strength * truth + noise) / (1 + strength))


def test_a_better_variant_has_a_difference_above_zero() -> None:
    outcomes = {"photo": outcome(0.3, 1), "biomarkers": outcome(0.3, 2), "all": outcome(1.5, 3)}

    rows = {(row["variant"], row["score"]): row for row in compare(outcomes, resamples=60)}

    truth, probability = outcomes["all"].truth, outcomes["all"].probability
    areas = [[roc_auc_score(truth[:, i], p[:, i]) for i in range(2)] for p in probability]
    assert rows["all", "AUC G"]["value"] == pytest.approx(np.mean(areas, axis=0)[1])
    assert rows["all", "macro AUC"]["value"] == pytest.approx(np.mean(areas))
    assert rows["all", "AUC G"]["seed_sd"] == pytest.approx(np.std(areas, axis=0, ddof=1)[1])
    better, same = rows["all", "macro AUC"], rows["biomarkers", "macro AUC"]
    assert better["difference"] == pytest.approx(better["value"] - rows["photo", "macro AUC"]["value"])
    assert 0 < better["difference_low"] < better["difference"] < better["difference_high"]
    assert same["difference_low"] < 0 < same["difference_high"]
    assert "difference" not in rows["photo", "macro AUC"]
    assert {score for _, score in rows} == {"macro AUC", "ODIR score", "AUC N", "AUC G"}


def test_a_difference_of_a_variant_to_itself_is_zero() -> None:
    rows = compare({"photo": outcome(0.5, 1), "all": outcome(0.5, 1)}, resamples=5)

    assert all(row["difference_low"] == row["difference"] == row["difference_high"] == 0 for row in rows[4:])


def test_other_patients_are_refused() -> None:
    with pytest.raises(SettingError, match="all and photo are not of the same patients"):
        compare({"photo": outcome(0.5, 1), "all": outcome(0.5, 1, count=100)})


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Eight phantoms of four patients, with labels, age, sex and biomarkers."""
    root = tmp_path_factory.mktemp("data")
    write_fundus_phantoms(root, 8, sizes=((96, 120),))
    items = [
        {
            "image": path.relative_to(root).as_posix(),
            "patient": str(number // 2),
            "label": ["G"] if number % 3 == 0 else ["N"],
            "age": 50 + number,
            "sex": ("female", "male")[number % 2],
        }
        for number, path in enumerate(sorted((root / "image").iterdir()))
    ]
    (root / "list.json").write_text(json.dumps({"training": items[:4], "validation": items[4:]}), encoding="utf-8")
    lines = "".join(f"{item['image']},0.{number}\n" for number, item in enumerate(items))
    (root / "biomarkers.csv").write_text(f"image,cdr_vertical\n{lines}", encoding="utf-8")
    return {"dataset_dir": str(root), "data_list": str(root / "list.json"), "biomarkers": str(root / "biomarkers.csv")}


def test_real_trainings_that_go_on(data: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two trainings by the command, and a second call that finds them done."""
    output = tmp_path / "out"
    arguments = ["ablate", "odir_classification", data["dataset_dir"], data["data_list"], str(output)]
    flags = {
        "seeds": "3",
        "variants": "photo,all",
        "resamples": 5,
        "biomarkers_path": data["biomarkers"],
        "biomarker_columns": "{'cdr_vertical': None}",
        "labels": "['N','G']",
        "configs": "train.json,warmup_cosine.json",
        "warmup_iterations": 1,
        **SMALL,
    }
    arguments += [part for name, value in flags.items() for part in (f"--{name}", str(value))]

    assert main(arguments) == 0
    first = capfd.readouterr().out
    assert main(arguments) == 0
    second = capfd.readouterr().out

    assert first.count(": training") == 2
    assert second.count(": done before") == 2
    with (output / "ablation.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["variant"], row["score"]) for row in rows] == [
        (variant, score) for variant in ("photo", "all") for score in ("macro AUC", "ODIR score", "AUC N", "AUC G")
    ]
    text = (output / "ablation.md").read_text(encoding="utf-8")
    assert "| score | photo | all |" in text
    assert "2 patients of the validation split, means over 1 seeds (3)" in text
    features = {
        name: sum(key.startswith("embedding") for key in _state(output / f"{name}_seed3")) for name in ("photo", "all")
    }
    assert features == {"photo": 0, "all": 4}

    assert main([*arguments, "--epochs", "2"]) == 2
    assert "others are given" in capfd.readouterr().err


def _state(folder: Path) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(folder / "models" / "model.pt", weights_only=True)
    return state


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variants": ["all"]}, "variants is all; give photo and any of"),
        ({"variants": ["photo", "ages"]}, "variants is photo, ages"),
        ({"seeds": [1, 1]}, "seeds is [1, 1]; give different"),
        ({"seeds": []}, "seeds is []"),
        ({"overrides": {"epoch": 3}}, "The setting --epoch is no id"),
        ({"bundle": "vessel_segmentation"}, "is no id"),
    ],
)
def test_wrong_settings(data: dict[str, Any], tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"bundle": "odir_classification", "seeds": [0], **changes}

    with pytest.raises(SettingError) as raised:
        run_ablation(
            **given, dataset_dir=data["dataset_dir"], data_list=data["data_list"], output=str(tmp_path / "out")
        )

    assert words in str(raised.value)
    assert not (tmp_path / "out").exists()
