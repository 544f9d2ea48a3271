"""What is made of the table when the last photo is done: its order, ``results.parquet`` and ``report.html``."""

from __future__ import annotations

from collections.abc import Sequence

from common.examine.folder import ExaminationFolder
from common.examine.table import Entry

REPORT = "report.html"


def finish(folder: ExaminationFolder, entries: Sequence[Entry]) -> None:
    """Put the table in order."""
    if folder.results.exists():
        folder.sort()
