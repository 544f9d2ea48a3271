"""One folder with everything that can be wrong with a file: one run, and a test for each file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tests.bundles.conftest import Bundle, Command, Marked, Output

# File, stage and some words of the reason.
BAD = {
    "empty.png": ("read", "is empty (0 bytes)"),
    "truncated.jpg": ("read", "cannot be decoded (image file is truncated"),
    "text.png": ("read", "is not an image of a known format"),
    "zero sized.png": ("read", ""),
    "one pixel.png": ("read", "is 1x1 pixels"),
    "line.png": ("read", "is 20000x10 pixels"),
    "notes.txt": ("list", "its suffix is not that of a "),
    "broken.tif": ("read", ""),
    "huge header.png": ("read", ""),
}
# Files that look odd and are photos all the same.
GOOD = [
    "grey 16 bit.png",
    "rgba.png",
    "cmyk.jpg",
    "animated.gif",
    "palette.png",
    "turned.jpg",
    "upright.jpg",
    "name with spaces.png",
    "Größe μ 网膜.png",
    "a..b.png",
    "..photo.png",
    "left/eye.png",
    "right/eye.png",
    "twins/eye.jpg",
    "twins/eye.png",
    "CAPITALS.PNG",
]
WITHOUT_COLOUR = {"grey 16 bit.png"}


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it has this size, with no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def write_bad_and_good(folder: Path, marked: Marked) -> None:
    photo = Image.fromarray(marked.picture)
    best: dict[str, Any] = {"quality": 100, "subsampling": 0}
    for name in GOOD:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)

    (folder / "empty.png").write_bytes(b"")
    jpeg = io.BytesIO()
    photo.save(jpeg, "JPEG")
    (folder / "truncated.jpg").write_bytes(jpeg.getvalue()[: len(jpeg.getvalue()) // 2])
    (folder / "text.png").write_text("This is no picture.\n" * 50)
    (folder / "zero sized.png").write_bytes(png_header(0, 0))
    (folder / "huge header.png").write_bytes(png_header(60_000, 60_000))
    photo.crop((50, 50, 51, 51)).save(folder / "one pixel.png")
    Image.new("RGB", (20_000, 10), (120, 60, 30)).save(folder / "line.png")
    (folder / "notes.txt").write_text("seen on Monday")
    (folder / "broken.tif").write_bytes(b"II*\x00\x08\x00\x00\x00\xff\xff")

    grey = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "grey 16 bit.png")
    with_alpha = photo.convert("RGBA")
    with_alpha.putalpha(255)
    with_alpha.save(folder / "rgba.png")
    photo.convert("CMYK").save(folder / "cmyk.jpg", **best)
    photo.quantize(64).save(folder / "palette.png")
    photo.quantize(64).save(
        folder / "animated.gif", save_all=True, append_images=[Image.new("P", photo.size), Image.new("P", photo.size)]
    )
    photo.save(folder / "upright.jpg", **best)
    # Stored lying on its side, with the note that a viewer has to turn it by a quarter to the right.
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif, **best)
    for name in GOOD:
        if not (folder / name).exists():
            photo.save(folder / name, **(best if name.endswith(".jpg") else {}))


@pytest.fixture(scope="module")
def marked(make_marked: Callable[..., Marked]) -> Marked:
    found = make_marked(150, 200)
    return found


@pytest.fixture(scope="module")
def mixed(
    bundle: Bundle,
    marked: Marked,
    blue: dict[str, Any],
    command: Command,
    output_of: Callable[..., Output],
    tmp_path_factory: pytest.TempPathFactory,
) -> Output:
    """One run over all of them."""
    folder = tmp_path_factory.mktemp("mixed")
    write_bad_and_good(folder / "in", marked)
    log = command(
        folder,
        "run",
        config_file=bundle.config("inference"),
        bundle_root=str(bundle.root),
        dataset_dir=str(folder / "in"),
        output_dir=str(folder / "out"),
        **blue,
    )
    return output_of(folder / "out", log)


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_cannot_be_used_is_recorded(mixed: Output, name: str) -> None:
    stage, words = BAD[name]

    failure = mixed.failure(name)

    assert failure["stage"] == stage
    assert len(failure["reason"]) > 5
    assert words in failure["reason"]
    assert "Traceback" not in failure["reason"]


@pytest.mark.segmentation
@pytest.mark.parametrize("name", GOOD)
def test_the_other_photos_are_done(
    bundle: Bundle, mixed: Output, marked: Marked, overlap: Callable[..., float], name: str
) -> None:
    masks = mixed.masks(name)

    assert set(masks) == set(bundle.structures)
    for structure, mask in masks.items():
        assert mask.shape == marked.mark.shape
        if name not in WITHOUT_COLOUR:
            assert overlap(mask > 0, marked.masks[structure]) > 0.75
    with Image.open(mixed.folder / mixed.row(name)["overlay"]) as picture:
        assert picture.size == marked.mark.shape[::-1]
    for column in bundle.pictures:
        assert (mixed.folder / mixed.row(name)[column]).stat().st_size > 0


@pytest.mark.classification
@pytest.mark.parametrize("name", GOOD)
def test_the_other_photos_have_probabilities(bundle: Bundle, mixed: Output, name: str) -> None:
    row, upright = mixed.row(name), mixed.row("CAPITALS.PNG")

    for label in bundle.labels:
        assert 0 < float(row[f"p_{label}"]) < 1
        if name not in WITHOUT_COLOUR:
            assert float(row[f"p_{label}"]) == pytest.approx(float(upright[f"p_{label}"]), abs=0.05)
    with Image.open(mixed.folder / row["overlay"]) as picture:
        assert picture.size[0] == 2 * bundle.settings["size"]


def test_every_file_is_in_one_of_the_tables(mixed: Output) -> None:
    assert sorted(row["image"] for row in mixed.table()) == sorted(GOOD)
    assert sorted(row["image"] for row in mixed.table("failures.csv")) == sorted(BAD)
    assert f"{len(GOOD)} done, 0 skipped (done before), {len(BAD)} failed" in mixed.log


@pytest.mark.segmentation
def test_a_turned_photo_has_the_mask_of_the_upright_one(mixed: Output, overlap: Callable[..., float]) -> None:
    turned, upright = mixed.masks("turned.jpg"), mixed.masks("upright.jpg")

    for name, mask in upright.items():
        assert overlap(turned[name] > 0, mask > 0) > 0.95


def test_no_two_photos_share_an_output(bundle: Bundle, mixed: Output) -> None:
    files = [
        value
        for row in mixed.table()
        for column, value in row.items()
        if column.startswith((*bundle.mask_files, "probability_", *bundle.pictures))
    ]

    assert len({name.casefold() for name in files}) == len(files)
    assert all((mixed.folder / name).is_file() for name in files)


def test_nothing_is_written_outside_the_output_folder(mixed: Output) -> None:
    assert sorted(path.name for path in mixed.folder.parent.iterdir()) == ["in", "out"]
    written = {path for path in (mixed.folder.parent / "in").rglob("*") if path.is_file()}
    assert len(written) == len(GOOD) + len(BAD)


def test_a_second_run_tries_the_failed_ones_again(
    bundle: Bundle,
    mixed: Output,
    marked: Marked,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    tmp_path: Path,
) -> None:
    repaired = mixed.folder.parent / "in" / "empty.png"
    try:
        Image.fromarray(marked.picture).save(repaired)
        in_process(
            "run",
            config_file=bundle.config("inference"),
            bundle_root=str(bundle.root),
            dataset_dir=str(repaired.parent),
            output_dir=str(mixed.folder),
            **blue,
        )
        assert mixed.row("empty.png")["overlay"].startswith("empty_overlay.")
        assert sorted(row["image"] for row in mixed.table("failures.csv")) == sorted(set(BAD) - {"empty.png"})
    finally:
        repaired.write_bytes(b"")


def test_a_folder_of_bad_files_alone_ends_with_their_reasons(
    bundle: Bundle,
    blue: dict[str, Any],
    in_process: Callable[..., None],
    output_of: Callable[..., Output],
    tmp_path: Path,
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "text.jpg").write_text("no picture")

    in_process(
        "run",
        config_file=bundle.config("inference"),
        bundle_root=str(bundle.root),
        dataset_dir=str(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        **blue,
    )

    found = output_of(tmp_path / "out")
    assert found.table() == []
    assert [row["image"] for row in found.table("failures.csv")] == ["empty.png", "text.jpg"]
