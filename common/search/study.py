"""A study: trials that are trainings of a bundle, done by one process or several, and done again when one dies."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from ignite.engine import Engine, Events
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, TrialPruned
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from common.bundles import check_overrides, find_bundle, open_bundle
from common.errors import SettingError, setting_error_behind
from common.handlers.checkpoint import checkpoints
from common.search.results import (
    SURPLUS,
    attempts,
    best_trial,
    best_validation,
    draw_figures,
    log_to_tensorboard,
    origin,
    write_results,
)
from common.search.space import Space, outer_first, read_space

SAMPLERS = ("grid", "random", "tpe")
MISSED_HEARTBEATS = 4
"""After so many the process of a trial is taken for dead."""

ALL_FAILED = 1
_TRIES = 4
_OF_A_MACHINE = ("device", "num_workers", "cache_rate", "dataset_dir", "data_list")
"""Ids that may differ between the processes of a study, and that the config of the best trial does not have."""


class TrialReport:
    """Tells a study the key metric of each validation, and ends the training when the study has given it up.

    Attach it to the evaluator, last.

    Args:
        trial: the trial.
        trainer: its trainer.
    """

    def __init__(self, trial: optuna.Trial, trainer: Engine) -> None:
        self.trial = trial
        self.trainer = trainer
        self.pruned = False

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Report, and ask whether to go on."""
        state: Any = engine.state
        self.trial.report(float(state.metrics[state.key_metric_name]), state.epoch)
        unfinished = state.epoch < self.trainer.state.max_epochs
        if unfinished and self.trial.should_prune():
            self.pruned = True
            self.trainer.terminate()


class PointsFirst(BaseSampler):
    """Gives the first trials of a study fixed points, and the others to another sampler.

    Which trial gets which point depends on its number alone, so that processes which share a study do not do one twice.
    The other sampler is made anew for each trial, with a seed of its own: two processes, or one that was started again,
    would draw the same numbers otherwise.

    Args:
        points: id to value.
        make: makes the other sampler from a seed.
        seed: from which each trial's own is derived.
    """

    def __init__(self, points: Sequence[Mapping[str, Any]], make: Callable[[int], BaseSampler], seed: int) -> None:
        self.points = points
        self.make = make
        self.seed = seed
        self.point: Mapping[str, Any] | None = None
        self.sampler = make(seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose the point, or make the other sampler."""
        index = index_of(study, trial)
        self.point = self.points[index] if index < len(self.points) else None
        self.sampler = self.make(int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0]))
        self.sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The ids that the other sampler chooses together."""
        return {} if self.point is not None else self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Their values."""
        return {} if self.point is not None else self.sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of one id."""
        if self.point is not None:
            return self.point[param_name]
        return self.sampler.sample_independent(study, trial, param_name, param_distribution)


def index_of(study: optuna.Study, trial: FrozenTrial) -> int:
    """Place of a trial among those of a study; attempts at the same trial share one."""
    firsts = {origin(tries[0]) for tries in attempts(study)} | {origin(trial)}
    return sorted(firsts).index(origin(trial))


class _TrainingFailed(Exception):
    """A training ended with an error of its own; the search goes on."""


@dataclass
class _Objective:
    """Trains a bundle with the overrides of a trial.

    Attributes:
        bundle: folder of the bundle.
        configs: its config files.
        space: of the ids.
        settings: the overrides of every trial.
        output: folder of the trials' folders.
        count: number of trials of the study.
        number: of the trial that was begun last.
    """

    bundle: Path
    configs: Sequence[str]
    space: Space
    settings: Mapping[str, Any]
    output: Path
    count: int
    number: int | None = field(default=None, init=False)

    @property
    def common_settings(self) -> dict[str, Any]:
        """The settings that are the same for every process."""
        return {name: value for name, value in self.settings.items() if name not in _OF_A_MACHINE}

    def __call__(self, trial: optuna.Trial) -> float:
        self.number = trial.number
        index = index_of(trial.study, _frozen(trial))
        if index >= self.count:  # another process has begun the last one just before
            trial.set_user_attr(SURPLUS, True)
            raise TrialPruned
        self.space.suggest(trial)
        folder = self.output / f"trial_{index:04d}"
        trial.set_user_attr("folder", str(folder))
        _say(f"trial {index + 1} of {self.count}: {_listed(trial.params)}")
        try:
            pruned, metric = self._train(trial, folder)
        except Exception as error:
            wrong = setting_error_behind(error)
            if wrong is not None:
                raise wrong from error
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            trial.set_user_attr("error", reason)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            _say(f"trial {index + 1} failed: {reason}")
            raise _TrainingFailed(reason) from error
        return self._value(trial, folder, pruned, metric)

    def _train(self, trial: optuna.Trial, folder: Path) -> tuple[bool, str]:
        """Train; whether it was pruned, and the name of the key metric."""
        overrides = {**self.settings, **self.space.overrides(trial.params), "output_dir": str(folder)}
        workflow = open_bundle(self.bundle, self.configs, outer_first(overrides), bundle_logging=True)
        evaluator = workflow.parser.get_parsed_content("validate#evaluator")
        report = TrialReport(trial, workflow.parser.get_parsed_content("train#trainer"))
        report.attach(evaluator)
        trial.set_user_attr("metric", evaluator.state.key_metric_name)
        workflow.run()
        workflow.finalize()
        return report.pruned, evaluator.state.key_metric_name

    def _value(self, trial: optuna.Trial, folder: Path, pruned: bool, metric: str) -> float:
        best = best_validation(_frozen(trial))
        if best is None:
            reason = f"no validation gave a number for {metric}"
            trial.set_user_attr("error", reason)
            raise _TrainingFailed(reason)
        epoch, value = best
        log_to_tensorboard(folder, trial.params, metric, value)
        _say(f"{'given up: ' if pruned else ''}{metric} {value:.4f} in epoch {epoch}")
        if pruned:
            raise TrialPruned
        return value


def _frozen(trial: optuna.Trial) -> FrozenTrial:
    return trial.study.get_trials(deepcopy=False)[trial.number]


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in params.items()
    )


