"""What the lists of diabetic retinopathy share: grades from a table, and the labels that are made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from common.lesions import LESIONS
from data_lists._base import LESION_LABELS, DataListError, Found, Item, Tree, read_rows, tell

PositiveFrom = Literal[1, 2]
"""The grade from which on a photo has the label ``DR``: 1 for any retinopathy, 2 for one that is to be referred."""

GRADES = (0, 4)
"""The lowest and highest grade of the International Clinical Diabetic Retinopathy scale: none, mild, moderate, severe
and proliferative (Wilkinson et al., Ophthalmology 110(9), 2003)."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table of grades, in lower case.

    Args:
        name: the photo's name without its suffix.
        grade: grade of the retinopathy, 0 to 4.
        risk: risk of macular oedema, 0 to 2; None if the table does not have it.
    """

    name: str
    grade: str
    risk: str | None = None


def dr_labels(*, positive_from: PositiveFrom = 1, absent_lesions: bool = False, **_: Any) -> Mapping[str, str]:
    """Give the meaning of the label, for `Dataset.labels`."""
    if absent_lesions:
        return LESION_LABELS
    return {"DR": "diabetic retinopathy" if positive_from == 1 else "diabetic retinopathy of grade 2 or higher"}


def graded_items(
    tree: Tree,
    table: str,
    columns: Columns,
    photos: Found,
    *,
    positive_from: PositiveFrom,
    split: str | None = None,
    prefix: str = "",
) -> list[Item]:
    """Give the items of a table's rows; rows without a photo, and photos without a row, are left out and told.

    Args:
        tree: the dataset's folder.
        table: the CSV file, relative to the root.
        columns: its columns.
        photos: the photos by their names in the table.
        positive_from: grade from which on the label is DR.
        split: split of all items, or None.
        prefix: goes before the photo's name to make the patient's.

    Raises:
        DataListError: the table cannot be read, lacks a column or all rows, names a photo twice, or has a wrong value.
    """
    path = tree.root / table
    wanted = [columns.name, columns.grade, *([columns.risk] if columns.risk else [])]
    lines: dict[str, int] = {}
    items = []
    missing = []
    for line, row in read_rows(path, "the table", wanted):
        name = row[columns.name]
        if not name:
            raise DataListError(f"{path}, line {line}: the column {columns.name!r} is empty; it has to name a photo")
        if name in lines:
            raise DataListError(f"{path}, lines {lines[name]} and {line} are both of {name}; remove one of them")
        lines[name] = line
        grade = _whole(f"{path}, line {line}", row, columns.grade, *GRADES)
        risk = {"edema_risk": _whole(f"{path}, line {line}", row, columns.risk, 0, 2)} if columns.risk else {}
        if name in photos.paths:
            values = {"grade": grade, "label": ["DR"] if grade >= positive_from else [], **risk}
            items.append(Item({"image": photos.paths[name]}, prefix + name, f"grade {grade}", split, values))
        elif name not in photos.excluded:
            missing.append(f"{name} (line {line})")
    tell(f"rows of {table} left out, which have no photo in {photos.folder or tree.root}", missing)
    without_row = [photo for name, photo in photos.paths.items() if name not in lines]
    tell(f"photos left out, which no row of {table} names", without_row)
    return items


def without_lesions(items: Sequence[Item]) -> list[Item]:
    """Make items of lesions out of graded ones: those without retinopathy, with every lesion absent.

    Args:
        items: items of `graded_items`.

    Returns:
        The items of grade 0. Those of other grades are left out and told, and so are those with a risk of macular
        oedema, which is given for hard exudates.

    Raises:
        DataListError: there are items, but none of grade 0.
    """
    healthy, others, at_risk = [], [], []
    grades = Counter(item.values["grade"] for item in items)
    for item in items:
        if item.values["grade"] > 0:
            others.append(f"{item.files['image']} (grade {item.values['grade']})")
        elif item.values.get("edema_risk", 0) > 0:
            at_risk.append(f"{item.files['image']} (risk {item.values['edema_risk']})")
        else:
            values = {"label_format": "masks", "lesions": list(LESIONS), "absent": list(LESIONS)}
            healthy.append(Item(item.files, item.patient, "none", item.split, values))
    if items and not healthy:
        raise DataListError("--absent_lesions: there is no photo of grade 0; leave it out for a list of grades")
    counts = ", ".join(f"{grades[grade]} of grade {grade}" for grade in sorted(grades) if grade > 0)
    tell(f"photos left out, which may have lesions, {counts}", others)
    tell("photos of grade 0 left out, which may have exudates, since they have a risk of macular oedema", at_risk)
    return healthy


def _whole(where: str, row: Mapping[str, str], column: str, low: int, high: int) -> int:
    """Read a whole number."""
    if row[column] not in map(str, range(low, high + 1)):
        raise DataListError(
            f"{where}: the column {column!r} has {row[column]!r}; it has to be a whole number from {low} to {high}"
        )
    return int(row[column])
