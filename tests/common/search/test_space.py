from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
from monai.bundle import ConfigParser

from common.bundles import BUNDLES, check_overrides
from common.errors import SettingError
from common.search.space import MAX_GRID, Space, read_space

KINDS = {
    "optimizer": {"kind": "categorical", "choices": {"adam": {"_target_": "Adam"}, "sgd": {"_target_": "SGD"}}},
    "network_def.features": {"kind": "categorical", "choices": [[4, 4], [8, 8]]},
    "encoder_channels::0": {"kind": "int", "low": 32, "high": 128, "step": 32},
    "network_def#dropout": {"kind": "float", "low": 0.1, "high": 0.4, "step": 0.1},
    "learning_rate": {"kind": "log", "low": 1e-4, "high": 1e-2},
}


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def write_and_read(content: Any) -> Space:
        path = tmp_path / "space.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        return read_space(path)

    return write_and_read


def test_ids_are_nested_by_a_dot_or_a_hash(read: Any) -> None:
    space = read({"space": KINDS})

    assert [parameter.name for parameter in space.parameters] == [
        *("optimizer", "network_def#features", "encoder_channels#0", "network_def#dropout", "learning_rate")
    ]


def test_a_trial_chooses_among_the_values(read: Any) -> None:
    space = read({"space": KINDS})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    rates = []
    for _ in range(50):
        trial = study.ask()
        space.suggest(trial)
        chosen = space.overrides(trial.params)
        rates.append(chosen["learning_rate"])

        assert chosen["optimizer"] in ({"_target_": "Adam"}, {"_target_": "SGD"})
        assert chosen["network_def#features"] in ([4, 4], [8, 8])
        assert chosen["encoder_channels#0"] in (32, 64, 96, 128)
        assert chosen["network_def#dropout"] == pytest.approx(round(chosen["network_def#dropout"], 1))
        assert 1e-4 <= chosen["learning_rate"] <= 1e-2
    assert (
        15 < sum(rate < 1e-3 for rate in rates) < 35
    )  # log-uniform: as often below the middle of the decades as above


def test_outer_ids_come_first_and_the_space_keeps_its_own_values(read: Any) -> None:
    space = read(
        {
            "space": {
                "network_def#channels": {"kind": "int", "low": 1, "high": 9},
                "network_def": {"kind": "categorical", "choices": {"small": {"channels": 1}}},
            }
        }
    )
    params = {"network_def#channels": 5, "network_def": "small"}

    overrides = space.overrides(params)
    overrides["network_def"]["channels"] = 5

    assert list(overrides) == ["network_def", "network_def#channels"]
    assert space.overrides(params)["network_def"] == {"channels": 1}


def test_a_grid_is_the_points_and_every_other_combination(read: Any) -> None:
    space = read(
        {
            "space": {
                "a": {"kind": "categorical", "choices": [1, 2]},
                "b": {"kind": "int", "low": 1, "high": 3},
                "c": {"kind": "float", "low": 0.1, "high": 0.3, "step": 0.1},
            },
            "points": [{"c": 0.1, "b": 2, "a": 2}],
        }
    )

    grid = space.grid()

    assert grid[0] == {"a": 2, "b": 2, "c": 0.1}
    assert grid[1] == {"a": 1, "b": 1, "c": 0.1}
    assert [point["c"] for point in grid[1:4]] == pytest.approx([0.1, 0.2, 0.3])
    assert len(grid) == 2 * 3 * 3


