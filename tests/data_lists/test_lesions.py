"""Lists of lesions: IDRiD's masks, and what was drawn in VGG Image Annotator."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from common.lesions import LESIONS
from common.transforms import LoadLesionsd, LoadPhotod
from common.via import COLUMNS
from data_lists import SPLITS, DataListError, DataListWarning, build


def items_of(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(item["image"]).name: item for split in SPLITS for item in content[split]}


def test_a_lesion_without_a_mask_is_absent(pictures: Any, make: Any) -> None:
    make["idrid_lesions"](pictures)

    items = items_of(build("idrid_lesions", pictures.root))

    assert items["IDRiD_02.jpg"]["absent"] == []
    assert items["IDRiD_03.jpg"]["absent"] == ["exudate", "haemorrhage", "microaneurysm", "soft_exudate"]
    assert items["IDRiD_05.jpg"]["absent"] == ["soft_exudate"]
    assert items["IDRiD_05.jpg"]["exudate"].endswith("3. Hard Exudates/IDRiD_05_EX.tif")
    assert items["IDRiD_05.jpg"]["class"] == "EX+HE+MA"


def test_a_folder_of_a_lesion_that_is_missing_is_not_an_absent_lesion(pictures: Any, make: Any) -> None:
    make["idrid_lesions"](pictures)
    folder = pictures.root / "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/2. Haemorrhages"
    folder.rename(folder.with_name("elsewhere"))

    with pytest.raises(DataListError, match=r"has no folder '2\. Haemorrhages'"):
        build("idrid_lesions", pictures.root)


def test_a_mask_without_a_photo_is_noted(pictures: Any, make: Any) -> None:
    make["idrid_lesions"](pictures)
    (pictures.root / "A. Segmentation/1. Original Images/a. Training Set/IDRiD_02.jpg").unlink()

    with pytest.warns(DataListWarning, match=r"IDRiD_02_EX\.tif is left out: it is a mask without an image"):
        build("idrid_lesions", pictures.root)


@pytest.mark.parametrize("kind", ["csv", "json", "project", "via 1"])
def test_every_export_of_via_gives_the_same_list(pictures: Any, make: Any, kind: str) -> None:
    make["via"](pictures, kind=kind)

    items = items_of(build("via", pictures.root))

    exudate = {"name": "rect", "x": 5, "y": 6, "width": 7, "height": 8, "lesion": "exudate"}
    haemorrhage = {"name": "circle", "cx": 20, "cy": 21, "r": 4, "lesion": "haemorrhage"}
    assert items["0.jpg"]["regions"] == [exudate, haemorrhage]
    assert items["1.jpg"]["regions"] == []
    assert items["3.jpg"]["regions"] == [haemorrhage]
    assert all(item["lesions"] == ["exudate", "haemorrhage"] for item in items.values())
    assert [items[f"{number}.jpg"]["class"] for number in range(4)] == [
        "exudate+haemorrhage", "none", "exudate", "haemorrhage"
    ]  # fmt: skip


def test_a_photo_with_region_count_0_was_looked_at_and_has_no_lesion(pictures: Any, make: Any) -> None:
    make["via"](pictures)
    text = (pictures.root / "via_region_data.csv").read_text(encoding="utf-8")
    assert "1.jpg,1,{},0,0,{},{}" in text

    item = items_of(build("via", pictures.root))["1.jpg"]
    item["image"] = str(pictures.root / item["image"])
    label = LoadLesionsd("label", LESIONS)(LoadPhotod("image")(item))["label"]

    assert label.amin((1, 2)).tolist() == label.amax((1, 2)).tolist() == [1, 0, 0, -1, -1]


def test_photos_of_one_eye_stay_together(pictures: Any, make: Any) -> None:
    make["via"](pictures)
    first = pictures.photo("photos/2.jpg", (480, 400))
    with Image.open(first) as photo:
        photo.resize((240, 200)).save(pictures.root / "photos/5.jpg")

    for seed in range(4):
        with pytest.warns(DataListWarning, match="show the same, kept in one split: 1 "):
            content = build("via", pictures.root, seed=seed, validation=0.5)
        assert any({"2", "5"} <= {item["patient"] for item in content[split]} for split in SPLITS)


def write(root: Path, *rows: tuple[str, str, str]) -> None:
    """Write rows of image, shape and attributes as VIA 1 does."""
    with (root / "via_region_data.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["#filename", *COLUMNS[1:]])
        table.writerows((name, 1, "{}", 1, 0, shape, attributes) for name, shape, attributes in rows)


RECT = '{"name":"rect","x":5,"y":6,"width":7,"height":8}'
EXUDATE = '{"Abnormality":"exudate"}'


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("0.jpg", "{", EXUDATE), "line 3: region_shape_attributes is no JSON"),
        (("0.jpg", "[1]", EXUDATE), "line 3: region_shape_attributes is .1., no object"),
        (("0.jpg", "{}", EXUDATE), "line 3: it has no shape, although region_count is '1'"),
        (("0.jpg", '{"name":"star"}', EXUDATE), "line 3: the shape is 'star'; known are rect"),
        (("0.jpg", '{"name":"rect","x":5}', EXUDATE), "line 3: the rect has no 'y'"),
        (("0.jpg", RECT.replace("7", '"7"'), EXUDATE), "line 3: 'width' of the rect is '7'; a number"),
        (("0.jpg", RECT.replace("7", "-7"), EXUDATE), "line 3: 'width' of the rect is -7; it cannot be negative"),
        (("0.jpg", RECT.replace("7", "NaN"), EXUDATE), "line 3: 'width' of the rect is nan; a number"),
        (("", RECT, EXUDATE), "line 3: it names no image"),
        (("0.jpg", RECT, "{}"), r"line 3: the region has no 'Abnormality' \(its attributes: none\)"),
        (("0.jpg", RECT, '{"Abnormality":"drusen"}'), "line 3: Abnormality is 'drusen', which means no known lesion"),
        (("9.jpg", RECT, EXUDATE), "names '9.jpg', but there is no such file"),
    ],
)
def test_a_wrong_row_is_named(pictures: Any, row: tuple[str, str, str], message: str) -> None:
    pictures.photo("photos/0.jpg")
    write(pictures.root, ("0.jpg", RECT, EXUDATE), row)

    with pytest.raises(DataListError, match=message):
        build("via", pictures.root)


def test_the_number_of_a_line_counts_lines_in_cells(pictures: Any) -> None:
    pictures.photo("photos/0.jpg")
    write(pictures.root, ("0.jpg", RECT.replace(",", ",\n"), EXUDATE), ("0.jpg", "{", EXUDATE))

    with pytest.raises(DataListError, match="line 7: region_shape_attributes is no JSON"):
        build("via", pictures.root)


def test_regions_outside_are_clipped_and_counted(pictures: Any) -> None:
    for number in range(3):
        pictures.photo(f"photos/{number}.jpg", (48, 40))
    write(
        pictures.root,
        ("0.jpg", '{"name":"rect","x":40,"y":6,"width":9,"height":8}', EXUDATE),
        ("1.jpg", '{"name":"rect","x":40,"y":6,"width":8,"height":8}', EXUDATE),
        ("2.jpg", '{"name":"rect","x":48,"y":6,"width":8,"height":8}', EXUDATE),
    )

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataListWarning)
        items = items_of(build("via", pictures.root))

    remarks = [(warning.message.args[0], warning.message.cases) for warning in caught]  # type: ignore[union-attr]
    assert [cases for _, cases in remarks] == [("photos/0.jpg, line 2",), ("photos/2.jpg, line 4",)]
    assert "1 region(s)" in remarks[0][0]
    assert "clipped at the edge" in remarks[0][0]
    assert "lies outside the photo" in remarks[1][0]
    assert [len(items[f"{number}.jpg"]["regions"]) for number in range(3)] == [1, 1, 0]


def test_values_and_attribute_are_options(pictures: Any) -> None:
    for number in range(3):
        pictures.photo(f"photos/{number}.jpg")
    write(
        pictures.root,
        ("0.jpg", RECT, '{"kind":"EX"}'),
        ("1.jpg", RECT, '{"kind":"drusen"}'),
        ("2.jpg", RECT, '{"kind":"Cotton-wool spots"}'),
    )

    items = items_of(build("via", pictures.root, attribute="kind", values="EX=exudate, drusen="))

    assert [[region["lesion"] for region in items[f"{number}.jpg"]["regions"]] for number in range(3)] == [
        ["exudate"], [], ["soft_exudate"]
    ]  # fmt: skip
    with pytest.raises(DataListError, match="--values: 'EX' has to be VALUE=LESION"):
        build("via", pictures.root, attribute="kind", values="EX")


def test_photos_of_one_name(pictures: Any) -> None:
    for name in ("a/0.jpg", "b/0.jpg", "a/1.jpg"):
        pictures.photo(name)
    write(pictures.root, ("0.jpg", RECT, EXUDATE), ("1.jpg", RECT, EXUDATE))

    with pytest.raises(DataListError, match=r"a/0\.jpg and b/0\.jpg in .* are both called '0\.jpg'"):
        build("via", pictures.root)
    assert set(items_of(build("via", pictures.root, exclude=["b/0.jpg"]))) == {"0.jpg", "1.jpg"}


def test_two_names_of_one_photo(pictures: Any) -> None:
    pictures.photo("0.jpg")
    write(pictures.root, ("0.jpg", RECT, EXUDATE), ("old/0.jpg", RECT, EXUDATE))

    with pytest.raises(DataListError, match=r"names 0\.jpg twice, last as 'old/0\.jpg'"):
        build("via", pictures.root)


def test_several_tables(pictures: Any) -> None:
    pictures.photo("photos/0.jpg")
    pictures.photo("photos/1.jpg")
    write(pictures.root, ("0.jpg", RECT, EXUDATE), ("1.jpg", RECT, EXUDATE))
    (pictures.root / "other.csv").write_text("a,b\n")

    with pytest.raises(DataListError, match="has 2 CSV and JSON files; give --annotations"):
        build("via", pictures.root)
    assert len(items_of(build("via", pictures.root, annotations="via_region_data.csv"))) == 2
