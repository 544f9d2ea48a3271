from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from numpy.typing import NDArray
from PIL import Image

from common.bundles import BUNDLES
from common.errors import SettingError
from common.lesions import LESIONS as ALL_LESIONS
from common.phantoms import fundus_phantom
from common.readers import from_picture, to_picture
from common.transforms import LesionBiomarkersd, LoadLesionsd, WithoutBackgroundd

LESIONS = ["exudate", "haemorrhage", "soft_exudate"]


@pytest.fixture
def masks() -> dict[str, NDArray[np.uint8]]:
    """Masks of 30x20 pixels that overlap in one pixel."""
    found = {name: np.zeros((20, 30), np.uint8) for name in ("exudate", "haemorrhage")}
    found["exudate"][2:6, 3:10] = 255
    found["haemorrhage"][5:9, 9:12] = 255
    return found


@pytest.fixture
def item(masks: dict[str, NDArray[np.uint8]], tmp_path: Path) -> dict[str, Any]:
    paths = {name: str(tmp_path / f"{name}.png") for name in masks}
    for name, mask in masks.items():
        Image.fromarray(mask).save(paths[name])
    return {"image": torch.zeros(3, 30, 20), "name": "a.jpg", "label_format": "masks", "lesions": LESIONS[:2], **paths}


def test_masks_become_background_and_a_channel_each(item: dict[str, Any], masks: dict[str, NDArray[np.uint8]]) -> None:
    label = LoadLesionsd("label", LESIONS)(item)["label"]

    assert label.shape == (4, 30, 20)
    picture = to_picture(label)
    assert (picture[..., 1] == masks["exudate"] / 255).all()
    assert (picture[..., 2] == masks["haemorrhage"] / 255).all()
    assert (picture[..., 0] == ((masks["exudate"] == 0) & (masks["haemorrhage"] == 0))).all()
    assert (picture[..., 3] == -1).all()
    assert WithoutBackgroundd("label")({"label": label})["label"].shape == (3, 30, 20)


def test_an_absent_lesion_is_empty(item: dict[str, Any]) -> None:
    item |= {"lesions": LESIONS, "absent": ["soft_exudate"]}

    assert not LoadLesionsd("label", LESIONS)(item)["label"][3].any()


def test_regions_are_drawn(item: dict[str, Any]) -> None:
    regions = [
        {"name": "rect", "x": 3, "y": 2, "width": 7, "height": 4, "lesion": "exudate"},
        {"name": "point", "cx": 20, "cy": 15, "lesion": "microaneurysm"},
    ]
    item |= {"label_format": "regions", "regions": regions}

    picture = to_picture(LoadLesionsd("label", LESIONS)(item)["label"])

    assert picture[2:6, 3:10, 1].all()
    assert picture[..., 1].sum() == 28
    assert not picture[..., 2].any()
    assert (picture[..., 3] == -1).all()


