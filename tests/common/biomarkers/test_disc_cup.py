from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.biomarkers import (
    cup_to_disc_ratios,
    ddls_stage,
    disc_cup_biomarkers,
    ellipse_shape,
    eye_from_name,
    eye_from_position,
    isnt_rule,
    rim_profile,
)

Mask = NDArray[np.bool_]

WORDS = ["eye", "isnt_rule"]
PLAIN = [
    "cdr_vertical",
    "cdr_horizontal",
    "cdr_area",
    "rim_to_disc_ratio_min",
    "rim_absent_deg",
    "ddls_stage",
    "disc_eccentricity",
    "disc_tilt_deg",
    "cup_eccentricity",
    "cup_tilt_deg",
    "cup_shift_disc_diameters",
]
PIXELS = [
    "disc_area_px2",
    "disc_diameter_vertical_px",
    "disc_diameter_horizontal_px",
    "cup_area_px2",
    "rim_area_px2",
    "rim_thickness_mean_px",
    "rim_thickness_min_px",
    "rim_thickness_inferior_px",
    "rim_thickness_superior_px",
    "rim_thickness_nasal_px",
    "rim_thickness_temporal_px",
    "cup_shift_px",
]
OF_THE_DISC = {
    "disc_eccentricity",
    "disc_tilt_deg",
    "disc_area_px2",
    "disc_diameter_vertical_px",
    "disc_diameter_horizontal_px",
}
SIDE = 301
NO_EYE = "eye unknown: no nasal and no temporal quadrant, no ISNT rule"


def ellipse(
    horizontal: float,
    vertical: float | None = None,
    turn: float = 0.0,
    right: float = 0.0,
    down: float = 0.0,
    side: int = SIDE,
) -> Mask:
    """An ellipse with two radii, turned anticlockwise by an angle in degrees, away from the middle of a square."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    x, y, angle = x - right, down - y, math.radians(turn)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    inside: Mask = (along / horizontal) ** 2 + (across / (vertical or horizontal)) ** 2 <= 1
    return inside


def sector(first: float, last: float, side: int = SIDE) -> Mask:
    """What lies between two directions in degrees, anticlockwise from the right."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inside: Mask = (np.degrees(np.arctan2(-y, x)) - first) % 360 < last - first
    return inside


def measure(disc: Mask, cup: Mask, **settings: Any) -> dict[str, Any]:
    return disc_cup_biomarkers(disc, cup, **settings).values


def is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


class Shapes(NamedTuple):
    """A disc and a cup with a rim all around, neither of them quite round."""

    disc: Mask
    cup: Mask


@st.composite
def shapes(draw: st.DrawFn) -> Shapes:
    disc_radius = draw(st.floats(40, 60))
    stretch = draw(st.floats(1.1, 1.4))
    cup_radius = disc_radius * draw(st.floats(0.25, 0.6))
    away, direction = disc_radius * draw(st.floats(0.05, 0.25)), draw(st.floats(0, 2 * math.pi))
    disc = ellipse(disc_radius, disc_radius * stretch, draw(st.floats(-80, 80)), side=201)
    right, down = away * math.cos(direction), away * math.sin(direction)
    cup = ellipse(cup_radius, cup_radius * draw(st.floats(1.1, 1.4)), draw(st.floats(-80, 80)), right, down, 201)
    return Shapes(disc, cup)


# --- ratios, areas, diameters


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.8, 1.0])
def test_concentric_circles(share: float) -> None:
    disc, cup = ellipse(100), ellipse(100 * share)
    values = measure(disc, cup, eye="OD")
    assert values["cdr_vertical"] == pytest.approx(share, abs=0.005)
    assert values["cdr_horizontal"] == values["cdr_vertical"]
    assert values["cdr_area"] == pytest.approx(share**2, rel=0.02)
    assert values["disc_area_px2"] == disc.sum() == pytest.approx(math.pi * 100**2, rel=0.002)
    assert values["cup_area_px2"] == cup.sum()
    assert values["rim_area_px2"] == disc.sum() - cup.sum()
    assert values["disc_diameter_vertical_px"] == values["disc_diameter_horizontal_px"] == 201
    for name in ("mean", "min", "inferior", "superior", "nasal", "temporal"):
        assert values[f"rim_thickness_{name}_px"] == pytest.approx(100 * (1 - share), abs=1), name
    assert values["rim_to_disc_ratio_min"] == pytest.approx((1 - share) / 2, abs=0.005)
    assert values["cup_shift_px"] == values["cup_shift_disc_diameters"] == 0
    assert (values["disc_eccentricity"], values["cup_eccentricity"]) == pytest.approx((0, 0), abs=1e-6)
    assert values["rim_absent_deg"] == (360 if share == 1 else 0)


