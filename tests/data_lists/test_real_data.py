"""The lists of the real datasets, where they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.pixels import read_pixels
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


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "folder", "images", "files", "label_format"),
    [
        ("drishti_gs1", "Drishti-GS1", 50, {"image", "disc", "cup"}, "softmaps"),
        ("refuge", "REFUGE_crop512", 241, {"image", "label"}, "refuge"),
        ("idrid_disc", "IDRiD", 54, {"image", "disc"}, "masks"),
        ("idrid_disc", "IDRiD/A. Segmentation", 54, {"image", "disc"}, "masks"),
    ],
)
def test_disc_and_cup(
    real_folder: Callable[[str], Path], name: str, folder: str, images: int, files: set[str], label_format: str
) -> None:
    content = build(name, real_folder(folder), seed=0, validation=0.2)

    items = [item for split in SPLITS for item in content[split]]
    assert len(items) == len({item["patient"] for item in items}) == images
    assert content["numValidation"] == round(0.2 * images)
    assert content["files"] == sorted(files)
    assert {item["label_format"] for item in items} == {label_format}
    if name == "refuge":
        assert [item["class"] for item in content["validation"]].count("glaucoma") == 5


@pytest.mark.real_data
def test_the_soft_maps_give_the_masks_of_three_experts(real_folder: Callable[[str], Path]) -> None:
    root = real_folder("Drishti-GS1")

    for item in build("drishti_gs1", root)["validation"]:
        mask = read_pixels(root / "masks" / f"{Path(item['image']).stem}.png")
        for key, lowest in (("disc", 1), ("cup", 2)):
            found, wanted = read_pixels(root / item[key]) >= item["min_value"], mask >= lowest
            # Both were resized on their own.
            assert 2 * (found & wanted).sum() / (found.sum() + wanted.sum()) > 0.97


@pytest.mark.real_data
def test_duke_dme(real_folder: Callable[[str], Path]) -> None:
    content = build("duke_dme", real_folder("2015_BOE_Chiu"), seed=12, validation=0.2)

    assert (content["numTraining"], content["numValidation"]) == (66, 22)
    assert {item["patient"] for item in content["validation"]} == {"04", "05"}
    assert content["files"] == ["image", "label", "label_2"]


@pytest.mark.real_data
def test_idrid_lesions(real_folder: Callable[[str], Path]) -> None:
    content = build("idrid_lesions", real_folder("IDRiD"), seed=0, validation=0.2)

    items = [item for split in SPLITS for item in content[split]]
    assert len(items) == len({item["patient"] for item in items}) == 54
    counts = {lesion: sum(lesion in item for item in items) for lesion in items[0]["lesions"]}
    assert counts == {"exudate": 54, "haemorrhage": 53, "microaneurysm": 54, "soft_exudate": 26}
    assert all((lesion in item) != (lesion in item["absent"]) for item in items for lesion in item["lesions"])


@pytest.mark.real_data
def test_idrid_boxes(real_folder: Callable[[str], Path]) -> None:
    root = real_folder("IDRiD")

    content = build("via", root, annotations="C. Lesion boxes (VIA)/via_region_data.csv")

    items = [item for split in SPLITS for item in content[split]]
    assert len(items) == 393
    assert {tuple(item["lesions"]) for item in items} == {("exudate", "haemorrhage")}
    lesions = [region["lesion"] for item in items for region in item["regions"]]
    assert (lesions.count("exudate"), lesions.count("haemorrhage")) == (1441, 1006)
