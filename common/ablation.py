"""What biomarkers and clinical data add to a classifier of photos: the same training with and without them."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from common.bundles import check_overrides, find_bundle, open_bundle
from common.data import load_data_list
from common.errors import SettingError
from common.handlers.classification import PHOTOS, REPORT
from common.metrics import bootstrap_intervals, odir_scores
from common.patients import patient_rows, patient_truths

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "photo": {"use_biomarkers": False, "clinical_columns": {}},
    "biomarkers": {"use_biomarkers": True, "clinical_columns": {}},
    "clinical": {"use_biomarkers": False},
    "all": {"use_biomarkers": True},
}
"""What each variant sets; what it does not set is as in the bundle's ``train.json``."""
REFERENCE = "photo"
_EVALUATION = ["train.json", "evaluate.json"]
_TABLE, _MARKDOWN, _SETTINGS = "ablation.csv", "ablation.md", "settings.json"


@dataclass(frozen=True)
class Outcome:
    """The probabilities of a variant's trainings for the same patients.

    Attributes:
        labels: the labels.
        patients: names of the patients.
        truth: ``(n, C)``, true labels of the patients.
        probability: ``(S, n, C)``, one of each seed.
    """

    labels: list[str]
    patients: list[str]
    truth: NDArray[np.bool_]
    probability: NDArray[np.float64]


def run_ablation(
    bundle: str,
    dataset_dir: str,
    data_list: str,
    output: str,
    seeds: Sequence[int],
    split: str = "validation",
    variants: Sequence[str] = (),
    resamples: int = 1000,
    configs: Sequence[str] = ("train.json",),
    overrides: Mapping[str, Any] | None = None,
) -> int:
    """Train and evaluate every variant with every seed on one split, and write the table of what each reaches.

    What is finished is not done again, and a training that was stopped goes on.

    Args:
        bundle: name or folder of a bundle with the ids ``use_biomarkers`` and ``clinical_columns``.
        dataset_dir: root of the data set.
        data_list: the data list.
        output: folder for the trainings (``<variant>_seed<n>``), ``ablation.csv`` and ``ablation.md``.
        seeds: of the trainings.
        split: split that is measured.
        variants: names out of `VARIANTS`, the reference first; all of them when empty.
        resamples: number of samples of the bootstrap.
        configs: the bundle's config files of the training, the later overriding the earlier.
        overrides: further ids of the configs, the same for every variant.

    Returns:
        The exit code, 0.

    Raises:
        SettingError: a setting is wrong.
    """
    folder = find_bundle(bundle)
    chosen = list(variants or VARIANTS)
    unknown = [name for name in chosen if name not in VARIANTS]
    if unknown or chosen[0] != REFERENCE:
        raise SettingError(f"variants is {', '.join(chosen)}; give {REFERENCE} and any of {', '.join(VARIANTS)}.")
    if not seeds or len(set(seeds)) != len(seeds):
        raise SettingError(f"seeds is {list(seeds)}; give different whole numbers, at least three for a comparison.")
    if type(resamples) is not int or resamples < 1:
        raise SettingError(f"resamples is {resamples!r}; give the number of samples of the bootstrap, 1 or more.")
    given = {"dataset_dir": _absolute(dataset_dir), "data_list": _absolute(data_list), **(overrides or {})}
    given |= {name: _absolute(value) for name, value in given.items() if name.endswith("_path") and value}
    paths = [folder / "configs" / name for name in configs]
    for path in paths:
        if not path.is_file():
            raise SettingError(f"configs has {path.name}, and there is no {path}; give config files of the bundle.")
    config = ConfigParser.load_config_files([str(path) for path in paths])
    for variant in chosen:
        check_overrides(config, {**given, **VARIANTS[variant]}, " + ".join(configs))
    root = Path(output).resolve()
    items = load_data_list(data_list, dataset_dir, split, ["image"], ["image"])
    _bind(root, {**given, "configs": list(configs)})
    outcomes = {}
    for variant in chosen:
        reports = [
            _train_and_evaluate(
                folder, configs, root / f"{variant}_seed{seed}", {**given, **VARIANTS[variant], "seed": seed}, split
            )
            for seed in seeds
        ]
        outcomes[variant] = _read_outcome(reports, items)
    rows = compare(outcomes, resamples)
    (root / _TABLE).write_bytes(_as_csv(rows, len(seeds)))
    text = _as_markdown(rows, outcomes[REFERENCE], seeds, split)
    (root / _MARKDOWN).write_text(text, encoding="utf-8")
    print(text)
    return 0