def test_ratios_count_whole_pixels() -> None:
    disc, cup = np.zeros((40, 50), dtype=bool), np.zeros((40, 50), dtype=bool)
    disc[5:25, 10:40] = True
    cup[10:20, 12:18] = True
    assert cup_to_disc_ratios(disc, cup) == (10 / 20, 6 / 30, 60 / 600)


def test_ratios_of_an_oval_cup() -> None:
    ratios = cup_to_disc_ratios(ellipse(80, 100), ellipse(20, 70))
    assert ratios == pytest.approx((0.7, 0.25, 0.175), abs=0.005)


def test_cup_outside_the_disc_is_cut_off() -> None:
    disc, cup = ellipse(80), ellipse(60, right=50)
    values = measure(disc, cup, eye="OS")
    assert values == pytest.approx(measure(disc, cup & disc, eye="OS"), nan_ok=True)
    assert values["cup_area_px2"] == (cup & disc).sum()


# --- the rim


@pytest.mark.parametrize("radius", [10, 20, 45.5, 120])
def test_radii_are_right_to_a_fraction_of_a_pixel(radius: float) -> None:
    profile = rim_profile(ellipse(radius), ellipse(radius / 2))
    assert profile.angles == pytest.approx(np.arange(360) + 0.5)
    assert profile.disc_radius == pytest.approx(np.full(360, radius), abs=0.75)
    assert profile.disc_radius.mean() == pytest.approx(radius, abs=0.2)
    assert profile.cup_radius == pytest.approx(np.full(360, radius / 2), abs=0.75)
    assert profile.disc_diameter == pytest.approx(np.full(360, 2 * radius), abs=1.2)


def test_profile_of_squares() -> None:
    disc, cup = np.zeros((101, 101), dtype=bool), np.zeros((101, 101), dtype=bool)
    disc[10:91, 10:91] = True
    cup[30:71, 30:71] = True
    profile = rim_profile(disc, cup)
    nearest = np.maximum(abs(np.cos(np.radians(profile.angles))), abs(np.sin(np.radians(profile.angles))))
    assert profile.disc_radius == pytest.approx(40.5 / nearest, abs=0.25)
    assert profile.thickness == pytest.approx(20 / nearest, abs=0.25)
    assert profile.ratio == pytest.approx(np.full(360, 20 / 81), abs=0.005)


def test_angles_run_anticlockwise_from_the_right() -> None:
    disc = ellipse(100)
    for angle in (0, 45, 90, 180, 270):
        turn = math.radians(angle)
        profile = rim_profile(disc, ellipse(40, right=50 * math.cos(turn), down=-50 * math.sin(turn)))
        thinnest = profile.angles[profile.thickness < 12]
        assert np.abs((thinnest - angle + 180) % 360 - 180).max() < 20
        assert profile.thickness.min() == pytest.approx(10, abs=1)
        assert profile.thickness.max() == pytest.approx(100, abs=1)


def test_profile_along_the_axis_of_an_offset_cup() -> None:
    values = measure(ellipse(100), ellipse(40, right=30), eye="OD")
    assert values["rim_thickness_min_px"] == pytest.approx(30, abs=0.75)
    assert values["rim_to_disc_ratio_min"] == pytest.approx(0.15, abs=0.005)
    assert values["cup_shift_px"] == pytest.approx(30, abs=0.05)
    assert values["cup_shift_disc_diameters"] == pytest.approx(0.15, abs=0.001)
    assert values["rim_thickness_nasal_px"] < values["rim_thickness_inferior_px"] < values["rim_thickness_temporal_px"]
    assert values["rim_thickness_superior_px"] == pytest.approx(values["rim_thickness_inferior_px"], abs=0.01)


def test_number_of_angles() -> None:
    disc, cup = ellipse(100), ellipse(60, right=10)
    few, many = rim_profile(disc, cup, 8), rim_profile(disc, cup, 1440)
    assert few.angles == pytest.approx(np.arange(8) * 45 + 22.5)
    assert few.thickness.mean() == pytest.approx(many.thickness.mean(), abs=0.5)
    assert len(many.thickness) == 1440
    for wrong in (0, -8, 7, 100):
        with pytest.raises(ValueError, match="multiple of 8"):
            rim_profile(disc, cup, wrong)


