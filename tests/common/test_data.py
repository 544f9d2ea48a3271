from __future__ import annotations

import itertools
import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad
from PIL import Image

from common.data import Failure, TolerantDataset, _output_names, collate_one, failure_of, list_photos, load_data_list
from common.errors import SettingError, UnreadableImageError
from common.results import ResultFolder
from common.transforms import LoadPhotod

OUTPUTS = ("_vessel.png", "_overlay.jpg", "_probability_vessel.png")


def write_photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 50, 3), 90, np.uint8)).save(path)
    return path


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(
            st.text("aAbB._ ", min_size=1, max_size=4).filter(lambda part: part not in (".", "..")),
            min_size=1,
            max_size=2,
        ).map("/".join),
        unique=True,
        max_size=8,
    ),
    st.lists(st.sampled_from([".jpg", ".JPG", ".png", ".tif", ".gif"]), min_size=8, max_size=8),
)
def test_no_two_inputs_share_an_output(stems: list[str], suffixes: list[str]) -> None:
    names = list(dict.fromkeys(stem + suffix for stem, suffix in zip(stems, suffixes, strict=False)))
    outputs = _output_names(names)
    assert set(outputs) == set(names)
    assert len({output.casefold() for output in outputs.values()}) == len(names)
    for name, output in outputs.items():
        assert Path(output).name not in ("", ".", "..")
        assert output.count("/") == name.count("/")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg"], ["a"]),
        (["x/a.jpg", "y/a.jpg"], ["x/a", "y/a"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["my photo.v1.jpg", "my photo.v2.jpg"], ["my photo.v1", "my photo.v2"]),
        (["..jpg"], ["..jpg"]),
        (["a..jpg"], ["a."]),
        (["é ü.png"], ["é ü"]),
    ],
)
def test_output_names(names: list[str], expected: list[str]) -> None:
    assert [_output_names(names)[name] for name in names] == expected


def test_output_names_that_look_like_another_with_its_suffix() -> None:
    names = [
        "a.jpg",
        "a.jpg.png",
        "a.png",
        "A.TIF",
        "b.png",
        "b_probability.png",
        "a.jpg_probability.gif",
        "b_vessel.png",
    ]
    outputs = _output_names(names)
    files = [output + ending for output in outputs.values() for ending in OUTPUTS]
    assert len({file.casefold() for file in files}) == len(files)


def test_photos_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.JPG", "sub/a.png", "sub/deep er/ü.tif", "a..b.bmp"):
        write_photo(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("x")
    results = ResultFolder(tmp_path / "in" / "out")
    write_photo(tmp_path / "in" / "out" / "b_overlay.jpg")
    items = list_photos(tmp_path / "in", results)
    assert sorted(item["name"] for item in items) == ["a..b.bmp", "b.JPG", "sub/a.png", "sub/deep er/ü.tif"]
    assert all(Path(item["image"]).is_file() for item in items)
    assert "notes.txt,list," in results.failures.read_text()
    assert "b_overlay" not in results.failures.read_text()


def test_one_photo_and_what_is_done(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "in" / "a.png")
    write_photo(tmp_path / "in" / "b.png")
    results = ResultFolder(tmp_path / "out")
    assert [item["name"] for item in list_photos(photo, results)] == ["a.png"]
    results.add_row({"image": "a.png"})
    assert [item["name"] for item in list_photos(tmp_path / "in", results)] == ["b.png"]
    assert results.skipped == 1


def test_output_names_do_not_depend_on_what_is_done(tmp_path: Path) -> None:
    write_photo(tmp_path / "in" / "a.png")
    write_photo(tmp_path / "in" / "a.jpg")
    results = ResultFolder(tmp_path / "out")
    before = {item["name"]: item["output_name"] for item in list_photos(tmp_path / "in", results)}
    results.add_row({"image": "a.jpg"})
    after = {item["name"]: item["output_name"] for item in list_photos(tmp_path / "in", results)}
    assert after == {"a.png": before["a.png"]}


def test_wrong_inputs_stop_the_run(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "out")
    with pytest.raises(SettingError, match="does not exist"):
        list_photos(tmp_path / "missing", results)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match="holds no photo: 0 files"):
        list_photos(tmp_path / "empty", results)
    with pytest.raises(SettingError, match="both"):
        list_photos(tmp_path / "out", results)


