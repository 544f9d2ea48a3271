"""Label maps: one picture for all structures of a bundle, with one value for each."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from common.errors import SettingError

_BACKGROUND = "background"
_ENTROPY_SIDE = 512


def label_values(channel_def: Mapping[str, str]) -> dict[str, int]:
    """Give the value that each structure has in a label map.

    Args:
        channel_def: number of a channel of the output to its name, from a bundle's metadata.

    Returns:
        Name to value, in the order of the channels. Where channel 0 is the background, a value is the number of the
        channel; else it is one more, since 0 is what belongs to no structure.
    """
    names = {int(number): name for number, name in channel_def.items()}
    first = 0 if names.get(0, "").lower() == _BACKGROUND else 1
    return {name: number + first for number, name in sorted(names.items()) if name.lower() != _BACKGROUND}


def label_map(masks: NDArray[np.generic], values: Mapping[str, int]) -> NDArray[np.uint8]:
    """Join the output of a bundle into one label map.

    Args:
        masks: a mask for each structure ``(C, W, H)``, in the order of ``values``, of which a later one is drawn over
            an earlier one (the cup over the disc); or the label map of all ``(1, W, H)``.
        values: name of a structure to its value.

    Returns:
        ``(W, H)``.

    Raises:
        ValueError: there is neither one channel nor one for each structure.
    """
    if len(masks) == 1 and len(values) > 1:
        return np.ascontiguousarray(masks[0]).astype(np.uint8)
    if len(masks) != len(values):
        raise ValueError(f"The output has {len(masks)} channels for {len(values)} structures ({', '.join(values)}).")
    joined = np.zeros(masks.shape[1:], dtype=np.uint8)
    for mask, value in zip(masks, values.values(), strict=True):
        joined[mask > 0] = value
    return joined


def remap(
    labels: NDArray[np.uint8], given: Mapping[str, int], values: Mapping[str, int], source: str
) -> NDArray[np.uint8] | None:
    """Give a label map that was drawn with other values, or for other structures, the values of a bundle.

    Args:
        labels: ``(H, W)``.
        given: name of each structure to its value in the map.
        values: name of each structure of the bundle to its value.
        source: the file, for the error.

    Returns:
        ``(H, W)``; what is not of the bundle is background. None when no structure of the map is of the bundle.

    Raises:
        SettingError: the map has values without a name.
    """
    own = {name.casefold(): value for name, value in values.items()}
    targets = {value: own.get(name.casefold()) for name, value in given.items()}
    if not any(targets.values()):
        return None
    unnamed = sorted(set(np.unique(labels).tolist()) - set(targets) - {0})
    if unnamed:
        raise SettingError(
            f"The label {source} has the values {unnamed[:6]}, for which it gives no name: its names are "
            f"{dict(given)}. Draw it again, or save it with a name for each value."
        )
    table = np.zeros(256, dtype=np.uint8)
    for value, target in targets.items():
        table[value] = target or 0
    return np.asarray(table[labels])


def entropy(probability: NDArray[np.floating], exclusive: bool, inside: NDArray[np.bool_] | None = None) -> float:
    """Mean entropy of a prediction, the usual measure of its uncertainty in active learning.

    Shannon (Bell System Technical Journal, 1948), as in Settles, "Active Learning Literature Survey" (2009), section
    3.1, averaged over pixels: of structures that may overlap, the mean of ``-p log2 p - (1 - p) log2(1 - p)``; of
    exclusive classes, ``-sum p log2 p``, divided by the logarithm of their number. Both lie between 0 and 1. Of images
    with a side of 1024 pixels and more, every second row and column count, of larger ones fewer.

    Args:
        probability: ``(C, W, H)``.
        exclusive: whether the channels are exclusive classes, with a sum of 1.
        inside: the pixels that count ``(W, H)``; None for all.

    Returns:
        From 0 (certain) to 1; NaN when no pixel counts.
    """
    step = max(1, max(probability.shape[1:]) // _ENTROPY_SIDE)
    share = np.clip(probability[:, ::step, ::step], 0, 1)
    surprise = entr(share).sum(axis=0) if exclusive else (entr(share) + entr(1 - share)).mean(axis=0)
    counted = surprise.ravel() if inside is None else surprise[inside[::step, ::step]]
    if counted.size == 0:
        return float("nan")
    return float(counted.mean(dtype=np.float64) / np.log(max(2, len(share)) if exclusive else 2))
