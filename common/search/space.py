"""What a search varies: a JSON file of ids and the values that each may take."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import SettingError

if TYPE_CHECKING:
    import optuna

MAX_GRID = 10_000
_KEYS = {
    "categorical": ({"choices"}, set()),
    "int": ({"low", "high"}, {"step"}),
    "float": ({"low", "high"}, {"step"}),
    "log": ({"low", "high"}, set()),
}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


@dataclass(frozen=True)
class Parameter:
    """The values that one id may take.

    Attributes:
        name: the id, nested ones joined by ``#``.
        kind: ``categorical``, ``int`` or ``float`` (uniform), or ``log`` (log-uniform).
        choices: of ``categorical``: what a study calls each value, and the value. A study keeps plain values only, so
            that a list or a component goes by a name.
        low: the least number.
        high: the greatest number.
        step: between two numbers; None for any number between.
    """

    name: str
    kind: str
    choices: Mapping[Any, Any]
    low: float = 0
    high: float = 0
    step: float | None = None

    def suggest(self, trial: optuna.Trial) -> None:
        """Let a trial choose."""
        if self.kind == "categorical":
            trial.suggest_categorical(self.name, list(self.choices))
        elif self.kind == "int":
            trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1))
        else:
            trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.kind == "log")

    def allows(self, value: Any) -> bool:
        """Whether the id may take a value (of ``categorical``: whether a choice has this name)."""
        if self.kind == "categorical":
            return _is_plain(value) and value in self.choices
        whole = self.kind == "int"
        return isinstance(value, int if whole else (int, float)) and self.low <= value <= self.high

    def every_value(self) -> list[Any] | None:
        """All values, for a grid; None when there is no end to them."""
        if self.kind == "categorical":
            return list(self.choices)
        if self.kind == "int":
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [self.low + number * self.step for number in range(count)]


@dataclass(frozen=True)
class Space:
    """What a search varies.

    Attributes:
        path: the file, for messages.
        parameters: the ids, in the order of the file.
        points: trials that come first, whatever the sampler: id to value (or to the name of a choice).
        left_out: parts of points; a grid leaves out every combination that has one of them, points not.
        settings: ids that have the same value in every trial.
        text: the content in one form, so that two files can be compared.
    """

    path: Path
    parameters: tuple[Parameter, ...]
    points: tuple[dict[str, Any], ...]
    left_out: tuple[dict[str, Any], ...]
    settings: dict[str, Any]
    text: str

    def suggest(self, trial: optuna.Trial) -> None:
        """Let a trial choose a value for each id."""
        for parameter in self.parameters:
            parameter.suggest(trial)

    def overrides(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The overrides of a trial that has chosen, the outer ids before those that lie in them.

        Args:
            params: id to value, or to the name of a choice.
        """
        choices = {parameter.name: parameter.choices for parameter in self.parameters}
        chosen = {name: choices[name][value] if choices[name] else value for name, value in params.items()}
        return outer_first(deepcopy(chosen))

    def grid(self) -> list[dict[str, Any]]:
        """The points, and every other combination that is not left out; the last id of the file changes fastest.

        Raises:
            SettingError: an id can take any number between two, or there are more than `MAX_GRID` combinations.
        """
        values = []
        for parameter in self.parameters:
            found = parameter.every_value()
            if found is None:
                raise SettingError(
                    f"A grid has no end of values for {parameter.name} in {self.path}: give it `choices` or a `step`, "
                    "or choose --sampler random or tpe."
                )
            values.append(found)
        size = math.prod(len(found) for found in values)
        if size > MAX_GRID:
            raise SettingError(
                f"The grid of {self.path} has {size} points: give fewer choices or larger steps, or choose --sampler "
                "random or tpe."
            )
        names = [parameter.name for parameter in self.parameters]
        product = [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]
        kept = [point for point in product if not any(part.items() <= point.items() for part in self.left_out)]
        return [*self.points, *(point for point in kept if point not in self.points)]


