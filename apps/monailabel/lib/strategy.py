"""Active learning: which photo is worth a person's time next."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.random import Random

from lib.errors import unknown
from lib.infer import BundleInfer

_NEW_IMAGES = 8

_logger = logging.getLogger(__name__)


class AnyPhoto(Random):
    """MONAI Label's random strategy, which fails where all photos were served within the same second."""

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose, rather one that was not served lately."""
        try:
            chosen: dict[str, Any] | None = super().__call__(request, datastore)
        except ValueError:  # all weights are zero
            return {"id": random.choice(datastore.get_unlabeled_images())}
        return chosen


class Uncertainty(Strategy):
    """Gives the photo without a label of whose mask a bundle is least certain (`common.label.entropy`).

    The entropy of a photo is kept in its info and computed again when the bundle's weights have changed. One request
    computes at most a few, so that it is answered in time; the next request goes on with the others.

    Args:
        models: name of each bundle to its inference.
    """

    def __init__(self, models: Mapping[str, BundleInfer]) -> None:
        super().__init__("The photo with the highest mean entropy of the prediction")
        self.models = models

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose.

        Args:
            request: ``model`` (by default the first one), ``max_new`` (the most photos to compute now).
            datastore: where the photos are.

        Returns:
            ``id`` of the photo and its ``entropy``; None when every photo has a label.

        Raises:
            HTTPException: there is no such model.
        """
        name = request.get("model") or next(iter(self.models))
        if name not in self.models:
            raise unknown("model", name, self.models)
        images = sorted(datastore.get_unlabeled_images())
        left = int(request.get("max_new", _NEW_IMAGES))
        weights = self._weights(name)
        scores: dict[str, float] = {}
        for image in images:
            stored = datastore.get_image_info(image).get("entropies", {})
            if stored.get(name, {}).get("weights") != weights:
                if left <= 0:
                    continue
                left -= 1
                stored = {**stored, name: {"weights": weights, "value": self._entropy(name, image, datastore)}}
                datastore.update_image_info(image, {"entropies": stored})
            if stored[name]["value"] is not None:
                scores[image] = stored[name]["value"]
        if not images:
            return None
        chosen = max(scores, key=lambda image: scores[image], default=images[0])
        return {"id": chosen, "entropy": scores.get(chosen), "model": name}

    def _weights(self, name: str) -> list[Any]:
        """What tells the model's weights from others, as it comes back from JSON."""
        path = self.models[name].get_path()
        return [path, Path(path).stat().st_mtime_ns] if path else []

    def _entropy(self, name: str, image: str, datastore: Datastore) -> float | None:
        """The entropy of a photo; None when it cannot be used."""
        try:
            request = {"image": datastore.get_image_uri(image), "name": image}
            return self.models[name].predict(request).entropy
        except HTTPException as error:
            _logger.warning(f"{image} is passed over: {error.detail}")
            return None
