from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from numpy.typing import NDArray

from common.handlers import DiscCupReport


def rectangles(disc: int, cup: int) -> NDArray[np.float32]:
    """Disc and cup ``(2, W, H)``: rectangles of the given heights; 0 is none."""
    masks = np.zeros((2, 60, 50), np.float32)
    masks[0, 10:40, 5 : 5 + disc] = 1
    masks[1, 20:30, 10 : 10 + cup] = 1
    return masks


def photo(name: str, found: tuple[int, int], truth: tuple[int, int], **others: Any) -> dict[str, Any]:
    pred, label = rectangles(*found), rectangles(*truth)
    data = {"name": name, "patient": name, "pred": pred, "probability": pred * 0.9, "label": label, **others}
    return {key: torch.as_tensor(value) if isinstance(value, np.ndarray) else value for key, value in data.items()}


def report(folder: Path, photos: list[dict[str, Any]]) -> dict[str, Any]:
    def step(engine: Engine, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        state: Any = engine.state
        state.batch = batch
        return [{} for _ in batch]

    engine = Engine(step)
    handler = DiscCupReport(folder, ["disc", "cup"], pred_key="pred", metrics=["dice", "iou", "auc"], region_keys=[])
    handler.attach(engine)
    engine.run([[item] for item in photos])
    content: dict[str, Any] = json.loads((folder / "evaluation_report.json").read_text(encoding="utf-8"))
    return content


def test_the_error_of_the_vertical_ratio(tmp_path: Path) -> None:
    photos = [photo("a", (40, 20), (40, 20)), photo("b", (40, 10), (40, 30)), photo("c", (40, 32), (40, 28))]

    found = report(tmp_path, photos)["photos"]

    assert found["images"] == 3
    assert found["not_found"] == 0
    assert [row["vertical_cdr"] for row in found["per_image"]] == pytest.approx([0.5, 0.25, 0.8])
    assert [row["vertical_cdr_truth"] for row in found["per_image"]] == pytest.approx([0.5, 0.75, 0.7])
    assert found["all"]["vertical_cdr_error"]["mean"] == pytest.approx((0 + 0.5 + 0.1) / 3)
    # The disc is right; of the cups of 10 and 30 rows 10 are common.
    assert found["per_image"][1]["dice_mean"] == pytest.approx((1 + 0.5) / 2)
    assert found["per_image"][1]["iou_mean"] == pytest.approx((1 + 1 / 3) / 2)


def test_a_photo_without_a_disc_is_counted_and_its_error_left_out(tmp_path: Path) -> None:
    found = report(tmp_path, [photo("a", (40, 20), (40, 22)), photo("b", (0, 0), (40, 20))])["photos"]

    assert (found["not_found"], found["disc_not_found"]) == (1, ["b"])
    assert found["per_image"][1]["vertical_cdr"] is None
    assert found["all"]["vertical_cdr_error"]["n"] == 1
    assert found["all"]["dice_mean"]["mean"] == pytest.approx((1 + 2 * 20 / 42) / 4)


def test_a_photo_without_an_annotated_cup_counts_for_the_disc_alone(tmp_path: Path) -> None:
    half = photo("half", (40, 20), (40, 20), dataset="B")
    half["label"][1] = -1

    content = report(tmp_path, [photo("whole", (40, 20), (40, 20), dataset="A"), half])

    assert content["structures"]["disc"]["images"] == 2
    assert content["structures"]["cup"]["images"] == content["photos"]["images"] == 1
    assert set(content["photos"]["by_dataset"]) == set(content["structures"]["cup"]["by_dataset"]) == {"A"}


def test_a_structure_that_is_nowhere_annotated_is_left_out(tmp_path: Path) -> None:
    photos = [photo("a", (40, 20), (40, 20)), photo("b", (0, 0), (40, 20))]
    for item in photos:
        item["label"][1] = -1

    content = report(tmp_path, photos)

    assert set(content["structures"]) == {"disc"}
    assert content["photos"] == {"disc_not_found": ["b"]}


def test_how_well_the_ratio_tells_glaucoma(tmp_path: Path) -> None:
    sick = [photo(f"g{cup}", (40, cup), (40, 30), **{"class": "glaucoma"}) for cup in (36, 30, 20)]
    healthy = [photo(f"n{cup}", (40, cup), (40, 10), **{"class": "no glaucoma"}) for cup in (10, 12, 24)]
    unknown = [photo("u", (40, 16), (40, 10))]

    auc = report(tmp_path, [*sick, *healthy, *unknown])["photos"]["all"]["glaucoma_auc_of_vertical_cdr"]

    assert auc["mean"] == pytest.approx(8 / 9)  # of 9 pairs, only 20 and 24 are in the wrong order
    assert auc["low"] <= auc["mean"] <= auc["high"]
    assert (auc["n"], auc["glaucoma"]) == (6, 3)