def test_quadrants() -> None:
    # Thickness 50, but 40 on the right, 30 above and 20 on the left.
    disc = ellipse(100)
    cup = ellipse(50)
    for first, radius in ((-45, 60), (45, 70), (135, 80)):
        cup |= ellipse(radius) & sector(first, first + 90)
    right_eye = measure(disc, cup, eye="OD")
    left_eye = measure(disc, cup, eye="OS")
    found = [right_eye[f"rim_thickness_{name}_px"] for name in ("inferior", "superior", "nasal", "temporal")]
    assert found == pytest.approx([50, 30, 40, 20], abs=1)
    found = [left_eye[f"rim_thickness_{name}_px"] for name in ("inferior", "superior", "nasal", "temporal")]
    assert found == pytest.approx([50, 30, 20, 40], abs=1)
    assert right_eye["rim_thickness_mean_px"] == pytest.approx(35, abs=0.5)


@pytest.mark.parametrize(
    ("thickness", "expected"),
    [
        ((4, 3, 2, 1), "true"),
        ((2, 2, 2, 2), "true"),
        ((3, 4, 2, 1), "false"),
        ((4, 2, 3, 1), "false"),
        ((4, 3, 1, 2), "false"),
        ((4, 3, math.nan, math.nan), "unknown"),
        ((1, 3, math.nan, math.nan), "unknown"),
    ],
)
def test_isnt_rule(thickness: tuple[float, float, float, float], expected: str) -> None:
    assert isnt_rule(*thickness) == expected


def test_isnt_rule_depends_on_the_eye() -> None:
    # Thickness 60 below, 50 above, 40 on the right and 20 on the left.
    disc, cup = ellipse(100), ellipse(40)
    for first, radius in ((45, 50), (-45, 60), (135, 80)):
        cup |= ellipse(radius) & sector(first, first + 90)
    assert measure(disc, cup, eye="OD")["isnt_rule"] == "true"
    assert measure(disc, cup, eye="OS")["isnt_rule"] == "false"
    assert measure(disc, cup)["isnt_rule"] == "unknown"
    assert measure(disc, ellipse(60), eye="OD")["isnt_rule"] == "true"


# --- damage


@pytest.mark.parametrize("direction", [0, 77, 200])
@pytest.mark.parametrize(("gap", "stage"), [(20, 6), (60, 7), (120, 8), (220, 9), (300, 10)])
def test_rim_with_a_gap(gap: float, stage: int, direction: float) -> None:
    disc = ellipse(120)
    cup = ellipse(60) | disc & sector(direction, direction + gap)
    values = measure(disc, cup, eye="OD")
    assert values["rim_absent_deg"] == pytest.approx(gap, abs=2)
    assert values["rim_to_disc_ratio_min"] == pytest.approx(0, abs=0.002)
    assert values["ddls_stage"] == stage


def test_gaps_are_added() -> None:
    disc = ellipse(120)
    cup = ellipse(60) | disc & (sector(10, 40) | sector(200, 230))
    values = measure(disc, cup)
    assert values["rim_absent_deg"] == pytest.approx(60, abs=3)
    assert values["ddls_stage"] == 7


def test_rim_of_a_hundredth_of_the_disc_is_none() -> None:
    disc = ellipse(140)
    assert rim_profile(disc, ellipse(138.5)).absent() > 300
    assert rim_profile(disc, ellipse(134)).absent() == 0


@pytest.mark.parametrize(
    ("ratio", "absent", "average", "small", "large"),
    [
        (0.5, 0, 1, 1, 1),
        (0.45, 0, 1, 2, 1),
        (0.4, 0, 1, 2, 1),
        (0.3, 0, 2, 3, 1),
        (0.25, 0, 3, 4, 2),
        (0.2, 0, 3, 4, 2),
        (0.1, 0, 4, 5, 3),
        (0.05, 0, 5, 6, 4),
        (0, 1, 6, 7, 5),
        (0, 45, 6, 7, 5),
        (0, 46, 7, 8, 6),
        (0, 91, 8, 9, 7),
        (0, 181, 9, 10, 8),
        (0, 271, 10, 10, 9),
        (0, 360, 10, 10, 9),
    ],
)
def test_stages_of_the_published_table(ratio: float, absent: float, average: int, small: int, large: int) -> None:
    assert ddls_stage(ratio, absent) == average
    assert [ddls_stage(ratio, absent, size) for size in (1400, 1500, 1800, 2000, 2100)] == [
        small,
        average,
        average,
        average,
        large,
    ]


def test_stage_of_nothing_is_unknown() -> None:
    assert math.isnan(ddls_stage(math.nan, 0))
    assert math.isnan(ddls_stage(0.3, math.nan))


