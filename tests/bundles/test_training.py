"""Training: what it writes, that it goes on after a kill, on several processes, and with another network."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

if TYPE_CHECKING:
    from tests.bundles.conftest import Bundle, Command, Data

METRICS = ("dice", "iou", "precision", "recall", "specificity", "accuracy", "auc", "aupr")
LABEL_SCORES = (
    *("auc", "aupr", "sensitivity_at_90", "calibration_error"),
    *("accuracy", "precision", "recall", "specificity", "f1"),
)
SHORT = {"val_interval": 1, "checkpoint_interval": 1, "images_per_batch": 1}


@dataclass(frozen=True)
class Training:
    folder: Path
    log: str = ""

    @property
    def curves(self) -> dict[str, list[list[float]]]:
        values: dict[str, list[list[float]]] = json.loads((self.folder / "learning_curves.json").read_text())
        return values

    @property
    def epochs(self) -> list[int]:
        return [int(epoch) for epoch, _ in self.curves["train_loss"]]

    @property
    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "models").glob("checkpoint*"))

    def checkpoint(self, epoch: int) -> Path:
        return self.folder / "models" / f"checkpoint_epoch={epoch}.pt"


def options(bundle: Bundle, data: Data, folder: Path, epochs: int) -> dict[str, Any]:
    return {
        "config_file": bundle.config("train"),
        "bundle_root": str(bundle.root),
        "output_dir": str(folder),
        "epochs": epochs,
        **SHORT,
        **bundle.settings,
        **bundle.training,
        **data.options,
    }


@pytest.fixture(scope="module")
def trained(bundle: Bundle, data: Data, command: Command, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Two epochs of the bundle's own network, made small, from another working directory."""
    folder = tmp_path_factory.mktemp("trained")
    log = command(folder, "run", **{**options(bundle, data, folder / "out", 2), **bundle.small})
    return Training(folder / "out", log)


def test_best_weights_are_stored_in_half_precision(trained: Training) -> None:
    state = torch.load(trained.folder / "models" / "model.pt", weights_only=True)

    assert {tensor.dtype for tensor in state.values()} == {torch.float16, torch.int64}
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_only_the_newest_checkpoint_is_kept(trained: Training) -> None:
    assert trained.checkpoints == ["checkpoint_epoch=2.pt"]
    assert not list(trained.folder.rglob("*.part"))


def test_the_checkpoint_holds_everything(trained: Training) -> None:
    content = torch.load(trained.checkpoint(2), weights_only=True)

    assert {"network", "optimizer", "lr_scheduler", "trainer", "best_weights", "early_stop"} <= set(content)
    assert content["trainer"] == {"epoch": 2, "iteration": 8, "scaler": {}}


def test_tensorboard_has_the_scalars_and_the_pictures(bundle: Bundle, trained: Training) -> None:
    scalars: dict[str, int] = {}
    images: dict[str, int] = {}
    for path in trained.folder.glob("events.out.tfevents.*"):
        events = EventAccumulator(str(path)).Reload()
        for tag in events.Tags()["scalars"]:
            scalars[tag] = scalars.get(tag, 0) + len(events.Scalars(tag))
        for tag in events.Tags()["images"]:
            images[tag] = images.get(tag, 0) + len(events.Images(tag))

    assert scalars["train_loss"] == 8
    assert scalars[f"val_{bundle.metric}"] == scalars["val_loss"] == scalars[f"train_{bundle.metric}"] == 2
    assert images == dict.fromkeys(bundle.figures, 2)


def test_figures_are_drawn(bundle: Bundle, trained: Training) -> None:
    figures = sorted((trained.folder / "figures").iterdir())

    if not bundle.labels:
        assert [path.stem for path in figures] == ["epoch_0001", "epoch_0002"]
    assert {path.stem for path in figures} >= set(bundle.figures.values())
    for path in (trained.folder / "learning_curves.png", *figures):
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 5
    metrics = {f"train_{bundle.metric}", f"val_{bundle.metric}", *bundle.curves}
    assert set(trained.curves) == {"train_loss", "val_loss", *metrics}
    assert trained.epochs == [1, 2]


def test_a_progress_line_per_epoch(bundle: Bundle, trained: Training) -> None:
    for epoch in (1, 2):
        assert re.search(rf"Epoch\[{epoch}\] Metrics -- .*val_{bundle.metric}: \d\.\d+ val_loss: \d\.\d+", trained.log)


