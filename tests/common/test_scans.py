from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import tifffile
from numpy.typing import NDArray
from PIL import Image

from common.errors import UnreadableImageError
from common.readers import BScanReader
from common.scans import (
    frame_address,
    frame_count,
    has_variable,
    read_boundaries,
    read_fluid,
    read_scan,
    scan_addresses,
    split_address,
)

SHAPE = (40, 50, 3)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Three B-scans in the layout of the Duke DME data set; only the second is annotated."""
    images = np.arange(np.prod(SHAPE), dtype=np.uint32).reshape(SHAPE) % 251
    layers = np.full((8, *SHAPE[1:]), np.nan)
    layers[:, 10:30, 1] = np.arange(1, 9)[:, None]
    path = tmp_path / "Subject_01.mat"
    scipy.io.savemat(path, {"images": images.astype(np.uint8), "manualLayers1": layers}, do_compression=True)
    return path


@pytest.mark.parametrize(
    ("path", "file", "frame"),
    [
        ("a/b.mat#03", "a/b.mat", 3),
        ("a/b.MAT#12", "a/b.MAT", 12),
        ("a/b.tif#3", "a/b.tif", 3),
        ("b.TIFF#007", "b.TIFF", 7),
        ("a#3.png", "a#3.png", None),
        ("a.png#3", "a.png#3", None),
        ("b.mat", "b.mat", None),
    ],
)
def test_an_address_has_a_file_and_a_number(path: str, file: str, frame: int | None) -> None:
    assert split_address(path) == (Path(file), frame)


def test_addresses_sort_by_number() -> None:
    addresses = [frame_address("b.mat", frame, 61) for frame in range(1, 62)]

    assert addresses[0] == "b.mat#01"
    assert sorted(addresses) == addresses
    assert [split_address(address)[1] for address in addresses] == list(range(1, 62))


def test_a_volume_has_its_frames(volume: Path) -> None:
    images = scipy.io.loadmat(volume)["images"]

    assert frame_count(volume) == 3
    for frame in (1, 2, 3):
        np.testing.assert_array_equal(read_scan(f"{volume}#{frame}"), images[:, :, frame - 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_page_of_a_tiff_is_a_scan(tmp_path: Path, dtype: type) -> None:
    grey = (np.arange(np.prod(SHAPE)).reshape(SHAPE[2], *SHAPE[:2]) % 256).astype(np.uint8)
    pages: NDArray[np.integer] = grey.astype(dtype) * (np.iinfo(dtype).max // 255)
    tifffile.imwrite(tmp_path / "scan.tif", np.repeat(pages, 4, axis=0), photometric="minisblack")

    addresses = scan_addresses(tmp_path, "scan.tif")

    assert addresses == [f"scan.tif#{number:02d}" for number in range(1, 13)]
    for number, address in enumerate(addresses):
        np.testing.assert_array_equal(read_scan(tmp_path / address), grey[number // 4])
    with pytest.raises(UnreadableImageError, match=r"holds 12 B-scans; name one, as in scan\.tif#1"):
        read_scan(tmp_path / "scan.tif")
    with pytest.raises(UnreadableImageError, match="page 13 cannot be decoded"):
        read_scan(tmp_path / "scan.tif#13")


@pytest.mark.parametrize(("place", "addresses"), [(1, ["a.tif"]), (0, ["a.tif#2"])])
def test_a_thumbnail_is_no_scan(tmp_path: Path, place: int, addresses: list[str]) -> None:
    scan = np.arange(40 * 50).reshape(40, 50).astype(np.uint8)
    pages = [scan, scan[::4, ::4]][:: 1 if place else -1]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, page in enumerate(pages):
            file.write(page, photometric="minisblack", subfiletype=int(number == place), contiguous=False)

    assert scan_addresses(tmp_path, "a.tif") == addresses
    np.testing.assert_array_equal(read_scan(tmp_path / addresses[0]), scan)
    np.testing.assert_array_equal(read_scan(tmp_path / "a.tif"), scan)


def test_addresses_of_other_files(volume: Path) -> None:
    assert scan_addresses(volume.parent, volume.name) == [f"Subject_01.mat#{number}" for number in (1, 2, 3)]
    assert scan_addresses(volume.parent, "a.png") == ["a.png"]


def test_boundaries_are_counted_from_zero(volume: Path) -> None:
    boundaries = read_boundaries(f"{volume}#2", "manualLayers1")

    assert boundaries.shape == (8, 50)
    np.testing.assert_array_equal(boundaries[:, 10], np.arange(8))
    assert np.isnan(boundaries[:, :10]).all()
    assert np.isnan(read_boundaries(f"{volume}#1", "manualLayers1")).all()


def test_a_changed_file_is_read_again(volume: Path) -> None:
    assert read_scan(f"{volume}#1")[0, 1] == 3
    scipy.io.savemat(volume, {"images": np.full(SHAPE, 9, np.uint8)})

    assert (read_scan(f"{volume}#1") == 9).all()


def test_one_scan_without_a_third_axis_needs_no_number(tmp_path: Path) -> None:
    scan = np.arange(40 * 50).reshape(40, 50).astype(np.uint8)
    scipy.io.savemat(tmp_path / "one.mat", {"images": scan})

    np.testing.assert_array_equal(read_scan(tmp_path / "one.mat"), scan)
    assert frame_count(tmp_path / "one.mat") == 1


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("Subject_01.mat", "holds 3 B-scans; name one, as in Subject_01.mat#1"),
        ("Subject_01.mat#4", "has no B-scan 4; it holds 3"),
        ("Subject_01.mat#0", "has no B-scan 0; it holds 3"),
        ("gone.mat#1", "cannot be opened"),
    ],
)
def test_a_frame_that_is_not_there(volume: Path, address: str, reason: str) -> None:
    with pytest.raises(UnreadableImageError) as raised:
        read_scan(volume.parent / address)

    assert reason in raised.value.reason


def test_fluid_is_where_a_pool_has_a_number(volume: Path) -> None:
    pools = np.full(SHAPE, np.nan)
    pools[:, :, 1] = 0
    pools[5:9, 3:7, 1] = 2
    scipy.io.savemat(volume, {"images": np.zeros(SHAPE, np.uint8), "manualFluid1": pools})

    assert has_variable(volume, "manualFluid1")
    assert not has_variable(volume, "manualLayers1")
    found = read_fluid(f"{volume}#2")
    assert found.sum() == found[5:9, 3:7].sum() == 16
    assert not read_fluid(f"{volume}#1").any()


def test_variables_of_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"no MATLAB file at all")

    with pytest.raises(UnreadableImageError, match="cannot be decoded"):
        has_variable(tmp_path / "a.mat", "images")


def test_a_missing_variable(volume: Path) -> None:
    with pytest.raises(UnreadableImageError, match="has no variable 'manualLayers2'"):
        read_boundaries(f"{volume}#1", "manualLayers2")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"no MATLAB file at all", "cannot be decoded"),
        (
            b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124, b" ") + b"\x00\x02IM" + bytes(400),
            "is a MATLAB 7.3 file",
        ),
    ],
    ids=["empty", "text", "7.3"],
)
def test_a_file_that_is_no_volume(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.mat"
    path.write_bytes(content)

    with pytest.raises(UnreadableImageError) as raised:
        frame_count(path)

    assert reason in raised.value.reason


def test_a_truncated_volume(volume: Path) -> None:
    content = volume.read_bytes()
    volume.write_bytes(content[: len(content) // 2])

    with pytest.raises(UnreadableImageError) as raised:
        read_scan(f"{volume}#1")

    assert "cannot be decoded" in raised.value.reason


@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (np.full(SHAPE, 300.0), "grey values outside 0-255"),
        (np.full(SHAPE, np.nan), "grey values outside 0-255"),
        (np.zeros((2, 3, 4, 5)), "shape (2, 3, 4, 5)"),
        (np.array(["text"]), "numbers (rows, columns, frames) are expected"),
    ],
    ids=["too bright", "nan", "axes", "text"],
)
def test_images_of_another_kind(tmp_path: Path, images: np.ndarray, reason: str) -> None:
    scipy.io.savemat(tmp_path / "odd.mat", {"images": images})

    with pytest.raises(UnreadableImageError) as raised:
        read_scan(f"{tmp_path / 'odd.mat'}#1")

    assert reason in raised.value.reason


def test_a_picture_becomes_grey(tmp_path: Path) -> None:
    grey = np.arange(40 * 50).reshape(40, 50).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.tif")
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(tmp_path / "equal.png")
    colour = np.zeros((40, 50, 3), np.uint8)
    colour[:, 20:] = (200, 100, 50)
    Image.fromarray(colour).save(tmp_path / "colour.png")

    np.testing.assert_array_equal(read_scan(tmp_path / "grey.tif"), grey)
    np.testing.assert_array_equal(read_scan(tmp_path / "equal.png"), grey)
    found = read_scan(tmp_path / "colour.png")
    assert (found[:, :20] == 0).all()
    assert (found[:, 20:] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()


def test_the_reader_gives_columns_before_rows(volume: Path) -> None:
    reader = BScanReader()

    image, meta = reader.get_data(reader.read(f"{volume}#2"))

    assert image.shape == (1, 50, 40)
    np.testing.assert_array_equal(image[0].T, read_scan(f"{volume}#2"))
    assert tuple(meta["spatial_shape"]) == (50, 40)


@pytest.mark.parametrize(("shape", "reason"), [((20, 60), "at least 32"), ((40, 400), "8 times the other")])
def test_the_reader_refuses_what_cannot_be_a_scan(tmp_path: Path, shape: tuple[int, int], reason: str) -> None:
    Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "odd.png")

    with pytest.raises(UnreadableImageError, match=reason):
        BScanReader().read(tmp_path / "odd.png")


def test_the_reader_takes_one_scan_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="one B-scan at a time"):
        BScanReader().read([tmp_path / "a.png", tmp_path / "b.png"])


@pytest.mark.real_data
def test_duke_dme(real_folder: Callable[[str], Path]) -> None:
    path = real_folder("2015_BOE_Chiu") / "Subject_01.mat"

    assert frame_count(path) == 11
    scan = read_scan(f"{path}#06")
    assert scan.shape == (496, 768)
    for grader in ("manualLayers1", "manualLayers2"):
        boundaries = read_boundaries(f"{path}#06", grader)
        drawn = ~np.isnan(boundaries).any(axis=0)
        assert 300 < drawn.sum() < 600
        assert (np.diff(boundaries[:, drawn], axis=0) >= 0).all()
        # The retina is brighter than the vitreous above it.
        rows = np.arange(496)[:, None]
        inside = (rows >= boundaries[0]) & (rows < boundaries[7])
        above = rows < boundaries[0] - 5
        assert scan[inside].mean() > 1.5 * scan[above & (scan < 250)].mean()
