from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import SettingError
from common.tables import join_table, read_photo_table, read_rows, read_table, with_biomarkers

NAMES = ["a/left.png", "b/left.png", "right.png"]


def write(folder: Path, text: str) -> Path:
    path = folder / "eyes of the study.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_a_table_says_of_each_photo(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "\ufeffImage, Eye ,patient,pixel_size,\n"
        "right.png,OD,P 7,5.5,\n"
        "b/left.png,Left,Müller,7,\n"
        "a/left.png,unknown,3,8e0,\n"
        ",,,,\n"
        "of another folder.png,OS,4,8,\n",
    )

    assert read_photo_table(path, NAMES) == {
        "right.png": {"eye": "OD", "patient": "P 7", "pixel_size": 5.5},
        "b/left.png": {"eye": "OS", "patient": "Müller", "pixel_size": 7.0},
        "a/left.png": {"patient": "3", "pixel_size": 8.0},
    }


@pytest.mark.parametrize(
    ("cell", "eye"),
    [("OS", "OS"), ("od", "OD"), ("Right", "OD"), ("left", "OS"), ("L", "OS"), ("", None), ("Unknown", None)],
)
def test_the_eye_in_every_spelling(tmp_path: Path, cell: str, eye: str | None) -> None:
    (found,) = read_photo_table(write(tmp_path, f"image,eye\nx.png,{cell}\n"), ["x.png"]).values()

    assert found.get("eye") == eye


def test_a_file_name_stands_for_the_one_photo_that_has_it(tmp_path: Path) -> None:
    path = write(tmp_path, "image,eye\nx.png,OD\n./clinic/y.png,OS\n")

    assert read_photo_table(path, ["clinic/x.png", "clinic/y.png"]) == {
        "clinic/x.png": {"eye": "OD"},
        "clinic/y.png": {"eye": "OS"},
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("photo,eye\nx.png,OD\n", "has no column 'image'"),
        ("image;eye\nx.png;OD\n", "has no column 'image', or no rows: .* by commas"),
        ("image,eye\n", "has no column 'image', or no rows"),
        ("image,eyes\nx.png,OD\n", "has the unknown column 'eyes': did you mean 'eye'?"),
        (
            "image,diagnosis\nx.png,healthy\n",
            "has the unknown column 'diagnosis': leave it out; known are eye",
        ),
        ("image,eye,Eye\nx.png,OD,OS\n", "has two columns 'eye'"),
        ("image,eye\nx.png,both\n", "has 'both' in the column 'eye' of x.png: give OD, OS, right, left or unknown"),
        ("image,eye,patient\nx.png,OD,\n", "has '' in the column 'patient' of x.png: give the patient's name"),
        ("image,pixel_size\nx.png,5 um\n", "has '5 um' in the column 'pixel_size' of x.png: give the micrometres"),
        ("image,pixel_size\nx.png,0\n", "has '0' in the column 'pixel_size'"),
        ("image,pixel_size\nx.png,nan\n", "has 'nan' in the column 'pixel_size'"),
        ("image,pixel_size\nx.png,\n", "has '' in the column 'pixel_size'"),
        ("image,fovea_x\nx.png,20\n", "gives fovea_x of x.png without fovea_y: give both"),
        ("image,eye\ny.png,OD\n", "has no row of the photo x.png"),
        ("image,eye\nx.png,OD\nx.png,OS\n", "has two rows with the image 'x.png'"),
    ],
)
def test_a_wrong_table_is_refused_with_its_name(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path, text)

    with pytest.raises(SettingError, match=sentence) as raised:
        read_photo_table(path, ["x.png"])
    assert str(path) in str(raised.value)


def test_a_file_name_that_two_photos_have_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "image,eye\nleft.png,OS\nright.png,OD\n")

    with pytest.raises(SettingError, match=r"one row 'left\.png' for the photos a/left\.png and b/left\.png"):
        read_photo_table(path, NAMES)


def test_a_row_of_one_photo_does_not_serve_for_another_of_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, "image,eye\nx.png,OS\n")

    with pytest.raises(SettingError, match=r"has no row of the photo a/x\.png"):
        read_photo_table(path, ["a/x.png", "x.png"])


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    path.write_bytes(b"PK\x03\x04\xff\xfe")

    with pytest.raises(SettingError, match=r"The table .*table\.xlsx cannot be read"):
        read_table(path, "The table")
    with pytest.raises(SettingError, match=r"The table .*gone\.csv cannot be read"):
        read_photo_table(tmp_path / "gone.csv", NAMES)


ITEMS = [
    {"image": "/data/a/1_left.jpg", "name": "a/1_left.jpg"},
    {"image": "/data/a/1_right.jpg", "name": "a/1_right.jpg"},
]
CDR = "image,cdr_vertical,note\n{},0.5,\n2_left.jpg,0.6,\n"


@pytest.mark.parametrize("name", ["a/1_left.jpg", "1_left.jpg", "./1_left.jpg", "study/a/1_left.jpg"])
def test_results_are_joined_by_path_or_file_name(tmp_path: Path, name: str) -> None:
    joined = join_table(ITEMS, write(tmp_path, CDR.format(name)), ["cdr_vertical"])

    assert [item["cdr_vertical"] for item in joined] == [0.5, None]
    assert joined[1]["image"] == "/data/a/1_right.jpg"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (CDR.format("3_left.jpg"), "has no row of any of the 2 photos"),
        (CDR.format("elsewhere/1_left.jpg"), "has no row of any of the 2 photos"),
        (
            "image,cdr_vertical\n1_left.jpg,0.5\n./1_left.jpg,0.6\n",
            "has 2 rows that may be those of a/1_left.jpg",
        ),
        (
            "image,cdr_vertical\na/1_left.jpg,0.5\na/1_left.jpg,0.6\n",
            "has 2 rows that may be those of a/1_left.jpg",
        ),
        (
            "image,cdr_vertical\n1_left.jpg,large\n",
            "has 'large' in the column 'cdr_vertical' of 1_left.jpg: give a number",
        ),
        ("image,cdr\n1_left.jpg,0.5\n", "has no column 'cdr_vertical'"),
        ("image,cdr_vertical\n", "has no column 'image', or no rows"),
    ],
)
def test_a_table_of_results_that_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        join_table(ITEMS, write(tmp_path, text), ["cdr_vertical"])


