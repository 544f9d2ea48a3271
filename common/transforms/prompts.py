"""Prompts of a user: drawn at random from the truth for training, and brought from a photo to the network's image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Randomizable
from numpy.typing import NDArray

from common.errors import SettingError
from common.networks.hq_sam import ABSENT, NEGATIVE, POSITIVE
from common.prompts import box_rows, prompt_rows


class RandPromptsd(Randomizable, MapTransform):
    """Draw prompts at random from a label: for each structure a box, points, both or none.

    Boxes are inexact as a user's are. Points lie near the outline, where corrections are made: positive ones inside,
    negative ones outside. So one network learns to do without prompts and to follow them, as in the papers of SAM and
    HQ-SAM.

    Adds ``prompts_key``: ``(S, 2 + points, 3)``, in pixels of the label times ``scale``. Nothing is added when the
    probability is 0, so that networks without prompts can be trained too.

    Args:
        keys: the label ``(S, W, H)``, from 0 to 1; a channel that is empty or negative gets no prompt.
        prompts_key: where the prompts are put.
        prob: probability that a structure gets prompts; half of these have a box, half of them (and all others) points.
        points: largest number of points of a structure.
        shift: largest shift of each edge of a box, as a share of the box's side.
        band: largest distance of a point from the outline, as a share of the structure's diameter.
        scale: pixels of the network's image for each pixel of the label, in which the prompts are given.

    Raises:
        SettingError: the probability is none.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prompts_key: str = "prompts",
        prob: float = 0.5,
        points: int = 3,
        shift: float = 0.1,
        band: float = 0.2,
        scale: float = 1.0,
    ) -> None:
        super().__init__(keys)
        if not 0 <= prob <= 1:
            raise SettingError(f"The probability of prompts is {prob!r}; give a number from 0 to 1.")
        self.prompts_key = prompts_key
        self.prob = prob
        self.points = points
        self.shift = shift
        self.band = band
        self.scale = scale

    def draw(self, data: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Draw the prompts of one structure.

        Args:
            data: mask ``(W, H)``.

        Returns:
            ``(2 + points, 3)``.
        """
        rows = np.full((2 + self.points, 3), (0, 0, ABSENT), dtype=np.float32)
        box = box_rows(data)
        if self.R.random() >= self.prob or not len(box):
            return rows
        has_box = self.R.random() < 0.5
        if has_box:
            sides = box[1, :2] - box[0, :2] + 1
            rows[:2] = box
            rows[:2, :2] += self.R.uniform(-self.shift, self.shift, (2, 2)) * sides
        if not has_box or self.R.random() < 0.5:
            count = int(self.R.randint(1, self.points + 1))
            rows[2 : 2 + count] = [self._point(data) for _ in range(count)]
        return rows

    def _point(self, mask: NDArray[np.bool_]) -> tuple[float, float, int]:
        """Draw a point near the outline of a mask, on either side."""
        kind = POSITIVE if self.R.random() < 0.5 else NEGATIVE
        side = (mask if kind == POSITIVE else ~mask).astype(np.uint8)
        distance = cv2.distanceTransform(side, cv2.DIST_L2, 3)
        diameter = 2 * np.sqrt(np.count_nonzero(mask) / np.pi)
        near = np.argwhere((distance > 0) & (distance <= max(1.5, self.band * diameter)))
        if not len(near):  # a mask that fills the frame has no outside
            return 0.0, 0.0, ABSENT
        x, y = near[self.R.randint(len(near))]
        return float(x), float(y), kind

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Draw the prompts of every structure."""
        d = dict(data)
        if self.prob == 0:
            return d
        for key in self.key_iterator(d):
            masks = torch.as_tensor(d[key]).cpu().numpy() > 0.5
            rows = torch.as_tensor(np.stack([self.draw(mask) for mask in masks]))
            rows[..., :2] = (rows[..., :2] + 0.5) * self.scale - 0.5
            d[self.prompts_key] = rows
        return d


class PlacePromptsd(MapTransform):
    """Bring a user's prompts from the photo to the image that `FieldOfViewd` made of it, as a tensor ``(S, N, 3)``.

    Args:
        keys: the prompts, as `common.prompts` describes them: structure to ``box`` and ``points``, in pixels of the
            photo. Photos without prompts pass.
        structures: names of the structures, in the order of the network's channels.
        ref_key: the image after `FieldOfViewd`.

    Raises:
        ValueError: when called on prompts of another form, or on an image that did not come by `FieldOfViewd`.
    """

    def __init__(self, keys: KeysCollection, structures: Sequence[str], ref_key: str = "image") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.structures = tuple(structures)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Place the prompts of every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            image = d[self.ref_key]
            operation = next(
                (entry for entry in reversed(image.applied_operations) if entry["class"] == "FieldOfViewd"), None
            )
            if operation is None:
                raise ValueError(f"{self.ref_key} did not come by FieldOfViewd: put PlacePromptsd after it.")
            top, bottom, left, right = (int(edge) for edge in operation["extra_info"]["box"])
            rows = prompt_rows(d[key], self.structures)
            scale = np.array([image.shape[1] / (right - left), image.shape[2] / (bottom - top)], dtype=np.float32)
            placed = (rows[..., :2] - np.array([left, top], dtype=np.float32) + 0.5) * scale - 0.5
            rows[..., :2] = np.where(rows[..., 2:] == ABSENT, 0, placed)
            d[key] = torch.as_tensor(rows)
        return d
