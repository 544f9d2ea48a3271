from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd
from numpy.typing import NDArray

from common.phantoms import FundusPhantom
from common.phantoms import fundus_phantom as draw_phantom
from common.pixels import read_pixels
from common.readers import from_picture, to_picture
from common.transforms import FieldOfViewd, KeepInsided, find_field_of_view

Photo = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@lru_cache(maxsize=64)
def fundus_phantom(height: int, width: int, seed: int, field_of_view: Any) -> FundusPhantom:
    return draw_phantom(height, width, seed=seed, field_of_view=field_of_view)


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


def dice(a: Mask, b: Mask) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("field", ["round", "cut"])
@pytest.mark.parametrize("size", [(600, 600), (480, 720), (720, 500), (288, 288), (128, 160)])
def test_circle_of_phantom_is_found(field: Any, size: tuple[int, int]) -> None:
    phantom = fundus_phantom(*size, seed=sum(size), field_of_view=field)
    view = find_field_of_view(phantom.photo)
    assert view.found
    assert view.note == ""
    assert view.shape == size
    assert iou(view.mask(), phantom.field_of_view) > (0.98 if min(size) > 200 else 0.95)
    assert 2 * view.radius == pytest.approx(phantom.field_of_view_diameter, rel=0.03)


@pytest.mark.parametrize("size", [(400, 400), (300, 500), (64, 64)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_crop_without_circle_is_used_whole(size: tuple[int, int], seed: int) -> None:
    view = find_field_of_view(fundus_phantom(*size, seed=seed, field_of_view="none").photo)
    assert not view.found
    assert "no field of view found" in view.note
    assert view.mask().shape == size
    assert view.mask().all()
    assert view.box == (slice(0, size[0]), slice(0, size[1]))


def write_text(photo: Photo, rng: np.random.Generator) -> Photo:
    result = photo.copy()
    height, width = photo.shape[:2]
    scale = width / 900
    for text, (x, y) in {"L 03.04.2019": (0.01, 0.05), "OD 45": (0.82, 0.06), "12:30:11": (0.8, 0.98)}.items():
        place = (int(x * width), int(y * height))
        cv2.putText(result, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 2)
    return result


def make_dark(photo: Photo, rng: np.random.Generator) -> Photo:
    return (photo * 0.15).astype(np.uint8)


def compress(photo: Photo, rng: np.random.Generator) -> Photo:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], 1), np.uint8)


def add_noise(photo: Photo, rng: np.random.Generator) -> Photo:
    return np.clip(photo + rng.normal(6, 10, photo.shape), 0, 255).astype(np.uint8)


def add_haze(photo: Photo, rng: np.random.Generator) -> Photo:
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]] / photo.shape[1]
    glow = 25 * np.exp(-((x - 0.2) ** 2 + (y - 0.3) ** 2) / 0.35**2)
    return np.clip(photo + glow[..., None], 0, 255).astype(np.uint8)


def shade_one_side(photo: Photo, rng: np.random.Generator) -> Photo:
    return (photo * np.clip(1.3 * np.linspace(0, 1, photo.shape[1]), 0.06, 1)[:, None]).astype(np.uint8)


def add_notch(photo: Photo, rng: np.random.Generator) -> Photo:
    view = find_field_of_view(photo)
    reach = 0.72 * view.radius
    place = (int(view.center[1] + reach), int(view.center[0] - reach))
    return np.asarray(cv2.circle(photo.copy(), place, int(0.06 * view.radius), (140, 90, 50), -1), np.uint8)


def add_reflection(photo: Photo, rng: np.random.Generator) -> Photo:
    view = find_field_of_view(photo)
    distance = cv2.distanceTransform((~view.mask()).astype(np.uint8), cv2.DIST_L2, 5)
    x = np.arange(photo.shape[1])[None] > view.center[1] + 0.5 * view.radius
    light = 120 * np.exp(-distance / (0.01 * photo.shape[1])) * x * ~view.mask()
    return np.clip(photo + light[..., None], 0, 255).astype(np.uint8)


def make_white_outside(photo: Photo, rng: np.random.Generator) -> Photo:
    return np.where(find_field_of_view(photo).mask()[..., None], photo, np.uint8(255))


@pytest.mark.parametrize("field", ["round", "cut"])
@pytest.mark.parametrize(
    ("change", "least"),
    [
        (write_text, 0.98),
        (make_dark, 0.98),
        (lambda photo, rng: write_text(make_dark(photo, rng), rng), 0.98),
        (compress, 0.98),
        (add_noise, 0.98),
        (add_haze, 0.98),
        (shade_one_side, 0.97),
        (add_notch, 0.98),
        (add_reflection, 0.95),
        (make_white_outside, 0.95),
    ],
    ids=["text", "dark", "dark_text", "jpeg", "noise", "haze", "shade", "notch", "reflection", "white"],
)
def test_circle_is_found_in_a_poor_photo(field: Any, change: Callable[..., Photo], least: float) -> None:
    for seed, size in ((11, (576, 576)), (12, (512, 760))):
        phantom = fundus_phantom(*size, seed=seed, field_of_view=field)
        view = find_field_of_view(change(phantom.photo, np.random.default_rng(seed)))
        assert view.found, size
        assert iou(view.mask(), phantom.field_of_view) > least, size


