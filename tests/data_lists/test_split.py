from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_lists import DataListError, split_labelled, split_patients

PATIENTS = st.dictionaries(st.text(min_size=1, max_size=6), st.sampled_from("abc"), min_size=3, max_size=60)
LABELLED = st.dictionaries(st.text(min_size=1, max_size=6), st.sets(st.sampled_from("abcd")), min_size=3, max_size=60)
SHARE = st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.3, 0.45])


@given(patients=PATIENTS, validation=SHARE, test=SHARE, seed=st.integers(0, 10))
def test_every_patient_is_in_one_split_of_about_the_asked_size(
    patients: dict[str, str], validation: float, test: float, seed: int
) -> None:
    splits = split_patients(patients, validation=validation, test=test, seed=seed)

    assert splits.keys() == patients.keys()
    counts = {name: list(splits.values()).count(name) for name in ("training", "validation", "test")}
    assert sum(counts.values()) == len(patients)
    assert counts["training"] >= 1
    for name, share in (("validation", validation), ("test", test)):
        assert abs(counts[name] - share * len(patients)) <= 1
        assert (counts[name] > 0) == (share > 0)


@given(patients=PATIENTS, seed=st.integers(0, 10))
def test_the_order_in_which_patients_come_changes_nothing(patients: dict[str, str], seed: int) -> None:
    backwards = dict(reversed(patients.items()))

    assert split_patients(patients, validation=0.2, test=0.2, seed=seed) == split_patients(
        backwards, validation=0.2, test=0.2, seed=seed
    )


def test_every_class_has_its_share() -> None:
    patients = {f"{kind}{number}": kind for kind in "abc" for number in range(10)}

    splits = split_patients(patients, validation=0.2, test=0.1, seed=3)

    for kind in "abc":
        of_kind = [splits[patient] for patient in patients if patient[0] == kind]
        assert of_kind.count("test") == 1
        assert of_kind.count("validation") == 2


@given(patients=LABELLED, validation=SHARE, test=SHARE, seed=st.integers(0, 10))
def test_patients_with_several_labels_are_in_one_split_of_the_asked_size(
    patients: dict[str, set[str]], validation: float, test: float, seed: int
) -> None:
    splits = split_labelled(patients, validation=validation, test=test, seed=seed)

    one_label = split_patients(dict.fromkeys(patients, ""), validation=validation, test=test, seed=seed)
    assert splits.keys() == patients.keys()
    assert Counter(splits.values()) == Counter(one_label.values())
    backwards = dict(reversed(patients.items()))
    assert split_labelled(backwards, validation=validation, test=test, seed=seed) == splits


@pytest.mark.parametrize("seed", range(5))
def test_every_label_has_its_share_where_patients_have_several(seed: int) -> None:
    labels = ["a", "ab", "abc", "b", "cd", "", "aaa", "ad"]
    patients = {f"{number}": labels[number % len(labels)] for number in range(160)}

    splits = split_labelled(patients, validation=0.2, test=0.1, seed=seed)

    for label in "abcd":
        having = [splits[patient] for patient, own in patients.items() if label in own]
        assert having.count("validation") == pytest.approx(0.2 * len(having), abs=2)
        assert having.count("test") == pytest.approx(0.1 * len(having), abs=2)


def test_another_seed_gives_another_division() -> None:
    patients = dict.fromkeys((f"{number}" for number in range(30)), "")

    assert split_patients(patients, validation=0.3, test=0, seed=0) != split_patients(
        patients, validation=0.3, test=0, seed=1
    )


def test_the_division_of_a_seed_stays_the_same_between_versions() -> None:
    patients = dict.fromkeys("abcdefghij", "")

    splits = split_patients(patients, validation=0.2, test=0.2, seed=0)

    assert {patient: split for patient, split in splits.items() if split != "training"} == {
        "b": "validation",
        "c": "test",
        "d": "validation",
        "g": "test",
    }


@pytest.mark.parametrize(
    ("validation", "test", "message"),
    [
        (1.0, 0.0, "--validation is 1"),
        (-0.1, 0.0, "--validation is -0.1"),
        (0.2, float("nan"), "--test is nan"),
        (0.5, 0.5, "leave nothing for training"),
    ],
)
def test_impossible_shares_are_refused(validation: float, test: float, message: str) -> None:
    with pytest.raises(DataListError, match=message):
        split_patients({"1": "", "2": "", "3": ""}, validation=validation, test=test, seed=0)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(DataListError, match="cannot be divided into 3 splits"):
        split_patients({"1": "", "2": ""}, validation=0.2, test=0.2, seed=0)
