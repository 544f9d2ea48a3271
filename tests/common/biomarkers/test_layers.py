from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from common.biomarkers import (
    BOUNDARIES,
    LAYERS,
    boundaries_to_labels,
    hide_cut_boundaries,
    labels_to_boundaries,
    layer_biomarkers,
    layer_thickness,
    order_violations,
    ordered_boundaries,
)
from common.biomarkers.layers import UNANNOTATED
from common.phantoms import oct_phantom

HEIGHT, WIDTH = 60, 30


def sloped(width: int = WIDTH) -> NDArray[np.float64]:
    """Boundaries ``(8, W)`` that fall towards the right; layer ``i`` is ``i + 2`` rows thick."""
    top = 5 + np.arange(width) // 5
    return (top + np.concatenate([[0], np.cumsum(np.arange(7) + 2)])[:, None]).astype(float)


def probabilities_of(labels: NDArray[np.uint8], sure: float = 0.9) -> NDArray[np.float64]:
    """Probabilities ``(8, H, W)`` of which the right class has ``sure`` and the others share the rest."""
    right = labels == np.arange(8)[:, None, None]
    return np.where(right, sure, (1 - sure) / 7)


def test_the_row_of_a_boundary_belongs_to_the_layer_below_it() -> None:
    labels = boundaries_to_labels(np.array([[2.0], [4], [5], [6], [7], [9], [10], [12]]), 14)

    assert labels[:, 0].tolist() == [0, 0, 1, 1, 2, 3, 4, 5, 5, 6, 7, 7, 0, 0]


def test_a_label_map_gives_its_boundaries_back() -> None:
    boundaries = sloped()
    boundaries[3] = boundaries[2]  # a layer without thickness
    boundaries[:, 4] = np.nan

    again = labels_to_boundaries(boundaries_to_labels(boundaries, HEIGHT))

    np.testing.assert_array_equal(again, boundaries)


def test_parts_of_a_pixel_are_rounded_and_thickness_is_kept() -> None:
    boundaries = sloped() + 0.4

    labels = boundaries_to_labels(boundaries, HEIGHT)

    for layer in range(7):
        assert ((labels == layer + 1).sum(axis=0) == layer + 2).all()


def test_what_lies_between_unknown_boundaries_is_not_annotated() -> None:
    boundaries = sloped()
    boundaries[2, 7] = np.nan

    column = boundaries_to_labels(boundaries, HEIGHT)[:, 7]

    top, under = int(boundaries[1, 7]), int(boundaries[3, 7])
    assert (column[top:under] == UNANNOTATED).all()
    assert set(column[:top]) == {0, 1}
    assert set(column[under:]) == {0, 4, 5, 6, 7}


@pytest.mark.parametrize("first", [0, 7])
def test_the_background_beyond_an_unknown_outer_boundary_is_not_annotated(first: int) -> None:
    boundaries = sloped()
    boundaries[first, 3] = np.nan

    column = boundaries_to_labels(boundaries, HEIGHT)[:, 3]

    assert column[0 if first == 0 else -1] == UNANNOTATED
    assert column[-1 if first == 0 else 0] == 0


def test_boundaries_that_cross_are_put_in_order() -> None:
    boundaries = sloped()
    boundaries[3] = boundaries[2] - 2

    labels = boundaries_to_labels(boundaries, HEIGHT)

    assert order_violations(labels) == 0
    assert not (labels == 3).any()


def test_another_number_of_boundaries_is_refused() -> None:
    with pytest.raises(ValueError, match=r"boundaries has the shape \(7, 4\)"):
        boundaries_to_labels(np.zeros((7, 4)), 10)


def test_violations_are_columns_that_go_back_or_have_a_gap() -> None:
    labels = boundaries_to_labels(sloped(), HEIGHT)
    assert order_violations(labels) == 0
    labels[30, 3] = 1
    labels[int(sloped()[2, 9]) + 1, 9] = 0
    labels[:, 12] = 0

    assert order_violations(labels) == 2


@pytest.mark.parametrize("certainty", [0.2, 1.0, 3.0])
def test_clear_probabilities_give_the_boundaries(certainty: float) -> None:
    boundaries = sloped()

    found = ordered_boundaries(probabilities_of(boundaries_to_labels(boundaries, HEIGHT), 0.999), certainty)

    np.testing.assert_allclose(found, boundaries, atol=0.35)


def test_a_stray_piece_of_a_layer_is_not_believed() -> None:
    labels = boundaries_to_labels(sloped(), HEIGHT)
    stray = labels.copy()
    stray[2, 5], stray[50, 6] = 5, 2
    assert order_violations(stray) == 2

    found = boundaries_to_labels(ordered_boundaries(probabilities_of(stray, 0.99)), HEIGHT)

    assert order_violations(found) == 0
    np.testing.assert_array_equal(found, labels)


