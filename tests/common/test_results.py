from __future__ import annotations

import csv
import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from common.errors import SettingError
from common.handlers import ResultWriter
from common.results import ResultFolder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill(results: ResultFolder, *names: str) -> None:
    for name in names:
        results.write(f"{name}_vessel.png", b"mask")
        results.add_row({"image": f"{name}.jpg", "mask_vessel": f"{name}_vessel.png", "density": 0.25, "note": ""})


def test_rows_and_files(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "new" / "out")
    fill(results, "a", "sub folder/b")
    results.add_row({"image": 'ü, "c"', "mask_vessel": "", "density": float("nan"), "note": "two\nlines"})
    rows = rows_of(results.results)
    assert [row["image"] for row in rows] == ["a.jpg", "sub folder/b.jpg", 'ü, "c"']
    assert [row["density"] for row in rows] == ["0.25", "0.25", ""]
    assert rows[2]["note"] == "two\nlines"
    assert (tmp_path / "new/out/sub folder/b_vessel.png").read_bytes() == b"mask"
    assert not list((tmp_path / "new").rglob("*.part"))
    assert "3 done, 0 skipped" in results.summary()


def test_done_images_are_known_to_the_next_run(tmp_path: Path) -> None:
    fill(ResultFolder(tmp_path), "a", "b")
    again = ResultFolder(tmp_path)
    assert again.done == {"a.jpg", "b.jpg"}
    fill(again, "c")
    assert [row["image"] for row in rows_of(again.results)] == ["a.jpg", "b.jpg", "c.jpg"]
    anew = ResultFolder(tmp_path, overwrite=True)
    assert anew.done == set()
    assert len(rows_of(again.results)) == 3  # until this run has something to put in its place
    anew.add_failure("a.jpg", "read", "is empty")
    assert len(rows_of(again.results)) == 3
    anew.add_row({"image": "d.jpg", "other": 1})
    assert rows_of(again.results) == [{"image": "d.jpg", "other": "1"}]


def test_every_cut_of_the_table_is_repaired(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    fill(results, "a", "b")
    whole = results.results.read_bytes()
    for length in range(len(whole) + 1):
        results.results.write_bytes(whole[:length])
        again = ResultFolder(tmp_path)
        complete = max(0, whole[:length].count(b"\n") - 1)
        assert len(again.done) == complete, length
        fill(again, *"ab"[complete:])
        assert results.results.read_bytes() == whole, length


@pytest.mark.parametrize("note", ["two\nlines", "a\r\nb", 'quote " and\nline'])
def test_cut_inside_a_value_with_a_line_break(tmp_path: Path, note: str) -> None:
    results = ResultFolder(tmp_path)
    results.add_row({"image": "a.jpg", "note": "plain"})
    results.add_row({"image": "b.jpg", "note": note})
    whole = results.results.read_bytes()
    for length in range(len(whole)):
        results.results.write_bytes(whole[:length])
        again = ResultFolder(tmp_path)
        assert again.done <= {"a.jpg"}, length
        if "b.jpg" not in again.done:
            again.add_row({"image": "c.jpg", "note": "after"})
        assert rows_of(again.results)[-1] == {"image": "c.jpg", "note": "after"}, length


def test_row_without_its_file_is_done_again(tmp_path: Path) -> None:
    fill(ResultFolder(tmp_path), "a", "b")
    (tmp_path / "a_vessel.png").unlink()
    again = ResultFolder(tmp_path)
    assert again.done == {"b.jpg"}
    again.start()
    assert [row["image"] for row in rows_of(again.results)] == ["b.jpg"]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_is_touched_before_the_run_starts(tmp_path: Path) -> None:
    earlier = ResultFolder(tmp_path / "out", settings=SETTINGS)
    fill(earlier, "a", "b")
    earlier.add_failure("c.jpg", "read", "is empty")
    with earlier.results.open("ab") as file:
        file.write(b"half a ro")
    (tmp_path / "out" / "a_vessel.png").unlink()
    before = contents(tmp_path / "out")

    again = ResultFolder(tmp_path / "out", settings=SETTINGS)
    again.bind_input(tmp_path)
    again.list_failure("d.txt", "list", "its suffix is not that of a photo")
    ResultFolder(tmp_path / "out", overwrite=True, settings={})
    with pytest.raises(SettingError, match="other settings"):
        ResultFolder(tmp_path / "out", settings={**SETTINGS, "threshold": 0.4})
    assert contents(tmp_path / "out") == before
    assert (again.done, again.earlier_rows, again.failed) == ({"b.jpg"}, 1, 0)

    again.start()
    assert [row["image"] for row in rows_of(again.results)] == ["b.jpg"]
    assert [row["image"] for row in rows_of(again.failures)] == ["d.txt"]
    assert again.failed == 1
    again.add_failure("c.jpg", "read", "is empty")
    again.start()
    assert [row["image"] for row in rows_of(again.failures)] == ["d.txt", "c.jpg"]


SETTINGS = {"ckpt_path": "model.pt", "threshold": 0.5, "pixel_size": None, "save_probability": False}


def test_settings_are_on_the_disk_before_the_first_file(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "out", settings=SETTINGS)
    results.bind_input(tmp_path / "in")
    assert not results.run.exists()
    results.write("a_vessel.png", b"mask")
    assert json.loads(results.run.read_text()) == {
        **SETTINGS,
        "ckpt_path": os.path.realpath("model.pt"),
        "dataset_dir": str(tmp_path / "in"),
    }
    assert '\n    "threshold": 0.5' in results.run.read_text()


def test_the_same_settings_go_on(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    first = ResultFolder(tmp_path, settings={**SETTINGS, "ckpt_path": tmp_path / "x" / ".." / "model.pt", "size": 1024})
    first.bind_input(tmp_path)
    fill(first, "a")
    before = first.run.stat().st_mtime_ns, first.run.read_bytes()
    again = ResultFolder(
        tmp_path, settings={"size": 1024.0, **SETTINGS, "ckpt_path": (tmp_path / "link" / "model.pt").as_uri()}
    )
    again.bind_input(tmp_path / "link")
    assert again.done == {"a.jpg"}
    fill(again, "b")
    fill(ResultFolder(tmp_path), "c")
    assert (first.run.stat().st_mtime_ns, first.run.read_bytes()) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"threshold": 0.4}, r"threshold was 0\.5 and is now 0\.4\): set output_dir to another folder, or overwrite"),
        ({"pixel_size": 5}, "pixel_size was null and is now 5"),
        ({"save_probability": True, "threshold": 1}, "threshold was .*; save_probability was false and is now true"),
        ({"ckpt_path": "https://x.org/m.pt"}, r'ckpt_path was "/.*model\.pt" and is now "https://x\.org/m\.pt"'),
        ({"new": "ü"}, 'new was not set and is now "ü"'),
    ],
)
def test_other_settings_stop_the_run(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    fill(ResultFolder(tmp_path, settings=SETTINGS), "a")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SettingError, match=message):
        ResultFolder(tmp_path, settings={**SETTINGS, **changed})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    anew = ResultFolder(tmp_path, overwrite=True, settings={**SETTINGS, **changed})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    fill(anew, "b")
    assert ResultFolder(tmp_path, settings={**SETTINGS, **changed}).done == {"b.jpg"}


