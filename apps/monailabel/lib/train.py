"""Fine-tuning of one bundle on the labels in the datastore."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.utils.others.generic import device_list

from common.errors import SettingError
from common.label import Annotation, fine_tune, remap
from common.label.inference import describe
from common.label.training import SUMMARY
from common.pixels import read_pixels
from lib.infer import torch_device

_MAX_EPOCHS = 20
_VALIDATION = 0.2
_LEARNING_RATE = 2e-4

_logger = logging.getLogger(__name__)


def plain_settings(settings: Any) -> dict[str, Any]:
    """Check that what a client sets are numbers: texts would be paths of the server, or be run as Python by MONAI.

    Args:
        settings: id of ``train.json`` to value.

    Returns:
        The settings.

    Raises:
        SettingError: a value is something else than a number, true, false, or a list of these.
    """
    if not isinstance(settings, dict):
        raise SettingError(f"settings is {settings!r}; give ids of train.json and their values.")
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(single, int | float) for single in values):
            raise SettingError(f"The setting {name} is {value!r}; a client can set numbers, true and false.")
    return settings


class BundleTrain(TrainTask):
    """Trains a bundle by its own ``train.json``; the bundle's folder is never written to.

    Args:
        bundle: the bundle's folder.
        weights: file of the fine-tuned weights, which this training replaces when it has ended well.
    """

    def __init__(self, bundle: Path, weights: Path) -> None:
        self.bundle = bundle
        self.weights = weights
        self.description_of_bundle = describe(bundle)
        super().__init__(f"Fine-tunes: {self.description_of_bundle.text}")

    def config(self) -> dict[str, Any]:
        """What a client may set, with the values that are used otherwise."""
        return {
            "device": device_list(),
            "max_epochs": _MAX_EPOCHS,
            "val_split": _VALIDATION,
            "learning_rate": _LEARNING_RATE,
            "pretrained": True,
        }

    def stats(self) -> dict[str, Any]:
        """What is known of the newest training that ended well."""
        summary = self.weights.parent / SUMMARY
        if not summary.is_file():
            return {}
        stats: dict[str, Any] = json.loads(summary.read_text(encoding="utf-8"))
        return {**stats, "total_epochs": stats["epochs"]}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train.

        Args:
            request: ``max_epochs``, ``val_split`` (share of the patients), ``learning_rate``, ``pretrained`` (start
                from the newest weights), ``device``, and ``settings``: further ids of ``train.json``, as numbers.
            datastore: photos and labels. A label with the bundle's name as its tag counts, else the final one; the
                ``patient`` in a photo's info keeps photos of one patient together.

        Returns:
            What `common.label.fine_tune` says.

        Raises:
            SettingError: a setting is wrong, or there are too few labels.
        """
        shipped = self.bundle / "models" / "model.pt"
        newest = self.weights if self.weights.is_file() else shipped
        numbers = {
            "epochs": request.get("max_epochs", _MAX_EPOCHS),
            "val_interval": 1,
            "checkpoint_interval": request.get("max_epochs", _MAX_EPOCHS),
            "learning_rate": request.get("learning_rate", _LEARNING_RATE),
            **plain_settings(request.get("settings", {})),
        }
        settings = {**plain_settings(numbers), "device": f"$torch.device('{torch_device(request.get('device'))}')"}
        started = datetime.now(tz=UTC).strftime("%Y%m%dT%H%M%S")
        return fine_tune(
            self.bundle,
            self._annotations(datastore),
            self.weights,
            newest if request.get("pretrained", True) and newest.is_file() else None,
            self.weights.parent / f"run_{started}",
            request.get("val_split", _VALIDATION),
            settings,
        )

    def _annotations(self, datastore: Datastore) -> Iterator[Annotation]:
        """Every photo with a label of structures that the bundle has."""
        values = self.description_of_bundle.values
        for image in datastore.list_images():
            tags = datastore.get_labels_by_image_id(image)
            tag = next((tag for tag in (self.bundle.name, DefaultLabelTag.FINAL.value) if tag in tags), None)
            if tag is None:
                continue
            path = datastore.get_label_uri(image, tag)
            info = datastore.get_label_info(image, tag)
            if info.get("model", self.bundle.name) != self.bundle.name:
                continue
            labels = read_pixels(path)
            if labels.ndim == 3:
                raise SettingError(f"The label {path} is a colour picture: save it as a label map of one channel.")
            given = {entry["name"]: int(entry["idx"]) for entry in info.get("label_info", [])} or values
            mapped = remap(labels, given, values, path)
            if mapped is None:
                _logger.info(f"The label {path} is of {', '.join(given)}, not of {', '.join(values)}: it is left out.")
                continue
            patient = datastore.get_image_info(image).get("patient", image)
            yield Annotation(Path(datastore.get_image_uri(image)), mapped, str(patient))
