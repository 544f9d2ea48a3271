"""What is special about the disc and cup datasets: label formats, options, official splits and wrong inputs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_lists import SPLITS, DataListError, DataListWarning, build, load, merge, write
from data_lists.__main__ import main


def items_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for split in SPLITS for item in content[split]]


def by_stem(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(item["image"]).stem: item for item in items_of(content)}


def messages(recorded: pytest.WarningsRecorder) -> list[str]:
    return [str(warning.message) for warning in recorded if issubclass(warning.category, DataListWarning)]


@pytest.mark.parametrize(("experts", "lowest", "below"), [(1, 63, 0), (2, 127, 64), (3, 191, 128), (4, 255, 192)])
def test_experts_of_drishti_are_a_grey_value(pictures: Any, make: Any, experts: int, lowest: int, below: int) -> None:
    make["drishti_gs1"](pictures)

    for item in items_of(build("drishti_gs1", pictures.root, experts=experts)):
        assert item["label_format"] == "softmaps"
        assert below < item["min_value"] <= lowest


def test_experts_of_drishti_are_three_by_default(pictures: Any, make: Any) -> None:
    make["drishti_gs1"](pictures)

    assert {item["min_value"] for item in items_of(build("drishti_gs1", pictures.root))} == {190}
    with pytest.raises(DataListError, match=r"--experts is 5; it has to be one of 1, 2, 3, 4"):
        build("drishti_gs1", pictures.root, experts=5)


def test_drishti_pairs_each_photo_with_its_own_soft_maps(pictures: Any, make: Any) -> None:
    make["drishti_gs1"](pictures, folders=True)

    content = build("drishti_gs1", pictures.root)

    for stem, item in by_stem(content).items():
        assert item["disc"].endswith(f"GT/{stem}/SoftMap/{stem}_ODsegSoftmap.png")
        assert item["cup"].endswith(f"GT/{stem}/SoftMap/{stem}_cupsegSoftmap.png")
        assert item["patient"] == stem[-3:]
        assert item["class"] == ("no glaucoma" if int(stem[-3:]) % 2 else "glaucoma")
    assert {item["patient"] for item in content["test"]} == {"001", "011"}
    assert all("/Test/Images/" in item["image"] for item in content["test"])


def test_drishti_without_test_soft_maps_leaves_the_test_photos_out(pictures: Any, make: Any) -> None:
    make["drishti_gs1"](pictures)
    shutil.rmtree(pictures.root / "Drishti-GS1_files/Test/Test_GT")

    with pytest.warns(DataListWarning, match=r"the 2 test photos are left out: .* has no soft maps of them"):
        content = build("drishti_gs1", pictures.root)

    assert content["numTest"] == 0
    assert content["numTraining"] + content["numValidation"] == 8


@pytest.mark.parametrize("number", ["004", "001"])
def test_drishti_without_one_soft_map_is_refused(pictures: Any, make: Any, number: str) -> None:
    make["drishti_gs1"](pictures)
    next(pictures.root.rglob(f"drishtiGS_{number}_cupsegSoftmap.png")).unlink()

    with pytest.raises(
        DataListError, match=rf"Images/drishtiGS_{number}\.png in .* has no cup soft map: a file \.\.\./drishtiGS_"
    ):
        build("drishti_gs1", pictures.root)


def test_drishti_that_was_unpacked_twice_is_refused(pictures: Any, make: Any) -> None:
    make["drishti_gs1"](pictures)
    shutil.copytree(pictures.root / "Drishti-GS1_files/Training", pictures.root / "copy/Training")

    with pytest.raises(DataListError, match="stand for the same thing; keep one of them"):
        build("drishti_gs1", pictures.root)
    assert build("drishti_gs1", pictures.root, exclude=["copy/*"])["numTest"] == 2


def test_a_link_to_a_folder_above_ends_the_search(pictures: Any, make: Any) -> None:
    make["drishti_gs1"](pictures)
    (pictures.root / "Drishti-GS1_files/Training/again").symlink_to(pictures.root, target_is_directory=True)

    assert build("drishti_gs1", pictures.root)["numTest"] == 2


def test_a_colour_soft_map_is_refused(pictures: Any, make: Any) -> None:
    make["drishti_gs1"](pictures, released=False)
    pictures.photo("softmaps/drishtiGS_004_ODsegSoftmap.png")

    with pytest.raises(DataListError, match=r"drishtiGS_004_ODsegSoftmap\.png is a colour picture"):
        build("drishti_gs1", pictures.root)


def test_a_soft_map_of_another_size_is_refused(pictures: Any, make: Any) -> None:
    make["drishti_gs1"](pictures, released=False)
    pictures.mask("softmaps/drishtiGS_004_cupsegSoftmap.png", size=(40, 48))

    with pytest.raises(DataListError, match=r"drishtiGS_004_cupsegSoftmap\.png is 40x48 pixels, its image"):
        build("drishti_gs1", pictures.root)


def test_parts_of_refuge_are_its_splits(pictures: Any, make: Any) -> None:
    make["refuge"](pictures)

    content = build("refuge", pictures.root)

    letters = {split: {Path(item["image"]).name[0] for item in content[split]} for split in SPLITS}
    assert letters == {"training": {"g", "n"}, "validation": {"V"}, "test": {"T"}}
    assert {item["label_format"] for item in items_of(content)} == {"refuge"}
    assert [item.get("class") for item in content["test"]] == ["no glaucoma", "glaucoma"] * 2
    assert not any("class" in item for item in content["validation"])


def test_refuge_without_validation_photos_is_divided_by_class(pictures: Any, make: Any) -> None:
    make["refuge"](pictures, parts=("Training", "Test"))

    content = build("refuge", pictures.root, validation=0.5)

    assert sorted(item["class"] for item in content["validation"]) == ["glaucoma"] + 3 * ["no glaucoma"]
    assert content["numTest"] == 4


def test_class_of_refuge_is_the_letter_of_the_name(pictures: Any, make: Any) -> None:
    make["refuge"](pictures, released=False)

    for stem, item in by_stem(build("refuge", pictures.root)).items():
        assert item["class"] == {"g": "glaucoma", "n": "no glaucoma"}[stem[0]]


def test_refuge_without_test_masks_leaves_the_test_photos_out(pictures: Any, make: Any) -> None:
    make["refuge"](pictures)
    shutil.rmtree(pictures.root / "REFUGE-Test-GT")

    with pytest.warns(DataListWarning, match="the 4 test photos are left out: .* has no masks of them"):
        content = build("refuge", pictures.root)

    assert (content["numTraining"], content["numValidation"], content["numTest"]) == (8, 4, 0)


def test_refuge_without_one_mask_is_refused(pictures: Any, make: Any) -> None:
    make["refuge"](pictures)
    (pictures.root / "REFUGE-Validation400-GT/Disc_Cup_Masks/V0002.bmp").unlink()

    with pytest.raises(DataListError, match=r"REFUGE-Validation400/V0002\.jpg in .* has no label"):
        build("refuge", pictures.root)


def test_a_refuge_mask_in_another_convention_is_refused(pictures: Any, make: Any) -> None:
    make["refuge"](pictures, released=False)
    pictures.mask("masks/n0001.png", high=2)

    with pytest.raises(DataListError, match=r"n0001\.png has the grey values 0, 2; only 0 and 128 and 255 are"):
        build("refuge", pictures.root)


def test_idrid_takes_only_the_disc(pictures: Any, make: Any) -> None:
    make["idrid_disc"](pictures)

    content = build("idrid_disc", pictures.root)

    assert {item["patient"] for item in content["test"]} == {"55", "56", "57"}
    for stem, item in by_stem(content).items():
        assert item["disc"].endswith(f"/5. Optic Disc/{stem}_OD.tif")
        assert item["label_format"] == "masks"


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_an_idrid_mask_may_be_a_colour_on_black(pictures: Any, make: Any, mode: str) -> None:
    make["idrid_disc"](pictures)
    path = next(pictures.root.rglob("IDRiD_03_OD.tif"))
    with Image.open(path) as opened:
        picture = opened.convert(mode)
    picture.save(path)

    assert build("idrid_disc", pictures.root)["numTest"] == 3


def test_a_resized_idrid_mask_is_refused(pictures: Any, make: Any) -> None:
    make["idrid_disc"](pictures, suffix="png", colour=False)
    pictures.mask(
        "A. Segmentation/2. All Segmentation Groundtruths/a. Training Set/5. Optic Disc/IDRiD_03_OD.png", high=9
    )

    with pytest.raises(DataListError, match=r"IDRiD_03_OD\.png has the grey values 0, 9"):
        build("idrid_disc", pictures.root)


def test_idrid_without_a_disc_mask_is_refused(pictures: Any, make: Any) -> None:
    make["idrid_disc"](pictures)
    next(pictures.root.rglob("IDRiD_02_OD.tif")).unlink()

    with pytest.raises(DataListError, match=r"IDRiD_02\.jpg in .* has no disc mask: .*5\. Optic Disc/IDRiD_02_OD"):
        build("idrid_disc", pictures.root)


@pytest.mark.parametrize("seed", range(4))
def test_one_idrid_photo_under_two_numbers_stays_in_one_split(pictures: Any, make: Any, seed: int) -> None:
    make["idrid_disc"](pictures, test=False)
    folder = pictures.root / "A. Segmentation/1. Original Images/a. Training Set"
    shutil.copy(folder / "IDRiD_02.jpg", folder / "IDRiD_07.jpg")

    with pytest.warns(DataListWarning, match="are the same picture, both in one split"):
        content = build("idrid_disc", pictures.root, seed=seed, validation=0.4)

    splits = {item["patient"]: split for split in SPLITS for item in content[split]}
    assert splits["02"] == splits["07"]


def test_a_folder_without_all_cups_needs_an_option(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["disc_cup_folder"](pictures, cups=5)

    with pytest.raises(
        DataListError,
        match=r"images/5\.jpg in .* has no cup mask: a file segmentation_masks/cup/5\.\* is expected \(2 more",
    ):
        build("disc_cup_folder", pictures.root)

    with pytest.warns(DataListWarning, match=r"3 of 8 images have no cup mask, such as images/5\.jpg"):
        content = build("disc_cup_folder", pictures.root, allow_missing_cup=True)
    assert {stem for stem, item in by_stem(content).items() if "cup" not in item} == {"5", "6", "7"}
    words = ["disc_cup_folder", "--root", str(pictures.root), "--output", str(tmp_path / "list.json")]
    assert main(words) == 1
    assert main([*words, "--allow_missing_cup"]) == 0


def test_a_folder_without_any_cup_has_only_discs(pictures: Any, make: Any) -> None:
    make["disc_cup_folder"](pictures, cups=0)

    with pytest.warns(DataListWarning, match="8 of 8 images have no cup mask"):
        content = build("disc_cup_folder", pictures.root, allow_missing_cup=True)

    assert content["files"] == ["disc", "image"]


def test_a_folder_without_a_disc_is_refused_in_any_case(pictures: Any, make: Any) -> None:
    make["disc_cup_folder"](pictures)
    (pictures.root / "segmentation_masks/disc/3.png").unlink()

    with pytest.raises(DataListError, match=r"images/3\.jpg in .* has no disc mask"):
        build("disc_cup_folder", pictures.root, allow_missing_cup=True)


def test_a_mask_that_is_not_binary_is_refused(pictures: Any, make: Any) -> None:
    make["disc_cup_folder"](pictures)
    pictures.mask("segmentation_masks/cup/3.png", high=128)

    with pytest.raises(DataListError, match=r"cup/3\.png has the grey values 0, 128"):
        build("disc_cup_folder", pictures.root)


def test_the_table_gives_patient_eye_and_diagnosis(pictures: Any, make: Any) -> None:
    make["disc_cup_folder"](pictures, table=True)

    content = build("disc_cup_folder", pictures.root, validation=0.5)

    items = by_stem(content)
    assert [items[f"{n}"].get("eye") for n in range(4)] == ["OD", "OS", None, "OD"]
    assert [items[f"{n}"]["patient"] for n in range(4)] == ["p0", "p0", "p1", "p1"]
    assert sorted(item["class"] for item in content["validation"]) == ["no", "no", "yes", "yes"]


def test_without_a_table_each_photo_is_a_patient(pictures: Any, make: Any) -> None:
    make["disc_cup_folder"](pictures)

    items = by_stem(build("disc_cup_folder", pictures.root))

    assert all(item["patient"] == stem and not {"eye", "class"} & item.keys() for stem, item in items.items())


def test_a_table_may_name_images_without_suffix_and_lack_columns(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["disc_cup_folder"](pictures)
    table = tmp_path / "t.csv"
    table.write_text("file_name,eye\n" + "".join(f"{n}{'.png' * (n % 2)},OS\n" for n in range(8)), encoding="utf-8")

    items = by_stem(build("disc_cup_folder", pictures.root, labels=table))

    assert all(item["patient"] == stem and item["eye"] == "OS" for stem, item in items.items())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Image,", "Photograph,", r"labels\.csv has no column for the image's name"),
        ("images/2.jpg,p1", "images/2.jpg,", r"labels\.csv gives no patient for images/2\.jpg"),
        ("images/0.jpg,p0,R", "images/0.jpg,p0,both", r"gives images/0\.jpg the eye 'both'; it has to be OD or OS"),
        ("images/3.jpg", "images/2.jpg", r"labels\.csv has two rows for images/2\.jpg"),
        ("images/3.jpg", "images/33.jpg", r"has no row for images/3\.jpg \(1 of 8 images have none\)"),
    ],
)
def test_a_wrong_table_is_refused(pictures: Any, make: Any, old: str, new: str, message: str) -> None:
    make["disc_cup_folder"](pictures, table=True)
    table = pictures.root / "labels.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")

    with pytest.raises(DataListError, match=message):
        build("disc_cup_folder", pictures.root)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), (b"", "is empty"), (b"\xff\xfe\x00", "cannot be read")]
)
def test_an_unreadable_table_is_refused(
    pictures: Any, make: Any, tmp_path: Path, content: bytes | None, message: str
) -> None:
    make["disc_cup_folder"](pictures)
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)

    with pytest.raises(DataListError, match=rf"the table .*t\.csv {message}"):
        build("disc_cup_folder", pictures.root, labels=tmp_path / "t.csv")


def test_rows_without_image_are_told_unless_it_is_excluded(
    pictures: Any, make: Any, recwarn: pytest.WarningsRecorder
) -> None:
    make["disc_cup_folder"](pictures, table=True)
    build("disc_cup_folder", pictures.root, exclude=["images/3.jpg"])
    assert not messages(recwarn)
    for path in pictures.root.rglob("4.*"):
        path.unlink()

    build("disc_cup_folder", pictures.root)

    assert len(messages(recwarn)) == 1
    assert messages(recwarn)[0].endswith("labels.csv has rows without an image: 1, such as 'images/4.jpg'")


def test_smdg_mends_paths_and_says_so(pictures: Any, make: Any, recwarn: pytest.WarningsRecorder) -> None:
    make["smdg"](pictures)

    content = build("smdg", pictures.root)

    told = messages(recwarn)
    assert told[0] == (
        "paths in metadata - standardized.csv that lead to no file and were mended by the file name: 23 ("
        "'/full-fundus/BEH-1.png' to full-fundus/full-fundus/BEH-1.png, "
        "'/optic-disc/BEH-1.png' to optic-disc/optic-disc/BEH-1.png, "
        "'/optic-cup/BEH-1.png' to optic-cup/optic-cup/BEH-1.png ...)"
    )
    assert told[1] == "rows of 10 left out, which name no disc mask: 2 (EyePACS-1, EyePACS-2)"
    assert len(told) == 2
    for stem, item in by_stem(content).items():
        assert item["image"] == f"full-fundus/full-fundus/{stem}.png"
        assert item["disc"] == f"optic-disc/optic-disc/{stem}.png"
        assert item.get("cup") == (None if stem == "BEH-6" else f"optic-cup/optic-cup/{stem}.png")


def test_smdg_with_right_paths_mends_nothing(pictures: Any, make: Any, recwarn: pytest.WarningsRecorder) -> None:
    make["smdg"](pictures, nested=False)

    assert len(items_of(build("smdg", pictures.root))) == 8
    assert [message.split(":")[0] for message in messages(recwarn)] == ["rows of 10 left out, which name no disc mask"]


def test_class_eye_and_patient_of_smdg(pictures: Any, make: Any) -> None:
    make["smdg"](pictures)

    items = by_stem(build("smdg", pictures.root))

    assert [items[f"BEH-{n}"]["class"] for n in (1, 2, 3)] == ["no glaucoma", "glaucoma", "suspect"]
    assert [items[f"BEH-{n}"].get("eye") for n in (1, 2, 3)] == ["OS", None, "OD"]
    assert [items[f"BEH-{n}"]["patient"] for n in (1, 7, 8)] == ["BEH-1", "BEH_3", "BEH_4"]
    assert {item["label_format"] for item in items.values()} == {"masks"}


def test_smdg_rows_without_files_are_left_out_and_named(
    pictures: Any, make: Any, recwarn: pytest.WarningsRecorder
) -> None:
    make["smdg"](pictures)
    for name in ("full-fundus/full-fundus/BEH-2", "optic-disc/optic-disc/BEH-3", "optic-cup/optic-cup/BEH-4"):
        (pictures.root / f"{name}.png").unlink()

    items = by_stem(build("smdg", pictures.root))

    assert messages(recwarn)[2:] == [
        "rows left out, of which the photo or the disc mask is not there: 2 (BEH-2 ('/full-fundus/BEH-2.png'), "
        "BEH-3 ('/optic-disc/BEH-3.png'))",
        "rows with only the disc, of which the cup mask is not there: 1 (BEH-4 ('/optic-cup/BEH-4.png'))",
    ]
    assert len(items) == 6
    assert "cup" not in items["BEH-4"]


def test_smdg_empty_masks_are_no_masks(pictures: Any, make: Any, recwarn: pytest.WarningsRecorder) -> None:
    make["smdg"](pictures)
    pictures.mask("optic-disc/optic-disc/BEH-1.png", high=0)
    pictures.mask("optic-cup/optic-cup/BEH-2.png", high=0)

    items = by_stem(build("smdg", pictures.root))

    assert messages(recwarn)[2:] == [
        "rows left out, of which the disc mask is empty: 1 (optic-disc/optic-disc/BEH-1.png)",
        "rows with only the disc, of which the cup mask is empty: 1 (optic-cup/optic-cup/BEH-2.png)",
    ]
    assert "BEH-1" not in items
    assert "cup" not in items["BEH-2"]


def test_smdg_masks_that_are_not_binary_are_soft_maps(pictures: Any, make: Any) -> None:
    make["smdg"](pictures)
    pictures.mask("optic-disc/optic-disc/BEH-2.png", high=191)

    items = by_stem(build("smdg", pictures.root, min_value=150))

    assert (items["BEH-2"]["label_format"], items["BEH-2"]["min_value"]) == ("softmaps", 150)
    assert items["BEH-1"]["label_format"] == "masks"
    assert "min_value" not in items["BEH-1"]


def test_smdg_soft_map_beside_a_mask_of_0_and_1_is_refused(pictures: Any, make: Any) -> None:
    make["smdg"](pictures)
    pictures.mask("optic-disc/optic-disc/BEH-2.png", high=191)
    pictures.mask("optic-cup/optic-cup/BEH-2.png", high=1)

    with pytest.raises(DataListError, match=r"of optic-disc/.*BEH-2\.png and optic-cup/.*BEH-2\.png in .* one is a"):
        build("smdg", pictures.root)


@pytest.mark.parametrize("min_value", [0, 256])
def test_an_impossible_grey_value_is_refused(pictures: Any, make: Any, min_value: int) -> None:
    make["smdg"](pictures)

    with pytest.raises(DataListError, match=f"--min_value is {min_value}; it has to be a grey value from 1 to 255"):
        build("smdg", pictures.root, min_value=min_value)


def test_an_smdg_path_that_fits_two_files_is_refused(pictures: Any, make: Any) -> None:
    make["smdg"](pictures)
    (pictures.root / "copy/optic-disc").mkdir(parents=True)
    shutil.copy(pictures.root / "optic-disc/optic-disc/BEH-3.png", pictures.root / "copy/optic-disc")

    with pytest.raises(DataListError, match=r"copy/optic-disc/BEH-3\.png and optic-disc/.*could both be what"):
        build("smdg", pictures.root)
    assert len(items_of(build("smdg", pictures.root, exclude=["copy/*"]))) == 8


def test_smdg_exclude_takes_a_source_out_without_complaint(
    pictures: Any, make: Any, recwarn: pytest.WarningsRecorder
) -> None:
    make["smdg"](pictures)

    content = build("smdg", pictures.root, exclude=["*BEH-[34]*", "optic-cup/*/BEH-5.png"])

    assert by_stem(content).keys() == {"BEH-1", "BEH-2", "BEH-5", "BEH-6", "BEH-7", "BEH-8"}
    assert "cup" not in by_stem(content)["BEH-5"]
    assert len(messages(recwarn)) == 2


def test_a_wrong_smdg_table_is_refused(pictures: Any, make: Any) -> None:
    make["smdg"](pictures)
    table = pictures.root / "metadata - standardized.csv"
    text = table.read_text(encoding="utf-8")

    table.write_text(text.replace("fundus_od_seg", "disc"), encoding="utf-8")
    with pytest.raises(DataListError, match=r"standardized\.csv has no column 'fundus_od_seg'"):
        build("smdg", pictures.root)
    table.write_text(text.replace("/optic-disc/", "/nothing/N"), encoding="utf-8")
    with (
        pytest.warns(DataListWarning, match="the photo or the disc mask is not there: 8"),
        pytest.raises(DataListError, match=r"has no row in metadata - standardized\.csv with a photo and a disc mask"),
    ):
        build("smdg", pictures.root)


@pytest.fixture
def merged(pictures: Any, tmp_path: Path, make: Any) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """A root with three datasets, their single lists by name, and the merged list."""
    root = tmp_path / "all"
    single: dict[str, Any] = {}
    lists: dict[str | Path, str] = {}
    for seed, (name, folder) in enumerate({"drishti_gs1": "D", "refuge": "R", "idrid_disc": "deep/I"}.items()):
        # Other photos in each.
        pictures.root, pictures.random = root / folder, np.random.default_rng(seed)
        make[name](pictures)
        write(build(name, pictures.root), tmp_path / f"{name}.json")
        single[name] = load(tmp_path / f"{name}.json")
        lists[tmp_path / f"{name}.json"] = folder
    return root, single, merge(root, lists)


def test_merge_keeps_formats_and_moves_every_path(merged: tuple[Path, dict[str, Any], dict[str, Any]]) -> None:
    root, single, content = merged
    folders = {"drishti_gs1": "D", "refuge": "R", "idrid_disc": "deep/I"}

    assert content["files"] == ["cup", "disc", "image", "label"]
    for split in SPLITS:
        for item in content[split]:
            name = item["dataset"]
            source = next(one for one in single[name][split] if f"{name}_{one['patient']}" == item["patient"])
            assert item.keys() == source.keys()
            for key in content["files"]:
                if key in item:
                    assert item[key] == f"{folders[name]}/{source[key]}"
                    assert (root / item[key]).is_file()
            for key in ("label_format", "min_value", "class"):
                assert item.get(key) == source.get(key)


def test_disc_and_cup_lists_do_not_merge_with_vessels(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["chase_db1"](pictures, folder="C/")
    make["refuge"](pictures, released=False)
    write(build("chase_db1", pictures.root / "C"), tmp_path / "c.json")
    write(build("refuge", pictures.root), tmp_path / "r.json")

    with pytest.raises(DataListError, match=r"the labels of .*r\.json are .*optic cup.*, those of .*c\.json"):
        merge(pictures.root, {tmp_path / "c.json": "C", tmp_path / "r.json": "."})
