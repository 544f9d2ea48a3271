"""Exports of VGG Image Annotator: nothing but the one error, whatever the file holds; and the way back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.cli import main
from common.errors import SettingError
from common.regions import draw_region
from common.via import COLUMNS, Region, masks_to_via, read_via, via_csv

FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["rect", "polygon", "polyline", "circle", "ellipse", "point", "star"])
KEYS = st.sampled_from(["x", "y", "width", "height", "cx", "cy", "r", "rx", "ry", "all_points_x", "all_points_y"])
shapes = st.builds(lambda name, rest: {"name": name, **rest}, NAMES, st.dictionaries(KEYS, json_values, max_size=5))
cells = st.text(max_size=30) | json_values.map(json.dumps) | shapes.map(json.dumps)
rows = st.lists(st.lists(cells, min_size=5, max_size=8), max_size=4)
entries = st.fixed_dictionaries(
    {"filename": st.text(max_size=5) | json_values},
    optional={
        "regions": json_values
        | st.lists(st.fixed_dictionaries({}, optional={"shape_attributes": shapes, "region_attributes": json_values}))
    },
)


def read_or_refuse(path: Path) -> dict[str, list[Region]] | None:
    """Read a file; draw what was read. Nothing but the documented error may come."""
    try:
        images = read_via(path)
    except SettingError as error:
        return None if str(path) in str(error) else pytest.fail(f"the file is not named: {error}")
    for found in images.values():
        for region in found:
            draw_region(np.zeros((16, 20), np.uint8), region.shape)
            assert all(isinstance(value, str) for value in region.values("Abnormality"))
    return images


@FUZZ
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "via.csv").write_bytes(content)

    assert read_or_refuse(tmp_path / "via.csv") is None


@FUZZ
@given(rows)
def test_any_cells_below_the_header(tmp_path: Path, table: list[list[str]]) -> None:
    with (tmp_path / "via.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        csv.writer(file).writerows([list(COLUMNS), *table])

    read_or_refuse(tmp_path / "via.csv")


@FUZZ
@given(json_values | st.dictionaries(st.text(max_size=5), entries | json_values, max_size=3))
def test_any_json(tmp_path: Path, content: Any) -> None:
    for whole in (content, {"_via_img_metadata": content}):
        (tmp_path / "via.json").write_text(json.dumps(whole), encoding="utf-8")

        read_or_refuse(tmp_path / "via.json")


def test_json_without_end(tmp_path: Path) -> None:
    (tmp_path / "via.json").write_text('{"a":' * 100_000)
    (tmp_path / "digits.json").write_text('{"a":' + "9" * 10_000 + "}")

    assert read_or_refuse(tmp_path / "via.json") is None
    assert read_or_refuse(tmp_path / "digits.json") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the header has the column 'filename' 0 times"),
        ("filename,filename\n", "line 1: the header has the column 'filename' 2 times"),
        (",".join(COLUMNS) + "\n\n", "name no image"),
        (",".join(COLUMNS) + "\n\na.jpg,1\n", "line 3: it has 2 cells, the header 7"),
        ('{"a": ', "line 1: it is no JSON"),
        ('{"a": {"filename": "a.jpg", "regions": 3}}', "image 'a': its regions are no list"),
        ('{"a": {"filename": "a.jpg", "regions": [{}]}}', "image 'a', region 0: shape_attributes is null"),
        (
            '{"a1": {"filename": "a.jpg", "size": 1}, "a2": {"filename": "a.jpg", "size": 2}}',
            "image 'a.jpg': there are two photos of this name, of 1 and of 2 bytes",
        ),
        ('{"_via_settings": {}}', "the project: _via_img_metadata is null"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "via.txt").write_text(content)

    with pytest.raises(SettingError, match=message):
        read_via(tmp_path / "via.txt")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"none\.csv cannot be read \(No such file"):
        read_via(tmp_path / "none.csv")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    rect = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 4}
    text = via_csv([("a, b.jpg", 5, [(rect, 'soft "x"')]), ("c.jpg", 6, [])], "Abnormality")
    (tmp_path / "via.csv").write_text(text, encoding="utf-8")

    images = read_via(tmp_path / "via.csv")

    assert {
        name: [(region.shape, region.values("Abnormality")) for region in found] for name, found in images.items()
    } == {
        "a, b.jpg": [(rect, ('soft "x"',))],
        "c.jpg": [],
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A run of inference on one photo, which found two exudates."""
    folder = tmp_path / "results"
    folder.mkdir()
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    (tmp_path / "photos" / "sub" / "a.png").write_bytes(b"some photo")
    mask = np.zeros((40, 50), np.uint8)
    mask[5:9, 6:20] = mask[30, 40] = 255
    Image.fromarray(mask).save(folder / "a_exudate.png")
    (folder / "results.csv").write_text("image,mask_exudate,overlay\nsub/a.png,a_exudate.png,a.jpg\n")
    return folder


def test_masks_become_polygons_and_masks_again(results: Path, tmp_path: Path) -> None:
    written = main(["to_via", str(results), str(tmp_path / "photos"), str(tmp_path / "out" / "via.csv")])

    assert written == 0
    images = read_via(tmp_path / "out" / "via.csv")
    assert list(images) == ["a.png"]
    assert "a.png,10," in (tmp_path / "out" / "via.csv").read_text()
    assert {region.values("Abnormality") for region in images["a.png"]} == {("exudate",)}
    mask = np.zeros((40, 50), np.uint8)
    for region in images["a.png"]:
        draw_region(mask, region.shape)
    with Image.open(results / "a_exudate.png") as truth:
        assert (mask * 255 == np.asarray(truth)).all()


def test_small_regions_are_left_out(results: Path, tmp_path: Path) -> None:
    assert masks_to_via(results, tmp_path / "photos", tmp_path / "via.csv", least_area=2) == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,overlay\nsub/a.png,a.jpg\n", "no column mask_"),
        ("image,mask_exudate\nb.png,a_exudate.png\n", r"The photo .*b\.png cannot be read"),
        ("photo,mask_exudate\nsub/a.png,a_exudate.png\n", "no column image"),
        ("image,mask_exudate\nsub/a.png,b.png\n", r"The mask .*b\.png: cannot be opened .* run inference again"),
        ("image,mask_exudate\nsub/a.png,a_exudate.png\nsub/a.png,a_exudate.png\n", "Two photos are called a.png"),
    ],
)
def test_results_that_cannot_be_written(results: Path, tmp_path: Path, table: str, message: str) -> None:
    (results / "results.csv").write_text(table)

    with pytest.raises(SettingError, match=message):
        masks_to_via(results, tmp_path / "photos", tmp_path / "via.csv")
    assert not (tmp_path / "via.csv").exists()