def test_settings_are_free_when_no_row_is_left(tmp_path: Path) -> None:
    fill(ResultFolder(tmp_path, settings=SETTINGS), "a")
    (tmp_path / "a_vessel.png").unlink()
    again = ResultFolder(tmp_path, settings={**SETTINGS, "threshold": 0.1})
    again.add_row({"image": "b.jpg", "depth": 1})
    assert rows_of(again.results) == [{"image": "b.jpg", "depth": "1"}]
    assert json.loads(again.run.read_text())["threshold"] == 0.1


def test_another_input_stops_the_run(tmp_path: Path) -> None:
    first = ResultFolder(tmp_path / "out")
    first.bind_input(tmp_path / "x")
    fill(first, "a")
    with pytest.raises(SettingError, match=r'dataset_dir was ".*/x" and is now ".*/y"'):
        ResultFolder(tmp_path / "out").bind_input(tmp_path / "y")
    ResultFolder(tmp_path / "out", overwrite=True).bind_input(tmp_path / "y")


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"\xff"])
def test_rows_without_their_settings_stop_the_run(tmp_path: Path, content: bytes | None) -> None:
    results = ResultFolder(tmp_path, settings=SETTINGS)
    fill(results, "a")
    results.run.unlink()
    if content is not None:
        results.run.write_bytes(content)
    with pytest.raises(SettingError, match=r"run\.json.*: set output_dir to another folder, or overwrite"):
        ResultFolder(tmp_path, settings=SETTINGS)
    fill(ResultFolder(tmp_path, overwrite=True, settings=SETTINGS), "a")
    assert ResultFolder(tmp_path, settings=SETTINGS).done == {"a.jpg"}


@pytest.mark.parametrize("value", ["false", "no", 1, None])
def test_flags_are_true_or_false(tmp_path: Path, value: Any) -> None:
    fill(ResultFolder(tmp_path), "a")
    with pytest.raises(SettingError, match=f"overwrite is {value!r}: give True or False"):
        ResultFolder(tmp_path, overwrite=value)
    results = ResultFolder(tmp_path)
    assert results.done == {"a.jpg"}
    with pytest.raises(SettingError, match=f"save_probability is {value!r}: give True or False"):
        ResultWriter(results, ["vessel"], save_probability=value)


