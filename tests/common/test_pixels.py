from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import cv2
import itk
import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from common.errors import UnreadableImageError
from common.pixels import PHOTO_SUFFIXES, read_pixels, shared_pixels

HEIGHT, WIDTH = 31, 47


def smooth_photo() -> NDArray[np.uint8]:
    """Not square, not symmetric, and smooth enough for JPEG."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([40 + 4 * x, 20 + 6 * y, 120 + 2 * x - 2 * y], axis=-1).clip(0, 255).astype(np.uint8)


PHOTO = smooth_photo()
GREY = PHOTO[..., 0]


def saved(folder: Path, name: str, picture: Any, **options: Any) -> NDArray[np.uint8]:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(folder / name, **options)
    return read_pixels(folder / name)


@pytest.mark.parametrize("suffix", sorted(PHOTO_SUFFIXES))
@pytest.mark.parametrize("upper", [False, True])
def test_every_format_is_read_untransposed(tmp_path: Path, suffix: str, upper: bool) -> None:
    name = "photo" + (suffix.upper() if upper else suffix)
    options = {"quality": 95} if suffix in (".jpg", ".jpeg") else {}
    pixels = saved(tmp_path, name, PHOTO, **options)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert pixels.dtype == np.uint8
    # GIF has 256 colours, JPEG is lossy; the rest is exact.
    tolerance = {".gif": 40, ".jpg": 14, ".jpeg": 14}.get(suffix, 0)
    assert np.abs(pixels.astype(int) - PHOTO).max() <= tolerance


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_grey(tmp_path: Path, suffix: str) -> None:
    pixels = saved(tmp_path, "a" + suffix, GREY)
    np.testing.assert_array_equal(pixels if pixels.ndim == 2 else pixels[..., 0], GREY)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_one_bit(tmp_path: Path, suffix: str) -> None:
    mask = GREY > 100
    pixels = saved(tmp_path, "a" + suffix, Image.fromarray(mask))
    np.testing.assert_array_equal(pixels, mask * np.uint8(255))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_grey(tmp_path: Path, suffix: str) -> None:
    values = GREY.astype(np.uint16) * 257
    values[0, 0] = 65535
    expected = GREY.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(saved(tmp_path, "a" + suffix, values), expected)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_sixteen_bit_colour_tiff(tmp_path: Path, planar: str) -> None:
    values = PHOTO.astype(np.uint16) * 257
    values[0, 0] = 65535
    data = values if planar == "contig" else np.moveaxis(values, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar)
    expected = PHOTO.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), expected)


def test_twelve_bits_in_sixteen_are_not_black(tmp_path: Path) -> None:
    values = GREY.astype(np.uint16) * 16
    values[0, 0] = 4095
    pixels = saved(tmp_path, "a.png", values)
    assert pixels[0, 0] == 255
    assert np.abs(pixels.astype(int) - GREY)[1:].max() <= 1


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    alpha = np.where(np.arange(WIDTH) < 20, 0, 255).astype(np.uint8)[None].repeat(HEIGHT, 0)
    expected = PHOTO * (alpha[..., None] > 0)
    np.testing.assert_array_equal(saved(tmp_path, "rgba.png", np.dstack([PHOTO, alpha])), expected)
    pixels = saved(tmp_path, "la.png", np.dstack([GREY, alpha]))
    np.testing.assert_array_equal(pixels[..., 1], GREY * (alpha > 0))


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_palette_gives_colours_not_indices(tmp_path: Path, suffix: str) -> None:
    indices = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3).astype(np.uint8)
    colours = np.array([[200, 10, 30], [5, 150, 90], [77, 78, 250]], np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(saved(tmp_path, "a" + suffix, image), colours[indices])
    transparent = colours.copy()
    transparent[1] = 0
    pixels = saved(tmp_path, "b" + suffix, image, transparency=1)
    np.testing.assert_array_equal(pixels, transparent[indices])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    pixels = saved(tmp_path, "a.jpg", Image.fromarray(PHOTO).convert("CMYK"), quality=95)
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - PHOTO).mean() < 8


def turned(photo: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The EXIF definition, pixel by pixel: where row 0 and column 0 of the stored picture belong."""
    height, width = photo.shape[:2]
    shape = (height, width) if orientation < 5 else (width, height)
    result = np.zeros((*shape, *photo.shape[2:]), photo.dtype)
    for row in range(height):
        for column in range(width):
            place = {
                1: (row, column),
                2: (row, width - 1 - column),
                3: (height - 1 - row, width - 1 - column),
                4: (height - 1 - row, column),
                5: (column, row),
                6: (column, height - 1 - row),
                7: (width - 1 - column, height - 1 - row),
                8: (width - 1 - column, row),
            }[orientation]
            result[place] = photo[row, column]
    return result


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honoured(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = saved(tmp_path, "a" + suffix, PHOTO, exif=exif, **({"quality": 95} if suffix == ".jpg" else {}))
    expected = turned(PHOTO, orientation)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= (14 if suffix == ".jpg" else 0)


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((20, 30), value, np.uint8)) for value in (50, 200))
    pixels = saved(tmp_path, "a.gif", first, save_all=True, append_images=[second])
    assert pixels.shape[:2] == (20, 30)
    assert (pixels == 50).all()


