from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from data_lists import DATASETS, load
from data_lists.__main__ import main

PROJECT = Path(__file__).resolve().parents[2]


def test_the_command_writes_a_list_from_another_folder(chase: Path, tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "data_lists", "chase_db1", "--root", str(chase), "--output", "lists/chase.json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[1].split() == ["training", "chase_db1", "10", "5", "-"]
    assert load(tmp_path / "lists" / "chase.json")["numTraining"] == 10


def test_options_reach_the_dataset(chase: Path, tmp_path: Path) -> None:
    output = tmp_path / "list.json"
    words = ["chase_db1", "--root", str(chase), "--output", str(output), "--observer", "2", "--train_first", "4"]

    assert main([*words, "--seed", "3", "--validation", "0.5", "--name", "kingston", "--exclude", "Image_06?.jpg"]) == 0

    content = load(output)
    assert (content["seed"], content["name"]) == (3, "kingston")
    assert {item["patient"] for item in content["test"]} == {"05"}
    assert content["numValidation"] == 4
    assert content["training"][0]["label"].endswith("_2ndHO.png")


def test_everything_mended_or_left_out_is_in_a_report_beside_the_list(
    pictures: Any, make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make["smdg"](pictures)
    (pictures.root / "optic-disc/optic-disc/BEH-3.png").unlink()
    words = ["smdg", "--root", str(pictures.root), "--output", str(tmp_path / "list.json")]

    assert main(words) == 0

    report = tmp_path / "list.report.csv"
    assert f"what was mended or left out: {report}" in capsys.readouterr().out
    with report.open(encoding="utf-8", newline="") as file:
        rows = [(row["remark"].split(":")[0], row["case"]) for row in csv.DictReader(file)]
    mended = [case for remark, case in rows if remark.endswith("were mended by the file name")]
    assert len(mended) == 21  # the cup of a row without a disc is not looked for
    assert mended[0] == "'/full-fundus/BEH-1.png' to full-fundus/full-fundus/BEH-1.png"
    assert ("rows of 10 left out, which name no disc mask", "EyePACS-2") in rows
    assert rows[-1] == (
        "rows left out, of which the photo or the disc mask is not there",
        "BEH-3 ('/optic-disc/BEH-3.png')",
    )


def test_without_remarks_there_is_no_report(chase: Path, tmp_path: Path) -> None:
    (tmp_path / "list.report.csv").write_text("of an earlier list")

    assert main(["chase_db1", "--root", str(chase), "--output", str(tmp_path / "list.json")]) == 0

    assert [path.name for path in tmp_path.glob("list*")] == ["list.json"]


def test_merge_by_command(pictures: Any, make: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make["chase_db1"](pictures, folder="CHASE/")
    make["stare"](pictures, photos="STARE/stare-images/")
    for path in pictures.root.glob("*.ppm"):
        path.rename(pictures.root / "STARE" / path.name)
    root, chase, stare, output = (str(path) for path in (pictures.root, *(tmp_path / f"{i}.json" for i in "abc")))
    assert main(["chase_db1", "--root", f"{root}/CHASE", "--output", chase]) == 0
    assert main(["stare", "--root", f"{root}/STARE", "--output", stare, "--test", "0.2"]) == 0

    words = ["merge", f"{chase}=CHASE", f"{stare}=STARE", "--root", root, "--output", output]
    assert main([*words, "--leave_out", "stare"]) == 0

    assert load(output)["numTest"] == 6
    assert "written to" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chase_db1", "--root", "R", "--output", "o", "--observer", "3"], "argument --observer: invalid choice"),
        (["chase_db1", "--root", "R", "--output", "o", "--observe", "2"], "unrecognized arguments: --observe"),
        (["hrf", "--root", "R", "--output", "o", "--observer", "2"], "unrecognized arguments: --observer"),
        (["hrf", "--root", "R", "--output", "o", "--test", "half"], "argument --test: 'half' is neither"),
        (["hrf", "--root", "R"], "required: --output"),
        (["hfr", "--root", "R", "--output", "o"], "invalid choice: 'hfr'"),
        ([], "required: DATASET"),
    ],
)
def test_a_wrong_command_line_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], chase: Path
) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(chase) if word == "R" else word for word in words])

    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_an_error_is_one_sentence_and_nothing_is_written(
    chase: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (chase / "Image_03L_1stHO.png").unlink()
    output = tmp_path / "list.json"

    assert main(["chase_db1", "--root", str(chase), "--output", str(output)]) == 1

    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: Image_03L.jpg")
    assert not output.exists()


def test_a_warning_is_one_sentence(chase: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (chase / "Image_03L.jpg").unlink()

    assert main(["chase_db1", "--root", str(chase), "--output", str(tmp_path / "list.json")]) == 0

    assert "\nwarning: Image_03L_1stHO.png is left out" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["list.json", "=HRF", "list.json="])
def test_merge_needs_a_list_and_a_folder(word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", word, "--root", str(tmp_path), "--output", str(tmp_path / "o.json")]) == 1
    assert "has to be LIST.json=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("name", [*DATASETS, "merge"])
def test_help_describes_every_dataset(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])

    assert end.value.code == 0
    text = capsys.readouterr().out
    for part in (
        "--root",
        "--output",
        *(("Layout:", "Terms:", "Get it:", "--seed", "--test") if name in DATASETS else ()),
    ):
        assert part in text
