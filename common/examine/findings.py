"""What the bundles found on one photo: its row in parts, and its files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.data import Failure
from common.examine.folder import SALIENCY, THUMBNAIL, place_of
from common.examine.photos import Prepared
from common.examine.table import FUNDUS, OCT, SCALES, Entry
from common.examine.thumbnails import layers, saliency_key, thumbnail
from common.results import FAILED

PHOTO, WEIGHTS, NOTE = "photo", "weights", "note"
_KINDS = {FUNDUS: "fundus photos", OCT: "B-scans"}
_IDENTITY = ("patient", "eye", "age", "sex", "volume")
"""Columns of the photo, not of a bundle, even where a bundle writes them."""


@dataclass
class Sheet:
    """Takes, in place of a folder, what a bundle's writer writes of one photo.

    Attributes:
        files: name to content.
        row: the row of the bundle's table.
        failure: why there is none.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    row: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    def write(self, name: str, content: bytes) -> None:
        """Keep a file."""
        self.files[name] = content

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Keep the row."""
        self.row = dict(row)

    def add_failure(self, image: str, stage: str, reason: str) -> None:
        """Keep that it failed."""
        self.failure = Failure(image, stage, reason)

    def torn_off(self) -> Sheet:
        """Give what is on the sheet, and leave it empty for the next photo."""
        torn = Sheet(self.files, self.row, self.failure)
        self.files, self.row, self.failure = {}, {}, None
        return torn


@dataclass
class Findings:
    """What the bundles found on one photo so far.

    Attributes:
        prepared: the photo.
        blocks: the parts of its row: of the photo, of each bundle, and its notes.
        rows: name of each bundle to the row that it wrote itself.
        files: place in the folder to content.
        masks: structure to the place of its mask.
        overlays: name of the bundle to the place of its picture.
        saliency: name of the bundle to the place of its map of what speaks for its most probable label.
        failures: name of each bundle that failed to why.
        notes: what a user has to know.
    """

    prepared: Prepared
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)
    overlays: dict[str, str] = field(default_factory=dict)
    saliency: dict[str, str] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blocks[PHOTO] = _photo_block(self.prepared)
        for modality, names in SCALES.items():
            for name in names if modality != self.prepared.modality else ():
                if name in self.prepared.item:
                    self.notes.append(f"the table's {name} is that of {_KINDS[modality]} and was not used")
        self.notes += self._of_the_item

    def add(self, entry: Entry, sheet: Sheet) -> None:
        """Add what a bundle wrote.

        Args:
            entry: the bundle.
            sheet: what it wrote.
        """
        output_name = str(self.prepared.item["output_name"])
        self.rows[entry.name] = sheet.row
        block = self.blocks[entry.name] = {}
        for column, value in sheet.row.items():
            if column in _IDENTITY:
                self.blocks[PHOTO][column] = self.blocks[PHOTO][column] or value
            elif column == NOTE:
                whose = f"{entry.short}: " if entry.prefix else ""
                parts = [part for part in str(value).split("; ") if part]
                self.notes += [whose + part for part in parts if part not in self._of_the_item]
            elif value in sheet.files:
                new, place = place_of(column, str(value), output_name, entry.prefix, entry.short)
                block[new], self.files[place] = place, sheet.files[str(value)]
                if place.startswith("masks/"):
                    self.masks[new.replace("mask_", "")] = place
                elif place.startswith("overlays/"):
                    self.overlays[entry.name] = place
                elif place.startswith(f"{SALIENCY}/"):
                    self.saliency[entry.name] = place
            elif column != "image":
                block[entry.prefix + column] = value

    @property
    def _of_the_item(self) -> list[str]:
        """What was noted before any bundle ran; every bundle's row has it."""
        return [part for part in str(self.prepared.item.get("note", "")).split("; ") if part]

    def fail(self, entry: Entry, failure: Failure) -> None:
        """Add that a bundle failed."""
        self.failures[entry.name] = failure
        self.notes.append(f"{entry.name}{FAILED}{failure.reason}")

    def add_thumbnails(self) -> None:
        """Add the small pictures of the report."""
        place = self.blocks[PHOTO][THUMBNAIL]
        small = thumbnail(self.prepared.pixels)
        stem = place.rpartition(".")[0]
        heats = {saliency_key(bundle): heat for bundle, heat in self.saliency.items()}
        overlaid = layers(self.files, {**self.masks, **heats}, small.size)
        self.files |= {place: small.content} | {f"{stem}_{key}.png": content for key, content in overlaid.items()}

    @property
    def note(self) -> str:
        """The notes, each once."""
        return "; ".join(dict.fromkeys(self.notes))

    @property
    def failure(self) -> str | None:
        """What could not be done and why; None when all was done."""
        return "; ".join(failure.reason for failure in self.failures.values()) or None


def _photo_block(prepared: Prepared) -> dict[str, Any]:
    """The columns of the photo itself."""
    item, view = prepared.item, prepared.view
    height, width = prepared.pixels.shape[:2]
    known = view if view is not None and view.found else None
    block: dict[str, Any] = {"image": item["name"]}
    block |= {column: item.get(column, "") for column in _IDENTITY}
    if prepared.modality == FUNDUS:
        block["volume"] = ""
    return block | {
        "modality": prepared.modality,
        **{f"{name}_um": item.get(name, "") for names in SCALES.values() for name in names},
        "width_px": width,
        "height_px": height,
        "fov_found": "" if view is None else str(view.found).lower(),
        "fov_center_x_px": math.nan if known is None else known.center[1],
        "fov_center_y_px": math.nan if known is None else known.center[0],
        "fov_diameter_px": math.nan if known is None else 2 * known.radius,
        THUMBNAIL: f"thumbnails/{item['output_name']}.jpg",
    }