def _say(text: str) -> None:
    print(f"search: {text}", file=sys.stderr, flush=True)


def _open_storage(url: str, heartbeat: int) -> RDBStorage:
    waits = {"connect_args": {"timeout": 120}} if url.startswith("sqlite") else {}
    for remaining in range(_TRIES, 0, -1):
        try:
            return RDBStorage(
                url,
                engine_kwargs=waits,
                heartbeat_interval=heartbeat,
                grace_period=MISSED_HEARTBEATS * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True),
            )
        except (SQLAlchemyError, ImportError) as error:
            # Processes that are started together all make the tables; one of them is first.
            if remaining > 1 and isinstance(error, DBAPIError):
                time.sleep(0.5)
                continue
            raise SettingError(
                f"The storage cannot be opened ({str(error).splitlines()[0]}): give --storage a database URL, such as "
                "sqlite:////folder/study.db, of a folder that exists, and install the driver that it needs."
            ) from error
    raise AssertionError


def _describe(objective: _Objective) -> dict[str, str]:
    """What has to be the same whenever a study is opened."""
    return {
        "bundle": objective.bundle.name,
        "configs": ", ".join(objective.configs),
        "space": objective.space.text,
        "settings": json.dumps(objective.common_settings, sort_keys=True, default=str),
    }


def _open_study(
    name: str, storage: RDBStorage, objective: _Objective, sampler: BaseSampler, prune_after: int | None
) -> optuna.Study:
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if prune_after is not None:
        pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=prune_after)
    study = optuna.create_study(
        storage=storage, study_name=name, load_if_exists=True, direction="maximize", sampler=sampler, pruner=pruner
    )
    for key, value in _describe(objective).items():
        if study.user_attrs.get(key, value) != value:
            raise SettingError(
                f"The study {name} was begun with another {key}: {study.user_attrs[key]} before, {value} now. Give the "
                "same again, or another --study."
            )
        study.set_user_attr(key, value)
    return study


def _again(study: optuna.Study, number: int | None, error: BaseException) -> None:
    """Put a trial that was stopped by an error into the queue again, unless another process has done so.

    Raises:
        SettingError: another process has, since this one was silent for too long.
    """
    trials = study.get_trials(deepcopy=False)
    if any(number in RetryHeartbeatStaleTrialCallback.retry_history(trial) for trial in trials):
        raise SettingError(
            f"The trial {number} in the database gave no sign of life for {MISSED_HEARTBEATS} heartbeats, and is done "
            "again by another process: give a longer --heartbeat, and start this process anew."
        ) from error
    for trial in study.get_trials(states=(TrialState.FAIL,)):
        if trial.number == number:
            RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, trial)


