"""The lists of the real datasets, where they are there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.pixels import read_pixels
from data_lists import SPLITS, DataListWarning, build, merge, write
from data_lists._alike import SAME_EYE, alike, thumbnails


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
    assert content["files"] == ["fluid", "image", "label", "label_2"]


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

    with pytest.warns(DataListWarning, match="kept in one split: 1 .*IDRiD_013.jpg .* and .*IDRiD_397.jpg"):
        content = build("via", root, annotations="C. Lesion boxes (VIA)/via_region_data.csv")

    items = [item for split in SPLITS for item in content[split]]
    assert len(items) == 393
    assert {tuple(item["lesions"]) for item in items} == {("exudate", "haemorrhage")}
    lesions = [region["lesion"] for item in items for region in item["regions"]]
    assert (lesions.count("exudate"), lesions.count("haemorrhage")) == (1441, 1006)


@pytest.mark.real_data
def test_masks_boxes_and_healthy_photos_of_idrid_together(real_folder: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_folder("IDRiD")
    part_a = root / "A. Segmentation" / "1. Original Images"
    lists = {name: tmp_path / f"{name}.json" for name in ("idrid_lesions", "idrid_grading", "via")}
    write(build("idrid_lesions", root), lists["idrid_lesions"])
    with pytest.warns(DataListWarning, match="136 of grade 2, 74 of grade 3, 49 of grade 4: 279 "):
        healthy = build("idrid_grading", root, absent_lesions=True, without=part_a)
    write(healthy, lists["idrid_grading"])
    with pytest.warns(DataListWarning, match="photos left out, which show the same"):
        boxes = build(
            "via",
            root,
            annotations="C. Lesion boxes (VIA)/via_region_data.csv",
            without=[part_a, lists["idrid_grading"]],
        )
    write(boxes, lists["via"])

    with pytest.warns(DataListWarning, match="left out by --training_only"):
        content = merge(root, dict.fromkeys(lists.values(), "."), training_only=["idrid_grading", "via"])

    assert {item["dataset"] for item in content["validation"]} == {"idrid_lesions"}
    assert (content["numTraining"], content["numValidation"]) == (43 + 107 + 172, 11)
    trained = [root / item["image"] for item in content["training"]]
    held_out = [root / item["image"] for one in (content, healthy, boxes) for item in one["validation"]]
    assert len(held_out) == 11 + 27 + 43
    assert alike(thumbnails(trained), thumbnails(held_out), SAME_EYE) == []
