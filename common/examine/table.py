"""The table of the bundles that an examination can run; a new bundle is one entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from common.bundles import available_bundles, has_weights
from common.errors import SettingError

FUNDUS, OCT = "fundus", "oct"
SCALES = {FUNDUS: ("pixel_size",), OCT: ("axial_scale", "lateral_scale")}
"""By modality, the keys of an item that say how large its pixels are, in micrometres."""
_CLASSIFIER = {"saliency": "saliency"}


@dataclass(frozen=True)
class Entry:
    """What an examination has to know about one bundle.

    Attributes:
        name: its folder.
        modality: of its inputs: ``fundus`` or ``oct``.
        needs: bundles that come before it, since the items of this one have the columns that these found.
        settings: option of an examination to the id of ``inference.json`` that it sets.
        prefix: of its columns, where another bundle has columns of the same names.
        by_default: whether it runs when no bundles are named.
    """

    name: str
    modality: str
    needs: Sequence[str] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    by_default: bool = True

    @property
    def short(self) -> str:
        """The name without its task: ``vessel``, ``disc_cup``."""
        return self.name.rpartition("_")[0]

    @property
    def folder(self) -> Path | None:
        """The bundle's folder; None where there is none."""
        return available_bundles().get(self.name)

    @property
    def missing(self) -> str:
        """Why it cannot be run; empty when it can."""
        if self.folder is None:
            return f"There is no bundle {self.name} in this installation."
        return "" if has_weights(self.folder) else f"{self.name} has no models/model.pt yet."


TABLE: tuple[Entry, ...] = (
    Entry("vessel_segmentation", FUNDUS),
    Entry("disc_cup_segmentation", FUNDUS),
    Entry("disc_cup_hqsam_segmentation", FUNDUS, prefix="hqsam_", by_default=False),
    Entry("dr_lesion_segmentation", FUNDUS),
    Entry("dr_classification", FUNDUS, settings=_CLASSIFIER),
    Entry("odir_classification", FUNDUS, needs=("disc_cup_segmentation",), settings=_CLASSIFIER),
    Entry("oct_layer_segmentation", OCT),
)
"""In the order of their columns. A bundle stands after those that it needs."""


def available(table: Sequence[Entry] = TABLE) -> list[Entry]:
    """The entries whose bundle is there with weights."""
    return [entry for entry in table if not entry.missing]


def choose(names: Sequence[str] | None, table: Sequence[Entry] = TABLE) -> list[Entry]:
    """Choose bundles to run, and add those that they need.

    Args:
        names: names of bundles; None for all that are available and run by default.
        table: the bundles that there are.

    Returns:
        The entries in the table's order.

    Raises:
        SettingError: a name is not in the table, a bundle or one that it needs is missing, or there is none at all.
    """
    by_name = {entry.name: entry for entry in table}
    if names is None:
        chosen = {entry.name for entry in available(table) if entry.by_default}
        chosen = {name for name in chosen if all(not by_name[need].missing for need in by_name[name].needs)}
    else:
        for name in names:
            if name not in by_name:
                near = get_close_matches(name, by_name, n=1)
                meant = f" Did you mean {near[0]}?" if near else ""
                raise SettingError(
                    f"There is no bundle '{name}' in --bundles: give some of {', '.join(by_name)}.{meant}"
                )
        chosen = set(names)
    for entry in reversed(table):
        if entry.name in chosen:
            chosen |= set(entry.needs)
    entries = [entry for entry in table if entry.name in chosen]
    for entry in entries:
        if entry.missing:
            raise SettingError(f"{entry.missing} Leave it out of --bundles.")
    if not entries:
        raise SettingError("There is no bundle to run: name some in --bundles, or put weights into one.")
    return entries
