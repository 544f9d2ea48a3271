"""From photos of eyes to patients: whose a photo is, and what the photos of one patient say together."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

NORMAL = "N"
"""The label of an eye without a finding, in the letters of ODIR."""
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
        patients: patient to the values of the labels.
        labels: names of the columns.

    Returns:
        CSV.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["ID", *labels])
    for patient, values in patients.items():
        writer.writerow([patient, *(f"{value:.6g}" for value in values)])
    return text.getvalue().encode("utf-8")