def test_stage_takes_the_size_of_the_disc_where_it_is_known() -> None:
    disc, cup = ellipse(100), ellipse(50)
    assert [measure(disc, cup, pixel_size=size)["ddls_stage"] for size in (6.0, 9.0, 12.0)] == [4, 3, 2]
    assert measure(disc, cup)["ddls_stage"] == 3


# --- shape


@pytest.mark.parametrize("tilt", [-75, -40, -5, 0, 10, 45, 80])
@pytest.mark.parametrize(("long", "short"), [(100, 90), (100, 60), (90, 30)])
def test_ellipses(long: float, short: float, tilt: float) -> None:
    mask = ellipse(short, long, tilt)
    shape = ellipse_shape(mask)
    assert shape.eccentricity == pytest.approx(math.sqrt(1 - (short / long) ** 2), abs=0.005)
    assert shape.tilt == pytest.approx(tilt, abs=0.5)
    assert (shape.long_axis, shape.short_axis) == pytest.approx((2 * long, 2 * short), abs=0.5)
    values = measure(mask, ellipse(short / 2, 3 * short / 4, -30))
    assert values["disc_eccentricity"] == shape.eccentricity
    assert values["disc_tilt_deg"] == pytest.approx(shape.tilt)
    assert values["cup_tilt_deg"] == pytest.approx(-30, abs=1)
    assert values["cup_eccentricity"] == pytest.approx(math.sqrt(5) / 3, abs=0.01)


def test_long_axis_along_the_grid() -> None:
    assert ellipse_shape(ellipse(40, 80)).tilt == 0
    assert abs(ellipse_shape(ellipse(80, 40)).tilt) == pytest.approx(90)
    line = np.zeros((9, 9), dtype=bool)
    line[4] = True
    assert ellipse_shape(line).tilt == 90
    assert ellipse_shape(line.T).tilt == 0


def test_circle_has_no_tilt() -> None:
    shape = ellipse_shape(ellipse(60.3))
    assert shape.eccentricity < 0.1
    assert math.isnan(shape.tilt)
    result = disc_cup_biomarkers(ellipse(60), ellipse(20, 30), eye="OD")
    assert is_nan(result.values["disc_tilt_deg"])
    assert result.note == "disc tilt: the disc is round"
    result = disc_cup_biomarkers(ellipse(60, 70), ellipse(30), eye="OD")
    assert is_nan(result.values["cup_tilt_deg"])
    assert result.note == "cup tilt: the cup is round"


def test_nothing_has_no_shape() -> None:
    assert np.isnan(ellipse_shape(np.zeros((9, 9), dtype=bool))).all()


# --- which eye


@pytest.mark.parametrize(
    ("name", "eye"),
    [
        ("Image_01L.jpg", "OS"),
        ("Image_14R.jpg", "OD"),
        ("patient_OD.png", "OD"),
        ("patient-os.png", "OS"),
        ("clear_OS.png", "OS"),
        ("P12 OD 2020.tif", "OD"),
        ("OD1.png", "OD"),
        ("12_left.jpg", "OS"),
        ("10_right.jpeg", "OD"),
        ("RIGHT.jpg", "OD"),
        ("LeftEye12.jpg", "OS"),
        ("righteye.jpg", "OD"),
        ("scan-R-2.tif", "OD"),
        ("scan (l).tif", "OS"),
        ("L.png", "OS"),
        ("data/left/12.jpg", "OS"),
        ("data\\OD\\12.jpg", "OD"),
        ("data/left_and_right/12_left.jpg", "OS"),
        ("OD/12_right.jpg", "OD"),
        ("bright.jpg", None),
        ("ORIGINAL.png", None),
        ("model_copyright.png", None),
        ("macOS.png", None),
        ("cleft.png", None),
        ("l'oeil.png", None),
        ("R&D_12.png", None),
        ("brûlé.png", None),
        ("brûl.png", None),
        ("r1_Im001.png", None),
        ("L/12.jpg", None),
        ("1L2.png", None),
        ("left_right.jpg", None),
        ("left_OD.jpg", None),
        ("left/12_OD.jpg", None),
        ("left/left_right.jpg", None),
        ("left/right/12.jpg", None),
        ("left_and_right/12.jpg", None),
        ("12.jpg", None),
        ("", None),
    ],
)
def test_eye_from_name(name: str, eye: str | None) -> None:
    assert eye_from_name(name) == eye


def photo(right: float, disc_radius: float = 30, view_radius: float = 200) -> tuple[Mask, Mask]:
    """Disc and field of view; the disc is that far to the right of the middle."""
    return ellipse(disc_radius, right=right, side=501), ellipse(view_radius, side=501)


