from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose
from torch import nn

from common.data import TolerantDataset, collate_one
from common.engines import TolerantEvaluator
from common.errors import SettingError, UnreadableImageError
from common.handlers import ResultWriter, SegmentationReport
from common.results import ResultFolder


class Threshold(nn.Module):
    """Finds what is bright; fails on what is black."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if not image.any():
            raise RuntimeError("black")
        return (image[:, :1] > 0.5).float()


def photo(seed: int = 0) -> torch.Tensor:
    image = torch.rand(3, 40, 24, generator=torch.Generator().manual_seed(seed))
    image[:, :10] = 0.1
    return image


def item(name: str, image: Any) -> dict[str, Any]:
    picture = (torch.as_tensor(image) * 255).to(torch.uint8) if isinstance(image, torch.Tensor) else None
    return {"image": image, "photo": picture, "name": name, "output_name": name, "note": "dim"}


def prepare(data: dict[str, Any]) -> dict[str, Any]:
    if isinstance(data["image"], Exception):
        raise data["image"]
    return {**data, "image": MetaTensor(data["image"]), "photo": MetaTensor(data["photo"])}


def run(folder: Path, data: list[dict[str, Any]], post: Any = None, **settings: Any) -> ResultFolder:
    results = ResultFolder(folder)
    dataset = TolerantDataset([d for d in data if d["name"] not in results.done], prepare)
    TolerantEvaluator(
        results=results,
        device=torch.device("cpu"),
        val_data_loader=DataLoader(dataset, batch_size=1, collate_fn=collate_one),
        network=Threshold(),
        postprocessing=post or (lambda d: {**d, "probability": d["pred"] * 0.75, "biomarkers": {"density": 0.5}}),
        val_handlers=[ResultWriter(results, ["vessel"], **settings)],
    ).run()
    return results


def picture(path: Path) -> Any:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_masks_are_written_untransposed(tmp_path: Path) -> None:
    run(tmp_path, [item("sub/a", photo())], save_probability=True)
    row = rows(tmp_path / "results.csv")[0]
    assert row["image"] == "sub/a"
    assert row["note"] == "dim"
    assert row["density"] == "0.5"
    mask = picture(tmp_path / row["mask_vessel"])
    expected = (photo()[0] > 0.5).numpy().T
    np.testing.assert_array_equal(mask, expected * np.uint8(255))
    probability = picture(tmp_path / row["probability_vessel"])
    np.testing.assert_allclose(probability / 65535, expected * 0.75, atol=1e-4)
    assert picture(tmp_path / row["overlay"]).shape == (24, 40, 3)


def test_outlines_and_a_figure(tmp_path: Path) -> None:
    run(tmp_path / "filled", [item("a", photo())])
    run(tmp_path / "outlined", [item("a", photo())], style="outline", figure=True)

    (row,) = rows(tmp_path / "outlined" / "results.csv")
    assert list(row) == ["image", "mask_vessel", "overlay", "figure", "density", "note"]
    figure = picture(tmp_path / "outlined" / row["figure"])
    assert figure.shape == (512, 3 * 512, 3)
    filled, outlined = (picture(tmp_path / kind / "a_overlay.jpg") for kind in ("filled", "outlined"))
    assert filled.shape == outlined.shape
    assert (filled != outlined).any()


@pytest.mark.parametrize(
    ("setting", "words"), [({"style": "dots"}, "style is 'dots'"), ({"figure": "yes"}, "figure is")]
)
def test_a_wrong_setting_of_the_pictures(tmp_path: Path, setting: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        ResultWriter(ResultFolder(tmp_path), ["vessel"], **setting)


def test_failures_do_not_stop_the_run(tmp_path: Path) -> None:
    def post(data: dict[str, Any]) -> dict[str, Any]:
        if data["name"] == "post":
            raise KeyError("lost")
        return {**data, "probability": data["pred"]}

    broken = photo(3)
    data = [
        item("a", photo(1)),
        item("unreadable", UnreadableImageError("x.png", "is empty")),
        item("black", torch.zeros(3, 40, 24)),
        item("post", photo(2)),
        {**item("write", broken), "photo": torch.zeros(2, 40, 24, dtype=torch.uint8)},
        item("b", photo(4)),
    ]
    results = run(tmp_path, data, post)
    assert [row["image"] for row in rows(results.results)] == ["a", "b"]
    failures = {row["image"]: (row["stage"], row["reason"]) for row in rows(results.failures)}
    assert failures["unreadable"] == ("read", "is empty")
    assert failures["black"] == ("network", "RuntimeError: black")
    assert set(failures) == {"unreadable", "black", "post", "write"}
    assert failures["write"][0] == "write"
    assert "2 done" in results.summary()
    assert "4 failed" in results.summary()


def test_second_run_does_only_what_is_left(tmp_path: Path) -> None:
    run(tmp_path, [item("a", photo(1)), item("b", torch.zeros(3, 40, 24))])
    before = (tmp_path / "a_vessel.png").stat().st_mtime_ns
    results = run(tmp_path, [item("a", photo(1)), item("b", photo(2))])
    assert (tmp_path / "a_vessel.png").stat().st_mtime_ns == before
    assert [row["image"] for row in rows(results.results)] == ["a", "b"]
    assert run(tmp_path, [item("a", photo(1)), item("b", photo(2))]).written == 0


def test_wrong_setting_stops_the_run(tmp_path: Path) -> None:
    def post(data: dict[str, Any]) -> dict[str, Any]:
        raise SettingError("a wrong threshold")

    with pytest.raises(SettingError, match="a wrong threshold"):
        run(tmp_path, [item("a", photo())], post)
    run(tmp_path / "out", [item("a", photo())])
    with pytest.raises(SettingError, match="other settings"):
        run(tmp_path / "out", [item("b", photo())], save_probability=True)


def test_report(tmp_path: Path) -> None:
    data = []
    for number in range(4):
        image = photo(number)
        region = torch.zeros(1, 40, 24)
        region[:, 12:] = 1
        # The left part, outside the region, is wrong on purpose: it must not count.
        label = (image[:1] > 0.5).float()
        label[:, :10] = 1
        if number == 3:
            label[:, 12:25] = 1 - label[:, 12:25]
        meta = {"name": f"{number}.png", "patient": number // 2, "dataset": "AB"[number % 2]}
        data.append({"image": image, "label": label, "region": region, **meta})
    SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(data), batch_size=1),
        network=Threshold(),
        postprocessing=Compose([lambda d: {**d, "probability": d["pred"] * 0.9}]),
        val_handlers=[SegmentationReport(tmp_path / "report", ["vessel"], settings={"split": "test"})],
    ).run()
    report = json.loads((tmp_path / "report/evaluation_report.json").read_text())
    assert report["settings"] == {"split": "test", "threshold": 0.5}
    vessel = report["structures"]["vessel"]
    assert (vessel["images"], vessel["patients"]) == (4, 2)
    dice = [row["dice"] for row in vessel["per_image"]]
    assert dice[:3] == [1, 1, 1]
    assert 0.2 < dice[3] < 0.8
    assert vessel["all"]["dice"]["mean"] == pytest.approx(np.mean(dice))
    assert vessel["all"]["dice"]["low"] <= vessel["all"]["dice"]["mean"] <= vessel["all"]["dice"]["high"]
    assert set(vessel["by_dataset"]) == {"A", "B"}
    assert vessel["by_dataset"]["A"]["dice"]["mean"] == 1
    assert (tmp_path / "report/evaluation_report.png").stat().st_size > 1000