def test_a_row_that_no_photo_needs_is_of_no_matter(tmp_path: Path) -> None:
    rows = "image,cdr_vertical\n1_left.jpg,0.9\na/1_left.jpg,0.5\nb/1_left.jpg,0.6\n"
    items = [{"name": "a/1_left.jpg"}, {"name": "b/1_left.jpg"}]

    assert [item["cdr_vertical"] for item in join_table(items, write(tmp_path, rows), ["cdr_vertical"])] == [0.5, 0.6]


VISITS = [{"name": "visit1/left.jpg"}, {"name": "visit2/left.jpg"}]


@pytest.mark.parametrize("other", ["", "left.jpg,0.1\n"])
def test_a_row_with_a_path_is_that_of_no_other_photo_of_this_name(tmp_path: Path, other: str) -> None:
    table = write(tmp_path, f"image,cdr_vertical\nvisit2/left.jpg,0.9\n{other}")
    items = VISITS if not other else [*VISITS, {"name": "left.jpg"}]

    joined = join_table(items, table, ["cdr_vertical"])

    assert [item["cdr_vertical"] for item in joined] == [None, 0.9, 0.1][: len(items)]


@pytest.mark.parametrize("other", ["", "visit1/left.jpg,0.1\n"])
def test_a_file_name_in_results_that_two_photos_have_is_refused(tmp_path: Path, other: str) -> None:
    table = write(tmp_path, f"image,cdr_vertical\nleft.jpg,0.9\n{other}")

    words = r"one row 'left\.jpg' for the photos visit2/left\.jpg and visit1/left\.jpg"
    with pytest.raises(SettingError, match=words):
        join_table(VISITS[::-1], table, ["cdr_vertical"])
    with pytest.raises(SettingError, match=words):
        join_table(VISITS[1:], table, ["cdr_vertical"], done=["visit1/left.jpg"])


def test_a_column_is_found_in_any_case(tmp_path: Path) -> None:
    table = write(tmp_path, "image,CDR_vertical\n1_left.jpg,0.5\n")

    assert join_table(ITEMS, table, ["CDR_vertical"])[0]["CDR_vertical"] == 0.5


def test_a_training_with_biomarkers_needs_their_table() -> None:
    assert with_biomarkers(ITEMS, None, []) == ITEMS
    with pytest.raises(SettingError, match="biomarkers_path is not set"):
        with_biomarkers(ITEMS, None, ["cdr_vertical"])


def test_rows_with_their_line_numbers(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('\ufeffName , Grade,,\r\na, 1 ,,\r\n\r\n,,,\r\n"b\nb","2,5",,,\r\nc\r\n', encoding="utf-8")

    rows = read_rows(table, "the table", ["name", "grade"])

    assert [(line, row["name"], row["grade"]) for line, row in rows] == [
        (2, "a", "1"),
        (6, "b\nb", "2,5"),
        (7, "c", ""),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name\na\n", "no column 'grade'; its columns are: name"),
        ("name,grade\n", "no rows below its header"),
        ("name,grade\n\na,1,2\n", "3 values in line 3, but 2 columns"),
        ("name,grade,Name\na,1,2\n", "two columns 'name'"),
        ("", "is empty"),
    ],
)
def test_a_table_without_what_it_has_to_have_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    table = tmp_path / "t.csv"
    table.write_text(text, encoding="utf-8")

    with pytest.raises(SettingError, match=rf"^the table .*t\.csv .*{sentence}"):
        read_rows(table, "the table", ["name", "grade"])


FURTHER = {"age": None, "Sex": ["female", "male"]}


def test_further_columns_are_numbers_or_categories(tmp_path: Path) -> None:
    path = write(tmp_path, "image,AGE,sex\na/left.png,61.5,Female\nb/left.png,,unknown\nright.png,7,\n")

    assert read_photo_table(path, NAMES, FURTHER) == {
        "a/left.png": {"age": 61.5, "Sex": "female"},
        "b/left.png": {},
        "right.png": {"age": 7.0},
    }


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("age", "old", "has 'old' in the column 'age' of x.png: give a number, or nothing."),
        ("age", "nan", "give a number, or nothing"),
        ("sex", "other", "give female, male or nothing"),
        ("ages", "3", "has the unknown column 'ages': did you mean 'age'?"),
    ],
)
def test_further_columns_that_cannot_be_used(tmp_path: Path, column: str, cell: str, words: str) -> None:
    path = write(tmp_path, f"image,{column}\nx.png,{cell}\n")

    with pytest.raises(SettingError) as raised:
        read_photo_table(path, ["x.png"], FURTHER)

    assert words in str(raised.value)


def test_a_table_of_other_photos_is_allowed_where_some_are_done_already(tmp_path: Path) -> None:
    path = write(tmp_path, "image,cdr_vertical\nother.png,0.5\n")
    items = [{"name": "x.png"}]

    assert join_table(items, path, ["cdr_vertical"], done=["other.png"]) == [{"name": "x.png", "cdr_vertical": None}]
    with pytest.raises(SettingError, match="has no row of any of the 1 photos"):
        join_table(items, path, ["cdr_vertical"])
