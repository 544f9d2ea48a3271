from __future__ import annotations

import csv
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from common.bundles import find_bundle
from common.examine import DISCLAIMER, Examiner, report
from common.examine.report import performance, write_parquet, write_report
from common.examine.shown import SHOWN, SOURCES, first_shown, shown_as
from common.examine.table import TABLE

Draw = Callable[..., Path]


class Page(HTMLParser):
    """What a browser would load, and what it would show."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.titles: list[str] = []
        self.tags: list[str] = []
        self.layers = 0
        text = path.read_text(encoding="utf-8")
        self.feed(text)
        self.styles_load = "url(" in text or "@import" in text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "poster") or (tag == "link" and name == "href"):
                self.loaded.append(value or "")
            elif name == "href":
                self.links.append(value or "")
        self.layers += ("class", "layer") in attrs

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "h3" and data.strip():
            self.titles.append(data)


def test_the_report_needs_no_other_file(examined: Path) -> None:
    page = Page(examined / "report.html")
    assert page.loaded
    assert all(source.startswith(("data:image/jpeg;base64,", "data:image/png;base64,")) for source in page.loaded)
    assert not page.styles_load
    assert max(len(source) for source in page.loaded) < 200_000
    assert page.layers == 3 * 3 + 2
    assert page.tags.count("article") == 5


def test_links_lead_to_the_files(examined: Path) -> None:
    from urllib.parse import unquote

    files = [link for link in Page(examined / "report.html").links if not link.startswith("#")]
    assert len(files) == 3 * 5 + 2 * 3
    assert all((examined / unquote(link)).is_file() for link in files)


def test_names_are_text(examined: Path) -> None:
    page = Page(examined / "report.html")
    assert "visit 1/e <b>&amp;.png" in page.titles
    assert "<b>&amp;.png" not in (examined / "report.html").read_text()


def test_what_the_report_says(examined: Path) -> None:
    text = (examined / "report.html").read_text()
    assert text.count(DISCLAIMER) == 2
    for bundle in ("vessel_segmentation", "disc_cup_segmentation", "oct_layer_segmentation"):
        metadata = json.loads((find_bundle(bundle) / "configs" / "metadata.json").read_text())
        assert f"{bundle} {metadata['version']}" in text
        assert performance(metadata) in text
    assert "up to 0.60 (small disc) or 0.75 (large disc) without glaucoma (Crowston 2004)" in text
    assert text.count("<svg") >= 8
    assert "text.jpg" in text
    assert "is not an image of a known format" in text


def test_a_report_of_many_photos_has_pages(
    examiner: Examiner, tmp_path: Path, draw_photo: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        draw_photo(tmp_path / "in" / f"{number}.png", number)
    run = examiner.run(tmp_path / "in", tmp_path / "out")
    list(run)
    monkeypatch.setattr(report, "CARDS_PER_PAGE", 2)
    write_report(run.folder, examiner.entries, DISCLAIMER)
    one, two = (Page(tmp_path / "out" / name) for name in ("report.html", "report_2.html"))
    assert (one.tags.count("article"), two.tags.count("article")) == (2, 1)
    assert "report_2.html" in one.links
    assert "report.html" in two.links
    monkeypatch.setattr(report, "CARDS_PER_PAGE", 3)
    write_report(run.folder, examiner.entries, DISCLAIMER)
    assert not (tmp_path / "out" / "report_2.html").exists()


def test_parquet_has_the_table(examined: Path) -> None:
    table = pd.read_parquet(examined / "results.parquet")
    with (examined / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(table.columns) == list(rows[0])
    assert len(table) == len(rows)
    assert table["vessel_density"].dtype == "float64"
    for number, row in enumerate(rows):
        for column, cell in row.items():
            value: Any = table[column].iloc[number]
            if cell == "":
                assert pd.isna(value)
            else:
                assert value == (float(cell) if table[column].dtype == "float64" else cell)


def test_parquet_types(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('image,patient,x,y,z\n"a\nb",007,1,,\nc,,1e-3,text,\n')
    write_parquet(tmp_path / "a.csv", tmp_path / "a.parquet")
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert list(table["patient"]) == ["007", None] or pd.isna(table["patient"].iloc[1])
    assert list(table["image"]) == ["a\nb", "c"]
    assert list(table["x"]) == [1, 0.001]
    assert table["y"].iloc[1] == "text"
    assert table["z"].isna().all()


def test_every_reference_has_a_source() -> None:
    for shown in SHOWN:
        assert bool(shown.reference) == bool(shown.source)
        assert shown.source in {"", *SOURCES}
        if shown.low is not None or shown.high is not None:
            assert shown.reference
    assert len({shown.column for shown in SHOWN}) == len(SHOWN)


def test_lengths_are_shown_in_one_unit() -> None:
    names = [shown.column for shown in first_shown({"nfl_thickness_mean_px": "2", "nfl_thickness_mean_um": "8"})]
    assert names == ["nfl_thickness_mean_um"]
    names = [shown.column for shown in first_shown({"nfl_thickness_mean_px": "2", "nfl_thickness_mean_um": ""})]
    assert names == ["nfl_thickness_mean_px"]
    assert [shown.column for shown in first_shown({"cdr_vertical": ""})] == ["cdr_vertical"]


def test_a_column_that_is_not_in_the_table_is_shown_by_its_name() -> None:
    shown = shown_as("lesion_area_px2")
    assert (shown.label, shown.unit) == ("Lesion area", "px²")
    assert [one.column for one in first_shown({"new_count": "3"})] == ["new_count"]


def test_performance_in_words() -> None:
    assert performance({"eval_metrics": {"mean_dice": 0.91774, "auc": 0.9, "photos": 12}}) == (
        "mean Dice 0.918, AUC 0.9, photos 12"
    )
    assert all(entry.modality in ("fundus", "oct") for entry in TABLE)
