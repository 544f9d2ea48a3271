from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from common.errors import SettingError
from common.handlers import ClassificationReport
from common.handlers.classification import (
    calibration_figure,
    confusion_figure,
    figure_picture,
    read_thresholds,
    roc_figure,
)
from common.metrics import classification_scores

LABELS = ["N", "G"]


def run(handler: Any, probability: np.ndarray, truth: np.ndarray) -> None:
    """Show the handler photos, two a batch."""
    batches = [list(range(i, min(i + 2, len(truth)))) for i in range(0, len(truth), 2)]

    def step(engine: Engine, rows: list[int]) -> list[dict[str, Any]]:
        state: Any = engine.state
        state.batch = [{"name": f"{i}.png"} for i in rows]
        return [{"pred": torch.tensor(probability[i]), "label": torch.tensor(truth[i])} for i in rows]

    engine = Engine(step)
    handler.attach(engine)
    engine.run(batches)


@pytest.fixture
def eyes() -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Probabilities and truths of both eyes of 20 patients, and the items of their list."""
    generator = np.random.default_rng(0)
    truth = generator.random((40, 1)) < 0.4
    truth = np.concatenate([~truth, truth], axis=1).astype(np.float32)
    probability = np.clip(0.5 * truth + 0.6 * generator.random((40, 2)) - 0.05, 0, 1)
    items = [
        {"name": f"{i}.png", "patient": str(i // 2), "eye": ("OD", "OS")[i % 2], "dataset": "AB"[i // 30]}
        for i in range(40)
    ]
    return probability, truth, items


def test_the_report_of_photos_patients_and_data_sets(eyes: Any, tmp_path: Path) -> None:
    probability, truth, items = eyes
    run(ClassificationReport(tmp_path, LABELS, items, resamples=50), probability, truth)

    report = json.loads((tmp_path / "evaluation_report.json").read_text())

    expected = classification_scores(probability[:, 1], truth[:, 1] > 0)
    for name, value in expected.items():
        assert report["photos"]["labels"]["G"][name]["value"] == pytest.approx(value)
    assert (report["photos"]["n"], report["patients"]["n"]) == (40, 20)
    assert report["by_dataset"]["A"]["n"] == 30
    assert report["by_dataset"]["B"]["n"] == 10
    by_patient = truth.reshape(20, 2, 2)
    assert report["patients"]["positives"] == {
        "N": int(by_patient[..., 0].min(axis=1).sum()),
        "G": int(by_patient[..., 1].max(axis=1).sum()),
    }
    sure = probability.reshape(20, 2, 2)[..., 1].max(axis=1)
    own = classification_scores(sure, by_patient[..., 1].max(axis=1) > 0)
    assert report["patients"]["labels"]["G"]["auc"]["value"] == pytest.approx(own["auc"])


def test_the_labels_of_a_patient_may_be_stated(eyes: Any, tmp_path: Path) -> None:
    probability, truth, items = eyes
    stated = [{**item, "patient_label": ["G"] if int(item["patient"]) < 5 else []} for item in items]

    run(ClassificationReport(tmp_path, LABELS, stated, resamples=5), probability, truth)

    report = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert report["patients"]["positives"] == {"N": 0, "G": 5}
    assert report["patients"]["labels"]["N"]["auc"]["value"] is None


def test_photos_of_as_many_patients_are_reported_once(eyes: Any, tmp_path: Path) -> None:
    probability, truth, _ = eyes
    run(ClassificationReport(tmp_path, LABELS, resamples=5), probability, truth)

    report = json.loads((tmp_path / "evaluation_report.json").read_text())
    assert "patients" not in report
    assert not (tmp_path / "patients.csv").exists()
    assert report["by_dataset"] == {}


def test_thresholds_of_a_report_are_used_by_the_next(eyes: Any, tmp_path: Path) -> None:
    probability, truth, items = eyes
    run(ClassificationReport(tmp_path / "val", LABELS, items, resamples=5), probability, truth)
    path = tmp_path / "val" / "evaluation_report.json"

    run(ClassificationReport(tmp_path / "test", LABELS, items, thresholds_path=path, resamples=5), probability, truth)

    first, second = (json.loads((tmp_path / name / path.name).read_text()) for name in ("val", "test"))
    assert read_thresholds(path, LABELS)["photos"] == first["photos"]["thresholds"]
    for level in ("photos", "patients"):
        chosen = second[level]["labels"]["G"]
        assert chosen["f1_chosen"]["value"] >= chosen["f1"]["value"]
        assert "f1_chosen" not in first[level]["labels"]["G"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "is no evaluation_report.json"),
        ("[]", "has no threshold of any label"),
        ('{"photos": {}}', "is no evaluation_report.json"),
        ('{"photos": {"thresholds": {"N": 0.5}}}', "has no threshold of G"),
        ("{}", "has no threshold of any label"),
    ],
)
def test_a_report_that_has_no_thresholds(tmp_path: Path, content: str | None, words: str) -> None:
    path = tmp_path / "report.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(SettingError, match=words):
        ClassificationReport(tmp_path, LABELS, thresholds_path=path)


@pytest.mark.parametrize("threshold", [0, 1, "half", True])
def test_a_threshold_that_is_none(tmp_path: Path, threshold: Any) -> None:
    with pytest.raises(SettingError, match="threshold is"):
        ClassificationReport(tmp_path, LABELS, threshold=threshold)


def test_labels_that_do_not_fit(tmp_path: Path) -> None:
    handler = ClassificationReport(tmp_path, ["G"])
    engine: Any = SimpleNamespace(
        state=SimpleNamespace(batch=[{"name": "0.png"}], output=[{"pred": torch.zeros(2), "label": torch.zeros(2)}])
    )

    with pytest.raises(SettingError, match="labels are G, and there are 2 probabilities"):
        handler.add(engine)


@pytest.mark.parametrize("draw", [confusion_figure, roc_figure, calibration_figure])
@pytest.mark.parametrize("all_alike", [False, True])
def test_figures_are_drawn_whatever_is_there(eyes: Any, draw: Callable[..., Any], all_alike: bool) -> None:
    probability, truth, _ = eyes

    picture = figure_picture(draw(probability, np.zeros_like(truth, bool) if all_alike else truth > 0, LABELS))

    assert picture.ndim == 3
    assert picture.std() > 5
