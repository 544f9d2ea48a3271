from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from PIL import Image


class Pictures:
    """Writes tiny photos and masks; every photo is a different one, the same in every run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.random = np.random.default_rng(0)

    def photo(self, name: str, size: tuple[int, int] = (48, 40)) -> Path:
        width, height = size
        return self.save(name, self.random.integers(0, 256, (height, width, 3), dtype=np.uint8))

    def mask(self, name: str, size: tuple[int, int] = (48, 40), high: int = 255) -> Path:
        width, height = size
        pixels = np.zeros((height, width), np.uint8)
        pixels[height // 4 : height // 2, width // 3 :] = high
        return self.save(name, pixels)

    def save(self, name: str, pixels: NDArray[Any], **options: Any) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, **options)
        return path


def make_chase(pictures: Pictures, folder: str = "", children: int = 6, fov: bool = False) -> None:
    for child in range(1, children + 1):
        for eye in "LR":
            pictures.photo(f"{folder}Image_{child:02d}{eye}.jpg")
            pictures.mask(f"{folder}Image_{child:02d}{eye}_1stHO.png")
            pictures.mask(f"{folder}Image_{child:02d}{eye}_2ndHO.png")
            if fov:
                pictures.mask(f"{folder}fov/Image_{child:02d}{eye}.png")


def make_hrf(pictures: Pictures, folder: str = "", number: int = 5, mask: str = "tif", photo: str = "jpg") -> None:
    for index in range(1, number + 1):
        for kind in ("h", "dr", "g"):
            pictures.photo(f"{folder}images/{index:02d}_{kind}.{photo}")
            pictures.mask(f"{folder}manual1/{index:02d}_{kind}.{mask}")
            pictures.mask(f"{folder}mask/{index:02d}_{kind}_mask.{mask}")


def make_fives(pictures: Pictures, folder: str = "", released: bool = True) -> None:
    parts = [("train/Original", "train/Ground truth", "png"), ("test/Original", "test/Ground truth", "png")]
    for photos, masks, suffix in parts if released else [("images", "masks", "jpg")]:
        for number in range(20, 26):
            for letter in "ADGN":
                pictures.photo(f"{folder}{photos}/{number}_{letter}.{suffix}")
                pictures.mask(f"{folder}{masks}/{number}_{letter}.png")


def make_drive(pictures: Pictures, test_labels: bool = True) -> None:
    for number in range(21, 27):
        pictures.photo(f"training/images/{number}_training.tif")
        pictures.mask(f"training/1st_manual/{number}_manual1.gif")
        pictures.mask(f"training/mask/{number}_training_mask.gif")
    for number in range(1, 4):
        pictures.photo(f"test/images/{number:02d}_test.tif")
        pictures.mask(f"test/mask/{number:02d}_test_mask.gif")
        if test_labels:
            pictures.mask(f"test/1st_manual/{number:02d}_manual1.gif")
            pictures.mask(f"test/2nd_manual/{number:02d}_manual2.gif")


def make_stare(pictures: Pictures, photos: str = "", masks: bool = False) -> None:
    for number in range(1, 7):
        pictures.photo(f"{photos}im{number:04d}.ppm")
        for observer in ("ah", "vk"):
            folder = f"labels-{observer}/" if masks else ""
            pictures.mask(f"{folder}im{number:04d}.{observer}.ppm")


def make_image_mask(pictures: Pictures, parts: tuple[str, ...] = ("",), suffix: str = "png") -> None:
    for part in parts:
        for number in range(6):
            pictures.photo(f"{part}image/{number}.{suffix}")
            pictures.mask(f"{part}mask/{number}.png")


def disc_cup_map(outside: int, rim: int, cup: int, size: tuple[int, int] = (48, 40)) -> NDArray[np.uint8]:
    """A map with a disc of 20 x 16 pixels and a cup of 8 x 8 in it."""
    width, height = size
    pixels = np.full((height, width), outside, np.uint8)
    pixels[10:26, 12:32] = rim
    pixels[14:22, 18:26] = cup
    return pixels


def make_drishti(
    pictures: Pictures,
    released: bool = True,
    base: str = "Drishti-GS1_files/",
    folders: bool = False,
    test_truth: str = "Test/Test_GT",
) -> None:
    def make(images: str, truth: str, number: int, suffix: str, own: bool) -> None:
        name = f"drishtiGS_{number:03d}"
        kind = ("GLAUCOMA/", "NORMAL/")[number % 2] if folders else ""
        pictures.photo(f"{images}/{kind}{name}.{suffix}")
        folder = f"{truth}/{name}/SoftMap" if own else truth
        pictures.save(f"{folder}/{name}_ODsegSoftmap.png", disc_cup_map(0, 191, 255))
        pictures.save(f"{folder}/{name}_cupsegSoftmap.png", disc_cup_map(0, 64, 192))

    if not released:
        for number in range(2, 10):
            make("images", "softmaps", number, "jpg", own=False)
            pictures.save(f"masks/drishtiGS_{number:03d}.png", disc_cup_map(0, 1, 2))
        return
    for number in range(2, 10):
        make(f"{base}Training/Images", f"{base}Training/GT", number, "png", own=True)
    for number in range(1, 20, 10):
        make(f"{base}Test/Images", f"{base}{test_truth}", number, "png", own=True)


def make_refuge(
    pictures: Pictures, released: bool = True, parts: tuple[str, ...] = ("Training", "Validation", "Test")
) -> None:
    values = disc_cup_map(255, 128, 0)
    for number in range(1, 9):
        kind, letter = ("Glaucoma", "g") if number % 4 == 0 else ("Non-Glaucoma", "n")
        name = f"{letter}{number:04d}"
        if not released:
            pictures.photo(f"images/{name}.jpg")
            pictures.save(f"masks/{name}.png", values)
        elif "Training" in parts:
            pictures.photo(f"Training400/{kind}/{name}.jpg")
            pictures.save(f"Annotation-Training400/Disc_Cup_Masks/{kind}/{name}.bmp", values)
    for number in range(1, 5):
        if released and "Validation" in parts:
            pictures.photo(f"REFUGE-Validation400/V{number:04d}.jpg")
            pictures.save(f"REFUGE-Validation400-GT/Disc_Cup_Masks/V{number:04d}.bmp", values)
        if released and "Test" in parts:
            pictures.photo(f"REFUGE-Test400/T{number:04d}.jpg")
            kind = "GN"[number % 2]
            pictures.save(f"REFUGE-Test-GT/Disc_Cup_Masks/{kind}/T{number:04d}.bmp", values)


def make_idrid_disc(
    pictures: Pictures, base: str = "A. Segmentation/", suffix: str = "tif", colour: bool = True, test: bool = True
) -> None:
    for part, numbers in (("a. Training Set", range(1, 9)), ("b. Testing Set", range(55, 58))):
        for number in numbers if test or part.startswith("a") else ():
            name = f"IDRiD_{number:02d}"
            pictures.photo(f"{base}1. Original Images/{part}/{name}.jpg")
            mask = disc_cup_map(0, 255, 255)
            pixels = np.stack([mask, 0 * mask, 0 * mask], axis=-1) if colour else mask
            folder = f"{base}2. All Segmentation Groundtruths/{part}"
            pictures.save(f"{folder}/5. Optic Disc/{name}_OD.{suffix}", pixels)
            pictures.save(f"{folder}/3. Hard Exudates/{name}_EX.{suffix}", pixels)


def make_idrid_lesions(
    pictures: Pictures, base: str = "A. Segmentation/", suffix: str = "tif", colour: bool = True, test: bool = True
) -> None:
    """Every second photo has soft exudates, number 3 has nothing at all."""
    names = {"1. Microaneurysms": "MA", "2. Haemorrhages": "HE", "3. Hard Exudates": "EX", "4. Soft Exudates": "SE"}
    make_idrid_disc(pictures, base, suffix, colour, test)
    for part in ("a. Training Set", "b. Testing Set"):
        for photo in sorted((pictures.root / f"{base}1. Original Images/{part}").glob("*.jpg")):
            number = int(photo.stem.removeprefix("IDRiD_"))
            for folder, code in names.items():
                path = f"{base}2. All Segmentation Groundtruths/{part}/{folder}/{photo.stem}_{code}.{suffix}"
                (pictures.root / path).parent.mkdir(parents=True, exist_ok=True)
                if number == 3 or (code == "SE" and number % 2):
                    (pictures.root / path).unlink(missing_ok=True)
                    continue
                mask = disc_cup_map(0, 255, 255)
                pictures.save(path, np.stack([mask, 0 * mask, 0 * mask], axis=-1) if colour else mask)


VIA_HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"


def make_via(pictures: Pictures, kind: str = "csv") -> None:
    """Photos 0 to 7: even ones with an exudate, those that can be divided by three with a haemorrhage."""
    regions: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for number in range(8):
        pictures.photo(f"photos/{number}.jpg")
        found: list[tuple[dict[str, Any], dict[str, Any]]] = [
            ({"name": "rect", "x": 5, "y": 6, "width": 7, "height": 8}, {"Abnormality": "exudate"})
        ]
        found += [({"name": "circle", "cx": 20, "cy": 21, "r": 4}, {"Abnormality": {"hemorrhage": True}})]
        regions[f"{number}.jpg"] = found[:1] * (number % 2 == 0) + found[1:] * (number % 3 == 0)
    if kind == "csv":
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        for name, shapes in regions.items():
            for index, (shape, attributes) in enumerate(shapes or [({}, {})]):
                table.writerow((name, 1, "{}", len(shapes), index, json.dumps(shape), json.dumps(attributes)))
        (pictures.root / "via_region_data.csv").write_text(VIA_HEADER + "\n" + text.getvalue(), encoding="utf-8")
        return
    entries: dict[str, Any] = {}
    for name, shapes in regions.items():
        listed = [{"shape_attributes": shape, "region_attributes": attributes} for shape, attributes in shapes]
        numbered = dict(zip(map(str, range(len(listed))), listed, strict=True))
        entries[f"{name}1"] = {"filename": name, "size": 1, "regions": numbered if kind == "via 1" else listed}
    content = {"_via_settings": {}, "_via_img_metadata": entries} if kind == "project" else entries
    (pictures.root / "via.json").write_text(json.dumps(content), encoding="utf-8")


def make_disc_cup_folder(pictures: Pictures, cups: int = 8, table: bool = False) -> None:
    rows = ["Image,Patient_ID,Eye,Diagnosis"]
    for number in range(8):
        pictures.photo(f"images/{number}.jpg")
        pictures.save(f"segmentation_masks/disc/{number}.png", disc_cup_map(0, 255, 255))
        if number < cups:
            pictures.save(f"segmentation_masks/cup/{number}.png", disc_cup_map(0, 0, 1))
        rows.append(f"images/{number}.jpg,p{number // 2},{('R', 'left', '')[number % 3]},{('no', 'yes')[number // 4]}")
    if table:
        (pictures.root / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


SMDG_HEADER = "names,types,fundus,fundus_oc_seg,fundus_od_seg,eye,patient_id,original_name"


def make_smdg(pictures: Pictures, nested: bool = True) -> None:
    """Rows BEH-1 to BEH-8 with masks, BEH-6 without cup; EyePACS-1 and -2 without any mask."""
    rows = [SMDG_HEADER]
    for number in range(1, 9):
        name = f"BEH-{number}"
        cup = "Not Visible" if number == 6 else f"/optic-cup/{name}.png"
        rows.append(
            f"{name},{number % 3 - 1},/full-fundus/{name}.png,{cup},/optic-disc/{name}.png,"
            f"{('OD', 'OS', '')[number % 3]},{float(number // 2) if number > 6 else ''},{number}.jpg"
        )
        masks = {"optic-disc": disc_cup_map(0, 255, 255), "optic-cup": disc_cup_map(0, 0, 255)}
        pictures.photo(f"full-fundus/{'full-fundus/' if nested else ''}{name}.png")
        for folder, pixels in masks.items():
            if folder == "optic-disc" or number != 6:
                pictures.save(f"{folder}/{folder + '/' if nested else ''}{name}.png", pixels)
    for number in (1, 2):
        rows.append(f"EyePACS-{number},1,/full-fundus/EyePACS-{number}.png,,,,,{number}.jpg")
        pictures.photo(f"full-fundus/full-fundus/EyePACS-{number}.png")
    table = pictures.root / "metadata - standardized.csv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")


def make_duke_dme(pictures: Pictures, frames: int = 6, annotated: tuple[int, ...] = (2, 4), subjects: int = 6) -> None:
    """Volumes of which only some B-scans are annotated, by the second grader one less; columns 10 to 29."""
    random = np.random.default_rng(0)
    pictures.root.mkdir(parents=True, exist_ok=True)
    for subject in range(1, subjects + 1):
        images = random.integers(0, 256, (48, 40, frames), dtype=np.uint8)
        first, second = (np.full((8, 40, frames), np.nan) for _ in range(2))
        for layers, numbers in ((first, annotated), (second, annotated[1:])):
            for number in numbers:
                layers[:, 10:30, number - 1] = np.arange(5, 45, 5)[:, None]
        content = {"images": images, "manualLayers1": first, "manualLayers2": second, "manualFluid1": images % 2}
        scipy.io.savemat(pictures.root / f"Subject_{subject:02d}.mat", content, do_compression=True)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return Pictures(tmp_path / "data")


@pytest.fixture
def chase(pictures: Pictures) -> Path:
    make_chase(pictures)
    return pictures.root


ODIR_COLUMNS = (
    "ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus",
    "Left-Diagnostic Keywords", "Right-Diagnostic Keywords", *"NDGCAHMO",
)  # fmt: skip
ODIR_EYES = (
    ("normal fundus", "normal fundus", "N", "NN"),
    ("moderate non proliferative retinopathy\uff0cdrusen", "normal fundus", "DO", "DN"),
    ("cataract", "suspected glaucoma\uff0clens dust", "GC", "CG"),
    ("dry age-related macular degeneration", "hypertensive retinopathy", "AH", "AH"),
    ("pathological myopia", "lens dust\uff0cnormal fundus", "M", "MN"),
)
"""Keywords left and right, flags, and Kaggle's label of either eye."""


