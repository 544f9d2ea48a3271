"""Lists of photos with classes and grades, and the comparison of photos that show the same."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.lesions import LESIONS
from data_lists import SPLITS, DataListError, DataListWarning, build, write
from data_lists.__main__ import main
from data_lists._alike import SAME_EYE, SAME_PHOTO, alike, thumbnail
from data_lists.odir5k import LABELS, eye_labels

COMMA = "\uff0c"
ODIR, IDRID, APTOS = "full_df.csv", "2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv", "train.csv"


def items_of(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(item["image"]).stem: item for split in SPLITS for item in content[split]}


def split_of(content: dict[str, Any]) -> dict[str, str]:
    return {Path(item["image"]).stem: split for split in SPLITS for item in content[split]}


def change(path: Path, old: str, new: str, count: int = -1) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, count), encoding="utf-8", newline="")


def structure(seed: int) -> NDArray[np.uint8]:
    """A smooth picture of 480 x 400 pixels with structure of every size."""
    random = np.random.default_rng(seed)
    layers = [
        cv2.resize(random.normal(0, 1, (side, side, 3)), (480, 400), interpolation=cv2.INTER_CUBIC)
        for side in (6, 12, 24, 48)
    ]
    return np.clip(128 + 25 * np.sum(layers, axis=0), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("keywords", "labels"),
    [
        ("normal fundus", "N"),
        (f"Normal fundus {COMMA} lens dust", "N"),
        (f"lens dust{COMMA}drusen", "O"),
        (f"normal fundus{COMMA}drusen", "O"),
        ("lens dust, low image quality", ""),
        ("optic disk photographically invisible", ""),
        ("no fundus image", ""),
        (" ", ""),
        ("mild nonproliferative retinopathy", "D"),
        ("suspected moderate  non proliferative retinopathy", "D"),
        ("severe proliferative diabetic retinopathy", "D"),
        ("pigment epithelium proliferation", "O"),
        ("hypertensive retinopathy,suspected glaucoma", "GH"),
        ("wet age-related macular degeneration", "A"),
        ("myopia retinopathy", "M"),
        ("myopic maculopathy", "M"),
        ("maculopathy", "O"),
        ("refractive media opacity", "O"),
        (f"cataract{COMMA}pathological myopia,epiretinal membrane", "CMO"),
    ],
)
def test_labels_of_the_keywords(keywords: str, labels: str) -> None:
    assert "".join(eye_labels(keywords)) == labels


@given(st.text(max_size=80))
def test_any_keywords_give_labels_in_order(keywords: str) -> None:
    labels = eye_labels(keywords)

    assert labels == [label for label in LABELS if label in labels]
    assert labels == ["N"] or "N" not in labels


@pytest.mark.parametrize("kaggle", [True, False])
def test_items_of_odir5k(pictures: Any, make: Any, kaggle: bool) -> None:
    make["odir5k"](pictures, kaggle=kaggle)

    items = items_of(build("odir5k", pictures.root, name="odir"))

    assert len(items) == 20
    assert items["1_left"] == {
        "image": f"{'preprocessed_images' if kaggle else 'ODIR-5K_Training_Dataset'}/1_left.jpg",
        "eye": "OS",
        "age": 41.0,
        "sex": "male",
        "label": ["D", "O"],
        "patient_label": ["D", "O"],
        "keywords": f"moderate non proliferative retinopathy{COMMA}drusen",
        "patient": "1",
        "dataset": "odir",
    }
    assert (items["2_right"]["eye"], items["2_right"]["label"]) == ("OD", ["G"])
    assert (items["4_right"]["label"], items["4_right"]["patient_label"]) == (["N"], ["M"])


def test_what_odir5k_takes_as_not_known_or_leaves_out_is_told(pictures: Any, make: Any, odir_rows: Any) -> None:
    rows = odir_rows()
    for row in rows[:2]:
        row["Patient Age"] = "1"
    rows[2]["Patient Sex"] = rows[3]["Patient Sex"] = ""
    make["odir5k"](pictures, rows=rows)
    (pictures.root / "preprocessed_images/9_left.jpg").unlink()
    pictures.photo("preprocessed_images/77_left.jpg")

    with pytest.warns(DataListWarning) as remarks:
        items = items_of(build("odir5k", pictures.root))

    assert (items["0_left"]["age"], items["1_left"]["sex"]) == (None, None)
    cases = {str(remark.message).split(":")[0]: remark.message.cases for remark in remarks}  # type: ignore[union-attr]
    assert cases == {
        "ages that are not from 5 to 110 years, taken as not known": ("patient 0: 1",),
        "photos of full_df.csv left out, which are not in the folder 'preprocessed_images'": ("9_left.jpg (line 20)",),
        "photos in preprocessed_images left out, which no row of full_df.csv names": ("77_left.jpg",),
    }


def test_labels_and_flags_that_contradict_the_keywords_are_told(pictures: Any, make: Any, odir_rows: Any) -> None:
    rows = odir_rows()
    rows[0]["labels"] = "['C']"
    for row in rows[2:4]:
        row["O"], row["G"] = "0", "1"
    make["odir5k"](pictures, rows=rows)

    with pytest.warns(DataListWarning) as remarks:
        items = items_of(build("odir5k", pictures.root))

    assert (items["0_left"]["label"], items["1_left"]["label"]) == (["N"], ["D", "O"])
    assert [remark.message.cases for remark in remarks] == [  # type: ignore[union-attr]
        ("0_left.jpg (line 2, C but 'normal fundus')",),
        ("patient 1: keywords D+O, flags D+G",),
    ]


def test_a_photo_of_which_no_finding_is_named(pictures: Any, make: Any, odir_rows: Any) -> None:
    rows = odir_rows()
    key = "Left-Diagnostic Keywords"
    # 2_left: Kaggle says C. 4_left: the flags are M, the other eye is normal. 7_left: D stands for the other eye.
    for number in (2, 4):
        for row in rows[2 * number : 2 * number + 2]:
            row[key] = "low image quality"
    for row in rows[14:16]:
        row |= {key: "lens dust", "Right-Diagnostic Keywords": "hypertensive retinopathy", "labels": ""}
        row |= dict.fromkeys("NDGCAMO", "0") | {"H": "1"}
    for row in rows[8:10]:
        row["labels"] = ""
    make["odir5k"](pictures, rows=rows)

    with pytest.warns(DataListWarning) as remarks:
        items = items_of(build("odir5k", pictures.root))

    assert (items["2_left"]["label"], items["4_left"]["label"]) == (["C"], ["M"])
    assert "7_left" not in items
    assert [remark.message.cases for remark in remarks] == [  # type: ignore[union-attr]
        ("7_left.jpg (line 16, 'lens dust')",)
    ]


def test_the_folder_with_most_photos_of_the_table_is_taken(pictures: Any, make: Any) -> None:
    make["odir5k"](pictures)
    for number in range(9):
        pictures.photo(f"ODIR-5K/Training Images/{number}_left.jpg")

    assert items_of(build("odir5k", pictures.root))["3_left"]["image"] == "preprocessed_images/3_left.jpg"
    with pytest.warns(DataListWarning, match="not in the folder 'ODIR-5K/Training Images': 11"):
        items = items_of(build("odir5k", pictures.root, images="ODIR-5K/Training Images/"))
    assert items["3_left"]["image"] == "ODIR-5K/Training Images/3_left.jpg"


def test_a_table_has_to_be_named_where_there_are_two(pictures: Any, make: Any) -> None:
    make["odir5k"](pictures, kaggle=False)
    table = next(pictures.root.glob("*.csv"))
    (pictures.root / "copy.csv").write_bytes(table.read_bytes())
    (pictures.root / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")

    with pytest.raises(DataListError, match=r"copy\.csv and ODIR.* name one with --table"):
        build("odir5k", pictures.root)
    assert len(items_of(build("odir5k", pictures.root, table="copy.csv"))) == 20
    with pytest.raises(DataListError, match=r"--table none\.csv is no file"):
        build("odir5k", pictures.root, table="none.csv")


def test_every_label_has_its_share_and_both_eyes_stay_together(pictures: Any, make: Any, odir_rows: Any) -> None:
    make["odir5k"](pictures, rows=odir_rows(50))

    content = build("odir5k", pictures.root, seed=3, validation=0.2)

    assert content == build("odir5k", pictures.root, seed=3, validation=0.2)
    assert content["validation"] != build("odir5k", pictures.root, seed=4, validation=0.2)["validation"]
    counts = Counter(label for item in content["validation"] for label in item["label"])
    assert counts == {"N": 8, "D": 2, "O": 2, "G": 2, "C": 2, "A": 2, "H": 2, "M": 2}
    assert set(Counter(item["patient"] for item in content["validation"]).values()) == {2}


def test_no_validation(pictures: Any, make: Any) -> None:
    for name in ("odir5k", "idrid_grading"):
        make[name](pictures)

        content = build(name, pictures.root, validation=0)

        assert content["numValidation"] == 0
        assert content["numTraining"] == (20 if name == "odir5k" else 10)


def test_one_photo_of_two_patients_keeps_them_together(pictures: Any, make: Any, odir_rows: Any) -> None:
    rows = odir_rows(20)
    make["odir5k"](pictures, rows=rows)
    pictures.save("preprocessed_images/3_left.jpg", structure(0), quality=95)
    pictures.save("preprocessed_images/17_left.jpg", structure(0)[::2, ::2], quality=80)

    for seed in range(4):
        with pytest.warns(DataListWarning, match=r"kept in one split: 1 .*/3_left.jpg .A. and .*/17_left.jpg .C."):
            splits = split_of(build("odir5k", pictures.root, seed=seed, validation=0.5))
        assert splits["3_left"] == splits["17_left"]


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        (ODIR, "Patient Age", "Age", "no column 'patient age'; its columns are: id, age,"),
        (ODIR, "0_left.jpg,0_right.jpg", "0_left.jpg", r"line 2: the column 'o' has '../input/0_left.jpg'; .* 0 or 1"),
        (ODIR, "\n0,40,", "\n0,forty,", "line 2: the column 'patient age' has 'forty'; it has to be a number of years"),
        (ODIR, "Female", "Woman", "line 2: the column 'patient sex' has 'Woman'; it has to be Male, Female or empty"),
        (ODIR, "\n0,40,", "\n,40,", "line 2: the column 'id' has ''; it has to be the patient's number"),
        (ODIR, "['N']", "['X']", r"line 2: the column 'labels' has \"\['X'\]\"; it has to be one of the eight"),
        (
            ODIR,
            "[],0_left.jpg",
            "[],1_left.jpg",
            "line 2: the photos are '0_left.jpg' and '0_right.jpg', and",
        ),
        (ODIR, "[],0_right.jpg", "[],0_left.jpg", "lines 2 and 3 are both of 0_left.jpg; remove one"),
        (ODIR, "1,41,Male", "0,41,Male", "lines 2 and 4 are both of patient 0, but differ in the column 'patient age'"),
        (ODIR, "[],0_left.jpg", "[],0_left.jpg,x", "20 values in line 2, but 19 columns: put a value that has a comma"),
        (
            IDRID,
            "Retinopathy grade",
            "grade",
            "no column 'retinopathy grade'; its columns are: image name, grade",
        ),
        (IDRID, "IDRiD_007,2", "IDRiD_007,5", "line 8: the column 'retinopathy grade' has '5'; .* from 0 to 4"),
        (IDRID, "IDRiD_007,2 ,1", "IDRiD_007,2,", "line 8: the column 'risk of macular edema' has ''; .* from 0 to 2"),
        (IDRID, "IDRiD_007", "IDRiD_006", "lines 7 and 8 are both of IDRiD_006"),
        (IDRID, "IDRiD_007", "", "line 8: the column 'image name' is empty"),
        (APTOS, "id_code,diagnosis", "id,grade", "no column 'id_code'; its columns are: id, grade"),
        (APTOS, "02,2", "02,2.5", "line 4: the column 'diagnosis' has '2.5'; it has to be a whole number from 0 to 4"),
    ],
)
def test_a_wrong_table_is_refused_by_line_and_column(
    pictures: Any, make: Any, table: str, old: str, new: str, message: str
) -> None:
    name = {ODIR: "odir5k", IDRID: "idrid_grading", APTOS: "aptos2019"}[table]
    make[name](pictures)
    change(pictures.root / table, old, new, 1)

    with pytest.raises(DataListError, match=message):
        build(name, pictures.root)


@pytest.mark.filterwarnings("ignore::data_lists.DataListWarning")
@pytest.mark.parametrize("table", [ODIR, IDRID, APTOS])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_broken_table_is_refused_or_read_but_never_crashes(
    table: str, data: st.DataObject, pictures: Any, make: Any
) -> None:
    name = {ODIR: "odir5k", IDRID: "idrid_grading", APTOS: "aptos2019"}[table]
    path = pictures.root / table
    whole = pictures.root / "whole"
    if not whole.exists():
        make[name](pictures)
        whole.write_bytes(path.read_bytes())
    content = whole.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(start + 40, len(content))))
    filling = st.binary(max_size=6) | st.sampled_from([b'"', b",", b"\n", b",,", b"0", b"\x00", "\uff0c".encode()])
    path.write_bytes(content[:start] + data.draw(filling) + content[end:])

    with contextlib.suppress(DataListError):
        items = items_of(build(name, pictures.root))
        assert items
        assert all(set(item["label"]) <= {*LABELS, "DR"} for item in items.values())


@pytest.mark.parametrize(("positive_from", "without"), [(1, {0}), (2, {0, 1})])
@pytest.mark.parametrize("name", ["idrid_grading", "aptos2019"])
def test_the_grade_from_which_on_a_photo_is_positive(
    pictures: Any, make: Any, name: str, positive_from: int, without: set[int]
) -> None:
    make[name](pictures)

    content = build(name, pictures.root, positive_from=positive_from)

    items = items_of(content).values()
    assert {item["grade"] for item in items} == set(range(5))
    assert all(item["label"] == ([] if item["grade"] in without else ["DR"]) for item in items)
    assert ("of grade 2 or higher" in content["labels"]["DR"]) == (positive_from == 2)
    assert all(("edema_risk" in item) == (name == "idrid_grading") for item in items)


def test_photos_without_retinopathy_as_items_of_lesions(pictures: Any, make: Any) -> None:
    make["idrid_grading"](pictures)
    change(pictures.root / IDRID, "IDRiD_003,3 ,0", "IDRiD_003,0 ,0")
    change(pictures.root / IDRID, "IDRiD_010,0 ,1", "IDRiD_010,0 ,0")

    with pytest.warns(DataListWarning) as remarks:
        content = build("idrid_grading", pictures.root, absent_lesions=True, validation=0)

    assert set(items_of(content)) == {"IDRiD_003", "IDRiD_010"}
    assert content["numTraining"] == 2
    for item in content["training"]:
        assert item["label_format"] == "masks"
        assert item["lesions"] == item["absent"] == list(LESIONS)
        assert "label" not in item
    assert "exudate" in content["labels"].values()
    told = [remark.message for remark in remarks]
    assert "3 of grade 1, 3 of grade 2, 2 of grade 3, 3 of grade 4: 11 (" in str(told[0])
    assert len(told[0].cases) == 11  # type: ignore[union-attr]
    assert told[1].cases == (  # type: ignore[union-attr]
        "1. Original Images/a. Training Set/IDRiD_005.jpg (risk 2)",
    )


def test_photos_without_retinopathy_of_a_table_without_risks(pictures: Any, make: Any) -> None:
    make["aptos2019"](pictures)

    with pytest.warns(DataListWarning, match="2 of grade 1, 2 of grade 2, 2 of grade 3, 2 of grade 4: 8 "):
        items = items_of(build("aptos2019", pictures.root, absent_lesions=True))

    assert set(items) == {"000000000000", "000000000005"}
    (pictures.root / APTOS).write_text("id_code,diagnosis\n000000000001,1\n", encoding="utf-8")
    with pytest.raises(DataListError, match="--absent_lesions: there is no photo of grade 0"):
        build("aptos2019", pictures.root, absent_lesions=True)


def test_lists_of_other_grades_cannot_be_merged(pictures: Any, make: Any, tmp_path: Path) -> None:
    for name, positive_from in (("idrid_grading", 1), ("aptos2019", 2)):
        make[name](pictures)
        write(build(name, pictures.root, positive_from=positive_from), tmp_path / f"{name}.json")

    words = [f"{tmp_path / 'idrid_grading.json'}=.", f"{tmp_path / 'aptos2019.json'}=.", "--root", str(pictures.root)]
    assert main(["merge", *words, "--output", str(tmp_path / "all.json")]) == 1


def test_rows_without_a_photo_and_photos_without_a_row_are_told(pictures: Any, make: Any) -> None:
    make["aptos2019"](pictures)
    (pictures.root / "train_images/000000000003.png").rename(pictures.root / "train_images/new.png")

    with pytest.warns(DataListWarning) as remarks:
        items = items_of(build("aptos2019", pictures.root))

    assert len(items) == 9
    assert [remark.message.cases for remark in remarks] == [  # type: ignore[union-attr]
        ("000000000003 (line 5)",),
        ("train_images/new.png",),
    ]


def test_a_photo_with_two_grades_is_told_and_kept_in_one_split(pictures: Any, make: Any) -> None:
    make["aptos2019"](pictures)
    folder = pictures.root / "train_images"
    (folder / "000000000003.png").write_bytes((folder / "000000000006.png").read_bytes())

    for seed in range(4):
        with pytest.warns(DataListWarning, match=r"two classes: 1 .*3.png .grade 3. and .*6.png .grade 1"):
            splits = split_of(build("aptos2019", pictures.root, seed=seed, validation=0.5))
        assert splits["000000000003"] == splits["000000000006"]


def test_second_photos_of_an_eye_in_idrid(pictures: Any, make: Any) -> None:
    make["idrid_grading"](pictures)
    training, testing = (f"1. Original Images/{part} Set" for part in ("a. Training", "b. Testing"))
    for path, shift in ((f"{training}/IDRiD_002.jpg", 0), (f"{training}/IDRiD_009.jpg", 2)):
        pictures.save(path, np.roll(structure(1), shift, axis=1))
    for path, shift in ((f"{training}/IDRiD_005.jpg", 0), (f"{testing}/IDRiD_003.jpg", 2)):
        pictures.save(path, np.roll(structure(2), shift, axis=1))

    for seed in range(4):
        with pytest.warns(DataListWarning) as remarks:
            content = build("idrid_grading", pictures.root, seed=seed, validation=0.5)
        by_patient = {item["patient"]: split for split in SPLITS for item in content[split]}
        assert by_patient["IDRiD_002"] == by_patient["IDRiD_009"]
        assert "IDRiD_005" not in by_patient
        assert by_patient["test_IDRiD_003"] == "test"
        assert [remark.message.cases for remark in remarks] == [  # type: ignore[union-attr]
            (f"{training}/IDRiD_005.jpg (as {testing}/IDRiD_003.jpg)",),
            (f"{training}/IDRiD_002.jpg (grade 2) and {training}/IDRiD_009.jpg (grade 4)",),
        ]


def test_photos_that_stand_in_another_folder_are_left_out(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["aptos2019"](pictures)
    pictures.save("train_images/000000000004.png", structure(3))
    other = pictures.save("../other/deep/9.jpg", structure(3)[::3, ::3], quality=70)
    pictures.save("../other/flat.png", np.zeros((40, 40), np.uint8))
    words = ["aptos2019", "--root", str(pictures.root), "--output", str(tmp_path / "list.json")]

    assert main([*words, "--without", str(other.parents[1])]) == 0

    report = (tmp_path / "list.report.csv").read_text(encoding="utf-8")
    assert report.endswith(",train_images/000000000004.png (as deep/9.jpg)\n")
    listed = tmp_path / "other.json"
    write(build("aptos2019", pictures.root, exclude=[f"*{digit}.png" for digit in "012567"], validation=0), listed)
    assert set(items_of(build("aptos2019", pictures.root, without=[listed, other.parents[1]]))) == {
        f"00000000000{digit}" for digit in "012567"
    }
    with pytest.raises(DataListError, match="leaves nothing: all 10 photos show the same"):
        build("aptos2019", pictures.root, without=pictures.root)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataListError, match=r"--without .*empty has no photo"):
        build("aptos2019", pictures.root, without=tmp_path / "empty")
    (pictures.root / "train_images/000000000003.png").unlink()
    with pytest.raises(DataListError, match=r"--without .*other.json: .*3.png is missing; make that list for the same"):
        build("aptos2019", pictures.root, without=listed)


def test_what_is_alike() -> None:
    first, second = structure(5), structure(6)
    darker = (0.6 * cv2.GaussianBlur(first, (0, 0), 2)).astype(np.uint8)
    seen = [
        first,
        cv2.resize(first, (160, 133), interpolation=cv2.INTER_AREA),
        darker,
        np.roll(first, 4, axis=0),
        second,
        first[:, ::-1],
        np.full((9, 7), 80, np.uint8),
    ]

    small = np.stack([thumbnail(pixels) for pixels in seen])

    assert {j for i, j in alike(small, small, SAME_EYE) if i == 0} == {0, 1, 2, 3}
    assert {j for i, j in alike(small, small, SAME_PHOTO) if i == 0} == {0, 1, 2}
    assert [(i, j) for i, j in alike(small, small, SAME_PHOTO) if i == j] == [(i, i) for i in range(6)]


def test_positive_folders(pictures: Any, make: Any) -> None:
    make["class_folders"](pictures, names=("Mild", "Severe", "Healthy"))

    content = build("class_folders", pictures.root, positive=("mild", "Severe"))

    items = [item for split in SPLITS for item in content[split]]
    assert content["labels"] == {"DR": "diabetic retinopathy"}
    assert {item["class"]: tuple(item["label"]) for item in items} == {
        "Mild": ("DR",),
        "Severe": ("DR",),
        "Healthy": (),
    }
    assert len({item["patient"] for item in items}) == 18


def test_a_label_of_each_folder(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["class_folders"](pictures, names=("cataract", "glaucoma", "normal"))
    words = ["class_folders", "--root", str(pictures.root), "--output", str(tmp_path / "list.json")]

    assert main([*words, "--labels", "cataract=C", "glaucoma=lens", "normal="]) == 0

    content = build("class_folders", pictures.root, labels=("cataract=C", "glaucoma=lens", "normal="))
    assert content["labels"] == {"C": "cataract", "lens": "lens"}
    items = [item for split in SPLITS for item in content[split]]
    assert {item["class"]: item["label"] for item in items} == {"cataract": ["C"], "glaucoma": ["lens"], "normal": []}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positive": ("sick",)}, "--positive: there is no folder 'sick' with photos; the folders are DR, No_DR"),
        ({"positive": ("DR", "No_DR")}, "are all folders with photos"),
        ({"labels": ("DR",)}, "'DR' has to be FOLDER=LABEL"),
        ({"labels": ("DR=D", "dr=D")}, "'dr=D' has to be FOLDER=LABEL, or FOLDER= for no label, once a folder"),
        ({"labels": ("DR=D", "No_DR=", "x=y")}, "--labels: there is no folder 'x'"),
        ({"labels": ("DR=D",)}, "--labels has no label of the folder No_DR; add No_DR=LABEL"),
    ],
)
def test_wrong_classes_are_refused(pictures: Any, make: Any, options: dict[str, Any], message: str) -> None:
    make["class_folders"](pictures)

    with pytest.raises(DataListError, match=message):
        build("class_folders", pictures.root, **options)


def test_folders_of_splits(pictures: Any, make: Any) -> None:
    make["class_folders"](pictures, parts=("train/", "valid/", "test/"))
    photo = pictures.root / "test/DR/0.jpg"
    assert {item["image"].split("/")[0] for item in build("class_folders", pictures.root)["validation"]} == {"valid"}
    photo.write_bytes((pictures.root / "train/No_DR/1.jpg").read_bytes())

    with pytest.raises(DataListError, match="are the same picture"):
        build("class_folders", pictures.root)
    with pytest.warns(DataListWarning, match="are the same picture, both in one split: 1 "):
        content = build("class_folders", pictures.root, redivide=True, validation=0.3, test=0.3)
    assert [content[f"num{split.capitalize()}"] for split in SPLITS] != [12, 12, 12]


def test_photos_beside_the_folders_are_told(pictures: Any, make: Any) -> None:
    make["class_folders"](pictures)
    pictures.photo("stray.jpg")

    with pytest.warns(DataListWarning, match=r"lie in no folder of a class: 1 \(stray\.jpg\)"):
        content = build("class_folders", pictures.root)
    assert "stray.jpg" not in {item["image"] for split in SPLITS for item in content[split]}


def test_patients_of_class_folders(pictures: Any, make: Any, tmp_path: Path, write_rows: Any) -> None:
    make["class_folders"](pictures)
    rows = [{"image": f"{name}/{i}.jpg", "patient": str(i // 2)} for name in ("DR", "No_DR") for i in range(6)]

    content = build("class_folders", pictures.root, patients=write_rows(tmp_path / "p.csv", rows), validation=0.34)

    assert list(Counter(item["patient"] for item in content["validation"]).values()) == [4]


@pytest.mark.real_data
def test_odir5k(real_folder: Callable[[str], Path]) -> None:
    with pytest.warns(DataListWarning) as remarks:
        content = build("odir5k", real_folder("ODIR-5K"), seed=0, validation=0.2)

    texts = [str(remark.message).split(" (")[0] for remark in remarks]
    assert texts == [
        "ages that are not from 5 to 110 years, taken as not known: 9",
        "pairs of photos of two patients that show the same, kept in one split: 4",
    ]
    items = items_of(content).values()
    assert (len(items), len({item["patient"] for item in items}), content["numTest"]) == (5120, 2687, 0)
    assert {item["patient"] for item in content["training"]}.isdisjoint(i["patient"] for i in content["validation"])
    every, chosen = (Counter(n for item in part for n in item["label"]) for part in (items, content["validation"]))
    assert every == {"N": 2314, "D": 1357, "O": 673, "G": 250, "C": 244, "A": 230, "M": 212, "H": 151}
    assert all(0.18 < chosen[name] / every[name] < 0.22 for name in every)
    splits = split_of(content)
    assert splits["352_left"] == splits["973_left"]
    assert splits["2487_left"] == splits["3185_left"]


@pytest.mark.real_data
def test_idrid_grading(real_folder: Callable[[str], Path]) -> None:
    root = real_folder("IDRiD")
    with pytest.warns(DataListWarning) as remarks:
        content = build("idrid_grading", root, without=root / "A. Segmentation" / "1. Original Images")

    texts = [str(remark.message).split(" (")[0] for remark in remarks]
    assert texts[0].endswith(": 44")
    assert texts[1:3] == [
        "pairs of photos of two patients that show the same, kept in one split: 6",
        "pairs of the same picture that have two classes: 2",
    ]
    splits = split_of(content)
    assert len(splits) == 413 - 44
    assert splits["IDRiD_013"] == splits["IDRiD_397"]
    grades = Counter(item["grade"] for item in content["training"] + content["validation"])
    assert sum(grades.values()) == 369


@pytest.mark.real_data
def test_part_a_of_idrid_without_part_b(real_folder: Callable[[str], Path]) -> None:
    root = real_folder("IDRiD")
    with pytest.warns(DataListWarning, match="show the same as one in .*: 44 "):
        content = build("idrid_disc", root, without=root / "B. Disease Grading" / "1. Original Images")

    assert content["numTraining"] + content["numValidation"] == 10
