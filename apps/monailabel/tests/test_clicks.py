"""Clicks and boxes, with every bundle that they steer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.bundles import available_bundles
from common.label import BundlePredictor
from common.label.inference import describe

INTERACTIVE = [name for name, path in available_bundles().items() if describe(path).interactive]


@pytest.fixture(scope="module", params=INTERACTIVE)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def disc(annotate: Any) -> tuple[int, int, int, int]:
    """Where the disc of the photo is: first and last column, first and last row."""
    _, labels = annotate("disc_cup_segmentation", 3)
    rows, columns = np.nonzero(labels)
    return int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())


def test_there_is_an_interactive_bundle() -> None:
    assert INTERACTIVE


def test_a_box_says_where_the_disc_is(
    server: Any, model: str, photos: Path, decode: Any, disc: tuple[int, int, int, int]
) -> None:
    file = photos / "eye_OD_png.png"
    left, right, top, bottom = disc

    def ask(box: list[int]) -> Any:
        return decode(server.infer(model, "", "image", file=file, roi=box, label="disc"))

    mask = ask([left, top, right, bottom])
    assert mask.shape == decode(file.read_bytes()).shape[:2]
    rows, columns = np.nonzero(mask)
    side = max(right - left, bottom - top) + 1
    assert len(rows) > 0
    assert left - side <= columns.min() <= columns.max() <= right + side
    assert top - side <= rows.min() <= rows.max() <= bottom + side
    # As 3D Slicer gives it, the edges in any order, with the slices last.
    np.testing.assert_array_equal(ask([right, left, top, bottom, 0, 0]), mask)
    assert (ask([left, top, right, (top + bottom) // 2]) != mask).any()


def test_clicks_change_the_mask(
    server: Any, model: str, photos: Path, decode: Any, disc: tuple[int, int, int, int]
) -> None:
    file = photos / "eye_OD_png.png"
    left, right, top, bottom = disc
    x, y, box = (left + right) // 2, (top + bottom) // 2, [left, top, right, bottom]

    def ask(**prompts: Any) -> Any:
        return decode(server.infer(model, "", "image", file=file, **prompts))

    inside = ask(foreground=[[x, y, 0]], roi=box, label="disc")
    outside = ask(background=[[x, y]], roi=box, label="disc")
    assert inside.any()
    assert (inside != outside).any()
    labels = ask(prompts={"disc": {"points": [[x, y, 1]], "box": box}, "cup": {"points": [[left, y, 0]]}})
    assert set(np.unique(labels).tolist()) <= {0, 1, 2}
    np.testing.assert_array_equal(labels > 0, inside > 0)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"foreground": [[-1, 5]]}, "The place (-1, 5) lies outside the image of 380x300 pixels"),
        ({"background": [[5, 300, 0]]}, "The place (5, 300) lies outside"),
        ({"roi": [10, 10, 500, 60]}, "The place (500, 60) lies outside"),
        ({"prompts": {"fovea": {"points": [[5, 5, 1]]}}}, "There is no structure 'fovea'"),
        ({"prompts": {"disc": {"points": [[5, 5, 2]]}}}, "its third number is 1"),
        ({"foreground": [[float("nan"), 1]]}, "lies outside"),
    ],
)
def test_prompts_that_cannot_be_used(app: Any, model: str, photos: Path, params: dict[str, Any], sentence: str) -> None:
    answer = app.post(
        f"/infer/{model}",
        params={"output": "json"},
        data={"params": json.dumps(params)},
        files={"file": ("a.png", (photos / "eye_OD_png.png").read_bytes())},
    )
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]


def test_the_image_is_encoded_once(model: str, photos: Path, tmp_path: Path, draw: Any, write: Any) -> None:
    predictor = BundlePredictor(available_bundles()[model], {"diameter": 384})
    encoded: list[torch.Tensor] = []
    network: Any = predictor.network
    encode = network.encode

    def counted(image: torch.Tensor) -> Any:
        encoded.append(image)
        return encode(image)

    network.encode = counted
    first, second = photos / "eye_OD_png.png", tmp_path / "other.png"
    write(second, draw(4))

    def click(image: Path, x: int) -> Any:
        return predictor(image, image.name, {"disc": {"box": [150, 100, 210, 160], "points": [[x, 130, 1]]}}).masks

    one = click(first, 170)
    count = len(encoded)
    assert count > 0
    click(first, 190)
    assert len(encoded) == count
    click(second, 170)
    other = len(encoded)
    assert other > count
    # Back on the first image, which was kept while another one was worked on.
    np.testing.assert_array_equal(click(first, 170)["disc"], one["disc"])
    assert len(encoded) == other


def test_without_prompts_it_is_the_bundles_own_mask(model: str, photos: Path) -> None:
    predictor = BundlePredictor(available_bundles()[model], {"diameter": 384, "mirrored_views": 2})
    image = photos / "eye_OD_png.png"
    before = predictor(image, image.name).labels
    predictor(image, image.name, {"disc": {"points": [[170, 130, 1]]}})
    np.testing.assert_array_equal(predictor(image, image.name).labels, before)