@pytest.mark.parametrize(
    ("right", "eye"),
    [(140, "OD"), (70, "OD"), (45, "OD"), (35, None), (0, None), (-35, None), (-45, "OS"), (-140, "OS")],
)
def test_eye_from_position(right: float, eye: str | None) -> None:
    disc, view = photo(right)
    assert eye_from_position(disc, view) == eye
    values = measure(disc, ellipse(15, right=right, side=501), field_of_view=view)
    assert values["eye"] == (eye or "unknown")
    assert is_nan(values["rim_thickness_nasal_px"]) == (eye is None)


def test_position_is_that_in_the_field_of_view() -> None:
    disc, view = photo(100)
    wide = [np.pad(mask, ((0, 0), (0, 900))) for mask in (disc, view)]
    assert eye_from_position(wide[0], wide[1]) == "OD"


def test_crop_of_the_disc_does_not_tell_the_eye() -> None:
    disc, view = photo(60, disc_radius=58)
    assert eye_from_position(disc, view) is None
    assert eye_from_position(*photo(60, disc_radius=56)) == "OD"


def test_eye_without_disc_or_field_of_view() -> None:
    disc, view = photo(100)
    assert eye_from_position(disc, None) is None
    assert eye_from_position(np.zeros_like(disc), view) is None
    assert eye_from_position(disc, np.zeros_like(view)) is None


def test_the_given_eye_counts() -> None:
    disc, view = photo(100)
    cup = ellipse(15, right=105, side=501)
    result = disc_cup_biomarkers(disc, cup, view, eye="OS")
    assert result.values["eye"] == "OS"
    assert "eye is given as OS, but the disc lies where it does in OD" in result.notes
    assert disc_cup_biomarkers(disc, cup, view, eye="OD") == disc_cup_biomarkers(disc, cup, view)


# --- the table


def test_columns() -> None:
    disc, cup = ellipse(80, 100), ellipse(40, 60)
    values = measure(disc, cup, eye="OD")
    assert list(values) == WORDS + PLAIN + PIXELS
    micrometres = [name.replace("_px2", "_um2").replace("_px", "_um") for name in PIXELS]
    values = measure(disc, cup, eye="OD", pixel_size=4)
    assert list(values) == WORDS + PLAIN + PIXELS + micrometres
    assert all(isinstance(values[name], str) for name in WORDS)
    assert all(isinstance(values[name], float) for name in PLAIN + PIXELS + micrometres)
    assert disc_cup_biomarkers(disc, cup, eye="OD").notes == ()


def test_micrometres() -> None:
    values = measure(ellipse(100), ellipse(50, right=20), eye="OD", pixel_size=5.0)
    assert values["disc_diameter_vertical_um"] == 1005
    assert values["rim_area_um2"] == 25 * values["rim_area_px2"]
    assert values["rim_thickness_min_um"] == 5 * values["rim_thickness_min_px"]
    assert values["cup_shift_um"] == pytest.approx(100, abs=0.5)


@pytest.mark.parametrize("pixel_size", [None, 4.0])
def test_no_disc(pixel_size: float | None) -> None:
    nothing = np.zeros((50, 60), dtype=bool)
    full = measure(ellipse(80, 90), ellipse(40, 60), eye="OD", pixel_size=pixel_size)
    for cup in (nothing, ~nothing):
        result = disc_cup_biomarkers(nothing, cup, ~nothing, pixel_size=pixel_size)
        assert list(result.values) == list(full)
        assert [result.values[name] for name in WORDS] == ["unknown", "unknown"]
        assert all(is_nan(value) for name, value in result.values.items() if name not in WORDS)
        assert result.note == "no optic disc found"
        assert np.isnan(cup_to_disc_ratios(nothing, cup)).all()
        profile = rim_profile(nothing, cup)
        assert np.isnan([profile.disc_radius, profile.cup_radius, profile.ratio, profile.thickness]).all()
        assert math.isnan(profile.absent())
    assert measure(nothing, nothing, eye="OS")["eye"] == "OS"


