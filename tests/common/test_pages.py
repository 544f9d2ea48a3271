from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from common.errors import UnreadableImageError
from common.pages import Pages, pages_note, tiff_pages

REDUCED, MASK = 1, 4


def write(path: Path, types: Sequence[int], dtype: Any = np.uint8, **options: Any) -> Path:
    with tifffile.TiffWriter(path, **options) as file:
        for number, kind in enumerate(types):
            page = np.full((40 + number, 60), 10 * number, bool if kind == MASK else dtype)
            file.write(page, subfiletype=kind, photometric="minisblack", contiguous=False)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pages_are_counted(tmp_path: Path, dtype: Any, bigtiff: bool, byteorder: str) -> None:
    path = write(tmp_path / "a.tif", [0, 0, 0], dtype, bigtiff=bigtiff, byteorder=byteorder)

    assert tiff_pages(path) == Pages(3, (1, 2, 3))
    assert pages_note(path) == "only the first of 3 pages is used"
    assert pages_note(path, page=2) == ""


@pytest.mark.parametrize(
    ("types", "pictures"),
    [([0], (1,)), ([0, REDUCED], (1,)), ([REDUCED, 0], (2,)), ([0, MASK, 0], (1, 3)), ([REDUCED, REDUCED], (1, 2))],
)
def test_reduced_copies_and_masks_are_no_pictures(
    tmp_path: Path, types: Sequence[int], pictures: tuple[int, ...]
) -> None:
    path = write(tmp_path / "a.tiff", types)

    assert tiff_pages(path) == Pages(len(types), pictures)


def test_pages_that_are_left_out_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [0, MASK, 0, REDUCED])

    assert pages_note(path, page=3) == "2 of 4 pages left out: marked as reduced copies or masks"
    assert pages_note(write(tmp_path / "b.tif", [0])) == ""


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg"])
def test_pages_written_by_pillow(tmp_path: Path, compression: str | None) -> None:
    first, *others = (Image.fromarray(np.full((40, 60), value, np.uint8)) for value in (10, 20, 30))
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression=compression)

    assert tiff_pages(tmp_path / "a.tif").count == 3


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_tiff_is_left_to_its_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)

    assert tiff_pages(tmp_path / "a.tif") == Pages()
    assert pages_note(tmp_path / "a.tif") == ""


def test_other_files_are_not_opened(tmp_path: Path) -> None:
    assert pages_note(tmp_path / "gone.png") == ""


def test_a_file_that_breaks_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", [0, 0, 0])
    with tifffile.TiffFile(path) as file:
        third = file.pages[2].offset
    path.write_bytes(path.read_bytes()[:third])

    with pytest.raises(UnreadableImageError, match="breaks off after page 2"):
        tiff_pages(path)
    assert pages_note(path) == "only the first page is used: the file breaks off after page 2: get it again"


@pytest.mark.parametrize("options", [{"truncate": True}, {"truncate": True, "imagej": True}])
def test_several_pictures_in_one_page_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 40, 60), np.uint8), photometric="minisblack", **options)

    with pytest.raises(UnreadableImageError, match="keeps 5 pictures in one page"):
        tiff_pages(tmp_path / "a.tif")


def test_a_colour_photo_is_one_picture(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 60, 3), np.uint16), photometric="rgb")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 40, 60), np.uint16), photometric="rgb", planarconfig="separate")

    assert tiff_pages(tmp_path / "a.tif") == tiff_pages(tmp_path / "b.tif") == Pages()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="cannot be opened"):
        tiff_pages(tmp_path / "gone.tif")
