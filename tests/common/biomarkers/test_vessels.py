from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.integrate import quad
from skimage.measure import euler_number, label
from skimage.morphology import thin

from common.biomarkers import (
    fractal_dimensions,
    skeletonize,
    trace_vessels,
    vessel_biomarkers,
    vessel_density,
)

Mask = NDArray[np.bool_]

COUNTS = ("vessel_branching_points", "vessel_segments")
PLAIN = [
    "vessel_density",
    "vessel_fractal_d0",
    "vessel_fractal_d1",
    "vessel_fractal_d2",
    "vessel_tortuosity_median",
    "vessel_tortuosity_weighted_mean",
    "vessel_branching_points",
    "vessel_segments",
]
PIXELS = [
    "vessel_length_px",
    "vessel_length_density_per_px",
    "vessel_calibre_mean_px",
    "vessel_calibre_std_px",
    "vessel_calibre_median_px",
    "vessel_calibre_p05_px",
    "vessel_calibre_p95_px",
]


def everywhere(mask: Mask) -> Mask:
    return np.ones(mask.shape, dtype=bool)


def bar(width: float, angle: float = 0.0, length: float = 150.0, side: int = 241) -> Mask:
    """A bar through the middle, turned by an angle in degrees."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    turn = math.radians(angle)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    inside: Mask = (abs(along) <= length / 2) & (abs(across) < width / 2)
    return inside


def star(angles: tuple[int, ...], thickness: int, length: int = 80, side: int = 221) -> Mask:
    """Bars that leave the middle in the directions given in degrees."""
    mask = np.zeros((side, side), np.uint8)
    for angle in angles:
        turn = math.radians(angle)
        tip = (round(side // 2 + length * math.cos(turn)), round(side // 2 + length * math.sin(turn)))
        cv2.line(mask, (side // 2, side // 2), tip, 1, thickness)
    return mask > 0


def tree(seed: int, thickness: int = 5) -> Mask:
    """Three curved vessels from one place, each of which forks."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((260, 300), np.uint8)
    stems = [(150.0, 130.0, angle) for angle in rng.uniform(0, 2 * np.pi) + np.array([0, 2.1, 4.2])]
    for depth in range(2):
        tips = []
        for x, y, angle in stems:
            bend = rng.uniform(-0.015, 0.015)
            for _ in range(50):
                angle += bend
                step = (x + math.cos(angle), y + math.sin(angle))
                cv2.line(mask, (round(x), round(y)), (round(step[0]), round(step[1])), 1, thickness - depth)
                x, y = step
            tips += [(x, y, angle - 0.5), (x, y, angle + 0.5)]
        stems = tips
    return mask > 0


# --- centre lines


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.sampled_from([0.3, 1.0, 3.0]), st.integers(0, 999))
def test_skeleton_is_that_of_scikit_image(height: int, width: int, share: float, blur: float, seed: int) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((height, width)), (0, 0), blur)
    mask = noise.reshape(height, width) > np.quantile(noise, share)
    skeleton = skeletonize(mask)
    np.testing.assert_array_equal(skeleton, thin(mask))
    assert label(skeleton, connectivity=2).max() == label(mask, connectivity=2).max()
    assert euler_number(np.pad(skeleton, 1), connectivity=2) == euler_number(np.pad(mask, 1), connectivity=2)


def test_skeleton_keeps_pixels_that_are_always_surrounded() -> None:
    mask = np.ones((9, 9), dtype=bool)
    mask[1::2, 1::2] = False
    mask[3:6, 3:6] = True
    mask[[2, 2, 6, 6], [2, 6, 2, 6]] = False
    np.testing.assert_array_equal(skeletonize(mask), thin(mask))


# --- bars and curves


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 15, 30])
def test_bar_along_the_grid(width: int) -> None:
    mask = np.zeros((80, 240), dtype=bool)
    mask[20 : 20 + width, 30:210] = True
    for picture in (mask, mask.T):
        trace = trace_vessels(picture)
        assert trace.segments == 1
        assert trace.branching_points == 0
        assert trace.tortuosity() == pytest.approx((1, 1))
        calibre = trace.calibre()
        assert calibre["mean"] == pytest.approx(width, abs=0.05)
        assert calibre["median"] == pytest.approx(width)
        assert trace.total_length == pytest.approx(180 - width, abs=2)


