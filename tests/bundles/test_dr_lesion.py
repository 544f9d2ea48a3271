"""What only the bundle of lesions does: evaluation on boxes drawn in VGG Image Annotator."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from common.phantoms import fundus_phantom
from common.via import via_csv
from data_lists import build, write

ROOT = Path(__file__).resolve().parents[2] / "bundles" / "dr_lesion_segmentation"


def test_evaluation_on_boxes(in_process: Callable[..., None], tmp_path: Path) -> None:
    """A network that finds blue, and boxes of twice the area of what is blue; the last photo has no region."""
    images = []
    for number in range(3):
        photo = fundus_phantom(240, 300, seed=number).photo.copy()
        regions = []
        if number < 2:
            photo[100:130, 120:160] = (0, 0, 255)
            regions = [({"name": "rect", "x": 120, "y": 90, "width": 40, "height": 60}, "exudate")]
        path = tmp_path / "photos" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(photo).save(path)
        images.append((path.name, path.stat().st_size, regions))
    (tmp_path / "via.csv").write_text(via_csv(images, "Abnormality"), encoding="utf-8")
    write(build("via", tmp_path, validation=0), tmp_path / "boxes.json")
    weight = torch.zeros(2, 3, 1, 1)
    weight[1, :, 0, 0] = torch.tensor([-20.0, 0.0, 20.0])
    torch.save({"weight": weight, "bias": torch.tensor([0.0, -10.0])}, tmp_path / "blue.pt")

    in_process(
        "run",
        config_file=repr([str(ROOT / "configs" / name) for name in ("train.json", "evaluate.json")]),
        bundle_root=str(ROOT),
        dataset_dir=str(tmp_path),
        data_list=str(tmp_path / "boxes.json"),
        split="training",
        output_dir=str(tmp_path / "report"),
        ckpt_path=str(tmp_path / "blue.pt"),
        network_def={"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 2, "kernel_size": 1},
        lesions=["exudate"],
        diameter=320,
        window_size=320,
    )

    report = json.loads((tmp_path / "report" / "evaluation_report.json").read_text(encoding="utf-8"))
    scores = report["structures"]["exudate"]["all"]
    expected = {"dice": 2 / 3, "iou": 0.5, "precision": 1.0, "recall": 0.5}
    assert {name: scores[name]["mean"] for name in expected} == pytest.approx(expected, abs=0.05)
    assert [scores[name]["n"] for name in expected] == [2, 2, 2, 2]
    assert report["structures"]["exudate"]["images"] == 3
    assert report["lesions"]["exudate"]["lesions"] == 2
    assert report["lesions"]["exudate"]["sensitivity"] == 1
    assert report["lesions"]["exudate"]["false_positives_per_image"] == 0
    pooled = {name: report["lesions"]["exudate"][f"pooled_{name}"] for name in expected}
    assert pooled == pytest.approx(expected, abs=0.05)
    assert report["lesions"]["exudate"]["best_dice"] >= pooled["dice"]
    assert report["lesions"]["mean"]["pooled_dice"] == pooled["dice"]
    assert {name: report["lesions"]["mean"][name] for name in expected} == pytest.approx(expected, abs=0.05)
