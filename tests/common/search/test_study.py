from __future__ import annotations

import csv
import functools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from monai.bundle import ConfigWorkflow
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState, create_trial
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.bundles import BUNDLES
from common.cli import main
from common.phantoms import write_fundus_phantoms
from common.search.study import TrialReport

NAME = "vessel_segmentation"
CONFIGS = BUNDLES / NAME / "configs"
NETWORK = {"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 1, "features": [4] * 6}
SPACE: dict[str, Any] = {
    "space": {
        "images_per_batch": {"kind": "categorical", "choices": [1, 2]},
        "network_def.features.0": {"kind": "categorical", "choices": [4, 8]},
        "optimizer": {
            "kind": "categorical",
            "choices": {
                name: {"_target_": f"torch.optim.{name}", "params": "$@network.parameters()", "lr": "@learning_rate"}
                for name in ("Adam", "SGD")
            },
        },
    },
    "settings": {
        **{"network_def": NETWORK, "diameter": 96, "window_size": 96, "patch_size": 48, "patches_per_image": 1},
        **{"val_interval": 1, "checkpoint_interval": 1},
    },
}


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A bundle's logging.conf has handlers that write to this test's captured output."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags that name four phantoms and their list."""
    root = write_fundus_phantoms(tmp_path_factory.mktemp("phantoms"), 4, sizes=[(96, 120)])
    items = [
        {"image": f"image/{path.name}", "label": f"mask/{path.stem}.png", "patient": path.stem}
        for path in sorted((root / "image").iterdir())
    ]
    data_list = root / "list.json"
    data_list.write_text(json.dumps({"training": items[:2], "validation": items[2:]}), encoding="utf-8")
    return ["--dataset_dir", str(root), "--data_list", str(data_list)]


def command(folder: Path, data: list[str], space: Any, **options: Any) -> list[str]:
    """The arguments of `retina search`, with the results in ``out``."""
    path = folder / "space.json"
    path.write_text(json.dumps(space), encoding="utf-8")
    given = {"space": path, "output_dir": folder / "out", "epochs": 1, **options}
    return ["search", NAME, *data, *(text for name, value in given.items() for text in (f"--{name}", str(value)))]


@pytest.fixture
def arguments(data: list[str], tmp_path: Path) -> Callable[..., list[str]]:
    """Makes these arguments for the folder of the test."""
    return functools.partial(command, tmp_path, data)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def open_study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=NAME, storage=f"sqlite:///{folder / 'study.db'}")