def outer_first(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Sort ids so that MONAI, which applies them in order, does not replace a part by the whole that it lies in."""
    return dict(sorted(overrides.items(), key=lambda entry: entry[0].count("#")))


def _as_id(name: str) -> str:
    return name.replace("::", "#").replace(".", "#")


def _choices(given: Any, where: str) -> dict[Any, Any]:
    """The choices by what a study calls them."""
    if isinstance(given, Mapping):
        named = dict(given)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        named = {value if _is_plain(value) else json.dumps(value): value for value in given}
        if len(named) < len(given):
            raise SettingError(f"{where} has a choice twice: leave one out.")
    else:
        raise SettingError(f"{where}: `choices` is {given!r}; give a list, or an object of names and values.")
    if not named:
        raise SettingError(f"{where} has no choices: give some.")
    return named


def _parameter(name: str, given: Any, path: Path) -> Parameter:
    where = f"The id {name} in the space {path}"
    kind = given.get("kind") if isinstance(given, Mapping) else None
    if kind not in _KEYS:
        raise SettingError(f"{where} has the kind {kind!r}: give one of {', '.join(_KEYS)}.")
    needed, allowed = _KEYS[kind]
    for key in sorted(needed - set(given)):
        raise SettingError(f"{where} is {kind} and has no `{key}`: add it.")
    for key in sorted(set(given) - needed - allowed - {"kind"}):
        raise SettingError(f"{where} is {kind}, which has no `{key}`: give {', '.join(sorted(needed | allowed))}.")
    if kind == "categorical":
        return Parameter(_as_id(name), kind, _choices(given["choices"], where))
    numbers = {key: given[key] for key in ("low", "high", "step") if key in given}
    wanted = int if kind == "int" else (int, float)
    for key, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, wanted) or not math.isfinite(value):
            raise SettingError(f"{where}: `{key}` is {value!r}; give a {'whole ' if kind == 'int' else ''}number.")
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    if not low < high or (kind == "log" and low <= 0) or (step is not None and not 0 < step <= high - low):
        least = "`low` above 0, " if kind == "log" else ""
        raise SettingError(f"{where} goes from {low} to {high}: give {least}`low` below `high`, and a step between.")
    return Parameter(_as_id(name), kind, {}, low, high, step)


def _point(given: Any, parameters: Sequence[Parameter], where: str, *, whole: bool) -> dict[str, Any]:
    if not isinstance(given, Mapping) or not given:
        raise SettingError(f"{where} is {given!r}: give an object of ids and values.")
    point = {_as_id(name): value for name, value in given.items()}
    known = {parameter.name: parameter for parameter in parameters}
    for name in [
        *(name for name in known if whole and name not in point),
        *(name for name in point if name not in known),
    ]:
        raise SettingError(f"{where} has to have the ids of the space{', all of them' * whole}: look at {name}.")
    for name, value in point.items():
        if not known[name].allows(value):
            raise SettingError(f"{where}: {name} is {value!r}, which the space does not have.")
    return {name: point[name] for name in known if name in point}


def read_space(path: str | Path) -> Space:
    """Read a space.

    The file is a JSON object with ``space``: id to ``{"kind": "categorical", "choices": [...]}``, where choices may be
    named (``{"adam": {...}}``), to ``{"kind": "int" or "float", "low": ..., "high": ..., "step": ...}``, where the step
    may be left out, or to ``{"kind": "log", "low": ..., "high": ...}``. It may have ``points`` (a list of trials that
    come first, id to value), ``leave_out`` (a list of parts of points; a grid leaves out every combination that has one
    of them), ``settings`` (id to the value in every trial) and ``description``. Ids are nested by ``#`` or a dot.

    Args:
        path: the file.

    Returns:
        The space; whether the bundle has its ids is looked at elsewhere.

    Raises:
        SettingError: the file is missing or something in it is wrong.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingError(f"The space {path} is no JSON file that can be read ({error}): correct --space.") from error
    known = ("description", "space", "points", "leave_out", "settings")
    if not isinstance(content, dict) or not isinstance(content.get("space"), dict) or not content["space"]:
        raise SettingError(f"The file {path} has no `space`: give an object of ids, each with its `kind` and values.")
    for key in sorted(set(content) - set(known)):
        raise SettingError(f"The space {path} has the key {key!r}: give only {', '.join(known)}.")
    points, left_out, settings = (content.get(key, []) for key in known[2:])
    settings = settings or {}
    if not isinstance(points, list) or not isinstance(left_out, list) or not isinstance(settings, dict):
        raise SettingError(f"The space {path}: `points` and `leave_out` have to be lists, and `settings` an object.")
    parameters = tuple(_parameter(name, given, path) for name, given in content["space"].items())
    names = [parameter.name for parameter in parameters]
    fixed = {_as_id(name): value for name, value in settings.items()}
    for name in [name for number, name in enumerate(names) if name in names[:number] or name in fixed]:
        raise SettingError(f"The space {path} has the id {name} twice: leave one out.")
    return Space(
        path,
        parameters,
        tuple(
            _point(point, parameters, f"Point {i} of the space {path}", whole=True) for i, point in enumerate(points)
        ),
        tuple(_point(part, parameters, f"What the space {path} leaves out", whole=False) for part in left_out),
        fixed,
        json.dumps({key: content.get(key) for key in known[1:]}, sort_keys=True),
    )