@pytest.mark.parametrize(
    ("cup", "note"),
    [(np.zeros((SIDE, SIDE), dtype=bool), "no cup found"), (ellipse(20, right=120), "cup lies outside the disc")],
    ids=["empty", "outside"],
)
def test_no_cup(cup: Mask, note: str) -> None:
    disc = ellipse(70, 90)
    result = disc_cup_biomarkers(disc, cup, eye="OD")
    assert list(result.values) == WORDS + PLAIN + PIXELS
    assert {name for name in PLAIN + PIXELS if not is_nan(result.values[name])} == OF_THE_DISC
    assert (result.values["eye"], result.values["isnt_rule"]) == ("OD", "unknown")
    assert result.note == note
    assert np.isnan(cup_to_disc_ratios(disc, cup)).all()
    profile = rim_profile(disc, cup)
    assert profile.disc_radius.mean() == pytest.approx(80, abs=2)
    assert np.isnan([profile.cup_radius, profile.thickness, profile.ratio]).all()
    assert math.isnan(profile.absent())


def test_unknown_eye() -> None:
    result = disc_cup_biomarkers(ellipse(70, 90), ellipse(30, 50))
    missing = {name for name, value in result.values.items() if is_nan(value)}
    assert missing == {"rim_thickness_nasal_px", "rim_thickness_temporal_px"}
    assert (result.values["eye"], result.values["isnt_rule"]) == ("unknown", "unknown")
    assert result.note == NO_EYE


