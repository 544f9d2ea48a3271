"""Synthetic fundus photos with exact truth.

An eye is drawn once, from its seed, in normalised coordinates: the camera's field of view is the unit circle, x runs
from nasal to temporal, y from superior to inferior. A `_View` then maps it to the pixels of one photo. The same seed
therefore shows the same eye at every size. Every structure is drawn at a multiple of the photo's resolution and
averaged down; a pixel belongs to a mask where the structure covers at least half of it, and the photo is made from the
same drawing, so picture and truth agree to a fraction of a pixel.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, get_args

import cv2
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from common.errors import SettingError
from common.pictures import encode_mask, encode_picture

Eye = Literal["OD", "OS"]
FieldOfView = Literal["round", "cut", "none"]
Kind = Literal["artery", "vein"]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Picture = NDArray[np.float32]

SMALLEST_SIDE = 64
# Each part of an eye has its own stream of random numbers, so that a change of one leaves the others as they are.
_ANATOMY, _ARTERIES, _VEINS, _BACKGROUND, _EXUDATES, _HAEMORRHAGES, _CAMERA, _DATA_SET = range(8)

# Lengths in field-of-view radii.
_CUT_HEIGHT = 0.82
_STEP = 0.008
_FINEST_WIDTH = 0.0048
_AVASCULAR_RADIUS = 0.105
_LESION_TRIES = 400
# The background is computed on a square canvas of this many pixels and half-width, whatever the size of the photo.
_CANVAS_SIZE = 400
_CANVAS_EXTENT = 1.12

# Absorbance of blood in red, green and blue at the middle of the widest vessel.
_VEIN_ABSORBANCE = np.array([0.26, 0.68, 0.66], dtype=np.float32)
_ARTERY_ABSORBANCE = np.array([0.12, 0.66, 0.66], dtype=np.float32)
_HAEMORRHAGE_ABSORBANCE = np.array([0.42, 0.95, 0.80], dtype=np.float32)
# A vessel's cross-section in three steps: share of its width, share of its absorbance.
_CROSS_SECTION = ((1.0, 0.6), (0.8, 0.82), (0.55, 1.0))


@dataclass(frozen=True)
class FundusPhantom:
    """A synthetic fundus photo and everything that is true of it.

    All masks are boolean and of shape ``(H, W)``; positions are ``(row, column)`` in pixels, where whole numbers are
    the centres of pixels.

    Attributes:
        photo: ``(H, W, 3)`` uint8, RGB.
        field_of_view: where the camera shows the eye.
        vessel: retinal vessels, ``artery | vein``.
        artery: retinal arteries.
        vein: retinal veins; a pixel at a crossing is both.
        disc: optic disc, the cup included.
        cup: optic cup.
        exudate: hard exudates.
        haemorrhage: blot and flame haemorrhages.
        fovea: centre of the fovea; it may lie outside of a narrow ``"none"`` photo.
        eye: ``"OD"`` (right, disc on the right of the fovea) or ``"OS"`` (left).
        disc_center: centre of the disc.
        disc_diameters: vertical and horizontal diameter of the disc in pixels.
        cup_diameters: vertical and horizontal diameter of the cup in pixels.
        field_of_view_diameter: diameter of the camera's circle in pixels; for ``"none"`` the photo's diagonal.
        seed: the seed that it was drawn from.
    """

    photo: NDArray[np.uint8]
    field_of_view: Mask
    vessel: Mask
    artery: Mask
    vein: Mask
    disc: Mask
    cup: Mask
    exudate: Mask
    haemorrhage: Mask
    fovea: tuple[float, float]
    eye: Eye
    disc_center: tuple[float, float]
    disc_diameters: tuple[float, float]
    cup_diameters: tuple[float, float]
    field_of_view_diameter: float
    seed: int

    @property
    def cup_to_disc(self) -> float:
        """Vertical cup-to-disc ratio, without a unit."""
        return self.cup_diameters[0] / self.disc_diameters[0]


@dataclass(frozen=True)
class _Anatomy:
    """Where the landmarks of one eye are, ``(x, y)`` in field-of-view radii, and how wide its vessels begin."""

    eye: Eye
    disc: tuple[float, float]
    disc_radii: tuple[float, float]
    cup: tuple[float, float]
    cup_radii: tuple[float, float]
    fovea: tuple[float, float]
    vein_width: float
    artery_width: float

    @property
    def disc_radius(self) -> float:
        return math.sqrt(self.disc_radii[0] * self.disc_radii[1])

    @property
    def foveal_distance(self) -> float:
        return math.dist(self.disc, self.fovea)


@dataclass(frozen=True)
class _View:
    """How one photo shows the eye: the camera's circle in pixels, and what of it is lit."""

    height: int
    width: int
    kind: FieldOfView
    center: tuple[float, float]
    radius: float
    temporal: float

    def to_pixels(self, points: Floats) -> Floats:
        """Map points ``(N, 2)``, x and y in field-of-view radii, to pixel columns and rows."""
        scale = np.array([self.temporal, 1.0]) * self.radius
        return np.asarray(np.asarray(self.center) + points * scale, dtype=np.float64)

    def row_column(self, point: tuple[float, float]) -> tuple[float, float]:
        """Map one point to its pixel row and column."""
        column, row = self.to_pixels(np.asarray([point]))[0]
        return float(row), float(column)

    def coordinates(self) -> tuple[Picture, Picture]:
        """Give x and y of every pixel, each ``(H, W)``, in field-of-view radii."""
        columns = (np.arange(self.width, dtype=np.float32) - self.center[0]) * (self.temporal / self.radius)
        rows = (np.arange(self.height, dtype=np.float32) - self.center[1]) / self.radius
        x, y = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
        return x, y

    def shows(self, x: float, y: float, margin: float) -> bool:
        """Say whether a point is lit and at least ``margin`` field-of-view radii from the edge."""
        column, row = self.to_pixels(np.asarray([[x, y]]))[0]
        margin_px = margin * self.radius
        inside_frame = (
            margin_px <= column <= self.width - 1 - margin_px and margin_px <= row <= self.height - 1 - margin_px
        )
        inside_circle = self.kind == "none" or math.hypot(x, y) <= 1.0 - margin
        inside_cut = self.kind != "cut" or abs(y) <= _CUT_HEIGHT - margin
        return inside_frame and inside_circle and inside_cut


@dataclass(frozen=True)
class _Vessel:
    """A vessel's centre line ``(N, 2)`` and its width at each of the N points, in field-of-view radii."""

    points: Floats
    widths: Floats


