"""The lists of the real datasets, where they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_lists import SPLITS, build


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "folder", "images", "patients", "fov"),
    [
        ("chase_db1", "CHASE_DB1", 20, 10, True),
        ("hrf", "HRF", 30, 30, True),
        ("fives", "FIVES_subset20", 20, 19, False),
    ],
)
def test_counts_and_disjoint_patients(
    real_folder: Callable[[str], Path], name: str, folder: str, images: int, patients: int, fov: bool
) -> None:
    content = build(name, real_folder(folder), seed=0, validation=0.2)

    by_split = [{item["patient"] for item in content[split]} for split in SPLITS]
    assert sum(content[f"num{split.capitalize()}"] for split in SPLITS) == images
    assert len(set.union(*by_split)) == sum(map(len, by_split)) == patients
    assert len(by_split[1]) == round(0.2 * patients)
    assert all(("fov" in item) == fov for split in SPLITS for item in content[split])