def test_nothing_is_written_elsewhere(trained: Training) -> None:
    assert [path.name for path in trained.folder.parent.iterdir()] == ["out"]


# --- evaluation ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(bundle: Bundle, data: Data, command: Command, trained: Training) -> Path:
    """The report on the network of `trained`."""
    folder = trained.folder.parent.parent / (trained.folder.parent.name + "_evaluated")
    folder.mkdir()
    given = {
        **options(bundle, data, folder / "report", 2),
        "config_file": bundle.config("train", "evaluate"),
        "ckpt_path": str(trained.folder / "models" / "model.pt"),
    }
    if bundle.labels:
        given["bootstrap_resamples"] = 50
    command(folder, "run", **{**given, **bundle.small})
    return folder / "report"


@pytest.mark.segmentation
def test_the_report_has_each_metric_for_each_image(bundle: Bundle, evaluated: Path) -> None:
    report = json.loads((evaluated / "evaluation_report.json").read_text(encoding="utf-8"))

    assert set(report) == {"settings", "structures", *bundle.report}
    assert set(report["structures"]) == set(bundle.structures)
    for content in report["structures"].values():
        assert content["images"] == content["patients"] == len(content["per_image"]) == 3
        for row in content["per_image"]:
            assert row["image"].startswith("image/phantom_")
            assert set(row) == {"image", "patient", "dataset", *METRICS, *bundle.metrics, *bundle.lengths}
            assert all(row[name] is None or 0 <= row[name] <= 1 for name in (*METRICS, *bundle.metrics))
            assert row["auc"] is not None
    for part in bundle.report:
        assert report[part]["images"] == len(report[part]["per_image"]) == 3


@pytest.mark.segmentation
def test_the_report_has_means_with_intervals(bundle: Bundle, evaluated: Path) -> None:
    report = json.loads((evaluated / "evaluation_report.json").read_text(encoding="utf-8"))

    for content in report["structures"].values():
        for name in (*METRICS, *bundle.metrics):
            values = [row[name] for row in content["per_image"] if row[name] is not None]
            found = content["all"][name]
            assert found["n"] == len(values)
            if len(values) == 3:
                assert found["mean"] == pytest.approx(np.mean(values))
                assert found["low"] <= found["mean"] <= found["high"]
        assert set(content["by_dataset"]) == {"phantoms"}


@pytest.mark.segmentation
def test_the_report_has_a_figure(evaluated: Path) -> None:
    with Image.open(evaluated / "evaluation_report.png") as picture:
        assert np.asarray(picture).std() > 5


@pytest.mark.classification
def test_the_report_scores_photos_and_patients(bundle: Bundle, evaluated: Path) -> None:
    report = json.loads((evaluated / "evaluation_report.json").read_text(encoding="utf-8"))

    assert report["labels"] == list(bundle.labels)
    for level, count in (("photos", 3), ("patients", 2)):
        section = report[level]
        assert (section["n"], section["patients"]) == (count, 2)
        assert set(section["labels"]) == set(section["thresholds"]) == set(bundle.labels)
        for scores in (*section["labels"].values(), section["macro"]):
            assert set(LABEL_SCORES) <= set(scores)
            for found in scores.values():
                assert set(found) == {"value", "low", "high"}
                assert all(value is None or 0 <= value <= 1 for value in found.values())
        assert set(section["odir"]) == {"kappa", "f1", "auc", "score"}
    assert all(count == 1 for count in report["photos"]["positives"].values())


@pytest.mark.classification
def test_the_report_comes_with_tables(bundle: Bundle, evaluated: Path) -> None:
    with (evaluated / "photos.csv").open(encoding="utf-8", newline="") as file:
        photos = list(csv.DictReader(file))
    with (evaluated / "patients.csv").open(encoding="utf-8", newline="") as file:
        patients = list(csv.DictReader(file))

    assert list(patients[0]) == ["ID", *bundle.labels]
    assert [row["ID"] for row in patients] == ["P2", "P3"]
    assert [(row["patient"], row["eye"]) for row in photos] == [("P2", "OD"), ("P2", "OS"), ("P3", "OD")]
    for label in bundle.labels:
        eyes = [float(row[f"p_{label}"]) for row in photos]
        together = (min if label == "N" else max)(eyes[:2])
        assert float(patients[0][label]) == pytest.approx(together, rel=1e-4)
        assert sorted(row[f"true_{label}"] for row in photos) == ["0", "0", "1"]


