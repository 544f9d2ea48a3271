from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from common.errors import SettingError
from common.phantoms import FundusPhantom, fundus_phantom, write_fundus_phantoms
from common.phantoms.fundus import FieldOfView

Mask = NDArray[np.bool_]
MASKS = ("field_of_view", "vessel", "artery", "vein", "disc", "cup", "exudate", "haemorrhage")
EIGHT_NEIGHBOURS = np.ones((3, 3))
KINDS: tuple[FieldOfView, ...] = get_args(FieldOfView)


def dice(a: Mask, b: Mask) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def assert_same(first: FundusPhantom, second: FundusPhantom) -> None:
    for part in fields(FundusPhantom):
        np.testing.assert_array_equal(getattr(first, part.name), getattr(second, part.name), err_msg=part.name)


def assert_consistent(phantom: FundusPhantom, shape: tuple[int, int]) -> None:
    assert phantom.photo.shape == (*shape, 3)
    assert phantom.photo.dtype == np.uint8
    for name in MASKS:
        mask = getattr(phantom, name)
        assert mask.shape == shape, name
        assert mask.dtype == bool, name
        assert not (mask & ~phantom.field_of_view).any(), name
    np.testing.assert_array_equal(phantom.vessel, phantom.artery | phantom.vein)
    assert not (phantom.cup & ~phantom.disc).any()
    assert phantom.artery.any()
    assert phantom.vein.any()
    assert phantom.cup.any()
    assert phantom.disc.sum() > phantom.cup.sum()


@pytest.fixture(scope="module")
def phantom() -> FundusPhantom:
    return fundus_phantom(448, 512, seed=7, exudates=3, haemorrhages=6)


def test_same_seed_gives_same_phantom(phantom: FundusPhantom) -> None:
    assert_same(phantom, fundus_phantom(448, 512, seed=7, exudates=3, haemorrhages=6))


def test_seeds_give_different_eyes(phantom: FundusPhantom) -> None:
    other = fundus_phantom(448, 512, seed=8)
    assert dice(phantom.vessel, other.vessel) < 0.5
    assert phantom.fovea != other.fovea


def test_seeds_give_both_eyes_and_a_range_of_colours() -> None:
    phantoms = [fundus_phantom(128, 128, seed=seed) for seed in range(10)]
    reds = [float(phantom.photo[phantom.field_of_view, 0].mean()) for phantom in phantoms]
    assert {phantom.eye for phantom in phantoms} == {"OD", "OS"}
    assert max(reds) - min(reds) > 30


@pytest.mark.parametrize("field_of_view", KINDS)
@pytest.mark.parametrize("shape", [(256, 320), (320, 256), (301, 301)])
def test_masks_are_consistent(shape: tuple[int, int], field_of_view: FieldOfView) -> None:
    phantom = fundus_phantom(*shape, seed=3, field_of_view=field_of_view, exudates=2, haemorrhages=3)
    assert_consistent(phantom, shape)
    row, column = phantom.disc_center
    assert phantom.disc[round(row), round(column)]


@settings(max_examples=12, deadline=None)
@given(
    height=st.integers(64, 260),
    width=st.integers(64, 260),
    seed=st.integers(0, 2**32),
    field_of_view=st.sampled_from(KINDS),
)
def test_any_size_and_seed(height: int, width: int, seed: int, field_of_view: FieldOfView) -> None:
    phantom = fundus_phantom(height, width, seed=seed, field_of_view=field_of_view)
    assert_consistent(phantom, (height, width))


def test_round_field_is_a_whole_circle() -> None:
    phantom = fundus_phantom(300, 400, seed=0, field_of_view="round")
    rows, columns = np.nonzero(phantom.field_of_view)
    assert np.ptp(rows) == pytest.approx(phantom.field_of_view_diameter, abs=2)
    assert np.ptp(columns) == pytest.approx(phantom.field_of_view_diameter, abs=2)
    circle = math.pi / 4 * phantom.field_of_view_diameter**2
    assert phantom.field_of_view.sum() == pytest.approx(circle, rel=0.01)
    assert phantom.photo[~ndimage.binary_dilation(phantom.field_of_view, iterations=9)].max() < 24


def test_cut_field_lacks_top_and_bottom() -> None:
    phantom = fundus_phantom(300, 300, seed=1, field_of_view="cut")
    rows, columns = np.nonzero(phantom.field_of_view)
    assert np.ptp(columns) == pytest.approx(phantom.field_of_view_diameter, abs=2)
    assert np.ptp(rows) < 0.85 * phantom.field_of_view_diameter
    assert phantom.field_of_view[rows.min()].sum() > 0.5 * phantom.field_of_view_diameter


