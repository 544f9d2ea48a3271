"""Biomarkers of the retinal vessels: density, length, fractal dimension, tortuosity, calibre, branching.

All of them are computed from a vessel mask; `trace_vessels` thins it once and measures every vessel segment, and
`vessel_biomarkers` gives everything as columns of a results table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from common.biomarkers._base import Biomarkers
from common.biomarkers.skeleton import NEIGHBOURS, PixelSet, bounding_box

# Boxes along the longer side of the pattern, a factor of about the square root of two apart.
_BOXES_PER_SIDE = (4, 6, 8, 11, 16, 23, 32, 45, 64)
_MIN_SCALES = 4
_MIN_BOX_SIDE = 4
# Rounds of (1/4, 1/2, 1/4) smoothing of a centre line: a Gaussian of sqrt(rounds / 2) = 2 pixels.
_SMOOTHING_ROUNDS = 8
# What is left after three rounds of pruning is next to nothing.
_PRUNING_ROUNDS = 3
_MIN_TORTUOSITY_LENGTH = 10.0
_MIN_TORTUOSITY_WIDTHS = 3.0
_CALIBRE_PERCENTILES = {"median": 50, "p05": 5, "p95": 95}

_PLAIN_COLUMNS = (
    "vessel_density",
    "vessel_fractal_d0",
    "vessel_fractal_d1",
    "vessel_fractal_d2",
    "vessel_tortuosity_median",
    "vessel_tortuosity_weighted_mean",
    "vessel_branching_points",
    "vessel_segments",
)
_CALIBRE_STATISTICS = ("mean", "std", *_CALIBRE_PERCENTILES)


class FractalDimensions(NamedTuple):
    """Generalised dimensions of a pattern, ``d0 >= d1 >= d2`` up to the error of the fit.

    Attributes:
        d0: capacity (box-counting) dimension.
        d1: information dimension.
        d2: correlation dimension.
    """

    d0: float
    d1: float
    d2: float


@dataclass(frozen=True)
class VesselTrace:
    """Centre lines of a vessel mask, cut at the branching points into segments. Lengths in pixels.

    Attributes:
        lengths: length of each segment along the vessel ``(n,)``.
        chords: distance between the segment's two ends ``(n,)``; NaN for a closed loop, or one that starts and ends at
            the same branching point.
        mean_widths: mean width of the vessel along each segment ``(n,)``.
        widths: width of the vessel at each pixel of the centre lines that is not inside a branching ``(m,)``.
        total_length: of all centre lines, including what lies inside branchings.
        branching_points: places where three or more segments meet, two vessels that cross among them.
    """

    lengths: NDArray[np.float64]
    chords: NDArray[np.float64]
    mean_widths: NDArray[np.float64]
    widths: NDArray[np.float64]
    total_length: float
    branching_points: int

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return len(self.lengths)

    def tortuosity(self) -> tuple[float, float]:
        """Arc length over chord length of the segments: their median, and their mean weighted by arc length.

        ``tortuosity = length / chord``; 1 for a straight vessel. Segments shorter than 10 pixels or than three times
        their own width are left out, since there the pixel grid decides the value.

        Returns:
            Median and length-weighted mean; NaN when no segment is long enough.

        References:
            Hart, Goldbaum, Côté, Kube and Nelson, "Measurement and classification of retinal vascular tortuosity",
            International Journal of Medical Informatics 53, 1999.
        """
        usable = np.isfinite(self.chords) & (self.chords > 0)
        usable &= self.lengths >= np.maximum(_MIN_TORTUOSITY_LENGTH, _MIN_TORTUOSITY_WIDTHS * self.mean_widths)
        if not usable.any():
            return float("nan"), float("nan")
        arcs = self.lengths[usable]
        ratios = arcs / self.chords[usable]
        return float(np.median(ratios)), float(np.average(ratios, weights=arcs))

    def calibre(self) -> dict[str, float]:
        """Distribution of the width over the pixels of the centre lines.

        Returns:
            ``mean``, ``std``, ``median``, ``p05`` and ``p95`` (percentiles), in pixels; NaN when there is no width.
        """
        if not self.widths.size:
            return dict.fromkeys(_CALIBRE_STATISTICS, float("nan"))
        percentiles = np.percentile(self.widths, list(_CALIBRE_PERCENTILES.values()))
        return {
            "mean": float(self.widths.mean()),
            "std": float(self.widths.std()),
            **{name: float(value) for name, value in zip(_CALIBRE_PERCENTILES, percentiles, strict=True)},
        }


@dataclass(frozen=True)
class _Graph:
    """Centre-line pixels as a graph; every pixel belongs to a segment or to a crossing.

    Attributes:
        crossing: whether a pixel has three or more neighbours ``(n,)``.
        labels: number of the segment, or of the cluster of crossing pixels, that a pixel belongs to ``(n,)``.
        count: how many numbers there are.
        points: row and column of each pixel ``(n, 2)``, smoothed along the segments.
        pairs: neighbouring pixels of one segment ``(p, 2)``.
        degree: neighbours of a pixel in its own segment ``(n,)``.
        contacts: pixel of a segment and number of the crossing that it touches ``(c, 2)``.
    """

    crossing: NDArray[np.bool_]
    labels: NDArray[np.intp]
    count: int
    points: NDArray[np.float64]
    pairs: NDArray[np.intp]
    degree: NDArray[np.intp]
    contacts: NDArray[np.intp]

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Length of each segment ``(count,)``; 0 for crossings and single pixels."""
        steps = np.linalg.norm(self.points[self.pairs[:, 0]] - self.points[self.pairs[:, 1]], axis=1)
        return np.bincount(self.labels[self.pairs[:, 0]], weights=steps, minlength=self.count).astype(np.float64)

    @property
    def contact_lengths(self) -> NDArray[np.float64]:
        """Distance from each contact's segment to the centre of its crossing ``(c,)``."""
        centers = self.centers
        distances: NDArray[np.float64] = np.linalg.norm(
            self.points[self.contacts[:, 0]] - centers[self.contacts[:, 1]], axis=1
        )
        return distances

    @property
    def total_length(self) -> float:
        """Length of all segments, and of their way to the centres of the crossings."""
        return float(self.lengths.sum() + self.contact_lengths.sum())

    @property
    def centers(self) -> NDArray[np.float64]:
        """Mean row and column of each number's pixels ``(count, 2)``."""
        sums = [np.bincount(self.labels, weights=axis, minlength=self.count) for axis in self.points.T]
        sizes = np.bincount(self.labels, minlength=self.count)
        return np.column_stack(sums).astype(np.float64) / sizes[:, None]

    def largest(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The largest of the pixels' values ``(n,)`` for each number ``(count,)``."""
        largest = np.zeros(self.count)
        np.maximum.at(largest, self.labels, values)
        return largest


def _neighbour_pairs(lines: PixelSet) -> NDArray[np.intp]:
    """Every pair of neighbouring pixels once, as indices ``(p, 2)`` into ``lines.pixels``."""
    index = np.empty(lines.codes.size, dtype=np.intp)
    index[lines.pixels] = np.arange(lines.pixels.size)
    codes = lines.codes[lines.pixels]
    pairs = []
    for direction, offset in enumerate(lines.offsets[:4]):
        first = np.flatnonzero(codes & (1 << direction))
        pairs.append(np.column_stack([first, index[lines.pixels[first] + offset]]))
    return np.concatenate(pairs)


def _build_graph(lines: PixelSet, bridges: NDArray[np.bool_] | None = None) -> _Graph:
    """Cut thinned lines at the crossings, number the parts, and smooth the course of each segment.

    The pixels of ``bridges`` ``(n,)`` count as crossings too.
    """
    size = lines.pixels.size
    crossing: NDArray[np.bool_] = NEIGHBOURS[lines.codes[lines.pixels]] >= 3
    if bridges is not None:
        crossing = crossing | bridges
    pairs = _neighbour_pairs(lines)
    start, stop = pairs[:, 0], pairs[:, 1]
    alike = crossing[start] == crossing[stop]
    links = csr_array((np.ones(int(alike.sum())), (start[alike], stop[alike])), shape=(size, size))
    count, labels = connected_components(links, directed=False)
    labels = labels.astype(np.intp)

    mixed = pairs[~alike]
    mixed = np.where(crossing[mixed[:, :1]], mixed[:, ::-1], mixed)
    keys = np.unique(mixed[:, 0] * count + labels[mixed[:, 1]])
    contacts = np.column_stack(np.divmod(keys, count))

    inner = pairs[alike & ~crossing[start]]
    degree = np.bincount(inner.ravel(), minlength=size)
    # An open line's pixels have two neighbours, but for its ends, which stay where they are.
    links = csr_array((np.full(len(inner), 0.25), (inner[:, 0], inner[:, 1])), shape=(size, size))
    between = (degree == 2).astype(np.float64)
    smoothing = diags_array(between) @ (links + links.T) + diags_array(1 - between / 2)
    points = lines.coordinates()
    for _ in range(_SMOOTHING_ROUNDS):
        points = smoothing @ points
    return _Graph(crossing, labels, count, points, inner, degree, contacts)


def _short_segments(graph: _Graph, distance: NDArray[np.floating]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pixels ``(n,)`` belong to spurs, and which to bridges.

    A spur touches one crossing only and is shorter than the vessel there is wide: thinning turns bumps of a vessel's
    edge into such branches, and tiny holes into such loops. Where all branches of a crossing are that short (a blob),
    they stay. A bridge joins two crossings and is shorter than half the widths there together: thinning draws two
    vessels that cross as two crossings and a bridge.
    """
    pixel, crossing = graph.contacts[:, 0], graph.contacts[:, 1]
    segment = graph.labels[pixel]
    reach = graph.lengths + np.bincount(segment, weights=graph.contact_lengths, minlength=graph.count)
    radius = graph.largest(np.where(graph.crossing, distance, 0.0))
    first, last = np.full(graph.count, graph.count), np.full(graph.count, -1)
    np.minimum.at(first, segment, crossing)
    np.maximum.at(last, segment, crossing)
    touching = last >= 0
    span = np.where(touching, radius[last] + radius[np.minimum(first, graph.count - 1)], 0.0)
    short = touching & (reach < span)

    spur = short & (first == last)
    lasting = np.bincount(crossing[~spur[segment]], minlength=graph.count) > 0
    spur &= lasting[last]
    bridge = short & (first != last)
    return spur[graph.labels], bridge[graph.labels]


def _local_widths(lines: PixelSet, distance: NDArray[np.float32]) -> NDArray[np.float64]:
    """Width of the vessel at each pixel of its centre line ``(n,)``, from the distance transform, flattened."""
    center = distance[lines.pixels].astype(np.float64)
    half = lines.offsets[:4]
    slopes = [np.abs(distance[lines.pixels + offset] - distance[lines.pixels - offset]) for offset in half]
    widths: NDArray[np.float64] = 2 * center - 1 + np.max(slopes, axis=0)
    return widths


def trace_vessels(vessel: NDArray[np.bool_]) -> VesselTrace:
    """Trace the centre lines of a vessel mask and measure each segment.

    1. The mask is thinned (`common.biomarkers.skeletonize`).
    2. Pixels with three or more neighbours are crossings; neighbouring ones are one crossing. What is left of the
       lines are the segments.
    3. Segments that touch a single crossing and are shorter than the vessel is wide there (the distance transform at
       the crossing, doubled) are spurs: they are removed, and the lines are thinned again, up to three times. Segments
       between two crossings that are shorter than half the widths at both together become part of one crossing.
    4. The course of each segment is smoothed with a Gaussian of 2 pixels, its ends held, and its length is the sum of
       the steps between the smoothed pixels. Counting steps of 1 and of the square root of 2 instead would make a
       straight vessel up to 8 % longer, depending on its angle.
    5. The width is ``2 d - 1 + |d1 - d2|``: d is the distance from the centre-line pixel to the nearest pixel outside
       the vessel, d1 and d2 those of its two neighbours across the vessel. ``2 d - 1`` alone is one pixel too small
       for vessels an even number of pixels wide, whose middle lies between two pixels; the third term finds it. Exact
       for bars along the grid; for turned ones a quarter to half a pixel too small on average, since the nearest
       pixel outside is that which reaches farthest in.
       Pixels nearer to a branching point than half the vessel's width there give no width.

    Args:
        vessel: ``(H, W)`` of bool.

    Returns:
        The segments and their measures, in pixels. Nothing, and a length of 0, for an empty mask.

    Raises:
        ValueError: the mask is not a two-dimensional array of bool.

    References:
        Guo and Hall, "Parallel thinning with two-subiteration algorithms", Communications of the ACM 32, 1989.
    """
    _check_mask("vessel", vessel)
    if not vessel.any():
        nothing = np.zeros(0)
        return VesselTrace(nothing, nothing, nothing, nothing, 0.0, 0)
    padded = np.pad(vessel[bounding_box(vessel)], 1)
    picture = padded.view(np.uint8)
    distance = np.asarray(cv2.distanceTransform(picture, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32).ravel()
    # The squares are whole numbers; OpenCV's last digit is not the same in every call.
    inside = padded.ravel()
    distance[inside] = np.sqrt(np.rint(np.square(distance[inside])))
    lines = PixelSet.from_mask(padded)
    lines.thin()
    graph = _build_graph(lines)
    spurs, bridges = _short_segments(graph, distance[lines.pixels])
    for _ in range(_PRUNING_ROUNDS):
        if not spurs.any():
            break
        lines.remove(spurs)
        lines.thin()
        graph = _build_graph(lines)
        spurs, bridges = _short_segments(graph, distance[lines.pixels])
    total_length = graph.total_length
    if bridges.any():
        graph = _build_graph(lines, bridges)
    return _measure(lines, graph, distance, total_length)


def _measure(lines: PixelSet, graph: _Graph, distance: NDArray[np.float32], total_length: float) -> VesselTrace:
    """Measure the segments of a graph; the total length is that from before crossings were joined."""
    pixel, crossing = graph.contacts[:, 0], graph.contacts[:, 1]
    lengths = graph.lengths
    touching = np.bincount(crossing, minlength=graph.count)
    branching = touching >= 3

    # A segment has two ends that are pixels of its own, or it is a single pixel that touches what lies around it.
    counted = (lengths > 0) | (np.bincount(graph.labels[pixel], minlength=graph.count) > 0)
    ends = np.flatnonzero(graph.degree == 1)
    pairs = ends[np.argsort(graph.labels[ends], kind="stable")].reshape(-1, 2)
    meets = np.full(graph.labels.size, -1)
    meets[pixel] = crossing
    returns = (meets[pairs[:, 0]] == meets[pairs[:, 1]]) & (meets[pairs[:, 0]] >= 0)
    open_ends = pairs[~returns]
    chords = np.full(graph.count, np.nan)
    chords[graph.labels[open_ends[:, 0]]] = np.linalg.norm(
        graph.points[open_ends[:, 0]] - graph.points[open_ends[:, 1]], axis=1
    )

    widths = _local_widths(lines, distance)
    pixels_of = np.maximum(np.bincount(graph.labels, minlength=graph.count), 1)
    mean_widths = np.bincount(graph.labels, weights=widths, minlength=graph.count) / pixels_of
    clear = counted[graph.labels] & ~graph.crossing
    if branching.any():
        radius = graph.largest(distance[lines.pixels].astype(np.float64))[branching]
        away, nearest = cKDTree(graph.centers[branching]).query(graph.points)
        clear &= away > radius[nearest]
    return VesselTrace(
        lengths=lengths[counted],
        chords=chords[counted],
        mean_widths=mean_widths[counted],
        widths=widths[clear],
        total_length=total_length,
        branching_points=int(branching.sum()),
    )


def vessel_density(vessel: NDArray[np.bool_], field_of_view: NDArray[np.bool_]) -> float:
    """Share of the field of view that vessels cover: ``|vessel and field of view| / |field of view|``.

    Args:
        vessel: ``(H, W)`` of bool.
        field_of_view: ``(H, W)`` of bool.

    Returns:
        From 0 to 1, without unit.

    Raises:
        ValueError: a mask is not a two-dimensional array of bool, the shapes differ, or the field of view is empty.
    """
    area = _field_of_view_area(vessel, field_of_view)
    return float(np.count_nonzero(vessel & field_of_view) / area)


def fractal_dimensions(pattern: NDArray[np.bool_]) -> FractalDimensions:
    """Generalised (Rényi) dimensions of a pattern, by box counting.

    The square around the pattern, of side L, is divided into k × k boxes, and p_i is the share of the pattern's pixels
    in box i. With the Rényi entropies ``H0 = ln(number of boxes with p > 0)``, ``H1 = -sum p ln p`` and
    ``H2 = -ln sum p^2``, the dimension ``D_q`` is the slope of ``H_q`` against ``ln k``, by least squares.

    Scales: k from 4 to 64 in steps of about the square root of two, so boxes from L / 4 to L / 64, and no smaller than
    4 pixels. Larger boxes are all full; smaller ones, in a photo whose field of view is L, come near the width of the
    vessels, where every pattern looks two-dimensional. The entropies are the smallest over the four grids that start
    at the four corners of the pattern's bounding box (the fewest boxes that cover it): turning or mirroring the pattern
    changes nothing. Patterns that span fewer than 256 pixels have no room for the finest scales, and their values are
    not to be compared with those of larger ones.

    Args:
        pattern: ``(H, W)`` of bool.

    Returns:
        D0, D1 and D2, without unit; NaN when the pattern's longer side is below 44 pixels (fewer than 4 scales).

    Raises:
        ValueError: the pattern is not a two-dimensional array of bool.

    References:
        Hentschel and Procaccia, "The infinite number of generalized dimensions of fractals and strange attractors",
        Physica D 8, 1983. Grassberger, "Generalized dimensions of strange attractors", Physics Letters A 97, 1983.
    """
    _check_mask("pattern", pattern)
    crop = np.ascontiguousarray(pattern[bounding_box(pattern)])
    side = max(crop.shape)
    divisions = [k for k in _BOXES_PER_SIDE if _MIN_BOX_SIDE * k <= side]
    if len(divisions) < _MIN_SCALES:
        return FractalDimensions(float("nan"), float("nan"), float("nan"))
    sums = np.asarray(cv2.integral(crop.view(np.uint8)), np.int32)
    entropies = np.array([_entropies(sums, side, k) for k in divisions])
    slopes = np.polyfit(np.log(divisions), entropies, 1)[0]
    return FractalDimensions(*(float(slope) for slope in slopes))


def _entropies(sums: NDArray[np.int32], side: int, divisions: int) -> NDArray[np.float64]:
    """H0, H1 and H2 at one scale, the smallest over the four grids; ``sums`` is the integral image of the pattern."""
    edges = np.rint(np.linspace(0, side, divisions + 1)).astype(np.intp)
    per_axis = [(np.minimum(edges, n - 1), np.maximum(n - 1 - edges[::-1], 0)) for n in sums.shape]
    entropies = []
    for rows in per_axis[0]:
        for columns in per_axis[1]:
            counts = np.diff(np.diff(sums[np.ix_(rows, columns)], axis=0), axis=1)
            share = counts[counts > 0] / sums[-1, -1]
            entropies.append((np.log(share.size), -(share * np.log(share)).sum(), -np.log((share**2).sum())))
    smallest: NDArray[np.float64] = np.min(entropies, axis=0)
    return smallest


def vessel_biomarkers(
    vessel: NDArray[np.bool_], field_of_view: NDArray[np.bool_], *, pixel_size: float | None = None
) -> Biomarkers:
    """Compute every biomarker of a vessel mask, inside the field of view.

    Columns, all as floats:

    - ``vessel_density``: vessel area over area of the field of view.
    - ``vessel_length_px``: length of all centre lines. ``vessel_length_density_per_px``: that over the area of the
    field
      of view, in pixels per square pixel; in millimetres per square millimetre it is ``..._per_mm``, the unit in which
      the field gives it.
    - ``vessel_fractal_d0``, ``_d1``, ``_d2``: see `fractal_dimensions`.
    - ``vessel_tortuosity_median``, ``_weighted_mean``: arc over chord, see `VesselTrace.tortuosity`.
    - ``vessel_calibre_mean_px``, ``_std_px``, ``_median_px``, ``_p05_px``, ``_p95_px``: see `VesselTrace.calibre`.
    - ``vessel_branching_points``, ``vessel_segments``: counts.
    - with ``pixel_size`` also ``vessel_length_um``, ``vessel_length_density_per_mm`` and ``vessel_calibre_..._um``.

    Args:
        vessel: ``(H, W)`` of bool. What lies outside the field of view is ignored.
        field_of_view: ``(H, W)`` of bool.
        pixel_size: side of a pixel in micrometres, when it is known.

    Returns:
        Values and notes. All values are NaN, with the note ``no vessel found``, for an empty mask; all that comes from
        the centre lines is NaN for a mask of blobs, whose skeletons are single points.

    Raises:
        ValueError: a mask is not a two-dimensional array of bool, the shapes differ, the field of view is empty, or
            ``pixel_size`` is not a positive number.
    """
    area = _field_of_view_area(vessel, field_of_view)
    if pixel_size is not None and not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ValueError(f"pixel_size is {pixel_size}; give the side of a pixel in micrometres, or None if unknown.")
    inside = vessel & field_of_view
    values = dict.fromkeys(_PLAIN_COLUMNS, float("nan"))
    if not inside.any():
        nothing = dict.fromkeys(_CALIBRE_STATISTICS, float("nan"))
        return Biomarkers(values | _lengths(float("nan"), area, nothing, pixel_size), ("no vessel found",))

    trace = trace_vessels(inside)
    fractal = fractal_dimensions(inside)
    median, weighted_mean = trace.tortuosity()
    calibre = trace.calibre()
    traced = trace.segments > 0
    computed = (
        vessel_density(vessel, field_of_view),
        *fractal,
        median,
        weighted_mean,
        float(trace.branching_points) if traced else float("nan"),
        float(trace.segments) if traced else float("nan"),
    )
    values = dict(zip(_PLAIN_COLUMNS, computed, strict=True))
    length = trace.total_length if traced else float("nan")
    notes = []
    if np.isnan(fractal.d0):
        notes.append("fractal dimension: the vessels span too few pixels")
    if not traced:
        notes.append("no vessel segment found, only blobs")
    elif np.isnan(median):
        notes.append("tortuosity: no vessel segment is long enough")
    if traced and np.isnan(calibre["mean"]):
        notes.append("calibre: no vessel segment outside branchings")
    return Biomarkers(values | _lengths(length, area, calibre, pixel_size), tuple(notes))


def _lengths(length: float, area: int, calibre: dict[str, float], pixel_size: float | None) -> dict[str, float]:
    """The columns that have a unit, in pixels and, where the size of a pixel is known, in micrometres."""
    values = {"vessel_length_px": length, "vessel_length_density_per_px": length / area}
    values |= {f"vessel_calibre_{name}_px": width for name, width in calibre.items()}
    if pixel_size is not None:
        values["vessel_length_um"] = length * pixel_size
        values["vessel_length_density_per_mm"] = 1000 * length / (area * pixel_size)
        values |= {f"vessel_calibre_{name}_um": width * pixel_size for name, width in calibre.items()}
    return values


def _check_mask(name: str, mask: NDArray[np.bool_]) -> None:
    """Refuse what is not a mask."""
    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"{name} must be an array (H, W) of bool, not {mask.shape} of {mask.dtype}.")


def _field_of_view_area(vessel: NDArray[np.bool_], field_of_view: NDArray[np.bool_]) -> int:
    """Check both masks and give the area of the field of view in pixels."""
    _check_mask("vessel", vessel)
    _check_mask("field_of_view", field_of_view)
    if vessel.shape != field_of_view.shape:
        raise ValueError(
            f"vessel is {vessel.shape} and field_of_view is {field_of_view.shape}; give both masks the same shape."
        )
    area = int(np.count_nonzero(field_of_view))
    if not area:
        raise ValueError("field_of_view is empty; give a mask that is true inside the camera's circle.")
    return area
