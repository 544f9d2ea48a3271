from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from common.biomarkers import BOUNDARIES, LAYERS, boundaries_to_labels, labels_to_boundaries
from common.biomarkers.layers import UNANNOTATED
from common.handlers import LayerReport, LayerWriter
from common.handlers.layers import compare_layers, hausdorff95, profile_table
from common.pictures import COLOURS
from common.pixels import read_pixels
from common.readers import from_picture
from common.results import ResultFolder

HEIGHT, WIDTH = 70, 40


def labels(shift: int = 0, columns: slice = slice(None)) -> NDArray[np.uint8]:
    """A label map ``(H, W)`` with layers of 5 rows; annotated in some columns only."""
    boundaries = np.full((8, WIDTH), np.nan)
    boundaries[:, columns] = (np.arange(8) * 5 + 10 + shift)[:, None]
    return boundaries_to_labels(boundaries, HEIGHT)


# --- comparing -------------------------------------------------------------------------------------------------------


def test_equal_layers() -> None:
    found = compare_layers(labels(), labels_to_boundaries(labels()), labels(columns=slice(5, 30)))

    assert found["dice_mean"] == found["iou_mean"] == found["pixel_accuracy"] == 1
    assert found["boundary_error_px"] == found["hausdorff95_mean_px"] == 0
    assert found["missing_columns_count"] == found["order_violations_count"] == 0


def test_layers_that_lie_two_rows_too_deep() -> None:
    moved = labels(2)

    found = compare_layers(moved, labels_to_boundaries(moved), labels(columns=slice(5, 30)))

    for layer in LAYERS:
        assert found[f"dice_{layer}"] == pytest.approx(2 * 3 / (5 + 5))
        assert found[f"precision_{layer}"] == found[f"recall_{layer}"] == pytest.approx(3 / 5)
        assert found[f"hausdorff95_{layer}_px"] == 2
    for boundary in BOUNDARIES:
        assert found[f"error_{boundary}_px"] == found[f"bias_{boundary}_px"] == 2
    # In each column two rows at each of the eight boundaries are wrong.
    assert found["pixel_accuracy"] == pytest.approx(1 - 16 / HEIGHT)


def test_columns_that_the_grader_left_out_do_not_count() -> None:
    wrong = labels()
    wrong[:, 30:] = labels(20)[:, 30:]

    found = compare_layers(wrong, labels_to_boundaries(wrong), labels(columns=slice(5, 30)))

    assert found["dice_mean"] == 1
    assert found["boundary_error_px"] == 0


def test_an_empty_prediction_is_not_a_distance_of_zero() -> None:
    nothing = np.zeros((HEIGHT, WIDTH), np.uint8)

    found = compare_layers(nothing, np.full((8, WIDTH), np.nan), labels(columns=slice(5, 30)))

    assert found["dice_mean"] == 0
    assert np.isnan(found["hausdorff95_mean_px"])
    assert found["hausdorff95_undefined_count"] == 7
    assert np.isnan(found["boundary_error_px"])
    assert found["missing_columns_count"] == 25


def test_one_missing_layer_leaves_the_mean_of_the_others() -> None:
    without = labels()
    without[without == 3] = 4

    found = compare_layers(without, labels_to_boundaries(without), labels())

    assert np.isnan(found["hausdorff95_INL_px"])
    assert found["hausdorff95_undefined_count"] == 1
    assert found["hausdorff95_mean_px"] == pytest.approx(5 / 6)  # OPL reaches five rows too far up


def test_nothing_annotated_is_not_defined() -> None:
    found = compare_layers(labels(), labels_to_boundaries(labels()), np.full((HEIGHT, WIDTH), UNANNOTATED, np.uint8))

    assert np.isnan(found["dice_mean"])
    assert np.isnan(found["pixel_accuracy"])
    assert np.isnan(found["boundary_error_px"])


def test_hausdorff_distance_of_a_shift() -> None:
    one = np.zeros((50, 80), dtype=bool)
    one[10:20, 10:60] = True

    assert hausdorff95(one, np.roll(one, 7, axis=0)) == 7
    assert np.isnan(hausdorff95(one, np.zeros_like(one)))
    assert np.isnan(hausdorff95(np.zeros_like(one), np.zeros_like(one)))


# --- the profile -----------------------------------------------------------------------------------------------------