def test_crop_fills_the_frame() -> None:
    phantom = fundus_phantom(300, 300, seed=1, field_of_view="none")
    assert phantom.field_of_view.all()
    assert phantom.photo[..., 0].min() > 24


@pytest.mark.parametrize("shape", [(512, 128), (128, 512)])
def test_narrow_crop_shows_the_whole_disc(shape: tuple[int, int]) -> None:
    phantom = fundus_phantom(*shape, seed=2, field_of_view="none")
    vertical, horizontal = phantom.disc_diameters
    assert phantom.disc.sum() == pytest.approx(math.pi / 4 * vertical * horizontal, rel=0.02)


def test_same_eye_at_two_sizes() -> None:
    small, large = (fundus_phantom(side, side, seed=11, exudates=3, haemorrhages=5) for side in (512, 1024))
    for name in MASKS:
        shrunk = cv2.resize(getattr(large, name).astype(np.float32), (512, 512), interpolation=cv2.INTER_AREA) >= 0.5
        assert dice(shrunk, getattr(small, name)) > 0.8, name
    np.testing.assert_allclose((np.asarray(large.fovea) + 0.5) / 2, np.asarray(small.fovea) + 0.5)
    shrunk_photo = cv2.resize(large.photo, (512, 512), interpolation=cv2.INTER_AREA)
    correlation = np.corrcoef(shrunk_photo[..., 1].ravel(), small.photo[..., 1].ravel())[0, 1]
    assert correlation > 0.97


def test_lesions_leave_the_eye_as_it_is(phantom: FundusPhantom) -> None:
    healthy = fundus_phantom(448, 512, seed=7)
    for name in ("field_of_view", "artery", "vein", "disc", "cup"):
        np.testing.assert_array_equal(getattr(healthy, name), getattr(phantom, name), err_msg=name)
    assert not healthy.exudate.any()
    assert not healthy.haemorrhage.any()


@pytest.mark.parametrize("field_of_view", KINDS)
def test_lesion_counts(field_of_view: FieldOfView) -> None:
    for seed in range(4):
        phantom = fundus_phantom(256, 320, seed=seed, field_of_view=field_of_view, exudates=3, haemorrhages=7)
        assert ndimage.label(phantom.haemorrhage, EIGHT_NEIGHBOURS)[1] == 7
        assert ndimage.label(phantom.exudate, EIGHT_NEIGHBOURS)[1] >= 3
        assert not (phantom.disc & (phantom.haemorrhage | phantom.exudate)).any()


def test_eye_decides_the_side_of_the_disc() -> None:
    right, left = (fundus_phantom(256, 256, seed=5, eye=eye) for eye in ("OD", "OS"))
    assert right.disc_center[1] > right.fovea[1]
    assert left.disc_center[1] < left.fovea[1]
    assert dice(right.vessel[:, ::-1], left.vessel) > 0.95


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.9])
def test_cup_to_disc_ratio(ratio: float) -> None:
    phantom = fundus_phantom(768, 768, seed=4, cup_to_disc=ratio)
    heights = {name: np.ptp(np.nonzero(getattr(phantom, name))[0]) + 1 for name in ("cup", "disc")}
    assert phantom.cup_to_disc == pytest.approx(ratio)
    assert heights["disc"] == pytest.approx(phantom.disc_diameters[0], abs=1.5)
    assert heights["cup"] == pytest.approx(phantom.cup_diameters[0], abs=1.5)


@pytest.mark.parametrize("seed", range(6))
def test_photo_shows_what_the_masks_say(seed: int) -> None:
    phantom = fundus_phantom(512, 512, seed=seed, exudates=3, haemorrhages=5)
    green = phantom.photo[..., 1].astype(float)
    lesion_or_disc = ndimage.binary_dilation(phantom.exudate | phantom.haemorrhage | phantom.disc, iterations=8)
    retina = phantom.field_of_view & ~lesion_or_disc

    def contrast(mask: Mask) -> float:
        """Mean green of a structure relative to that of its surroundings."""
        inside = mask & retina
        around = ndimage.binary_dilation(inside, iterations=6) & retina & ~ndimage.binary_dilation(phantom.vessel)
        return float(green[inside].mean() / green[around].mean())

    assert 0.55 < contrast(phantom.vein) < 0.85
    assert 0.6 < contrast(phantom.artery) < 0.9
    background = float(green[retina & ~phantom.vessel].mean())
    bare_disc = phantom.disc & ~ndimage.binary_dilation(phantom.vessel, iterations=2)
    assert green[bare_disc].mean() > 1.3 * background
    assert green[bare_disc & phantom.cup].mean() > green[bare_disc & ~phantom.cup].mean()
    assert green[phantom.exudate & ~phantom.vessel].mean() > 1.3 * background
    assert green[phantom.haemorrhage].mean() < 0.7 * background
    rows, columns = np.indices(green.shape)
    from_fovea = np.hypot(rows - phantom.fovea[0], columns - phantom.fovea[1]) / phantom.field_of_view_diameter
    plain = retina & ~ndimage.binary_dilation(phantom.vessel, iterations=2)
    assert green[plain & (from_fovea < 0.02)].mean() < green[plain & (from_fovea > 0.15) & (from_fovea < 0.25)].mean()