def test_an_undecided_row_moves_a_boundary_by_half_a_pixel() -> None:
    boundaries = sloped()
    probabilities = probabilities_of(boundaries_to_labels(boundaries, HEIGHT), 1 - 1e-5)
    row = int(boundaries[1, 8])
    probabilities[:, row, 8] = 0
    probabilities[1:3, row, 8] = 0.5

    found = ordered_boundaries(probabilities)

    assert found[1, 8] == pytest.approx(boundaries[1, 8] + 0.5, abs=0.02)
    assert found[1, 7] == pytest.approx(boundaries[1, 7], abs=0.02)


def test_columns_without_retina_have_no_boundaries() -> None:
    labels = boundaries_to_labels(sloped(), HEIGHT)
    labels[:, 10:20] = 0

    found = ordered_boundaries(probabilities_of(labels))

    assert np.isnan(found[:, 10:20]).all()
    assert not np.isnan(found[:, [*range(10), *range(20, 30)]]).any()


def test_smoothing_takes_the_neighbours_word() -> None:
    labels = boundaries_to_labels(np.repeat(sloped()[:, :1], 21, axis=1), HEIGHT)
    wrong = labels.copy()
    wrong[:, 10] = np.roll(labels[:, 10], 6)

    alone = ordered_boundaries(probabilities_of(wrong))
    together = ordered_boundaries(probabilities_of(wrong), smoothing=3.0)

    assert abs(alone[0, 10] - sloped()[0, 0]) > 5
    assert abs(together[0, 10] - sloped()[0, 0]) < 0.5


@pytest.mark.parametrize("certainty", [1.0, 0.5, 2.5])
def test_boundaries_are_means_over_all_orders(certainty: float) -> None:
    rows, columns = 5, 6
    probabilities = np.random.default_rng(3).dirichlet(np.full(8, 0.3), size=(rows, columns)).transpose(2, 0, 1)
    # Every way down a column: nine states, of which the first and the last are background, that never go back.
    ways = np.array(list(itertools.combinations_with_replacement(range(9), rows)))
    weights = np.maximum(probabilities, 1e-6)[ways % 8, np.arange(rows)].prod(axis=1) ** certainty
    above = (ways[:, :, None] <= np.arange(8)).sum(axis=1)
    expected = (weights.T @ above / weights.sum(axis=0)[:, None]).T

    found = ordered_boundaries(probabilities, certainty)

    there = ~np.isnan(found).any(axis=0)
    assert there.any()
    np.testing.assert_allclose(found[:, there], expected[:, there], rtol=1e-9)


def test_smoothing_averages_the_logarithms() -> None:
    probabilities = probabilities_of(boundaries_to_labels(sloped(), HEIGHT))
    smooth = np.exp(gaussian_filter1d(np.log(probabilities), 2.0, axis=2, mode="nearest"))

    np.testing.assert_allclose(ordered_boundaries(probabilities, 0.7, 2.0), ordered_boundaries(smooth, 0.7), rtol=1e-9)


@pytest.mark.parametrize("certainty", [0.1, 1.0, 10.0])
def test_tall_scans_and_great_certainty_do_not_underflow(certainty: float) -> None:
    boundaries = sloped() + 800
    probabilities = probabilities_of(boundaries_to_labels(boundaries, 1024), sure=1.0).astype(np.float32)

    np.testing.assert_allclose(ordered_boundaries(probabilities, certainty), boundaries, atol=0.6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 3.0), st.sampled_from([0.0, 0.5, 3.0]))
def test_boundaries_never_cross_whatever_the_network_says(seed: int, certainty: float, smoothing: float) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(8, 0.3), size=(25, 9)).transpose(2, 0, 1)

    found = ordered_boundaries(probabilities, certainty, smoothing)

    kept = found[:, ~np.isnan(found).any(axis=0)]
    assert (np.diff(kept, axis=0) >= -1e-9).all()
    assert kept.size == 0 or (kept.min() >= 0 and kept.max() <= 25)
    labels = boundaries_to_labels(found, 25)
    assert order_violations(np.where(labels == UNANNOTATED, 0, labels)) == 0


@pytest.mark.parametrize(("shape", "certainty"), [((7, 5, 5), 1.0), ((8, 5, 5), 0.0)])
def test_other_classes_or_no_certainty_are_refused(shape: tuple[int, ...], certainty: float) -> None:
    with pytest.raises(ValueError, match=r"give \(8, H, W\)|give a number above 0"):
        ordered_boundaries(np.ones(shape), certainty)


def test_thickness_of_a_phantom() -> None:
    phantom = oct_phantom(496, 300, seed=3)

    thickness = layer_thickness(phantom.boundaries)

    assert list(thickness) == [*LAYERS, "retina"]
    for layer, name in enumerate(LAYERS):
        pixels = (phantom.labels == layer + 1).sum(axis=0)
        assert np.abs(pixels - thickness[name]).max() <= 1
    total = np.sum([thickness[name] for name in LAYERS], axis=0)
    np.testing.assert_allclose(total, thickness["retina"])