def test_wrong_suffix_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.jpg"), PHOTO)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, format=kind)
    return buffer.getvalue()


FILES = {kind: encoded(kind) for kind in ("JPEG", "PNG", "TIFF", "BMP", "PPM", "GIF")}
_sixteen = io.BytesIO()
tifffile.imwrite(_sixteen, PHOTO.astype(np.uint16) * 257, photometric="rgb")
FILES["TIFF16"] = _sixteen.getvalue()
_written, _lzw = cv2.imencode(".tif", PHOTO.astype(np.uint16) * 257, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
FILES["TIFF16 LZW"] = _lzw.tobytes()


@pytest.mark.parametrize("kind", sorted(FILES))
def test_truncated_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("a.tif" if kind.startswith("TIFF") else "a.png")
    path.write_bytes(FILES[kind][: len(FILES[kind]) // 2])
    with pytest.raises(UnreadableImageError) as caught:
        read_pixels(path)
    assert caught.value.path == path
    assert caught.value.reason
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", "empty"),
        ("a.jpg", b"This is a text.", "not an image"),
        ("a.tif", b"This is a text.", "cannot be decoded"),
        ("a.ppm", b"P6\n0 5\n255\n", ""),
        ("a.png", FILES["PNG"][:16] + bytes(8) + FILES["PNG"][24:], ""),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableImageError, match=reason):
        read_pixels(tmp_path / name)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="No such file"):
        read_pixels(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match="directory"):
        read_pixels(tmp_path)


@pytest.mark.parametrize("channels", [1, 3])
def test_floating_point_is_refused(tmp_path: Path, channels: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 30, channels), np.float32).squeeze())
    with pytest.raises(UnreadableImageError, match="float32"):
        read_pixels(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_more_than_sixteen_bits_are_refused(tmp_path: Path, dtype: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((20, 30), 70000, dtype))
    with pytest.raises(UnreadableImageError, match="16 bits"):
        read_pixels(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_first_page_of_several(tmp_path: Path, dtype: Any) -> None:
    pages = np.stack([np.full((20, 30, 3), value, dtype) for value in (200, 100, 0, 7, 9)])
    pages[:, 0, 0] = np.iinfo(dtype).max
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    pixels = read_pixels(tmp_path / "a.tif")
    assert pixels.shape == (20, 30, 3)
    assert (pixels[1:] == (200 if dtype == np.uint8 else 1)).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_any_page_of_several(tmp_path: Path, dtype: Any, compression: str | None) -> None:
    scale = np.iinfo(dtype).max // 255
    pages = [(GREY // number).astype(dtype) * scale for number in (1, 2, 3)]
    for page in pages:
        page[0, 0] = 255 * scale
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression=compression)

    for number in (1, 2, 3):
        np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif", number), pages[number - 1] // scale)
    with pytest.raises(UnreadableImageError, match="page 4 cannot be decoded \\(the file has fewer pages\\)"):
        read_pixels(tmp_path / "a.tif", 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_each_page_is_turned_by_its_own_orientation(
    tmp_path: Path, dtype: Any, bigtiff: bool, byteorder: Literal["<", ">"]
) -> None:
    page = GREY.astype(dtype) * (np.iinfo(dtype).max // 255)
    page[0, 0] = np.iinfo(dtype).max
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff, byteorder=byteorder) as file:
        for orientation in (1, 6, 3):
            tag = (274, "H", 1, orientation, True)
            file.write(page, photometric="minisblack", extratags=[tag], contiguous=False)

    upright = read_pixels(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif", 2), np.rot90(upright, -1))
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif", 3), np.rot90(upright, 2))


def test_pages_that_are_shared_are_kept_apart(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GREY, 255 - GREY]), photometric="minisblack")
    shared: dict[Path, NDArray[np.uint8]] = {}

    with shared_pixels(shared):
        first, second = read_pixels(tmp_path / "a.tif"), read_pixels(tmp_path / "a.tif", 2)
        assert read_pixels(tmp_path / "a.tif", 2) is second

    np.testing.assert_array_equal(first, GREY)
    np.testing.assert_array_equal(second, 255 - GREY)
    assert set(shared) == {tmp_path / "a.tif", tmp_path / "a.tif#2"}


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_second_page_of_a_file_of_one(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(GREY).save(tmp_path / f"a{suffix}", "PNG")
    with pytest.raises(UnreadableImageError, match="page 2 cannot be decoded"):
        read_pixels(tmp_path / f"a{suffix}", 2)


@pytest.mark.parametrize("scale", [257, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("alpha", [False, True])
def test_deep_colour_is_scaled(tmp_path: Path, scale: int, suffix: str, alpha: bool) -> None:
    values = PHOTO.astype(np.uint16) * scale
    values[0, 0] = 255 * scale + (15 if scale == 16 else 0)
    if alpha:
        opacity = np.where(np.arange(WIDTH) < 20, 0, 65535).astype(np.uint16)[None].repeat(HEIGHT, 0)
        values = np.dstack([values, opacity])
    path = tmp_path / f"a{suffix}"
    if suffix == ".png":
        cv2.imwrite(str(path), values[..., [2, 1, 0, 3][: values.shape[2]]])
    else:
        tifffile.imwrite(path, values, photometric="rgb", extrasamples=["unassalpha"] if alpha else None)
    expected = PHOTO.copy()
    if alpha:
        expected[:, :20] = 0
    pixels = read_pixels(path)
    assert pixels.shape == PHOTO.shape
    assert np.abs(pixels.astype(int) - expected)[1:].max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_deep_tiff(tmp_path: Path, orientation: int) -> None:
    values = PHOTO.astype(np.uint16) * 257
    values[0, 0] = 65535
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    expected = PHOTO.copy()
    expected[0, 0] = 255
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), turned(expected, orientation))


@pytest.mark.parametrize(
    ("dtype", "alpha"),
    [(np.uint8, False), (np.uint8, True), (np.uint16, False), (np.uint16, True), (np.int16, False)],
)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_tiff_in_which_zero_is_white(tmp_path: Path, dtype: type, bits: int, alpha: bool) -> None:
    high = min(2**bits - 1, int(np.iinfo(dtype).max))
    grey = np.rint(GREY / 255 * high)
    grey[0, :2] = 0, high
    values = (high - grey).astype(dtype)
    if alpha:
        values = np.dstack([values, np.full_like(values, np.iinfo(dtype).max)])
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric="miniswhite", extrasamples=["unassalpha"] if alpha else None
    )

    pixels = read_pixels(tmp_path / "a.tif")

    assert np.abs(pixels - np.rint(grey / high * 255)).max() <= 1


def test_a_compressed_tiff_in_which_zero_is_white(tmp_path: Path) -> None:
    values = GREY.astype(np.uint16) * 257
    values[0, :2] = 0, 65535
    Image.fromarray(65535 - values).save(tmp_path / "a.tif", compression="tiff_lzw")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages.first.tags["PhotometricInterpretation"].overwrite(tifffile.PHOTOMETRIC.MINISWHITE)

    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), values // 257)


COMPRESSIONS = {"none": 1, "lzw": 5, "deflate": 8, "packbits": 32773}


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_compressed_deep_tiff(tmp_path: Path, channels: int, compression: str) -> None:
    values = PHOTO.astype(np.uint16) * 257
    values[0, 0] = 65535
    expected = PHOTO.copy()
    expected[0, 0] = 255
    if channels == 1:
        values, expected = values[..., 0], expected[..., 0]
    elif channels == 4:
        opacity = np.where(np.arange(WIDTH) < 20, 0, 65535).astype(np.uint16)[None].repeat(HEIGHT, 0)
        values = np.dstack([values, opacity])
        expected[:, :20] = 0
    stored = values if channels == 1 else values[..., [2, 1, 0, 3][:channels]]
    cv2.imwrite(str(tmp_path / "a.tif"), stored, [cv2.IMWRITE_TIFF_COMPRESSION, COMPRESSIONS[compression]])
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_compressed_deep_tiff(tmp_path: Path, orientation: int, compression: str | None) -> None:
    values = GREY.astype(np.uint16) * 257
    values[0, 0] = 65535
    expected = GREY.copy()
    expected[0, 0] = 255
    pixels = saved(tmp_path, "a.tif", values, compression=compression, tiffinfo={274: orientation})
    np.testing.assert_array_equal(pixels, turned(expected, orientation))


def test_what_a_compression_cannot_be_read_with_is_refused(tmp_path: Path) -> None:
    values = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_lzw")
    with pytest.raises(UnreadableImageError, match="cannot be decoded"):
        read_pixels(tmp_path / "a.tif")


def test_too_many_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((20, 30, 7), np.uint16), photometric="minisblack", planarconfig="contig"
    )
    with pytest.raises(UnreadableImageError, match="7 channels"):
        read_pixels(tmp_path / "a.tif")


def read_or_refuse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        pixels = read_pixels(path)
    except UnreadableImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2 or pixels.shape[2] == 3
    assert pixels.size > 0


SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(
    content=st.binary(max_size=400), suffix=st.sampled_from(sorted(PHOTO_SUFFIXES)), head=st.sampled_from(sorted(FILES))
)
def test_random_bytes(tmp_path: Path, content: bytes, suffix: str, head: str) -> None:
    read_or_refuse(tmp_path / f"a{suffix}", content)
    read_or_refuse(tmp_path / f"a{suffix}", FILES[head][:12] + content)


@settings(parent=SETTINGS, max_examples=300)
@given(
    kind=st.sampled_from(sorted(FILES)),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    in_head=st.booleans(),
)
def test_corrupted_files(tmp_path: Path, kind: str, changes: list[tuple[int, int]], in_head: bool) -> None:
    content = bytearray(FILES[kind])
    for place, value in changes:
        content[place % (min(200, len(content)) if in_head else len(content))] = value
    read_or_refuse(tmp_path / ("a.tif" if kind.startswith("TIFF") else "a.png"), bytes(content))


def as_nifti(folder: Path, values: NDArray[Any], name: str = "photo.nii.gz") -> NDArray[np.uint8]:
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])), folder / name)
    return read_pixels(folder / name)