@pytest.mark.parametrize("angle", [5, 10, 22.5, 30, 45, 60, 77, 113, 160])
@pytest.mark.parametrize("width", [3, 6.5, 10, 21])
def test_turned_bar(width: float, angle: float) -> None:
    trace = trace_vessels(bar(width, angle))
    assert trace.segments == 1
    assert trace.branching_points == 0
    assert trace.tortuosity() == pytest.approx((1, 1), abs=0.015)
    assert trace.calibre()["mean"] == pytest.approx(width, abs=0.75)
    # The centre line ends between half a width before the end of the bar and its corner.
    assert 147 - width < trace.total_length < 153


def test_calibre_over_all_angles_has_little_bias() -> None:
    errors = [
        trace_vessels(bar(width, angle)).calibre()["mean"] - width for width in (5, 9, 13) for angle in range(0, 90, 7)
    ]
    assert abs(np.mean(errors)) < 0.35


def test_calibre_is_a_distribution() -> None:
    mask = np.zeros((120, 300), dtype=bool)
    mask[20:24, 20:280] = True
    mask[70:82, 20:280] = True
    calibre = trace_vessels(mask).calibre()
    assert calibre["mean"] == pytest.approx(8, abs=0.2)
    assert calibre["std"] == pytest.approx(4, abs=0.2)
    assert (calibre["p05"], calibre["p95"]) == (4, 12)


@pytest.mark.parametrize(("amplitude", "period", "thickness"), [(20, 200, 5), (40, 150, 7), (10, 60, 3)])
def test_tortuosity_of_a_sine(amplitude: int, period: int, thickness: int) -> None:
    x = np.linspace(20, 20 + 4 * period, 4000)
    y = 100 + amplitude * np.sin(2 * np.pi * (x - 20) / period)
    points = np.rint(16 * np.column_stack([x, y])).astype(np.int32)
    picture = np.zeros((200, 4 * period + 40), np.uint8)
    cv2.polylines(picture, [points.reshape(-1, 1, 2)], False, 1, thickness, cv2.LINE_8, 4)
    slope = amplitude * 2 * np.pi / period
    arc, _ = quad(lambda u: math.hypot(1, slope * math.cos(2 * np.pi * u / period)), 0, 4 * period, limit=500)
    trace = trace_vessels(picture > 0)
    assert trace.segments == 1
    assert trace.tortuosity() == pytest.approx((arc / (4 * period),) * 2, rel=0.015)
    assert trace.total_length == pytest.approx(arc, rel=0.015)


def test_tortuosity_mean_is_weighted_by_length() -> None:
    mask = np.zeros((220, 420), np.uint8)
    cv2.line(mask, (10, 10), (410, 10), 1, 3)
    cv2.ellipse(mask, (100, 60), (50, 50), 0, 0, 180, 1, 3)
    median, weighted_mean = trace_vessels(mask > 0).tortuosity()
    assert median == pytest.approx((1 + math.pi / 2) / 2, rel=0.02)
    arc = 50 * math.pi
    assert weighted_mean == pytest.approx((400 + arc * math.pi / 2) / (400 + arc), rel=0.02)


def test_ring_has_length_and_width_but_no_tortuosity() -> None:
    y, x = np.mgrid[:200, :200] - 100
    ring = abs(np.hypot(y, x) - 70) < 3.5
    result = vessel_biomarkers(ring, everywhere(ring))
    assert result.values["vessel_segments"] == 1
    assert result.values["vessel_length_px"] == pytest.approx(2 * math.pi * 70, rel=0.02)
    assert result.values["vessel_calibre_mean_px"] == pytest.approx(7, abs=0.6)
    assert math.isnan(result.values["vessel_tortuosity_median"])
    assert result.note == "tortuosity: no vessel segment is long enough"


# --- branching


