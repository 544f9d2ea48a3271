from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import tifffile
from numpy.typing import NDArray

from common.errors import SettingError
from common.examine.inputs import list_inputs
from common.phantoms import fundus_phantom, oct_phantom
from common.results import ResultFolder

Draw = Callable[..., Path]


@pytest.fixture
def photos(tmp_path: Path, draw_photo: Draw) -> Path:
    for name in ("a.png", "b.jpg", "sub/c.tif"):
        draw_photo(tmp_path / "in" / name, 1, (64, 64))
    return tmp_path / "in"


def listed(inputs: Any, tmp_path: Path) -> list[dict[str, Any]]:
    return list_inputs(inputs, ResultFolder(tmp_path / "out"))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_folder_a_photo_and_several(photos: Path, tmp_path: Path) -> None:
    assert [item["name"] for item in listed(photos, tmp_path)] == ["a.png", "b.jpg", "sub/c.tif"]
    assert [item["name"] for item in listed(str(photos / "a.png"), tmp_path)] == ["a.png"]
    several = listed([photos / "sub" / "c.tif", str(photos / "a.png")], tmp_path)
    assert [item["name"] for item in several] == ["sub/c.tif", "a.png"]
    assert [item["output_name"] for item in several] == ["sub/c", "a"]
    assert [item["volume"] for item in several] == ["sub", "."]


def test_a_name_says_the_patient_and_the_eye_where_no_table_does(tmp_path: Path, draw_photo: Draw) -> None:
    draw_photo(tmp_path / "in" / "12_left.png", 1, (64, 64))
    table = write(tmp_path / "table.csv", "path,patient,eye", "in/12_left.png,7,")
    known = [listed(inputs, tmp_path)[0] for inputs in (tmp_path / "in", table)]
    assert [(item["patient"], item["eye"]) for item in known] == [("12", "OS"), ("7", "OS")]


def test_a_volume_is_its_b_scans(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    scipy.io.savemat(tmp_path / "in" / "v.mat", {"images": np.zeros((64, 96, 3), np.uint8)})
    table = write(tmp_path / "in" / "t.csv", "path,patient", "v.mat,7")
    for inputs in (tmp_path / "in" / "v.mat", table):
        items = listed(inputs, tmp_path)
        assert [item["name"] for item in items] == ["v.mat#1", "v.mat#2", "v.mat#3"]
        assert {item["volume"] for item in items} == {"v.mat"}
    assert {item["patient"] for item in items} == {"7"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_page_of_a_tiff_of_b_scans(tmp_path: Path, dtype: type) -> None:
    scale = np.iinfo(dtype).max // 255
    scans: list[NDArray[np.integer]] = [
        oct_phantom(200, 256, seed=seed, border="none").scan.astype(dtype) * scale for seed in (1, 2)
    ]
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "v.tif", np.stack(scans), photometric="minisblack")

    items = listed(tmp_path / "in", tmp_path)

    assert [item["name"] for item in items] == ["v.tif#1", "v.tif#2"]
    assert [(item["volume"], item["output_name"]) for item in items] == [("v.tif", "v_1"), ("v.tif", "v_2")]
    assert all("note" not in item for item in items)


def test_a_tiff_of_b_scans_behind_a_thumbnail(tmp_path: Path) -> None:
    scans = [oct_phantom(200, 256, seed=seed, border="none").scan for seed in (1, 2)]
    (tmp_path / "in").mkdir()
    with tifffile.TiffWriter(tmp_path / "in" / "v.tif") as file:
        for kind, picture in ((1, scans[0][::8, ::8]), (0, scans[0]), (0, scans[1])):
            file.write(picture, photometric="minisblack", subfiletype=kind, contiguous=False)

    assert [item["name"] for item in listed(tmp_path / "in", tmp_path)] == ["v.tif#2", "v.tif#3"]


def test_a_tiff_of_photos_is_its_first_page(tmp_path: Path) -> None:
    photo = fundus_phantom(200, 256, seed=1, field_of_view="round").photo
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "p.tif", np.stack([photo, photo]), photometric="rgb")

    (item,) = listed(tmp_path / "in", tmp_path)

    assert (item["name"], item["note"]) == ("p.tif", "only the first of 2 pages is used")


def test_a_table_says_what_pages_are(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "v.tif", np.zeros((3, 64, 96), np.uint8), photometric="minisblack")
    names = {}
    for modality in ("fundus", "oct", ""):
        table = write(tmp_path / f"{modality or 'none'}.csv", "path,modality", f"v.tif,{modality}")
        items = list_inputs(table, ResultFolder(tmp_path / f"out_{modality}"))
        names[modality] = [item["name"] for item in items]

    assert names == {"fundus": ["v.tif"], "oct": ["v.tif#1", "v.tif#2", "v.tif#3"], "": ["v.tif"]}


def test_a_tiff_that_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pictures = {
        "oct.tif": oct_phantom(200, 256, seed=1, border="none").scan,
        "photo.tif": fundus_phantom(200, 256, seed=1, field_of_view="round").photo,
    }
    for name, picture in pictures.items():
        path = tmp_path / "in" / name
        with tifffile.TiffWriter(path) as file:
            for _ in range(2):
                file.write(picture, photometric="rgb" if picture.ndim == 3 else "minisblack", contiguous=False)
        with tifffile.TiffFile(path) as tiff:
            second = tiff.pages[1].offset
        path.write_bytes(path.read_bytes()[:second])
    (tmp_path / "in" / "text.tif").write_text("no picture")
    results = ResultFolder(tmp_path / "out")

    items = list_inputs(tmp_path / "in", results)

    assert [item["name"] for item in items] == ["photo.tif", "text.tif"]
    assert "breaks off after page 1" in items[0]["note"]
    results.start()
    assert results.failures.read_text().splitlines()[1:] == ["oct.tif,read,breaks off after page 1: get it again"]


