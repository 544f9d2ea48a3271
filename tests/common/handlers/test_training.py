from __future__ import annotations

import json
import logging
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice, ValidationHandler, from_engine
from monai.transforms import AsDiscreted, Compose, RandGaussianNoised
from PIL import Image
from torch import nn

from common.errors import SettingError
from common.handlers import (
    BestWeights,
    EarlyStop,
    FigurePanels,
    LearningCurves,
    NormalizedPhoto,
    ResumableTraining,
    WeightAverage,
)
from common.handlers.checkpoint import checkpoints


def items(count: int = 4) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 16, 12, generator=generator)
    return [{"image": image, "label": (image[:1] > 0.5).float(), "name": str(i)} for i, image in enumerate(images)]


class Job:
    """A real training: one convolution, MONAI's engines, all of our handlers of a training."""

    def __init__(self, folder: Path, epochs: int, stop_after: int | None = None, **settings: Any) -> None:
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        self.seen: list[float] = []
        self.network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 1, 1)
        )
        self.optimizer = torch.optim.Adam(self.network.parameters(), 0.02)
        self.scheduler: Any = torch.optim.lr_scheduler.StepLR(self.optimizer, 2, 0.5)
        self.average = WeightAverage(self.network, settings.pop("momentum", None))
        self.best = BestWeights(self.average.network, folder / "model.pt")
        self.early = EarlyStop(
            patience=settings.pop("patience", 50),
            score_function=lambda engine: engine.state.metrics["dice"],
            trainer=None,
        )
        panels = [FigurePanels(folder, ["vessel"], NormalizedPhoto((0, 0, 0), (1, 1, 1)), count=2, side=48)]
        panels = panels if settings.get("figures") else []
        self.evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=DataLoader(Dataset(items()), batch_size=1),
            network=self.average.network,
            postprocessing=Compose([AsDiscreted("pred", threshold=0.0)]),
            key_val_metric={"dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
            val_handlers=[*panels, self.early, self.best],
        )
        self.curves = LearningCurves(folder, from_engine(["loss"], first=True), self.evaluator)
        figures = settings.pop("figures", False)
        state: dict[str, Any] = {
            "network": self.network,
            "optimizer": self.optimizer,
            "lr_scheduler": self.scheduler,
            "average": self.average,
            "early_stop": self.early,
            "best_weights": self.best,
        }
        if figures:
            state["learning_curves"] = self.curves
        dataset = Dataset(items(), RandGaussianNoised("image", prob=1.0))
        settings.setdefault("dataset", dataset)
        self.resumable = ResumableTraining(folder / "models", {**state, **settings.pop("extra", {})}, **settings)
        self.trainer = SupervisedTrainer(
            device=torch.device("cpu"),
            max_epochs=epochs,
            train_data_loader=DataLoader(dataset, batch_size=2, shuffle=True),
            network=self.network,
            optimizer=self.optimizer,
            loss_function=nn.BCEWithLogitsLoss(),
            train_handlers=[
                ValidationHandler(1, self.evaluator),
                LrScheduleHandler(self.scheduler, print_lr=False),  # type: ignore[arg-type]
                *([self.curves] if figures else []),
                self.average,
                self.resumable,
            ],
        )
        self.early.set_trainer(self.trainer)
        self.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: self.seen.append(engine.state.epoch))
        if stop_after is not None:
            self.trainer.add_event_handler(Events.EPOCH_STARTED(once=stop_after + 1), self.kill)

    @staticmethod
    def kill() -> None:
        raise KeyboardInterrupt

    def run(self) -> Job:
        self.trainer.run()
        return self


def interrupted(folder: Path, epochs: int, after: int, **settings: Any) -> None:
    job = Job(folder, epochs, stop_after=after, **settings)
    with pytest.raises(KeyboardInterrupt):
        job.run()


def test_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = Job(tmp_path / "whole", 4, figures=True).run()
    interrupted(tmp_path / "parts", 4, after=2, figures=True)
    assert [path.name for path in checkpoints(tmp_path / "parts/models")] == ["checkpoint_epoch=2.pt"]
    rest = Job(tmp_path / "parts", 4, figures=True).run()
    assert rest.seen == [3, 4]
    assert rest.trainer.state.iteration == whole.trainer.state.iteration == 8
    for key, value in whole.network.state_dict().items():
        assert torch.equal(rest.network.state_dict()[key], value), key
    assert rest.scheduler.get_last_lr() == whole.scheduler.get_last_lr()
    assert rest.best.best == whole.best.best
    assert rest.curves.values == whole.curves.values
    assert [path.name for path in checkpoints(tmp_path / "parts/models")] == ["checkpoint_epoch=4.pt"]
    assert (tmp_path / "parts/model.pt").is_file()