@pytest.mark.classification
def test_the_report_has_figures(bundle: Bundle, evaluated: Path) -> None:
    figures = {path.stem: path for path in (evaluated / "figures").iterdir()}

    assert set(figures) == {*bundle.figures.values(), "examples"}
    for path in figures.values():
        with Image.open(path) as picture:
            assert np.asarray(picture).std() > 5


@pytest.mark.classification
def test_thresholds_of_one_report_are_used_in_another(
    bundle: Bundle, data: Data, trained: Training, evaluated: Path, in_process: Callable[..., None], tmp_path: Path
) -> None:
    given = {
        **options(bundle, data, tmp_path / "report", 2),
        **bundle.small,
        "config_file": bundle.config("train", "evaluate"),
        "ckpt_path": str(trained.folder / "models" / "model.pt"),
        "split": "training",
        "bootstrap_resamples": 5,
    }
    in_process("run", **given, thresholds_path=str(evaluated / "evaluation_report.json"))

    report = json.loads((tmp_path / "report" / "evaluation_report.json").read_text(encoding="utf-8"))
    assert report["photos"]["n"] == 4
    assert all("f1_chosen" in scores for scores in report["photos"]["labels"].values())
    assert report["settings"]["split"] == "training"


# --- going on after a kill -------------------------------------------------------------------------------------------

EPOCHS = 6


@dataclass
class Interrupted:
    training: Training
    killed_after: list[int]
    logs: list[str]
    kept: Path


