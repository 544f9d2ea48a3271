"""Biomarkers of the optic disc and cup: ratios, the neuroretinal rim, its damage, shapes, and which eye it is.

The disc's mask holds the cup too. Pictures are upright, and angles run anticlockwise as one sees the photo: 0 is right,
90 up (superior), 180 left and 270 down (inferior). `disc_cup_biomarkers` gives everything as columns of a results
table; the other functions give the pieces.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from common.biomarkers._base import Biomarkers
from common.biomarkers.skeleton import bounding_box

# A disc whose middle is nearer to the middle of the field of view than this share of its width may belong to either
# eye. The fovea is some 15.5 degrees from the disc: in a photo of 45 degrees, the disc is 0.34 of the width from the
# middle when that is the macula, 0.17 when it is half-way between the two, and 0 when it is the disc itself.
EYE_MARGIN = 0.1
# A field of view narrower than this many disc diameters (of about 7 degrees) is cut around the disc: its place in
# there says nothing. A photo of 30 degrees is more than 4 wide, one of 45 degrees more than 6.
EYE_MIN_DISC_DIAMETERS = 3.5
# A disc wider or higher than this share of the field of view's width is none: even a large one (9 degrees) in a narrow
# photo (20 degrees) is smaller.
_MAX_DISC_SHARE = 0.5
# Share of its convex hull that a disc fills at least: the 345 that experts drew in Drishti-GS1, REFUGE and IDRiD fill
# 0.994 and more.
_MIN_SOLIDITY = 0.9
# The rim counts as absent where it is thinner than this share of the disc's diameter (20 micrometres), ...
NO_RIM_RATIO = 0.01
# ... or than this many pixels, which no mask can show.
NO_RIM_PIXELS = 0.5
# Below this eccentricity (axes that differ by less than 0.5 %) the long axis of a mask is that of its pixels' noise.
ROUND_ECCENTRICITY = 0.1

_EYES = ("OD", "OS")
_UNKNOWN = "unknown"
_QUADRANTS = ("inferior", "superior", "nasal", "temporal")
_RAYS = 360
_RAY_STEP = 0.5
# Around the last pixel of a mask that a ray meets, its edge is looked for at these distances.
_EDGE_STEPS = np.arange(-1.0, 1.501, 0.125)
# Rounding in the last digits makes no quadrant thicker than another.
_SAME_THICKNESS = 1e-6
# Limits of the sizes of a disc in the disc damage likelihood scale, as its vertical diameter in micrometres.
_SMALL_DISC, _LARGE_DISC = 1500.0, 2000.0
_RIM_LOSS_STEPS = (45.0, 90.0, 180.0, 270.0)

_PLAIN_COLUMNS = (
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
)
_PIXEL_COLUMNS = (
    "disc_area_px2",
    "disc_diameter_vertical_px",
    "disc_diameter_horizontal_px",
    "cup_area_px2",
    "rim_area_px2",
    "rim_thickness_mean_px",
    "rim_thickness_min_px",
    *(f"rim_thickness_{quadrant}_px" for quadrant in _QUADRANTS),
    "cup_shift_px",
)

# The parts of a file name: letters, digits and signs that belong to a word are none of the separators.
_SEPARATORS = re.compile(r"[\s_\-.,;()\[\]{}+#=]+")
_LETTER = re.compile(r"\d*([LR])", re.IGNORECASE)
_LATIN = re.compile(r"\d*(OD|OS)\d*", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_WORDS = {"left": "OS", "lefteye": "OS", "right": "OD", "righteye": "OD"}


class CupToDiscRatios(NamedTuple):
    """Size of the cup over size of the disc, from 0 to 1, without unit.

    Attributes:
        vertical: of the vertical diameters.
        horizontal: of the horizontal diameters.
        area: of the areas.
    """

    vertical: float
    horizontal: float
    area: float


class EllipseShape(NamedTuple):
    """The ellipse that has a mask's second moments.

    Attributes:
        eccentricity: 0 for a circle, towards 1 for a line; without unit.
        tilt: angle from the vertical to the long axis in degrees, above -90 and up to 90; positive when the long axis
            is turned anticlockwise, so that its upper end leans to the left. NaN for a circle.
        long_axis: length of the whole long axis in pixels.
        short_axis: length of the whole short axis in pixels.
    """

    eccentricity: float
    tilt: float
    long_axis: float
    short_axis: float


@dataclass(frozen=True)
class RimProfile:
    """Edges of disc and cup along rays from the disc's centroid, each in the middle of its part of the full turn.

    Attributes:
        angles: direction of each ray in degrees, anticlockwise from the right ``(n,)``.
        disc_radius: distance in pixels from the disc's centroid to its outer edge ``(n,)``.
        cup_radius: distance in pixels from the disc's centroid to the cup's outer edge ``(n,)``; 0 where the ray does
            not meet the cup.
    """

    angles: NDArray[np.float64]
    disc_radius: NDArray[np.float64]
    cup_radius: NDArray[np.float64]

    @property
    def thickness(self) -> NDArray[np.float64]:
        """Thickness of the rim in pixels ``(n,)``: ``disc_radius - cup_radius``."""
        thickness: NDArray[np.float64] = np.maximum(self.disc_radius - self.cup_radius, 0)
        return thickness

    @property
    def disc_diameter(self) -> NDArray[np.float64]:
        """Diameter of the disc in pixels along the axis of each ray, through the centroid ``(n,)``."""
        return self.disc_radius + np.roll(self.disc_radius, len(self.angles) // 2)

    @property
    def ratio(self) -> NDArray[np.float64]:
        """Rim-to-disc ratio ``thickness / disc_diameter`` ``(n,)``, without unit; 0.5 where there is no cup."""
        diameter = self.disc_diameter
        # A crescent's centroid may lie outside it: then there are axes without disc.
        without_disc = np.where(np.isnan(diameter), np.nan, 0.0)
        ratio: NDArray[np.float64] = np.divide(self.thickness, diameter, out=without_disc, where=diameter > 0)
        return ratio

    def quadrants(self, eye: str | None) -> dict[str, float]:
        """Mean thickness of the rim over each quarter of the turn.

        The quarters are centred on up (superior), down (inferior), right and left. The nasal side is the right one in
        a photo of the right eye (OD) and the left one in a photo of the left eye (OS).

        Args:
            eye: ``OD``, ``OS``, or None when it is not known.

        Returns:
            ``inferior``, ``superior``, ``nasal`` and ``temporal`` in pixels; the last two are NaN without an eye.

        Raises:
            ValueError: the eye is something else.
        """
        _check_eye(eye)
        sector = ((self.angles + 45) % 360 // 90).astype(np.intp)
        right, superior, left, inferior = (float(self.thickness[sector == number].mean()) for number in range(4))
        if eye is None:
            return {"inferior": inferior, "superior": superior, "nasal": math.nan, "temporal": math.nan}
        nasal, temporal = (right, left) if eye == "OD" else (left, right)
        return {"inferior": inferior, "superior": superior, "nasal": nasal, "temporal": temporal}

    def absent(self) -> float:
        """Angle over which there is no rim, in degrees, all gaps together.

        The rim is absent where it is thinner than 1 % of the disc's diameter (some 20 micrometres) or half a pixel.

        Returns:
            From 0 to 360; NaN for an empty profile.
        """
        if np.isnan(self.thickness).any():
            return math.nan
        missing = (self.ratio < NO_RIM_RATIO) | (self.thickness < NO_RIM_PIXELS)
        return float(missing.mean() * 360)


class _Moments(NamedTuple):
    """Area, centroid (x, y) and second central moments per pixel of a mask."""

    area: float
    center: tuple[float, float]
    xx: float
    xy: float
    yy: float


def _moments(mask: NDArray[np.bool_]) -> _Moments:
    """Moments of a mask that is not empty; each pixel counts as a square."""
    raw = cv2.moments(np.ascontiguousarray(mask).view(np.uint8), binaryImage=True)
    area = raw["m00"]
    square = 1 / 12
    return _Moments(
        area,
        (raw["m10"] / area, raw["m01"] / area),
        raw["mu20"] / area + square,
        raw["mu11"] / area,
        raw["mu02"] / area + square,
    )


def _size(box: tuple[slice, slice]) -> tuple[int, int]:
    """Height and width of a bounding box in pixels; (0, 0) for that of an empty mask."""
    return box[0].stop - box[0].start, box[1].stop - box[1].start


def _crop(disc: NDArray[np.bool_], cup: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Check both masks; give them around the disc, with what of the cup lies inside it."""
    _check_mask("disc", disc)
    _check_mask("cup", cup)
    _check_shapes("cup", cup, disc)
    box = bounding_box(disc)
    return disc[box], cup[box] & disc[box]