def _watch(study: optuna.Study, storage: RDBStorage, watched: set[int]) -> None:
    """Give every running trial that was not seen before a sign of life; the next has to come from its own process.

    Optuna never takes a trial for dead that has had none at all: its process may have been killed after it took the
    trial, and before the first one.

    Args:
        study: the study.
        storage: its storage.
        watched: trials seen before, to which the new ones are added.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if trial._trial_id not in watched:
            storage.record_heartbeat(trial._trial_id)
            watched.add(trial._trial_id)


def _work(study: optuna.Study, storage: RDBStorage, objective: _Objective, heartbeat: int) -> None:
    """Do trials until every one of the study is finished, also those of processes that die meanwhile."""

    def finish(study: optuna.Study, trial: FrozenTrial) -> None:
        write_results(study, objective.space, objective.common_settings, objective.output)
        if "folder" in trial.user_attrs:
            for path in checkpoints(Path(trial.user_attrs["folder"], "models")):
                path.unlink(missing_ok=True)

    waiting = False
    watched: set[int] = set()
    while True:
        fail_stale_trials(study)
        _watch(study, storage, watched)
        states = [tries[-1].state for tries in attempts(study)][: objective.count]
        if len(states) < objective.count or TrialState.WAITING in states:
            waiting, objective.number = False, None
            try:
                study.optimize(objective, n_trials=1, catch=(_TrainingFailed,), callbacks=[finish], gc_after_trial=True)
            except BaseException as error:
                _again(study, objective.number, error)
                raise
        elif TrialState.RUNNING in states:
            if not waiting:
                _say("waiting for trials of other processes; one that has died is done again here")
            waiting = True
            time.sleep(heartbeat)
        else:
            return


def _count(space: Space, sampler: str, trials: int | None) -> tuple[int, list[dict[str, Any]]]:
    """Number of trials, and the points that come first."""
    if sampler not in SAMPLERS:
        raise SettingError(f"The sampler is {sampler!r}: give --sampler one of {', '.join(SAMPLERS)}.")
    if trials is not None and (isinstance(trials, bool) or not isinstance(trials, int) or trials < 1):
        raise SettingError(f"The number of trials is {trials!r}: give --trials a whole number from 1 on.")
    if sampler == "grid":
        points = space.grid()
        return min(trials or len(points), len(points)), points
    if trials is None:
        raise SettingError(f"The sampler {sampler} has no end: give --trials the number of trainings.")
    return trials, list(space.points)


def _check_ids(objective: _Objective) -> None:
    """Refuse unknown ids before the first training."""
    from monai.bundle import ConfigParser

    files = [str(objective.bundle / "configs" / name) for name in objective.configs]
    for file in files:
        if not Path(file).is_file():
            raise SettingError(f"The bundle {objective.bundle.name} has no {file}: correct --configs.")
    config = ConfigParser.load_config_files(files)
    for key in ("train", "validate"):
        if key not in config:
            raise SettingError(f"The config {' + '.join(files)} has no id {key}: give --configs that train the bundle.")
    first = {
        parameter.name: next(iter(parameter.choices.values()), parameter.low)
        for parameter in objective.space.parameters
    }
    overrides = outer_first(deepcopy({**objective.settings, **first}))
    check_overrides(config, overrides, f"{' + '.join(objective.configs)} (see {objective.space.path})")


def run_search(
    bundle: str,
    space: str | Path,
    output: str | Path,
    sampler: str = "tpe",
    trials: int | None = None,
    storage: str | None = None,
    study_name: str | None = None,
    prune_after: int | None = 5,
    seed: int = 0,
    configs: Sequence[str] = (),
    heartbeat: int = 30,
    overrides: Mapping[str, Any] | None = None,
) -> int:
    """Search, or go on with a search, alone or beside other processes that give the same storage.

    Args:
        bundle: name or folder.
        space: JSON file of the ids (`read_space`).
        output: folder of the trials and of the results.
        sampler: ``grid``, ``random`` or ``tpe``.
        trials: number of trials of the whole study; None for all points of a grid.
        storage: URL of the database; None for an SQLite file in the output folder.
        study_name: in the database; None for the bundle's name.
        prune_after: epochs after which a training may be given up whose best value so far is below the median of the
            others in the same epoch; None never gives up.
        seed: of the sampler.
        configs: config files of the bundle, the later overriding the earlier; by default those that the space names.
        heartbeat: seconds between two signs of life of a trial.
        overrides: ids with one value in every trial.

    Returns:
        The exit code: 0, or 1 when no training came to its end.

    Raises:
        SettingError: a setting is wrong.
    """
    warnings.simplefilter("ignore", ExperimentalWarning)
    warnings.filterwarnings("ignore", message="The reported value is ignored")  # an epoch that is done again
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    read = read_space(space)
    given = {name.replace("::", "#"): value for name, value in (overrides or {}).items()}
    twice = sorted({parameter.name for parameter in read.parameters} & given.keys())
    if twice:
        raise SettingError(f"The setting --{twice[0]} is varied by {read.path}: leave the flag out.")
    count, points = _count(read, sampler, trials)
    folder = Path(output).resolve()
    objective = _Objective(
        find_bundle(bundle), tuple(configs) or read.configs, read, {**read.settings, **given}, folder, count
    )
    _check_ids(objective)
    folder.mkdir(parents=True, exist_ok=True)
    database = _open_storage(storage or f"sqlite:///{folder / 'study.db'}", heartbeat)
    make = TPESampler if sampler == "tpe" else RandomSampler
    study = _open_study(
        study_name or objective.bundle.name,
        database,
        objective,
        PointsFirst(points, lambda number: make(seed=number), seed),
        prune_after,
    )
    _work(study, database, objective, heartbeat)
    write_results(study, read, objective.common_settings, folder)
    best = best_trial(study)
    if best is None:
        _say(f"no training came to its end; {folder / 'trials.csv'} says why")
        return ALL_FAILED
    draw_figures(study, folder)
    files = [*(str(objective.bundle / "configs" / name) for name in objective.configs), str(folder / "best.json")]
    print(f"Best of {count} trials: {best.value:.4f} with {_listed(best.params)}; look at {folder}.")
    print(
        f'Train with it: python -m monai.bundle run --config_file "{files}" --bundle_root {objective.bundle} '
        "--dataset_dir ... --data_list ... --output_dir ..."
    )
    return 0