def test_a_table(photos: Path, tmp_path: Path) -> None:
    table = write(
        photos / "table.csv",
        "Path, patient,eye,age,sex,pixel_size,modality",
        "sub/c.tif,007,left,61.5,F,7.5,fundus",
        "./a.png,,,,,,",
        f"{photos / 'b.jpg'},8,unknown,0,male,,OCT",
        "missing.png,9,OD,,,,",
    )
    results = ResultFolder(tmp_path / "out")
    items = list_inputs(table, results)
    assert [item["name"] for item in items] == ["sub/c.tif", "a.png", "b.jpg"]
    known = [
        {key: item.get(key) for key in ("patient", "eye", "age", "sex", "pixel_size", "modality")} for item in items
    ]
    assert list(known[0].values()) == ["007", "OS", 61.5, "female", 7.5, "fundus"]
    assert list(known[1].values()) == [None] * 6
    assert list(known[2].values()) == ["8", None, 0, "male", None, "oct"]
    results.start()
    assert results.failed == 1
    assert "missing.png,list,does not exist" in results.failures.read_text()


def test_a_table_beside_which_other_folders_lie(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "study").mkdir()
    write(tmp_path / "study" / "table.csv", "path", "../in/a.png", "../in/sub/c.tif", "../gone.png")
    monkeypatch.chdir(tmp_path / "study")
    results = ResultFolder(tmp_path / "out")
    items = list_inputs("table.csv", results)
    assert [(item["name"], item["output_name"]) for item in items] == [
        ("in/a.png", "in/a"),
        ("in/sub/c.tif", "in/sub/c"),
    ]
    assert [Path(item["image"]).is_file() for item in items] == [True, True]
    results.start()
    assert results.failures.read_text().splitlines()[1:] == ["gone.png,list,does not exist"]


@pytest.mark.parametrize("way", ["in/sub/../a.png", "../{}/in/a.png", "./in//a.png"])
def test_a_file_given_by_two_ways_is_given_twice(
    way: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=r"a\.png is given twice"):
        listed([photos / "a.png", way.format(tmp_path.name)], tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image", "a.png"], "has no column 'path'"),
        (["path"], "has no column 'path', or no rows"),
        (["path,patients", "a.png,1"], "unknown column 'patients': did you mean 'patient'"),
        (["path,iop", "a.png,1"], "unknown column 'iop': leave it out; known are eye, patient, pixel_size, .*age, sex"),
        (["path,eye", "a.png,middle"], r"has 'middle' in the column 'eye' of a\.png: give OD, OS"),
        (["path,age", "a.png,old"], r"has 'old' in the column 'age' of a\.png: give years"),
        (["path,age", "a.png,-1"], "'-1' in the column 'age'"),
        (["path,age", "a.png,nan"], "'nan' in the column 'age'"),
        (["path,sex", "a.png,x"], "'x' in the column 'sex'"),
        (["path,pixel_size", "a.png,0"], "'0' in the column 'pixel_size'"),
        (
            ["path,axial_scale", "a.png,-4"],
            r"'-4' in the column 'axial_scale' of a\.png: give the micrometres of one row",
        ),
        (["path,fovea_x,fovea_y", "a.png,20,"], r"gives fovea_x of a\.png without fovea_y: give both, or leave both"),
        (["path,modality", "a.png,mri"], "'mri' in the column 'modality'"),
        (["path,eye", ",OD"], "a row without a 'path'"),
        (["path", "a.png", "./a.png"], r"two rows with the path '\./a\.png'"),
        (["path", "none.png"], r"None of the inputs exists, the first of which is .*none\.png"),
        (["path", "sub"], "is a folder"),
    ],
)
def test_wrong_tables(lines: list[str], message: str, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=message):
        listed(write(photos / "table.csv", *lines), tmp_path)


def test_wrong_inputs(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="There is no input"):
        listed([], tmp_path)
    with pytest.raises(SettingError, match="is given twice"):
        listed([photos / "a.png", photos / "a.png"], tmp_path)
    with pytest.raises(SettingError, match="does not exist"):
        listed(tmp_path / "nothing", tmp_path)


def test_other_files_are_failures(photos: Path, tmp_path: Path) -> None:
    (photos / "readme.txt").write_text("")
    results = ResultFolder(tmp_path / "out")
    assert len(list_inputs([photos / "readme.txt", photos / "a.png"], results)) == 1
    results.start()
    assert "readme.txt,list,its suffix is not that of a photo or B-scan" in results.failures.read_text()


def test_a_name_that_is_not_in_utf8(photos: Path, tmp_path: Path) -> None:
    misnamed = photos / os.fsdecode(b"b\xe9.jpg")
    (photos / "b.jpg").rename(misnamed)
    given: list[Any] = [photos, [photos / "a.png", misnamed]]
    for number, inputs in enumerate(given):
        results = ResultFolder(tmp_path / f"out{number}")
        assert misnamed.name not in [item["name"] for item in list_inputs(inputs, results)]
        results.start()
        assert 'b\\udce9.jpg,list,"has a name that is not in UTF-8 ' in results.failures.read_text(encoding="utf-8")
