"""Every bundle on every photo of a folder: one table, masks, overlays and a report.

    from common.examine import examine

    for examination in examine("PHOTOS", "RESULTS"):
        print(examination.image, examination.row.get("cdr_vertical"), examination.failure)

`Examiner` keeps the networks for many such calls. Which bundles there are, is a table (`TABLE`).
"""

from common.examine.examiner import DISCLAIMER, Examination, Examiner, Run, examine
from common.examine.modality import modality_of
from common.examine.table import TABLE, Entry, available

__all__ = ["DISCLAIMER", "TABLE", "Entry", "Examination", "Examiner", "Run", "available", "examine", "modality_of"]