def cup_to_disc_ratios(disc: NDArray[np.bool_], cup: NDArray[np.bool_]) -> CupToDiscRatios:
    """Cup-to-disc ratios, vertical, horizontal and by area.

    ``vertical = height of the cup / height of the disc``, of the upright boxes around them; ``horizontal`` likewise
    with the widths; ``area = |cup| / |disc|``.

    Args:
        disc: ``(H, W)`` of bool, the cup included.
        cup: ``(H, W)`` of bool; what lies outside the disc is ignored.

    Returns:
        The three ratios; NaN when there is no disc, or no cup inside it.

    Raises:
        ValueError: a mask is not a two-dimensional array of bool, or the shapes differ.

    References:
        Armaly, "Genetic determination of cup/disc ratio of the optic nerve", Archives of Ophthalmology 78, 1967.
        Jonas, Gusek and Naumann, "Optic disc, cup and neuroretinal rim size, configuration and correlations in normal
        eyes", Investigative Ophthalmology and Visual Science 29, 1988.
    """
    disc, cup = _crop(disc, cup)
    if not cup.any():
        return CupToDiscRatios(math.nan, math.nan, math.nan)
    height, width = _size(bounding_box(cup))
    return CupToDiscRatios(
        height / disc.shape[0], width / disc.shape[1], float(np.count_nonzero(cup) / np.count_nonzero(disc))
    )