def _absolute(value: Any) -> str:
    return os.path.abspath(str(value))


def _bind(root: Path, settings: Mapping[str, Any]) -> None:
    """Keep the settings of the trainings; those of earlier ones in the folder have to be the same."""
    root.mkdir(parents=True, exist_ok=True)
    path = root / _SETTINGS
    text = json.dumps(dict(settings), indent=4, default=str) + "\n"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise SettingError(
            f"The trainings in {root} were made with the settings of {path}, and others are given: give those, or "
            "another output folder."
        )
    path.write_text(text, encoding="utf-8")


def _train_and_evaluate(
    bundle: Path, configs: Sequence[str], folder: Path, settings: Mapping[str, Any], split: str
) -> Path:
    """Train and evaluate once; give the folder of the evaluation."""
    evaluation = folder / f"evaluation_{split}"
    if (evaluation / REPORT).is_file():
        print(f"{folder.name}: done before", flush=True)
        return evaluation
    print(f"{folder.name}: training", flush=True)
    _run(bundle, configs, {**settings, "output_dir": str(folder)})
    print(f"{folder.name}: evaluation", flush=True)
    weights = {"ckpt_path": str(folder / "models" / "model.pt"), "split": split, "output_dir": str(evaluation)}
    # What is of the training alone, such as its schedule, the evaluation does not have.
    config = ConfigParser.load_config_file(str(bundle / "configs" / _EVALUATION[0]))
    kept = {name: value for name, value in settings.items() if name.replace("::", "#").split("#")[0] in config}
    # The intervals are those of the table; the report's own need not be precise.
    _run(bundle, _EVALUATION, {**kept, **weights, "bootstrap_resamples": 1})
    return evaluation


def _run(bundle: Path, configs: Sequence[str], settings: Mapping[str, Any]) -> None:
    workflow = open_bundle(bundle, configs, settings, bundle_logging=True)
    workflow.run()
    workflow.finalize()


def _read_outcome(evaluations: Sequence[Path], items: Sequence[Mapping[str, Any]]) -> Outcome:
    """Read the probabilities that evaluations of one variant wrote, by patient."""
    known = {item["name"]: item for item in items}
    tables = []
    for evaluation in evaluations:
        with (evaluation / PHOTOS).open(newline="", encoding="utf-8") as file:
            tables.append(list(csv.DictReader(file)))
    labels = [column.removeprefix("p_") for column in tables[0][0] if column.startswith("p_")]
    groups = [str(known.get(row["image"], {}).get("patient", row["image"])) for row in tables[0]]
    probabilities = []
    for table in tables:
        values = [{label: float(row[f"p_{label}"]) for label in labels} for row in table]
        probabilities.append(np.stack(list(patient_rows(zip(groups, values, strict=True), labels).values())))
    truth = np.array([[row[f"true_{label}"] == "1" for label in labels] for row in tables[0]])
    photos = [(group, known.get(row["image"], {})) for group, row in zip(groups, tables[0], strict=True)]
    truths = patient_truths(photos, truth, labels)
    return Outcome(labels, list(truths), np.stack(list(truths.values())), np.stack(probabilities))


def _scores(outcome: Outcome, rows: NDArray[np.intp]) -> dict[str, float]:
    """Scores on some patients, averaged over the seeds."""
    truth = outcome.truth[rows]
    found: dict[str, float] = {}
    for i, label in enumerate(outcome.labels):
        both = 0 < np.count_nonzero(truth[:, i]) < len(rows)
        areas = [roc_auc_score(truth[:, i], p[rows, i]) for p in outcome.probability] if both else [np.nan]
        found[f"AUC {label}"] = float(np.mean(areas))
    defined = [value for value in found.values() if not np.isnan(value)]
    odir = [odir_scores(p[rows], truth)["score"] for p in outcome.probability]
    return {"macro AUC": float(np.mean(defined)) if defined else np.nan, "ODIR score": float(np.mean(odir)), **found}


