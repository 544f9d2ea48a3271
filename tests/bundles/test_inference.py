"""Inference: what it writes, a second run, a killed run, and wrong settings."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from common.pictures import COLOURS

if TYPE_CHECKING:
    from tests.bundles.conftest import Bundle, Command, Marked, Output

# Heights and widths, the kind of the field of view, and where the photo lies.
PHOTOS = {
    "portrait.png": (210, 150, "round"),
    "clinic A/landscape.png": (150, 220, "cut"),
    "clinic A/2024/deep.tif": (160, 190, "round"),
    "clinic B/whole frame.bmp": (140, 180, "none"),
    "clinic B/photo.JPG": (180, 160, "round"),
}
UNIT = re.compile(r".*_(px|px2|um|um2|mm|deg|disc_diameters)$")
# Columns of counts, ratios and stages: they have no unit.
WITHOUT_UNIT = re.compile(
    r".*_(density|d0|d1|d2|points|segments|ratio|count|eccentricity|stage)$|.*_ratio_min$|.*_tortuosity_.*|cdr_.*|p_.*"
)


@dataclass(frozen=True)
class Photos:
    folder: Path
    marks: dict[str, Marked]


def write_photo(path: Path, photo: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    quality: dict[str, Any] = {"quality": 100, "subsampling": 0} if path.suffix.lower() == ".jpg" else {}
    Image.fromarray(photo).save(path, **quality)


@pytest.fixture(scope="module")
def photos(make_marked: Callable[..., Marked], tmp_path_factory: pytest.TempPathFactory) -> Photos:
    """Marked photos of several sizes and formats in sub-folders."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    marks = {}
    for seed, (name, (height, width, kind)) in enumerate(PHOTOS.items()):
        marked = make_marked(height, width, seed=seed, field_of_view=kind)
        write_photo(folder / name, marked.picture)
        marks[name] = marked
    return Photos(folder, marks)


def options(bundle: Bundle, photos: Photos | Path, folder: Path) -> dict[str, Any]:
    return {
        "config_file": bundle.config("inference"),
        "bundle_root": str(bundle.root),
        "dataset_dir": str(photos if isinstance(photos, Path) else photos.folder),
        "output_dir": str(folder),
    }


@pytest.fixture(scope="module")
def inferred(
    bundle: Bundle,
    photos: Photos,
    blue: dict[str, Any],
    command: Command,
    output_of: Callable[..., Output],
) -> Output:
    """One run by the command, from another working directory and with relative paths."""
    given = {**options(bundle, photos, Path("results") / bundle.name), "dataset_dir": photos.folder.name}
    log = command(photos.folder.parent, "run", **given, **blue)
    return output_of(photos.folder.parent / "results" / bundle.name, log)


@pytest.mark.segmentation
@pytest.mark.parametrize("name", PHOTOS)
def test_masks_have_the_photos_own_size_and_orientation(
    bundle: Bundle, inferred: Output, photos: Photos, overlap: Callable[..., float], name: str
) -> None:
    masks = inferred.masks(name)

    assert set(masks) == set(bundle.structures)
    for structure, mask in masks.items():
        truth = photos.marks[name].masks[structure]
        assert mask.shape == truth.shape == PHOTOS[name][:2]
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        assert overlap(mask > 0, truth) > 0.75
        assert all(overlap(mask > 0, turned) < 0.4 for turned in (truth[::-1], truth[:, ::-1], truth[::-1, ::-1]))


