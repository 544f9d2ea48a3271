from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image

from common.benchmark import Size
from common.bundles import BUNDLES, check_overrides, find_bundle
from common.cli import main
from common.errors import SettingError
from common.phantoms import write_fundus_phantoms

NAME = "vessel_segmentation"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the bundle that works on small pictures, with random weights."""
    folder = tmp_path_factory.mktemp("bundles")
    bundle = folder / NAME
    shutil.copytree(BUNDLES / NAME / "configs", bundle / "configs")
    path = bundle / "configs" / "inference.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), "diameter": 96, "window_size": 96}
    path.write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(0)
    network = ConfigParser(config).get_parsed_content("network_def")
    (bundle / "models").mkdir()
    torch.save(network.state_dict(), bundle / "models" / "model.pt")
    return folder


@pytest.fixture
def installed(bundles: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the command find that copy by its name."""
    monkeypatch.setattr("common.bundles.BUNDLES", bundles)
    return bundles


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A bundle's logging.conf has handlers that write to this test's captured output."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fundus_phantoms(tmp_path_factory.mktemp("photos"), 2, sizes=[(120, 150), (140, 130)]) / "image"


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], ["infer", "train", "evaluate", "search", "demo", "benchmark"]),
        (["infer", "--help"], ["BUNDLE INPUT OUTPUT", "results.csv", "--overwrite"]),
        (["infer", NAME, "a", "b", "--help"], ["BUNDLE INPUT OUTPUT"]),
        (["train", "-h"], ["BUNDLE DATASET_DIR DATA_LIST OUTPUT"]),
        (["evaluate", "--help"], ["BUNDLE DATASET_DIR DATA_LIST OUTPUT"]),
        (["search", "--help"], ["BUNDLE", "--space", "--storage"]),
        (["demo", "--help"], ["--count", "--output"]),
        (["benchmark", "--help"], ["--bundles", "--sizes"]),
    ],
)
def test_help(arguments: list[str], said: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    text = capsys.readouterr().err
    assert all(word in text for word in said)
    assert "FIRE_METADATA" not in text


def test_starts_without_the_large_libraries() -> None:
    code = "import sys, common.cli; print([name for name in ('torch', 'monai', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_infer_writes_what_monai_bundle_run_writes(
    installed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"save_probability": True, "threshold": 0.45, "network_def#dropout": 0.1}
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    assert main(["infer", NAME, str(photos), str(tmp_path / "ours"), *flags]) == 0
    spoken = capsys.readouterr()
    assert "2 done, 0 skipped (done before), 0 failed" in spoken.out
    assert "photo" in spoken.err

    bundle = installed / NAME
    given = {
        "config_file": bundle / "configs" / "inference.json",
        "bundle_root": bundle,
        "dataset_dir": photos,
        "output_dir": tmp_path / "theirs",
        **settings,
    }
    command = [part for name, value in given.items() for part in (f"--{name}", str(value))]
    subprocess.run([sys.executable, "-m", "monai.bundle", "run", *command], check=True, cwd=tmp_path)
    ours, theirs = hashes(tmp_path / "ours"), hashes(tmp_path / "theirs")
    assert len(ours) == 8
    assert ours.keys() == theirs.keys()
    probabilities = {name for name in ours if "_probability_" in name}
    assert {name for name in ours if ours[name] != theirs[name]} <= probabilities
    for name in probabilities:  # two processes may differ in the last bit of a float, and so by one grey value
        both = [np.asarray(Image.open(tmp_path / folder / name)) for folder in ("ours", "theirs")]
        assert np.abs(both[0].astype(int) - both[1].astype(int)).max() <= 1, name

    assert main(["infer", NAME, str(photos), str(tmp_path / "ours"), *flags]) == 0
    assert "0 done, 2 skipped" in capsys.readouterr().out


def test_infer_takes_hyphens_and_folders_named_like_numbers(
    installed: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "1e3")
    assert main(["infer", NAME, "1e3", "007", "--save-probability"]) == 0
    assert len(list(Path("007").glob("*_probability_vessel.png"))) == 2