COLUMNS_FIRST = PHOTO.swapaxes(0, 1)


@pytest.mark.parametrize(
    "values",
    [
        COLUMNS_FIRST,
        COLUMNS_FIRST[:, :, None],
        COLUMNS_FIRST[:, :, None, None],
        COLUMNS_FIRST.astype(np.float64),
        np.ascontiguousarray(COLUMNS_FIRST).view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0],
        np.ascontiguousarray(COLUMNS_FIRST).view([("R", "u1"), ("G", "u1"), ("B", "u1")]),
        np.dstack([COLUMNS_FIRST, np.full((WIDTH, HEIGHT), 255, np.uint8)]),
    ],
    ids=["slices", "vectors", "itk", "float", "rgb", "rgb slice", "rgba"],
)
def test_nifti_colours_are_read_untransposed(tmp_path: Path, values: NDArray[Any]) -> None:
    np.testing.assert_array_equal(as_nifti(tmp_path, values), PHOTO)


@pytest.mark.parametrize("name", ["scan.nii", "SCAN.NII.GZ"])
@pytest.mark.parametrize("values", [GREY.T, GREY.T[:, :, None]], ids=["plane", "slice"])
def test_grey_nifti(tmp_path: Path, name: str, values: NDArray[Any]) -> None:
    np.testing.assert_array_equal(as_nifti(tmp_path, values, name), GREY)


def test_nifti_written_by_itk(tmp_path: Path) -> None:
    path = str(tmp_path / "photo.nii.gz")
    itk.imwrite(itk.image_from_array(PHOTO, is_vector=True), path)
    np.testing.assert_array_equal(read_pixels(path), PHOTO)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((40, 30, 20), np.uint8), "a volume of shape"),
        (np.zeros((40, 30, 5, 3), np.uint8), "a volume of shape"),
        (np.zeros(40, np.uint8), "a volume of shape"),
        (np.full((40, 30), 0.5, np.float32), "pixels are of type float32"),
    ],
)
def test_nifti_that_is_no_picture(tmp_path: Path, values: NDArray[Any], reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        as_nifti(tmp_path, values)


def test_broken_nifti(tmp_path: Path) -> None:
    as_nifti(tmp_path, GREY.T)
    content = (tmp_path / "photo.nii.gz").read_bytes()
    for number, part in enumerate((content[: len(content) // 2], b"no NIfTI at all", content[:50])):
        path = tmp_path / f"broken{number}.nii.gz"
        path.write_bytes(part)
        with pytest.raises(UnreadableImageError, match="cannot be decoded"):
            read_pixels(path)