def ellipse_shape(mask: NDArray[np.bool_]) -> EllipseShape:
    """Eccentricity and tilt of the ellipse that has the same second moments as a mask.

    With the variances ``v1 >= v2`` of the mask's area along its principal axes, the axes are ``4 sqrt(v1)`` and
    ``4 sqrt(v2)`` long, and the eccentricity is ``sqrt(1 - v2 / v1)``. With the variances ``xx`` and ``yy`` along
    columns and rows (which point down) and the covariance ``xy``, the tilt from the vertical is
    ``atan2(2 xy, yy - xx) / 2``.

    Args:
        mask: ``(H, W)`` of bool.

    Returns:
        The shape; all NaN for an empty mask. The tilt is NaN below an eccentricity of 0.1, where the axes differ by
        less than half a per cent.

    Raises:
        ValueError: the mask is not a two-dimensional array of bool.

    References:
        Teague, "Image analysis via the general theory of moments", Journal of the Optical Society of America 70, 1980.
    """
    _check_mask("mask", mask)
    crop = mask[bounding_box(mask)]
    if not crop.size:
        return EllipseShape(math.nan, math.nan, math.nan, math.nan)
    return _shape(_moments(crop))


def _shape(moments: _Moments) -> EllipseShape:
    middle = (moments.xx + moments.yy) / 2
    spread = math.hypot((moments.xx - moments.yy) / 2, moments.xy)
    long, short = middle + spread, max(middle - spread, 0.0)
    eccentricity = math.sqrt(1 - short / long)
    # A zero is added, since the arc tangent of a negative zero would be -180 degrees instead of 180.
    tilt = math.degrees(math.atan2(2 * moments.xy + 0.0, moments.yy - moments.xx)) / 2
    if eccentricity < ROUND_ECCENTRICITY:
        tilt = math.nan
    return EllipseShape(eccentricity, tilt, 4 * math.sqrt(long), 4 * math.sqrt(short))