def test_paths_in_flags_are_text(
    installed: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("5").write_text("image,eye\n" + "".join(f"{photo.name},OD\n" for photo in sorted(photos.iterdir())))
    given = ["infer", NAME, str(photos), "--output", "2024_11", "--table_path", "5", "--ckpt-path=1e3"]
    shutil.copy(installed / NAME / "models" / "model.pt", "1e3")
    assert main(given) == 0
    assert json.loads(Path("2024_11", "run.json").read_text())["table_path"] == str(tmp_path / "5")

    for command in ("to_via", "to-via"):
        assert main([command, "2024_11", str(photos), "--output", "3"]) == 0
        assert Path("3").is_file()
        Path("3").unlink()
    assert main(["infer", NAME, str(photos), "--output", "--overwrite"]) == 2
    assert "--output is True: give a path or a name." in capsys.readouterr().err
    assert main(["infer", NAME, str(photos), "out", "--table_path"]) == 2
    assert "--table_path is True: give a path or a name." in capsys.readouterr().err


def test_examine_takes_folders_named_like_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["examine", "007", "--output", "2024", "--bundles", "oct_layer_segmentation"]) == 2
    assert "The input 007 does not exist" in capsys.readouterr().err
    assert Path("2024").is_dir()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["ablate", "odir_classification", "a", "b", "c", "--seeds", "a,b"], "--seeds is a,b: give whole numbers"),
        (["ablate", "odir_classification", "a", "b", "c", "--seeds", "1.5"], "--seeds is 1.5: give whole numbers"),
        (["ablate", "odir_classification", "a", "b", "c", "--seeds", "0,-1"], "--seeds is 0,-1: give whole numbers"),
        (["ablate", "odir_classification", "a", "b", "c", "--variants", "5"], "variants is 5; give photo"),
        (["ablate", "odir_classification", "a", "b", "c", "--resamples", "x"], "resamples is 'x'; give the number"),
        (["ablate", "odir_classification", "a", "b", "c", "--configs", "5"], "configs has 5, and there is no"),
        (["to_via", "1", "2", "--output", "3"], "The table of results 1/results.csv cannot be read"),
        (["benchmark", "--sizes", "3"], "The size '3' in --sizes is not WIDTHxHEIGHT"),
        (["benchmark", "--bundles", "5"], "There is no BUNDLE '5'"),
        (["benchmark", "--repeats", "x"], "--repeats is 'x': give 1 or more."),
        (["benchmark", "--photos", "x"], "--photos is 'x': give 1 or more"),
        (["demo", "--count", "x"], "--count is 'x': give the number of pictures, 1 or more."),
        (["demo", "--count", "0"], "--count is 0: give the number of pictures, 1 or more."),
        (["train", "5", "6", "7", "8"], "There is no BUNDLE '5'"),
        (["infer", "--bundle", "5", "--input", "6", "--output", "7"], "There is no BUNDLE '5'"),
    ],
)
def test_flags_that_cannot_be_used(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["cpu", "None", "$torch.device('cpu')"])
def test_infer_takes_the_name_of_a_device(device: str, installed: Path, photos: Path, tmp_path: Path) -> None:
    photo = min(photos.iterdir())
    assert main(["infer", NAME, str(photo), str(tmp_path / "out"), "--device", device]) == 0


@pytest.mark.parametrize("device", ["abacus", "1.5", "True", "999"])
def test_infer_refuses_what_is_no_device(
    device: str, installed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", NAME, str(photos), str(tmp_path / "out"), "--device", device]) == 2
    error = capsys.readouterr().err
    assert "which cannot be used (" in error
    assert "give cpu or cuda." in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [
        ("--num_worker", "--num_workers"),
        ("--treshold", "--threshold"),
        ("--network_def#droput", "--network_def#dropout"),
        ("--val_data_loader", "--evaluator#val_data_loader"),
    ],
)
def test_infer_refuses_an_unknown_id(
    flag: str, nearest: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", NAME, str(photos), str(tmp_path / "out"), flag, "1"]) == 2
    (sentence,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("retina: ")]
    assert f"{flag} is no id of inference.json" in sentence
    assert f"the nearest is {nearest}" in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("command", "config"), [("train", "train.json"), ("evaluate", "train.json + evaluate.json")])
def test_train_and_evaluate_refuse_an_unknown_id(
    command: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, NAME, str(tmp_path), "list.json", str(tmp_path / "out"), "--num_epoch", "1"]) == 2
    assert f"--num_epoch is no id of {config}: the nearest is --epochs" in capsys.readouterr().err


