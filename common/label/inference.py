"""Inference of a bundle on one image at a time, by the parts of its own ``inference.json``."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.inferers import Inferer
from numpy.typing import NDArray

from common.errors import SettingError
from common.label.labels import entropy, label_map, label_values
from common.pages import pages_note
from common.readers import to_picture
from common.runner import BundleRunner

_PLACES_PROMPTS = "common.transforms.PlacePromptsd"
_KEPT_IMAGES = 8
CLASSIFICATION = "classification"
"""Format of the output of a bundle that gives probabilities."""


@dataclass(frozen=True)
class Prediction:
    """What a bundle finds on one image.

    Attributes:
        labels: label map ``(H, W)`` at the image's own size; its values are those of `Description.values`.
        masks: name of each structure to its mask ``(H, W)``; they overlap where a structure is part of another.
        biomarkers: column of the bundle's table to value; None for what cannot be computed.
        note: why something could not be computed, or what else a user has to know; empty if nothing.
        entropy: `common.label.labels.entropy` in the field of view; None where the bundle keeps no probability.
    """

    labels: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]
    biomarkers: dict[str, Any]
    note: str
    entropy: float | None


@dataclass(frozen=True)
class Classification:
    """What a classifier says of one image.

    Attributes:
        probabilities: name of each label to its probability.
        note: what else a user has to know; empty if nothing.
        entropy: `common.label.labels.entropy`, the mean over the labels.
    """

    probabilities: dict[str, float]
    note: str
    entropy: float | None


@dataclass(frozen=True)
class Description:
    """What a bundle's metadata say to a client.

    Attributes:
        text: what it does.
        version: of the bundle.
        kind: format of the output, ``segmentation`` or ``classification``.
        values: name of each structure to its value in a label map; name of each label of a classifier to its number.
        interactive: whether clicks and boxes steer it.
    """

    text: str
    version: str
    kind: str
    values: dict[str, int]
    interactive: bool

    @property
    def classifies(self) -> bool:
        """Whether it gives probabilities and no masks."""
        return self.kind == CLASSIFICATION


def describe(bundle: Path) -> Description:
    """Read what a bundle's ``metadata.json`` says, and from its ``inference.json`` whether it takes prompts.

    Args:
        bundle: the bundle's folder.
    """
    config = ConfigParser.load_config_file(str(bundle / "configs" / "inference.json"))
    steps = config["preprocessing"]["transforms"]
    interactive = any(step["_target_"] == _PLACES_PROMPTS for step in steps)
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))
    (output,) = metadata["network_data_format"]["outputs"].values()
    if output["format"] == CLASSIFICATION:
        values = {name: number for number, name in enumerate(config["labels"])}
    else:
        values = label_values(output["channel_def"])
    return Description(metadata["description"], metadata["version"], output["format"], values, interactive)


@dataclass(frozen=True)
class _Kept:
    """What is kept of an image between two clicks.

    Attributes:
        item: what the preprocessing has made of it, without prompts, and without the photo, which is large and needed
            for pictures of the results only.
        size: width and height of the photo.
        inferer: the bundle's inferer as it is for many prompts; it keeps the image's features.
    """

    item: dict[str, Any]
    size: tuple[int, int]
    inferer: Inferer


class BundlePredictor:
    """A bundle, ready to segment, or to classify, one image after the other.

    A mask is the one that the bundle's own run writes, pixel for pixel (`common.runner.BundleRunner`). It can be called
    from several threads: one image is done at a time. Of the last images that were given with prompts, what the
    preprocessing and the encoder made of them is kept, so that a further click costs little more than the decoder.

    Args:
        bundle: the bundle's folder.
        settings: ids of ``inference.json`` to override, e.g. ``ckpt_path``.

    Raises:
        SettingError: a setting is wrong, or the weights are missing or do not fit.
    """

    def __init__(self, bundle: Path, settings: Mapping[str, Any]) -> None:
        self.bundle = bundle
        self.description = describe(bundle)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._runner = BundleRunner(bundle, settings)
        self._place_prompts: Any = None
        if self.description.interactive:
            steps = self._runner.parser["preprocessing"]["transforms"]
            number = [entry["_target_"] for entry in steps].index(_PLACES_PROMPTS)
            self._place_prompts = self._runner.preprocessing.transforms[number]
        parser = self._runner.parser
        self._columns: Mapping[str, Any] = (
            parser.get_parsed_content("columns") if self.description.classifies and "columns" in parser else {}
        )
        self.network: torch.nn.Module = self._runner.network

    def __call__(self, image: Path, name: str, prompts: Mapping[str, Any] | None = None) -> Prediction:
        """Segment one image.

        Args:
            image: the file.
            name: what the image is called; a name may say which eye it shows.
            prompts: name of a structure to its ``box`` (x0, y0, x1, y1) and ``points`` (x, y, 1 for inside or 0 for
                outside), in pixels of the image as it is seen upright; for interactive bundles.

        Returns:
            What the bundle finds.

        Raises:
            SettingError: a setting is wrong, or a prompt is not for this bundle or lies outside the image.
            Exception: whatever the bundle's transforms raise; `common.data.failure_of` says what it means.
        """
        if prompts and not self.description.interactive:
            raise SettingError(f"The bundle {self.bundle.name} takes no clicks and no box: leave them out.")
        with self._lock:
            data = self._steered(image, name, prompts) if prompts else self._plain(image, name)
        values = self.description.values
        output = torch.as_tensor(data["pred"]).cpu().numpy()
        labels = to_picture(label_map(output, values)[None])
        exclusive = len(output) == 1 and len(values) > 1
        masks = {
            name: labels == value if exclusive else to_picture(output[[channel]]) > 0
            for channel, (name, value) in enumerate(values.items())
        }
        biomarkers = {column: _as_json(value) for column, value in data.get("biomarkers", {}).items()}
        uncertainty = None
        if "probability" in data:
            inside = np.asarray(torch.as_tensor(data["fov"])[0].cpu() > 0) if "fov" in data else None
            probability = torch.as_tensor(data["probability"]).float().cpu().numpy()
            uncertainty = _as_json(entropy(probability, exclusive, inside))
        return Prediction(labels, masks, biomarkers, str(data.get("note", "")), uncertainty)

    def classify(self, image: Path, name: str, known: Mapping[str, Any] | None = None) -> Classification:
        """Classify one image.

        Args:
            image: the file.
            name: what the image is called.
            known: columns that the network takes besides (`common.networks.fusion.Columns`) to their values; others
                count as missing.

        Returns:
            What the bundle says.

        Raises:
            SettingError: a column is not one of the bundle's, or its value is none of the column.
            Exception: whatever the bundle's transforms raise; `common.data.failure_of` says what it means.
        """
        unknown = sorted(set(known or {}) - set(self._columns))
        if unknown:
            raise SettingError(
                f"The bundle {self.bundle.name} takes no column {unknown[0]!r}: give any of "
                f"{', '.join(self._columns) or 'none'}."
            )
        with self._lock:
            item = self._runner.preprocessing({**(known or {}), **_item(image, name)})
            data = self._runner.run(item)
        probability = torch.as_tensor(data["pred"]).float().cpu().numpy()
        probabilities = {label: float(p) for label, p in zip(self.description.values, probability, strict=True)}
        uncertainty = _as_json(entropy(probability[:, None, None], exclusive=False))
        return Classification(probabilities, str(data.get("note", "")), uncertainty)

    def _plain(self, image: Path, name: str) -> dict[str, Any]:
        """What is known of an image after a run without prompts."""
        return self._runner.run(self._runner.preprocessing(_item(image, name)))

    def _steered(self, image: Path, name: str, prompts: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of an image after a run with prompts."""
        key = hashlib.sha256(image.read_bytes() + name.encode()).hexdigest()
        if key not in self._kept:
            item = self._runner.preprocessing(_item(image, name))
            width, height = item.pop("photo").shape[1:]
            inferer: Any = self._runner.inferer
            self._kept[key] = _Kept(item, (width, height), inferer.interactive())
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT_IMAGES:
            self._kept.popitem(last=False)
        kept = self._kept[key]
        _check_prompts(prompts, self.description.values, *kept.size)
        try:
            item = self._place_prompts({**copy.deepcopy(kept.item), "prompts": dict(prompts)})
        except ValueError as error:
            raise SettingError(f"The prompts cannot be used: {error}") from error
        return self._runner.run(item, kept.inferer)


def _item(image: Path, name: str) -> dict[str, Any]:
    """The item of an image, with what is to say of its file."""
    note = pages_note(image)
    return {"image": str(image), "name": name, **({"note": note} if note else {})}


def _check_prompts(prompts: Mapping[str, Any], values: Mapping[str, int], width: int, height: int) -> None:
    """Refuse prompts of unknown structures and outside the image."""
    for structure, prompt in prompts.items():
        if structure not in values:
            raise SettingError(f"There is no structure {structure!r} to click on: give one of {', '.join(values)}.")
        places = [point[:2] for point in prompt.get("points") or ()]
        if prompt.get("box"):
            places += [prompt["box"][:2], prompt["box"][2:]]
        for x, y in places:
            if not (0 <= x < width and 0 <= y < height):  # so NaN is refused too
                raise SettingError(
                    f"The place ({x:g}, {y:g}) lies outside the image of {width}x{height} pixels: give its column, "
                    f"from 0 to {width - 1}, and its row, from 0 to {height - 1}."
                )


def _as_json(value: Any) -> Any:
    """A number or word as JSON has it, which has no NaN."""
    plain = value.item() if isinstance(value, np.generic | torch.Tensor) else value
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain
