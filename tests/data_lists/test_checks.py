"""Each check that a list passes before it is written, and the options that all datasets share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_lists import SPLITS, DataListError, DataListWarning, build


def test_a_missing_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataListError, match="nowhere is not a folder"):
        build("hrf", tmp_path / "nowhere")


def test_an_unknown_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataListError, match=r"no dataset 'hfr'; known are aptos2019, chase_db1, class_folders"):
        build("hfr", tmp_path)


def test_an_unknown_option_is_refused(chase: Path) -> None:
    with pytest.raises(DataListError, match=r"no option 'observr'; its own options are: observer, train_first"):
        build("chase_db1", chase, observr=2)


def test_an_unknown_value_is_refused(chase: Path) -> None:
    with pytest.raises(DataListError, match="--observer is 3; it has to be one of 1, 2"):
        build("chase_db1", chase, observer=3)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_a_truncated_image_is_refused(pictures: Any, make: Any, suffix: str) -> None:
    make["image_mask"](pictures, suffix=suffix)
    path = pictures.root / f"image/3.{suffix}"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])

    with pytest.raises(DataListError, match=rf"image/3\.{suffix}.*download it again or leave it out"):
        build("image_mask", pictures.root)


def test_an_empty_mask_file_is_refused(chase: Path) -> None:
    (chase / "Image_02R_1stHO.png").write_bytes(b"")

    with pytest.raises(DataListError, match=r"Image_02R_1stHO\.png.*empty"):
        build("chase_db1", chase)


def test_an_image_without_label_is_refused(chase: Path) -> None:
    (chase / "Image_03L_1stHO.png").unlink()

    with pytest.raises(
        DataListError, match=r"Image_03L\.jpg in .* has no label: a file Image_03L_1stHO\.\* is expected"
    ):
        build("chase_db1", chase)


def test_an_incomplete_folder_of_fields_of_view_is_refused(pictures: Any, make: Any) -> None:
    make["chase_db1"](pictures, fov=True)
    (pictures.root / "fov/Image_01L.png").unlink()
    (pictures.root / "fov/Image_02L.png").unlink()

    with pytest.raises(DataListError, match=r"has no field of view: .*fov/Image_01L.*1 more images have none"):
        build("chase_db1", pictures.root)


def test_a_label_without_image_is_left_out_with_a_warning(chase: Path) -> None:
    (chase / "Image_03L.jpg").unlink()

    with pytest.warns(DataListWarning, match=r"Image_03L_1stHO\.png is left out: it is a label without an image"):
        content = build("chase_db1", chase)

    assert content["numTraining"] + content["numValidation"] == 11


def test_a_file_with_another_name_is_left_out_with_a_warning(pictures: Any, make: Any) -> None:
    make["hrf"](pictures)
    pictures.photo("images/overview.jpg")

    with pytest.warns(DataListWarning, match=r"images/overview\.jpg is left out: its name is not like"):
        content = build("hrf", pictures.root)

    assert content["numTraining"] + content["numValidation"] == 15


@pytest.mark.parametrize("dataset", ["hrf", "class_folders"])
def test_a_name_that_is_not_in_utf8_is_left_out_with_a_warning(dataset: str, pictures: Any, make: Any) -> None:
    make[dataset](pictures)
    before = build(dataset, pictures.root)
    misnamed = os.fsdecode(b"images/16_h\xe9.jpg")
    pictures.photo(misnamed)

    with pytest.warns(
        DataListWarning, match=r"images/16_h\\udce9\.jpg is left out: its name is not in UTF-8"
    ) as remarks:
        assert build(dataset, pictures.root) == before
    assert len(remarks) == 1


def test_hidden_files_and_other_kinds_are_no_images(pictures: Any, make: Any) -> None:
    make["hrf"](pictures)
    (pictures.root / "images/._01_h.jpg").write_bytes(b"x")
    (pictures.root / "images/Thumbs.db").write_bytes(b"x")

    assert build("hrf", pictures.root)["numTraining"] == 12


def test_two_labels_for_one_image_are_refused(pictures: Any, make: Any) -> None:
    make["hrf"](pictures)
    pictures.mask("manual1/02_g.png")

    with pytest.raises(DataListError, match=r"manual1/02_g\.png and manual1/02_g\.tif .* stand for the same thing"):
        build("hrf", pictures.root)


def test_a_mask_of_another_size_is_refused(chase: Path, pictures: Any) -> None:
    pictures.mask("Image_04R_1stHO.png", size=(40, 48))

    with pytest.raises(DataListError, match=r"Image_04R_1stHO\.png is 40x48 pixels, its image Image_04R\.jpg 48x40"):
        build("chase_db1", chase)


def save_turned(pictures: Any, name: str) -> None:
    """Save a photo that lies in its file as 40 x 48, and is shown as 48 x 40."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pictures.save(name, pictures.random.integers(0, 256, (48, 40, 3), dtype=np.uint8), exif=exif)


def test_a_turned_image_is_compared_as_it_is_shown(chase: Path, pictures: Any) -> None:
    save_turned(pictures, "Image_04R.jpg")

    assert build("chase_db1", chase)["numTraining"] == 10