def test_a_profile_has_a_row_for_each_column() -> None:
    boundaries = labels_to_boundaries(labels(columns=slice(3, 30)))

    rows = list(csv.DictReader(io.StringIO(profile_table(boundaries, 4.0).decode())))

    assert [int(row["column_px"]) for row in rows] == list(range(WIDTH))
    assert rows[0]["ilm_row_px"] == rows[0]["retina_thickness_um"] == rows[35]["bm_row_px"] == ""
    assert float(rows[3]["nfl_gcl_row_px"]) == 15
    assert float(rows[3]["gcl_ipl_thickness_px"]) == 5
    assert float(rows[3]["retina_thickness_um"]) == 35 * 4
    assert not any(name.endswith("_um") for name in profile_table(boundaries).decode().split("\n")[0].split(","))


# --- the figure ------------------------------------------------------------------------------------------------------


def figures(folder: Path, shifts: list[int], pixel_size: float | None = None) -> dict[int, NDArray[np.uint8]]:
    """The figures that one writer makes, one after the other, of layers at several depths."""

    def step(engine: Engine, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        state: Any = engine.state
        state.batch = batch
        return [{} for _ in batch]

    def item(shift: int) -> dict[str, Any]:
        found = labels(shift, slice(shift, WIDTH - shift))
        return {
            "name": f"{shift}.png",
            "output_name": str(shift),
            "volume": ".",
            "pred": torch.as_tensor(from_picture(found)),
            "boundaries": torch.as_tensor(labels_to_boundaries(found)) * (1 + shift),
            "photo": torch.as_tensor(from_picture(np.full((HEIGHT, WIDTH), 40 * shift, np.uint8))),
        }

    engine = Engine(step)
    LayerWriter(ResultFolder(folder), LAYERS, figure=True, pixel_size=pixel_size).attach(engine)
    engine.run([[item(shift)] for shift in shifts])
    return {shift: read_pixels(folder / f"{shift}_figure.jpg") for shift in shifts}


def test_a_figure_does_not_depend_on_the_one_before(tmp_path: Path) -> None:
    both = figures(tmp_path / "both", [3, 1])

    np.testing.assert_array_equal(both[1], figures(tmp_path / "alone", [1])[1])
    assert (both[1] != both[3]).any()
    assert (both[1] != figures(tmp_path / "scale", [1], 3.87)[1]).any()


def test_a_figure_has_scan_overlay_and_profile(tmp_path: Path) -> None:
    picture = figures(tmp_path, [3])[3].astype(int)

    scan, overlaid, profile = picture[48:240, 48:448], picture[48:240, 512:912], picture[286:509, 58:825]
    assert (np.abs(scan - 120) <= 3).all()
    for layer in LAYERS:
        # On the overlay, and as a line.
        tinted = 0.45 * 120 + 0.55 * np.array(COLOURS[layer])
        assert (np.abs(overlaid - tinted).max(axis=2) < 25).any()
    assert (profile.max(axis=2) - profile.min(axis=2) > 60).any()
    assert (picture[:16] > 250).all()


# --- the report ------------------------------------------------------------------------------------------------------


def scan(name: str, found: NDArray[np.uint8], first: NDArray[np.uint8], second: Any = None) -> dict[str, Any]:
    probability = (found == np.arange(8)[:, None, None]).astype(np.float32) * 0.9
    data = {
        "name": name,
        "patient": name[0],
        "dataset": "phantoms",
        "pred": torch.as_tensor(from_picture(found)),
        "boundaries": torch.as_tensor(labels_to_boundaries(found)),
        "probability": torch.as_tensor(from_picture(probability.transpose(1, 2, 0))),
        "label": torch.as_tensor(from_picture(first)),
    }
    return data if second is None else {**data, "label_2": torch.as_tensor(from_picture(second))}


def report(folder: Path, scans: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
    def step(engine: Engine, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        state: Any = engine.state
        state.batch = batch
        return [{} for _ in batch]

    engine = Engine(step)
    LayerReport(folder, LAYERS, **options).attach(engine)
    engine.run([[item] for item in scans])
    content: dict[str, Any] = json.loads((folder / "evaluation_report.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture
def both(tmp_path: Path) -> dict[str, Any]:
    """Two patients; the second grader lies a row deeper and drew fewer columns."""
    annotated = slice(5, 30)
    first, second = labels(columns=annotated), labels(1, slice(10, 35))
    scans = [scan("a1", labels(), first, second), scan("b1", labels(2), first, second), scan("b2", labels(), first)]
    return report(tmp_path, scans, pixel_size=3.87)


def test_both_graders_and_one_against_the_other(both: dict[str, Any]) -> None:
    assert [both[part]["images"] for part in ("scans", "second_grader", "between_graders")] == [3, 2, 2]
    errors = {
        part: [row["boundary_error_px"] for row in both[part]["per_image"]]
        for part in ("scans", "second_grader", "between_graders")
    }
    assert errors == {"scans": [0, 2, 0], "second_grader": [1, 1], "between_graders": [1, 1]}
    assert both["second_grader"]["per_image"][0]["bias_ILM_px"] == -1
    assert both["scans"]["all"]["boundary_error_um"]["mean"] == pytest.approx(3.87 * 2 / 3)
    assert both["between_graders"]["all"]["dice_mean"]["mean"] == pytest.approx(0.8)
    assert both["scans"]["patients"] == 2
    assert both["settings"]["pixel_size"] == 3.87


def test_the_layers_have_their_scores_over_annotated_columns(both: dict[str, Any]) -> None:
    assert list(both["structures"]) == list(LAYERS)
    rows = both["structures"]["INL"]["per_image"]
    assert [row["dice"] for row in rows] == pytest.approx([1, 0.6, 1])
    assert [row["hausdorff95_px"] for row in rows] == [0, 2, 0]
    assert all(row["auc"] is not None for row in rows)


def test_without_a_second_grader_there_is_one_part(tmp_path: Path) -> None:
    found = report(tmp_path, [scan("a", labels(), labels())])

    assert set(found) == {"settings", "structures", "scans"}
    assert not any(name.endswith("_um") for name in found["scans"]["per_image"][0])


def test_columns_with_fluid_are_a_part_of_their_own(tmp_path: Path) -> None:
    wrong = labels()
    wrong[:, 20:] = labels(2)[:, 20:]
    fluid = np.zeros((HEIGHT, WIDTH), np.uint8)
    fluid[30:34, 20:] = 1
    swollen = {**scan("a", wrong, labels(columns=slice(5, 30))), "fluid": torch.as_tensor(from_picture(fluid))}
    dry = {**scan("b", labels(), labels()), "fluid": torch.zeros(1, WIDTH, HEIGHT)}

    found = report(tmp_path, [swollen, dry])

    assert [row["boundary_error_px"] for row in found["with_fluid"]["per_image"]] == [2]
    assert [row["boundary_error_px"] for row in found["without_fluid"]["per_image"]] == [0, 0]
    assert found["scans"]["per_image"][0]["boundary_error_px"] == pytest.approx(2 * 10 / 25)


def test_the_most_probable_classes_are_compared_too(tmp_path: Path) -> None:
    stray = scan("a", labels(), labels())
    stray["probability"][3, 4, HEIGHT - 20] = 1  # a pixel of the INL below the retina

    rows = report(tmp_path, [stray, scan("b", labels(), labels())])["scans"]["per_image"]

    assert [row["order_violations_argmax_count"] for row in rows] == [1, 0]
    assert [row["order_violations_count"] for row in rows] == [0, 0]
    assert rows[0]["dice_argmax_mean"] == pytest.approx((6 + 2 * 200 / 401) / 7)
    assert rows[1]["dice_argmax_mean"] == rows[0]["dice_mean"] == 1


def test_the_means_are_logged(both: dict[str, Any], tmp_path: Path) -> None:
    log = EventAccumulator(str(tmp_path)).Reload()

    logged = log.Scalars("evaluation/second_grader/boundary_error_um")[0].value
    assert logged == pytest.approx(both["second_grader"]["all"]["boundary_error_um"]["mean"])
    assert log.Scalars("evaluation/INL/dice")[0].value == pytest.approx(
        both["structures"]["INL"]["all"]["dice"]["mean"]
    )
    assert "evaluation_report" in log.Tags()["images"]


def test_a_scan_without_annotation_is_named(tmp_path: Path) -> None:
    none = np.full((HEIGHT, WIDTH), UNANNOTATED, np.uint8)

    found = report(tmp_path, [scan("a", labels(), none), scan("b", labels(), labels())])

    assert found["not_annotated"] == ["a"]
    assert found["scans"]["images"] == 1


def test_an_undefined_distance_is_null(tmp_path: Path) -> None:
    without = labels()
    without[without == 3] = 4

    found = report(tmp_path, [scan("a", without, labels()), scan("b", labels(), labels())])

    assert found["scans"]["per_image"][0]["hausdorff95_INL_px"] is None
    assert found["scans"]["all"]["hausdorff95_INL_px"]["n"] == 1
    assert found["structures"]["INL"]["per_image"][0]["hausdorff95_px"] is None


def test_the_report_has_a_figure(both: dict[str, Any], tmp_path: Path) -> None:
    with Image.open(tmp_path / "evaluation_report.png") as picture:
        assert np.asarray(picture).std() > 5