def test_train_reports_a_wrong_setting_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", NAME, str(tmp_path), str(tmp_path / "no.json"), str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("retina: The data list")
    assert "no.json does not exist" in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("overrides", "accepted"),
    [
        ({"threshold": 1}, True),
        ({"network_def::dropout": 0.1}, True),
        ({"network_def#_disabled_": True}, True),
        ({"evaluator#non_blocking": True}, True),
        ({"preprocessing#transforms#0#keys": "image"}, True),
        ({"preprocessing#transforms#99#keys": "image"}, False),
        ({"network_def#strides": [2]}, False),
        ({"network_def#strides": [2], "network_def#_target_": "monai.networks.nets.UNet"}, True),
        ({"threshold#deeper": 1}, False),
    ],
)
def test_overrides_are_ids_or_arguments(overrides: dict[str, Any], accepted: bool) -> None:
    config = json.loads((BUNDLES / NAME / "configs" / "inference.json").read_text(encoding="utf-8"))
    if accepted:
        check_overrides(config, overrides, "inference.json")
    else:
        with pytest.raises(SettingError, match="is no id of"):
            check_overrides(config, overrides, "inference.json")


def test_unknown_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", "vesel_segmentation", "a", "b"]) == 2
    assert f"Did you mean {NAME}?" in capsys.readouterr().err
    with pytest.raises(SettingError, match="is no bundle"):
        find_bundle(str(tmp_path))


@pytest.mark.parametrize("wrong", ["input", "weights", "twice"])
def test_a_wrong_setting_is_one_sentence(
    wrong: str, installed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "input": [str(tmp_path / "nothing"), str(tmp_path / "out")],
        "weights": [str(photos), str(tmp_path / "out"), "--ckpt_path", "absent.pt"],
        "twice": [str(photos), str(tmp_path / "out"), "--output_dir", str(tmp_path / "other")],
    }
    said = {"input": "nothing does not exist", "weights": "absent.pt do not exist", "twice": "--output_dir is already"}
    assert main(["infer", NAME, *given[wrong]]) == 2
    error = capsys.readouterr().err
    assert said[wrong] in error
    assert "Traceback" not in error


def test_a_refused_run_does_no_damage(
    installed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    shutil.copytree(photos, folder)
    (folder / "broken.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no photo")
    assert main(["infer", NAME, str(folder), str(output)]) == 0
    mask, other = sorted(output.glob("*_vessel.png"))
    mask.unlink()
    before = hashes(output)
    assert "failures.csv" in before

    (tmp_path / "table.csv").write_text("image,eye\nabsent.png,OD\n")
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    refused = {
        "other settings": [str(folder), "--threshold", "0.4"],
        "dataset_dir was": [str(photos)],
        "does not exist": [str(tmp_path / "nothing")],
        "is now": [str(folder), "--table_path", str(tmp_path / "table.csv")],
        "bad.pt": [str(folder), "--ckpt_path", str(tmp_path / "bad.pt")],
        "bad.pt is no checkpoint": [str(folder), "--ckpt_path", str(tmp_path / "bad.pt"), "--overwrite"],
        "no row of the photo": [str(folder), "--table_path", str(tmp_path / "table.csv"), "--overwrite"],
    }
    for said, (given, *flags) in refused.items():
        assert main(["infer", NAME, given, str(output), *flags]) == 2
        assert said in capsys.readouterr().err
        assert hashes(output) == before, said

    assert main(["infer", NAME, str(folder), str(output)]) == 0
    assert mask.is_file()
    assert {name: digest for name, digest in hashes(output).items() if name == other.name} == {
        other.name: before[other.name]
    }


def test_exit_code_tells_whether_all_failed(
    installed: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"")
    assert main(["infer", NAME, str(folder), str(tmp_path / "out")]) == 1
    spoken = capsys.readouterr()
    assert "0 done, 0 skipped (done before), 1 failed" in spoken.out
    assert "failures.csv" in spoken.out

    shutil.copy(sorted(photos.iterdir())[0], folder)
    assert main(["infer", NAME, str(folder), str(tmp_path / "out")]) == 0
    assert "1 done, 0 skipped (done before), 1 failed" in capsys.readouterr().out


def test_a_misspelt_flag_is_found_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--cuont", "1"])
    assert ended.value.code == 2
    assert "--cuont" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_demo(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundles"
    shutil.copytree(bundles, folder)
    shutil.copytree(folder / NAME, folder / "other_segmentation")
    shutil.copytree(folder / NAME / "configs", folder / "untrained_segmentation" / "configs")
    monkeypatch.setattr("common.bundles.BUNDLES", folder)
    output = tmp_path / "demo"
    assert main(["demo", "--output", str(output), "--count", "2"]) == 0
    text = capsys.readouterr().out
    assert "other_segmentation is left out: it has weights, but no entry" in text
    assert "untrained_segmentation is left out: it has no models/model.pt" in text
    (row,) = [line.split() for line in text.splitlines() if line.startswith(f"{NAME}  ")]
    assert row[1] == "2/2"
    truth = [np.asarray(Image.open(path)) > 0 for path in sorted((output / "phantoms_2" / "mask").iterdir())]
    found = [np.asarray(Image.open(path)) > 0 for path in sorted((output / NAME).glob("*_vessel.png"))]
    dice = np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(truth, found, strict=True)])
    assert float(row[2]) == pytest.approx(dice, abs=1e-3)
    assert len(list((output / NAME).glob("*_overlay.jpg"))) == 2

    # It runs again, and says why a bundle did not finish.
    (folder / NAME / "models" / "model.pt").write_bytes(b"no weights")
    assert main(["demo", "--output", str(output), "--count", "2"]) == 1
    spoken = capsys.readouterr()
    assert "0/2" in spoken.out
    assert "is no checkpoint that can be read" in spoken.err