def compare(outcomes: Mapping[str, Outcome], resamples: int = 1000, seed: int = 0) -> list[dict[str, Any]]:
    """Compare variants on the same patients, with 95% bootstrap intervals over patients.

    A score is the mean over the seeds; a difference is that to the first variant on the same patients, so that its
    interval is that of a paired comparison.

    Args:
        outcomes: variant to its outcome.
        resamples: number of samples of the bootstrap.
        seed: of the bootstrap.

    Returns:
        A row for each variant and score: ``variant``, ``score``, ``value``, ``low``, ``high``, ``seed_sd`` (sample
        standard deviation over the seeds; NaN for one), and for all but the first variant ``difference``,
        ``difference_low`` and ``difference_high``.

    Raises:
        SettingError: the variants are not of the same patients and labels.
    """
    reference = next(iter(outcomes))
    first = outcomes[reference]
    for name, outcome in outcomes.items():
        if (outcome.labels, outcome.patients) != (first.labels, first.patients):
            raise SettingError(f"{name} and {reference} are not of the same patients and labels: give another output.")

    def statistics(rows: NDArray[np.intp]) -> dict[tuple[str, str, bool], float]:
        scores = {name: _scores(outcome, rows) for name, outcome in outcomes.items()}
        return {
            (name, score, is_difference): value - is_difference * scores[reference][score]
            for name in outcomes
            for score, value in scores[name].items()
            for is_difference in (False, True)
        }

    values = statistics(np.arange(len(first.patients)))
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        intervals = bootstrap_intervals(statistics, first.patients, resamples=resamples, seed=seed)
    rows = []
    for name, outcome in outcomes.items():
        single = [
            _scores(Outcome(outcome.labels, outcome.patients, outcome.truth, p[None]), np.arange(len(first.patients)))
            for p in outcome.probability
        ]
        for score in single[0]:
            row: dict[str, Any] = {"variant": name, "score": score, "value": values[name, score, False]}
            row["low"], row["high"] = intervals[name, score, False]
            row["seed_sd"] = float(np.std([scores[score] for scores in single], ddof=1)) if len(single) > 1 else np.nan
            if name != reference:
                row["difference"] = values[name, score, True]
                row["difference_low"], row["difference_high"] = intervals[name, score, True]
            rows.append(row)
    return rows


def _as_csv(rows: Sequence[Mapping[str, Any]], seeds: int) -> bytes:
    text = io.StringIO()
    columns = ["variant", "score", "seeds", "value", "low", "high", "seed_sd"]
    columns += ["difference", "difference_low", "difference_high"]
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = {
            name: value if isinstance(value, str) else "" if np.isnan(value) else f"{value:.6g}"
            for name, value in row.items()
        }
        writer.writerow({**cells, "seeds": seeds})
    return text.getvalue().encode("utf-8")


def _as_markdown(rows: Sequence[Mapping[str, Any]], outcome: Outcome, seeds: Sequence[int], split: str) -> str:
    """Two tables: what each variant reaches, and the difference to the first one."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    scores = list(dict.fromkeys(row["score"] for row in rows))
    by_name = {(row["variant"], row["score"]): row for row in rows}
    lines = [
        f"{len(outcome.patients)} patients of the {split} split, means over {len(seeds)} seeds "
        f"({', '.join(map(str, seeds))}), 95% bootstrap intervals over patients.",
        "",
        f"| score | {' | '.join(variants)} |",
        f"|---|{'---|' * len(variants)}",
    ]
    for score in scores:
        cells = [_cell(by_name[variant, score], "", "{:.3f}") for variant in variants]
        lines.append(f"| {score} | {' | '.join(cells)} |")
    if len(variants) > 1:
        lines += [
            "",
            f"Differences to {variants[0]}, on the same patients:",
            "",
            f"| score | {' | '.join(variants[1:])} |",
            f"|---|{'---|' * (len(variants) - 1)}",
        ]
        for score in scores:
            cells = [_cell(by_name[variant, score], "difference", "{:+.3f}") for variant in variants[1:]]
            lines.append(f"| {score} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Mapping[str, Any], kind: str, form: str) -> str:
    value, low, high = (
        (row["difference"], row["difference_low"], row["difference_high"])
        if kind
        else (row["value"], row["low"], row["high"])
    )
    if np.isnan(value):
        return "not defined"
    return f"{form.format(value)} ({form.format(low)} to {form.format(high)})"