@dataclass(order=True)
class _Sprout:
    """A branch that is still to grow; the widest is the smallest, so that a heap gives it first."""

    narrowness: float
    order: int
    x: float = field(compare=False)
    y: float = field(compare=False)
    heading: float = field(compare=False)
    parent: int = field(compare=False)
    to_macula: bool = field(compare=False)

    @property
    def width(self) -> float:
        return -self.narrowness


# ---------------------------------------------------------------------------------------------------------- anatomy


def _draw_anatomy(seed: int, eye: Eye | None, cup_to_disc: float | None) -> _Anatomy:
    """Draw the landmarks of an eye; what the caller has set replaces what was drawn and changes nothing else."""
    rng = default_rng((seed, _ANATOMY))
    drawn_eye: Eye = "OD" if rng.random() < 0.5 else "OS"
    distance = rng.uniform(0.60, 0.70)
    tilt = rng.uniform(0.03, 0.16)
    fovea = (rng.uniform(-0.05, 0.34), rng.uniform(-0.06, 0.10))
    disc = (fovea[0] - distance * math.cos(tilt), fovea[1] - distance * math.sin(tilt))
    disc_height = distance * rng.uniform(0.195, 0.235)
    disc_radii = (disc_height * rng.uniform(0.86, 0.98), disc_height)
    drawn_ratio = rng.uniform(0.28, 0.66)
    vertical = drawn_ratio if cup_to_disc is None else cup_to_disc
    horizontal = vertical * rng.uniform(0.90, 1.0)
    temporal_shift = rng.uniform(0.0, 0.5) * (1.0 - vertical) * disc_radii[0]
    vein_width = rng.uniform(0.029, 0.034)
    return _Anatomy(
        eye=drawn_eye if eye is None else eye,
        disc=disc,
        disc_radii=disc_radii,
        cup=(disc[0] + temporal_shift, disc[1]),
        cup_radii=(disc_radii[0] * horizontal, disc_radii[1] * vertical),
        fovea=fovea,
        vein_width=vein_width,
        artery_width=vein_width * rng.uniform(0.68, 0.82),
    )


def _make_view(height: int, width: int, kind: FieldOfView, anatomy: _Anatomy) -> _View:
    """Place the camera's circle in the frame; a narrow crop is moved as far as it takes to show the disc."""
    temporal = 1.0 if anatomy.eye == "OS" else -1.0
    center = ((width - 1) / 2.0, (height - 1) / 2.0)
    if kind == "round":
        radius = 0.48 * min(height, width)
    elif kind == "cut":
        radius = min(0.48 * width, 0.5 * height / _CUT_HEIGHT)
    else:
        radius = 0.5 * math.hypot(height, width)
        half_sides = (0.5 * width / radius, 0.5 * height / radius)
        shifts = [
            max(0.0, abs(position) + 1.3 * disc_radius - half_side) * math.copysign(1.0, position)
            for position, disc_radius, half_side in zip(anatomy.disc, anatomy.disc_radii, half_sides, strict=True)
        ]
        center = (center[0] - temporal * shifts[0] * radius, center[1] - shifts[1] * radius)
    return _View(height, width, kind, center, radius, temporal)


# ---------------------------------------------------------------------------------------------------------- vessels


class _Territory:
    """Which vessel of one kind runs where: vessels of a kind do not cross one another."""

    _CELL = 0.012
    _EXTENT = 1.3

    def __init__(self) -> None:
        cells = int(2 * self._EXTENT / self._CELL) + 1
        self._owner = np.full((cells, cells), -1, dtype=np.int32)

    def _cell(self, x: float, y: float) -> tuple[int, int]:
        return int((y + self._EXTENT) / self._CELL), int((x + self._EXTENT) / self._CELL)

    def claim(self, vessel: _Vessel, owner: int) -> None:
        """Note that ``owner`` runs along this centre line and keeps its surroundings."""
        for (x, y), width in zip(vessel.points[::2].tolist(), vessel.widths[::2].tolist(), strict=True):
            row, column = self._cell(x, y)
            reach = 1 + round(0.5 * width / self._CELL)
            self._owner[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1] = owner

    def is_free(self, x: float, y: float, owner: int) -> bool:
        """Say whether nobody but ``owner`` runs at a point."""
        return int(self._owner[self._cell(x, y)]) in (-1, owner)


def _smooth_line(control_points: Floats) -> Floats:
    """Run a cubic spline through control points ``(K, 2)`` and sample it at even steps ``(N, 2)``."""
    knots = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(control_points, axis=0), axis=1))])
    spline = CubicSpline(knots, control_points)
    dense = spline(np.linspace(0.0, knots[-1], 600))
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(dense, axis=0), axis=1))])
    even = np.arange(0.0, lengths[-1], _STEP)
    return np.stack([np.interp(even, lengths, dense[:, axis]) for axis in (0, 1)], axis=1)


def _normals(points: Floats) -> Floats:
    """Unit normals ``(N, 2)`` of a line."""
    tangents = np.gradient(points, axis=0)
    tangents /= np.maximum(np.linalg.norm(tangents, axis=1, keepdims=True), 1e-12)
    return np.stack([-tangents[:, 1], tangents[:, 0]], axis=1)


def _make_tortuous(rng: Generator, points: Floats) -> Floats:
    """Let a line wind gently from side to side; its first point stays."""
    along = np.arange(len(points)) * _STEP
    sway = np.zeros_like(along)
    for _ in range(3):
        wavelength = rng.uniform(0.14, 0.55)
        amplitude = rng.uniform(0.012, 0.030) * wavelength
        sway += amplitude * np.sin(2.0 * np.pi * (along / wavelength + rng.random()))
    sway *= np.minimum(along / 0.2, 1.0)
    return np.asarray(points + _normals(points) * sway[:, None], dtype=np.float64)