def test_the_average_of_the_weights_is_validated_saved_and_restored(tmp_path: Path) -> None:
    whole = Job(tmp_path / "whole", 4, momentum=0.25).run()
    interrupted(tmp_path / "parts", 4, after=2, momentum=0.25)
    rest = Job(tmp_path / "parts", 4, momentum=0.25).run()

    saved = torch.load(tmp_path / "whole" / "model.pt", weights_only=True)
    for key, value in whole.average.network.state_dict().items():
        assert torch.equal(rest.average.network.state_dict()[key], value), key
        assert key.endswith("num_batches_tracked") or not torch.equal(value, whole.network.state_dict()[key]), key
    assert whole.best.best == rest.best.best == max(whole.evaluator.state.best_metric, rest.best.best)
    assert saved.keys() == whole.network.state_dict().keys()


def test_the_average_is_what_its_formula_says(tmp_path: Path) -> None:
    job = Job(tmp_path, 2, momentum=0.25)
    expected = {key: value.clone() for key, value in job.network.state_dict().items()}

    def update() -> None:
        for key, value in job.network.state_dict().items():
            expected[key] = torch.lerp(expected[key], value, 0.25) if value.is_floating_point() else value

    job.trainer.add_event_handler(Events.ITERATION_COMPLETED, update)
    # The training begins with other weights than those that were there when the average was made.
    with torch.no_grad():
        for parameter in job.network.parameters():
            parameter.add_(0.1)
    expected = {key: value.clone() for key, value in job.network.state_dict().items()}
    job.run()

    for key, value in job.average.network.state_dict().items():
        torch.testing.assert_close(value, expected[key])


@pytest.mark.parametrize(("before", "after"), [(0.1, None), (None, 0.1)])
def test_a_training_with_and_one_without_an_average_are_not_mixed(
    tmp_path: Path, before: float | None, after: float | None
) -> None:
    Job(tmp_path, 1, momentum=before).run()

    with pytest.raises(SettingError, match="does not fit this configuration"):
        Job(tmp_path, 2, momentum=after).run()


@pytest.mark.parametrize("momentum", [0, 1.0, -0.1, "0.1", True])
def test_a_wrong_momentum_is_refused(momentum: Any) -> None:
    with pytest.raises(SettingError, match="ema_momentum is"):
        WeightAverage(nn.Conv2d(1, 1, 1), momentum)


def test_finished_training_started_again_changes_nothing(tmp_path: Path) -> None:
    first = Job(tmp_path, 2).run()
    again = Job(tmp_path, 2).run()
    assert again.seen == []
    for key, value in first.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[key], value)
    longer = Job(tmp_path, 3).run()
    assert longer.seen == [3]


def test_random_generators_are_restored(tmp_path: Path) -> None:
    Job(tmp_path, 1).run()
    expected = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    job = Job(tmp_path, 1)
    torch.manual_seed(99)
    np.random.seed(99)
    random.seed(99)
    job.resumable.load(job.trainer)
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == expected


