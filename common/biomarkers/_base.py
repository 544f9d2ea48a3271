"""What every biomarker function returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Biomarkers:
    """Measurements of one image, as columns of a results table.

    Attributes:
        values: column name, with the unit in it, to value; NaN for what could not be computed.
        notes: why, a phrase for each reason.
    """

    values: dict[str, float]
    notes: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """The notes as one text, for the ``note`` column; empty when everything was computed."""
        return "; ".join(self.notes)