def _trunk_lines(rng: Generator, anatomy: _Anatomy, outward: float) -> list[tuple[Floats, float]]:
    """Draw the trunks of one kind: centre lines, and their first width relative to the widest.

    Control points are relative to the disc, in units of the distance from disc to fovea. Two temporal trunks arch round
    the macula, two nasal ones leave upwards and downwards, and smaller ones run to the nasal side and the macula. All
    are shifted by ``outward``, in the same unit, so that arteries and veins run side by side.
    """
    lines: list[tuple[Floats, float]] = []
    hilus = np.array([-0.03 + 0.5 * outward, 0.0]) + rng.uniform(-0.02, 0.02, 2)
    for side in (-1.0, 1.0):
        arch = rng.uniform(0.74, 0.96) + rng.choice([-1.0, 1.0]) * outward
        end = rng.uniform(0.45, 1.05)
        lean = rng.uniform(-0.05, 0.03) + 1.2 * outward
        temporal = [
            (0.01 + lean, 0.22),
            (0.17 + lean, 0.22 + 0.42 * arch),
            (0.62, arch * rng.uniform(0.93, 1.0)),
            (1.25, arch * rng.uniform(0.92, 1.04)),
            (1.85, 0.5 * (arch + end)),
            (2.80, end),
        ]
        spread = rng.uniform(0.30, 0.70) + outward
        nasal = [
            (-0.07 + 0.5 * lean, 0.20),
            (-0.14 - 0.25 * spread, 0.52),
            (-0.20 - 0.70 * spread, 0.95),
            (-0.25 - 1.10 * spread, 1.60),
        ]
        # The line between the two, straight up or down from the disc.
        polar_lean = rng.uniform(-0.05, 0.15) + 2.0 * outward
        polar = [(-0.02, 0.2), (polar_lean * 0.6, 0.62), (polar_lean * 1.3, 1.1), (polar_lean * 2.2, 1.75)]
        drift = rng.uniform(0.05, 0.32)
        medial = [(-0.19, 0.5 * drift), (-0.50, drift), (-0.95, drift * rng.uniform(0.9, 1.8))]
        macular = [(0.22, 0.10), (0.45, 0.17), (0.70, rng.uniform(0.08, 0.20))]
        members = [
            (temporal, 1.0),
            (nasal, rng.uniform(0.55, 0.80)),
            (polar, rng.uniform(0.45, 0.65)),
            (medial, rng.uniform(0.30, 0.45)),
            (macular, rng.uniform(0.20, 0.28)),
        ]
        for course, share in members:
            relative = np.vstack([hilus, np.asarray(course) * [1.0, side]])
            relative[2:] += rng.normal(0.0, 0.025, relative[2:].shape)
            line = _smooth_line(np.asarray(anatomy.disc) + relative * anatomy.foveal_distance)
            lines.append((_make_tortuous(rng, line), share))
    return lines


def _clip_to_field(points: Floats) -> Floats:
    """Cut a line off where it has left the unit circle."""
    outside = np.flatnonzero(np.hypot(points[:, 0], points[:, 1]) > 1.06)
    return points if outside.size == 0 else points[: outside[0]]


def _tapered(first_width: float, last_share: float, count: int, full_length: float) -> Floats:
    """Widths ``(count,)`` that fall evenly to ``last_share`` of the first over ``full_length``, as branches leave."""
    along = np.minimum(np.arange(count) * _STEP / full_length, 1.0)
    widths = first_width * (1.0 - (1.0 - last_share) * along)
    return np.asarray(np.maximum(widths, _FINEST_WIDTH), dtype=np.float64)


class _VesselTree:
    """Grows the vessels of one kind: trunks out of the disc, then branch after branch, the widest first."""

    def __init__(self, rng: Generator, anatomy: _Anatomy, trunk_width: float, outward: float) -> None:
        self._rng = rng
        self._anatomy = anatomy
        self._trunk_width = trunk_width
        self._outward = outward
        self._territory = _Territory()
        self._sparseness = rng.uniform(0.065, 0.110)
        self._heap: list[_Sprout] = []
        self._sprout_count = 0
        self.vessels: list[_Vessel] = []

    def grow(self) -> list[_Vessel]:
        """Grow the whole tree and return its vessels."""
        for line, share in _trunk_lines(self._rng, self._anatomy, self._outward):
            points = _clip_to_field(line)
            widths = _tapered(self._trunk_width * share, 0.42, len(points), 1.7)
            self._add(_Vessel(points, widths))
        for trunk in range(len(self.vessels)):
            self._let_sprout(trunk, first=1.35 * self._anatomy.disc_radius)
        while self._heap:
            self._grow_branch(heapq.heappop(self._heap))
        return self.vessels

    def _add(self, vessel: _Vessel) -> int:
        self.vessels.append(vessel)
        self._territory.claim(vessel, len(self.vessels) - 1)
        return len(self.vessels) - 1

    def _push(self, x: float, y: float, heading: float, width: float, parent: int, to_macula: bool) -> None:
        if width >= _FINEST_WIDTH:
            self._sprout_count += 1
            heapq.heappush(self._heap, _Sprout(-width, self._sprout_count, x, y, heading, parent, to_macula))

    def _faces_macula(self, x: float, y: float, heading: float) -> bool:
        """Say whether a branch with this beginning belongs to the macula rather than to the periphery."""
        to_fovea_x, to_fovea_y = self._anatomy.fovea[0] - x, self._anatomy.fovea[1] - y
        near = math.hypot(to_fovea_x, to_fovea_y) < 1.25 * self._anatomy.foveal_distance
        temporal = x > self._anatomy.disc[0] + 0.5 * self._anatomy.disc_radius
        return near and temporal and math.cos(heading) * to_fovea_x + math.sin(heading) * to_fovea_y > 0.0

    def _let_sprout(self, parent: int, first: float) -> None:
        """Place side branches along a vessel, mostly on alternate sides, from ``first`` field-of-view radii on."""
        rng, vessel = self._rng, self.vessels[parent]
        length = len(vessel.points) * _STEP
        position = first + rng.gamma(2.0, 0.03)
        side = rng.choice([-1.0, 1.0])
        while position < length - 0.04:
            index = int(position / _STEP)
            x, y = vessel.points[index]
            before = vessel.points[max(0, index - 3)]
            share = rng.uniform(0.34, 0.82)
            angle = math.radians(rng.uniform(30.0, 52.0) + 30.0 * (0.8 - share))
            heading = math.atan2(y - before[1], x - before[0]) + side * angle
            width = float(vessel.widths[index]) * share
            self._push(x, y, heading, width, parent, self._faces_macula(x, y, heading))
            side = -side if rng.random() < 0.75 else side
            position += 0.045 + rng.gamma(2.5, self._sparseness)

    def _desired_heading(self, x: float, y: float, to_macula: bool) -> float:
        if to_macula:
            return math.atan2(self._anatomy.fovea[1] - y, self._anatomy.fovea[0] - x)
        pole_x = self._anatomy.disc[0] + 0.45 * self._anatomy.foveal_distance
        return math.atan2(y - self._anatomy.disc[1], x - pole_x)

    def _walk(self, sprout: _Sprout, length: float) -> tuple[list[tuple[float, float]], float, bool]:
        """Walk a branch's centre line; return its points, its last heading, and whether something was in its way."""
        rng, own = self._rng, sprout.parent
        steps = int(length / _STEP)
        bends = rng.normal(0.0, 1.0, steps)
        x, y, heading, curvature = sprout.x, sprout.y, sprout.heading, 0.0
        points = [(x, y)]
        for step, bend in enumerate(bends):
            curvature = 0.93 * curvature + 1.7 * bend
            turn = self._desired_heading(x, y, sprout.to_macula) - heading
            turn = math.remainder(turn, 2.0 * math.pi)
            heading += _STEP * (curvature + (4.5 if sprout.to_macula else 2.2) * turn)
            x += _STEP * math.cos(heading)
            y += _STEP * math.sin(heading)
            if math.hypot(x, y) > 1.06:
                return points, heading, False
            beyond_parent = step * _STEP > 0.07 + sprout.width
            ahead = 0.03
            is_free = self._territory.is_free(
                x + ahead * math.cos(heading), y + ahead * math.sin(heading), -1 if beyond_parent else own
            )
            if not is_free or math.dist((x, y), self._anatomy.fovea) < _AVASCULAR_RADIUS:
                return points, heading, True
            points.append((x, y))
        return points, heading, False

    def _grow_branch(self, sprout: _Sprout) -> None:
        """Grow one branch, its own branches, and the fork at its end; a branch that has no room is left out."""
        rng = self._rng
        length = float(np.clip(sprout.width * rng.uniform(26.0, 46.0), 0.10, 0.45 if sprout.to_macula else 1.0))
        walked, heading, stopped = self._walk(sprout, length)
        if len(walked) * _STEP < 0.05:
            return
        points = np.asarray(walked)
        widths = _tapered(sprout.width, 0.62, len(points), length)
        if stopped:
            closing = np.clip((len(points) - np.arange(len(points))) * _STEP / 0.12, 0.0, 1.0)
            widths = np.maximum(widths * closing, _FINEST_WIDTH)
        index = self._add(_Vessel(points, widths))
        self._let_sprout(index, first=0.05)
        if not stopped:
            for turn in (-1.0, 1.0):
                angle = turn * math.radians(rng.uniform(16.0, 36.0))
                width = float(widths[-1]) * rng.uniform(0.72, 0.9)
                self._push(*walked[-1], heading + angle, width, index, sprout.to_macula)


