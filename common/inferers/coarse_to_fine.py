"""Two looks at a photo: find the object on the whole of it, then see it at full detail."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from monai.inferers import Inferer

from common.errors import SettingError
from common.inferers.mirrored import MirroredInferer
from common.transforms import crop_square, resize_square

_FAR_OUTSIDE = -20.0
"""Logit outside the square of the last pass: the object is not there."""
_WEAK = 0.05
"""Below this probability there is no sign of the object."""
_FAINT = 0.1
"""From this probability on, a part that the first threshold missed is a candidate too."""
_LEAST_WEIGHT = 0.1
"""A candidate has at least this share of the likeliest one's sum of probabilities."""
_SAME_SQUARE = 0.08
"""Squares whose place and side differ by less than this share of the side show the same."""


class CoarseToFineInferer(Inferer):
    """Apply a network of one input size first to the whole photo, then to a square around the object that it found.

    The first pass sees the whole photo, scaled to the network's size. What may be the object are the connected parts of
    the first channel, likeliest first (by the sum of their probabilities; where nothing is above one half, the
    strongest response). Each of the likeliest gets a look at a square around it, ``margin`` times as wide as it is, and
    the one of which the network is then surest is kept; it is looked at again where that square turns out to be off,
    and that last look counts. On a crop the first pass finds the object filling the frame, and the square is about the
    frame. The logits of the last square are put back at their place.

    Args:
        size: side of the network's input in pixels, a multiple of 32.
        margin: side of the square, in diameters of the object.
        passes: largest number of passes after the first one.
        candidates: largest number of objects of the first pass that get a second look.
        mirrored_views: number of mirrored views over which each pass is averaged, as in `MirroredInferer`.
        fill: value of the input beyond the edges of the photo; give that of black, as the network was trained with it.

    Raises:
        SettingError: the size or the number of mirrored views is not usable.
    """

    def __init__(
        self,
        size: int = 256,
        margin: float = 2.5,
        passes: int = 2,
        candidates: int = 3,
        mirrored_views: int = 4,
        fill: float = 0.0,
    ) -> None:
        if not (isinstance(size, int) and size >= 32 and size % 32 == 0):
            raise SettingError(f"view_size is {size!r}; give a multiple of 32 pixels, such as 256.")
        self.size = size
        self.margin = margin
        self.passes = passes
        self.candidates = candidates
        self.mirrored = MirroredInferer(views=mirrored_views)
        self.fill = fill

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """Give the logits of the network.

        Args:
            inputs: ``(B, C, W, H)``.
            network: takes ``(B, C, size, size)``.
            *args: passed on to the network.
            **kwargs: passed on to the network.

        Returns:
            ``(B, channels, W, H)``.
        """
        batch = torch.as_tensor(inputs).as_subclass(torch.Tensor)
        return torch.stack([self._one(image, network, *args, **kwargs) for image in batch])

    def _one(
        self, image: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        logits, square, _ = self._find(image, network, *args, **kwargs)
        return self._put_back(logits, square, *image.shape[1:])

    def _find(
        self,
        image: torch.Tensor,
        network: Callable[..., torch.Tensor],
        *args: Any,
        denied: Sequence[tuple[float, float]] = (),
        **kwargs: Any,
    ) -> tuple[torch.Tensor, tuple[int, int, int], bool]:
        """Look from coarse to fine: logits ``(channels, size, size)`` of the last square, it, and whether it is sure.

        An object with a denied point (x, y) in its middle is passed over.
        """
        width, height = image.shape[1:]
        side = max(width, height)
        square = ((width - side) // 2, (height - side) // 2, side)
        logits = self._look(image, square, network, *args, **kwargs)
        found = self._objects(logits, square, denied)
        sure = False
        for _ in range(self.passes):
            looks = []
            for candidate in found:
                if self._is_close(candidate, square):  # seen already: nothing new, but it may be the surest
                    looks.append((self._sureness(logits), logits, square))
                else:
                    finer = self._look(image, candidate, network, *args, **kwargs)
                    if not denied or self._objects(finer, candidate, denied):
                        looks.append((self._sureness(finer), finer, candidate))
            sureness, finer, candidate = max(looks, key=lambda look: look[0], default=(0.0, logits, square))
            sure = sure or sureness > 0
            if sureness == 0 or candidate == square:
                break
            logits, square = finer, candidate
            found = self._objects(logits, square, denied)[:1]
        return logits, square, sure

    def _look(
        self,
        image: torch.Tensor,
        square: tuple[int, int, int],
        network: Callable[..., torch.Tensor],
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Logits ``(channels, size, size)`` of one square."""
        view = resize_square(crop_square(image, *square, self.fill)[None], self.size)
        return self.mirrored(view, network, *args, **kwargs)[0].float()

    def _objects(
        self, logits: torch.Tensor, square: tuple[int, int, int], denied: Sequence[tuple[float, float]] = ()
    ) -> list[tuple[int, int, int]]:
        """The squares around what may be the object, in pixels of the photo, likeliest first; none without a sign."""
        probability = torch.sigmoid(logits[0]).detach().cpu().numpy()
        peak = float(probability.max())
        if peak < _WEAK:
            return []
        boxes: list[tuple[float, tuple[int, ...]]] = []
        taken = np.zeros(probability.shape, dtype=bool)
        for threshold in (min(0.5, peak / 2), _FAINT):
            _, labels, stats, _ = cv2.connectedComponentsWithStats(
                (probability >= threshold).astype(np.uint8), connectivity=8
            )
            # By the sum of the probabilities: a small sure object beats a large vague one.
            weights = np.bincount(labels.ravel(), weights=probability.ravel())
            known = set(np.unique(labels[taken]).tolist())
            new = [number for number in range(1, len(weights)) if number not in known]
            boxes += [(float(weights[number]), tuple(int(value) for value in stats[number][:4])) for number in new]
            taken |= labels > 0
        scale = square[2] / self.size
        squares = []
        for weight, (top, left, high, wide) in sorted(boxes, reverse=True):
            # The array is (W, H): what OpenCV calls left is a row of the photo, and its width a height.
            side = max(8, round(self.margin * max(wide, high) * scale))
            x = square[0] + (left + wide / 2) * scale
            y = square[1] + (top + high / 2) * scale
            around = (round(x - side / 2), round(y - side / 2), side)
            if not self._is_denied(around, denied):
                squares.append((weight, around))
        least = _LEAST_WEIGHT * squares[0][0] if squares else 0.0
        return [around for weight, around in squares[: self.candidates] if weight >= least]

    def _is_denied(self, square: tuple[int, int, int], points: Iterable[tuple[float, float]]) -> bool:
        """Whether a point lies in the middle of the object in a square: within a quarter of its diameter."""
        left, top, side = square
        middle = (left + side / 2 - 0.5, top + side / 2 - 0.5)
        return any(math.dist(point, middle) < side / self.margin / 4 for point in points)

    @staticmethod
    def _is_close(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
        """Whether a square is so near another that looking at it again would show nothing new."""
        return sum(abs(a - b) for a, b in zip(one, other, strict=True)) < _SAME_SQUARE * one[2]

    @staticmethod
    def _sureness(logits: torch.Tensor) -> float:
        """How sure the network is of the object in a square: mean probability of what is above one half, else 0."""
        probability = torch.sigmoid(logits[0])
        inside = probability > 0.5
        return float(probability[inside].mean()) if bool(inside.any()) else 0.0

    @staticmethod
    def _put_back(logits: torch.Tensor, square: tuple[int, int, int], width: int, height: int) -> torch.Tensor:
        """Logits ``(channels, W, H)`` of the photo."""
        left, top, side = square
        whole = logits.new_full((logits.shape[0], width, height), _FAR_OUTSIDE)
        scaled = resize_square(logits[None], side)[0]
        x0, x1 = max(left, 0), min(left + side, width)
        y0, y1 = max(top, 0), min(top + side, height)
        whole[:, x0:x1, y0:y1] = scaled[:, x0 - left : x1 - left, y0 - top : y1 - top]
        return whole
