from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd, ScaleIntensityRanged
from PIL import Image

from common.errors import SettingError
from common.feature_cache import FeatureDataset, RandWindowd, describe
from common.losses import PartialBCEDiceLoss
from common.networks import HQSAM, HQSAMDecoder
from common.phantoms import fundus_phantom
from common.transforms import (
    FieldOfViewd,
    LoadDiscCupd,
    LoadPhotod,
    MarkUnannotatedd,
    RandDiscViewsd,
    RandPromptsd,
)

SIDE = 64
KEYS = ("image", "disc", "cup")


@pytest.fixture(scope="module")
def network() -> HQSAM:
    torch.manual_seed(0)
    return HQSAM(image_size=SIDE, freeze_encoder=True).train()


@pytest.fixture
def items(tmp_path: Path) -> list[dict[str, Any]]:
    """Two phantoms with their masks."""
    found = []
    for number, (height, width) in enumerate(((150, 180), (170, 140))):
        phantom = fundus_phantom(height, width, seed=number)
        item: dict[str, Any] = {"label_format": "masks", "dataset": "phantoms", "name": f"{number}_image.png"}
        for key, picture in (("image", phantom.photo), ("disc", phantom.disc), ("cup", phantom.cup)):
            item[key] = str(tmp_path / f"{number}_{key}.png")
            values = picture if key == "image" else (picture > 0).astype(np.uint8) * 255
            Image.fromarray(np.asarray(values, dtype=np.uint8)).save(item[key])
        found.append(item)
    return found


def views(size: int = SIDE, shift: float = 0.3, lowest: float = -1.0) -> Compose:
    keys = ("image", "label")
    return Compose(
        [
            LoadPhotod("image"),
            LoadDiscCupd("label"),
            FieldOfViewd(keys, diameter=128),
            RandDiscViewsd(keys, size=size, shift=shift),
            RandFlipd(keys, prob=0.5, spatial_axis=0),
            ScaleIntensityRanged("image", 0, 255, lowest, 1),
            ScaleIntensityRanged("label", 0, 255, 0, 1),
            MarkUnannotatedd("label"),
        ]
    )


def dataset(items: Any, network: HQSAM, folder: Path | None, **settings: Any) -> FeatureDataset:
    return FeatureDataset(items, views(), network, folder, **{"views": 3, **settings})


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[key], other[key]) for key in one)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_an_entry_has_the_features_of_one_view_in_half_precision(items: Any, network: HQSAM) -> None:
    data = dataset(items, network, None)

    assert len(data) == 6
    entry = data[4]
    assert {key: (value.dtype, tuple(value.shape)) for key, value in entry.items()} == {
        "image": (torch.float16, (256, 4, 4)),
        "early": (torch.float16, (160, 4, 4)),
        "label": (torch.float16, (2, 16, 16)),
    }
    assert any(0 < data[number]["label"].float().mean() < 1 for number in range(6))
    assert not torch.equal(entry["image"], data[5]["image"])
    assert network.training


def test_views_are_the_same_wherever_the_data_lie(items: Any, network: HQSAM, tmp_path: Path) -> None:
    moved = [
        {key: str(tmp_path / "moved" / Path(value).name) if key in KEYS else value for key, value in item.items()}
        for item in items
    ]
    (tmp_path / "moved").mkdir()
    for item, other in zip(items, moved, strict=True):
        for key in KEYS:
            shutil.copy(item[key], other[key])

    here, there = dataset(items, network, None), dataset(moved, network, None)

    assert all(same(here[number], there[number]) for number in range(6))