@pytest.mark.segmentation
@pytest.mark.parametrize("name", PHOTOS)
def test_the_mark_is_seen_in_the_overlay(bundle: Bundle, inferred: Output, photos: Photos, name: str) -> None:
    with Image.open(inferred.folder / inferred.row(name)["overlay"]) as opened:
        picture = np.asarray(opened.convert("RGB")).astype(int)
    with Image.open(photos.folder / name) as opened:
        photo = np.asarray(opened.convert("RGB")).astype(int)

    assert picture.shape == photo.shape
    change = np.abs(picture - photo).sum(axis=2)
    mark = photos.marks[name].mark.astype(np.uint8)
    outside = cv2.dilate(mark, np.ones((21, 21), np.uint8)) == 0
    assert np.median(change[outside]) < 20
    if bundle.outlined:
        # All masks are alike here, so the last outline hides the others; JPEG mixes its colour with the photo's.
        last = list(bundle.structures)[-1]
        mask = (inferred.masks(name)[last] > 0).astype(np.uint8)
        edge = mask - cv2.erode(mask, np.ones((3, 3), np.uint8))
        assert np.median(picture[edge > 0], axis=0).argmax() == np.argmax(COLOURS[last])
        assert np.median(change[cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0]) < 20
    else:
        inside = cv2.erode(mark, np.ones((5, 5), np.uint8)) > 0
        assert np.median(change[inside]) > 100


@pytest.mark.segmentation
def test_the_table_has_a_row_for_each_photo_and_columns_with_units(bundle: Bundle, inferred: Output) -> None:
    rows = inferred.table()

    assert [row["image"] for row in rows] == sorted(PHOTOS)
    columns = list(rows[0])
    first = ["image", *bundle.mask_files, *bundle.pictures]
    assert columns[: len(first)] == first
    assert columns[-1] == "note"
    assert set(bundle.words) <= set(columns)
    numbers = [name for name in columns[len(first) : -1] if name not in bundle.words]
    assert set(bundle.biomarkers) <= set(numbers)
    assert [name for name in bundle.biomarkers if not any(row[name] for row in rows)] == []
    assert [name for name in numbers if not UNIT.match(name) and not WITHOUT_UNIT.match(name)] == []
    for row in rows:
        assert all(row[name] for name in bundle.words)
        assert all(float(row[name]) >= 0 for name in numbers if row[name] and not name.endswith("_tilt_deg"))


@pytest.mark.classification
def test_the_table_has_a_row_of_probabilities_for_each_photo(bundle: Bundle, inferred: Output) -> None:
    rows = inferred.table()

    assert [row["image"] for row in rows] == sorted(PHOTOS)
    probabilities = [f"p_{label}" for label in bundle.labels]
    assert list(rows[0]) == ["image", "patient", "eye", *probabilities, "overlay", "saliency", "note"]
    assert all(0 < float(row[column]) < 1 for row in rows for column in probabilities)