@pytest.mark.parametrize("thickness", [1, 2, 3, 5, 7, 12])
@pytest.mark.parametrize(
    ("angles", "arms"),
    [
        ((90, 210, 330), 3),
        ((0, 90, 180), 3),
        ((60, 120, 270), 3),
        ((0, 90, 180, 270), 4),
        ((45, 135, 225, 315), 4),
        ((20, 110, 200, 290), 4),
    ],
    ids=["Y", "T", "narrow Y", "cross", "X", "turned cross"],
)
def test_arms_that_meet(angles: tuple[int, ...], arms: int, thickness: int) -> None:
    trace = trace_vessels(star(angles, thickness))
    assert trace.branching_points == 1
    assert trace.segments == arms
    assert trace.lengths == pytest.approx(np.full(arms, 78), abs=5)
    assert trace.tortuosity()[1] == pytest.approx(1, abs=0.03)
    # Inside the branching nothing is measured, where the vessels together are wider.
    assert trace.widths.max() < thickness + 5


def test_ladder() -> None:
    mask = np.zeros((100, 200), dtype=bool)
    mask[20:25, 10:190] = mask[70:75, 10:190] = True
    for column in (50, 100, 150):
        mask[20:75, column : column + 5] = True
    trace = trace_vessels(mask)
    assert trace.branching_points == 6
    assert trace.segments == 3 + 2 * 4


def test_bumps_of_the_edge_are_no_branches() -> None:
    mask = np.zeros((60, 200), dtype=bool)
    mask[25:36, 20:180] = True
    mask[20:25, 60:64] = mask[36:41, 120:124] = True
    trace = trace_vessels(mask)
    assert trace.branching_points == 0
    assert trace.segments == 1


def test_side_branch_longer_than_the_width_stays() -> None:
    mask = np.zeros((80, 200), dtype=bool)
    mask[25:36, 20:180] = True
    mask[36:60, 100:104] = True
    trace = trace_vessels(mask)
    assert trace.branching_points == 1
    assert trace.segments == 3


# --- fractal dimension


@pytest.mark.parametrize("side", [44, 64, 100, 333])
def test_dimension_of_a_square_is_two(side: int) -> None:
    mask = np.pad(np.ones((side, side), dtype=bool), 13)
    assert fractal_dimensions(mask) == pytest.approx((2, 2, 2), abs=0.02)


@pytest.mark.parametrize("side", [44, 64, 100, 333])
def test_dimension_of_a_line_is_one(side: int) -> None:
    line = np.zeros((side, side), dtype=bool)
    line[side // 3] = True
    for mask in (line, line.T, np.eye(side, dtype=bool)):
        assert fractal_dimensions(mask) == pytest.approx((1, 1, 1), abs=0.02)


def test_dimension_of_the_sierpinski_carpet() -> None:
    carpet = np.ones((1, 1), dtype=bool)
    for _ in range(6):
        carpet = np.kron(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], dtype=bool), carpet)
    # All Rényi dimensions of a carpet of even weight are the same.
    assert fractal_dimensions(carpet) == pytest.approx((math.log(8) / math.log(3),) * 3, abs=0.03)


def test_dimensions_of_uneven_weight_fall() -> None:
    # A cascade that puts 1, 2, 3 and 3 parts of the mass of a square in its quarters.
    weights: NDArray[np.float64] = np.array([[1.0, 2.0], [3.0, 3.0]]) / 9
    mass = weights
    for _ in range(8):
        mass = np.asarray(np.kron(mass, weights), np.float64)
    pattern = np.random.default_rng(0).random(mass.shape) < np.minimum(1, 60000 * mass)
    dimensions = fractal_dimensions(pattern)
    assert dimensions.d0 > dimensions.d1 > dimensions.d2
    assert dimensions.d2 == pytest.approx(-math.log2((weights**2).sum()), abs=0.07)


def test_dimension_of_a_few_pixels_is_unknown() -> None:
    mask = np.pad(np.ones((1, 43), dtype=bool), 30)
    assert np.isnan(fractal_dimensions(mask)).all()
    assert np.isnan(fractal_dimensions(np.zeros((50, 50), dtype=bool))).all()
    assert "fractal dimension: the vessels span too few pixels" in vessel_biomarkers(mask, everywhere(mask)).notes