def make_odir_rows(patients: int = 10) -> list[dict[str, str]]:
    """The rows of Kaggle's ``full_df.csv``, two a patient."""
    rows = []
    for number in range(patients):
        left, right, flags, own = ODIR_EYES[number % len(ODIR_EYES)]
        names = [f"{number}_left.jpg", f"{number}_right.jpg"]
        facts = [str(number), str(40 + number), ("Female", "Male")[number % 2], *names, left, right]
        row = dict(zip(ODIR_COLUMNS, [*facts, *(str(int(flag in flags)) for flag in "NDGCAHMO")], strict=True))
        rows += [
            {**row, "filepath": f"../input/{name}", "labels": f"['{label}']", "target": "[]", "filename": name}
            for name, label in zip(names, own, strict=True)
        ]
    return rows


def write_csv(path: Path, rows: list[dict[str, str]], columns: Sequence[str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns or list(rows[0]), extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    return path


def make_odir5k(pictures: Pictures, kaggle: bool = True, rows: list[dict[str, str]] | None = None) -> None:
    rows = make_odir_rows() if rows is None else rows
    for row in rows:
        pictures.photo(f"{'preprocessed_images' if kaggle else 'ODIR-5K_Training_Dataset'}/{row['filename']}")
    if kaggle:
        write_csv(pictures.root / "full_df.csv", rows)
    else:
        write_csv(pictures.root / "ODIR-5K_Training_Annotations(Updated)_V2.csv", rows[::2], ODIR_COLUMNS)


IDRID_COLUMNS = "Image name,Retinopathy grade,Risk of macular edema ,,,,"


def make_idrid_grading(pictures: Pictures, base: str = "", test: bool = True) -> None:
    """Part B, with the spaces and empty columns of the release."""
    for letter, part, word, number in (("a", "Training", "Training", 10), ("b", "Testing", "Testing", 4))[: 1 + test]:
        lines = [IDRID_COLUMNS]
        for index in range(1, number + 1):
            pictures.photo(f"{base}1. Original Images/{letter}. {part} Set/IDRiD_{index:03d}.jpg")
            lines.append(f"IDRiD_{index:03d},{index % 5} ,{index % 3},,,,")
        path = pictures.root / f"{base}2. Groundtruths/{letter}. IDRiD_Disease Grading_{word} Labels.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\r\n".join(lines) + "\r\n", encoding="utf-8")


def make_aptos2019(pictures: Pictures, images: str = "train_images", table: str = "train.csv") -> None:
    rows = [{"id_code": f"{number:012x}", "diagnosis": str(number % 5)} for number in range(10)]
    for row in rows:
        pictures.photo(f"{images}/{row['id_code']}.png")
    write_csv(pictures.root / table, rows)
    pictures.photo("test_images/ffff.png")


def make_class_folders(
    pictures: Pictures, parts: tuple[str, ...] = ("",), names: tuple[str, ...] = ("DR", "No_DR")
) -> None:
    for part in parts:
        for name in names:
            for number in range(6):
                pictures.photo(f"{part}{name}/{number}.jpg")


@pytest.fixture
def odir_rows() -> Callable[..., list[dict[str, str]]]:
    return make_odir_rows


@pytest.fixture
def write_rows() -> Callable[..., Path]:
    return write_csv


@pytest.fixture
def make() -> dict[str, Callable[..., None]]:
    return {
        "aptos2019": make_aptos2019,
        "chase_db1": make_chase,
        "class_folders": make_class_folders,
        "disc_cup_folder": make_disc_cup_folder,
        "drishti_gs1": make_drishti,
        "drive": make_drive,
        "duke_dme": make_duke_dme,
        "fives": make_fives,
        "hrf": make_hrf,
        "idrid_disc": make_idrid_disc,
        "idrid_grading": make_idrid_grading,
        "idrid_lesions": make_idrid_lesions,
        "image_mask": make_image_mask,
        "odir5k": make_odir5k,
        "refuge": make_refuge,
        "smdg": make_smdg,
        "stare": make_stare,
        "via": make_via,
    }