@pytest.mark.parametrize("damage", ["empty", "half", "text"])
def test_damaged_checkpoint_falls_back_to_the_one_before(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(tmp_path, 4, after=2)
    good = tmp_path / "models/checkpoint_epoch=2.pt"
    content = good.read_bytes()
    newer = tmp_path / "models/checkpoint_epoch=3.pt"
    newer.write_bytes({"empty": b"", "half": content[: len(content) // 2], "text": b"text"}[damage])
    (tmp_path / "models/.checkpoint_epoch=4.pt.x.part").write_bytes(b"half-written")
    with caplog.at_level(logging.WARNING):
        job = Job(tmp_path, 4).run()
    assert job.seen == [3, 4]
    assert "checkpoint_epoch=3.pt" in caplog.text
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["checkpoint_epoch=4.pt"]


def test_newest_is_by_number_not_by_name(tmp_path: Path) -> None:
    Job(tmp_path, 1).run()
    source = tmp_path / "models/checkpoint_epoch=1.pt"
    for number in (9, 10, 100):
        shutil.copy(source, tmp_path / f"models/checkpoint_epoch={number}.pt")
    (tmp_path / "models/model.pt").write_bytes(b"")
    assert [path.stem.split("=")[1] for path in checkpoints(tmp_path / "models")] == ["100", "10", "9", "1"]


def test_other_configuration_is_refused(tmp_path: Path) -> None:
    Job(tmp_path, 1).run()
    with pytest.raises(SettingError, match="another configuration"):
        Job(tmp_path, 2, extra={"ema": nn.Linear(1, 1)}).run()
    other = Job(tmp_path, 2)
    other.resumable.state["network"] = nn.Conv2d(3, 7, 1)
    with pytest.raises(SettingError, match="does not fit this configuration"):
        other.run()
    with pytest.raises(SettingError, match="give another output_dir, or resume"):
        Job(tmp_path, 2, resume=False).run()
    with pytest.raises(SettingError, match="interval is 0"):
        Job(tmp_path, 2, interval=0)


def test_interval(tmp_path: Path) -> None:
    interrupted(tmp_path, 9, after=5, interval=2)
    assert [path.name for path in checkpoints(tmp_path / "models")] == ["checkpoint_epoch=4.pt"]
    assert Job(tmp_path, 6, interval=2).run().seen == [5, 6]


def test_best_weights_are_kept(tmp_path: Path) -> None:
    job = Job(tmp_path, 1).run()
    best = job.best.best
    assert best is not None
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    assert {value.dtype for value in saved.values()} == {torch.float16, torch.int64}
    before = (tmp_path / "model.pt").read_bytes()
    job.evaluator.state.metrics["dice"] = best - 0.1
    job.best(job.evaluator)
    job.evaluator.state.metrics["dice"] = float("nan")
    job.best(job.evaluator)
    assert job.best.best == best
    assert (tmp_path / "model.pt").read_bytes() == before
    job.evaluator.state.metrics["dice"] = best + 0.1
    with torch.no_grad():
        next(job.network.parameters()).add_(1)
    job.best(job.evaluator)
    assert (tmp_path / "model.pt").read_bytes() != before


def test_best_weights_saved_after_the_checkpoint_are_kept(tmp_path: Path) -> None:
    best = BestWeights(nn.Conv2d(1, 1, 1), tmp_path / "model.pt")
    evaluator: Any = Engine(lambda engine, batch: None)
    best.attach(evaluator)
    evaluator.state.key_metric_name = "dice"
    states, contents = [], []
    for value in (0.5, 0.8):
        evaluator.state.metrics = {"dice": value}
        best(evaluator)
        states.append(best.state_dict())
        contents.append((tmp_path / "model.pt").read_bytes())

    resumed = BestWeights(nn.Conv2d(1, 1, 1), tmp_path / "model.pt")
    resumed.load_state_dict(states[0])  # the checkpoint is older than the better weights
    assert resumed.best == 0.8
    evaluator.state.metrics = {"dice": 0.7}
    resumed(evaluator)
    assert (tmp_path / "model.pt").read_bytes() == contents[1]

    (tmp_path / "model.best.json").write_text("{")
    resumed.load_state_dict(states[0])
    assert resumed.best == 0.5


def test_undefined_metric_never_blocks_the_best(tmp_path: Path) -> None:
    job = Job(tmp_path, 1)
    job.evaluator.state.key_metric_name = "dice"
    for value in (float("nan"), 0.1):
        job.evaluator.state.metrics["dice"] = value
        job.best(job.evaluator)
    assert job.best.best == 0.1


def test_early_stop_keeps_its_patience(tmp_path: Path) -> None:
    def flat(job: Job) -> Job:
        handler: Any = job.early._handler
        handler.score_function = lambda engine: 0.5
        return job

    first = flat(Job(tmp_path / "whole", 20, patience=3)).run()
    assert first.seen == [1, 2, 3, 4]
    job = flat(Job(tmp_path / "parts", 20, patience=3, stop_after=3))
    with pytest.raises(KeyboardInterrupt):
        job.run()
    rest = flat(Job(tmp_path / "parts", 20, patience=3)).run()
    assert rest.seen == [4]
    assert flat(Job(tmp_path / "parts", 20, patience=3)).run().seen == []


def test_figures(tmp_path: Path) -> None:
    Job(tmp_path, 2, figures=True).run()
    values = json.loads((tmp_path / "learning_curves.json").read_text())
    assert set(values) == {"train_loss", "dice"}
    assert [point[0] for point in values["train_loss"]] == [1, 2]
    assert values["train_loss"][1][1] < values["train_loss"][0][1]
    assert Image.open(tmp_path / "learning_curves.png").size[0] > 300
    panels = sorted((tmp_path / "figures").iterdir())
    assert len(panels) == 2
    with Image.open(panels[0]) as panel:
        assert panel.size == (3 * 48, 2 * 48)
        # The 16 columns of an image are 48 wide, its 12 rows 36 high; below it is black: nothing is transposed.
        pixels = np.asarray(panel.convert("RGB"))
    assert pixels[:34, :48].mean() > 40
    assert pixels[38:47].mean() < 8
    assert list(tmp_path.glob("events.out.tfevents*"))


def test_normalized_photo_is_the_photo_again() -> None:
    photo = torch.randint(0, 256, (3, 5, 4)).float()
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    normalized = (photo / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    np.testing.assert_array_equal(NormalizedPhoto(mean, std)(normalized), photo.numpy().transpose(2, 1, 0))