@pytest.mark.parametrize("value", [0, 90, 255])
def test_even_picture_has_no_circle(value: int) -> None:
    assert not find_field_of_view(np.full((200, 260, 3), value, np.uint8)).found


def test_noise_and_thin_pictures_have_no_circle() -> None:
    rng = np.random.default_rng(0)
    for size in ((200, 200), (32, 128), (1, 1), (1, 300), (5, 5)):
        assert not find_field_of_view(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).found


@pytest.mark.parametrize(
    "photo", [np.zeros((20, 20), np.uint8), np.zeros((20, 20, 3)), np.zeros((20, 20, 4), np.uint8)]
)
def test_what_is_no_photo_is_refused(photo: Any) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\) of uint8"):
        find_field_of_view(photo)


def photos_in(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    assert found, f"{folder} has no {pattern}"
    return found


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "pattern", "truth", "least"),
    [
        ("CHASE_DB1", "*.jpg", "fov/{}.png", 0.99),
        ("HRF", "images/*", "mask/{}_mask.png", 0.99),
    ],
)
def test_circle_of_real_photos_agrees_with_truth(
    real_folder: Callable[[str], Path], folder: str, pattern: str, truth: str, least: float
) -> None:
    root = real_folder(folder)
    scores = []
    for path in photos_in(root, pattern)[::2]:
        mask = read_pixels(root / truth.format(path.stem))
        scores.append(
            iou(find_field_of_view(read_pixels(path)).mask(), mask.reshape(*mask.shape[:2], -1)[..., 0] > 127)
        )
    assert np.mean(scores) > least
    assert min(scores) > 0.98


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("folder", "pattern", "step", "least"),
    [
        ("FIVES_subset20", "images/*", 2, 1.0),
        ("Drishti-GS1", "images/*", 4, 1.0),
        ("IDRiD", "B. Disease Grading/1. Original Images/*/*.jpg", 12, 0.95),
        ("ODIR-5K", "preprocessed_images/*", 60, 0.9),
    ],
)
def test_share_of_real_photos_with_a_circle(
    real_folder: Callable[[str], Path], folder: str, pattern: str, step: int, least: float
) -> None:
    photos = photos_in(real_folder(folder), pattern)[::step]
    assert np.mean([find_field_of_view(read_pixels(path)).found for path in photos]) >= least


@pytest.mark.real_data
def test_optic_disc_is_not_taken_for_the_circle(real_folder: Callable[[str], Path]) -> None:
    photos = photos_in(real_folder("REFUGE_crop512"), "images/*")[::3]
    views = [find_field_of_view(read_pixels(path)) for path in photos]
    assert np.mean([view.found for view in views]) <= 0.02


def sample(field: Any, size: tuple[int, int] = (420, 610), seed: int = 5) -> tuple[dict[str, Any], Any]:
    phantom = fundus_phantom(*size, seed=seed, field_of_view=field)
    data = {
        "image": MetaTensor(torch.as_tensor(from_picture(phantom.photo))),
        "label": MetaTensor(torch.as_tensor(from_picture(phantom.disc.astype(np.float32)))),
    }
    return data, phantom


@pytest.mark.parametrize("size", [(420, 610), (610, 420)])
def test_circle_gets_the_canonical_diameter(size: tuple[int, int]) -> None:
    data, phantom = sample("round", size)
    result = FieldOfViewd(["image", "label"], diameter=300)(data)
    assert result["image"].shape == (3, 300, 300)
    assert result["label"].shape == (1, 300, 300)
    assert result["image"].dtype == torch.uint8
    assert result["note"] == ""
    assert iou(to_picture(result["fov"]) > 0, phantom.field_of_view) > 0.98
    picture = to_picture(result["image"])
    assert find_field_of_view(picture).radius == pytest.approx(150, rel=0.03)
    # The disc is where the scaled picture shows it: image and label were moved alike.
    scale = 300 / phantom.field_of_view_diameter
    rows, columns = np.nonzero(to_picture(result["label"]) > 0.5)
    middle = np.array(to_picture(result["image"]).shape[:2]) / 2
    center = np.argwhere(phantom.field_of_view).mean(axis=0)
    expected = (np.array(phantom.disc_center) - center) * scale + middle
    assert np.abs([rows.mean(), columns.mean()] - expected).max() < 4


