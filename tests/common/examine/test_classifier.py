from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from playwright.sync_api import Browser, expect

from common.bundles import find_bundle, open_bundle
from common.errors import SettingError
from common.examine import Examiner, examine
from common.examine.report import performance
from common.pixels import read_pixels

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


def patients_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "patients.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_probabilities_are_those_of_the_bundles_alone(with_classifiers: Path, tmp_path: Path, draw_photo: Draw) -> None:
    for number in range(2):
        draw_photo(tmp_path / "in" / f"{number}.png", number)
    (tmp_path / "in.csv").write_text("path,age,sex,patient\nin/0.png,61,female,007\nin/1.png,,,007\n")
    (tmp_path / "table.csv").write_text("image,age,sex,patient\n0.png,61,female,007\n1.png,,,007\n")
    found = list(examine(tmp_path / "in.csv", tmp_path / "out", CLASSIFIERS, device="cpu"))
    assert [one.failure for one in found] == [None, None]
    assert list(found[0].overlays) == ["disc_cup_segmentation", "dr_classification", "odir_classification"]
    assert list(found[0].saliency) == list(CLASSIFIERS)[::-1]
    (tmp_path / "patients.csv").write_text("image,patient\n0.png,007\n1.png,007\n")
    tables = {
        "odir_classification": {"biomarkers_path": "out/results.csv", "table_path": "table.csv"},
        "dr_classification": {"table_path": "patients.csv"},
    }
    compared = 0
    patients: dict[str, str] = {}
    for name in CLASSIFIERS:
        alone: dict[str, Any] = {"dataset_dir": str(tmp_path / "in"), "output_dir": str(tmp_path / name)}
        alone |= {"device": "$torch.device('cpu')"} | {key: str(tmp_path / path) for key, path in tables[name].items()}
        open_bundle(with_classifiers / name, ["inference.json"], alone).run()
        patients |= patients_of(tmp_path / name)[0]
        for row, expected in zip(rows_of(tmp_path / "out"), rows_of(tmp_path / name), strict=True):
            assert row["cdr_vertical"] != ""
            assert set(expected["note"].split("; ")) <= set(row["note"].split("; ")) | {""}
            heat = read_pixels(tmp_path / name / expected["saliency"])
            short = name.removesuffix("_classification")
            assert np.array_equal(heat, read_pixels(tmp_path / "out" / row[f"saliency_{short}"]))
            assert heat.shape == (200, 256)
            probabilities = {column: value for column, value in expected.items() if column.startswith("p_")}
            assert {column: row[column] for column in probabilities} == probabilities
            compared += len(probabilities)
    assert compared == 2 * (8 + 1)
    first, second = rows_of(tmp_path / "out")
    assert "not known" not in first["note"]
    assert "not known: age, sex" in second["note"].split("; ")
    assert patients_of(tmp_path / "out") == [patients]
    assert list(patients) == ["ID", *"NDGCAHMO", "DR"]
    assert patients["ID"] == "007"
    assert float(patients["G"]) == max(float(row["p_G"]) for row in (first, second))
    assert float(patients["N"]) == min(float(row["p_N"]) for row in (first, second))
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count('class="chance"') == compared
    for name in CLASSIFIERS:
        metadata = json.loads((with_classifiers / name / "configs" / "metadata.json").read_text())
        assert f"Measured performance: {performance(metadata)}" in report
    assert "Probability of G, glaucoma" in report


def test_patients_are_those_of_the_rows_that_are_there(
    with_classifiers: Path, tmp_path: Path, draw_photo: Draw, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("12_left.png", "12_right.png", "3_left.png", "other.png"):
        draw_photo(tmp_path / "in" / name, 1, (64, 80))
    examiner = Examiner(["dr_classification"], "cpu", saliency=False)
    inputs, output = tmp_path / "in", tmp_path / "out"
    found = list(examiner.run(inputs, output))
    assert [one.saliency for one in found] == [{}] * 4
    assert "saliency_dr" not in found[0].row
    assert not (output / "saliency").exists()
    assert [patient["ID"] for patient in patients_of(output)] == ["3", "12"]
    assert "1 of 4 photos are of no known patient" in caplog.text
    by_image = {row["image"]: float(row["p_DR"]) for row in rows_of(output)}
    assert float(patients_of(output)[1]["DR"]) == max(by_image["12_left.png"], by_image["12_right.png"])

    with pytest.raises(SettingError, match=r"dr_classification.*saliency"):
        Examiner(["dr_classification"], "cpu").run(inputs, output)
    for name in ("12_left.png", "12_right.png", "3_left.png"):
        (inputs / name).unlink()
    list(examiner.run(inputs, output, overwrite=True))
    assert not (output / "patients.csv").exists()


def test_what_is_not_known_of_all_is_said_once(with_classifiers: Path, tmp_path: Path, draw_photo: Draw) -> None:
    for number in range(2):
        draw_photo(tmp_path / "in" / f"{number}.png", number)
    list(examine(tmp_path / "in", tmp_path / "out", ["odir_classification"], device="cpu"))
    assert all("not known: age, sex" in row["note"].split("; ") for row in rows_of(tmp_path / "out"))
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("not known: age, sex") == 1
    assert "Of every fundus photo: " in report


@pytest.mark.parametrize("width", [1280, 390])
def test_saliency_in_the_report(
    with_classifiers: Path, tmp_path: Path, draw_photo: Draw, browser: Browser, width: int
) -> None:
    for number in range(2):
        draw_photo(tmp_path / "in" / f"{number}.png", number)
    list(examine(tmp_path / "in", tmp_path / "out", CLASSIFIERS, device="cpu"))
    window = browser.new_page(viewport={"width": width, "height": 844})
    window.goto((tmp_path / "out" / "report.html").as_uri())
    one, two = window.locator(".card").all()
    odir, dr, disc = (
        [card.locator(f'img[data-layer="{name}"]') for card in (one, two)]
        for name in ("saliency (ODIR)", "saliency (DR)", "disc")
    )
    expect(odir[0]).to_be_hidden()
    expect(disc[0]).to_be_visible()

    one.get_by_label("Saliency (ODIR)").check()
    expect(odir[0]).to_be_visible()
    expect(odir[1]).to_be_hidden()
    assert odir[0].evaluate("image => image.naturalWidth / image.naturalHeight") == pytest.approx(256 / 200, rel=0.02)
    one.get_by_label("Saliency (DR)").check()
    expect(odir[0]).to_be_hidden()
    expect(dr[0]).to_be_visible()
    expect(disc[0]).to_be_visible()

    everywhere = window.locator("#switches")
    everywhere.get_by_label("Saliency (ODIR)").check()
    for layer in (*odir, *disc):
        expect(layer).to_be_visible()
    everywhere.get_by_label("Saliency (DR)").check()
    expect(everywhere.get_by_label("Saliency (ODIR)")).not_to_be_checked()
    for shown, hidden in zip(dr, odir, strict=True):
        expect(shown).to_be_visible()
        expect(hidden).to_be_hidden()
    assert window.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    window.close()