def test_with_and_without_the_cache_it_is_the_same(items: Any, network: HQSAM, tmp_path: Path) -> None:
    without, kept = dataset(items, network, None), dataset(items, network, tmp_path / "cache")

    for _ in range(2):
        assert all(same(kept[i], without[i]) for i in (3, 0, 5))
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_a_later_run_reads_what_was_kept(
    items: Any, network: HQSAM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [dict(dataset(items, network, tmp_path)[i]) for i in range(6)]
    before = times(tmp_path)
    monkeypatch.setattr(HQSAM, "encode", None)

    again = dataset(items, network, tmp_path)

    assert all(same(again[i], first[i]) for i in range(6))
    assert times(tmp_path) == before


@pytest.mark.parametrize("change", ["weights", "photo", "mask", "preprocessing", "seed"])
def test_what_is_stale_is_made_anew(items: Any, tmp_path: Path, change: str) -> None:
    torch.manual_seed(0)
    network = HQSAM(image_size=SIDE, freeze_encoder=True)
    folder = tmp_path / "cache"
    old = dict(dataset(items, network, folder)[0])
    before = times(folder)
    settings: dict[str, Any] = {"views": 3}
    transform = views()
    if change == "weights":
        with torch.no_grad():
            next(network.image_encoder.parameters()).mul_(1.01)
    elif change in ("photo", "mask"):
        path = items[0]["image" if change == "photo" else "disc"]
        with Image.open(path) as opened:
            picture = opened.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        picture.save(path)
    elif change == "preprocessing":
        transform = views(lowest=-0.5)
    else:
        settings["seed"] = 1

    new = FeatureDataset(items, transform, network, folder, **settings)[0]

    assert not same(new, old)
    assert set(times(folder)) != set(before)
    assert len(times(folder)) == 1, "the stale entry is removed"


@pytest.mark.parametrize("damage", ["cut short", "a flipped byte", "empty", "something else"])
def test_what_is_damaged_is_made_anew(
    items: Any, network: HQSAM, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    expected = dict(dataset(items, network, tmp_path)[0])
    (path,) = tmp_path.glob("*.pt")
    content = bytearray(path.read_bytes())
    if damage == "a flipped byte":
        content[len(content) // 2] ^= 255
    other = {"cut short": bytes(content[: len(content) // 2]), "empty": b"", "something else": b"text"}
    path.write_bytes(other.get(damage, bytes(content)))

    with caplog.at_level(logging.WARNING):
        found = dataset(items, network, tmp_path)[0]

    assert same(found, expected)
    assert f"The cached features {path} are damaged" in caplog.text
    stored = torch.load(path, weights_only=True)
    assert all(torch.equal(stored[key], value) for key, value in expected.items())


def test_an_encoder_that_is_trained_is_refused(items: Any) -> None:
    with pytest.raises(SettingError, match="set freeze_encoder to True"):
        dataset(items, HQSAM(image_size=SIDE), None)
    with pytest.raises(SettingError, match="cached_views is 0"):
        dataset(items, HQSAM(image_size=SIDE, freeze_encoder=True), None, views=0)


def test_the_description_is_that_of_the_settings() -> None:
    one, two = views(), views()
    two.set_random_state(seed=9)

    assert describe(one) == describe(two)
    assert describe(one) != describe(views(shift=0.2))


def test_a_loss_falls_on_kept_features_and_the_encoder_stays(items: Any, network: HQSAM, tmp_path: Path) -> None:
    after = Compose([RandPromptsd("label", scale=4.0, prob=0.5), RandWindowd("early", share=0.5)])
    data = dataset(items, network, tmp_path, after=after)
    loader = DataLoader(data, batch_size=6)
    decoder, loss_of = HQSAMDecoder(network), PartialBCEDiceLoss()
    trained = [part for part in decoder.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3)
    encoder = {name: value.clone() for name, value in network.image_encoder.state_dict().items()}

    losses = []
    for _ in range(25):
        (batch,) = loader
        logits = decoder(batch["image"], batch["early"], batch["prompts"], batch["window"])
        loss = loss_of(logits, batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))

    assert logits.shape == batch["label"].shape == (6, 2, 8, 8)
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])
    assert all(torch.equal(value, encoder[name]) for name, value in network.image_encoder.state_dict().items())


# --- windows ---------------------------------------------------------------------------------------------------------


def marked(grid: int = 16, x: int = 11, y: int = 3) -> dict[str, torch.Tensor]:
    """Early features upright, and a label in our own order, with a mark at one place of the grid."""
    early = torch.zeros(2, grid, grid)
    early[:, y, x] = 1
    label = torch.zeros(2, 4 * grid, 4 * grid)
    label[:, 4 * x : 4 * x + 4, 4 * y : 4 * y + 4] = 1
    return {"early": early, "label": label}


def test_features_and_label_are_cut_alike() -> None:
    transform = RandWindowd("early", share=0.25, anywhere=0.3)
    transform.set_random_state(seed=0)
    seen = 0
    for _ in range(40):
        cut = transform(marked())
        x, y = cut["window"].tolist()
        assert cut["early"].shape == (2, 4, 4)
        assert cut["label"].shape == (2, 16, 16)
        pooled = torch.nn.functional.max_pool2d(cut["label"], 4)
        assert torch.equal(pooled.transpose(1, 2), cut["early"])
        if cut["early"].any():
            seen += 1
            assert cut["early"][0, 3 - y, 11 - x] == 1
    assert 25 < seen < 40


def test_a_share_of_1_cuts_nothing() -> None:
    cut = RandWindowd("early", share=1)(marked())

    assert torch.equal(cut["early"], marked()["early"])
    assert cut["window"].tolist() == [0, 0]
    with pytest.raises(SettingError, match="window_share is 0"):
        RandWindowd("early", share=0)
