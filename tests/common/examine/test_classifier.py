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
from common.examine.report import performance

Draw = Callable[..., Path]
CLASSIFIERS = ("odir_classification", "dr_classification")


@pytest.fixture
def with_classifiers(weights: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundles among which are the classifiers, with random weights."""
    root = tmp_path / "bundles"
    root.mkdir()
    (root / "disc_cup_segmentation").symlink_to(find_bundle("disc_cup_segmentation"))
    for name in CLASSIFIERS:
        real, copy = find_bundle(name), root / name
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


def test_probabilities_are_those_of_the_bundles_alone(with_classifiers: Path, tmp_path: Path, draw_photo: Draw) -> None:
    for number in range(2):
        draw_photo(tmp_path / "in" / f"{number}.png", number)
    (tmp_path / "in.csv").write_text("path,age,sex\nin/0.png,61,female\nin/1.png,,\n")
    (tmp_path / "table.csv").write_text("image,age,sex\n0.png,61,female\n1.png,,\n")
    found = list(examine(tmp_path / "in.csv", tmp_path / "out", CLASSIFIERS, device="cpu"))
    assert [one.failure for one in found] == [None, None]
    assert list(found[0].overlays) == ["disc_cup_segmentation", "dr_classification", "odir_classification"]
    tables = {"biomarkers_path": str(tmp_path / "out" / "results.csv"), "table_path": str(tmp_path / "table.csv")}
    compared = 0
    for name in CLASSIFIERS:
        alone: dict[str, Any] = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / name)}
        alone |= {"device": "$torch.device('cpu')", **(tables if name == "odir_classification" else {})}
        open_bundle(with_classifiers / name, ["inference.json"], alone).run()
        for row, expected in zip(rows_of(tmp_path / "out"), rows_of(tmp_path / name), strict=True):
            assert row["cdr_vertical"] != ""
            probabilities = {column: value for column, value in expected.items() if column.startswith("p_")}
            assert {column: row[column] for column in probabilities} == probabilities
            compared += len(probabilities)
    assert compared == 2 * (8 + 1)
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count('class="chance"') == compared
    for name in CLASSIFIERS:
        metadata = json.loads((with_classifiers / name / "configs" / "metadata.json").read_text())
        assert f"Measured performance: {performance(metadata)}" in report
    assert "Probability of G, glaucoma" in report