def written(results: ResultFolder, *names: str) -> None:
    """What the handler does with photos of these names."""
    photo = torch.zeros(3, 20, 24, dtype=torch.uint8)
    pred = torch.zeros(1, 20, 24)
    batch = [{"name": f"{name}.jpg", "output_name": name, "photo": photo} for name in names]
    engine = Engine(lambda engine, batch: None)
    engine.state.batch, engine.state.output = batch, [{"pred": pred} for _ in names]  # type: ignore[assignment]
    ResultWriter(results, ["vessel"])(engine)


def test_a_name_that_is_too_long_fails_alone(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    fits, long = "x" * (255 - len("_overlay.jpg")), "y" * 251
    written(results, long, fits)
    assert [row["image"] for row in rows_of(results.results)] == [f"{fits}.jpg"]
    (failure,) = rows_of(results.failures)
    assert (failure["image"], failure["stage"]) == (f"{long}.jpg", "write")
    assert "too long" in failure["reason"]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_disk_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    results = ResultFolder(tmp_path)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        written(results, "a")
    assert not list(tmp_path.glob("*.part"))


def test_failures_begin_anew(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path)
    results.add_failure("a.jpg", "read", "is\nempty,  really")
    assert rows_of(results.failures) == [{"image": "a.jpg", "stage": "read", "reason": "is empty, really"}]
    assert "1 failed" in results.summary()
    assert str(results.failures) in results.summary()
    again = ResultFolder(tmp_path)
    assert results.failures.exists()
    again.start()
    assert not results.failures.exists()


def test_other_columns_stop_the_run(tmp_path: Path) -> None:
    fill(ResultFolder(tmp_path), "a")
    again = ResultFolder(tmp_path)
    with pytest.raises(SettingError, match="columns density, depth, mask_vessel, note"):
        again.add_row({"image": "b.jpg", "depth": 1})
    with pytest.raises(SettingError, match="other settings"):
        again.add_row({"mask_vessel": "", "image": "b.jpg", "density": 1, "note": ""})
    assert len(rows_of(again.results)) == 1


@pytest.mark.parametrize("content", [b"name,value\na,1\n", b"\xff\xfe\x00 binary\n", b"image,\xff\n1,2\n"])
def test_foreign_table_stops_the_run(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.csv").write_bytes(content)
    with pytest.raises(SettingError, match=r"results\.csv"):
        ResultFolder(tmp_path)
    assert (tmp_path / "results.csv").read_bytes() == content
    assert ResultFolder(tmp_path, overwrite=True).done == set()


@pytest.mark.parametrize("content", [b"image,note\na.jpg\n", b"image,note\na.jpg,x,y,z\n", b"image,note\n\n"])
def test_row_of_another_length_does_not_break(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "results.csv").write_bytes(content)
    assert ResultFolder(tmp_path).done <= {"a.jpg"}


@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/tmp/absolute_out.png"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    results = ResultFolder(tmp_path / "out")
    with pytest.raises(SettingError, match="outside"):
        results.write(name, b"")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_folders_and_settings_that_are_not_in_utf8(tmp_path: Path) -> None:
    misnamed = os.fsdecode(bytes(tmp_path) + b"/b\xe9")
    with pytest.raises(SettingError, match=r"The output folder .*/b\\udce9 has a name that is not in UTF-8: rename it"):
        ResultFolder(misnamed)
    with pytest.raises(SettingError, match=r"table_path .*/b\\udce9 has a name that is not in UTF-8"):
        ResultFolder(tmp_path / "out", settings={"table_path": misnamed})
    with pytest.raises(SettingError, match=r"The input folder .*/b\\udce9 has a name that is not in UTF-8"):
        ResultFolder(tmp_path / "out").bind_input(misnamed)


def test_no_file_has_two_names(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "out")
    results.write("other/b.png", b"mask")
    with pytest.raises(SettingError, match=r"masks/\.\./other/b\.png has a part '\.\.'"):
        results.write("masks/../other/b.png", b"thumbnail")
    assert (tmp_path / "out" / "other" / "b.png").read_bytes() == b"mask"


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingError, match="outside"):
        results.write("link/a.png", b"")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_names_that_only_look_like_a_way_out(tmp_path: Path) -> None:
    results = ResultFolder(tmp_path / "out")
    for name in ("a..b.png", "..a.png", "x/..c/d.png"):
        results.write(name, b"1")
        assert (tmp_path / "out" / name).read_bytes() == b"1"


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "sub"):
        with pytest.raises(SettingError, match="cannot be written to"):
            ResultFolder(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(SettingError, match="cannot be written to"):
            ResultFolder(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_row_is_on_the_disk_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Any] = []
    original = os.fsync

    def record(descriptor: int) -> None:
        synced.append(descriptor)
        original(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    fill(ResultFolder(tmp_path), "a")
    assert len(synced) >= 2