# --- the table


def test_columns() -> None:
    mask = tree(0)
    assert list(vessel_biomarkers(mask, everywhere(mask)).values) == PLAIN + PIXELS
    micrometres = [
        name.replace("_per_px", "_per_mm").removesuffix("_px") + ("" if "_per_" in name else "_um") for name in PIXELS
    ]
    values = vessel_biomarkers(mask, everywhere(mask), pixel_size=4.0).values
    assert sorted(values) == sorted(PLAIN + PIXELS + micrometres)
    assert all(isinstance(value, float) for value in values.values())


def test_micrometres() -> None:
    mask = bar(9, length=200)
    values = vessel_biomarkers(mask, everywhere(mask), pixel_size=5.0).values
    assert values["vessel_calibre_mean_um"] == pytest.approx(45, abs=0.1)
    assert values["vessel_length_um"] == pytest.approx(5 * values["vessel_length_px"])
    millimetres, square_millimetres = values["vessel_length_um"] / 1000, mask.size * 0.005**2
    assert values["vessel_length_density_per_mm"] == pytest.approx(millimetres / square_millimetres)
    assert values["vessel_length_density_per_px"] == pytest.approx(values["vessel_length_px"] / mask.size)


def test_density() -> None:
    mask = np.zeros((10, 20), dtype=bool)
    mask[:5] = True
    view = np.zeros((10, 20), dtype=bool)
    view[4:8, :10] = True
    assert vessel_density(mask, view) == pytest.approx(10 / 40)
    assert vessel_biomarkers(mask, view).values["vessel_density"] == pytest.approx(10 / 40)


@pytest.mark.parametrize("pixel_size", [None, 4.0])
def test_empty_map(pixel_size: float | None) -> None:
    mask = np.zeros((50, 60), dtype=bool)
    result = vessel_biomarkers(mask, everywhere(mask), pixel_size=pixel_size)
    full = vessel_biomarkers(tree(0), everywhere(tree(0)), pixel_size=pixel_size)
    assert list(result.values) == list(full.values)
    assert all(math.isnan(value) for value in result.values.values())
    assert result.note == "no vessel found"
    assert (full.notes, full.note) == ((), "")


def test_blob_has_no_centre_line() -> None:
    mask = np.pad(np.ones((51, 51), dtype=bool), 10)
    result = vessel_biomarkers(mask, everywhere(mask))
    defined = {name for name, value in result.values.items() if not math.isnan(value)}
    assert defined == {"vessel_density", "vessel_fractal_d0", "vessel_fractal_d1", "vessel_fractal_d2"}
    assert result.note == "no vessel segment found, only blobs"


def test_vessels_outside_the_field_of_view_are_ignored() -> None:
    mask = tree(1)
    view = np.zeros(mask.shape, np.uint8)
    cv2.circle(view, (150, 130), 80, 1, -1)
    noisy = mask | (np.random.default_rng(0).random(mask.shape) < 0.3) & (view == 0)
    assert vessel_biomarkers(noisy, view > 0) == vessel_biomarkers(mask & (view > 0), view > 0)
    only_outside = vessel_biomarkers(view == 0, view > 0)
    assert only_outside.note == "no vessel found"


def test_the_arguments_are_left_as_they_were() -> None:
    mask = tree(2)
    copy = mask.copy()
    vessel_biomarkers(mask, everywhere(mask))
    np.testing.assert_array_equal(mask, copy)


def test_masks_need_not_be_contiguous() -> None:
    mask = np.zeros((520, 600), dtype=bool)
    mask[::2, ::2] = tree(3)
    view = mask[::2, ::2]
    assert vessel_biomarkers(view, everywhere(view)) == vessel_biomarkers(tree(3), everywhere(tree(3)))


# --- invariances


