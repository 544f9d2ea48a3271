from __future__ import annotations

import csv
import errno
import itertools
import json
import os
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader
from monai.transforms import Compose, Lambdad
from PIL import Image

from common.data import (
    Failure,
    TolerantDataset,
    _output_names,
    collate_one,
    failure_of,
    list_patients_photos,
    list_photos,
    list_scans,
    load_data_list,
    sampling_weights,
)
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
    assert not results.failures.exists()
    results.start()
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


def names_of(folder: Path, output: Path) -> list[str]:
    results = ResultFolder(output)
    names = [item["name"] for item in list_photos(folder, results)]
    results.start()
    return names


def failures_of(output: Path) -> dict[str, str]:
    with (output / "failures.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: f"{row['stage']}: {row['reason']}" for row in csv.DictReader(file)}


MISNAMED = os.fsdecode(b"m\xfcller.png")


def test_names_that_are_not_in_utf8(tmp_path: Path) -> None:
    for name in ("a.png", MISNAMED, os.fsdecode(b"visit \xe9/b.png")):
        write_photo(tmp_path / "in" / name)
    (tmp_path / "in" / os.fsdecode(b"note\xe9.txt")).touch()
    (tmp_path / "in" / os.fsdecode(b"link\xe9.png")).symlink_to("gone")
    table = tmp_path / "table.csv"
    table.write_text("image,eye\na.png,OD\n")
    results = ResultFolder(tmp_path / "out")

    assert [item["name"] for item in list_photos(tmp_path / "in", results, table)] == ["a.png"]

    results.start()
    found = failures_of(tmp_path / "out")
    reason = "list: has a name that is not in UTF-8 (as in some ZIP archives): rename the file, or its folder"
    expected = dict.fromkeys(["m\\udcfcller.png", "note\\udce9.txt", "visit \\udce9/b.png"], reason)
    assert found == {**expected, "link\\udce9.png": "list: is a link to a file that does not exist"}


def test_a_photo_alone_whose_name_is_not_in_utf8(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "in" / MISNAMED)
    words = r"holds no photo that can be used: 1 files, .*/m\\udcfcller\.png has a name that is not in UTF-8"
    for path in (photo, photo.parent):
        with pytest.raises(SettingError, match=words):
            list_photos(path, ResultFolder(tmp_path / "out"))


def test_linked_folders_and_files_are_read(tmp_path: Path) -> None:
    write_photo(tmp_path / "in" / "real" / "a.png")
    write_photo(tmp_path / "archive" / "deep" / "b.png")
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "archive")
    (tmp_path / "in" / "c.png").symlink_to(tmp_path / "archive" / "deep" / "b.png")
    assert names_of(tmp_path / "in", tmp_path / "out") == ["c.png", "linked/deep/b.png", "real/a.png"]
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_loops_of_links_end_and_a_folder_goes_by_its_own_name(tmp_path: Path) -> None:
    write_photo(tmp_path / "in" / "sub" / "a.png")
    write_photo(tmp_path / "beside" / "b.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in" / "sub")
    (tmp_path / "in" / "sub" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "up").symlink_to(tmp_path)
    (tmp_path / "beside" / "back").symlink_to(tmp_path / "in")
    assert names_of(tmp_path / "in", tmp_path / "out") == ["sub/a.png", "up/beside/b.png"]


def test_what_cannot_be_opened_is_recorded(tmp_path: Path) -> None:
    write_photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "gone.png").symlink_to(tmp_path / "missing.png")
    (tmp_path / "in" / "self.png").symlink_to("self.png")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    assert names_of(tmp_path / "in", tmp_path / "out") == ["a.png"]
    assert failures_of(tmp_path / "out") == {
        "gone.png": "list: is a link to a file that does not exist",
        "pipe.png": "list: is no regular file",
        "self.png": "list: cannot be read (Too many levels of symbolic links)",
    }
    with pytest.raises(SettingError, match=r"holds no photo: 0 files.*is no regular file"):
        list_photos(tmp_path / "in" / "pipe.png", ResultFolder(tmp_path / "out"))