@pytest.mark.parametrize("field", ["round", "cut", "none"])
@pytest.mark.parametrize("size", [(420, 610), (610, 420)])
@pytest.mark.parametrize("diameter", [256, 900])
def test_inverse_returns_to_the_own_size(field: Any, size: tuple[int, int], diameter: int) -> None:
    data, phantom = sample(field, size)
    transform = FieldOfViewd(["image", "label"], diameter=diameter)
    changed = transform(data)
    assert max(changed["image"].shape[1:]) <= diameter
    returned = transform.inverse(changed)
    assert returned["label"].shape == (1, size[1], size[0])
    assert returned["image"].shape == (3, size[1], size[0])
    assert dice(to_picture(returned["label"]) > 0.5, phantom.disc) > 0.97
    assert returned["label"].applied_operations == []
    inside = find_field_of_view(phantom.photo).mask()
    error = np.abs(to_picture(returned["image"]).astype(float) - phantom.photo)[inside]
    assert error.mean() < 6


def test_cut_circle_keeps_its_scale() -> None:
    data, phantom = sample("cut", (400, 640))
    result = FieldOfViewd("image", diameter=300)(data)
    width, height = result["image"].shape[1:]
    assert width == 300
    visible = np.ptp(np.nonzero(phantom.field_of_view.any(axis=1))[0]) + 1
    assert height == pytest.approx(visible * 300 / phantom.field_of_view_diameter, abs=4)


def test_no_circle_leaves_a_note_and_the_whole_frame() -> None:
    data, _ = sample("none", (300, 400))
    result = FieldOfViewd("image", diameter=200)({**data, "note": "earlier"})
    assert result["note"] == "earlier; no field of view found: the whole frame is used"
    assert result["image"].shape == (3, 200, 150)
    assert (result["fov"] == 1).all()


def test_marks_outside_are_blanked_unless_asked() -> None:
    phantom = fundus_phantom(400, 600, seed=3, field_of_view="round")
    photo = write_text(phantom.photo, np.random.default_rng(0))
    data = {"image": MetaTensor(torch.as_tensor(from_picture(photo)))}
    outside = ~cv2.erode(phantom.field_of_view.astype(np.uint8), np.ones((3, 3))).astype(bool)
    outside &= ~cv2.dilate(phantom.field_of_view.astype(np.uint8), np.ones((9, 9))).astype(bool)
    blank = FieldOfViewd("image", diameter=400)
    assert (to_picture(blank.inverse(blank(data))["image"])[outside] == 0).all()
    kept = FieldOfViewd("image", diameter=400, blank=False)(data)
    assert kept["image"].float().mean() >= blank(data)["image"].float().mean()


def test_given_field_of_view_is_kept() -> None:
    data, _ = sample("round")
    given = torch.ones(1, 610, 420)
    assert FieldOfViewd("image")({**data, "fov": given})["fov"] is given


@pytest.mark.parametrize("field", ["round", "cut", "none"])
def test_prediction_returns_through_invertd(field: Any) -> None:
    data, phantom = sample(field)
    preprocessing = Compose([FieldOfViewd(["image", "label"], diameter=512, mode=["area", "nearest"])])
    changed = preprocessing(data)
    # What a network gives is a plain tensor: only the input knows how it came about.
    changed["pred"] = MetaTensor(changed["label"].as_tensor().float().clone())
    inverted = Invertd("pred", preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True)(changed)
    assert inverted["pred"].shape == (1, 610, 420)
    assert dice(to_picture(inverted["pred"]) > 0.5, phantom.disc) > 0.97


def test_axes_are_never_exchanged() -> None:
    phantom = fundus_phantom(300, 500, seed=1, field_of_view="none")
    label = np.zeros((300, 500), np.float32)
    label[20:60, 30:200] = 1
    data = {
        "image": MetaTensor(torch.as_tensor(from_picture(phantom.photo))),
        "label": MetaTensor(torch.as_tensor(from_picture(label))),
    }
    transform = FieldOfViewd(["image", "label"], diameter=250)
    changed = transform(data)
    assert changed["label"].shape == (1, 250, 150)
    half = to_picture(changed["label"]) > 0.5
    rows, columns = np.nonzero(half)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 29, 15, 99)
    np.testing.assert_array_equal(to_picture(transform.inverse(changed)["label"]) > 0.5, label > 0)


@pytest.mark.parametrize("settings", [{"mode": "cubic"}, {"mode": ["area", "area"]}, {"diameter": 8}])
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"mode is|diameter is"):
        FieldOfViewd("image", **settings)


def test_keep_inside() -> None:
    fov = torch.zeros(1, 6, 4, dtype=torch.uint8)
    fov[:, 2:4] = 1
    values: Any = MetaTensor(torch.rand(2, 6, 4) + 0.5)
    result = KeepInsided("pred")({"pred": values, "fov": fov})["pred"]
    assert (result[:, :2] == 0).all()
    assert (result[:, 4:] == 0).all()
    assert torch.equal(result[:, 2:4].as_tensor(), values[:, 2:4].as_tensor())
