"""Fine-tuning of a bundle on label maps that a person has drawn or corrected."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from sklearn.model_selection import GroupShuffleSplit

from common.bundles import open_bundle
from common.errors import SettingError

DATA_LIST = "data_list.json"
SUMMARY = "summary.json"
_WEIGHTS = Path("models", "model.pt")
_SEED = 0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotation:
    """An image and what a person has drawn on it.

    Attributes:
        image: the file.
        labels: label map ``(H, W)`` with the bundle's values.
        patient: who it is of, so that no patient stands in both training and validation.
    """

    image: Path
    labels: NDArray[np.uint8]
    patient: str


def write_data_list(
    annotations: Iterable[Annotation], folder: Path, validation: float, entries: Mapping[str, Any]
) -> dict[str, int]:
    """Write the label maps and a data list of them, divided by patient at random, always alike.

    Args:
        annotations: at least two, of different patients.
        folder: where ``data_list.json`` and the label maps are written; it is made.
        validation: share of the patients whose images are for validation, above 0 and below 1.
        entries: what each item of the list says besides.

    Returns:
        Number of images of each split.

    Raises:
        SettingError: the share is not usable, or there are too few patients.
    """
    if not 0 < validation < 1:
        raise SettingError(f"val_split is {validation!r}; give the share for validation, above 0 and below 1.")
    maps = folder / "labels"
    maps.mkdir(parents=True, exist_ok=True)
    items, patients = [], []
    for number, annotation in enumerate(annotations):
        label = maps / f"{number:05d}.png"
        label.write_bytes(cv2.imencode(".png", annotation.labels)[1].tobytes())
        items.append({**entries, "image": str(annotation.image), "label": str(label), "patient": annotation.patient})
        patients.append(annotation.patient)
    if len(set(patients)) < 2:
        raise SettingError(
            f"There are {len(items)} labelled images of {len(set(patients))} patients, and at least two patients are "
            "needed, one for training and one for validation: save labels of more images first."
        )
    splitter = GroupShuffleSplit(n_splits=1, test_size=validation, random_state=_SEED)
    training, held_out = next(splitter.split(items, groups=patients))
    splits = {"training": [items[i] for i in training], "validation": [items[i] for i in held_out]}
    (folder / DATA_LIST).write_text(json.dumps(splits, indent=4), encoding="utf-8")
    return {name: len(split) for name, split in splits.items()}


def fine_tune(
    bundle: Path,
    annotations: Iterable[Annotation],
    weights: Path,
    initial_weights: Path | None,
    run: Path,
    validation: float,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Train a bundle by its own ``train.json`` on annotations, and put the best weights where they are used.

    Args:
        bundle: the bundle's folder; nothing in it is changed.
        annotations: what to train on.
        weights: file that is replaced by the best weights of this training when it has ended well.
        initial_weights: weights to start from; None starts from random ones.
        run: folder of the training: data list, TensorBoard log, curves. Its checkpoints are removed at the end.
        validation: share of the patients for validation.
        settings: further ids of ``train.json``.

    Returns:
        ``metric``, ``best_metric`` (None where it is not defined on these photos), ``epoch`` of the best weights,
        ``epochs``, and the number of images of each split (``training``, ``validation``); the same stands in
        ``summary.json`` beside the weights.

    Raises:
        SettingError: a setting is wrong, or there are too few annotations.
    """
    config = ConfigParser.load_config_file(str(bundle / "configs" / "train.json"))
    counts = write_data_list(annotations, run, validation, config.get("annotation", {}))
    _logger.info(f"{bundle.name}: {counts['training']} images for training, {counts['validation']} for validation")
    given = {
        "dataset_dir": str(run),
        "data_list": str(run / DATA_LIST),
        "output_dir": str(run),
        "initial_weights": str(initial_weights) if initial_weights else None,
        **settings,
    }
    workflow = open_bundle(bundle, ["train.json"], given, bundle_logging=True)
    workflow.run()
    state = workflow.parser.get_parsed_content("validate#evaluator").state
    trained = workflow.parser.get_parsed_content("train#trainer").state
    workflow.finalize()
    best = float(state.best_metric)
    summary = {
        "metric": state.key_metric_name,
        "best_metric": best if math.isfinite(best) else None,
        "epoch": int(state.best_metric_epoch),
        "epochs": int(trained.epoch),
        **counts,
    }
    weights.parent.mkdir(parents=True, exist_ok=True)
    temporary = weights.with_name(f".{weights.name}.part")
    shutil.copyfile(run / _WEIGHTS, temporary)
    os.replace(temporary, weights)
    (weights.parent / SUMMARY).write_text(json.dumps(summary, indent=4), encoding="utf-8")
    shutil.rmtree(run / _WEIGHTS.parent)
    return summary
