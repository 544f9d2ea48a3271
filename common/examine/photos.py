"""Reads the photos of an examination, each once, and prepares them for the bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from monai.transforms import Compose
from numpy.typing import NDArray
from torch.utils.data import Dataset

from common.data import Failure, failure_of, note_of_unknown
from common.errors import UnreadableImageError
from common.examine.modality import as_photo, modality_of
from common.examine.table import FUNDUS, OCT, SCALES
from common.pixels import read_pixels, shared_pixels
from common.scans import read_scan, split_address
from common.transforms.field_of_view import FieldOfView, find_field_of_view, shared_views

NOT_READ = "read"


@dataclass(frozen=True)
class Step:
    """What prepares an item for one bundle.

    Attributes:
        preprocessing: the bundle's own.
        columns: what the bundle is told of a photo besides; what is not known of an item stands in its ``note``.
    """

    preprocessing: Compose
    columns: Sequence[str] = ()

    def __call__(self, item: Mapping[str, Any]) -> Any:
        """Give the bundle's input, or a `Failure`."""
        note = note_of_unknown(item, self.columns)
        try:
            return self.preprocessing({**item, "note": note} if note else dict(item))
        except Exception as error:
            return failure_of(item["name"], "preprocess", error)


@dataclass
class Prepared:
    """A photo that was read, with what the preprocessing of each bundle made of it.

    Attributes:
        item: what is known of it beforehand.
        modality: ``fundus`` or ``oct``; empty when it could not be read.
        pixels: ``(H, W)`` or ``(H, W, 3)``, uint8.
        view: the field of view of a fundus photo.
        inputs: name of each bundle that needs no other to its input, or to why there is none.
        failure: why it could not be read.
    """

    item: dict[str, Any]
    modality: str = ""
    pixels: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    view: FieldOfView | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    def again(self, step: Step, found: Mapping[str, Any]) -> Any:
        """Prepare the photo, without reading it again, for a bundle that takes what others found.

        Args:
            step: what prepares it.
            found: keys that are added to the item.

        Returns:
            The bundle's input, or a `Failure`.
        """
        views = [] if self.view is None else [(as_photo(self.pixels), self.view)]
        with shared_pixels({split_address(self.item["image"])[0]: self.pixels}), shared_views(views):
            return step({**self.item, **found})


class Photos(Dataset[Prepared]):
    """The photos of a run, read and prepared as they are asked for; it may live in other processes.

    Args:
        items: one for each photo.
        steps: for each modality, what prepares an item for its bundles, by their names.
        scales: micrometres by the keys of `common.examine.table.SCALES`, for items that do not have them.
    """

    def __init__(
        self,
        items: Sequence[dict[str, Any]],
        steps: Mapping[str, Mapping[str, Step]],
        scales: Mapping[str, float | None],
    ) -> None:
        self.items = items
        self.steps = steps
        self.scales = scales

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Prepared:
        prepared = Prepared(self.items[index])
        with shared_pixels({}), shared_views([]):
            try:
                self._read(prepared)
            except UnreadableImageError as error:
                prepared.failure = failure_of(prepared.item["name"], NOT_READ, error)
                return prepared
            known = {name: self.scales.get(name) for name in SCALES[prepared.modality]}
            prepared.item = {**{name: scale for name, scale in known.items() if scale is not None}, **prepared.item}
            steps = self.steps[prepared.modality]
            prepared.inputs = {name: step(prepared.item) for name, step in steps.items()}
        unread = [one for one in prepared.inputs.values() if isinstance(one, Failure) and one.stage == NOT_READ]
        prepared.failure = unread[0] if unread else None
        return prepared

    @staticmethod
    def _read(prepared: Prepared) -> None:
        item = prepared.item
        path, frame = split_address(item["image"])
        if frame is None:
            prepared.pixels = read_pixels(path)
            prepared.modality = item.get("modality") or modality_of(prepared.pixels)
        else:
            prepared.pixels = read_scan(item["image"])
            prepared.modality = OCT
        if prepared.modality == FUNDUS:
            prepared.view = find_field_of_view(as_photo(prepared.pixels))
