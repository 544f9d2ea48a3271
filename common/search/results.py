"""What a search leaves: a table, the best overrides, figures, and a place in TensorBoard for each trial."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from common.search.space import Space, outer_first

SURPLUS = "surplus"
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def origin(trial: FrozenTrial) -> int:
    """Number of the first attempt: a trial whose process died is done again under another number."""
    first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if first is None else int(first)


def attempts(study: optuna.Study) -> list[list[FrozenTrial]]:
    """The attempts at each trial of a study, in the order in which the trials were begun."""
    found: dict[int, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False):
        if SURPLUS not in trial.user_attrs:
            found.setdefault(origin(trial), []).append(trial)
    return [found[first] for first in sorted(found)]


def best_validation(trial: FrozenTrial) -> tuple[int, float] | None:
    """Epoch and value of the best validation; None when there is none with a number."""
    values = {step: value for step, value in trial.intermediate_values.items() if not math.isnan(value)}
    if not values:
        return None
    epoch = max(values, key=values.__getitem__)
    return epoch, values[epoch]


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The complete trial with the greatest value."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if complete else None


def _write(path: Path, text: str) -> None:
    """Write so that a reader finds the old file or the new one; other processes may write the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _row(index: int, tries: list[FrozenTrial], space: Space) -> dict[str, Any]:
    trial = tries[-1]
    best = best_validation(trial)
    seconds = [attempt.duration.total_seconds() for attempt in tries if attempt.duration is not None]
    return {
        "trial": index,
        "state": _STATES[trial.state],
        "metric": trial.user_attrs.get("metric"),
        "value": None if best is None else best[1],
        "epoch": None if best is None else best[0],
        **{parameter.name: trial.params.get(parameter.name) for parameter in space.parameters},
        "attempts": len(tries),
        "duration_s": round(sum(seconds), 1),
        "folder": trial.user_attrs.get("folder"),
        "error": trial.user_attrs.get("error"),
    }


def write_results(study: optuna.Study, space: Space, settings: Mapping[str, Any], folder: Path) -> None:
    """Write ``trials.csv``, a row for each trial, and ``best.json``, a config that trains as the best trial did.

    Args:
        study: the study.
        space: its space.
        settings: ids that had one value in every trial, and are to be in the config.
        folder: where to.
    """
    rows = [_row(index, tries, space) for index, tries in enumerate(attempts(study))]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write(folder / "trials.csv", table.getvalue())
    best = best_trial(study)
    if best is not None:
        overrides = outer_first({**settings, **space.overrides(best.params)})
        _write(folder / "best.json", json.dumps(overrides, indent=4, default=str) + "\n")


def draw_figures(study: optuna.Study, folder: Path) -> None:
    """Draw the values over the trials, over the epochs and over each id, and the importance of the ids.

    The importance (fANOVA: Hutter et al., An efficient approach for assessing hyperparameter importance, ICML 2014)
    needs two complete trials.

    Args:
        study: a study with a complete trial.
        folder: where to: ``history.png``, ``validations.png``, ``slices.png`` and ``importances.png``.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as figures

    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    metric = complete[0].user_attrs.get("metric", "value")
    drawn: dict[str, Any] = {
        "history": partial(figures.plot_optimization_history, target_name=metric),
        "validations": figures.plot_intermediate_values,
        "slices": partial(figures.plot_slice, target_name=metric),
    }
    if len(complete) > 1:
        drawn["importances"] = partial(figures.plot_param_importances, target_name=metric)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, draw in drawn.items():
            axes: Any = draw(study)
            figure = (axes if hasattr(axes, "figure") else axes.flat[0]).figure
            figure.savefig(folder / f"{name}.png", dpi=100, bbox_inches="tight")
            pyplot.close(figure)


def log_to_tensorboard(folder: Path, params: Mapping[str, Any], metric: str, value: float) -> None:
    """Add a trial's ids and its value to its TensorBoard log, for the dashboard of hyperparameters.

    Args:
        folder: of the trial's log.
        params: id to plain value.
        metric: name of the value.
        value: the best value.
    """
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        known = {name: str(chosen) if chosen is None else chosen for name, chosen in params.items()}
        writer.add_hparams(known, {f"best/{metric}": value}, run_name=".")