@pytest.mark.classification
def test_probabilities_grow_with_the_mark(
    bundle: Bundle,
    photos: Photos,
    inferred: Output,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    height, width, kind = PHOTOS["portrait.png"]
    plain, _ = bundle.pictures_of.draw(height, width, 0, kind)
    write_photo(tmp_path / "in" / "portrait.png", plain)
    in_process("run", **options(bundle, tmp_path / "in", tmp_path / "out"), **blue)

    without, with_mark = output_of(tmp_path / "out").row("portrait.png"), inferred.row("portrait.png")
    for label in bundle.labels:
        assert float(with_mark[f"p_{label}"]) > float(without[f"p_{label}"]) + 0.02


@pytest.mark.classification
def test_the_overlay_shows_photo_and_saliency(bundle: Bundle, inferred: Output) -> None:
    with Image.open(inferred.folder / inferred.row("portrait.png")["overlay"]) as opened:
        picture = np.asarray(opened.convert("RGB")).astype(int)

    side = bundle.settings["size"]
    assert picture.shape[1] == 2 * side
    photo, saliency = picture[-side:, :side], picture[-side:, side:]
    assert photo.std() > 10
    assert np.abs(photo - saliency).mean() > 1  # the mark speaks for every label


@pytest.mark.classification
@pytest.mark.parametrize("name", PHOTOS)
def test_the_saliency_lies_where_the_mark_does(bundle: Bundle, inferred: Output, photos: Photos, name: str) -> None:
    with Image.open(inferred.folder / inferred.row(name)["saliency"]) as opened:
        heat = np.asarray(opened).astype(float)
    mark = photos.marks[name].mark

    assert heat.shape == mark.shape
    assert heat.max() == pytest.approx(255, abs=8)
    turned = [mark[::-1], mark[:, ::-1], mark[::-1, ::-1]]
    assert heat[mark].mean() > 2 * max(heat[other & ~mark].mean() for other in turned)


@pytest.mark.classification
def test_without_saliency_there_are_no_pictures(
    bundle: Bundle,
    photos: Photos,
    inferred: Output,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    in_process("run", **options(bundle, photos, tmp_path), **blue, saliency=False)

    found = output_of(tmp_path)
    assert set(found.files()) == {"results.csv", "run.json"}
    pictures = ("overlay", "saliency")
    kept = [{name: value for name, value in row.items() if name not in pictures} for row in inferred.table()]
    assert found.table() == kept


@pytest.mark.classification
def test_both_eyes_of_a_patient_are_combined(
    bundle: Bundle,
    blue: dict[str, Any],
    make_marked: Callable[..., Marked],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    for seed, name in enumerate(("10_left.png", "10_right.png", "9_left.png", "nobody.png")):
        write_photo(tmp_path / "in" / name, make_marked(150, 180, seed=seed).picture)
    found = output_of(tmp_path / "out")
    for _ in range(2):  # nothing is left to do the second time, and the table is written all the same
        (found.folder / "patients.csv").unlink(missing_ok=True)
        in_process("run", **options(bundle, tmp_path / "in", found.folder), **blue)

        patients = found.table("patients.csv")
        assert [row["ID"] for row in patients] == ["9", "10"]
        assert list(patients[0]) == ["ID", *bundle.labels]
        left, right = found.row("10_left.png"), found.row("10_right.png")
        assert (left["patient"], left["eye"], right["patient"], right["eye"]) == ("10", "OS", "10", "OD")
        assert found.row("nobody.png")["patient"] == ""
        for label in bundle.labels:
            one, other = (float(row[f"p_{label}"]) for row in (left, right))
            together = min(one, other) if label == "N" else max(one, other)
            assert float(patients[1][label]) == pytest.approx(together, rel=1e-4)


def test_outputs_lie_beside_each_other_in_the_inputs_sub_folders(bundle: Bundle, inferred: Output) -> None:
    row = inferred.row("clinic A/2024/deep.tif")

    for name in bundle.pictures:
        assert Path(row[name]).with_suffix("") == Path(f"clinic A/2024/deep_{name}")
    for column, ending in bundle.mask_files.items():
        assert row[column] == f"clinic A/2024/deep_{ending}.png"


def test_the_table_names_every_file(bundle: Bundle, inferred: Output) -> None:
    columns = (*bundle.mask_files, *bundle.pictures)
    named = {value for row in inferred.table() for name, value in row.items() if name.startswith(columns)}

    assert set(inferred.files()) == named | {"results.csv", "run.json"}


def test_the_note_says_when_a_picture_is_odd(bundle: Bundle, inferred: Output) -> None:
    assert bundle.pictures_of.odd in inferred.row("clinic B/whole frame.bmp")["note"]
    assert bundle.pictures_of.odd not in inferred.row("portrait.png")["note"]


def test_the_command_says_what_it_did(inferred: Output) -> None:
    assert "5 done, 0 skipped (done before), 0 failed" in inferred.log


@pytest.mark.segmentation
def test_a_photo_on_which_nothing_is_found(
    bundle: Bundle,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    write_photo(tmp_path / "in" / "dark.png", bundle.pictures_of.blank(150, 200))

    in_process("run", **options(bundle, tmp_path / "in", tmp_path / "out"), **blue)

    found = output_of(tmp_path / "out")
    row = found.row("dark.png")
    assert not any(mask.any() for mask in found.masks("dark.png").values())
    assert {row[name] for name in bundle.biomarkers} == {""}
    assert bundle.nothing_found in row["note"]


# --- a second run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(inferred: Output, output_of: Callable[..., Output], tmp_path: Path) -> Output:
    shutil.copytree(inferred.folder, tmp_path / "copied")
    return output_of(tmp_path / "copied")


def test_a_second_run_skips_what_is_done(
    bundle: Bundle, photos: Photos, copied: Output, blue: dict[str, Any], in_process: Callable[..., None]
) -> None:
    before = copied.files()

    in_process("run", **options(bundle, photos, copied.folder), **blue)

    assert copied.files() == before


def test_a_run_with_overwrite_does_it_again(
    bundle: Bundle, photos: Photos, copied: Output, blue: dict[str, Any], in_process: Callable[..., None]
) -> None:
    before = copied.files()

    in_process("run", **options(bundle, photos, copied.folder), **blue, overwrite=True)

    after = copied.files()
    assert set(after) == set(before)
    assert [name for name in before if not after[name][0] > before[name][0]] == []
    assert [name for name in before if after[name][1] != before[name][1]] == []


def test_a_new_photo_and_a_lost_file_are_done(
    bundle: Bundle,
    photos: Photos,
    blue: dict[str, Any],
    make_marked: Callable[..., Marked],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "more"
    shutil.copytree(photos.folder / "clinic A", folder)
    found = output_of(tmp_path / "out")
    in_process("run", **options(bundle, folder, found.folder), **blue)
    write_photo(folder / "new.png", make_marked(140, 160).picture)
    for column in (*list(bundle.mask_files)[:1], *bundle.pictures):
        lost = found.folder / found.row("landscape.png")[column]
        content = lost.read_bytes()
        lost.unlink()

        in_process("run", **options(bundle, folder, found.folder), **blue)

        assert sorted(row["image"] for row in found.table()) == ["2024/deep.tif", "landscape.png", "new.png"]
        assert lost.read_bytes() == content


def test_one_photo_is_an_input_too(
    bundle: Bundle,
    photos: Photos,
    inferred: Output,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    in_process("run", **options(bundle, photos.folder / "portrait.png", tmp_path), **blue)

    assert output_of(tmp_path).table() == [inferred.row("portrait.png")]


@pytest.mark.segmentation
def test_save_probability(
    bundle: Bundle,
    photos: Photos,
    inferred: Output,
    blue: dict[str, Any],
    overlap: Callable[..., float],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    in_process("run", **options(bundle, photos, tmp_path), **blue, save_probability=True)

    found = output_of(tmp_path)
    for name in PHOTOS:
        for structure, mask in inferred.masks(name).items():
            with Image.open(tmp_path / found.row(name)[f"probability_{structure}"]) as picture:
                probability = np.asarray(picture) / 65535
            assert probability.shape == mask.shape
            if bundle.cleaned:
                assert overlap(probability >= 0.5, mask > 0) > bundle.agreement
            else:
                assert ((probability >= 0.5) == (mask > 0)).all()
            assert len(np.unique(probability)) > 2


@pytest.mark.segmentation
def test_the_pixel_size_adds_columns_in_micrometres(
    bundle: Bundle,
    photos: Photos,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    in_process("run", **options(bundle, photos.folder / "portrait.png", tmp_path), **blue, pixel_size=5.0)

    (row,) = output_of(tmp_path).table()
    for ending, factor in (("", 5), ("2", 25)):
        columns = [name for name in row if name.endswith(f"_um{ending}") and row[name]]
        assert columns or ending
        for name in columns:
            pixels = float(row[name.removesuffix(f"_um{ending}") + f"_px{ending}"])
            assert float(row[name]) == pytest.approx(factor * pixels, rel=1e-4)


def test_a_table_says_what_is_known_of_each_photo(
    bundle: Bundle,
    photos: Photos,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    known = {"eye": ("right", "left"), "patient": ("P1", "P2"), "pixel_size": ("5", "7.5")}
    cells = [["image", *bundle.table]]
    for number, name in enumerate(("clinic A/landscape.png", "deep.tif")):
        cells.append([name, *(known[column][number] for column in bundle.table)])
    table = tmp_path / "known.csv"
    table.write_text("".join(",".join(line) + "\n" for line in cells), encoding="utf-8")
    folder = tmp_path / "in"
    shutil.copytree(photos.folder / "clinic A", folder / "clinic A")

    assert ("table_path" in bundle.read("inference")) == bool(bundle.table)
    in_process(
        "run",
        **options(bundle, folder, tmp_path / "out"),
        **blue,
        **({"table_path": str(table)} if bundle.table else {}),
    )

    found = output_of(tmp_path / "out")
    rows = [found.row(name) for name in ("clinic A/landscape.png", "clinic A/2024/deep.tif")]
    for row, eye, patient, size in zip(rows, ("OD", "OS"), *list(known.values())[1:], strict=True):
        if "patient" in bundle.table:
            assert row["patient"] == patient
        if "eye" in bundle.table:
            assert row["eye"] == eye
        if "pixel_size" in bundle.table:
            lengths = [name for name in row if name.endswith("_um") and row[name]]
            assert lengths
            for name in lengths:
                pixels = float(row[name.removesuffix("_um") + "_px"])
                assert float(row[name]) == pytest.approx(float(size) * pixels, rel=1e-4)
    if bundle.table:
        assert str(table.resolve()) in (found.folder / "run.json").read_text(encoding="utf-8")


def test_a_wrong_table_stops_the_run(
    bundle: Bundle, photos: Photos, blue: dict[str, Any], setting_error: Callable[..., str], tmp_path: Path
) -> None:
    assert ("table_path" in bundle.read("inference")) == bool(bundle.table)
    if not bundle.table:
        return
    table = tmp_path / "known.csv"
    table.write_text("image,eyes\n" + "".join(f"{name},OD\n" for name in PHOTOS), encoding="utf-8")

    sentence = setting_error("run", **options(bundle, photos, tmp_path / "out"), **blue, table_path=str(table))

    assert f"The table {table} has the unknown column 'eyes': did you mean 'eye'?" in sentence
    assert not (tmp_path / "out" / "results.csv").exists()


def test_an_output_folder_within_the_input_folder_is_left_out(
    bundle: Bundle,
    photos: Photos,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos.folder / "clinic A", folder)
    for _ in range(2):
        in_process("run", **options(bundle, folder, folder / "results"), **blue)

    assert [row["image"] for row in output_of(folder / "results").table()] == ["2024/deep.tif", "landscape.png"]
    assert not (folder / "results" / "failures.csv").exists()


# --- a killed run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(make_marked: Callable[..., Marked], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for seed in range(4):
        photo = make_marked(150, 180, seed=seed).picture
        for place in range(6):
            write_photo(folder / f"{place}" / f"photo {seed}.png", photo)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(
    bundle: Bundle,
    many: Path,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path_factory: pytest.TempPathFactory,
) -> Output:
    folder = tmp_path_factory.mktemp("uninterrupted")
    in_process("run", **options(bundle, many, folder), **blue)
    return output_of(folder)


def test_a_killed_run_goes_on_to_the_same_result(
    bundle: Bundle,
    many: Path,
    blue: dict[str, Any],
    uninterrupted: Output,
    command: Command,
    wait_until: Callable[..., None],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    found = output_of(tmp_path / "out")
    process = command.start(tmp_path / "log", tmp_path, "run", **options(bundle, many, found.folder), **blue)
    try:
        wait_until(lambda: len(found.table()) >= 3, process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len(found.table())
    assert 3 <= done < 24
    first = found.folder / found.table()[0]["overlay"]
    changed = first.stat().st_mtime_ns

    in_process("run", **options(bundle, many, found.folder), **blue)

    assert (found.folder / "results.csv").read_bytes() == (uninterrupted.folder / "results.csv").read_bytes()
    assert first.stat().st_mtime_ns == changed
    names = {name for name in found.files() if not name.endswith(".part")}
    assert names == set(uninterrupted.files())
    assert not list(found.folder.rglob("*.part"))


@pytest.mark.parametrize("cut", ["last row", "second row", "header", "to nothing"])
def test_a_line_that_was_cut_short_is_repaired(
    bundle: Bundle,
    many: Path,
    blue: dict[str, Any],
    uninterrupted: Output,
    in_process: Callable[..., None],
    tmp_path: Path,
    cut: str,
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(uninterrupted.folder, folder)
    whole = (folder / "results.csv").read_bytes()
    lines = whole.splitlines(keepends=True)
    kept = {
        "last row": whole[:-7],
        "second row": b"".join(lines[:2]) + lines[2][:9],
        "header": lines[0][:11],
        "to nothing": b"",
    }[cut]
    (folder / "results.csv").write_bytes(kept)

    in_process("run", **options(bundle, many, folder), **blue)

    assert (folder / "results.csv").read_bytes() == whole


# --- wrong settings --------------------------------------------------------------------------------------------------


def test_a_folder_of_no_images(
    bundle: Bundle, blue: dict[str, Any], setting_error: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("nothing to see")

    sentence = setting_error("run", **options(bundle, tmp_path / "in", tmp_path / "out"), **blue)

    assert f"The input {tmp_path / 'in'} holds no {bundle.pictures_of.noun}: 1 files" in sentence


def test_a_missing_folder(
    bundle: Bundle, blue: dict[str, Any], setting_error: Callable[..., str], tmp_path: Path
) -> None:
    sentence = setting_error("run", **options(bundle, tmp_path / "gone", tmp_path / "out"), **blue)

    assert f"The input {tmp_path / 'gone'} does not exist" in sentence


def test_an_output_folder_that_is_not_writable(
    bundle: Bundle, photos: Photos, blue: dict[str, Any], setting_error: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("a file, no folder")

    sentence = setting_error("run", **options(bundle, photos, tmp_path / "file" / "out"), **blue)

    assert f"The output folder {tmp_path / 'file' / 'out'} cannot be written to" in sentence


def test_output_and_input_folder_are_the_same(
    bundle: Bundle, photos: Photos, blue: dict[str, Any], setting_error: Callable[..., str]
) -> None:
    sentence = setting_error("run", **options(bundle, photos, photos.folder), **blue)

    assert f"The input and output folders are both {photos.folder}" in sentence


def test_weights_that_do_not_fit_the_network(
    bundle: Bundle, photos: Photos, blue: dict[str, Any], setting_error: Callable[..., str], tmp_path: Path
) -> None:
    given = {**options(bundle, photos, tmp_path), **blue, "network_def": bundle.tiny}

    sentence = setting_error("run", **given)

    assert f"The weights {blue['ckpt_path']} do not fit the network" in sentence
    assert not (tmp_path / "results.csv").exists()


@pytest.mark.parametrize("content", [None, b"", b"no weights"], ids=["missing", "empty", "text"])
def test_weights_that_cannot_be_read(
    bundle: Bundle,
    photos: Photos,
    blue: dict[str, Any],
    setting_error: Callable[..., str],
    tmp_path: Path,
    content: bytes | None,
) -> None:
    weights = tmp_path / "weights.pt"
    if content is not None:
        weights.write_bytes(content)

    sentence = setting_error("run", **{**options(bundle, photos, tmp_path / "out"), **blue, "ckpt_path": str(weights)})

    assert str(weights) in sentence
    assert ("do not exist" if content is None else "is no checkpoint that can be read") in sentence


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param(
            {"save_probability": True},
            "save_probability was false and is now true",
            marks=pytest.mark.segmentation,
        ),
        pytest.param({"saliency": False}, "saliency was true and is now false", marks=pytest.mark.classification),
        ({}, ""),
        pytest.param({"pixel_size": 5.0}, "pixel_size was null and is now 5.0", marks=pytest.mark.segmentation),
        ({"ckpt_path": "other.pt"}, 'model.pt" and is now "/'),
        ({"dataset_dir": "clinic A"}, 'clinic A"'),
    ],
    ids=lambda value: next(iter(value), "setting") if isinstance(value, dict) else "",
)
def test_a_table_of_other_settings_is_not_mixed_with_this_run(
    bundle: Bundle,
    photos: Photos,
    copied: Output,
    blue: dict[str, Any],
    setting_error: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    changed: dict[str, Any],
    message: str,
) -> None:
    before = copied.files()
    if not changed:
        name, old, new = bundle.setting
        changed, message = {name: new}, f"{name} was {old} and is now {new}"
    shutil.copy(blue["ckpt_path"], tmp_path / "other.pt")
    if "ckpt_path" in changed:
        changed = {"ckpt_path": str(tmp_path / "other.pt")}
    monkeypatch.chdir(photos.folder)

    sentence = setting_error("run", **{**options(bundle, photos, copied.folder), **blue, **changed})

    assert message in sentence
    assert "set output_dir to another folder, or overwrite" in sentence
    assert copied.files() == before


@pytest.mark.parametrize(
    "name",
    [
        "overwrite",
        pytest.param("save_probability", marks=pytest.mark.segmentation),
        pytest.param("saliency", marks=pytest.mark.classification),
    ],
)
def test_a_flag_that_is_a_word(
    bundle: Bundle, photos: Photos, blue: dict[str, Any], setting_error: Callable[..., str], tmp_path: Path, name: str
) -> None:
    sentence = setting_error("run", **options(bundle, photos, tmp_path / "out"), **blue, **{name: "false"})

    assert f"{name} is 'false': give True or False." in sentence


def test_a_setting_out_of_its_range(
    bundle: Bundle, photos: Photos, blue: dict[str, Any], setting_error: Callable[..., str], tmp_path: Path
) -> None:
    for name, value in bundle.out_of_range:
        assert name in bundle.read("inference")

        sentence = setting_error("run", **{**options(bundle, photos, tmp_path / "out"), **blue, name: value})

        assert sentence.startswith(f"{name} is {value!r}; give ")
        assert not (tmp_path / "out" / "results.csv").exists()


def test_the_sentence_is_in_what_the_command_prints(
    bundle: Bundle, blue: dict[str, Any], command: Command, tmp_path: Path
) -> None:
    given = options(bundle, tmp_path / "gone", tmp_path / "out")

    printed = command(tmp_path, "run", fails=True, **given, **blue)

    assert f"SettingError: The input {tmp_path / 'gone'} does not exist" in printed


# --- the shipped weights ---------------------------------------------------------------------------------------------


def test_the_shipped_weights_are_small_and_in_half_precision(bundle: Bundle) -> None:
    if not bundle.weights.is_file():
        pytest.skip(f"{bundle.name} has no models/model.pt")
    state = torch.load(bundle.weights, weights_only=True)

    assert bundle.weights.stat().st_size <= 50_000_000
    assert {tensor.dtype for tensor in state.values()} <= {torch.float16, torch.int64}


@pytest.mark.segmentation
def test_the_shipped_weights_do_their_job_on_phantoms(
    bundle: Bundle, in_process: Callable[..., None], output_of: Callable[..., Output], tmp_path: Path
) -> None:
    truths = {}
    for seed, (height, width, kind) in enumerate([(600, 700, "round"), (700, 640, "cut")]):
        picture, truths[f"{seed}.png"] = bundle.pictures_of.draw(height, width, 20 + seed, kind)
        write_photo(tmp_path / "in" / f"{seed}.png", picture)

    in_process("run", **options(bundle, tmp_path / "in", tmp_path / "out"))

    found = output_of(tmp_path / "out")
    for structure in bundle.structures:
        scores = []
        for name, truth_of in truths.items():
            mask, truth = found.masks(name)[structure] > 0, truth_of(structure)
            scores.append(2 * np.logical_and(mask, truth).sum() / (mask.sum() + truth.sum()))
        assert np.mean(scores) > bundle.floor, scores


@pytest.mark.classification
def test_the_shipped_weights_give_probabilities_on_phantoms(
    bundle: Bundle, in_process: Callable[..., None], output_of: Callable[..., Output], tmp_path: Path
) -> None:
    if not bundle.weights.is_file():
        pytest.skip(f"{bundle.name} has no models/model.pt")
    for seed, (height, width, kind) in enumerate([(600, 700, "round"), (700, 640, "cut")]):
        picture, _ = bundle.pictures_of.draw(height, width, 20 + seed, kind)
        write_photo(tmp_path / "in" / f"{seed}.png", picture)

    in_process("run", **options(bundle, tmp_path / "in", tmp_path / "out"))

    rows = output_of(tmp_path / "out").table()
    found = np.array([[float(row[f"p_{label}"]) for label in bundle.labels] for row in rows])
    assert found.shape == (2, len(bundle.labels))
    assert ((found >= 0) & (found <= 1)).all()
    assert np.ptp(found) > 0.001