def test_a_label_map(item: dict[str, Any], tmp_path: Path) -> None:
    values = np.zeros((20, 30), np.uint8)
    values[0, :4], values[1, :5], values[2, :6] = 1, 2, 3
    Image.fromarray(values).save(tmp_path / "map.png")

    label = LoadLesionsd("label", LESIONS)(
        {"image": item["image"], "label_format": "map", "label": tmp_path / "map.png"}
    )

    assert label["label"].sum(dim=(1, 2)).tolist() == [600 - 15, 4, 5, 6]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_format": "boxes"}, "label_format 'boxes': give one of masks, regions, map"),
        ({"lesions": None}, "does not say which lesions were looked for"),
        ({"lesions": LESIONS}, "no 'soft_exudate', which its 'lesions' name"),
        ({"label_format": "map"}, "no 'label', which 'map' needs"),
        ({"label_format": "regions", "regions": [{"name": "rect"}]}, "Region 0 of a.jpg cannot be drawn"),
        ({"image": torch.zeros(3, 20, 30)}, "has 30x20 pixels, its photo 20x30"),
    ],
)
def test_a_wrong_item(item: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        LoadLesionsd("label", LESIONS)({**item, **changes})


@pytest.mark.parametrize("lesions", ["exudate", [], ["exudate", "exudate"], ["drusen"]])
def test_wrong_lesions(lesions: Any) -> None:
    with pytest.raises(SettingError, match=r"lesions is .* give a list of different names out of exudate"):
        LoadLesionsd("label", lesions)


def test_image_and_mask_are_augmented_together() -> None:
    """The photo's red channel is the mask itself; after every spatial change of the training it still is."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / "dr_lesion_segmentation" / "configs" / "train.json"))
    parser.update({"patch_size": 64, "patches_per_image": 6})
    entries = parser.get_parsed_content("train#random_transforms")
    names = [type(entry).__name__ for entry in entries]
    # Up to the flips they move pixels, from then on they change colours.
    spatial = Compose(entries[: names.index("ScaleIntensityRanged")]).set_random_state(0)
    assert names.count("RandFlipd") == 2
    generator = np.random.default_rng(0)
    mask = np.kron(generator.random((20, 25)) < 0.3, np.ones((10, 10))).astype(np.float32)
    label = np.stack([1 - mask, mask, np.zeros_like(mask)], axis=-1)
    photo = np.stack([mask * 255, np.full_like(mask, 9), generator.random(mask.shape) * 255], axis=-1)

    patches = spatial({"image": from_picture(photo), "label": from_picture(label), "name": "a"})

    assert len(patches) == 6
    for patch in patches:
        assert patch["image"].shape == patch["label"].shape == (3, 64, 64)
        torch.testing.assert_close(patch["image"][0] / 255, patch["label"][1], atol=1e-3, rtol=0)
        # The fill repeats the edge: no pixel is of nothing.
        torch.testing.assert_close(patch["label"].sum(dim=0), torch.ones(64, 64), atol=1e-3, rtol=0)
        assert (patch["image"][1] > 8.9).all()
    assert len({float(patch["image"][2].sum()) for patch in patches}) == 6


def drawn_item(folder: Path, **values: Any) -> dict[str, Any]:
    """An item of lesions on a drawn photo of 400 x 320 pixels."""
    Image.fromarray(fundus_phantom(320, 400, seed=0).photo).save(folder / "photo.png")
    return {"image": str(folder / "photo.png"), "name": "photo.png", "label_format": "regions", **values}


def training_of(items: list[dict[str, Any]], settings: dict[str, Any]) -> ConfigParser:
    """The config of a training, made small, whose items are given."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / "dr_lesion_segmentation" / "configs" / "train.json"))
    small = {"patch_size": 48, "diameter": 256, "decoder_channels": [8] * 5, "device": "cpu", "num_workers": 0}
    parser.update({**small, **settings, "train#dataset#data": items})
    return parser


def test_no_patch_is_drawn_for_a_lesion_that_was_not_looked_for(tmp_path: Path) -> None:
    box = {"name": "rect", "x": 220, "y": 120, "width": 12, "height": 9, "lesion": "exudate"}
    item = drawn_item(tmp_path, lesions=["exudate"], regions=[box])
    parser = training_of([item], {"patches_per_image": 20})
    crop = next(
        number
        for number, entry in enumerate(parser["train"]["random_transforms"])
        if entry["_target_"] == "RandCropByLabelClassesd"
    )
    parser.update({f"train#random_transforms#{crop}#ratios": [0, 1, 1]})
    preprocessing = parser.get_parsed_content("train#preprocessing").set_random_state(0)

    patches = preprocessing(item)

    assert len(patches) == 20
    for patch in patches:
        assert patch["label"][1].max() > 0.5
        torch.testing.assert_close(patch["label"][2], torch.full((48, 48), -1.0))


@pytest.mark.parametrize(
    "values",
    [
        {"label_format": "masks", "lesions": list(ALL_LESIONS), "absent": list(ALL_LESIONS)},
        {"lesions": ["exudate", "haemorrhage"], "regions": []},
        {"lesions": ["soft_exudate"], "regions": []},
    ],
)
def test_a_training_on_photos_without_lesions(tmp_path: Path, values: dict[str, Any]) -> None:
    item = drawn_item(tmp_path, **values)
    parser = training_of([item, {**item, "name": "second"}], {"images_per_batch": 2})
    batch = next(iter(parser.get_parsed_content("train#dataloader")))
    network, loss = parser.get_parsed_content("network"), parser.get_parsed_content("loss")

    output = network(batch["image"])
    total = loss(output, batch["label"])
    total.backward()

    unknown = values["lesions"] == ["soft_exudate"]
    assert batch["image"].shape == batch["label"].shape == (4, 3, 48, 48)
    assert batch["label"][:, 1:].amax() <= 0
    assert batch["label"][:, 1:].amin().item() == pytest.approx(-1.0 if unknown else 0.0)
    assert batch["label"][:, 0].amax((1, 2)).tolist() == pytest.approx([1.0] * 4)
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert torch.isfinite(total)
    assert all(gradient.isfinite().all() for gradient in gradients)
    if unknown:  # nothing is known of these lesions, so that nothing is to be learnt
        assert max(gradient.abs().max() for gradient in gradients) < 1e-4


def test_biomarkers_with_landmarks_of_the_item(masks: dict[str, NDArray[np.uint8]]) -> None:
    pred = from_picture(np.stack(list(masks.values()), axis=-1))
    item = {"pred": pred, "fov": np.ones((1, 30, 20), np.uint8), "note": "odd", "fovea_x": 20.0, "fovea_y": 5.0}

    found = LesionBiomarkersd("pred", LESIONS[:2], pixel_size=2.0)(item)

    assert found["biomarkers"]["exudate_area_px2"] == 28
    assert found["biomarkers"]["exudate_fovea_distance_px"] == 11
    assert found["biomarkers"]["haemorrhage_fovea_distance_um"] == 18
    assert found["note"] == "odd"
    with pytest.raises(SettingError, match="one of disc_x and disc_y without the other"):
        LesionBiomarkersd("pred", LESIONS[:2])({**item, "disc_x": 3.0})
