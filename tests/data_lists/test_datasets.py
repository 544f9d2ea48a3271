"""Every dataset in every layout, with tiny pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from common.scans import split_address
from data_lists import DATASETS, SPLITS, DataListError, DataListWarning, Dataset, Item, Tree, build
from data_lists.__main__ import main

LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chase_db1 as released": ("chase_db1", {}),
    "chase_db1 with fields of view": ("chase_db1", {"fov": True}),
    "hrf as released": ("hrf", {"mask": "tif", "photo": "JPG"}),
    "hrf as png": ("hrf", {"mask": "png"}),
    "fives as released": ("fives", {}),
    "fives, a part": ("fives", {"released": False}),
    "drive": ("drive", {}),
    "duke_dme as released": ("duke_dme", {}),
    "duke_dme, only annotated B-scans": ("duke_dme", {"frames": 2, "annotated": (1, 2)}),
    "stare in one folder": ("stare", {}),
    "stare in folders": ("stare", {"photos": "stare-images/", "masks": True}),
    "stare, only the labels in folders": ("stare", {"masks": True}),
    "image_mask": ("image_mask", {}),
    "image_mask with jpg": ("image_mask", {"suffix": "jpg"}),
    "image_mask as on Kaggle": ("image_mask", {"parts": ("train/", "test/")}),
    "drishti_gs1 as released": ("drishti_gs1", {}),
    "drishti_gs1 without the outer folder": ("drishti_gs1", {"base": ""}),
    "drishti_gs1 in folders by class": ("drishti_gs1", {"base": "a/Drishti-GS1_files/", "folders": True}),
    "drishti_gs1 with Test_GT beside Test": ("drishti_gs1", {"test_truth": "Test_GT"}),
    "drishti_gs1, a part": ("drishti_gs1", {"released": False}),
    "refuge as released": ("refuge", {}),
    "refuge without validation": ("refuge", {"parts": ("Training", "Test")}),
    "refuge crops": ("refuge", {"released": False}),
    "idrid_disc as released": ("idrid_disc", {}),
    "idrid_disc, the folder of part A": ("idrid_disc", {"base": "", "suffix": "png", "colour": False}),
    "idrid_disc, unpacked into a folder of one name": ("idrid_disc", {"base": "A. Segmentation/A. Segmentation/"}),
    "idrid_disc, only training": ("idrid_disc", {"test": False}),
    "idrid_lesions as released": ("idrid_lesions", {}),
    "idrid_lesions, the folder of part A": ("idrid_lesions", {"base": "", "suffix": "png", "colour": False}),
    "idrid_lesions, only training": ("idrid_lesions", {"test": False}),
    "disc_cup_folder": ("disc_cup_folder", {}),
    "disc_cup_folder with a table": ("disc_cup_folder", {"table": True}),
    "odir5k as on Kaggle": ("odir5k", {}),
    "odir5k, the original table": ("odir5k", {"kaggle": False}),
    "idrid_grading as released": ("idrid_grading", {}),
    "idrid_grading, only training, below the root": ("idrid_grading", {"base": "B. Disease Grading/", "test": False}),
    "aptos2019 as on Kaggle": ("aptos2019", {}),
    "aptos2019 with a folder in a folder": ("aptos2019", {"images": "train_images/train_images"}),
    "class_folders": ("class_folders", {}),
    "class_folders, divided": ("class_folders", {"parts": ("a/train/", "a/valid/", "a/test/")}),
    "class_folders with a test folder": ("class_folders", {"parts": ("train/", "Test/"), "names": ("dr", "nodr")}),
    "smdg as on Kaggle": ("smdg", {}),
    "smdg with paths that are right": ("smdg", {"nested": False}),
    "via, a table": ("via", {}),
    "via, an export of JSON": ("via", {"kind": "json"}),
    "via, a project": ("via", {"kind": "project"}),
    "via, version 1": ("via", {"kind": "via 1"}),
}
WITH_TEST = {
    "fives as released",
    "drive",
    "image_mask as on Kaggle",
    "drishti_gs1 as released",
    "drishti_gs1 without the outer folder",
    "drishti_gs1 in folders by class",
    "drishti_gs1 with Test_GT beside Test",
    "refuge as released",
    "refuge without validation",
    "idrid_disc as released",
    "idrid_disc, the folder of part A",
    "idrid_disc, unpacked into a folder of one name",
    "idrid_lesions as released",
    "idrid_lesions, the folder of part A",
    "idrid_grading as released",
    "class_folders, divided",
    "class_folders with a test folder",
}
DISC_CUP = {
    "drishti_gs1": {"image", "disc", "cup"},
    "refuge": {"image", "label"},
    "idrid_disc": {"image", "disc"},
    "disc_cup_folder": {"image", "disc", "cup"},
    "smdg": {"image", "disc", "cup"},
}
LESIONS = {
    "idrid_lesions": {"image", "exudate", "haemorrhage", "microaneurysm", "soft_exudate"},
    "via": {"image"},
}
LAYERS = {"duke_dme": {"image", "label", "label_2", "fluid"}}
CLASSIFICATION = {"odir5k", "idrid_grading", "aptos2019", "class_folders"}
OPTIONAL = {"smdg": {"cup"}, "idrid_lesions": LESIONS["idrid_lesions"] - {"image"}}
WITH_FOV = {"chase_db1 with fields of view", "hrf as released", "hrf as png", "drive"}


def patients_of(content: dict[str, Any], split: str) -> set[str]:
    return {item["patient"] for item in content[split]}


def items_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for split in SPLITS for item in content[split]]


def test_every_dataset_has_a_layout_here() -> None:
    assert {name for name, _ in LAYOUTS.values()} == DATASETS.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_gives_a_correct_list(layout: str, pictures: Any, make: Any) -> None:
    name, options = LAYOUTS[layout]
    make[name](pictures, **options)

    content = build(name, pictures.root, seed=1)

    assert content["name"] == name
    assert content["seed"] == 1
    firsts = {**dict.fromkeys(LAYERS, "NFL"), **dict.fromkeys(LESIONS, "exudate")}
    first = firsts.get(name, "optic disc outside the cup (rim)" if name in DISC_CUP else "vessel")
    if name not in CLASSIFICATION:
        assert [content["labels"][label] for label in "01"] == ["background", first]
    assert content["licence"]
    assert bool(content["test"]) == (layout in WITH_TEST)
    for split in SPLITS:
        assert content[f"num{split.capitalize()}"] == len(content[split])
    assert content["training"]
    assert content["validation"]
    for first, second in (("training", "validation"), ("training", "test"), ("validation", "test")):
        assert not patients_of(content, first) & patients_of(content, second)
    usual = {"image"} if name in CLASSIFICATION else {"image", "label"} | ({"fov"} if layout in WITH_FOV else set())
    files = {**DISC_CUP, **LAYERS, **LESIONS}.get(name, usual)
    assert content["files"] == sorted(files)
    for item in items_of(content):
        assert files - OPTIONAL.get(name, set()) <= item.keys()
        assert item["dataset"] == name
        for key in files & item.keys():
            assert "\\" not in item[key]
            assert split_address(pictures.root / item[key])[0].is_file()
    images = [item["image"] for item in items_of(content)]
    assert len(images) == len(set(images))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_empty_folder_is_refused_with_the_layout(layout: str, tmp_path: Path) -> None:
    with pytest.raises(DataListError, match=r"no images in the expected layout \(.*The folder has: nothing"):
        build(LAYOUTS[layout][0], tmp_path)


def test_both_eyes_of_a_child_stay_together(chase: Path) -> None:
    content = build("chase_db1", chase, validation=0.4)

    for split in ("training", "validation"):
        eyes = [item["image"][:8] for item in content[split]]
        assert all(eyes.count(child) == 2 for child in eyes)
    assert patients_of(content, "training") | patients_of(content, "validation") == {f"{i:02d}" for i in range(1, 7)}


def test_observer_of_chase_db1(chase: Path) -> None:
    assert all(item["label"].endswith("_1stHO.png") for item in items_of(build("chase_db1", chase)))
    assert all(item["label"].endswith("_2ndHO.png") for item in items_of(build("chase_db1", chase, observer=2)))


def test_train_first_puts_the_later_children_into_test(chase: Path) -> None:
    content = build("chase_db1", chase, train_first=4, validation=0.25)

    assert patients_of(content, "test") == {"05", "06"}
    assert len(patients_of(content, "validation")) == 1


def test_train_first_that_leaves_nothing_for_training_is_refused(chase: Path) -> None:
    with pytest.raises(DataListError, match=r"--train_first 0 leaves nothing for training; .* 1 to 6"):
        build("chase_db1", chase, train_first=0)


@pytest.mark.parametrize("train_first", [6, 10])
def test_train_first_that_leaves_nothing_for_test_is_told(chase: Path, train_first: int) -> None:
    with pytest.warns(DataListWarning, match=f"--train_first {train_first} leaves nothing for test; .* 1 to 6"):
        content = build("chase_db1", chase, train_first=train_first)

    assert content["numTest"] == 0
    assert content == build("chase_db1", chase)


def test_train_first_of_hrf_counts_in_each_kind(pictures: Any, make: Any) -> None:
    make["hrf"](pictures)

    content = build("hrf", pictures.root, train_first=3, validation=0)

    assert patients_of(content, "test") == {f"0{number}_{kind}" for number in (4, 5) for kind in ("h", "dr", "g")}


def test_classes_of_hrf_are_balanced(pictures: Any, make: Any) -> None:
    make["hrf"](pictures)

    content = build("hrf", pictures.root, validation=0.2)

    assert sorted(item["class"] for item in content["validation"]) == ["DR", "glaucoma", "normal"]


@pytest.mark.parametrize("seed", range(5))
def test_fives_keeps_the_two_photos_of_one_eye_together(pictures: Any, make: Any, seed: int) -> None:
    make["fives"](pictures, released=False)

    content = build("fives", pictures.root, seed=seed, validation=0.5)

    splits = {Path(item["image"]).stem: split for split in SPLITS for item in content[split]}
    assert splits["22_A"] == splits["23_A"]


def test_fives_test_folder_is_the_test_split(pictures: Any, make: Any) -> None:
    make["fives"](pictures)

    content = build("fives", pictures.root, test="official")

    assert {item["image"].split("/")[0] for item in content["test"]} == {"test"}
    assert content["numTest"] == 24
    assert {item["class"] for item in content["test"]} == {"AMD", "DR", "glaucoma", "normal"}


def test_observer_of_drive_is_that_of_the_test_labels(pictures: Any, make: Any) -> None:
    make["drive"](pictures)

    content = build("drive", pictures.root, observer=2)

    assert all(item["label"].startswith("test/2nd_manual/") for item in content["test"])
    assert all(item["label"].startswith("training/1st_manual/") for item in content["training"])


def test_drive_without_test_labels_leaves_the_test_photos_out(pictures: Any, make: Any) -> None:
    make["drive"](pictures, test_labels=False)

    with pytest.warns(DataListWarning, match="no folder test/1st_manual"):
        content = build("drive", pictures.root)

    assert content["numTest"] == 0
    assert content["numTraining"] + content["numValidation"] == 6


@pytest.mark.parametrize("observer", ["ah", "vk"])
def test_observer_of_stare(pictures: Any, make: Any, observer: str) -> None:
    make["stare"](pictures)

    content = build("stare", pictures.root, observer=observer)

    assert all(item["label"].endswith(f".{observer}.ppm") for item in items_of(content))


def test_compressed_stare_files_are_named(pictures: Any, make: Any) -> None:
    make["stare"](pictures)
    (pictures.root / "im0001.ppm").rename(pictures.root / "im0001.ppm.gz")

    with pytest.raises(DataListError, match=r"im0001\.ppm\.gz is compressed; unpack it"):
        build("stare", pictures.root)


def test_other_folder_names_of_image_mask(pictures: Any) -> None:
    for number in range(3):
        pictures.photo(f"photos/{number}.png")
        pictures.mask(f"vessels/{number}.png")

    content = build("image_mask", pictures.root, image_folder="photos", mask_folder="vessels", name="clinic")

    assert {(item["image"].split("/")[0], item["dataset"]) for item in items_of(content)} == {("photos", "clinic")}
    assert content["name"] == "clinic"


def write_table(path: Path, rows: list[tuple[str, str]], header: str = "image,patient") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


def test_patients_from_a_table_stay_together(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["image_mask"](pictures)
    rows = [(f"image/{number}.png", f"p{number // 2}") for number in range(6)]

    content = build("image_mask", pictures.root, patients=write_table(tmp_path / "p.csv", rows), validation=0.3)

    assert [item["patient"] for item in content["validation"]] == [content["validation"][0]["patient"]] * 2
    assert len(patients_of(content, "training")) == 2


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([("image/0.png", "a")], "image,patient", "gives no patient for image/1.png"),
        ([(f"image/{n}.png", "") for n in range(6)], "image,patient", "gives no patient for image/0.png"),
        ([(f"image/{n}.png", "a") for n in range(7)], "image,patient", "names image/6.png, which is not an image"),
        ([], "image,name", "has no column 'patient'"),
    ],
)
def test_a_wrong_table_is_refused(
    pictures: Any, make: Any, tmp_path: Path, rows: list[tuple[str, str]], header: str, message: str
) -> None:
    make["image_mask"](pictures)

    with pytest.raises(DataListError, match=message):
        build("image_mask", pictures.root, patients=write_table(tmp_path / "p.csv", rows, header))


def test_a_missing_table_is_refused(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["image_mask"](pictures)

    with pytest.raises(DataListError, match=r"none\.csv cannot be read"):
        build("image_mask", pictures.root, patients=tmp_path / "none.csv")


def test_a_patient_of_the_table_in_training_and_test_is_refused(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["image_mask"](pictures, parts=("train/", "test/"))
    rows = [(f"{part}/image/{number}.png", f"p{number}") for part in ("train", "test") for number in range(6)]

    with pytest.raises(DataListError, match=r"patient p0 is in .* and in test"):
        build("image_mask", pictures.root, patients=write_table(tmp_path / "p.csv", rows))


def test_a_dataset_with_grades_and_no_masks_needs_only_a_description(
    pictures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(8):
        pictures.photo(f"{number}.png")

    def find(tree: Tree) -> list[Item]:
        images = tree.find("", "{key}", r"\d+")
        return [
            Item({"image": path}, patient=name, category=str(int(name) % 2), values={"label": int(name) % 2})
            for name, path in images.paths.items()
        ]

    grades = Dataset("grades", "Grades.", "none", "none", {"0": "no", "1": "yes"}, find, "Grades.")
    monkeypatch.setitem(DATASETS, "grades", grades)

    content = build("grades", pictures.root, validation=0.25)

    assert content["files"] == ["image"]
    assert sorted(item["label"] for item in content["validation"]) == [0, 1]


def test_only_annotated_b_scans_are_listed(pictures: Any, make: Any) -> None:
    make["duke_dme"](pictures, frames=12)

    items = items_of(build("duke_dme", pictures.root))

    assert len(items) == 12
    assert [item["image"] for item in items if item["patient"] == "03"] == ["Subject_03.mat#02", "Subject_03.mat#04"]
    assert all(item["image"] == item["label"] == item["label_2"] for item in items)


def test_fluid_is_listed_where_a_file_has_it(pictures: Any, make: Any) -> None:
    make["duke_dme"](pictures)
    path = pictures.root / "Subject_02.mat"
    content = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    scipy.io.savemat(path, {name: value for name, value in content.items() if name != "manualFluid1"})

    items = items_of(build("duke_dme", pictures.root))

    assert {item["patient"] for item in items if "fluid" not in item} == {"02"}
    assert all(item["fluid"] == item["image"] for item in items if item["patient"] != "02")
    scipy.io.savemat(path, {**content, "manualFluid1": content["manualFluid1"][:-1]})
    with pytest.raises(DataListError, match=r"'manualFluid1' has the shape \(47, 40, 6\), its images \(48, 40, 6\)"):
        build("duke_dme", pictures.root)


def test_b_scans_of_a_subject_stay_together(pictures: Any, make: Any) -> None:
    make["duke_dme"](pictures)

    content = build("duke_dme", pictures.root, train_first=4, validation=0.25)

    assert patients_of(content, "test") == {"05", "06"}
    assert content["numTest"] == 4
    assert content["numValidation"] == 2


@pytest.mark.parametrize(("wanted", "expected"), [(("3",), {"03"}), (("01", "06"), {"01", "06"})])
def test_one_subject_after_the_other_is_left_out(
    wanted: tuple[str, ...], expected: set[str], pictures: Any, make: Any
) -> None:
    make["duke_dme"](pictures)

    content = build("duke_dme", pictures.root, validation_subjects=wanted)

    assert patients_of(content, "validation") == expected
    assert patients_of(content, "training") == {f"{number:02d}" for number in range(1, 7)} - expected
    assert content["numTest"] == 0


def test_a_subject_is_left_out_beside_a_test_split(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["duke_dme"](pictures)
    options = ["--train_first", "4", "--validation_subjects", "02"]

    assert main(["duke_dme", "--root", str(pictures.root), "--output", str(tmp_path / "list.json"), *options]) == 0

    content = json.loads((tmp_path / "list.json").read_text(encoding="utf-8"))
    splits = [patients_of(content, split) for split in ("training", "validation", "test")]
    assert splits == [{"01", "03", "04"}, {"02"}, {"05", "06"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_subjects": ("09",)}, "--validation_subjects 09: there is no such file; choose from 01, 02, 03,"),
        ({"validation_subjects": ("a",)}, "--validation_subjects a: there is no such file"),
        ({"validation_subjects": ("02",), "test": 0.25}, "--test 0.25: every item has its split already"),
        ({"validation_subjects": ("5",), "train_first": 4}, "5: --train_first makes it a test subject; choose from 01"),
        ({"validation_subjects": tuple("123456")}, "leaves nothing for training; name fewer"),
    ],
)
def test_subjects_that_cannot_be_left_out(options: dict[str, Any], message: str, pictures: Any, make: Any) -> None:
    make["duke_dme"](pictures)

    with pytest.raises(DataListError, match=message):
        build("duke_dme", pictures.root, **options)


def test_a_volume_without_annotation_is_refused(pictures: Any, make: Any) -> None:
    make["duke_dme"](pictures, annotated=())

    with pytest.raises(DataListError, match=r"Subject_01.mat has no annotated B-scan; leave it out with --exclude"):
        build("duke_dme", pictures.root)


def test_a_volume_that_lacks_a_grader_is_refused(pictures: Any, make: Any) -> None:
    make["duke_dme"](pictures)
    scipy.io.savemat(pictures.root / "Subject_02.mat", {"images": np.zeros((48, 40, 2), np.uint8)})

    with pytest.raises(DataListError, match=r"Subject_02.mat: has no variable 'manualLayers1'; download it again"):
        build("duke_dme", pictures.root)


def test_boundaries_of_another_shape_are_refused(pictures: Any, make: Any) -> None:
    make["duke_dme"](pictures)
    content = {"images": np.zeros((48, 40, 2), np.uint8), "manualLayers1": np.ones((7, 40, 2))}
    scipy.io.savemat(pictures.root / "Subject_02.mat", {**content, "manualLayers2": np.ones((8, 40, 2))})

    with pytest.raises(DataListError, match=r"'manualLayers1' has the shape \(7, 40, 2\)"):
        build("duke_dme", pictures.root)