@pytest.mark.parametrize("field_of_view", KINDS)
def test_vessel_density_and_widths_are_those_of_real_photos(field_of_view: FieldOfView) -> None:
    for seed in range(4):
        phantom = fundus_phantom(768, 768, seed=seed, field_of_view=field_of_view)
        density = phantom.vessel.sum() / phantom.field_of_view.sum()
        assert 0.06 < density < 0.16, seed
        # Away from the disc, where vessels overlap.
        rows, columns = np.indices(phantom.vein.shape)
        from_disc = np.hypot(rows - phantom.disc_center[0], columns - phantom.disc_center[1])
        widths = 2 * ndimage.distance_transform_edt(phantom.vein) * (from_disc > 1.5 * phantom.disc_diameters[0])
        assert 0.009 < widths.max() / phantom.field_of_view_diameter < 0.030, seed


def test_noise_and_blur_change_the_photo_alone() -> None:
    clean, noisy = (fundus_phantom(256, 256, seed=6, noise=noise) for noise in (0.0, 0.06))
    sharp, blurred = (fundus_phantom(256, 256, seed=6, noise=0.0, blur=blur) for blur in (0.0, 0.01))
    grain = (noisy.photo.astype(float) - clean.photo)[clean.field_of_view, 0] / 255
    brightness = clean.photo[clean.field_of_view, 0].mean() / 255
    assert grain.std() == pytest.approx(0.06 * math.sqrt(brightness), rel=0.35)
    edges = [float(cv2.Sobel(p.photo[..., 1], cv2.CV_32F, 1, 0).std()) for p in (sharp, blurred)]
    assert edges[1] < 0.8 * edges[0]
    for other in (noisy, sharp, blurred):
        np.testing.assert_array_equal(other.vessel, clean.vessel)


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 32},
        {"width": 10},
        {"seed": -1},
        {"field_of_view": "square"},
        {"eye": "left"},
        {"exudates": -1},
        {"haemorrhages": 2000},
        {"noise": -0.1},
        {"blur": 3.0},
        {"cup_to_disc": 1.2},
    ],
)
def test_wrong_setting_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"'{next(iter(wrong))}'"):
        fundus_phantom(**{"height": 128, "width": 128, **wrong})


def read(path: Path) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), dtype=np.uint8)


def test_written_data_set(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sizes = ((128, 160), (144, 144), (160, 128))
    folder = write_fundus_phantoms(tmp_path / "new" / "set", 6, seed=40, sizes=sizes)
    assert capfd.readouterr() == ("", "")
    assert folder == tmp_path / "new" / "set"
    photos = sorted((folder / "image").iterdir())
    assert [photo.stem for photo in photos] == [f"phantom_{index:03d}" for index in range(6)]
    assert {photo.suffix for photo in photos} == {".png", ".jpg"}
    for index, photo in enumerate(photos):
        assert read(photo).shape == (*sizes[index % 3], 3)
        for name in ("mask", "disc", "cup", "exudate", "haemorrhage", "fov"):
            mask = read(folder / name / f"{photo.stem}.png")
            assert mask.shape == sizes[index % 3]
            assert set(np.unique(mask)) <= {0, 255}
            is_lesion = name in ("exudate", "haemorrhage")
            assert mask.any() == (not is_lesion or index % 2 == 1), (name, index)


def test_written_files_are_the_phantom(tmp_path: Path) -> None:
    folder = write_fundus_phantoms(
        tmp_path, 1, seed=40, sizes=[(128, 160)], fields_of_view=["cut"], photo_suffixes=[".png"], with_lesions=False
    )
    phantom = fundus_phantom(128, 160, seed=40, field_of_view="cut", eye="OD")
    np.testing.assert_array_equal(read(folder / "image" / "phantom_000.png")[..., ::-1], phantom.photo)
    np.testing.assert_array_equal(read(folder / "mask" / "phantom_000.png") == 255, phantom.vessel)
    np.testing.assert_array_equal(read(folder / "fov" / "phantom_000.png") == 255, phantom.field_of_view)


@pytest.mark.parametrize("wrong", [{"count": 0}, {"sizes": []}, {"photo_suffixes": [".tif"]}])
def test_wrong_setting_of_the_data_set_is_named(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=f"'{next(iter(wrong))}'"):
        write_fundus_phantoms(tmp_path, **wrong)
    assert not list(tmp_path.iterdir())
