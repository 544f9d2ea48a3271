"""What every biomarker function returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Biomarkers:
    """Measurements of one image, as columns of a results table.

    Attributes:
        values: column name, with the unit in it, to value: a number, NaN for what could not be computed; or a word,
            such as ``OD`` for an eye, with ``unknown`` in the place of NaN.
        notes: why, a phrase for each reason.
    """

    values: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """The notes as one text, for the ``note`` column; empty when everything was computed."""
        return "; ".join(self.notes)