def assert_alike(first: dict[str, float], second: dict[str, float], scale: int = 1) -> None:
    """Equal but for what the pixel grid decides, with lengths that grow by the scale."""
    share = 0.02 if scale == 1 else 0.07
    for name, value in first.items():
        if name in COUNTS:
            assert second[name] == pytest.approx(value, abs=1), name
        elif "calibre" in name:
            assert second[name] == pytest.approx(value * scale, abs=0.7 * scale), name
        elif "fractal" in name:
            # The smaller picture has fewer pixels than the finest scales need.
            assert second[name] == pytest.approx(value, rel=1e-9 if scale == 1 else 0.12), name
        elif name == "vessel_length_px":
            assert second[name] == pytest.approx(value * scale, rel=share), name
        elif name == "vessel_length_density_per_px":
            assert second[name] == pytest.approx(value / scale, rel=share), name
        else:
            assert second[name] == pytest.approx(value, rel=share), name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, 3), st.booleans())
def test_turning_and_mirroring(seed: int, turns: int, mirrored: bool) -> None:
    mask = tree(seed)
    turned = np.rot90(mask, turns)
    turned = turned[::-1] if mirrored else turned
    before, after = vessel_biomarkers(mask, everywhere(mask)), vessel_biomarkers(turned, everywhere(turned))
    assert_alike(before.values, after.values)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(0, 50), st.integers(0, 50))
def test_shifting(seed: int, down: int, right: int) -> None:
    mask = tree(seed)
    large, shifted = np.pad(mask, 50), np.pad(mask, ((50 + down, 50 - down), (50 + right, 50 - right)))
    assert vessel_biomarkers(large, everywhere(large)) == vessel_biomarkers(shifted, everywhere(shifted))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.integers(2, 3))
def test_enlarging(seed: int, scale: int) -> None:
    mask = tree(seed, thickness=6)
    enlarged = np.kron(mask, np.ones((scale, scale), dtype=bool))
    before, after = vessel_biomarkers(mask, everywhere(mask)), vessel_biomarkers(enlarged, everywhere(enlarged))
    assert_alike(before.values, after.values, scale)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1), st.integers(0, 999))
def test_any_mask_gives_values_or_notes(height: int, width: int, share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    result = vessel_biomarkers(mask, everywhere(mask))
    values = np.array(list(result.values.values()))
    assert not np.isinf(values).any()
    assert not (values < 0).any()
    assert bool(np.isnan(values).any()) == bool(result.notes)
    if not math.isnan(result.values["vessel_tortuosity_median"]):
        assert result.values["vessel_tortuosity_median"] >= 1 - 1e-9


# --- wrong arguments


@pytest.mark.parametrize(
    ("vessel", "view", "message"),
    [
        (np.zeros((5, 6)), np.ones((5, 6), bool), "vessel must be an array .* of bool, not .* of float64"),
        (np.zeros((1, 5, 6), bool), np.ones((5, 6), bool), "vessel must be an array"),
        (np.zeros((5, 6), bool), np.ones((5, 6), np.uint8), "field_of_view must be an array"),
        (np.zeros((5, 6), bool), np.ones((6, 5), bool), "the same shape"),
        (np.zeros((5, 6), bool), np.zeros((5, 6), bool), "field_of_view is empty"),
    ],
)
def test_wrong_masks(vessel: Mask, view: Mask, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vessel_biomarkers(vessel, view)
    with pytest.raises(ValueError, match=message):
        vessel_density(vessel, view)


@pytest.mark.parametrize("pixel_size", [0.0, -4.0, float("nan"), float("inf")])
def test_wrong_pixel_size(pixel_size: float) -> None:
    mask = tree(0)
    with pytest.raises(ValueError, match=r"pixel_size is .* in micrometres"):
        vessel_biomarkers(mask, everywhere(mask), pixel_size=pixel_size)


@pytest.mark.parametrize("wrong", [np.zeros((5, 6), np.uint8), np.zeros(5, bool)])
def test_wrong_patterns(wrong: Mask) -> None:
    with pytest.raises(ValueError, match="of bool"):
        trace_vessels(wrong)
    with pytest.raises(ValueError, match="of bool"):
        fractal_dimensions(wrong)
    with pytest.raises(ValueError, match="of bool"):
        skeletonize(wrong)