def test_a_mask_of_the_size_before_turning_is_refused(chase: Path, pictures: Any) -> None:
    save_turned(pictures, "Image_04R.jpg")
    pictures.mask("Image_04R_1stHO.png", size=(40, 48))

    with pytest.raises(DataListError, match="as shown, turned by EXIF orientation"):
        build("chase_db1", chase)


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (0,), (255,)])
def test_binary_masks_are_accepted(chase: Path, pictures: Any, values: tuple[int, ...]) -> None:
    pixels = np.resize(np.array(values, np.uint8), (40, 48))
    pictures.save("Image_04R_1stHO.png", pixels)
    pictures.save("Image_04L_1stHO.png", np.repeat(pixels[..., None], 3, axis=2))

    assert build("chase_db1", chase)["numTraining"] == 10


@pytest.mark.parametrize(
    ("values", "named"), [((0, 254), "0, 254"), ((0, 128, 255), "0, 128, 255"), ((1, 255), "1, 255"), ((2,), "2")]
)
def test_other_grey_values_are_refused(chase: Path, pictures: Any, values: tuple[int, ...], named: str) -> None:
    pictures.save("Image_04R_1stHO.png", np.resize(np.array(values, np.uint8), (40, 48)))

    with pytest.raises(DataListError, match=rf"Image_04R_1stHO\.png has the grey values {named}; only 0 and 1 or 0"):
        build("chase_db1", chase)


def test_a_colour_mask_is_refused(chase: Path, pictures: Any) -> None:
    pixels = np.zeros((40, 48, 3), np.uint8)
    pixels[5:9, 5:9, 0] = 255
    pictures.save("Image_04R_1stHO.png", pixels)

    with pytest.raises(DataListError, match=r"Image_04R_1stHO\.png is a colour picture"):
        build("chase_db1", chase)


def test_the_field_of_view_is_checked_too(pictures: Any, make: Any) -> None:
    make["hrf"](pictures, mask="png")
    pictures.mask("mask/01_h_mask.png", high=200)

    with pytest.raises(DataListError, match=r"mask/01_h_mask\.png has the grey values 0, 200"):
        build("hrf", pictures.root)


def test_one_picture_in_training_and_official_test_is_refused(pictures: Any, make: Any) -> None:
    make["fives"](pictures)
    with Image.open(pictures.root / "train/Original/20_A.png") as photo:
        photo.save(pictures.root / "test/Original/21_G.png", compress_level=1)

    with pytest.raises(DataListError, match=r"train/Original/20_A\.png in .* and test/Original/21_G\.png in test are"):
        build("fives", pictures.root)

    content = build("fives", pictures.root, exclude=["test/Original/21_G.png"])
    assert content["numTest"] == 23


@pytest.mark.parametrize("seed", range(8))
def test_patients_with_one_picture_come_into_one_split(chase: Path, seed: int) -> None:
    shutil.copy(chase / "Image_02L.jpg", chase / "Image_05R.jpg")
    shutil.copy(chase / "Image_05L.jpg", chase / "Image_06L.jpg")

    with pytest.warns(DataListWarning, match="are the same picture, both in one split"):
        content = build("chase_db1", chase, seed=seed, validation=0.4)

    splits = {item["patient"]: split for split in SPLITS for item in content[split]}
    assert splits["02"] == splits["05"] == splits["06"]


def test_exclude_takes_patterns(chase: Path, recwarn: pytest.WarningsRecorder) -> None:
    content = build("chase_db1", chase, exclude=["Image_0[12]L.jpg"])

    images = {item["image"] for split in SPLITS for item in content[split]}
    assert len(images) == 10
    assert not images & {"Image_01L.jpg", "Image_02L.jpg"}
    assert not [warning for warning in recwarn if issubclass(warning.category, DataListWarning)]


def test_exclude_that_fits_nothing_is_refused(chase: Path) -> None:
    with pytest.raises(DataListError, match=r"--exclude 'Image_01L\.png' fits no file"):
        build("chase_db1", chase, exclude=["Image_01L.png"])


def test_a_share_does_not_mix_an_official_test_split_into_training(pictures: Any, make: Any) -> None:
    make["drive"](pictures)

    with pytest.raises(DataListError, match=r"--test 0\.2 would mix test images of drive into training"):
        build("drive", pictures.root, test=0.2)

    content = build("drive", pictures.root, test=0.2, exclude=["test/*"])
    assert content["numTest"] == 1


@pytest.mark.parametrize("test", ["official", "offical"])
def test_an_official_split_that_is_not_there_is_refused(chase: Path, test: str) -> None:
    with pytest.raises(DataListError, match=r"has no official test split|it has to be a share"):
        build("chase_db1", chase, test=test)


def test_only_test_images_are_refused(pictures: Any, make: Any) -> None:
    make["fives"](pictures)
    shutil.rmtree(pictures.root / "train")

    with pytest.raises(DataListError, match="only test images"):
        build("fives", pictures.root)


def test_the_same_seed_gives_the_same_list_in_any_folder(chase: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in sorted(chase.iterdir(), reverse=True):
        shutil.copy(path, elsewhere)

    assert build("chase_db1", chase, seed=5) == build("chase_db1", elsewhere, seed=5)
    assert build("chase_db1", chase, seed=5) != build("chase_db1", chase, seed=6)
