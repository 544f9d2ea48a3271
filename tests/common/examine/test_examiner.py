from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import common.bundles
import common.examine.examiner as module
import common.pixels
import common.transforms
import common.transforms.field_of_view as field_of_view
from common.bundles import open_bundle
from common.cli import WRONG_SETTING, main
from common.errors import SettingError
from common.examine import Entry, Examiner, examine
from common.examine.table import FUNDUS, TABLE, choose
from common.pixels import read_pixels

Draw = Callable[..., Path]
Settings = dict[str, dict[str, Any]]
BUNDLES = ("vessel_segmentation", "disc_cup_segmentation", "oct_layer_segmentation")
NAMES = ["a_scan.png", "b_OD.png", "visit 1/c.jpg", "visit 1/d.tif", "visit 1/e <b>&amp;.png"]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def failures_of(folder: Path) -> dict[str, str]:
    with (folder / "failures.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row["reason"] for row in csv.DictReader(file)}


def test_a_mixed_folder(examined: Path) -> None:
    rows = rows_of(examined)
    assert [row["image"] for row in rows] == NAMES
    assert [row["modality"] for row in rows] == ["oct", "fundus", "fundus", "oct", "fundus"]
    for row in rows:
        files = [row[name] for name in row if row[name].startswith(("masks/", "overlays/", "thumbnails/", "profiles/"))]
        assert len(files) == (4 if row["modality"] == "oct" else 6)
        assert all((examined / name).is_file() for name in files)
        assert (row["vessel_density"] == "") == (row["modality"] == "oct") == (row["retina_thickness_mean_px"] != "")
    assert rows[1]["eye"] == "OD"
    assert (rows[2]["width_px"], rows[2]["height_px"]) == ("200", "240")
    assert rows[1]["fov_found"] == "true"
    assert float(rows[1]["fov_diameter_px"]) == pytest.approx(190, abs=12)
    assert failures_of(examined) == {
        "readme.txt": "its suffix is not that of a photo or B-scan",
        "empty.png": "is empty (0 bytes)",
        "text.jpg": "is not an image of a known format",
    }


def test_run_json_says_what_was_run(examined: Path) -> None:
    content = json.loads((examined / "run.json").read_text())
    assert set(content["settings"]["bundles"]) == set(BUNDLES)
    rows = rows_of(examined)
    for name, about in content["settings"]["bundles"].items():
        assert len(about["weights"]) == 64
        assert {row[f"{name}_sha256"] for row in rows} == {"", about["weights"]}
        assert {row[f"{name}_version"] for row in rows} == {"", about["version"]}
    assert content["versions"]["monai"]
    assert "Not a medical device" in content["disclaimer"]
    (run,) = content["runs"]
    assert (run["done"], run["skipped"], run["failed"]) == (5, 0, 3)
    assert 0 < run["network_seconds"] < run["seconds"]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_masks_and_values_are_those_of_the_bundle_alone(
    settings: Settings, bundle: str, examined: Path, mixed: Path, tmp_path: Path
) -> None:
    small = {**settings[bundle], "device": "$torch.device('cpu')"}
    small |= {"dataset_dir": str(mixed), "output_dir": str(tmp_path)}
    open_bundle(common.bundles.find_bundle(bundle), ["inference.json"], small).run()
    alone = {row["image"]: row for row in rows_of(tmp_path)}
    compared = 0
    for row in rows_of(examined):
        if not row[f"{bundle}_sha256"]:
            continue
        for column, value in alone[row["image"]].items():
            if column == "labels" or column.startswith("mask_"):
                one, other = (read_pixels(path) for path in (tmp_path / value, examined / row[column]))
                assert np.array_equal(one, other)
                compared += 1
            elif column not in ("overlay", "figure", "profile", "note"):
                assert row[column] == value
    assert compared == {"vessel_segmentation": 3, "disc_cup_segmentation": 6, "oct_layer_segmentation": 2}[bundle]


def test_each_photo_is_read_and_its_field_of_view_found_once(
    draw_photo: Draw, examiner: Examiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_photo(tmp_path / "in" / "a.png", 1)
    draw_photo(tmp_path / "in" / "b.png", 2)
    calls: list[str] = []

    def counting(name: str, function: Any) -> Any:
        def count(*args: Any) -> Any:
            calls.append(name)
            return function(*args)

        return count

    monkeypatch.setattr(common.pixels, "_decode", counting("read", common.pixels._decode))
    monkeypatch.setattr(field_of_view, "_find", counting("view", field_of_view._find))
    assert len(list(examiner.run(tmp_path / "in", tmp_path / "out"))) == 2
    assert sorted(calls) == ["read", "read", "view", "view"]


def test_examinations(draw_photo: Draw, draw_scan: Draw, examiner: Examiner, tmp_path: Path) -> None:
    photo, scan = draw_photo(tmp_path / "a.png", 1), draw_scan(tmp_path / "b.png", 2)
    (tmp_path / "c.png").write_text("none")
    run = examiner.run([photo, scan, tmp_path / "c.png"], tmp_path / "out")
    assert run.total == 3
    one, two, three = run
    assert (one.image, one.path, one.modality, one.failure) == ("a.png", str(photo), "fundus", None)
    assert list(one.masks) == ["vessel", "disc", "cup"]
    assert list(one.overlays) == ["vessel_segmentation", "disc_cup_segmentation"]
    assert all(path.is_file() for path in [*one.masks.values(), *one.overlays.values()])
    assert 0 < one.row["vessel_density"] < 1
    assert (two.modality, list(two.masks), list(two.overlays)) == ("oct", ["labels"], ["oct_layer_segmentation"])
    assert (three.modality, three.row, three.failure) == ("", {}, "is not an image of a known format")
    assert "2 done" in run.summary()
    assert "report.html" in run.summary()


def test_what_a_table_says(examiner: Examiner, tmp_path: Path, draw_photo: Draw, draw_scan: Draw) -> None:
    draw_photo(tmp_path / "a.png", 1)
    draw_scan(tmp_path / "b.png", 2)
    draw_scan(tmp_path / "c.png", 3)
    lines = [
        "path,patient,eye,age,sex,pixel_size,axial_scale,lateral_scale,modality",
        "a.png,007,left,60,m,8,3.5,,",
        "b.png,7,,,,8,3.5,12,",
        "c.png,,,,,,,,fundus",
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert [one.failure for one in examiner.run(tmp_path / "t.csv", tmp_path / "out")] == [None] * 3
    one, two, three = rows_of(tmp_path / "out")
    assert [one[name] for name in ("patient", "eye", "age", "sex", "pixel_size_um")] == [
        "007",
        "OS",
        "60",
        "male",
        "8",
    ]
    assert float(one["vessel_calibre_mean_um"]) == pytest.approx(8 * float(one["vessel_calibre_mean_px"]), rel=1e-5)
    assert two["modality"] == "oct"
    assert "the table's axial_scale is that of B-scans and was not used" in one["note"]
    assert "the table's pixel_size is that of fundus photos and was not used" in two["note"]
    assert [two[name] for name in ("axial_scale_um", "lateral_scale_um")] == ["3.5", "12"]
    for statistic in ("mean", "max"):
        found = [float(two[f"retina_thickness_{statistic}_{unit}"]) for unit in ("um", "px")]
        assert found[0] == pytest.approx(3.5 * found[1], rel=1e-5)
    assert "retina_thickness_um" in (tmp_path / "out" / two["profile"]).read_text().partition("\n")[0]
    assert three["modality"] == "fundus"


def test_scales_of_a_run(examiner: Examiner, tmp_path: Path, draw_photo: Draw, draw_scan: Draw) -> None:
    draw_photo(tmp_path / "in" / "a.png", 1)
    draw_scan(tmp_path / "in" / "b.png", 2)
    part = examiner.only(["disc_cup_segmentation", "oct_layer_segmentation"], pixel_size=8.0, axial_scale=3.5)
    one, two = part.run(tmp_path / "in", tmp_path / "out")
    assert one.row["pixel_size_um"] == 8
    assert one.row["disc_diameter_vertical_um"] == pytest.approx(8 * one.row["disc_diameter_vertical_px"])
    assert two.row["retina_thickness_mean_um"] == pytest.approx(3.5 * two.row["retina_thickness_mean_px"])
    assert "was not used" not in one.row["note"] + two.row["note"]
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["axial_scale"] == 3.5
    assert examiner.scales["axial_scale"] is None
    with pytest.raises(SettingError, match="lateral_scale is 0; give the micrometres"):
        examiner.only(["oct_layer_segmentation"], lateral_scale=0)


def test_some_of_the_bundles(examiner: Examiner, tmp_path: Path, draw_photo: Draw) -> None:
    part = examiner.only(["disc_cup_segmentation"])
    (one,) = part.run(draw_photo(tmp_path / "a.png", 1), tmp_path / "out")
    assert list(one.masks) == ["disc", "cup"]
    assert "vessel_density" not in one.row
    with pytest.raises(SettingError, match="disc_cup_hqsam_segmentation is not loaded"):
        examiner.only(["disc_cup_hqsam_segmentation"])


def test_nothing_is_left_of_an_earlier_run(examiner: Examiner, tmp_path: Path, draw_photo: Draw) -> None:
    photo = draw_photo(tmp_path / "in" / "a.png", 1)
    list(examiner.run(tmp_path / "in", tmp_path / "out"))
    assert (tmp_path / "out" / "report.html").exists()
    photo.write_bytes(b"")
    list(examiner.run(tmp_path / "in", tmp_path / "out", overwrite=True))
    for name in ("results.csv", "results.parquet", "report.html"):
        assert not (tmp_path / "out" / name).exists()
    assert failures_of(tmp_path / "out") == {"a.png": "is empty (0 bytes)"}


def test_columns_do_not_depend_on_what_comes_first(
    draw_photo: Draw, draw_scan: Draw, examiner: Examiner, tmp_path: Path
) -> None:
    for name, photo_first in (("one", True), ("two", False)):
        draw_photo(tmp_path / name / ("a.png" if photo_first else "z.png"), 1)
        draw_scan(tmp_path / name / "b.png", 2)
        list(examiner.run(tmp_path / name, tmp_path / f"out_{name}"))
    one, two = (list(rows_of(tmp_path / name)[0]) for name in ("out_one", "out_two"))
    assert one == two
    assert one[-1] == "note"


def test_a_bundle_that_fails_leaves_the_others_and_is_tried_again(
    draw_photo: Draw, examiner: Examiner, tmp_path: Path
) -> None:
    draw_photo(tmp_path / "in" / "a.png", 1)
    draw_photo(tmp_path / "in" / "b.png", 2)

    def broken(*_: Any) -> None:
        raise RuntimeError("out of order")

    hook = examiner._loaded["vessel_segmentation"].runner.network.register_forward_pre_hook(broken)
    try:
        one, _ = examiner.run(tmp_path / "in", tmp_path / "out")
    finally:
        hook.remove()
    assert one.failure == "vessel_segmentation: RuntimeError: out of order"
    assert list(one.masks) == ["disc", "cup"]
    first, second = rows_of(tmp_path / "out")
    assert first["note"].startswith("vessel_segmentation failed: ")
    assert first["cdr_vertical"] != ""
    assert set(failures_of(tmp_path / "out")) == {"a.png", "b.png"}
    again = list(examiner.run(tmp_path / "in", tmp_path / "out"))
    assert [one.failure for one in again] == [None, None]
    assert not (tmp_path / "out" / "failures.csv").exists()
    assert all(row["vessel_density"] for row in rows_of(tmp_path / "out"))
    assert (first["image"], second["image"]) == ("a.png", "b.png")


@pytest.mark.parametrize("broken", ["forward", "postprocess"])
def test_what_comes_after_a_failure_is_run(
    broken: str, draw_photo: Draw, examiner: Examiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("a.png", "b.png")):
        draw_photo(tmp_path / "in" / name, number + 1)
    whole = [one.row for one in examiner.run(tmp_path / "in", tmp_path / "whole")]
    owner: Any = type(examiner._loaded["vessel_segmentation"].runner.network)
    if broken == "postprocess":
        owner = common.transforms.VesselBiomarkersd
    method = "forward" if broken == "forward" else "__call__"
    call, calls = getattr(owner, method), []

    def first_fails(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("out of order")
        return call(*arguments, **named)

    monkeypatch.setattr(owner, method, first_fails)
    first, second = examiner.run(tmp_path / "in", tmp_path / "out")
    assert first.failure is not None
    assert "out of order" in first.failure
    assert second.failure is None
    assert second.row == whole[1]


def test_a_photo_without_a_bundle_of_its_modality(draw_scan: Draw, weights: None, tmp_path: Path) -> None:
    draw_scan(tmp_path / "in" / "a.png", 1)
    (one,) = examine(tmp_path / "in", tmp_path / "out", ["disc_cup_segmentation"], device="cpu")
    assert one.failure == "no bundle for the modality 'oct' was chosen"
    assert failures_of(tmp_path / "out") == {"a.png": one.failure}


def test_temporary_folder(draw_photo: Draw, weights: None, tmp_path: Path) -> None:
    run = examine(draw_photo(tmp_path / "a.png", 1), bundles=["disc_cup_segmentation"], device="cpu")
    (one,) = run
    assert one.failure is None
    assert one.masks["disc"].is_file()
    assert run.folder.folder.is_dir()
    assert tmp_path not in run.folder.folder.parents


def test_a_bundle_gets_what_another_found(
    draw_photo: Draw, weights: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "bundles"
    root.mkdir()
    real = common.bundles.find_bundle("disc_cup_segmentation")
    (root / real.name).symlink_to(real)
    config = json.loads((real / "configs" / "inference.json").read_text())
    # What the first bundle found becomes the size of a pixel.
    copy = {"_target_": "CopyItemsd", "keys": "cdr_vertical", "names": "pixel_size"}
    config["preprocessing"]["transforms"].append(copy)
    other = root / "needy_segmentation"
    (other / "configs").mkdir(parents=True)
    (other / "configs" / "inference.json").write_text(json.dumps(config))
    (other / "configs" / "metadata.json").write_bytes((real / "configs" / "metadata.json").read_bytes())
    (other / "models").symlink_to(real / "models")
    monkeypatch.setattr(common.bundles, "BUNDLES", root)
    table = (Entry(real.name, FUNDUS), Entry(other.name, FUNDUS, needs=(real.name,), prefix="needy_"))
    monkeypatch.setattr(module, "choose", partial(choose, table=table))
    draw_photo(tmp_path / "in" / "a.png", 1)
    (one,) = examine(tmp_path / "in", tmp_path / "out", ["needy_segmentation"], device="cpu")
    assert one.failure is None
    (row,) = rows_of(tmp_path / "out")
    found = float(row["needy_disc_diameter_vertical_um"]) / float(row["needy_disc_diameter_vertical_px"])
    assert found == pytest.approx(float(row["cdr_vertical"]), rel=1e-5)
    assert row["mask_disc"] == "masks/a_disc.png"
    assert all(part.startswith("needy: ") for part in row["note"].split("; ") if part)
    assert row["needy_mask_disc"] == "masks/a_needy_disc.png"
    assert (tmp_path / "out" / "masks" / "a_needy_disc.png").is_file()


def test_choose() -> None:
    table = (
        Entry("vessel_segmentation", FUNDUS),
        Entry("disc_cup_hqsam_segmentation", FUNDUS, by_default=False),
        Entry("absent_classification", FUNDUS),
        Entry("waiting_classification", FUNDUS, needs=("absent_classification",)),
    )
    assert [entry.name for entry in choose(None, table)] == ["vessel_segmentation"]
    with pytest.raises(SettingError, match="There is no bundle absent_classification in this installation"):
        choose(["waiting_classification"], table)
    with pytest.raises(SettingError, match="Did you mean vessel_segmentation"):
        choose(["vessel_segmentations"], table)
    for number, entry in enumerate(TABLE):
        assert set(entry.needs) <= {earlier.name for earlier in TABLE[:number]}


def test_many_threads(draw_photo: Draw, examiner: Examiner, tmp_path: Path) -> None:
    inputs = [draw_photo(tmp_path / f"{number}.png", number % 4) for number in range(8)]
    found: dict[int, Any] = {}

    def go(number: int) -> None:
        (found[number],) = examiner.run([inputs[number]], tmp_path / f"out_{number}")

    threads = [threading.Thread(target=go, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for number, one in found.items():
        assert one.failure is None
        assert one.image == f"{number}.png"
        same = found[number % 4]
        assert one.row["vessel_density"] == same.row["vessel_density"]
        assert one.masks["vessel"].read_bytes() == same.masks["vessel"].read_bytes()


def test_workers_give_the_same_table(settings: Settings, examined: Path, mixed: Path, tmp_path: Path) -> None:
    list(Examiner(BUNDLES, "cpu", settings=settings, workers=2).run(mixed, tmp_path))
    assert (tmp_path / "results.csv").read_bytes() == (examined / "results.csv").read_bytes()
    assert (tmp_path / "failures.csv").read_bytes() == (examined / "failures.csv").read_bytes()


def test_resume(examiner: Examiner, examined: Path, mixed: Path, tmp_path: Path) -> None:
    for number in range(1, 4):
        run = examiner.run(mixed, tmp_path)
        for _ in range(2):
            next(run)
        run.close()
        done = len(rows_of(tmp_path))
        assert done >= number - 1
    run = examiner.run(mixed, tmp_path)
    assert run.total < 7
    list(run)
    assert (tmp_path / "results.csv").read_bytes() == (examined / "results.csv").read_bytes()
    with pytest.raises(SettingError, match="has results"):
        examiner.run(mixed, tmp_path, resume=False)
    run = examiner.run(mixed, tmp_path, overwrite=True)
    assert run.total == 7
    run.close()


def test_photos_in_a_folder_that_is_called_like_one_of_the_results(
    draw_photo: Draw, examiner: Examiner, tmp_path: Path
) -> None:
    draw_photo(tmp_path / "in" / "masks" / "a.png", 1)
    list(examiner.run(tmp_path / "in", tmp_path / "out"))

    run = examiner.run(tmp_path / "in", tmp_path / "out")

    assert (run.total, list(run)) == (0, [])
    with pytest.raises(SettingError, match="pixel_size"):
        examiner.only(BUNDLES, pixel_size=5.0).run(tmp_path / "in", tmp_path / "out")


def test_a_missing_file_is_made_again(draw_photo: Draw, examiner: Examiner, tmp_path: Path) -> None:
    draw_photo(tmp_path / "in" / "a.png", 1)
    draw_photo(tmp_path / "in" / "b.png", 2)
    list(examiner.run(tmp_path / "in", tmp_path / "out"))
    before = (tmp_path / "out" / "results.csv").read_bytes()
    (tmp_path / "out" / "masks" / "a_cup.png").unlink()
    assert [one.image for one in examiner.run(tmp_path / "in", tmp_path / "out")] == ["a.png"]
    assert (tmp_path / "out" / "results.csv").read_bytes() == before


def test_other_settings_are_refused(settings: Settings, examined: Path, mixed: Path) -> None:
    with pytest.raises(SettingError, match=r"pixel_size was null and is now 7\.5"):
        Examiner(BUNDLES, "cpu", 7.5, settings=settings).run(mixed, examined)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_refused_run_does_no_damage(
    settings: Settings, draw_photo: Draw, examiner: Examiner, mixed: Path, tmp_path: Path
) -> None:
    inputs, output = tmp_path / "in", tmp_path / "out"
    draw_photo(inputs / "a.png", 1)
    draw_photo(inputs / "b.png", 2)
    (inputs / "empty.png").write_bytes(b"")

    def broken(*_: Any) -> None:
        raise RuntimeError("out of order")

    # Every photo has a row, and is to be done again.
    hook = examiner._loaded["vessel_segmentation"].runner.network.register_forward_pre_hook(broken)
    try:
        list(examiner.run(inputs, output))
    finally:
        hook.remove()
    with (output / "results.csv").open("ab") as file:
        file.write(b"half a ro")
    before = contents(output)
    assert len(rows_of(output)) == 3
    (tmp_path / "wrong.csv").write_text("path,patients\nin/a.png,1\n")

    def other_settings() -> Any:
        return Examiner(BUNDLES, "cpu", 7.5, settings=settings).run(inputs, output)

    refused: dict[str, Callable[[], Any]] = {
        "pixel_size was null": other_settings,
        "has results": lambda: examiner.run(inputs, output, resume=False),
        "does not exist": lambda: examiner.run(tmp_path / "nothing", output),
        "dataset_dir was": lambda: examiner.run(mixed, output),
        "unknown column": lambda: examiner.run(tmp_path / "wrong.csv", output),
        "unknown column 'patients'": lambda: examiner.run(tmp_path / "wrong.csv", output, overwrite=True),
    }
    for said, run in refused.items():
        with pytest.raises(SettingError, match=said):
            run()
        assert contents(output) == before, said
    first = examiner.run(inputs, output)
    with pytest.raises(SettingError, match="Another run is writing"):
        examiner.run(inputs, output)
    assert contents(output) == before
    assert [one.failure for one in first] == [None, None, "is empty (0 bytes)"]
    assert [row["image"] for row in rows_of(output)] == ["a.png", "b.png"]
    assert failures_of(output) == {"empty.png": "is empty (0 bytes)"}


def test_results_of_another_command_are_refused(examiner: Examiner, mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text("image,thumbnail\na.png,thumbnails/a.jpg\n")
    (tmp_path / "thumbnails").mkdir()
    (tmp_path / "thumbnails" / "a.jpg").write_text("")
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(SettingError, match="are of another command"):
        examiner.run(mixed, tmp_path)


def test_two_runs_into_one_folder(
    examiner: Examiner, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = examiner.run(mixed, tmp_path / "out")
    next(first)
    assert main(["examine", str(mixed), str(tmp_path / "out"), "--bundles", "disc_cup_segmentation"]) == WRONG_SETTING
    assert f"Another run is writing into {tmp_path / 'out'}" in capsys.readouterr().err
    first.close()
    run = examiner.run(mixed, tmp_path / "out")
    run.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bundles": ["nothing"]}, "There is no bundle 'nothing' in --bundles"),
        ({"device": "abacus"}, "--device is 'abacus', which cannot be used"),
        ({"pixel_size": 0}, "pixel_size is 0; give the micrometres"),
        ({"workers": -1}, "--workers is -1"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Examiner(**options)


def start(inputs: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "common.cli", "examine", str(inputs), str(output), "--device", "cpu"]
    command += ["--bundles", "disc_cup_segmentation,oct_layer_segmentation"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def test_killed_and_started_again(draw_photo: Draw, draw_scan: Draw, weights: None, tmp_path: Path) -> None:
    inputs = tmp_path / "in"
    for number in range(6):
        (draw_scan if number % 3 == 1 else draw_photo)(inputs / f"{number}.png", number)
    (inputs / "3a.png").write_bytes((inputs / "3.png").read_bytes()[:5000])
    whole = start(inputs, tmp_path / "whole")
    assert whole.communicate()[1].count(b"failed") == 1
    assert whole.returncode == 0
    table = tmp_path / "killed" / "results.csv"
    for rows in (1, 4):
        process = start(inputs, table.parent)
        # One row is there at once where an earlier run has left some: a bit later the next is half done.
        while process.poll() is None and (not table.exists() or table.read_bytes().count(b"\n") <= rows):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    process = start(inputs, table.parent)
    process.communicate()
    assert process.returncode == 0
    for name in ("results.csv", "failures.csv", "results.parquet"):
        assert (table.parent / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    report = (table.parent / "report.html").read_text()
    assert report.count("<article") == 6
