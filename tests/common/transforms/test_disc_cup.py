from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from common.errors import SettingError, UnreadableImageError
from common.readers import to_picture
from common.transforms import (
    DiscCupBiomarkersd,
    DiscCupMasksd,
    LoadDiscCupd,
    MarkUnannotatedd,
    RandCupSized,
    RandDiscViewsd,
    crop_square,
    disc_cup_masks,
    resized_cup,
)


def disk(height: int, width: int, x: int, y: int, radius: int) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (x, y), radius, 1, cv2.FILLED)
    return mask


@pytest.fixture
def truth() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Disc and cup on a photo that is not square."""
    return disk(60, 90, 30, 25, 15), disk(60, 90, 33, 25, 7)


@pytest.fixture
def photo() -> MetaTensor:
    return MetaTensor(torch.zeros(3, 90, 60, dtype=torch.uint8))


def written(path: Path, values: NDArray[Any]) -> str:
    assert cv2.imwrite(str(path), values)
    return str(path)


def test_every_convention_gives_the_same_label(
    truth: tuple[NDArray[np.uint8], NDArray[np.uint8]], photo: MetaTensor, tmp_path: Path
) -> None:
    disc, cup = truth
    refuge = np.where(cup > 0, 0, np.where(disc > 0, 128, 255)).astype(np.uint8)
    soft = [np.where(mask > 0, 191, 128).astype(np.uint8) for mask in truth]
    items: list[dict[str, Any]] = [
        {"label_format": "refuge", "label": written(tmp_path / "refuge.bmp", refuge)},
        {"label_format": "rim1_cup2", "label": written(tmp_path / "drishti.png", disc + cup)},
        {
            "label_format": "masks",
            "disc": written(tmp_path / "disc.png", disc * 255),
            "cup": written(tmp_path / "cup.png", cup),
        },
        {
            "label_format": "softmaps",
            "min_value": 190,
            "disc": written(tmp_path / "soft_disc.png", soft[0]),
            "cup": written(tmp_path / "soft_cup.png", soft[1]),
        },
        {  # red on black, as IDRiD's are
            "label_format": "masks",
            "disc": written(tmp_path / "red.png", np.stack([0 * disc, 0 * disc, disc * 76], axis=-1)),
            "cup": written(tmp_path / "cup.png", cup),
        },
    ]
    for item in items:
        loaded = LoadDiscCupd("label")({"image": photo, **item})
        label = loaded["label"]
        assert label.shape == (2, 90, 60)
        assert label.dtype == torch.uint8
        np.testing.assert_array_equal(to_picture(label[[0]]), disc * 255)
        np.testing.assert_array_equal(to_picture(label[[1]]), cup * 255)
        assert loaded["annotated"].tolist() == [True, True]


def test_a_cup_that_was_not_annotated_is_marked(
    truth: tuple[NDArray[np.uint8], NDArray[np.uint8]], photo: MetaTensor, tmp_path: Path
) -> None:
    item = {"image": photo, "label_format": "masks", "disc": written(tmp_path / "disc.png", truth[0] * 255)}
    loaded = LoadDiscCupd("label")(item)
    assert loaded["annotated"].tolist() == [True, False]
    marked = MarkUnannotatedd("label")({**loaded, "label": loaded["label"].float() / 255})["label"]

    assert (marked[1] == -1).all()
    np.testing.assert_array_equal(to_picture(marked[[0]]), truth[0])


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"label_format": "other", "label": "mask.png"}, "label_format 'other'"),
        ({"label": "mask.png"}, "label_format None"),
        ({"label_format": "refuge", "label": "grey.png"}, r"grey.png has the grey values \[7\]"),
        ({"label_format": "masks", "disc": "grey.png"}, "grey.png is not binary"),
        ({"label_format": "softmaps", "disc": "grey.png"}, "without a whole number min_value"),
        ({"label_format": "masks", "disc": "small.png"}, "small.png has 10x8 pixels, its photo 90x60"),
        ({"label_format": "masks", "disc": "empty.png", "cup": "small.png"}, "small.png has 10x8 pixels"),
        ({"label_format": "masks", "cup": "empty.png"}, "item of a.jpg has no 'disc', which 'masks' needs"),
        ({"label_format": "refuge", "disc": "empty.png"}, "item of a.jpg has no 'label', which 'refuge' needs"),
    ],
)
def test_a_wrong_label_is_named(item: dict[str, Any], text: str, photo: MetaTensor, tmp_path: Path) -> None:
    grey = np.zeros((60, 90), np.uint8)
    grey[:2], grey[5:9] = 7, 128
    written(tmp_path / "grey.png", grey)
    written(tmp_path / "small.png", np.zeros((8, 10), np.uint8))
    written(tmp_path / "empty.png", np.zeros((60, 90), np.uint8))
    paths = {key: str(tmp_path / value) for key, value in item.items() if key in ("label", "disc", "cup")}

    with pytest.raises(SettingError, match=text):
        LoadDiscCupd("label")({"image": photo, "name": "a.jpg", **item, **paths})


def test_a_file_that_cannot_be_read_is_named(photo: MetaTensor, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(UnreadableImageError, match=re.escape(str(tmp_path / "broken.png"))):
        LoadDiscCupd("label")({"image": photo, "label_format": "refuge", "label": str(tmp_path / "broken.png")})


def test_a_square_may_reach_beyond_the_image() -> None:
    image = torch.arange(12).reshape(1, 3, 4)

    assert crop_square(image, 1, 1, 2).tolist() == [[[5, 6], [9, 10]]]
    assert crop_square(image, -1, 2, 3).tolist() == [[[0, 0, 0], [2, 3, 0], [6, 7, 0]]]
    assert crop_square(image, -1, 2, 3, fill=-1).tolist() == [[[-1, -1, -1], [2, 3, -1], [6, 7, -1]]]
    assert not crop_square(image, 10, 10, 2).any()


def test_views_keep_image_and_label_together_and_hold_the_disc() -> None:
    disc = torch.as_tensor(np.ascontiguousarray(disk(300, 400, 120, 200, 30).T)) * 255
    image = disc[None].repeat(3, 1, 1)
    views = RandDiscViewsd(["image", "label"], size=64, num_samples=40, whole=0.5, elsewhere=0.0)
    views.set_random_state(0)
    made = views({"image": MetaTensor(image), "label": MetaTensor(torch.stack([disc, disc])), "name": "a"})

    assert len(made) == 40
    shares = []
    for view in made:
        assert view["image"].shape == (3, 64, 64)
        assert view["image"].dtype == torch.float32
        torch.testing.assert_close(view["image"][0], view["label"][0])
        assert view["name"] == "a"
        assert (view["label"][0] > 127).any()
        shares.append(float((view["label"][0] > 127).float().mean()))
    whole = np.pi * 30**2 / 400**2
    assert 0.3 < np.mean([share < 2 * whole for share in shares]) < 0.7
    assert max(shares) > 10 * whole


def test_some_views_lie_elsewhere() -> None:
    disc = torch.as_tensor(np.ascontiguousarray(disk(300, 400, 120, 200, 20).T)) * 255
    views = RandDiscViewsd(["image", "label"], size=32, num_samples=60, whole=0.0, elsewhere=0.5)
    views.set_random_state(0)
    made = views({"image": disc[None].repeat(3, 1, 1), "label": torch.stack([disc, disc])})

    without = [not (view["label"] > 127).any() for view in made]
    assert 0.25 < np.mean(without) < 0.6


def test_views_of_a_photo_without_a_disc_show_the_whole_of_it() -> None:
    views = RandDiscViewsd(["image", "label"], size=32, whole=0.0)
    views.set_random_state(0)
    (view,) = views({"image": torch.full((3, 80, 60), 255), "label": torch.zeros(2, 80, 60)})

    assert 0.5 < float((view["image"] > 127).float().mean()) < 0.95


def tilted_disc(ratio: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """An image that shows the label, and the label: a tilted ellipse, and a cup in it with a part of its half axes."""
    label = np.zeros((150, 200, 2), np.float32)
    for channel, share in ((0, 1.0), (1, ratio)):
        plane = np.zeros((150, 200), np.uint8)
        cv2.ellipse(plane, ((95.0, 70.0), (share * 80.0, share * 100.0), 30.0), 1, cv2.FILLED)
        label[..., channel] = plane
    return np.stack([label[..., 0], label[..., 1], np.ones((150, 200), np.float32)], axis=-1), label


@pytest.mark.parametrize("factor", [0.7, 0.9, 1.0, 1.2])
def test_a_cup_gets_another_size_and_the_disc_stays(factor: float) -> None:
    image, label = tilted_disc(0.6)

    new_image, new_label = resized_cup(image, label, factor)

    # What is seen and what is marked stay together, but for the steps in which OpenCV interpolates.
    np.testing.assert_allclose(new_image[..., :2], new_label, atol=0.05)
    masks = new_label > 0.5
    assert np.sqrt(masks[..., 1].sum() / masks[..., 0].sum()) == pytest.approx(0.6 * factor, abs=0.01)
    changed = masks[..., 0] != (label[..., 0] > 0.5)
    assert changed.sum() < 0.01 * masks[..., 0].sum()
    wanted = tilted_disc(0.6 * factor)[1][..., 1] > 0.5
    assert (masks[..., 1] != wanted).sum() < 0.05 * wanted.sum()
    if factor == 1.0:
        np.testing.assert_allclose(new_image, image, atol=1e-4)


@pytest.mark.parametrize(("factor", "ratio"), [(0.1, 0.6), (3.0, 0.9)])
def test_a_neuroretinal_rim_gets_at_most_twice_and_at_least_half_of_its_width(factor: float, ratio: float) -> None:
    image, label = tilted_disc(0.8)

    masks = resized_cup(image, label, factor)[1] > 0.5

    assert np.sqrt(masks[..., 1].sum() / masks[..., 0].sum()) == pytest.approx(ratio, abs=0.01)


def test_without_a_whole_disc_and_a_cup_nothing_is_resized() -> None:
    image, label = tilted_disc(0.6)
    without = label * np.array([1, 0], np.float32)
    cut = label[:80]

    assert resized_cup(image, without, 0.8)[0] is image
    assert resized_cup(image[:80], cut, 0.8)[1] is cut


def test_near_the_edge_of_the_image_nothing_becomes_black() -> None:
    image, label = (np.ascontiguousarray(part[20:, 49:]) for part in tilted_disc(0.6))
    assert (label[:, 5, 0] > 0.5).any()  # the disc is beside the edge

    moved = resized_cup(image, label, 1.3)[0]

    assert not np.array_equal(moved, image)
    np.testing.assert_allclose(moved[..., 2], 1, atol=1e-6)


@pytest.mark.parametrize("factor", [(0.0, 1.2), (1.2, 0.8), (0.5,)])
def test_factors_that_are_none_are_refused(factor: tuple[float, ...]) -> None:
    with pytest.raises(SettingError, match="the least and the largest, above 0"):
        RandCupSized(["image", "label"], factor=factor)


def test_cups_are_resized_at_random_and_reproducibly() -> None:
    image, label = (torch.as_tensor(part.transpose(2, 1, 0).copy()) for part in tilted_disc(0.6))
    item = {"image": MetaTensor(image, meta={"filename_or_obj": "eye.png"}), "label": label}
    transform = RandCupSized(["image", "label"], prob=0.5, factor=(0.7, 1.2))
    transform.set_random_state(3)

    drawn = [transform(item) for _ in range(30)]

    ratios = np.array([float((d["label"][1] > 0.5).sum() / (d["label"][0] > 0.5).sum()) ** 0.5 for d in drawn])
    same = [torch.equal(d["label"], label) for d in drawn]
    assert 5 < sum(same) < 25
    assert 0.6 * 0.68 < ratios.min() < 0.5
    assert 0.65 < ratios.max() < 0.6 * 1.22
    assert drawn[0]["image"].meta["filename_or_obj"] == "eye.png"
    transform.set_random_state(3)
    assert torch.equal(transform(item)["image"], drawn[0]["image"])


def test_masks_are_one_part_without_holes_and_the_cup_is_inside() -> None:
    probability = np.zeros((2, 100, 120), np.float32)
    probability[0] = disk(100, 120, 60, 50, 30) * 0.9
    probability[0, 45:50, 55:60] = 0.1  # a hole
    probability[0, 5:10, 5:10] = 0.9  # a second part
    probability[1] = disk(100, 120, 85, 50, 12) * 0.8  # reaches out of the disc
    disc, cup = disc_cup_masks(probability)

    np.testing.assert_array_equal(disc, disk(100, 120, 60, 50, 30) > 0)
    np.testing.assert_array_equal(cup, (disk(100, 120, 85, 50, 12) > 0) & disc)


def test_an_ellipse_replaces_a_ragged_outline() -> None:
    probability = np.stack([disk(100, 120, 60, 50, 30), disk(100, 120, 60, 50, 12)]).astype(np.float32)
    smooth = disc_cup_masks(probability)
    probability[0, 50:53, 60:95] = 1  # a spike
    disc, cup = disc_cup_masks(probability, ellipse=True)

    assert np.count_nonzero(disc ^ smooth[0]) < 0.06 * np.count_nonzero(smooth[0])
    assert np.count_nonzero(cup ^ smooth[1]) < 0.06 * np.count_nonzero(smooth[1])
    assert not (cup & ~disc).any()


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("cut", [140, 170, 200])
def test_an_ellipse_of_a_disc_that_the_edge_of_the_photo_cuts_off(turns: int, cut: int) -> None:
    whole = np.zeros((2, 200, 400), np.uint8)
    for layer, size in zip(whole, ((120, 90), (80, 60)), strict=True):
        cv2.ellipse(layer, ((190, 100), size, 20), 1, cv2.FILLED)
    seen = np.rot90(whole[:, :, cut:], turns, axes=(1, 2)).copy()
    masks = disc_cup_masks(seen.astype(np.float32), ellipse=True)

    for mask, truth in zip(masks, seen > 0, strict=True):
        assert 2 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth)) > 0.99


def test_what_fills_the_whole_photo_has_no_ellipse() -> None:
    assert disc_cup_masks(np.ones((2, 40, 50), np.float32), ellipse=True).all()


def test_no_disc_means_no_cup() -> None:
    probability = np.zeros((2, 40, 50), np.float32)
    probability[1, 10:20, 10:20] = 1

    assert not disc_cup_masks(probability).any()


def test_the_transform_equals_the_function_on_swapped_axes() -> None:
    probability = torch.rand(2, 50, 40, generator=torch.Generator().manual_seed(0))
    found = DiscCupMasksd("pred", 0.6)({"pred": MetaTensor(probability)})["pred"]

    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy() > 0, disc_cup_masks(probability.numpy(), 0.6))


@pytest.mark.parametrize(("options", "text"), [({"threshold": 1.5}, "threshold"), ({"ellipse": "yes"}, "ellipse_fit")])
def test_wrong_settings_of_the_masks_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingError, match=text):
        DiscCupMasksd("pred", **options)


def masks_on_a_photo(x: int) -> dict[str, Any]:
    disc, cup = disk(300, 400, x, 150, 20), disk(300, 400, x, 150, 10)
    pred = np.stack([disc.T, cup.T])
    return {
        "pred": torch.as_tensor(pred),
        "fov": torch.as_tensor(disk(300, 400, 200, 150, 195).T[None].copy()),
        "name": "a.png",
    }


@pytest.mark.parametrize(
    ("x", "extra", "eye"),
    [(300, {}, "OD"), (100, {}, "OS"), (300, {"name": "x_OS.jpg"}, "OS"), (300, {"eye": "OS"}, "OS"), (200, {}, "")],
)
def test_the_eye_is_taken_from_the_item_the_name_or_the_place(x: int, extra: dict[str, str], eye: str) -> None:
    found = DiscCupBiomarkersd("pred")({**masks_on_a_photo(x), **extra})["biomarkers"]

    assert found["eye"] == (eye or "unknown")
    assert found["cdr_vertical"] == pytest.approx(0.5, abs=0.03)


def test_without_a_circle_the_place_tells_no_eye() -> None:
    item = masks_on_a_photo(300)
    found = DiscCupBiomarkersd("pred")({**item, "fov": torch.ones_like(item["fov"])})

    assert found["biomarkers"]["eye"] == "unknown"


def test_the_note_says_that_no_disc_was_found() -> None:
    item = masks_on_a_photo(100)
    found = DiscCupBiomarkersd("pred")({**item, "pred": item["pred"] * 0, "note": "before"})

    assert found["note"] == "before; no optic disc found"
    assert np.isnan(found["biomarkers"]["cdr_vertical"])


@pytest.mark.parametrize("pixel_size", ["x", 0, -1.5, float("inf"), float("nan"), True])
def test_a_wrong_pixel_size_is_refused(pixel_size: Any) -> None:
    with pytest.raises(SettingError, match="pixel_size is"):
        DiscCupBiomarkersd("pred", pixel_size=pixel_size)