def data_list(folder: Path, content: Any) -> Path:
    path = folder / "list.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_data_list(tmp_path: Path) -> None:
    write_photo(tmp_path / "image" / "a.png")
    write_photo(tmp_path / "mask" / "a.png")
    path = data_list(tmp_path, {"training": [{"image": "image/a.png", "label": "mask/a.png", "patient": "7"}]})
    assert load_data_list(path, tmp_path, "training") == [
        {
            "image": str(tmp_path / "image/a.png"),
            "label": str(tmp_path / "mask/a.png"),
            "patient": "7",
            "name": "image/a.png",
        }
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": []}, "no items under 'training'"),
        ({"validation": [{}]}, "no items under 'training'"),
        ([], "no items under 'training'"),
        ("{", "no JSON file"),
        ({"training": [{"label": "a"}]}, "Item 0 of 'training'.*no 'image'"),
        ({"training": ["a.png"]}, "Item 0"),
        ({"training": {"image": "a.png"}}, "training"),
        ({"training": [{"image": 3}]}, "Item 0"),
        ({"training": [{"image": "missing.png"}]}, "The image .*missing.png.*does not exist"),
        ({"training": [{"image": "list.json", "label": "no.png"}]}, "The label .*no.png.*does not exist"),
    ],
)
def test_wrong_data_lists(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        load_data_list(data_list(tmp_path, content), tmp_path, "training")


def test_missing_list_and_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"none\.json does not exist"):
        load_data_list(tmp_path / "none.json", tmp_path, "training")
    with pytest.raises(SettingError, match="set dataset_dir"):
        load_data_list(tmp_path / "none.json", tmp_path / "none", "training")


def chained(*errors: BaseException) -> BaseException:
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


def test_reason_of_a_failure() -> None:
    unreadable = UnreadableImageError("x/a.png", "is empty (0 bytes)")
    assert failure_of("a", "network", chained(RuntimeError("applying"), unreadable)) == Failure(
        "a", "read", "is empty (0 bytes)"
    )
    assert failure_of("a", "network", chained(unreadable, OSError("low"))).reason == "is empty (0 bytes)"
    assert failure_of("a", "network", chained(RuntimeError("applying"), ValueError("bad"))) == Failure(
        "a", "network", "ValueError: bad"
    )
    with pytest.raises(SettingError, match="wrong"):
        failure_of("a", "network", chained(RuntimeError("applying"), SettingError("wrong"), KeyError("k")))


def test_broken_files_do_not_stop_a_loader(tmp_path: Path) -> None:
    good = write_photo(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:60])
    names = ["good.png", "empty.png", "text.jpg", "cut.png", "missing.png"]
    data = [{"image": str(tmp_path / name), "name": name} for name in names]
    loader = DataLoader(TolerantDataset(data, LoadPhotod("image")), batch_size=1, collate_fn=collate_one)
    batches = list(loader)
    assert batches[0]["image"].shape == (1, 3, 50, 40)
    assert [(batch.name, batch.stage) for batch in batches[1:]] == [(name, "read") for name in names[1:]]
    assert all(batch.reason.rstrip(string.punctuation) for batch in batches[1:])


def test_failing_preprocessing_is_a_failure_but_a_wrong_setting_stops() -> None:
    def fail(value: Any) -> Any:
        raise error

    error: Exception = ZeroDivisionError("by zero")
    dataset = TolerantDataset([{"image": torch.zeros(1), "name": "a"}], Compose([Lambdad("image", fail)]))
    assert dataset[0] == Failure("a", "preprocess", "ZeroDivisionError: by zero")
    error = SettingError("wrong")
    with pytest.raises(SettingError, match="wrong"):
        dataset[0]


def test_batches_of_whole_photos_are_refused() -> None:
    with pytest.raises(SettingError, match="batch size to 1"):
        collate_one([1, 2])
