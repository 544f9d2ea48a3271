"""Probability of the second of two classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from monai.transforms import MapTransform


class PresenceProbabilityd(MapTransform):
    """Turn logits of "not there" and "there", ``(2,)``, into the probability of "there", ``(1,)``, by softmax.

    Args:
        keys: keys of the logits.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = torch.softmax(d[key].float(), dim=0)[1:]
        return d