def _bilinear(mask: NDArray[np.float32], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """A mask between its pixels, at places inside it."""
    left, top = x.astype(np.intp), y.astype(np.intp)
    right, down = x - left, y - top
    upper = mask[top, left] * (1 - right) + mask[top, left + 1] * right
    lower = mask[top + 1, left] * (1 - right) + mask[top + 1, left + 1] * right
    between: NDArray[np.float64] = upper * (1 - down) + lower * down
    return between


def _edge(
    mask: NDArray[np.bool_],
    hits: NDArray[np.bool_],
    center: tuple[float, float],
    directions: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Distance along each ray to the mask's outer edge: where the mask between its pixels falls below one half.

    ``hits`` ``(rays, steps)`` says which samples along the rays lie in a pixel of the mask.
    """
    last = (hits.shape[1] - 1 - hits[:, ::-1].argmax(axis=1)) * _RAY_STEP
    radii = np.maximum(last[:, None] + _EDGE_STEPS, 0)
    height, width = mask.shape
    x = np.clip(center[0] + radii * directions[0][:, None], 0, width - 1.001)
    y = np.clip(center[1] - radii * directions[1][:, None], 0, height - 1.001)
    values = _bilinear(mask.astype(np.float32), x, y)
    inside = values >= 0.5
    inner = radii.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    rays, outer = np.arange(len(radii)), np.minimum(inner + 1, radii.shape[1] - 1)
    fall = values[rays, inner] - values[rays, outer]
    share = np.divide(values[rays, inner] - 0.5, fall, out=np.zeros(len(radii)), where=fall > 0)
    edge = radii[rays, inner] + share * (radii[rays, outer] - radii[rays, inner])
    # The tip of a single pixel is nowhere half full between its pixels.
    edge = np.where(inside.any(axis=1), edge, last)
    distance: NDArray[np.float64] = np.where(hits.any(axis=1), edge, 0.0)
    return distance


def rim_profile(disc: NDArray[np.bool_], cup: NDArray[np.bool_], angles: int = _RAYS) -> RimProfile:
    """Edges of disc and cup, and with them the thickness of the rim, in every direction from the disc's centroid.

    Ray k runs at ``(k + 1/2) 360 / angles`` degrees, anticlockwise from the right: in the middle of its part of the
    turn, so that no ray lies between two quadrants, and turning by quarters or mirroring the photo gives the same
    rays. The masks are interpolated bilinearly between their pixels; a ray's edge is the outermost place where the
    mask falls below one half. For discs of 20 pixels and more, this is right to about half a pixel.

    Args:
        disc: ``(H, W)`` of bool, the cup included.
        cup: ``(H, W)`` of bool; what lies outside the disc is ignored.
        angles: how many rays, a multiple of 8.

    Returns:
        The profile; all NaN when there is no disc, and with a cup radius of NaN when there is no cup inside it.

    Raises:
        ValueError: a mask is not a two-dimensional array of bool, the shapes differ, or the number of angles is not a
            positive multiple of 8.
    """
    if angles <= 0 or angles % 8:
        raise ValueError(f"angles is {angles}; give a positive multiple of 8, so that every quadrant gets as many.")
    disc, cup = _crop(disc, cup)
    degrees = (np.arange(angles) + 0.5) * 360 / angles
    if not disc.size:
        unknown = np.full(angles, np.nan)
        return RimProfile(degrees, unknown, unknown)
    disc, cup = np.pad(disc, 2), np.pad(cup, 2)
    height, width = disc.shape
    center = _moments(disc).center
    reach = math.hypot(max(center[0], width - 1 - center[0]), max(center[1], height - 1 - center[1]))
    radii = np.arange(0, reach + _RAY_STEP, _RAY_STEP)
    directions = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    x = np.rint(np.clip(center[0] + radii * directions[0][:, None], 0, width - 1)).astype(np.intp)
    y = np.rint(np.clip(center[1] - radii * directions[1][:, None], 0, height - 1)).astype(np.intp)
    places = y * width + x
    disc_radius = _edge(disc, disc.ravel()[places], center, directions)
    if not cup.any():
        return RimProfile(degrees, disc_radius, np.full(angles, np.nan))
    return RimProfile(degrees, disc_radius, _edge(cup, cup.ravel()[places], center, directions))


def isnt_rule(inferior: float, superior: float, nasal: float, temporal: float) -> str:
    """Whether the rim is thickest inferiorly, then superiorly, then nasally, and thinnest temporally.

    ``inferior >= superior >= nasal >= temporal``. Many healthy eyes break the rule, so it is a hint and no diagnosis.

    Args:
        inferior: mean thickness of the rim below the disc's centre, in any unit.
        superior: above it, in the same unit.
        nasal: on the side of the nose.
        temporal: on the side of the macula.

    Returns:
        ``true``, ``false``, or ``unknown`` when a thickness is NaN.

    References:
        Jonas, Gusek and Naumann, "Optic disc, cup and neuroretinal rim size, configuration and correlations in normal
        eyes", Investigative Ophthalmology and Visual Science 29, 1988. Harizman et al., "The ISNT rule and
        differentiation of normal from glaucomatous eyes", Archives of Ophthalmology 124, 2006.
    """
    thickness = np.array([inferior, superior, nasal, temporal])
    if np.isnan(thickness).any():
        return _UNKNOWN
    tolerance = _SAME_THICKNESS * thickness.max()
    return "true" if (thickness[:-1] >= thickness[1:] - tolerance).all() else "false"


def ddls_stage(ratio: float, absent: float, disc_diameter: float | None = None) -> float:
    """Stage of the disc damage likelihood scale, from 1 (no damage likely) to 10.

    For a disc of average size (1.5 to 2 mm), with the rim-to-disc ratio at the thinnest point: 1 from 0.4, 2 from 0.3,
    3 from 0.2, 4 from 0.1, and 5 below; where there is no rim: 6 up to 45 degrees, 7 up to 90, 8 up to 180, 9 up to
    270, and 10 above. A smaller disc is one stage higher (and 1 from 0.5), a larger one is one stage lower.

    Args:
        ratio: thickness of the rim over diameter of the disc along the same axis, at the thinnest point; without unit.
        absent: angle over which there is no rim, in degrees.
        disc_diameter: vertical diameter of the disc in micrometres; without it, the disc counts as average.

    Returns:
        The stage, a whole number as float; NaN when the ratio or the angle is.

    References:
        Spaeth et al., "The disc damage likelihood scale: reproducibility of a new method of estimating the amount of
        optic nerve damage caused by glaucoma", Transactions of the American Ophthalmological Society 100, 2002. The
        table with ten stages: Henderer, "Disc damage likelihood scale", British Journal of Ophthalmology 90, 2006.
    """
    if math.isnan(ratio) or math.isnan(absent):
        return math.nan
    if absent > 0:
        level = 6 + sum(absent > limit for limit in _RIM_LOSS_STEPS)
    else:
        level = 5 - min(5, math.floor(10 * ratio + 1e-9))
    if disc_diameter is not None and disc_diameter < _SMALL_DISC:
        level += 1
    elif disc_diameter is not None and disc_diameter > _LARGE_DISC:
        level -= 1
    return float(min(max(level, 1), 10))


def eye_from_name(name: str) -> str | None:
    """Tell from the name of a file whether it shows a right or a left eye.

    What counts: ``left``, ``right``, ``OD`` (oculus dexter) and ``OS`` (oculus sinister) as words of their own, in any
    case, in the name and in its folders; in the name also a single ``L`` or ``R``, alone or behind a number, as in
    ``Image_01L.jpg``. ``R1`` does not count: that is as often a release or a round. Where the names of folders speak
    of both eyes, they say nothing.

    In some public data sets, IDRiD for one, ``OD`` in the name of a mask stands for the optic disc: give this function
    the names of photos.

    Args:
        name: name of a file, or its path.

    Returns:
        ``OD`` for the right eye, ``OS`` for the left one; None when the name says neither or both.
    """
    *folders, file = re.split(r"[/\\]+", name)
    sides = _eyes_in(file, letters=True)
    if len(sides) > 1:
        return None
    for folder in folders:
        found = _eyes_in(folder, letters=False)
        if len(found) == 1:
            sides |= found
    return sides.pop() if len(sides) == 1 else None


def _eyes_in(part: str, letters: bool) -> set[str]:
    """The eyes that one part of a path speaks of."""
    eyes = set()
    for token in filter(None, _SEPARATORS.split(part)):
        if latin := _LATIN.fullmatch(token):
            eyes.add(latin[1].upper())
        elif letters and (letter := _LETTER.fullmatch(token)):
            eyes.add("OS" if letter[1].upper() == "L" else "OD")
        else:
            eyes |= {_WORDS[word.lower()] for word in _WORD.findall(token) if word.lower() in _WORDS}
    return eyes


def eye_from_position(disc: NDArray[np.bool_], field_of_view: NDArray[np.bool_] | None) -> str | None:
    """Tell from the disc's place in the field of view whether the photo shows a right or a left eye.

    The disc lies nasally of the fovea: in a photo that is centred on the macula, or between it and the disc, and that
    is not mirrored, it is on the right in a right eye and on the left in a left one. Photos centred on the disc, and
    crops of it, cannot tell; photos of the nasal or of the far retina mislead.

    Args:
        disc: ``(H, W)`` of bool.
        field_of_view: ``(H, W)`` of bool; None when it is not known.

    Returns:
        ``OD``, ``OS``, or None: without disc or field of view, when the disc's middle is nearer to that of the field of
        view than a tenth of its width (`EYE_MARGIN`), or when the field of view is narrower than 3.5 discs
        (`EYE_MIN_DISC_DIAMETERS`).

    Raises:
        ValueError: a mask is not a two-dimensional array of bool, or the shapes differ.
    """
    _check_mask("disc", disc)
    if field_of_view is None:
        return None
    _check_mask("field_of_view", field_of_view)
    _check_shapes("field_of_view", field_of_view, disc)
    return _eye_from_boxes(bounding_box(disc), bounding_box(field_of_view))


def _eye_from_boxes(disc: tuple[slice, slice], view: tuple[slice, slice]) -> str | None:
    (disc_height, disc_width), (_, view_width) = _size(disc), _size(view)
    if not disc_width or view_width < EYE_MIN_DISC_DIAMETERS * max(disc_height, disc_width):
        return None
    aside = (disc[1].start + disc[1].stop - view[1].start - view[1].stop) / 2
    if abs(aside) < EYE_MARGIN * view_width:
        return None
    return "OD" if aside > 0 else "OS"


def disc_cup_biomarkers(
    disc: NDArray[np.bool_],
    cup: NDArray[np.bool_],
    field_of_view: NDArray[np.bool_] | None = None,
    *,
    eye: str | None = None,
    pixel_size: float | None = None,
) -> Biomarkers:
    """Compute every biomarker of an optic disc and its cup.

    Columns, as floats unless said otherwise:

    - ``eye``: ``OD``, ``OS`` or ``unknown`` (text): as given, else by `eye_from_position`.
    - ``isnt_rule``: ``true``, ``false`` or ``unknown`` (text), see `isnt_rule`.
    - ``cdr_vertical``, ``cdr_horizontal``, ``cdr_area``: see `cup_to_disc_ratios`.
    - ``rim_to_disc_ratio_min``: the smallest thickness of the rim over the diameter of the disc along the same axis.
      ``rim_absent_deg``: angle without rim, see `RimProfile.absent`. ``ddls_stage``: see `ddls_stage`; without
      ``pixel_size`` for a disc of average size.
    - ``disc_eccentricity``, ``disc_tilt_deg``, ``cup_eccentricity``, ``cup_tilt_deg``: see `ellipse_shape`. The tilt is
      that in the photo: mirroring changes its sign.
    - ``disc_area_px2``, ``cup_area_px2``, ``rim_area_px2``: the rim is what of the disc is no cup.
    - ``disc_diameter_vertical_px``, ``disc_diameter_horizontal_px``: height and width of the disc.
    - ``rim_thickness_mean_px``, ``..._min_px``: over all directions of `rim_profile`; ``..._inferior_px``,
      ``..._superior_px``, ``..._nasal_px``, ``..._temporal_px``: means of the quadrants, see `RimProfile.quadrants`.
    - ``cup_shift_px``: distance between the centroids of cup and disc; ``cup_shift_disc_diameters``: that over
      ``2 sqrt(disc area / pi)``.
    - with ``pixel_size`` all columns in ``_px`` and ``_px2`` also in ``_um`` and ``_um2``.

    Args:
        disc: ``(H, W)`` of bool, one object, the cup included.
        cup: ``(H, W)`` of bool; what lies outside the disc is ignored.
        field_of_view: ``(H, W)`` of bool, to tell the eye when it is not given.
        eye: ``OD`` (right), ``OS`` (left), or None when it is not known.
        pixel_size: side of a pixel in micrometres, when it is known.

    Returns:
        Values and notes. Without a disc, all numbers are NaN; without a cup, those that need one. Without an eye, the
        nasal and the temporal quadrant are NaN. The tilt of a circle is NaN. Also noted: a disc that touches the edge
        of the photo; one that lies where it does in the other eye than the one that is given; and what can hardly be a
        disc, since it is larger than half of the field of view or fills less than 0.9 of its convex hull.

    Raises:
        ValueError: a mask is not a two-dimensional array of bool, the shapes differ, the eye is neither ``OD``, ``OS``
            nor None, or ``pixel_size`` is not a positive number.
    """
    _check_mask("disc", disc)
    _check_mask("cup", cup)
    _check_shapes("cup", cup, disc)
    if field_of_view is not None:
        _check_mask("field_of_view", field_of_view)
        _check_shapes("field_of_view", field_of_view, disc)
    _check_eye(eye)
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ValueError(f"pixel_size is {pixel_size}; give the side of a pixel in micrometres, or None if unknown.")

    box = bounding_box(disc)
    view = None if field_of_view is None else bounding_box(field_of_view)
    place = None if view is None else _eye_from_boxes(box, view)
    side = eye or place
    words = {"eye": side or _UNKNOWN, "isnt_rule": _UNKNOWN}
    numbers = dict.fromkeys(_PLAIN_COLUMNS + _PIXEL_COLUMNS, math.nan)
    whole = disc[box]
    if not whole.size:
        return Biomarkers(_columns(words, numbers, pixel_size), ("no optic disc found",))

    notes = []
    if min(box[0].start, box[1].start) == 0 or box[0].stop == disc.shape[0] or box[1].stop == disc.shape[1]:
        notes.append("disc is cut off by the edge of the photo")
    if view is not None and max(whole.shape) > _MAX_DISC_SHARE * _size(view)[1]:
        notes.append("disc is larger than half of the field of view: it may be no disc")
    if _solidity(whole) < _MIN_SOLIDITY:
        notes.append("disc has a ragged outline: it may be no disc")
    if eye and place and eye != place:
        notes.append(f"eye is given as {eye}, but the disc lies where it does in {place}")
    moments = _moments(whole)
    numbers |= _disc_numbers(whole, moments)
    if math.isnan(numbers["disc_tilt_deg"]):
        notes.append("disc tilt: the disc is round")

    inner = cup[box] & whole
    if not inner.any():
        notes.append("cup lies outside the disc" if cup.any() else "no cup found")
        return Biomarkers(_columns(words, numbers, pixel_size), tuple(notes))
    profile = rim_profile(whole, inner)
    numbers |= _cup_numbers(whole, inner, moments)
    numbers |= _rim_numbers(profile, side)
    height = None if pixel_size is None else numbers["disc_diameter_vertical_px"] * pixel_size
    numbers["ddls_stage"] = ddls_stage(numbers["rim_to_disc_ratio_min"], numbers["rim_absent_deg"], height)
    words["isnt_rule"] = isnt_rule(*(numbers[f"rim_thickness_{quadrant}_px"] for quadrant in _QUADRANTS))
    if math.isnan(numbers["cup_tilt_deg"]):
        notes.append("cup tilt: the cup is round")
    if side is None:
        notes.append("eye unknown: no nasal and no temporal quadrant, no ISNT rule")
    return Biomarkers(_columns(words, numbers, pixel_size), tuple(notes))


def _solidity(mask: NDArray[np.bool_]) -> float:
    """Share of the pixels in the convex hull of its pixels' middles that a mask has; 1 for a convex region.

    The pixels in the hull are counted by Pick's theorem: area + (points on the border) / 2 + 1.
    """
    hull = cv2.convexHull(cv2.findNonZero(np.ascontiguousarray(mask).view(np.uint8)))
    steps = np.abs(hull[:, 0] - np.roll(hull[:, 0], 1, axis=0))
    inside = cv2.contourArea(hull) + int(np.gcd(steps[:, 0], steps[:, 1]).sum()) / 2 + 1
    return float(np.count_nonzero(mask) / inside)


def _disc_numbers(disc: NDArray[np.bool_], moments: _Moments) -> dict[str, float]:
    """Values that need the disc only, which fills its array from edge to edge."""
    shape = _shape(moments)
    return {
        "disc_eccentricity": shape.eccentricity,
        "disc_tilt_deg": shape.tilt,
        "disc_area_px2": moments.area,
        "disc_diameter_vertical_px": float(disc.shape[0]),
        "disc_diameter_horizontal_px": float(disc.shape[1]),
    }


def _cup_numbers(disc: NDArray[np.bool_], cup: NDArray[np.bool_], of_disc: _Moments) -> dict[str, float]:
    """Values that need the cup too, but no rays."""
    of_cup = _moments(cup)
    ratios = cup_to_disc_ratios(disc, cup)
    shape = _shape(of_cup)
    shift = math.dist(of_cup.center, of_disc.center)
    return {
        "cdr_vertical": ratios.vertical,
        "cdr_horizontal": ratios.horizontal,
        "cdr_area": ratios.area,
        "cup_eccentricity": shape.eccentricity,
        "cup_tilt_deg": shape.tilt,
        "cup_area_px2": of_cup.area,
        "rim_area_px2": of_disc.area - of_cup.area,
        "cup_shift_px": shift,
        "cup_shift_disc_diameters": shift / (2 * math.sqrt(of_disc.area / math.pi)),
    }


def _rim_numbers(profile: RimProfile, eye: str | None) -> dict[str, float]:
    """Values along the rays."""
    return {
        "rim_to_disc_ratio_min": float(profile.ratio.min()),
        "rim_absent_deg": profile.absent(),
        "rim_thickness_mean_px": float(profile.thickness.mean()),
        "rim_thickness_min_px": float(profile.thickness.min()),
        **{f"rim_thickness_{quadrant}_px": value for quadrant, value in profile.quadrants(eye).items()},
    }


def _columns(words: dict[str, str], numbers: dict[str, float], pixel_size: float | None) -> dict[str, Any]:
    """All columns, in micrometres too where the size of a pixel is known."""
    values: dict[str, Any] = {**words, **numbers}
    if pixel_size is not None:
        for name in _PIXEL_COLUMNS:
            if name.endswith("_px2"):
                values[name.removesuffix("_px2") + "_um2"] = numbers[name] * pixel_size**2
            else:
                values[name.removesuffix("_px") + "_um"] = numbers[name] * pixel_size
    return values


def _check_mask(name: str, mask: NDArray[np.bool_]) -> None:
    """Refuse what is not a mask."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"{name} must be an array (H, W) of bool, not {mask.shape} of {mask.dtype}.")


def _check_shapes(name: str, mask: NDArray[np.bool_], disc: NDArray[np.bool_]) -> None:
    """Refuse masks of different photos."""
    if mask.shape != disc.shape:
        raise ValueError(f"disc is {disc.shape} and {name} is {mask.shape}; give all masks the same shape.")


def _check_eye(eye: str | None) -> None:
    """Refuse what is no eye."""
    if eye is not None and eye not in _EYES:
        raise ValueError(f"eye is {eye!r}; give 'OD' (right), 'OS' (left), or None if unknown.")
