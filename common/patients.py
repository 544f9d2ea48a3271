"""From photos of eyes to patients: whose a photo is, and what the photos of one patient say together."""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.results import FAILED, RESULTS, ResultFolder

PATIENTS = "patients.csv"
NORMAL = "N"
"""The label of an eye without a finding, in the letters of ODIR."""
_SHOWN = 5  # patients named in a warning
_EYE_AT_END = re.compile(r"(.*?[^\W_])[\W_]+(?:left|right|od|os)", re.IGNORECASE)


def patient_from_name(name: str) -> str | None:
    """Tell from the name of a file whose eye it shows, as ODIR names them: ``<patient>_left.jpg``.

    Args:
        name: path of the photo, relative to the input folder.

    Returns:
        What stands before the eye, with the folder; None when the name does not end in an eye.
    """
    path = PurePosixPath(name)
    match = _EYE_AT_END.fullmatch(path.stem)
    return path.with_name(match[1]).as_posix() if match else None


def combine_eyes(values: NDArray[Any], labels: Sequence[str], normal: str = NORMAL) -> NDArray[np.float64]:
    """Combine what is said of the photos of one patient.

    A patient has what one of the eyes has, so the largest value counts; a patient is as normal as the less normal eye,
    so for ``normal`` it is the smallest. A product would be too low, since the eyes of a patient are alike. Truths of 0
    and 1 are combined in the same way.

    Args:
        values: ``(n, C)``, a row of probabilities for each photo.
        labels: name of each column.
        normal: the label of an eye without a finding.

    Returns:
        ``(C,)``.
    """
    combined = np.asarray(values, dtype=np.float64).max(axis=0)
    if normal in labels:
        combined[list(labels).index(normal)] = values[:, list(labels).index(normal)].min()
    return combined


def patient_rows(
    photos: Iterable[tuple[str, Mapping[str, float]]], labels: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Give the combined values of each patient (`combine_eyes`).

    Args:
        photos: patient and value of each label, for every photo.
        labels: the labels.

    Returns:
        Patient to ``(C,)``; numbers before words, in their order.
    """
    by_patient: dict[str, list[list[float]]] = {}
    for patient, values in photos:
        by_patient.setdefault(patient, []).append([values[label] for label in labels])
    return {patient: combine_eyes(np.array(by_patient[patient]), labels) for patient in sorted(by_patient, key=_order)}


def _order(patient: str) -> tuple[bool, int, str]:
    return (not patient.isdecimal(), int(patient) if patient.isdecimal() else 0, patient)


def patient_truths(
    photos: Iterable[tuple[str, Mapping[str, Any]]], truth: NDArray[np.bool_], labels: Sequence[str]
) -> dict[str, NDArray[np.bool_]]:
    """Give the true labels of each patient: those that the list states, else those of the photos together.

    Args:
        photos: patient and item of the data list, for every photo; an item may have ``patient_label``, a list of names.
        truth: ``(n, C)``, of the photos.
        labels: name of each column.

    Returns:
        Patient to ``(C,)``, in the order of `patient_rows`.
    """
    given = list(photos)
    values = [dict(zip(labels, row.astype(float), strict=True)) for row in truth]
    together = patient_rows(zip([patient for patient, _ in given], values, strict=True), labels)
    stated = {patient: item["patient_label"] for patient, item in given if "patient_label" in item}
    return {
        patient: np.array([label in stated[patient] for label in labels]) if patient in stated else found > 0.5
        for patient, found in together.items()
    }


def patient_table(patients: Mapping[str, Sequence[float] | NDArray[np.float64]], labels: Sequence[str]) -> bytes:
    """Write patients in the format of ODIR's submissions: ``ID`` and a probability for each label.

    Args:
        patients: patient to the values of the labels; NaN, an empty cell, for what is not known.
        labels: names of the columns.

    Returns:
        CSV.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["ID", *labels])
    for patient, values in patients.items():
        writer.writerow([patient, *("" if math.isnan(value) else f"{value:.6g}" for value in values)])
    return text.getvalue().encode("utf-8")


def write_patients(results: ResultFolder, classifiers: Sequence[Mapping[str, str]]) -> None:
    """Write ``patients.csv``: a row for each patient, what the photos of both eyes say together (`patient_rows`).

    It is made of all rows of ``results.csv`` that name a patient, those of earlier runs too, and it is removed where
    there are none. A photo counts for a classifier when it has its probabilities; where no photo of a patient has,
    the cells are empty. How many photos are of no known patient is logged, and of which patients a classifier failed on
    a photo that has a row.

    Args:
        results: the folder of the results.
        classifiers: for each, label to the column of its probability.
    """
    rows = _rows(results.folder / RESULTS)
    incomplete = set().union(*(_patients_with_gaps(rows, columns) for columns in classifiers))
    if incomplete:
        shown = ", ".join(sorted(incomplete, key=_order)[:_SHOWN]) + (", ..." if len(incomplete) > _SHOWN else "")
        logging.getLogger(__name__).warning(
            f"Of {len(incomplete)} patients ({shown}) a photo has no probability: {PATIENTS} says what their other "
            "photos show, if there are any."
        )
    photos = [_photos_in(rows, columns) for columns in classifiers]
    known = [[photo for photo in of_one if photo[0]] for of_one in photos]
    if not any(known):
        (results.folder / PATIENTS).unlink(missing_ok=True)
        return
    without, count = max((len(of_one) - len(rest), len(of_one)) for of_one, rest in zip(photos, known, strict=True))
    if without:
        logging.getLogger(__name__).warning(
            f"{without} of {count} photos are of no known patient: {PATIENTS} leaves them out."
        )
    together = [patient_rows(rest, list(columns)) for rest, columns in zip(known, classifiers, strict=True)]
    missing = [[math.nan] * len(columns) for columns in classifiers]
    patients = {
        patient: [value for rows, none in zip(together, missing, strict=True) for value in rows.get(patient, none)]
        for patient in sorted(set().union(*together), key=_order)
    }
    results.write(PATIENTS, patient_table(patients, [label for columns in classifiers for label in columns]))


def _photos_in(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> list[tuple[str, dict[str, float]]]:
    """The patient, empty where it is not known, and the probability of each label, of the rows that have them."""
    return [
        (row["patient"], {label: float(row[column]) for label, column in columns.items()})
        for row in rows
        if all(row[column] for column in columns.values())
    ]


def _patients_with_gaps(rows: Sequence[Mapping[str, str]], columns: Mapping[str, str]) -> set[str]:
    """The patients of whom the row of a photo lacks a probability, since something failed."""
    from common.examine.table import OCT  # `common.examine` needs this module

    return {
        row["patient"]
        for row in rows
        if row["patient"]
        and row.get("modality") != OCT
        and FAILED in row["note"]
        and not all(row[column] for column in columns.values())
    }


def _rows(table: Path) -> list[dict[str, str]]:
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