@pytest.mark.parametrize(("right", "down"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_disc_at_the_edge_of_the_photo(right: int, down: int) -> None:
    for gap, note in ((1, ""), (0, "disc is cut off by the edge of the photo"), (-20, "disc is cut off by the edge")):
        place = (right * (150 - 61 - gap), down * (150 - 72 - gap))
        disc, cup = (ellipse(a, b, right=place[0], down=place[1]) for a, b in ((61, 72), (20, 30)))
        found = disc_cup_biomarkers(disc, cup, eye="OD").note
        assert found.startswith(note) if note else not found


@pytest.mark.parametrize(("radius", "is_noted"), [(40, False), (70, False), (80, True)])
def test_a_disc_that_is_too_large_for_the_field_of_view_is_noted(radius: int, is_noted: bool) -> None:
    view = ellipse(148)
    result = disc_cup_biomarkers(ellipse(radius), ellipse(20), view, eye="OD")
    assert ("disc is larger than half of the field of view: it may be no disc" in result.note) == is_noted
    assert result.values["disc_diameter_vertical_px"] == 2 * radius + 1
    assert "larger" not in disc_cup_biomarkers(ellipse(radius), ellipse(20), eye="OD").note


def test_a_disc_with_a_ragged_outline_is_noted() -> None:
    cup = ellipse(20, 30)
    for disc, is_noted in (
        (ellipse(60, 85, 30), False),
        (ellipse(4), False),
        (ellipse(60) & ~ellipse(12, right=55), False),  # a notch
        (ellipse(60) | ellipse(90, 8), True),  # a star
        (ellipse(80) & ~ellipse(60, right=50), True),  # a crescent
    ):
        result = disc_cup_biomarkers(disc, cup, eye="OD")
        assert ("disc has a ragged outline: it may be no disc" in result.note) == is_noted
        assert result.values["disc_area_px2"] == np.count_nonzero(disc)


def test_the_arguments_are_left_as_they_were() -> None:
    masks = [ellipse(80, 90), ellipse(40, right=60), ellipse(140)]
    copies = [mask.copy() for mask in masks]
    disc_cup_biomarkers(masks[0], masks[1], masks[2])
    for mask, copy in zip(masks, copies, strict=True):
        np.testing.assert_array_equal(mask, copy)


def test_masks_need_not_be_contiguous() -> None:
    large = np.zeros((3, 2 * SIDE, 2 * SIDE), dtype=bool)
    large[:, ::2, ::2] = [ellipse(80, 90), ellipse(40, 50, right=10), ellipse(150)]
    disc, cup, view = large[:, ::2, ::2]
    assert disc_cup_biomarkers(disc, cup, view) == disc_cup_biomarkers(disc.copy(), cup.copy(), view.copy())


# --- invariances


@settings(max_examples=20, deadline=None)
@given(shapes(), st.integers(2, 4))
def test_enlarging(pair: Shapes, scale: int) -> None:
    block = np.ones((scale, scale), dtype=bool)
    before = measure(*pair, eye="OD", pixel_size=4.0 * scale)
    after = measure(np.kron(pair.disc, block), np.kron(pair.cup, block), eye="OD", pixel_size=4.0)
    for name in ("cdr_vertical", "cdr_horizontal", "cdr_area"):
        assert after[name] == before[name], name
    for name in ("rim_to_disc_ratio_min", "disc_eccentricity", "cup_eccentricity", "cup_shift_disc_diameters"):
        assert after[name] == pytest.approx(before[name], abs=0.01), name
    for name in ("disc_tilt_deg", "cup_tilt_deg"):
        assert after[name] == pytest.approx(before[name], abs=0.5), name
    for name in before:
        if name.endswith("_um2"):
            assert after[name] == pytest.approx(before[name]), name
        elif name.endswith("_um"):
            assert after[name] == pytest.approx(before[name], abs=4.0 * scale * 0.75), name


@settings(max_examples=20, deadline=None)
@given(shapes(), st.floats(0.4, 2.5))
def test_another_resolution(pair: Shapes, scale: float) -> None:
    resized = [
        cv2.resize(mask.astype(np.float32), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) >= 0.5
        for mask in pair
    ]
    before, after = measure(*pair, eye="OD"), measure(resized[0], resized[1], eye="OD")
    # As a share of the disc; either edge of a mask may be wrong by half of it.
    pixel = 1 / min(values["disc_diameter_horizontal_px"] for values in (before, after))
    for name in ("cdr_vertical", "cdr_horizontal", "cdr_area", "rim_to_disc_ratio_min", "cup_shift_disc_diameters"):
        assert after[name] == pytest.approx(before[name], abs=2 * pixel), name


@settings(max_examples=20, deadline=None)
@given(shapes())
def test_turning_by_a_quarter(pair: Shapes) -> None:
    before, after = measure(*pair, eye="OD"), measure(np.rot90(pair.disc), np.rot90(pair.cup), eye="OD")
    # In a right eye, what was nasal is now superior, and so on, anticlockwise.
    swapped = {
        "cdr_vertical": "cdr_horizontal",
        "cdr_horizontal": "cdr_vertical",
        "disc_diameter_vertical_px": "disc_diameter_horizontal_px",
        "disc_diameter_horizontal_px": "disc_diameter_vertical_px",
        "rim_thickness_superior_px": "rim_thickness_nasal_px",
        "rim_thickness_temporal_px": "rim_thickness_superior_px",
        "rim_thickness_inferior_px": "rim_thickness_temporal_px",
        "rim_thickness_nasal_px": "rim_thickness_inferior_px",
    }
    for name in PLAIN + PIXELS:
        if name.endswith("tilt_deg"):
            assert abs((after[name] - before[name]) % 180) == pytest.approx(90), name
        else:
            assert after[name] == pytest.approx(before[swapped.get(name, name)], abs=1e-6), name
    turned = rim_profile(np.rot90(pair.disc), np.rot90(pair.cup))
    assert turned.thickness == pytest.approx(np.roll(rim_profile(*pair).thickness, 90), abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(shapes(), st.floats(5, 85))
def test_turning_by_any_angle(pair: Shapes, angle: float) -> None:
    turn = cv2.getRotationMatrix2D((100, 100), angle, 1)
    turned = [cv2.warpAffine(mask.astype(np.float32), turn, (201, 201)) >= 0.5 for mask in pair]
    before, after = measure(*pair, eye="OD"), measure(turned[0], turned[1], eye="OD")
    for name in ("cdr_area", "rim_to_disc_ratio_min", "disc_eccentricity", "cup_shift_disc_diameters"):
        assert after[name] == pytest.approx(before[name], abs=0.02), name
    change = (after["disc_tilt_deg"] - before["disc_tilt_deg"] - angle + 90) % 180 - 90
    assert abs(change) < 3


@settings(max_examples=20, deadline=None)
@given(shapes())
def test_mirrored_photo_of_the_other_eye(pair: Shapes) -> None:
    before, after = measure(*pair, eye="OD"), measure(pair.disc[:, ::-1], pair.cup[:, ::-1], eye="OS")
    assert after["isnt_rule"] == before["isnt_rule"]
    for name in PLAIN + PIXELS:
        sign = -1 if name.endswith("tilt_deg") else 1
        assert after[name] == pytest.approx(sign * before[name], abs=1e-6), name


@settings(max_examples=20, deadline=None)
@given(shapes(), st.integers(0, 60), st.integers(0, 60))
def test_shifting(pair: Shapes, down: int, right: int) -> None:
    shifted = [np.pad(mask, ((down, 60 - down), (right, 60 - right))) for mask in pair]
    assert disc_cup_biomarkers(*pair, eye="OS") == disc_cup_biomarkers(shifted[0], shifted[1], eye="OS")


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 999),
    st.sampled_from([None, "OD", "OS"]),
)
def test_any_masks_give_values_or_notes(
    height: int, width: int, disc_share: float, cup_share: float, seed: int, eye: str | None
) -> None:
    rng = np.random.default_rng(seed)
    disc, cup = rng.random((height, width)) < disc_share, rng.random((height, width)) < cup_share
    result = disc_cup_biomarkers(disc, cup, np.ones_like(disc), eye=eye)
    numbers = {name: value for name, value in result.values.items() if name not in WORDS}
    values = np.array(list(numbers.values()))
    assert not np.isinf(values).any()
    assert not (np.array([value for name, value in numbers.items() if "tilt" not in name]) < 0).any()
    assert not np.isnan(values).any() or result.notes
    for name in ("cdr_vertical", "cdr_horizontal", "cdr_area", "disc_eccentricity", "cup_eccentricity"):
        assert is_nan(numbers[name]) or 0 <= numbers[name] <= 1


# --- wrong arguments


@pytest.mark.parametrize(
    ("disc", "cup", "view", "message"),
    [
        (np.zeros((5, 6)), np.zeros((5, 6), bool), None, "disc must be an array .* of bool, not .* of float64"),
        (np.zeros((1, 5, 6), bool), np.zeros((5, 6), bool), None, "disc must be an array"),
        (np.zeros((5, 6), bool), np.zeros((5, 6), np.uint8), None, "cup must be an array"),
        (np.zeros((5, 6), bool), np.zeros((6, 5), bool), None, r"disc is \(5, 6\) and cup is \(6, 5\).*same shape"),
        (np.zeros((5, 6), bool), np.zeros((5, 6), bool), np.zeros((5, 6)), "field_of_view must be an array"),
        (np.zeros((5, 6), bool), np.zeros((5, 6), bool), np.zeros((5, 7), bool), "field_of_view is .*same shape"),
    ],
)
def test_wrong_masks(disc: Mask, cup: Mask, view: Mask | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        disc_cup_biomarkers(disc, cup, view)
    if view is None:
        with pytest.raises(ValueError, match=message):
            cup_to_disc_ratios(disc, cup)
        with pytest.raises(ValueError, match=message):
            rim_profile(disc, cup)
    else:
        with pytest.raises(ValueError, match=message):
            eye_from_position(disc, view)


@pytest.mark.parametrize("eye", ["od", "left", "", "OU"])
def test_wrong_eye(eye: str) -> None:
    with pytest.raises(ValueError, match=r"eye is .*'OD' \(right\), 'OS' \(left\)"):
        disc_cup_biomarkers(ellipse(50), ellipse(20), eye=eye)
    with pytest.raises(ValueError, match="eye is"):
        rim_profile(ellipse(50), ellipse(20)).quadrants(eye)


@pytest.mark.parametrize("pixel_size", [0.0, -4.0, float("nan"), float("inf")])
def test_wrong_pixel_size(pixel_size: float) -> None:
    with pytest.raises(ValueError, match=r"pixel_size is .* in micrometres"):
        disc_cup_biomarkers(ellipse(50), ellipse(20), pixel_size=pixel_size)


# --- real masks


@pytest.mark.real_data
def test_refuge(real_folder: Callable[[str], Path]) -> None:
    files = sorted(real_folder("REFUGE_crop512").glob("masks/*.png"))
    assert files
    found: dict[str, list[dict[str, Any]]] = {"g": [], "n": []}
    for file in files:
        mask = np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE))
        disc, cup = mask < 255, mask == 0
        assert eye_from_position(disc, np.ones_like(disc)) is None
        # These are crops of left eyes, as their vessels show.
        values = measure(disc, cup, eye="OS")
        found[file.name[0]].append(values)
        thickness = math.sqrt(disc.sum() / math.pi) - math.sqrt(cup.sum() / math.pi)
        # Equal for a cup in the middle; from the middle of the disc, the edge of one that is not is nearer on average.
        assert values["rim_thickness_mean_px"] == pytest.approx(thickness, rel=0.2), file.name
        assert 0 <= values["rim_thickness_min_px"] < values["rim_thickness_mean_px"], file.name

    def mean(name: str, group: str) -> float:
        return float(np.mean([values[name] for values in found[group]]))

    assert 0.3 < mean("cdr_vertical", "n") < 0.55
    assert mean("cdr_vertical", "g") > mean("cdr_vertical", "n") + 0.15
    assert mean("rim_to_disc_ratio_min", "g") < mean("rim_to_disc_ratio_min", "n") - 0.05
    assert mean("ddls_stage", "g") > mean("ddls_stage", "n") + 0.5
    # The rim is thinnest on the side of the macula.
    thinner = [v["rim_thickness_temporal_px"] < v["rim_thickness_nasal_px"] for group in found.values() for v in group]
    assert np.mean(thinner) > 0.8
