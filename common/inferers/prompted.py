"""Segmentation that follows a user's prompts, and the simulation of such a user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.inferers import Inferer
from torch import nn

from common.errors import SettingError
from common.inferers.coarse_to_fine import CoarseToFineInferer
from common.networks.hq_sam import ABSENT, BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE, Features
from common.prompts import box_rows, correcting_click, pad_rows
from common.transforms import crop_square, resize_square

_UNFOUND = 0.4
"""Side of the square around a click where no disc was found, as a share of the photo's longer side."""


@dataclass
class _Kept:
    """What is needed to answer further prompts on an image.

    Attributes:
        image: the image ``(C, W, H)``.
        network: the network, and the version of its weights.
        square: first column, first row and side, in pixels of the image.
        settled: whether something was found or pointed at; else the next positive point moves the square.
        denied: the negative points of the first structure with which the square was chosen.
        features: of the square, one for each mirrored view.
    """

    image: torch.Tensor
    network: tuple[nn.Module, int]
    square: tuple[int, int, int]
    settled: bool
    denied: frozenset[tuple[float, float]]
    features: list[Features]


class PromptInferer(CoarseToFineInferer):
    """`CoarseToFineInferer` for networks that take prompts (`common.networks.HQSAM`).

    Without prompts it does what `CoarseToFineInferer` does, with any network. With prompts, the square is that around
    the box of the first structure if there is one, else the one found from coarse to fine; where points lie outside
    it, one around these. A negative point in the middle of what was found says that it is something else: the next
    likely object is taken. Where nothing was found, the network looks at a square around the points and at the whole
    image, and the one of which it is surer with the points counts. The square is then decoded with the prompts.

    With ``keep``, the last image's square and features are kept, so that other prompts on the same image cost one pass
    of the decoder for each mirrored view: use one view for interactive work.

    Args:
        size: side of the network's input in pixels.
        margin: side of the square, in diameters of the object.
        passes: largest number of passes after the first one.
        candidates: largest number of objects of the first pass that get a second look.
        mirrored_views: number of mirrored views over which each pass is averaged: 1, 2 or 4.
        fill: value of the input beyond the edges of the photo.
        keep: whether to keep the features of the last image.

    Raises:
        SettingError: the size or the number of mirrored views is not usable.
    """

    def __init__(
        self,
        size: int = 224,
        margin: float = 2.5,
        passes: int = 2,
        candidates: int = 3,
        mirrored_views: int = 4,
        fill: float = 0.0,
        keep: bool = False,
    ) -> None:
        super().__init__(size, margin, passes, candidates, mirrored_views, fill)
        self.keep = keep
        self._kept: _Kept | None = None

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Give the logits of the network.

        Args:
            inputs: ``(B, C, W, H)``.
            network: takes ``(B, C, size, size)``; for prompts, with ``encode`` and ``decode`` as `HQSAM` has them.
            *args: passed on to the network where there are no prompts.
            **kwargs: likewise, but for ``prompts``: ``(B, S, N, 3)`` in pixels of ``inputs``, or None.

        Returns:
            ``(B, channels, W, H)``.

        Raises:
            SettingError: there are prompts, and the network takes none.
        """
        prompts = kwargs.pop("prompts", None)
        promptable = isinstance(network, nn.Module) and hasattr(network, "encode") and hasattr(network, "decode")
        if not promptable and prompts is not None:
            raise SettingError(
                f"There are prompts, but {type(network).__name__} takes none: leave prompts out, or give an HQSAM as "
                "network_def."
            )
        if not promptable or (prompts is None and not self.keep):
            return super().__call__(inputs, network, *args, **kwargs)
        batch = torch.as_tensor(inputs).as_subclass(torch.Tensor)
        rows = [None] * len(batch) if prompts is None else torch.as_tensor(prompts).as_subclass(torch.Tensor)
        return torch.stack([self._prompted(image, network, own) for image, own in zip(batch, rows, strict=True)])

    def interactive(self) -> PromptInferer:
        """Give an inferer like this one for many prompts on one image: it keeps the features and decodes one view."""
        return PromptInferer(self.size, self.margin, self.passes, self.candidates, 1, self.fill, keep=True)

    def _prompted(self, image: torch.Tensor, network: Any, prompts: torch.Tensor | None) -> torch.Tensor:
        """Logits ``(channels, W, H)`` of one image, for prompts ``(S, N, 3)``."""
        kept = self._kept
        version = (network, sum(parameter._version for parameter in network.parameters()))
        known = kept is not None and kept.network == version and torch.equal(kept.image, image)
        denied = frozenset(_denied(prompts))
        moved = kept is not None and (
            (not kept.settled and _points_in(prompts))
            or not kept.denied <= denied  # one was taken back
            or self._is_denied(kept.square, denied - kept.denied)
        )
        if kept is None or not known or moved or not _lies_in(prompts, kept.square):
            square, settled = self._square(image, network, prompts)
            views = resize_square(crop_square(image, *square, self.fill)[None], self.size)
            features = [network.encode(_mirrored(views, axes)) for axes in self.mirrored.axes]
            kept = _Kept(image.clone(), version, square, settled, denied, features)
        self._kept = kept if self.keep else None
        placed = None if prompts is None else self._placed(prompts, kept.square)[None]
        total = torch.zeros(())
        for axes, view in zip(self.mirrored.axes, kept.features, strict=True):
            turned = None if placed is None else mirror_prompts(placed, axes, self.size)
            total = total + _mirrored(network.decode(view, turned).float(), axes)
        return self._put_back(total[0] / len(kept.features), kept.square, *image.shape[1:])

    def _square(
        self, image: torch.Tensor, network: Any, prompts: torch.Tensor | None
    ) -> tuple[tuple[int, int, int], bool]:
        """The square (first column, first row, side) that shows the object and the points; whether it is settled."""
        if prompts is not None:
            corners = prompts[0][(prompts[0, :, 2] == BOX_FIRST) | (prompts[0, :, 2] == BOX_LAST), :2]
            if len(corners):
                low, high = corners.amin(0), corners.amax(0)
                side = max(8, round(self.margin * float((high - low).max() + 1)))
                square = _around((low + high) / 2, side)
                if _lies_in(prompts, square):
                    return square, True
        _, square, found = self._find(image, network, denied=_denied(prompts))
        if prompts is None or not _points_in(prompts) or (found and _lies_in(prompts, square)):
            return square, found
        # The user points at something else than what was found, or at what was not found: what is inside comes first,
        # boxes count as such.
        places = prompts[prompts[..., 2] >= POSITIVE, :2]
        low, high = places.amin(0), places.amax(0)
        side = round(min(square[2], _UNFOUND * max(image.shape[1:])))
        pointed = _around((low + high) / 2, max(side, round(1.2 * float((high - low).max())), 8))
        if found:
            return pointed, True
        # Where nothing was found the square is the whole image, which is right for a crop.
        looks = [(self._sureness(self._answer(image, network, prompts, one)), one) for one in (pointed, square)]
        return max(looks, key=lambda look: look[0])[1], True

    def _answer(
        self, image: torch.Tensor, network: Any, prompts: torch.Tensor, square: tuple[int, int, int]
    ) -> torch.Tensor:
        """Logits ``(channels, size, size)`` of one view of a square, with prompts."""
        view = resize_square(crop_square(image, *square, self.fill)[None], self.size)
        answer: torch.Tensor = network.decode(network.encode(view), self._placed(prompts, square)[None])
        return answer[0].float()

    def _placed(self, prompts: torch.Tensor, square: tuple[int, int, int]) -> torch.Tensor:
        """Prompts in pixels of the square as the network sees it."""
        left, top, side = square
        placed = prompts.clone().float()
        placed[..., :2] = (placed[..., :2] - placed.new_tensor([left, top]) + 0.5) * (self.size / side) - 0.5
        return placed


def _around(middle: torch.Tensor, side: int) -> tuple[int, int, int]:
    x, y = middle.tolist()
    return round(x + 0.5 - side / 2), round(y + 0.5 - side / 2), side


def _points_in(prompts: torch.Tensor | None) -> bool:
    """Whether something is marked as inside of a structure, by a point or a box."""
    return prompts is not None and bool((prompts[..., 2] >= POSITIVE).any())


def _denied(prompts: torch.Tensor | None) -> list[tuple[float, float]]:
    """The negative points (x, y) of the first structure."""
    if prompts is None:
        return []
    return [(x, y) for x, y, kind in prompts[0].tolist() if kind == NEGATIVE]


def _lies_in(prompts: torch.Tensor | None, square: tuple[int, int, int]) -> bool:
    """Whether all that is marked lies in a square; points outside a structure need not."""
    if prompts is None:
        return True
    left, top, side = square
    places = prompts[prompts[..., 2] >= POSITIVE, :2] - prompts.new_tensor([left, top])
    return bool(((places >= 0) & (places < side)).all())


def _mirrored(images: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    return torch.flip(images, tuple(axes)) if axes else images


def mirror_prompts(prompts: torch.Tensor, axes: Sequence[int], size: int) -> torch.Tensor:
    """Mirror prompts like an image ``(B, C, size, size)``.

    Args:
        prompts: ``(B, S, N, 3)``, in pixels.
        axes: the image's axes that are mirrored: 2 turns x, 3 turns y.
        size: side of the image.

    Returns:
        The prompts; the first corner of a box stays that with the smallest x and y.
    """
    mirrored = prompts.clone()
    kinds = prompts[..., 2]
    for axis in axes:
        column = axis - 2
        mirrored[..., column] = torch.where(kinds == ABSENT, mirrored[..., column], size - 1 - mirrored[..., column])
        first, last = mirrored[kinds == BOX_FIRST], mirrored[kinds == BOX_LAST]
        swapped = first[:, column].clone()
        first[:, column], last[:, column] = last[:, column], swapped
        mirrored[kinds == BOX_FIRST], mirrored[kinds == BOX_LAST] = first, last
    return mirrored


class SimulatedUser(Inferer):
    """Apply an inferer with the prompts of a simulated user, who knows the truth; for evaluation.

    Args:
        inferer: takes prompts as `PromptInferer` does.
        prompts: ``none``, ``box`` (the smallest box around each structure) or ``clicks`` (for each structure, one click
            after the other in the middle of the largest region that is wrong, `common.prompts.correcting_click`).
        clicks: number of clicks for each structure.

    Raises:
        SettingError: ``prompts`` is another word, or the number of clicks is none.
    """

    def __init__(self, inferer: Inferer, prompts: str = "none", clicks: int = 3) -> None:
        if prompts not in ("none", "box", "clicks"):
            raise SettingError(f"prompts is {prompts!r}; give none, box or clicks.")
        if not (isinstance(clicks, int) and clicks > 0):
            raise SettingError(f"clicks is {clicks!r}; give a whole number from 1 on.")
        self.inferer = inferer
        self.prompts = prompts
        self.clicks = clicks

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Give the logits of the inferer.

        Args:
            inputs: one image ``(1, C, W, H)``.
            network: the network.
            *args: passed on to the inferer.
            **kwargs: likewise, but for ``target``: the truth ``(1, S, W, H)``, from 0 to 1; a channel that is negative
                is not known and gets no prompt.

        Returns:
            ``(1, S, W, H)``.

        Raises:
            SettingError: there are more images, or the truth is missing where it is needed.
        """
        target = kwargs.pop("target", None)
        if self.prompts == "none":
            return self.inferer(inputs, network, *args, **kwargs)
        if target is None or len(inputs) != 1:
            raise SettingError(
                "A user is simulated on one image at a time, with the truth as target: set batch_size to 1."
            )
        truth = torch.as_tensor(target[0]).cpu().numpy()
        known = truth.min(axis=(1, 2)) >= 0
        truth = truth > 0.5
        if self.prompts == "box":
            rows = [box_rows(mask & known[place]) for place, mask in enumerate(truth)]
            return self._answer(inputs, network, rows, *args, **kwargs)
        logits = torch.as_tensor(self.inferer(inputs, network, *args, **kwargs))
        rows = [np.zeros((0, 3), dtype=np.float32) for _ in truth]
        for _ in range(self.clicks):
            found = logits[0].detach().cpu().numpy() > 0
            new = [correcting_click(found[i], truth[i]) if known[i] else rows[i][:0] for i in range(len(truth))]
            rows = [np.concatenate(pair) for pair in zip(rows, new, strict=True)]
            logits = self._answer(inputs, network, rows, *args, **kwargs)
        return logits

    def _answer(
        self,
        inputs: torch.Tensor,
        network: Callable[..., torch.Tensor],
        rows: Sequence[np.ndarray[Any, Any]],
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        prompts = torch.as_tensor(pad_rows(rows), device=inputs.device)[None]
        return torch.as_tensor(self.inferer(inputs, network, *args, prompts=prompts, **kwargs))


class CorrectingInferer(Inferer):
    """Apply a network in training with clicks on its own errors, as a user makes them (SAM's training; RITM).

    With some probability the network first answers without a gradient; then each structure gets one click in the middle
    of its largest wrong region, up to ``clicks`` times, and the answer to all prompts is the one that is trained.

    Args:
        prob: probability of clicks, for each batch.
        clicks: largest number of clicks.
        seed: of the draws.
    """

    def __init__(self, prob: float = 0.5, clicks: int = 3, seed: int = 0) -> None:
        self.prob = prob
        self.clicks = clicks
        self.random = np.random.default_rng(seed)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Give the logits.

        Args:
            inputs: a batch ``(B, C, W, H)``.
            network: takes images and ``prompts``, where there are some.
            *args: passed on to the network.
            **kwargs: likewise, but for ``target``, the truth ``(B, S, W, H)``; without it no clicks are made.

        Returns:
            ``(B, S, W, H)``.
        """
        target = kwargs.pop("target", None)
        if target is None or "prompts" not in kwargs or self.random.random() >= self.prob:
            return network(inputs, *args, **kwargs)
        truth = torch.as_tensor(target).cpu().numpy()
        known = truth.min(axis=(2, 3)) >= 0
        for _ in range(int(self.random.integers(1, self.clicks + 1))):
            with torch.no_grad():
                found = torch.as_tensor(network(inputs, *args, **kwargs)).float().cpu().numpy() > 0
            clicks = [
                [
                    correcting_click(one, other > 0.5) if sure else np.zeros((0, 3), dtype=np.float32)
                    for one, other, sure in zip(*parts, strict=True)
                ]
                for parts in zip(found, truth, known, strict=True)
            ]
            rows = torch.as_tensor(np.stack([pad_rows(own) for own in clicks]), device=inputs.device)
            kwargs["prompts"] = torch.cat([torch.as_tensor(kwargs["prompts"]), rows], dim=2)
        return network(inputs, *args, **kwargs)