def test_biomarkers_of_known_boundaries() -> None:
    boundaries = np.repeat(sloped()[:, :1], 40, axis=1)
    boundaries[1:, 20:] += 4  # NFL is 2 rows thick at the left, 6 at the right
    boundaries[:, :4] = np.nan

    found = layer_biomarkers(boundaries, pixel_size=3.0, lateral_scale=100.0)

    values = found.values
    assert values["segmented_width_px"] == 36
    assert values["nfl_thickness_mean_px"] == pytest.approx((16 * 2 + 20 * 6) / 36)
    assert values["nfl_thickness_median_px"] == 6
    assert (values["nfl_thickness_min_px"], values["nfl_thickness_max_px"]) == (2, 6)
    # The middle is between columns 19 and 20; five columns of 100 micrometres lie within 500 on each side.
    assert values["nfl_thickness_central_mean_px"] == pytest.approx((5 * 2 + 5 * 6) / 10)
    assert values["retina_thickness_max_px"] == sum(range(2, 9)) + 4
    for name, value in values.items():
        if name.endswith("_um"):
            assert value == pytest.approx(3 * values[name.replace("_um", "_px")])
    assert found.notes == ("no retina in 4 of 40 columns",)


def test_layers_that_the_edge_cuts_off_are_not_measured() -> None:
    boundaries = np.repeat(sloped()[:, :1], 40, axis=1)
    height, above = int(boundaries[-1, 0]) + 20, boundaries[1, 0] - 1
    boundaries[:, :10] -= above  # the ILM would lie above the picture, the next boundary lies on its second row
    boundaries = np.clip(boundaries, 0, height)

    hidden = hide_cut_boundaries(boundaries, height)
    found = layer_biomarkers(hidden)

    assert np.isnan(hidden[0, :10]).all()
    assert np.isnan(hidden).sum() == 10
    assert found.values["nfl_thickness_min_px"] == found.values["nfl_thickness_max_px"] == 2
    assert found.values["gcl_ipl_thickness_max_px"] == found.values["gcl_ipl_thickness_min_px"]
    assert found.values["retina_thickness_min_px"] == sum(range(2, 9))
    assert found.values["segmented_width_px"] == 40
    assert found.notes == ("retina cut off by the edge in 10 of 40 columns",)


def test_the_last_rows_and_a_border_cut_off_too() -> None:
    boundaries = np.repeat(sloped()[:, :1], 40, axis=1)
    first, last = int(boundaries[0, 0]), int(boundaries[-1, 0])
    border = np.zeros((last + 20, 40), dtype=bool)
    border[:first, 10:20] = border[last + 2 :, 20:30] = border[: first - 1, 30:] = border[last + 4 :, 30:] = True

    assert not np.isnan(hide_cut_boundaries(boundaries, last + 3)).any()
    assert np.isnan(hide_cut_boundaries(boundaries, last + 2)[-1]).all()
    hidden = np.isnan(hide_cut_boundaries(boundaries, last + 20, border))
    assert hidden.sum() == 20
    assert hidden[0, 10:20].all()
    assert hidden[-1, 20:30].all()


def test_without_scales_there_are_pixels_only() -> None:
    values = layer_biomarkers(sloped()).values

    assert not [name for name in values if name.endswith("_um") or "central" in name]
    assert len(values) == 1 + 8 * 4


def test_nothing_found_is_nan_with_a_reason() -> None:
    found = layer_biomarkers(np.full((8, 12), np.nan), 3.87, 11.0)

    assert found.values.pop("segmented_width_px") == 0
    assert all(np.isnan(value) for value in found.values.values())
    assert found.notes == ("no retina found",)


def test_a_central_millimetre_without_retina_is_noted() -> None:
    boundaries = sloped(100)
    boundaries[:, 30:70] = np.nan

    found = layer_biomarkers(boundaries, None, 50.0)

    assert np.isnan(found.values["retina_thickness_central_mean_px"])
    assert found.values["retina_thickness_mean_px"] == sum(range(2, 9))
    assert found.notes[-1] == "no whole retina in the central millimetre"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 200), st.integers(-3, 12))
def test_thickness_does_not_depend_on_where_the_retina_lies(seed: int, shift: int) -> None:
    boundaries = oct_phantom(160, 96, seed=seed).boundaries

    here, there = layer_biomarkers(boundaries), layer_biomarkers(boundaries[:, ::-1] + shift)

    assert here.values.keys() == there.values.keys()
    assert all(there.values[name] == pytest.approx(value) for name, value in here.values.items())


def test_there_is_one_boundary_more_than_layers() -> None:
    assert len(BOUNDARIES) == len(LAYERS) + 1 == 8
