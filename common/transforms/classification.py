"""Transforms of what a classifier learns and is told: labels, and tabular features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from common.errors import SettingError
from common.networks.fusion import Columns, feature_names, features_of


class MultiHotd(MapTransform):
    """Turn a list of label names into a vector with 1 for each label that is there, ``(len(labels),)`` of float32.

    Args:
        keys: keys whose values are lists of names; an empty list has none of the labels.
        labels: the names, in the order of the vector.
        others: further names that a list may have, and that are not asked for; None allows any.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        SettingError: there are no labels or one stands twice; when called, a value is no list, or has a name that is
            not known.
    """

    def __init__(
        self,
        keys: KeysCollection,
        labels: Sequence[str],
        others: Sequence[str] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if isinstance(labels, str) or not labels or len(set(labels)) != len(labels):
            raise SettingError(f"labels is {labels!r}; give a list of different names.")
        self.labels = list(labels)
        self.known = None if others is None else {*labels, *others}

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            names = d[key]
            if not isinstance(names, (list, tuple)):
                raise SettingError(
                    f"The {key} of {d.get('name', 'an item')} is {names!r}: give a list of names in the data list."
                )
            unknown = sorted(set(names) - self.known) if self.known is not None else []
            if unknown:
                raise SettingError(
                    f"The {key} of {d.get('name', 'an item')} has {', '.join(map(repr, unknown))}, and labels are "
                    f"{', '.join(self.labels)}: correct the data list or labels."
                )
            d[key] = torch.tensor([float(label in names) for label in self.labels])
        return d


class TabularFeaturesd(MapTransform):
    """Gather what is known of an item in a vector of float32, with NaN for what is missing.

    Without columns nothing is written, so that the network need not take such an input.

    Args:
        keys: key that is written.
        columns: columns by name (`common.networks.fusion.Columns`); an item's values stand under these names.
    """

    def __init__(self, keys: KeysCollection, columns: Columns) -> None:
        super().__init__(keys, allow_missing_keys=True)
        feature_names(columns)
        self.columns = columns

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Write it."""
        d = dict(data)
        for key in self.keys if self.columns else ():
            d[key] = torch.tensor(features_of(d, self.columns), dtype=torch.float32)
        return d
