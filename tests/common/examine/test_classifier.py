from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser

from common.bundles import find_bundle, open_bundle
from common.examine import examine

Draw = Callable[..., Path]
NAME = "odir_classification"


@pytest.fixture
def with_classifier(weights: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundles among which is the classifier, with random weights."""
    root = tmp_path / "bundles"
    root.mkdir()
    (root / "disc_cup_segmentation").symlink_to(find_bundle("disc_cup_segmentation"))
    real, copy = find_bundle(NAME), root / NAME
    (copy / "models").mkdir(parents=True)
    (copy / "configs").symlink_to(real / "configs")
    parser = ConfigParser(json.loads((real / "configs" / "inference.json").read_text()))
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    torch.save(network.state_dict(), copy / "models" / "model.pt")
    monkeypatch.setattr("common.bundles.BUNDLES", root)
    return root


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_probabilities_are_those_of_the_bundle_alone(with_classifier: Path, tmp_path: Path, draw_photo: Draw) -> None:
    for number in range(2):
        draw_photo(tmp_path / "in" / f"{number}.png", number)
    (tmp_path / "in.csv").write_text("path,age,sex\nin/0.png,61,female\nin/1.png,,\n")
    (tmp_path / "table.csv").write_text("image,age,sex\n0.png,61,female\n1.png,,\n")
    found = list(examine(tmp_path / "in.csv", tmp_path / "out", [NAME], device="cpu"))
    assert [one.failure for one in found] == [None, None]
    assert list(found[0].overlays) == ["disc_cup_segmentation", NAME]
    alone: dict[str, Any] = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / "alone")}
    alone |= {"biomarkers_path": str(tmp_path / "out" / "results.csv"), "table_path": str(tmp_path / "table.csv")}
    open_bundle(with_classifier / NAME, ["inference.json"], {**alone, "device": "$torch.device('cpu')"}).run()
    for row, expected in zip(rows_of(tmp_path / "out"), rows_of(tmp_path / "alone"), strict=True):
        assert row["cdr_vertical"] != ""
        for label in "NDGCAHMO":
            assert row[f"p_{label}"] == expected[f"p_{label}"]
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count('class="chance"') == 2 * 8
    metadata = json.loads((with_classifier / NAME / "configs" / "metadata.json").read_text())
    assert f"Measured performance: macro AUC {metadata['eval_metrics']['macro_auc']:.3g}" in report
    assert "Probability of G, glaucoma" in report
