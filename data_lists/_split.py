"""Dividing patients into training, validation and test."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from data_lists._base import DataListError

SPLITS = ("training", "validation", "test")


def split_patients(patients: Mapping[str, str], *, validation: float, test: float, seed: int) -> dict[str, str]:
    """Divide patients, each class in the same shares as far as whole patients allow.

    The patients of a class are put in an order that depends only on their names and the seed (SHA-256 of both), not
    on the order in which they come. Every n-th of the classes laid end to end then goes to test, and of the rest
    to validation.

    Args:
        patients: class of each patient.
        validation: share of the patients, 0 to less than 1.
        test: share of the patients, 0 to less than 1.
        seed: another seed gives another division.

    Returns:
        ``training``, ``validation`` or ``test`` for each patient. The numbers are the rounded shares, but at least one
        patient for every share above zero, and for training.

    Raises:
        DataListError: the shares are impossible, or there are too few patients.
    """
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise DataListError(f"--{name} is {share:g}; it has to be a share from 0 to less than 1")
    if validation + test >= 1:
        raise DataListError(f"--validation {validation:g} and --test {test:g} leave nothing for training")
    needed = 1 + (validation > 0) + (test > 0)
    if len(patients) < needed:
        raise DataListError(
            f"{len(patients)} patient(s) cannot be divided into {needed} splits; set --validation or --test to 0"
        )

    def order(patient: str) -> tuple[str, bytes]:
        return patients[patient], hashlib.sha256(f"{seed}:{patient}".encode()).digest()

    rest = sorted(patients, key=order)
    splits = dict.fromkeys(rest, "training")
    n_test = _count(test, len(rest), keep=1 + (validation > 0))
    n_validation = _count(validation, len(rest), keep=1 + n_test)
    for split, count in (("test", n_test), ("validation", n_validation)):
        chosen = {rest[(2 * i + 1) * len(rest) // (2 * count)] for i in range(count)}
        splits.update(dict.fromkeys(chosen, split))
        rest = [patient for patient in rest if patient not in chosen]
    return splits


def _count(share: float, total: int, *, keep: int) -> int:
    """Round a share of the total to a whole number of at least 1, leaving some for the other splits."""
    return min(max(round(share * total), 1), total - keep) if share > 0 else 0