def test_a_folder_that_cannot_be_listed_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "in" / "a.png")
    write_photo(tmp_path / "in" / "closed" / "b.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert names_of(tmp_path / "in", tmp_path / "out") == ["a.png"]
    assert failures_of(tmp_path / "out") == {"closed": "list: cannot be read (Permission denied)"}
    with pytest.raises(SettingError, match=r"holds no photo.*closed cannot be read \(Permission denied\)"):
        names_of(tmp_path / "in" / "closed", tmp_path / "out")


def test_an_output_folder_around_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_photo(tmp_path / "photos" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert names_of(Path("photos"), Path(".")) == ["a.png"]
    write_photo(tmp_path / "photos" / "photos" / "b.png")
    with pytest.raises(SettingError, match="would be written into the input folder"):
        names_of(Path("photos"), Path("."))


def test_an_output_folder_is_left_out_under_any_name(tmp_path: Path) -> None:
    write_photo(tmp_path / "in" / "a.png")
    write_photo(tmp_path / "in" / "out" / "sub" / "a_overlay.jpg")
    write_photo(tmp_path / "in" / "out_2" / "b.png")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / "out" / "sub")
    (tmp_path / "in" / "out" / "run.json").write_text("{}")
    assert names_of(tmp_path / "in", tmp_path / "in" / "out") == ["a.png", "out_2/b.png"]
    assert not (tmp_path / "in" / "out" / "failures.csv").exists()


def add(results: ResultFolder, item: dict[str, Any]) -> None:
    files = {"mask_vessel": f"{item['output_name']}_vessel.png", "overlay": f"{item['output_name']}_overlay.jpg"}
    for name in files.values():
        assert not (results.folder / name).exists(), f"{name} is of another photo"
        results.write(name, item["name"].encode())
    results.add_row({"image": item["name"], **files})


def test_photos_given_one_by_one_do_not_share_an_output(tmp_path: Path) -> None:
    names = ["a.png", "A.jpg", "a.png.tif", "a_.png", "sub/a.png"]
    for name in names:
        write_photo(tmp_path / "in" / name)
    for path in [*(tmp_path / "in" / name for name in names[:-1]), tmp_path / "in"]:
        results = ResultFolder(tmp_path / "out")
        for item in list_photos(path, results):
            add(results, item)
    assert results.done == set(names)
    assert results.outputs["a.png"] == "a"
    assert results.outputs["A.jpg"] == "A.jpg"


def test_a_run_that_goes_on_names_its_outputs_as_one_run(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "a.png.tif", "b.png", "b_probability.png", "b_probability_.jpg"]
    for name in names:
        write_photo(tmp_path / "in" / name)
    whole = {item["name"]: item["output_name"] for item in list_photos(tmp_path / "in", ResultFolder(tmp_path / "o"))}
    for number, chosen in enumerate(itertools.product([False, True], repeat=len(names))):
        earlier = {name: whole[name] for name, taken in zip(names, chosen, strict=True) if taken}
        assert _output_names(sorted(names), earlier) == whole, number


def test_photos_of_another_folder_are_not_taken_for_done(tmp_path: Path) -> None:
    first, second = (write_photo(tmp_path / folder / "a.png") for folder in ("x", "y"))
    results = ResultFolder(tmp_path / "out")
    for item in list_photos(first, results):
        add(results, item)
    assert names_of(tmp_path / "x", tmp_path / "out") == []
    with pytest.raises(SettingError, match=r'dataset_dir was ".*/x" and is now ".*/y"'):
        names_of(second, tmp_path / "out")


def test_overwrite_keeps_the_table_when_the_input_is_wrong(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "out")
    for item in list_photos(write_photo(tmp_path / "in" / "a.png"), results):
        add(results, item)
    before = results.results.read_bytes()
    again = ResultFolder(tmp_path / "out", overwrite=True)
    with pytest.raises(SettingError, match="does not exist"):
        list_photos(tmp_path / "im", again)
    assert results.results.read_bytes() == before
    assert [item["output_name"] for item in list_photos(tmp_path / "in", again)] == ["a"]


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
        ({"training": [{"image": "missing.png", "label": "a"}]}, "The image .*missing.png.*does not exist"),
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


# --- sampling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("balance", "share"), [(0.0, 0.2), (0.5, 1 / 3), (1.0, 0.5)])
def test_a_small_data_set_gets_its_share(balance: float, share: float) -> None:
    items = [{"dataset": "small" if number % 5 == 0 else "large"} for number in range(50)]

    weights = sampling_weights(items, balance)

    assert sum(weights) == pytest.approx(1)
    assert sum(weights[::5]) == pytest.approx(share)
    assert len(set(weights[::5])) == 1


def test_items_of_no_named_data_set_are_alike() -> None:
    assert sampling_weights([{}, {}, {}]) == pytest.approx([1 / 3] * 3)
    with pytest.raises(SettingError, match=r"dataset_balance is 1\.5"):
        sampling_weights([{}], 1.5)


# --- B-scans ---------------------------------------------------------------------------------------------------------


def test_b_scans_of_volumes_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_photo(folder / "visit" / "frame_1.png")
    write_photo(folder / "single.tif")
    scipy.io.savemat(folder / "visit" / "eye.mat", {"images": np.zeros((40, 50, 11), np.uint8)})
    (folder / "broken.mat").write_bytes(b"no volume")
    (folder / "notes.txt").write_text("seen on Monday")
    results = ResultFolder(tmp_path / "out")

    items = list_scans(folder, results)

    frames = [f"visit/eye.mat#{number:02d}" for number in range(1, 12)]
    assert [item["name"] for item in items] == ["single.tif", *frames, "visit/frame_1.png"]
    by_name = {item["name"]: item for item in items}
    assert by_name["visit/eye.mat#03"]["volume"] == "visit/eye.mat"
    assert by_name["visit/eye.mat#03"]["output_name"] == "visit/eye_03"
    assert by_name["visit/frame_1.png"]["volume"] == "visit"
    assert by_name["single.tif"]["volume"] == "."
    results.start()
    with (tmp_path / "out" / "failures.csv").open(encoding="utf-8", newline="") as file:
        failures = {row["image"]: row for row in csv.DictReader(file)}
    assert failures["notes.txt"]["reason"] == "its suffix is not that of a B-scan"
    assert failures["broken.mat"]["stage"] == "read"
    assert "cannot be decoded" in failures["broken.mat"]["reason"]


def test_frames_and_pictures_do_not_share_an_output(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_photo(folder / "eye_1.png")
    scipy.io.savemat(folder / "eye.mat", {"images": np.zeros((40, 50, 2), np.uint8)})

    items = list_scans(folder, ResultFolder(tmp_path / "out"))

    outputs = {item["name"]: item["output_name"] for item in items}
    assert len(set(outputs.values())) == 3
    assert outputs["eye.mat#2"] == "eye_2"


def test_finished_frames_are_skipped(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    scipy.io.savemat(folder / "eye.mat", {"images": np.zeros((40, 50, 3), np.uint8)})
    results = ResultFolder(tmp_path / "out")
    results.write("eye_2_labels.png", b"labels")
    results.add_row({"image": "eye.mat#2", "labels": "eye_2_labels.png"})

    again = ResultFolder(tmp_path / "out")
    items = list_scans(folder / "eye.mat", again)

    assert [item["name"] for item in items] == ["eye.mat#1", "eye.mat#3"]
    assert again.skipped == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_page_of_a_tiff_is_a_b_scan(tmp_path: Path, dtype: type) -> None:
    folder = tmp_path / "in"
    write_photo(folder / "visit" / "eye_02.png")
    tifffile.imwrite(folder / "visit" / "eye.tif", np.zeros((11, 40, 50), dtype), photometric="minisblack")
    whole = (folder / "visit" / "eye.tif").read_bytes()
    with tifffile.TiffFile(folder / "visit" / "eye.tif") as file:
        (folder / "cut.tiff").write_bytes(whole[: file.pages[5].offset])
    results = ResultFolder(tmp_path / "out")

    items = list_scans(folder, results)

    frames = [f"visit/eye.tif#{number:02d}" for number in range(1, 12)]
    assert [item["name"] for item in items] == [*frames, "visit/eye_02.png"]
    assert {item["volume"] for item in items[:-1]} == {"visit/eye.tif"}
    assert items[2]["output_name"] == "visit/eye_03"
    assert len({item["output_name"] for item in items}) == 12
    assert all("note" not in item for item in items)
    results.start()
    assert "cut.tiff,read,breaks off after page" in results.failures.read_text(encoding="utf-8")


def write_with_thumbnail(path: Path, shape: tuple[int, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photometric = "rgb" if len(shape) == 3 else "minisblack"
    with tifffile.TiffWriter(path) as file:
        for kind in (0, 1):
            picture = np.full(shape, 90, np.uint8)[:: 4**kind, :: 4**kind]
            file.write(picture, photometric=photometric, subfiletype=kind, contiguous=False)


def test_a_b_scan_with_a_thumbnail_is_one_with_a_note(tmp_path: Path) -> None:
    write_with_thumbnail(tmp_path / "in" / "eye.tif", (40, 50))

    (item,) = list_scans(tmp_path / "in", ResultFolder(tmp_path / "out"))

    assert (item["name"], item["note"]) == ("eye.tif", "only the first of 2 pages is used")


def test_further_pages_of_a_photo_are_noted(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_photo(folder / "a.tif")
    write_with_thumbnail(folder / "b.tif", (40, 50, 3))
    tifffile.imwrite(folder / "c.tif", np.zeros((5, 40, 50), np.uint16), photometric="minisblack")
    results = ResultFolder(tmp_path / "out")

    items = list_photos(folder, results)

    assert [item["name"] for item in items] == ["a.tif", "b.tif", "c.tif"]
    notes = [item.get("note") for item in items]
    assert notes == [None, "only the first of 2 pages is used", "only the first of 5 pages is used"]
    assert results.failed == 0


def test_what_is_not_known_is_noted_beside_the_pages(tmp_path: Path) -> None:
    write_with_thumbnail(tmp_path / "in" / "b.tif", (40, 50, 3))
    (tmp_path / "known.csv").write_text("image,age\nb.tif,\n")

    (item,) = list_patients_photos(
        tmp_path / "in", ResultFolder(tmp_path / "out"), tmp_path / "known.csv", clinical_columns={"age": None}
    )

    assert item["note"] == "only the first of 2 pages is used; not known: age"


def test_a_folder_without_b_scans(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing")

    with pytest.raises(SettingError, match=r"holds no B-scan: 1 files, none ending in .*\.mat"):
        list_scans(tmp_path / "in", ResultFolder(tmp_path / "out"))


def test_a_list_may_name_frames(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "eye.mat", {"images": np.zeros((40, 50, 3), np.uint8)})
    content = {"training": [{"image": "eye.mat#2", "label": "eye.mat#2"}]}
    (tmp_path / "list.json").write_text(json.dumps(content))

    (item,) = load_data_list(tmp_path / "list.json", tmp_path, "training")

    assert item["image"] == f"{tmp_path / 'eye.mat'}#2"
    assert item["name"] == "eye.mat#2"
    (tmp_path / "eye.mat").unlink()
    with pytest.raises(SettingError, match="does not exist"):
        load_data_list(tmp_path / "list.json", tmp_path, "training")


# --- photos of patients ----------------------------------------------------------------------------------------------


def test_patient_and_eye_are_those_of_the_table_else_of_the_name(tmp_path: Path) -> None:
    for name in ("in/1_left.png", "in/2_right.png", "in/photo.png"):
        write_photo(tmp_path / name)
    table = tmp_path / "table.csv"
    table.write_text("image,patient,eye,age\n1_left.png,A,,50\n2_right.png,B,OS,\nphoto.png,C,,70\n", encoding="utf-8")

    alone = list_patients_photos(tmp_path / "in", ResultFolder(tmp_path / "one"))
    told = list_patients_photos(tmp_path / "in", ResultFolder(tmp_path / "two"), table, clinical_columns={"age": None})

    assert [(item.get("patient"), item.get("eye"), item["note"]) for item in alone] == [
        ("1", "OS", ""),
        ("2", "OD", ""),
        (None, None, ""),
    ]
    assert [(item.get("patient"), item.get("eye"), item["note"]) for item in told] == [
        ("A", "OS", ""),
        ("B", "OS", "not known: age"),
        ("C", None, ""),
    ]
    assert told[0]["age"] == 50


def test_biomarkers_are_joined_and_what_is_missing_is_noted(tmp_path: Path) -> None:
    for name in ("in/a/x.png", "in/a/y.png", "in/z.png"):
        write_photo(tmp_path / name)
    table = tmp_path / "results.csv"
    table.write_text("image,cdr_vertical,ddls_stage,note\nx.png,0.5,3,\na/y.png,0.7,,\n", encoding="utf-8")
    columns = ["cdr_vertical", "ddls_stage"]

    found = list_patients_photos(tmp_path / "in", ResultFolder(tmp_path / "out"), None, table, columns)

    assert [(item["name"], item["cdr_vertical"], item["ddls_stage"], item["note"]) for item in found] == [
        ("a/x.png", 0.5, 3.0, ""),
        ("a/y.png", 0.7, None, "not known: ddls_stage"),
        ("z.png", None, None, "not known: cdr_vertical, ddls_stage"),
    ]
    without = list_patients_photos(tmp_path / "in", ResultFolder(tmp_path / "out"), None, table, [])
    assert not any("cdr_vertical" in item for item in without)