@pytest.fixture(scope="module")
def interrupted(
    bundle: Bundle,
    data: Data,
    command: Command,
    wait_until: Callable[..., None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Interrupted:
    """A training that was killed while it wrote a checkpoint, killed again in its second half, and then finished."""
    folder = tmp_path_factory.mktemp("interrupted")
    training = Training(folder / "out")
    models = training.folder / "models"
    given = {**options(bundle, data, training.folder, EPOCHS), "network_def": bundle.tiny, "num_workers": 0}

    def newest() -> int:
        return max((int(name.split("=")[1][:-3]) for name in training.checkpoints), default=0)

    def writing() -> bool:
        return newest() >= 2 or (newest() == 1 and any(models.glob(".checkpoint*.part")))

    killed_after, logs = [], []
    for number, moment in enumerate((writing, lambda: newest() >= EPOCHS // 2 + 1)):
        log = folder / f"{number}.log"
        process = command.start(log, folder, "run", **given)
        try:
            wait_until(moment, process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert process.returncode == -signal.SIGKILL
        killed_after.append(newest())
        logs.append(log.read_text(errors="replace"))
    kept = folder / "kept.pt"
    shutil.copy(training.checkpoint(killed_after[-1]), kept)
    logs.append(command(folder, "run", **given))
    return Interrupted(training, killed_after, logs, kept)


def test_it_goes_on_from_the_newest_checkpoint(interrupted: Interrupted) -> None:
    for epoch, log in zip(interrupted.killed_after, interrupted.logs[1:], strict=True):
        assert re.search(rf"Going on from \S*checkpoint_epoch={epoch}\.pt, after epoch {epoch}\b", log)
        assert f"Epoch[{epoch + 1}] Metrics" in log
        assert f"Epoch[{epoch}] Metrics" not in log
    assert EPOCHS // 2 < interrupted.killed_after[-1] < EPOCHS


def test_every_epoch_is_there_once(bundle: Bundle, interrupted: Interrupted) -> None:
    assert interrupted.training.epochs == list(range(1, EPOCHS + 1))
    assert [int(epoch) for epoch, _ in interrupted.training.curves[f"val_{bundle.metric}"]] == list(
        range(1, EPOCHS + 1)
    )


def test_no_half_written_file_stays(interrupted: Interrupted) -> None:
    assert interrupted.training.checkpoints == [f"checkpoint_epoch={EPOCHS}.pt"]
    assert not list(interrupted.training.folder.rglob("*.part"))
    torch.load(interrupted.training.folder / "models" / "model.pt", weights_only=True)


def test_a_finished_training_is_left_as_it_is(
    interrupted: Interrupted, bundle: Bundle, data: Data, in_process: Callable[..., None], tmp_path: Path
) -> None:
    again = Training(tmp_path / "again")
    shutil.copytree(interrupted.training.folder, again.folder)
    before = torch.load(again.checkpoint(EPOCHS), weights_only=True)
    weights = (again.folder / "models" / "model.pt").read_bytes()

    in_process("run", **options(bundle, data, again.folder, EPOCHS), network_def=bundle.tiny)

    after = torch.load(again.checkpoint(EPOCHS), weights_only=True)
    assert again.checkpoints == [f"checkpoint_epoch={EPOCHS}.pt"]
    assert after["trainer"] == before["trainer"]
    assert all(torch.equal(after["network"][name], tensor) for name, tensor in before["network"].items())
    assert (again.folder / "models" / "model.pt").read_bytes() == weights
    assert again.epochs == list(range(1, EPOCHS + 1))


@pytest.fixture(scope="module")
def damaged(
    interrupted: Interrupted,
    bundle: Bundle,
    data: Data,
    command: Command,
    tmp_path_factory: pytest.TempPathFactory,
) -> Training:
    """Started beside a newest checkpoint that is cut short; the one before it says that better weights are saved."""
    folder = tmp_path_factory.mktemp("damaged")
    training = Training(folder / "out")
    shutil.copytree(interrupted.training.folder, training.folder)
    newest = training.checkpoint(EPOCHS)
    newest.write_bytes(newest.read_bytes()[:20_000])
    older = torch.load(interrupted.kept, weights_only=True)
    older["best_weights"]["best"] = 2.0
    torch.save(older, training.checkpoint(interrupted.killed_after[-1]))
    (training.folder / "models" / f".checkpoint_epoch={EPOCHS + 1}.pt.half.part").write_bytes(b"PK half written")
    (training.folder / "models" / "model.pt").write_bytes(b"better weights")
    log = command(folder, "run", **options(bundle, data, training.folder, EPOCHS), network_def=bundle.tiny)
    return Training(training.folder, log)


def test_a_damaged_checkpoint_is_reported_and_the_one_before_it_used(
    damaged: Training, interrupted: Interrupted
) -> None:
    epoch = interrupted.killed_after[-1]

    assert re.search(rf"WARNING - .*checkpoint_epoch={EPOCHS}\.pt is no checkpoint that can be read", damaged.log)
    assert f"after epoch {epoch}" in damaged.log
    assert damaged.epochs == list(range(1, EPOCHS + 1))
    assert torch.load(damaged.checkpoint(EPOCHS), weights_only=True)["trainer"]["epoch"] == EPOCHS
    assert not list(damaged.folder.rglob("*.part"))


def test_better_weights_of_the_first_part_are_not_overwritten(damaged: Training) -> None:
    assert (damaged.folder / "models" / "model.pt").read_bytes() == b"better weights"


def test_a_checkpoint_of_another_network_is_refused(
    interrupted: Interrupted, bundle: Bundle, data: Data, setting_error: Callable[..., str], tmp_path: Path
) -> None:
    shutil.copytree(interrupted.training.folder, tmp_path / "out")
    other = {**bundle.tiny, **bundle.changed}

    sentence = setting_error("run", **options(bundle, data, tmp_path / "out", EPOCHS + 1), network_def=other)

    assert f"checkpoint_epoch={EPOCHS}.pt does not fit this configuration" in sentence


# --- other ways to train ---------------------------------------------------------------------------------------------


def test_another_network_is_one_setting(
    bundle: Bundle, data: Data, in_process: Callable[..., None], tmp_path: Path
) -> None:
    network, prefix = bundle.other
    in_process("run", **options(bundle, data, tmp_path, 1), network_def={**network, **bundle.channels})

    names = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    assert any(name.startswith(prefix) for name in names)
    assert Training(tmp_path).epochs == [1]


def test_averaged_weights_are_saved_and_the_average_goes_on(
    bundle: Bundle, data: Data, in_process: Callable[..., None], tmp_path: Path
) -> None:
    config = bundle.read("train")
    assert ("ema_momentum" in config) == ("average" in config)
    if "ema_momentum" not in config:
        return
    given = {"network_def": bundle.tiny, "ema_momentum": 0.2}
    in_process("run", **options(bundle, data, tmp_path, 1), **given)
    training = Training(tmp_path)
    saved = torch.load(tmp_path / "models" / "model.pt", weights_only=True)
    content = torch.load(training.checkpoint(1), weights_only=True)
    for name, tensor in content["average"].items():
        assert torch.equal(saved[name], tensor.half() if tensor.is_floating_point() else tensor), name
    assert any(not torch.equal(content["average"][name], tensor) for name, tensor in content["network"].items())

    in_process("run", **options(bundle, data, tmp_path, 2), **given)

    assert training.epochs == [1, 2]
    assert set(torch.load(training.checkpoint(2), weights_only=True)["average"]) == set(content["network"])


def test_a_schedule_of_each_iteration_is_a_config_file(
    bundle: Bundle, data: Data, in_process: Callable[..., None], tmp_path: Path
) -> None:
    if not (bundle.root / "configs" / "warmup_cosine.json").is_file():
        assert "warmup_cosine" not in (bundle.root / "docs" / "README.md").read_text(encoding="utf-8")
        return
    given = {**options(bundle, data, tmp_path, 2), "config_file": bundle.config("train", "warmup_cosine")}
    for epochs in (1, 2):
        training = {**given, "lr_scheduler#t_total": 8, "warmup_iterations": 2, "epochs": epochs}
        in_process("run", **training, network_def=bundle.tiny)
        content = torch.load(Training(tmp_path).checkpoint(epochs), weights_only=True)

        done = 4 * epochs  # four photos, one a batch
        assert content["lr_scheduler"]["last_epoch"] == content["trainer"]["iteration"] == done
        share = 0.5 * (1 + np.cos(np.pi * (done - 2) / 6))
        start = content["optimizer"]["param_groups"][0]["initial_lr"]
        assert content["optimizer"]["param_groups"][0]["lr"] == pytest.approx(start * share, abs=1e-12)


@pytest.fixture(scope="module")
def on_two_processes(
    bundle: Bundle, data: Data, torchrun: Command, tmp_path_factory: pytest.TempPathFactory
) -> Training:
    folder = tmp_path_factory.mktemp("two")
    given = options(bundle, data, folder / "out", 2)
    given["config_file"] = bundle.config("train", "multi_gpu_train")
    log = torchrun(folder, "run", **given, network_def=bundle.tiny)
    return Training(folder / "out", log)


def test_two_processes_train_together(on_two_processes: Training) -> None:
    assert on_two_processes.epochs == [1, 2]
    assert on_two_processes.checkpoints == ["checkpoint_epoch=2.pt"]
    # Each of the two has half of the four photos.
    content = torch.load(on_two_processes.checkpoint(2), weights_only=True)
    assert content["trainer"] == {"epoch": 2, "iteration": 4, "scaler": {}}
    assert not any(name.startswith("module.") for name in content["network"])


def test_only_the_first_process_writes(bundle: Bundle, on_two_processes: Training) -> None:
    saved = re.findall(r"weights saved to", on_two_processes.log)
    metrics = re.findall(rf"Epoch\[\d\] Metrics -- .*val_{bundle.metric}", on_two_processes.log)
    owners = {path.name.split(".")[-2] for path in on_two_processes.folder.glob("events.out.tfevents.*")}

    assert 1 <= len(saved) <= 2
    assert len(metrics) == 2
    assert len(owners) == 1


def test_the_process_group_is_closed(on_two_processes: Training) -> None:
    assert "destroy_process_group() was not called" not in on_two_processes.log


# --- wrong settings --------------------------------------------------------------------------------------------------


@pytest.fixture
def altered(data: Data, tmp_path: Path) -> Callable[[str, str, str], dict[str, Any]]:
    """Makes a data list in which one item of a split names another file."""

    def alter(split: str, key: str, value: str) -> dict[str, Any]:
        content = json.loads(data.data_list.read_text(encoding="utf-8"))
        content[split][1][key] = value
        path = tmp_path / "altered.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return {"data_list": str(path)}

    return alter


@pytest.mark.parametrize(
    ("split", "is_mask", "name"),
    [
        ("training", False, "image/gone.png"),
        pytest.param("training", True, "mask/gone.png", marks=pytest.mark.segmentation),
        pytest.param("validation", True, "no.png", marks=pytest.mark.segmentation),
    ],
)
def test_a_list_that_names_a_missing_file(
    bundle: Bundle,
    data: Data,
    altered: Callable[..., dict[str, Any]],
    setting_error: Callable[..., str],
    tmp_path: Path,
    split: str,
    is_mask: bool,
    name: str,
) -> None:
    for key in bundle.masks if is_mask else ("image",):
        given = {**options(bundle, data, tmp_path / "out", 1), **altered(split, key, name)}

        sentence = setting_error("run", **given, network_def=bundle.tiny)

        assert f"The {key} {data.root / name}" in sentence
        assert "does not exist" in sentence
        assert "altered.json" in sentence


def test_a_list_without_truth(bundle: Bundle, data: Data, setting_error: Callable[..., str], tmp_path: Path) -> None:
    key = next(iter(bundle.masks), "label")
    content = json.loads(data.data_list.read_text(encoding="utf-8"))
    del content["training"][2][key]
    (tmp_path / "without.json").write_text(json.dumps(content), encoding="utf-8")
    given = {**options(bundle, data, tmp_path / "out", 1), "data_list": str(tmp_path / "without.json")}

    sentence = setting_error("run", **given, network_def=bundle.tiny)

    assert f"no '{key}'" in sentence


@pytest.mark.segmentation
@pytest.mark.parametrize("configs", [("train",), ("train", "evaluate")], ids="+".join)
def test_image_and_label_of_different_size(
    bundle: Bundle,
    data: Data,
    altered: Callable[..., dict[str, Any]],
    setting_error: Callable[..., str],
    tmp_path: Path,
    configs: tuple[str, ...],
) -> None:
    label = tmp_path / "label.png"
    Image.fromarray(np.zeros((50, 60), np.uint8)).save(label)
    for key in bundle.masks:
        given = {**options(bundle, data, tmp_path / "out", 1), **altered("validation", key, str(label))}
        given["config_file"] = bundle.config(*configs)

        sentence = setting_error("run", **given, **untrained(bundle, configs, tmp_path))

        assert f"The mask {label} has 60x50 pixels, its photo 128x160" in sentence


@pytest.mark.segmentation
@pytest.mark.parametrize("configs", [("train",), ("train", "evaluate")], ids="+".join)
def test_a_label_that_is_not_binary(
    bundle: Bundle,
    data: Data,
    altered: Callable[..., dict[str, Any]],
    setting_error: Callable[..., str],
    tmp_path: Path,
    configs: tuple[str, ...],
) -> None:
    label = tmp_path / "label.png"
    Image.fromarray(np.arange(160 * 128, dtype=np.uint32).reshape(160, 128).astype(np.uint8)).save(label)
    for key in bundle.masks:
        given = {**options(bundle, data, tmp_path / "out", 1), **altered("validation", key, str(label))}
        given["config_file"] = bundle.config(*configs)

        sentence = setting_error("run", **given, **untrained(bundle, configs, tmp_path))

        assert f"The mask {label} {bundle.bad_label}" in sentence


def untrained(bundle: Bundle, configs: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """Options for the tiny network; evaluation gets weights for it, as nothing has trained it."""
    if "evaluate" not in configs:
        return {"network_def": bundle.tiny}
    torch.save(ConfigParser({"net": dict(bundle.tiny)}).get_parsed_content("net").state_dict(), folder / "tiny.pt")
    return {"network_def": bundle.tiny, "ckpt_path": str(folder / "tiny.pt")}


def test_an_unreadable_photo_stops_a_training_with_its_name(
    bundle: Bundle, data: Data, altered: Callable[..., dict[str, Any]], in_process: Callable[..., None], tmp_path: Path
) -> None:
    photo = tmp_path / "broken.png"
    photo.write_bytes(b"")
    given = {**options(bundle, data, tmp_path / "out", 1), **altered("training", "image", str(photo))}

    with pytest.raises(Exception) as raised:  # noqa: PT011  MONAI wraps it in errors of its own
        in_process("run", **given, network_def=bundle.tiny)

    error: BaseException | None = raised.value
    while error is not None and "broken.png: is empty" not in str(error):
        error = error.__cause__
    assert error is not None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset_dir": "/no/such/folder"}, ["folder /no/such/folder does not exist", "dataset_dir"]),
        ({"data_list": "/no/such/list.json"}, ["data list /no/such/list.json does not exist", "data_list"]),
        ({"initial_weights": "/no/such/model.pt"}, ["weights /no/such/model.pt do not exist"]),
        ({"checkpoint_interval": 0}, ["checkpoint interval is 0"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_of_a_training(
    bundle: Bundle,
    data: Data,
    setting_error: Callable[..., str],
    tmp_path: Path,
    changes: dict[str, Any],
    words: list[str],
) -> None:
    given = {**options(bundle, data, tmp_path / "out", 1), **changes}

    sentence = setting_error("run", **given, network_def=bundle.tiny)

    assert all(word in sentence for word in words), sentence


def test_the_sentence_is_in_what_the_command_prints(
    bundle: Bundle, data: Data, command: Command, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.json"
    empty.write_text('{"training": []}')
    given = {**options(bundle, data, tmp_path / "out", 1), "data_list": str(empty)}

    printed = command(tmp_path, "run", fails=True, **given, network_def=bundle.tiny)

    assert f"SettingError: The data list {empty} has no items under 'training'" in printed