@pytest.fixture(scope="module")
def grid(data: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole grid of four trainings, the first of which is a point that one of the choices breaks."""
    space = {
        "space": {
            "images_per_batch": {"kind": "categorical", "choices": [0, 2]},
            "network_def#features#0": {"kind": "categorical", "choices": [4, 8]},
        },
        "points": [{"images_per_batch": 2, "network_def.features.0": 8}],
        "settings": SPACE["settings"],
    }
    folder = tmp_path_factory.mktemp("grid")

    flags = {"epochs": 2, "learning_rate": 0.02, "loss::cldice_weight": 0.25, "num_workers": 0}
    assert main(command(folder, data, space, sampler="grid", **flags)) == 0
    return folder / "out"


def test_every_trial_is_a_training(grid: Path) -> None:
    found = rows(grid)

    assert [(row["images_per_batch"], row["network_def#features#0"]) for row in found] == [
        *(("2", "8"), ("0", "4"), ("0", "8"), ("2", "4"))
    ]
    assert [row["state"] for row in found] == ["complete", "failed", "failed", "complete"]
    assert "batch_size" in found[1]["error"]
    assert "Traceback" in Path(found[1]["folder"], "error.txt").read_text(encoding="utf-8")
    for row in (found[0], found[3]):
        folder = Path(row["folder"])
        scalars = {
            tag
            for path in folder.glob("events.out.tfevents.*")
            for tag in EventAccumulator(str(path)).Reload().Tags()["scalars"]
        }
        assert row["metric"] == "val_dice"
        assert 0 <= float(row["value"]) <= 1
        assert {"train_loss", "val_dice", "best/val_dice"} <= scalars
        assert (folder / "models" / "model.pt").is_file()
        assert not list(folder.rglob("checkpoint*"))
    for name in ("history", "validations", "slices", "importances"):
        with Image.open(grid / f"{name}.png") as picture:
            assert min(picture.size) > 200


def test_the_best_overrides_are_a_further_config_file(grid: Path, data: list[str]) -> None:
    best = max((row for row in rows(grid) if row["value"]), key=lambda row: float(row["value"]))

    workflow = ConfigWorkflow(
        [str(CONFIGS / "train.json"), str(grid / "best.json")],
        logging_file=False,
        bundle_root=str(CONFIGS.parent),
        output_dir=str(grid / "again"),
        **dict(zip(("dataset_dir", "data_list"), data[1::2], strict=True)),
    )
    workflow.initialize()
    workflow.run()

    parser = workflow.parser
    overrides = json.loads((grid / "best.json").read_text(encoding="utf-8"))
    assert set(overrides) == {
        *("images_per_batch", "network_def#features#0", "epochs", "learning_rate", "loss#cldice_weight"),
        *SPACE["settings"],
    }
    assert parser.get_parsed_content("train#trainer").state.max_epochs == 2
    assert parser.get_parsed_content("optimizer").defaults["lr"] == 0.02
    assert parser.get_parsed_content("loss").cldice_weight == 0.25
    assert parser.get_parsed_content("validate#evaluator").state.best_metric == pytest.approx(float(best["value"]))
    assert parser.get_parsed_content("train#dataloader").batch_size == int(best["images_per_batch"])
    assert parser.get_parsed_content("network").conv_0.conv_0.conv.out_channels == int(best["network_def#features#0"])
    assert (grid / "again" / "models" / "model.pt").is_file()


def test_a_search_goes_on_and_processes_share_it(
    arguments: Callable[..., list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Killed in its first trial, then finished by two processes at once."""
    given = arguments(SPACE, sampler="random", trials=3, epochs=3, heartbeat=2)
    first = tmp_path / "out" / "trial_0000"
    words = [sys.executable, "-m", "common.cli", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "killed.log").open("wb") as log:
        killed = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment)
        limit = time.monotonic() + 300
        while not list(first.glob("models/checkpoint_epoch=[12].pt")):
            assert killed.poll() is None, (tmp_path / "killed.log").read_text()
            assert time.monotonic() < limit
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
    with (tmp_path / "other.log").open("wb") as log:
        other = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment)
        while not (tmp_path / "out" / "trial_0001").is_dir():
            assert other.poll() is None, (tmp_path / "other.log").read_text()
            time.sleep(0.01)
        assert main(given) == 0
        assert other.wait(timeout=300) == 0

    found = rows(tmp_path / "out")
    trials = open_study(tmp_path / "out").get_trials()
    here, there = capfd.readouterr().err, (tmp_path / "other.log").read_text(errors="replace")
    assert [row["trial"] for row in found] == ["0", "1", "2"]
    assert [row["state"] for row in found] == ["complete"] * 3
    assert [row["attempts"] for row in found] == ["2", "1", "1"]
    assert [trial.state for trial in trials].count(TrialState.FAIL) == 1
    assert trials[0].state == TrialState.FAIL
    retried = next(trial for trial in trials[1:] if trial.params and trial.user_attrs["folder"] == str(first))
    assert retried.params == trials[0].params
    assert sorted(retried.intermediate_values) == [1, 2, 3]
    assert [int(epoch) for epoch, _ in json.loads((first / "learning_curves.json").read_text())["train_loss"]] == [
        *range(1, 4)
    ]
    assert (here + there).count("search: trial ") == 3  # whoever did it, each was begun once
    # What is finished is left as it is, and the same study goes on to a larger number.
    before = (first / "models" / "model.pt").stat().st_mtime_ns
    more = arguments(SPACE, sampler="random", trials=4, epochs=3, heartbeat=2)
    assert main(more) == 0
    assert [row["state"] for row in rows(tmp_path / "out")] == ["complete"] * 4
    assert (first / "models" / "model.pt").stat().st_mtime_ns == before