def test_a_grid_leaves_combinations_out_but_no_points(read: Any) -> None:
    kinds = {name: {"kind": "categorical", "choices": ["x", "y"]} for name in "abc"}
    space = read(
        {"space": kinds, "points": [{"a": "x", "b": "x", "c": "y"}], "leave_out": [{"a": "x"}, {"b": "y", "c": "y"}]}
    )

    assert ["".join(point.values()) for point in space.grid()] == ["xxy", "yxx", "yxy", "yyx"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "has no `space`"),
        ({"space": {}}, "has no `space`"),
        (
            {"space": {"a": {"kind": "uniform"}}},
            "The id a in the space .* has the kind 'uniform': give one of categorical",
        ),
        ({"space": {"a": 3}}, "has the kind None"),
        ({"space": {"a": {"kind": "int", "low": 1}}}, "is int and has no `high`"),
        ({"space": {"a": {"kind": "log", "low": 1, "high": 2, "step": 1}}}, "is log, which has no `step`"),
        ({"space": {"a": {"kind": "int", "low": 1, "high": 2.5}}}, "`high` is 2.5; give a whole number"),
        ({"space": {"a": {"kind": "float", "low": True, "high": 2}}}, "`low` is True; give a number"),
        ({"space": {"a": {"kind": "float", "low": 2, "high": 1}}}, "goes from 2 to 1"),
        ({"space": {"a": {"kind": "log", "low": 0, "high": 1}}}, "give `low` above 0"),
        ({"space": {"a": {"kind": "int", "low": 1, "high": 4, "step": 9}}}, "a step between"),
        ({"space": {"a": {"kind": "categorical", "choices": []}}}, "has no choices"),
        ({"space": {"a": {"kind": "categorical", "choices": "ab"}}}, "give a list"),
        ({"space": {"a": {"kind": "categorical", "choices": [1, 1]}}}, "has a choice twice"),
        ({"space": {"a.b": KINDS["learning_rate"], "a#b": KINDS["learning_rate"]}}, "has the id a#b twice"),
        ({"space": {"a": KINDS["learning_rate"]}, "settings": {"a": 1}}, "has the id a twice"),
        ({"space": {"a": KINDS["learning_rate"]}, "setting": {}}, "has the key 'setting'"),
        (
            {"space": {"a": KINDS["learning_rate"]}, "points": {}},
            "`points`, `leave_out` and `configs` have to be lists",
        ),
        ({"space": {"a": KINDS["learning_rate"]}, "points": [1]}, "Point 0 of the space .* is 1"),
        ({"space": {"a": KINDS["learning_rate"]}, "points": [{}]}, "Point 0 of the space .* is {}"),
        ({"space": {"a": KINDS["learning_rate"]}, "points": [{"a": 0.001, "b": 1}]}, "look at b"),
        ({"space": {"a": KINDS["learning_rate"]}, "points": [{"a": 1}]}, "a is 1, which the space does not have"),
        ({"space": {"a": KINDS["learning_rate"]}, "leave_out": [{"b": 1}]}, "leaves out has to .*: look at b"),
    ],
)
def test_what_is_wrong_is_named(read: Any, content: Any, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        read(content)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text("{", encoding="utf-8")

    for path in (tmp_path / "space.json", tmp_path / "none.json"):
        with pytest.raises(SettingError, match=path.name):
            read_space(path)


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*/configs/search_*.json")), ids=lambda path: path.stem)
def test_a_shipped_space_has_ids_of_its_bundle(path: Path) -> None:
    space = read_space(path)
    config = ConfigParser.load_config_files([str(path.with_name(name)) for name in space.configs])
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    space.suggest(trial)

    check_overrides(config, space.overrides(trial.params), path.name)

    assert path.read_text(encoding="utf-8") == json.dumps(json.loads(path.read_text("utf-8")), indent=4) + "\n"


def test_the_space_of_the_readme_is_one_of_its_bundle(read: Any) -> None:
    text = (BUNDLES.parent / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"for `(\w+)`:\n\n```json\n(\{\n    \"space\".*?\n\})\n```", text, flags=re.DOTALL)
    assert shown is not None
    space = read(json.loads(shown[2]))

    config = ConfigParser.load_config_file(BUNDLES / shown[1] / "configs" / "train.json")
    check_overrides(config, {parameter.name: None for parameter in space.parameters} | space.settings, "train.json")


def test_the_grid_of_the_classifier_has_eighteen_trainings() -> None:
    grid = read_space(BUNDLES / "dr_classification" / "configs" / "search_grid.json").grid()

    assert len(grid) == len({tuple(point.values()) for point in grid}) == 18
    for optimizer in ("sgd", "adam"):
        strategies = [point["imbalance"] for point in grid if point["optimizer"] == optimizer]
        assert sorted(strategies) == [*["none"], *["oversample"] * 4, *["weighted"] * 4]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a": KINDS["learning_rate"]}, "a grid has no end of values for a"),
        ({name: {"kind": "int", "low": 1, "high": MAX_GRID} for name in "ab"}, f"has {MAX_GRID**2} points"),
    ],
)
def test_a_grid_without_an_end_is_refused(read: Any, given: Any, said: str) -> None:
    with pytest.raises(SettingError, match=f"(?i){said}"):
        read({"space": given}).grid()
