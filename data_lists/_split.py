"""Dividing patients into training, validation and test."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping

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
    n_validation, n_test = _numbers(len(patients), validation, test)

    def order(patient: str) -> tuple[str, bytes]:
        return patients[patient], _shuffled(seed, patient)

    rest = sorted(patients, key=order)
    splits = dict.fromkeys(rest, "training")
    for split, count in (("test", n_test), ("validation", n_validation)):
        chosen = {rest[(2 * i + 1) * len(rest) // (2 * count)] for i in range(count)}
        splits.update(dict.fromkeys(chosen, split))
        rest = [patient for patient in rest if patient not in chosen]
    return splits


def split_labelled(
    patients: Mapping[str, Collection[str]], *, validation: float, test: float, seed: int
) -> dict[str, str]:
    """Divide patients who may have several labels, each label in the same shares as far as whole patients allow.

    Iterative stratification (Sechidis et al., On the stratification of multi-label data, ECML PKDD 2011): the rarest
    label first, each of its patients goes to the split that lacks this label most. Unlike there a split that has its
    number of patients gets no more, and patients without a label come last. The order is that of `split_patients`.

    Args:
        patients: labels of each patient.
        validation: share of the patients, 0 to less than 1.
        test: share of the patients, 0 to less than 1.
        seed: another seed gives another division.

    Returns:
        As `split_patients`.

    Raises:
        DataListError: the shares are impossible, or there are too few patients.
    """
    n_validation, n_test = _numbers(len(patients), validation, test)
    room = dict(zip(SPLITS, (len(patients) - n_validation - n_test, n_validation, n_test), strict=True))
    counts = Counter(label for names in patients.values() for label in set(names))
    wanted = {split: {label: counts[label] * n / len(patients) for label in counts} for split, n in room.items()}
    rest = sorted(patients, key=lambda patient: _shuffled(seed, patient))
    splits: dict[str, str] = {}
    while rest:
        left = Counter(label for patient in rest for label in set(patients[patient]))
        rarest = min(left, key=lambda label: (left[label], label), default=None)
        for patient in (patient for patient in rest if rarest is None or rarest in patients[patient]):
            having_room = [split for split in SPLITS if room[split]]
            split = max(having_room, key=lambda split: (wanted[split][rarest] if rarest else 0.0, room[split]))
            splits[patient] = split
            room[split] -= 1
            for label in set(patients[patient]):
                wanted[split][label] -= 1
        rest = [patient for patient in rest if patient not in splits]
    return splits


def _shuffled(seed: int, patient: str) -> bytes:
    """Sort key that puts patients in an order that depends only on the seed and their names."""
    return hashlib.sha256(f"{seed}:{patient}".encode()).digest()


def _numbers(patients: int, validation: float, test: float) -> tuple[int, int]:
    """Give the number of patients for validation and test.

    Raises:
        DataListError: the shares are impossible, or there are too few patients.
    """
    for name, share in (("validation", validation), ("test", test)):
        if not 0 <= share < 1:
            raise DataListError(f"--{name} is {share:g}; it has to be a share from 0 to less than 1")
    if validation + test >= 1:
        raise DataListError(f"--validation {validation:g} and --test {test:g} leave nothing for training")
    needed = 1 + (validation > 0) + (test > 0)
    if patients < needed:
        raise DataListError(
            f"{patients} patient(s) cannot be divided into {needed} splits; set --validation or --test to 0"
        )
    n_test = _count(test, patients, keep=1 + (validation > 0))
    return _count(validation, patients, keep=1 + n_test), n_test


def _count(share: float, total: int, *, keep: int) -> int:
    """Round a share of the total to a whole number of at least 1, leaving some for the other splits."""
    return min(max(round(share * total), 1), total - keep) if share > 0 else 0
