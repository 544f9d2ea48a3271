"""Weights between those that a training started from and those that it ended with.

    python -m common.networks.blend RUN/models/model.pt START.pt OUTPUT.pt --share 0.5

A network that was fine-tuned on the photos of one camera forgets part of what it knew of others. On the straight line
between its weights before and after, it often keeps both (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR
2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fire
import torch

from common.errors import SettingError
from common.networks.fusion import photo_state
from common.networks.weights import half_precision, network_state, save_durably

_ENCODER = "encoder."


def blended(
    tuned: dict[str, torch.Tensor], start: dict[str, torch.Tensor], share: float, source: str | Path = "start"
) -> dict[str, torch.Tensor]:
    """Mix two states of a network, those before and after a fine-tuning.

    Args:
        tuned: the state after it.
        start: the state before it, maybe of a network with another head: what it has in another shape, or has not, is
            taken from ``tuned``.
        share: of ``tuned``, from 0 to 1.
        source: where ``start`` is from, for the error.

    Returns:
        ``share * tuned + (1 - share) * start``, with the keys of ``tuned``; floating point in single precision.

    Raises:
        SettingError: the share is not from 0 to 1, or ``start`` lacks a part of the encoder of ``tuned``.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise SettingError(f"The share is {share!r}; give a number from 0 (as before) to 1 (as fine-tuned).")
    shared = {key for key, value in tuned.items() if key in start and start[key].shape == value.shape}
    lacking = sorted(key for key in tuned if key.startswith(_ENCODER) and key not in shared)
    if lacking or not any(key.startswith(_ENCODER) for key in tuned):
        raise SettingError(
            f"The weights {source} have not the encoder of those that are to be blended with them "
            f"({lacking[0] if lacking else 'these have none'}): give the weights that the training started from."
        )
    mixed: dict[str, torch.Tensor] = {}
    for key, value in tuned.items():
        if key in shared and value.is_floating_point():
            mixed[key] = torch.lerp(start[key].float(), value.float(), float(share))
        else:
            mixed[key] = value.float() if value.is_floating_point() else value
    return mixed


def blend_weights(
    tuned: str, start: str, output: str, share: float = 0.5, outputs: Sequence[int] | None = None
) -> None:
    """Write the weights between two files, in half precision.

    Args:
        tuned: path of the weights after a fine-tuning.
        start: path of the weights before it; its encoder has to be the same network.
        output: path of the file to write.
        share: of ``tuned``, from 0 to 1.
        outputs: which outputs of ``start``, by their places from 0 on, are those of ``tuned``, in its order, so that
            the heads are mixed too (`common.networks.fusion.photo_state`), for a ``tuned`` without tabular features;
            None mixes heads of one shape output by output, and else keeps that of ``tuned``.

    Raises:
        SettingError: a file cannot be read, the share is not from 0 to 1, the encoders are not the same network, or the
            outputs are not those of both.
    """
    after, before = (network_state(path) for path in (tuned, start))
    if outputs is not None:
        places = list(outputs) if isinstance(outputs, Sequence) else [outputs]
        before = photo_state(before, places)
        head = after.get("head.weight", torch.empty(0, 0))
        if len(head) != len(places):
            raise SettingError(
                f"The outputs {places} of {start} are {len(places)}, and {tuned} has {len(head)}: name each of them."
            )
        if head.shape != before["head.weight"].shape:
            raise SettingError(f"{tuned} has tabular features: leave out the outputs, and its head is kept.")
    save_durably(half_precision(blended(after, before, share, start)), output)


if __name__ == "__main__":
    fire.Fire(blend_weights)