def test_a_trial_whose_process_died_before_its_first_sign_of_life_is_done_again(
    arguments: Callable[..., list[str]], tmp_path: Path
) -> None:
    space = {**SPACE, "space": {"images_per_batch": SPACE["space"]["images_per_batch"]}}
    given = arguments(space, sampler="grid", heartbeat=1)
    dying = (
        "import os, signal, sys; from optuna.storages._heartbeat import HeartbeatThread; from common.cli import main\n"
        "HeartbeatThread.start = lambda thread: os.kill(os.getpid(), signal.SIGKILL)\n"
        "main(sys.argv[1:])"
    )

    killed = subprocess.run([sys.executable, "-c", dying, *given], capture_output=True, timeout=300, check=False)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [(trial.state, trial.params) for trial in open_study(tmp_path / "out").trials] == [(TrialState.RUNNING, {})]
    assert main(given) == 0
    found = rows(tmp_path / "out")
    assert [(row["state"], row["attempts"]) for row in found] == [("complete", "2"), ("complete", "1")]
    assert [row["images_per_batch"] for row in found] == ["1", "2"]


def test_what_is_hopeless_is_given_up(arguments: Callable[..., list[str]], tmp_path: Path) -> None:
    given = arguments(SPACE, sampler="tpe", trials=5, epochs=5, prune_after=2)
    (tmp_path / "out").mkdir()
    study = optuna.create_study(
        storage=f"sqlite:///{tmp_path / 'out' / 'study.db'}", study_name=NAME, direction="maximize"
    )
    for _ in range(4):
        study.add_trial(create_trial(value=2.0, intermediate_values=dict.fromkeys(range(1, 6), 2.0)))

    assert main(given) == 0

    last = rows(tmp_path / "out")[4]
    curves = json.loads((tmp_path / "out" / "trial_0004" / "learning_curves.json").read_text(encoding="utf-8"))
    assert last["state"] == "pruned"
    assert [epoch for epoch, _ in curves["train_loss"]] == [1, 2]


def test_a_trial_that_was_interrupted_is_done_again(
    arguments: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(SPACE, sampler="random", trials=1)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TrialReport, "__call__", interrupt)
        assert main(given) == 130
    assert main(given) == 0

    assert [(row["state"], row["attempts"]) for row in rows(tmp_path / "out")] == [("complete", "2")]


def test_a_trial_that_another_process_has_taken_ends_this_one(
    arguments: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = arguments(SPACE, sampler="random", trials=1)
    report = TrialReport.__call__

    def report_too_late(self: TrialReport, engine: Any) -> None:
        other = open_study(tmp_path / "out")
        other.tell(self.trial.number, state=TrialState.FAIL)
        RetryHeartbeatStaleTrialCallback()(other, other.get_trials()[self.trial.number])
        report(self, engine)

    with monkeypatch.context() as patched:
        patched.setattr(TrialReport, "__call__", report_too_late)
        assert main(given) == 2

    assert "gave no sign of life for 4 heartbeats" in capsys.readouterr().err
    assert main(given) == 0
    assert [(row["state"], row["attempts"]) for row in rows(tmp_path / "out")] == [("complete", "2")]


@pytest.mark.parametrize(
    ("space", "options", "said"),
    [
        ({"space": {"learning_rat": {"kind": "log", "low": 1, "high": 2}}}, {}, "--learning_rate"),
        (SPACE, {"epochz": 3}, "--epochz is no id of train.json"),
        (SPACE, {"images_per_batch": 3}, "--images_per_batch is varied by"),
        (SPACE, {"sampler": "best"}, "give --sampler one of grid, random, tpe"),
        (SPACE, {"trials": 0}, "give --trials a whole number from 1 on"),
        (SPACE, {"configs": "none.json"}, "has no .*none.json"),
        (SPACE, {"configs": "inference.json"}, "has no id train"),
        (SPACE, {"storage": "sqlite:////no/such/folder/study.db"}, "The storage cannot be opened"),
        (SPACE, {"storage": "no URL"}, "The storage cannot be opened"),
    ],
)
def test_a_wrong_setting_stops_at_once(
    arguments: Callable[..., list[str]], capsys: pytest.CaptureFixture[str], space: Any, options: Any, said: str
) -> None:
    assert main(arguments(space, **{"sampler": "random", "trials": 2, **options})) == 2

    printed = capsys.readouterr().err
    assert "search: trial" not in printed
    assert re.search(said, printed), printed


def test_another_space_is_another_study(
    arguments: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {**SPACE, "settings": {**SPACE["settings"], "diameter": 8}}
    assert main(arguments(broken, sampler="random", trials=1)) == 2  # its first training says what is wrong
    assert "diameter is 8" in capsys.readouterr().err

    assert main(arguments(SPACE, sampler="random", trials=1)) == 2

    assert "was begun with another space" in capsys.readouterr().err