# ---------------------------------------------------------------------------------------------------------- drawing


class _Layer:
    """A sheet of values 0-1 at a multiple of the photo's resolution."""

    _SHIFT = 4

    def __init__(self, height: int, width: int) -> None:
        self.factor = max(2, min(4, 4096 // max(height, width)))
        self._size = (width, height)
        self._values = np.zeros((height * self.factor, width * self.factor), dtype=np.uint8)

    @property
    def line_width(self) -> float:
        """By how many pixels of the photo the drawing of a polygon widens it."""
        return 1.0 / self.factor

    def fine(self, points: Floats) -> NDArray[np.int32]:
        """Map points ``(N, 2)``, pixel columns and rows of the photo, to the sheet's own fixed-point coordinates."""
        fine = ((points + 0.5) * self.factor - 0.5) * 2**self._SHIFT
        return np.asarray(np.rint(fine), dtype=np.int32)

    def fill(self, outline: NDArray[np.int32], value: float) -> None:
        """Fill a polygon ``(N, 2)`` in the sheet's own coordinates with a value 0-1."""
        cv2.fillPoly(self._values, [outline], round(255 * value), cv2.LINE_8, self._SHIFT)

    def fill_outline(self, outline: Floats) -> None:
        """Fill a polygon ``(N, 2)`` of pixel columns and rows of the photo with 1."""
        self.fill(self.fine(outline), 1.0)

    def averaged(self) -> Picture:
        """Average down to the photo's resolution, ``(H, W)``, values 0-1."""
        return cv2.resize(self._values, self._size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0


@dataclass(frozen=True)
class _Course:
    """A vessel in pixels: centre line and normals ``(N, 2)``, and at each point its width, darkness 0-1 and reflex 0-1.

    A vessel that is narrower than a pixel is drawn a pixel wide and as much fainter.
    """

    _PIECE: ClassVar[int] = 7

    points: Floats
    normals: Floats
    widths: Floats
    darkness: Floats
    reflex: Floats

    @classmethod
    def of(cls, vessel: _Vessel, view: _View, widest: float, reflex: float) -> _Course:
        """Map a vessel to a photo; a vessel of the width ``widest`` is of full darkness and reflex."""
        points = view.to_pixels(vessel.points)
        relative = vessel.widths / widest
        true_widths = vessel.widths * view.radius
        widths = np.maximum(true_widths, 1.0)
        darkness = np.minimum(0.3 + 0.75 * np.sqrt(relative), 1.0) * true_widths / widths
        return cls(points, _normals(points), widths, darkness, reflex * np.clip(2.0 * relative - 0.5, 0.0, 1.0))

    @property
    def starts(self) -> range:
        """First points of the pieces in which the vessel is drawn."""
        return range(0, len(self.points) - 1, self._PIECE)

    def pieces(self, layer: _Layer, share: float) -> list[NDArray[np.int32]]:
        """Outlines of the middle ``share`` of the vessel, one for each of the `starts`."""
        half = np.maximum(0.5 * (self.widths * share - layer.line_width), 0.01)[:, None] * self.normals
        left, right = layer.fine(self.points + half), layer.fine(self.points - half)
        ends = [(first, first + self._PIECE + 1) for first in self.starts]
        return [np.concatenate([left[first:end], right[first:end][::-1]]) for first, end in ends]


def _draw_vessels(vessels: Sequence[_Vessel], view: _View, widest: float, reflex: float) -> tuple[Mask, Picture]:
    """Draw the vessels of one kind.

    Args:
        vessels: what to draw.
        view: how the photo shows it.
        widest: the width, in field-of-view radii, of a vessel of full darkness.
        reflex: share of the darkness that the reflex along the middle of a wide vessel takes away.

    Returns:
        The mask, and the darkness ``(H, W)`` from 0 to 1.
    """
    coverage, darkness = _Layer(view.height, view.width), _Layer(view.height, view.width)
    strokes: list[tuple[float, NDArray[np.int32]]] = []
    highlights: list[tuple[float, NDArray[np.int32]]] = []
    for vessel in vessels:
        course = _Course.of(vessel, view, widest, reflex)
        values = course.darkness[course.starts]
        for outline in course.pieces(coverage, 1.0):
            coverage.fill(outline, 1.0)
        for share, depth in _CROSS_SECTION:
            strokes += zip(values * depth, course.pieces(darkness, share), strict=True)
        shines = course.reflex[course.starts]
        shining = zip(values * (1.0 - shines), course.pieces(darkness, 0.26), shines, strict=True)
        highlights += [(value, outline) for value, outline, shine in shining if shine > 0.02]
    # From light to dark: where vessels meet, the darker one shows.
    for value, outline in sorted(strokes, key=lambda stroke: stroke[0]) + highlights:
        darkness.fill(outline, value)
    return coverage.averaged() >= 0.5, darkness.averaged()


def _blurred(picture: Picture, sigma: float) -> Picture:
    """Blur ``(H, W)`` or ``(H, W, C)`` with a Gaussian of ``sigma`` pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), dtype=np.float32)


def _ellipse_level(x: Picture, y: Picture, center: tuple[float, float], radii: tuple[float, float]) -> Picture:
    """Distance from an ellipse's centre in units of its radius: 1 on the ellipse, less inside."""
    level = np.hypot((x - center[0]) / radii[0], (y - center[1]) / radii[1])
    return np.asarray(level, dtype=np.float32)


def _soft_inside(level: Picture, softness: float) -> Picture:
    """Turn an `_ellipse_level` into an opacity with an edge as soft as ``softness`` radii."""
    outside = np.clip((level - 1.0) / (0.5 * softness), -30.0, 30.0)
    return np.asarray(1.0 / (1.0 + np.exp(outside)), dtype=np.float32)


# ---------------------------------------------------------------------------------------------------------- lesions


def _blob(rng: Generator, center: Sequence[float], radius: float, stretch: float, angle: float) -> Floats:
    """Outline ``(64, 2)`` of an irregular spot, ``stretch`` times longer along ``angle`` than across."""
    turn = np.linspace(0.0, 2.0 * np.pi, 64, endpoint=False)
    wobble = sum(rng.normal(0.0, 0.16 / k) * np.cos(k * turn + rng.uniform(0.0, 2.0 * np.pi)) for k in range(2, 8))
    distance = radius * np.clip(1.0 + wobble, 0.55, 1.5)
    along, across = distance * np.cos(turn) * math.sqrt(stretch), distance * np.sin(turn) / math.sqrt(stretch)
    outline = np.stack(
        [along * math.cos(angle) - across * math.sin(angle), along * math.sin(angle) + across * math.cos(angle)], axis=1
    )
    return np.asarray(center) + outline


def _place_lesions(
    rng: Generator, view: _View, anatomy: _Anatomy, sizes: Sequence[float], macular: float, setting: str
) -> list[tuple[float, float]]:
    """Find a place for each lesion, clear of the disc, the field's edge and the other lesions.

    Args:
        rng: source of random numbers.
        view: how the photo shows the eye.
        anatomy: the eye.
        sizes: reach of each lesion in field-of-view radii.
        macular: probability that a lesion is sought near the fovea.
        setting: the caller's argument, for the error message.

    Raises:
        SettingError: there is no room for so many.
    """
    places: list[tuple[float, float]] = []
    for index, size in enumerate(sizes):
        for _ in range(_LESION_TRIES):
            radius, angle = math.sqrt(rng.random()), rng.uniform(0.0, 2.0 * math.pi)
            x, y = radius * math.cos(angle), radius * math.sin(angle)
            if rng.random() < macular:
                x, y = anatomy.fovea[0] + 0.5 * x, anatomy.fovea[1] + 0.5 * y
            clear_of_disc = math.dist((x, y), anatomy.disc) > 1.25 * max(anatomy.disc_radii) + size
            clear_of_fovea = math.dist((x, y), anatomy.fovea) > 0.05 + size
            others = zip(places, sizes, strict=False)
            clear_of_others = all(math.dist((x, y), place) > 1.1 * (size + other) for place, other in others)
            if clear_of_disc and clear_of_fovea and clear_of_others and view.shows(x, y, size + 0.02):
                places.append((x, y))
                break
        else:
            raise SettingError(
                f"'{setting}' is {len(sizes)}, but this field of view has room for only {index}; ask for fewer."
            )
    return places


def _draw_exudates(seed: int, count: int, view: _View, anatomy: _Anatomy) -> Picture:
    """Draw clusters of hard exudates; returns their coverage ``(H, W)``."""
    rng = default_rng((seed, _EXUDATES))
    layer = _Layer(view.height, view.width)
    reaches = rng.uniform(0.05, 0.11, count).tolist()
    places = _place_lesions(rng, view, anatomy, reaches, 0.75, "exudates")
    for place, reach in zip(places, reaches, strict=True):
        layer.fill_outline(view.to_pixels(_blob(rng, place, rng.uniform(0.016, 0.026), rng.uniform(1.0, 1.8), 0.0)))
        for _ in range(rng.integers(5, 22)):
            spot = np.asarray(place) + np.clip(rng.normal(0.0, 0.42 * reach, 2), -0.6 * reach, 0.6 * reach)
            radius = float(np.clip(rng.lognormal(math.log(0.007), 0.5), 0.004, 0.018))
            outline = _blob(rng, spot.tolist(), radius, rng.uniform(1.0, 1.8), rng.uniform(0.0, math.pi))
            layer.fill_outline(view.to_pixels(outline))
    return layer.averaged()


def _draw_haemorrhages(seed: int, count: int, view: _View, anatomy: _Anatomy) -> Picture:
    """Draw dot, blot and flame haemorrhages, flames along the nerve fibres; returns their coverage ``(H, W)``."""
    rng = default_rng((seed, _HAEMORRHAGES))
    layer = _Layer(view.height, view.width)
    radii = np.clip(rng.lognormal(math.log(0.021), 0.45, count), 0.013, 0.05)
    stretches = np.where(rng.random(count) < 0.35, rng.uniform(2.0, 3.6, count), rng.uniform(1.0, 1.4, count))
    reaches = 1.5 * radii * np.sqrt(stretches)
    places = _place_lesions(rng, view, anatomy, reaches.tolist(), 0.3, "haemorrhages")
    for (x, y), radius, stretch in zip(places, radii, stretches, strict=True):
        along_fibres = math.atan2(y - anatomy.disc[1], x - anatomy.disc[0])
        layer.fill_outline(view.to_pixels(_blob(rng, (x, y), float(radius), float(stretch), along_fibres)))
    return layer.averaged()


# ------------------------------------------------------------------------------------------------------- background


def _canvas_noise(rng: Generator, cells: int) -> Picture:
    """Smooth noise of mean 0 and standard deviation 1 on the canvas, with ``cells`` random values along a side."""
    values = rng.standard_normal((cells, cells)).astype(np.float32)
    noise = cv2.resize(values, (_CANVAS_SIZE, _CANVAS_SIZE), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / noise.std(), dtype=np.float32)


def _polar_noise(rng: Generator, angle: Picture, radius: Picture, spokes: int, rings: float) -> Picture:
    """Noise that is stretched along the radii of a pole: ``spokes`` values round it, ``rings`` per unit of radius."""
    values = rng.standard_normal((int(2.0 * rings) + 3, spokes)).astype(np.float32)
    columns = np.mod(angle / np.float32(2.0 * np.pi), 1.0) * np.float32(spokes)
    wrapped = np.concatenate([values[:, -2:], values, values[:, :3]], axis=1)
    rows = np.clip(radius * np.float32(rings), 0.0, len(values) - 1.0)
    noise = cv2.remap(wrapped, (columns + 2.0).astype(np.float32), rows.astype(np.float32), cv2.INTER_CUBIC)
    return np.asarray(noise, dtype=np.float32)


def _choroid(rng: Generator, angle: Picture, radius: Picture) -> Picture:
    """Pattern of the choroid's vessels on the canvas, light bands round dark islands, mean 0."""
    warp = np.float32(0.10) * _canvas_noise(rng, 9) + np.float32(0.035) * _canvas_noise(rng, 26)
    bands = np.zeros_like(angle)
    for spokes, rings in ((64, 7.0), (104, 11.0)):
        warped_radius = np.asarray(radius + 0.4 * warp + 0.2, dtype=np.float32)
        noise = _polar_noise(rng, angle + warp, warped_radius, spokes, rings)
        bands += np.exp(-((noise / 0.42) ** 2))
    bands = _blurred(bands, 1.1)
    fade = np.clip((radius - 0.12) / 0.35, 0.0, 1.0)
    return np.asarray((bands - bands.mean()) * fade, dtype=np.float32)


def _background_canvas(seed: int, anatomy: _Anatomy) -> Picture:
    """Compute the retina without disc, vessels and lesions on the canvas, ``(S, S, 3)``, values 0-1 RGB."""
    rng = default_rng((seed, _BACKGROUND))
    line = np.linspace(-_CANVAS_EXTENT, _CANVAS_EXTENT, _CANVAS_SIZE, dtype=np.float32)
    x, y = np.meshgrid(line, line)
    to_disc_x, to_disc_y = x - anatomy.disc[0], y - anatomy.disc[1]
    angle = np.arctan2(to_disc_y, to_disc_x).astype(np.float32)
    radius = np.hypot(to_disc_x, to_disc_y).astype(np.float32)

    red = rng.uniform(0.58, 0.90)
    color = red * np.array([1.0, rng.uniform(0.36, 0.52), rng.uniform(0.10, 0.30)], dtype=np.float32)
    choroid = rng.uniform(0.02, 0.16) * _choroid(rng, angle, radius)
    mottle = 0.035 * _canvas_noise(rng, 14) + 0.02 * _canvas_noise(rng, 60) + 0.022 * _canvas_noise(rng, 220)
    texture = choroid + mottle * rng.uniform(0.6, 1.2)
    picture = color * (1.0 + texture[..., None] * np.array([0.55, 1.25, 1.1], dtype=np.float32))
    picture *= _illumination(rng, x, y)[..., None]

    to_fovea = np.hypot(x - anatomy.fovea[0], y - anatomy.fovea[1])
    macula = np.exp(-((to_fovea / rng.uniform(0.20, 0.28)) ** 2))[..., None]
    foveola = np.exp(-((to_fovea / rng.uniform(0.055, 0.08)) ** 2))[..., None]
    pigment = rng.uniform(0.7, 1.2)
    picture *= 1.0 - pigment * macula * np.array([0.12, 0.20, 0.24], dtype=np.float32)
    picture *= 1.0 - pigment * foveola * np.array([0.12, 0.20, 0.22], dtype=np.float32)

    fibres = np.abs(_polar_noise(rng, angle, radius, 150, 2.0))
    reach = np.exp(-(((radius / anatomy.disc_radius - 1.6) / 1.3) ** 2)) * np.abs(np.sin(angle)) ** 1.5
    sheen = (rng.uniform(0.0, 0.05) * reach * fibres)[..., None]
    picture += sheen * np.array([0.7, 1.0, 0.6], dtype=np.float32)

    haze = rng.uniform(0.0, 0.16) * np.clip((np.hypot(x, y) - 0.62) / 0.4, 0.0, 1.0) ** 2
    picture += haze[..., None] * np.array([0.45, 1.0, 0.75], dtype=np.float32)
    return np.asarray(picture, dtype=np.float32)


def _illumination(rng: Generator, x: Picture, y: Picture) -> Picture:
    """Uneven light: brightest near a point off the middle, falling off to the edge of the field."""
    bright_x, bright_y = rng.uniform(-0.3, 0.3, 2)
    fall = rng.uniform(0.10, 0.30) * ((x - bright_x) ** 2 + (y - bright_y) ** 2)
    edge = rng.uniform(0.05, 0.30) * np.hypot(x, y) ** 6
    unevenness = np.exp(0.06 * _canvas_noise(rng, 4))
    return np.asarray(np.clip(1.08 - fall - edge, 0.15, None) * unevenness, dtype=np.float32)


def _show_canvas(canvas: Picture, view: _View) -> Picture:
    """Map the canvas to the photo's pixels, ``(H, W, 3)``."""
    scale = (_CANVAS_SIZE - 1) / (2.0 * _CANVAS_EXTENT)
    middle = (_CANVAS_SIZE - 1) / 2.0
    step = scale / view.radius
    photo_to_canvas = np.array(
        [
            [view.temporal * step, 0.0, middle - view.temporal * step * view.center[0]],
            [0.0, step, middle - step * view.center[1]],
        ]
    )
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = (view.width, view.height)
    shown = cv2.warpAffine(canvas, photo_to_canvas, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(shown, dtype=np.float32)


# ------------------------------------------------------------------------------------------------------------ photo


def _paint_disc(picture: Picture, seed: int, anatomy: _Anatomy, x: Picture, y: Picture) -> Picture:
    """Paint the disc with its cup, rim and surroundings over the background."""
    rng = default_rng((seed, _BACKGROUND, 1))
    level = _ellipse_level(x, y, anatomy.disc, anatomy.disc_radii)
    around = float(picture[level < 1.5, 0].mean())
    light = float(np.clip(around * rng.uniform(1.12, 1.28), 0.80, 1.04))
    rim = light * np.array([1.0, rng.uniform(0.64, 0.75), rng.uniform(0.31, 0.44)], dtype=np.float32)
    pale = light * np.array([1.05, rng.uniform(0.86, 0.95), rng.uniform(0.58, 0.72)], dtype=np.float32)

    across = (x - anatomy.disc[0]) / anatomy.disc_radii[0]
    crescent = np.exp(-(((level - 1.06) / 0.10) ** 2)) * np.clip(across, 0.0, 1.0) * rng.uniform(0.0, 0.35)
    halo = np.exp(-(((level - 1.0) / 0.55) ** 2)) * rng.uniform(0.02, 0.12)
    picture = picture * (1.0 + (halo - 0.1 * crescent)[..., None])
    picture = picture + crescent[..., None] * np.array([0.10, 0.12, 0.07], dtype=np.float32)

    # The rim is pinker on the nasal side, where the nerve fibres are thicker.
    shaded = rim * (1.0 + np.clip(across, -1.0, 1.0)[..., None] * np.array([0.02, 0.07, 0.10], dtype=np.float32))
    disc = _soft_inside(level, rng.uniform(0.07, 0.13))[..., None]
    picture = picture * (1.0 - disc) + shaded * disc
    cup = _soft_inside(_ellipse_level(x, y, anatomy.cup, anatomy.cup_radii), rng.uniform(0.08, 0.20))[..., None]
    return np.asarray(picture * (1.0 - cup * disc) + pale * cup * disc, dtype=np.float32)


def _lit_field(view: _View, seed: int, x: Picture, y: Picture) -> tuple[Mask, Picture]:
    """Give the field of view as a mask and as an opacity with the camera's slightly soft edge."""
    if view.kind == "none":
        return np.ones(x.shape, dtype=bool), np.ones(x.shape, dtype=np.float32)
    inside = (1.0 - np.hypot(x, y)) * view.radius
    if view.kind == "cut":
        inside = np.minimum(inside, (_CUT_HEIGHT - np.abs(y)) * view.radius)
    elif default_rng((seed, _CAMERA, 1)).random() < 0.35:
        # The notch by which some cameras mark the top right of a photo.
        image_x = x * np.float32(view.temporal)
        notch = 0.045 - np.maximum(np.abs(image_x + y), np.abs(image_x - y - math.sqrt(2.0))) / math.sqrt(2.0)
        inside = np.maximum(inside, notch * view.radius)
    softness = 0.3 + 0.0012 * view.radius
    return inside >= 0.0, np.clip(0.5 + 0.5 * inside / softness, 0.0, 1.0).astype(np.float32)


def _expose(picture: Picture, opacity: Picture, view: _View, seed: int, noise: float, blur: float) -> NDArray[np.uint8]:
    """Take the photo: optical blur, dark surround, sensor noise, and the losses of one JPEG compression."""
    rng = default_rng((seed, _CAMERA))
    surround = rng.uniform(0.0, 0.02)
    quality = int(rng.integers(86, 96))
    blur_px = 2.0 * blur * view.radius
    if blur_px > 0.1:
        picture = _blurred(picture, blur_px)
    # Highlights roll off before they clip.
    picture = np.where(picture > 0.85, 0.85 + 0.15 * np.tanh((picture - 0.85) / 0.15), picture)
    picture = picture * opacity[..., None] + surround * (1.0 - opacity[..., None])
    if noise > 0.0:
        grain = rng.standard_normal(picture.shape, dtype=np.float32)
        grain = _blurred(grain, 0.6)
        grain /= grain.std()
        picture = picture + noise * grain * np.sqrt(np.clip(picture, 0.0, 1.0) + 0.01)
    pixels = np.rint(np.clip(picture, 0.0, 1.0) * 255.0).astype(np.uint8)
    _, compressed = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(compressed, cv2.IMREAD_COLOR), dtype=np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def _check_settings(
    sides: dict[str, int],
    seed: int,
    field_of_view: str,
    eye: str | None,
    counts: dict[str, int],
    fractions: dict[str, float],
    cup_to_disc: float | None,
) -> None:
    """Refuse settings that no phantom can have."""
    for name, side in sides.items():
        if side < SMALLEST_SIDE:
            raise SettingError(f"'{name}' is {side} pixels; a fundus phantom needs at least {SMALLEST_SIDE}.")
    if seed < 0:
        raise SettingError(f"'seed' is {seed}; give a whole number from 0 on.")
    if field_of_view not in get_args(FieldOfView):
        raise SettingError(f"'field_of_view' is '{field_of_view}'; choose one of {', '.join(get_args(FieldOfView))}.")
    if eye is not None and eye not in get_args(Eye):
        raise SettingError(f"'eye' is '{eye}'; choose OD, OS, or None to let the seed decide.")
    for name, count in counts.items():
        if count < 0:
            raise SettingError(f"'{name}' is {count}; give the number of lesions, 0 for none.")
    for name, fraction in fractions.items():
        if not 0.0 <= fraction <= 0.2:
            raise SettingError(f"'{name}' is {fraction}; give a number from 0 to 0.2.")
    if cup_to_disc is not None and not 0.1 <= cup_to_disc <= 0.95:
        raise SettingError(f"'cup_to_disc' is {cup_to_disc}; give a vertical ratio from 0.1 to 0.95.")


def fundus_phantom(
    height: int = 768,
    width: int = 768,
    *,
    seed: int = 0,
    field_of_view: FieldOfView = "round",
    eye: Eye | None = None,
    exudates: int = 0,
    haemorrhages: int = 0,
    noise: float = 0.014,
    blur: float = 0.0009,
    cup_to_disc: float | None = None,
) -> FundusPhantom:
    """Draw a synthetic fundus photo with exact truth.

    The same seed gives the same eye at every size, with or without lesions.

    Args:
        height: rows of the photo, at least 64.
        width: columns of the photo, at least 64.
        seed: a number that stands for the eye and the photo; not negative.
        field_of_view: ``"round"``, a whole circle in a black frame; ``"cut"``, a circle cut off at top and bottom;
            ``"none"``, a crop that fills the frame.
        eye: ``"OD"`` (right) or ``"OS"`` (left); None lets the seed decide.
        exudates: number of clusters of hard exudates.
        haemorrhages: number of haemorrhages, each one connected region.
        noise: standard deviation of the sensor's noise at full brightness, as a fraction of full brightness.
        blur: standard deviation of the optical blur, as a fraction of the field of view's diameter.
        cup_to_disc: vertical cup-to-disc ratio, 0.1 to 0.95; None lets the seed decide.

    Returns:
        The photo, its masks and its landmarks.

    Raises:
        SettingError: a setting is out of its range, or the lesions do not fit into the field of view.
    """
    counts = {"exudates": exudates, "haemorrhages": haemorrhages}
    fractions = {"noise": noise, "blur": blur}
    sides = {"height": height, "width": width}
    _check_settings(sides, seed, field_of_view, eye, counts, fractions, cup_to_disc)
    anatomy = _draw_anatomy(seed, eye, cup_to_disc)
    view = _make_view(height, width, field_of_view, anatomy)
    x, y = view.coordinates()
    field_mask, opacity = _lit_field(view, seed, x, y)

    arteries = _VesselTree(default_rng((seed, _ARTERIES)), anatomy, anatomy.artery_width, 0.045).grow()
    veins = _VesselTree(default_rng((seed, _VEINS)), anatomy, anatomy.vein_width, -0.045).grow()
    artery, artery_darkness = _draw_vessels(arteries, view, anatomy.vein_width, reflex=0.45)
    vein, vein_darkness = _draw_vessels(veins, view, anatomy.vein_width, reflex=0.12)
    exudate = _draw_exudates(seed, exudates, view, anatomy)
    haemorrhage = _draw_haemorrhages(seed, haemorrhages, view, anatomy)

    picture = _show_canvas(_background_canvas(seed, anatomy), view)
    picture = _paint_disc(picture, seed, anatomy, x, y)
    exudate_color = np.array([0.97, 0.86, 0.42], dtype=np.float32) * np.clip(picture[..., :1] * 1.5, 0.6, 1.0)
    picture += 0.85 * exudate[..., None] * (exudate_color - picture)
    absorbance = vein_darkness[..., None] * _VEIN_ABSORBANCE + artery_darkness[..., None] * _ARTERY_ABSORBANCE
    absorbance += haemorrhage[..., None] * _HAEMORRHAGE_ABSORBANCE
    contrast = default_rng((seed, _CAMERA, 2)).uniform(0.85, 1.15)
    picture *= np.exp(-contrast * absorbance)

    artery, vein = artery & field_mask, vein & field_mask
    disc = (_ellipse_level(x, y, anatomy.disc, anatomy.disc_radii) <= 1.0) & field_mask
    return FundusPhantom(
        photo=_expose(picture, opacity, view, seed, noise, blur),
        field_of_view=field_mask,
        vessel=artery | vein,
        artery=artery,
        vein=vein,
        disc=disc,
        cup=(_ellipse_level(x, y, anatomy.cup, anatomy.cup_radii) <= 1.0) & disc,
        exudate=(exudate >= 0.5) & field_mask,
        haemorrhage=(haemorrhage >= 0.5) & field_mask,
        fovea=view.row_column(anatomy.fovea),
        eye=anatomy.eye,
        disc_center=view.row_column(anatomy.disc),
        disc_diameters=(2.0 * anatomy.disc_radii[1] * view.radius, 2.0 * anatomy.disc_radii[0] * view.radius),
        cup_diameters=(2.0 * anatomy.cup_radii[1] * view.radius, 2.0 * anatomy.cup_radii[0] * view.radius),
        field_of_view_diameter=2.0 * view.radius,
        seed=seed,
    )


def write_fundus_phantoms(
    folder: str | Path,
    count: int = 8,
    *,
    seed: int = 0,
    sizes: Sequence[tuple[int, int]] = ((512, 640), (576, 576), (640, 512)),
    fields_of_view: Sequence[FieldOfView] = ("round", "cut", "none"),
    photo_suffixes: Sequence[str] = (".png", ".jpg"),
    with_lesions: bool = True,
) -> Path:
    """Write a small data set of phantoms in the layout of the Kaggle retina vessel data set.

    Photos are ``image/phantom_000.png`` or ``.jpg``; masks, 0 and 255, are ``NAME.png`` in ``mask`` (vessels),
    ``disc``, ``cup``, ``exudate``, ``haemorrhage`` and ``fov``. Photo number i shows the eye of ``seed + i``; its size,
    field of view and format are the i-th of the given ones, which are used in turn, and eyes are right and left.

    Args:
        folder: where to write; made if it is not there.
        count: number of photos.
        seed: seed of the first photo.
        sizes: heights and widths in pixels.
        fields_of_view: kinds of field of view.
        photo_suffixes: formats of the photos, ``.png`` or ``.jpg``.
        with_lesions: every second photo shows one to three clusters of exudates and two to six haemorrhages; False
            leaves all eyes healthy.

    Returns:
        The folder.

    Raises:
        SettingError: a setting is out of its range.
    """
    if count < 1:
        raise SettingError(f"'count' is {count}; give the number of phantoms to write, at least 1.")
    for name, choices in (("sizes", sizes), ("fields_of_view", fields_of_view), ("photo_suffixes", photo_suffixes)):
        if not choices:
            raise SettingError(f"'{name}' is empty; give at least one value, or leave it out.")
    for suffix in photo_suffixes:
        if suffix not in (".png", ".jpg"):
            raise SettingError(f"'photo_suffixes' has '{suffix}'; choose from .png and .jpg.")
    root = Path(folder)
    for name in ("image", "mask", "disc", "cup", "exudate", "haemorrhage", "fov"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = default_rng((seed + index, _DATA_SET))
        exudates, haemorrhages = int(rng.integers(1, 4)), int(rng.integers(2, 7))
        is_diseased = with_lesions and index % 2 == 1
        height, width = sizes[index % len(sizes)]
        phantom = fundus_phantom(
            height,
            width,
            seed=seed + index,
            # Each kind comes with each size, though both are used in turn.
            field_of_view=fields_of_view[(index + index // len(sizes)) % len(fields_of_view)],
            eye="OD" if (index // 2) % 2 == 0 else "OS",
            exudates=exudates if is_diseased else 0,
            haemorrhages=haemorrhages if is_diseased else 0,
        )
        name = f"phantom_{index:03d}"
        suffix = photo_suffixes[index % len(photo_suffixes)]
        (root / "image" / f"{name}{suffix}").write_bytes(encode_picture(phantom.photo, suffix, quality=95))
        masks = {
            "mask": phantom.vessel,
            "disc": phantom.disc,
            "cup": phantom.cup,
            "exudate": phantom.exudate,
            "haemorrhage": phantom.haemorrhage,
            "fov": phantom.field_of_view,
        }
        for mask_folder, mask in masks.items():
            (root / mask_folder / f"{name}.png").write_bytes(encode_mask(mask))
    return root