def test_demo_and_benchmark_of_b_scans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "oct_layer_segmentation"
    shutil.copytree(BUNDLES / name, tmp_path / "bundles" / name)
    monkeypatch.setattr("common.bundles.BUNDLES", tmp_path / "bundles")
    output = tmp_path / "demo"

    assert main(["demo", "--output", str(output), "--count", "2"]) == 0
    small = ["--sizes", "160x128", "--repeats", "1", "--photos", "0"]
    assert main(["benchmark", *small, "--output", str(tmp_path / "table.md")]) == 0

    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith(f"{name}  ")]
    assert row[1] == "2/2"
    scores = []
    for path in sorted((output / "oct_phantoms_2" / "labels").iterdir()):
        truth = np.asarray(Image.open(path))
        found = np.asarray(Image.open(output / name / f"{path.stem}_labels.png"))
        layers = [(found == layer, truth == layer) for layer in range(1, 8)]
        scores += [2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in layers]
    assert float(row[2]) == pytest.approx(np.mean(scores), abs=1e-3)
    assert "| 160x128 |" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_demo_without_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("common.bundles.BUNDLES", tmp_path)
    assert main(["demo", "--output", str(tmp_path / "out")]) == 2
    assert "No bundle has weights" in capsys.readouterr().err


def test_benchmark(installed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "table.md"
    assert main(["benchmark", "--bundles", NAME, "--sizes", "140x120", "--repeats", "1", "--output", str(output)]) == 0
    text = output.read_text(encoding="utf-8")
    assert text in capsys.readouterr().out
    (row,) = [line for line in text.splitlines() if line.startswith("| 140x120 |")]
    *steps, total, ratio, memory = [cell.strip() for cell in row.strip("|").split("|")][1:]
    assert len(steps) == 5
    assert all(float(step) > 0 for step in steps)
    assert float(total) == pytest.approx(sum(map(float, steps)), abs=0.003)
    assert float(ratio) >= 1
    assert 0.1 < float(memory.removesuffix(" GB")) < 4
    forms = [
        line.split("|")[1:] for line in text.splitlines() if "eager" in line or "TorchScript" in line or "ONNX" in line
    ]
    rows = {form[0].strip(): form for form in forms if len(form) > 3}
    assert float(rows["eager, float32"][2]) == 1
    for name in ("TorchScript (traced, frozen)", "ONNX Runtime"):
        assert float(rows[name][3]) < 1e-3
    assert any("bfloat16" in name for name in rows)


@pytest.mark.parametrize("text", ["565", "565x", "ax3", "1x2x3"])
def test_size_is_width_x_height(text: str) -> None:
    assert str(Size.parse("565x584")) == "565x584"
    with pytest.raises(SettingError, match="WIDTHxHEIGHT"):
        Size.parse(text)
