"""Retinal layers on OCT B-scans: label maps, boundaries, and their order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from common.biomarkers._base import Biomarkers

LAYERS: tuple[str, ...] = ("NFL", "GCL-IPL", "INL", "OPL", "ONL-ISM", "ISE", "OS-RPE")
"""The seven layers, from the vitreous to the choroid; layer ``i`` has the label ``i + 1``, 0 is background."""

BOUNDARIES: tuple[str, ...] = ("ILM", "NFL/GCL", "IPL/INL", "INL/OPL", "OPL/ONL", "ISM/ISE", "OS/RPE", "BM")
"""The eight boundaries; layer ``i`` lies between boundary ``i`` and boundary ``i + 1``."""

_LEAST = 1e-6
_LEAST_THICKNESS = 0.5
_ROWS_APART = 8
_CUT_ABOVE, _CUT_BELOW = 1.0, 3.0
_CENTRAL_UM = 1000.0

UNANNOTATED = 255
"""The label of a pixel of which it is not known to which layer it belongs."""


def boundaries_to_labels(boundaries: NDArray[np.floating], height: int) -> NDArray[np.uint8]:
    """Turn boundaries into a label map.

    The rule: the pixel row on which a boundary lies is the first row of the layer below it. So layer ``i`` has the rows
    ``boundary[i] <= row < boundary[i + 1]`` (boundaries rounded to whole rows), its thickness in pixels is the
    difference of the two, and the row of the last boundary (BM) is background.

    A column in which only some boundaries are known is labelled between neighbours that are; what lies between known
    boundaries with unknown ones between them is `UNANNOTATED`, and so is a whole column without any.

    Args:
        boundaries: ``(8, W)``, rows from 0 on, NaN where unknown. Where they cross, a boundary counts as no higher
            than those above it.
        height: rows of the label map.

    Returns:
        ``(height, W)`` uint8: 0 background, 1 to 7 the layers of `LAYERS`, `UNANNOTATED`.

    Raises:
        ValueError: there are not eight boundaries.
    """
    count = len(BOUNDARIES)
    if boundaries.ndim != 2 or boundaries.shape[0] != count:
        raise ValueError(f"boundaries has the shape {boundaries.shape}; give ({count}, W).")
    known = ~np.isnan(boundaries)
    ordered = np.maximum.accumulate(np.where(known, np.rint(boundaries), -np.inf), axis=0)
    # How many boundaries lie at a row or above it says between which two it lies.
    first_rows = np.clip(ordered, -1, height).astype(np.int32)
    above = np.zeros((height, boundaries.shape[1]), dtype=np.uint8)
    rows = np.arange(height, dtype=np.int32)[:, None]
    for first in first_rows:
        above += rows >= first
    between = known[:-1] & known[1:]
    meaning = np.full((count + 1, boundaries.shape[1]), UNANNOTATED, dtype=np.uint8)
    meaning[1:-1] = np.where(between, np.arange(1, count)[:, None], UNANNOTATED)
    meaning[0, known[0]] = meaning[-1, known[-1]] = 0
    return np.take_along_axis(meaning, above.astype(np.intp), axis=0)


def labels_to_boundaries(labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Give the boundaries of a label map whose layers are in order, by the rule of `boundaries_to_labels`.

    Args:
        labels: ``(H, W)``, as `boundaries_to_labels` gives it.

    Returns:
        ``(8, W)``; NaN in columns without retina and in those with a pixel that is `UNANNOTATED`.
    """
    values = np.asarray(labels)
    count = len(LAYERS)
    thickness = np.stack([(values == layer + 1).sum(axis=0) for layer in range(count)])
    retina = (values >= 1) & (values <= count)
    top = np.argmax(retina, axis=0)
    boundaries = np.vstack([top, top + np.cumsum(thickness, axis=0)]).astype(np.float64)
    boundaries[:, ~retina.any(axis=0) | (values == UNANNOTATED).any(axis=0)] = np.nan
    return boundaries


def ordered_boundaries(
    probabilities: NDArray[np.floating], certainty: float = 0.5, smoothing: float = 0.0
) -> NDArray[np.float64]:
    """Find the eight boundaries that are in order in every column, from class probabilities.

    Down a column the state goes from vitreous through the seven layers to what is below the retina; it may skip layers
    (a layer of zero thickness) and never goes back. With each pixel's class probability as the likelihood of its state,
    the forward-backward algorithm for such a left-to-right model (Rabiner, "A tutorial on hidden Markov models",
    Proceedings of the IEEE 77(2), 1989) gives the probability ``P(state of row r lies above boundary k)``, exactly
    over all orders that are allowed. The sum of it over the rows is the expected position of boundary ``k``. It is as
    fine as a part of a pixel and cannot cross another: a state above boundary ``k`` is above ``k + 1`` too.

    Neighbouring pixels of a network err together, so that their joint likelihood is not the product that the model
    takes; ``certainty`` is the power to which the probabilities are raised to make up for it.

    Args:
        probabilities: ``(8, H, W)``, of background and the seven layers, from 0 to 1.
        certainty: above 0; 1 takes pixels as independent, less spreads the boundaries' probability.
        smoothing: standard deviation, in columns, of a Gaussian along which the log-probabilities are averaged first.

    Returns:
        ``(8, W)``, rows from 0 on as in `boundaries_to_labels`; NaN in columns in which no layer reaches half a row.

    Raises:
        ValueError: there are not eight classes, or ``certainty`` is not above 0.
    """
    classes = len(LAYERS) + 1
    if probabilities.ndim != 3 or probabilities.shape[0] != classes:
        raise ValueError(f"probabilities has the shape {probabilities.shape}; give ({classes}, H, W).")
    if certainty <= 0:
        raise ValueError(f"certainty is {certainty}; give a number above 0.")
    likelihood = _likelihood(probabilities, certainty, smoothing)
    height, states, width = likelihood.shape
    # Between two normalisations nothing falls by more than _LEAST to the power of this times the certainty.
    apart = max(1, int(_ROWS_APART / certainty))
    forward = np.empty_like(likelihood)
    forward[0] = likelihood[0]
    for row in range(1, height):
        current = forward[row]
        _running_sum(forward[row - 1], current, range(states))
        if row % apart == 0:
            current /= current[-1]  # the last one is the sum of all
        current *= likelihood[row]
    backward, posterior = np.ones((states, width)), np.empty((states, width))
    total = np.zeros((states, width))
    for row in range(height - 1, -1, -1):
        np.multiply(forward[row], backward, out=posterior)
        posterior /= posterior.sum(axis=0)
        total += posterior
        backward *= likelihood[row]
        _running_sum(backward, backward, range(states - 1, -1, -1))
        if row % apart == 0:
            backward /= backward[0].copy()
    boundaries = np.cumsum(total, axis=0)[:-1]
    without = np.max(np.diff(boundaries, axis=0), axis=0) < _LEAST_THICKNESS
    boundaries[:, without] = np.nan
    return boundaries


def _likelihood(probabilities: NDArray[np.floating], certainty: float, smoothing: float) -> NDArray[np.float64]:
    """Likelihood ``(H, 9, W)`` of the states: above, the seven layers, below; the first and the last are background."""
    classes, height, width = probabilities.shape
    likelihood = np.empty((height, classes + 1, width))
    for state, values in enumerate(probabilities):
        np.maximum(values, _LEAST, out=likelihood[:, state])
    known = likelihood[:, :classes]
    if smoothing > 0:
        np.log(known, out=known)
        gaussian_filter1d(known, smoothing, axis=2, mode="nearest", output=known)
        np.exp(known, out=known)
    if certainty != 1:
        np.power(known, certainty, out=known)
    likelihood[:, classes] = likelihood[:, 0]
    return likelihood


def _running_sum(values: NDArray[np.float64], out: NDArray[np.float64], order: Sequence[int]) -> None:
    """Sum up over the states in an order, into another array or the same; faster than NumPy along a first axis."""
    out[order[0]] = values[order[0]]
    for before, state in itertools.pairwise(order):
        np.add(out[before], values[state], out=out[state])


def hide_cut_boundaries(
    boundaries: NDArray[np.floating], height: int, border: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Mark as unknown the boundaries that lie on the edge of the picture, or on that of a white border.

    Where the retina runs out of the picture, the boundaries that are outside of it are found on its edge, and what is
    between them and the next one looks thinner than it is.

    Args:
        boundaries: ``(8, W)``, NaN in columns without.
        height: rows of the picture.
        border: ``(height, W)``, parts of the picture that show nothing; None for none.

    Returns:
        ``(8, W)``: NaN in place of boundaries that lie less than a row from the upper edge or three from the lower one
        (a network sees the cut layer's lower end there), or that near to a border above or below the retina.
    """
    first, last = np.zeros(boundaries.shape[1]), np.full(boundaries.shape[1], float(height))
    if border is not None and border.any():
        found = ~np.isnan(boundaries).any(axis=0)
        middle = np.clip(np.where(found, boundaries[[0, -1]].mean(axis=0), 0).astype(int), 0, height - 1)
        rows = np.arange(height)[:, None]
        above, below = border & (rows <= middle), border & (rows > middle)
        first = np.where(above.any(axis=0), height - np.argmax(above[::-1], axis=0), first)
        last = np.where(below.any(axis=0), np.argmax(below, axis=0), last)
    with np.errstate(invalid="ignore"):
        inside = (boundaries >= first + _CUT_ABOVE) & (boundaries <= last - _CUT_BELOW)
    return np.where(inside, boundaries, np.nan)


def order_violations(labels: NDArray[np.integer]) -> int:
    """Count the columns in which a label map is not in order: a layer under one that lies below it, or a gap.

    Args:
        labels: ``(H, W)``, 0 to 7, as `boundaries_to_labels` gives it.

    Returns:
        The number of columns in which, from the first row of retina to the last, the labels go back or are 0.
    """
    values = np.asarray(labels).astype(np.int64)
    retina = values > 0
    seen = np.logical_or.accumulate(retina, axis=0) & np.logical_or.accumulate(retina[::-1], axis=0)[::-1]
    both = seen[1:] & seen[:-1]
    return int((both & (np.diff(values, axis=0) < 0)).any(axis=0).sum())


def layer_thickness(boundaries: NDArray[np.floating]) -> dict[str, NDArray[np.float64]]:
    """Thickness of each layer and of the retina along a B-scan: the difference of the boundaries around it.

    Args:
        boundaries: ``(8, W)``, NaN where there are none.

    Returns:
        Name to thickness ``(W,)`` in pixels, NaN where one of its boundaries is: the layers as in `LAYERS`, then
        ``retina`` (ILM to BM).
    """
    differences = np.diff(np.asarray(boundaries, dtype=np.float64), axis=0)
    found = {name: differences[layer] for layer, name in enumerate(LAYERS)}
    return {**found, "retina": differences.sum(axis=0)}


def column_name(layer: str) -> str:
    """Name of a layer in the columns of a table: ``GCL-IPL`` is ``gcl_ipl``."""
    return layer.lower().replace("-", "_")


def layer_biomarkers(
    boundaries: NDArray[np.floating], pixel_size: float | None = None, lateral_scale: float | None = None
) -> Biomarkers:
    """Measure the thickness of the layers and of the whole retina.

    Per layer and for the retina (ILM to BM): mean, median, smallest and largest thickness over the columns in which
    there are boundaries, and the mean over the central millimetre: the columns whose centre lies within 500 micrometres
    of the middle of the scan (the width of the central field of the ETDRS grid, Early Treatment Diabetic Retinopathy
    Study Research Group, Archives of Ophthalmology 103(12), 1985; it is the fovea's where the scan is centred on it).

    Args:
        boundaries: ``(8, W)``, NaN in columns without; a single one that is NaN is not in the picture
            (`hide_cut_boundaries`), and the layers that it bounds are not measured in that column, nor is the retina.
        pixel_size: micrometres per row, or None when it is not known; lengths are given in micrometres too when it is.
        lateral_scale: micrometres per column, or None when it is not known; the central millimetre needs it.

    Returns:
        Columns ``<layer>_thickness_<statistic>_px`` and ``_um``, and ``segmented_width_px``, the number of columns in
        which there is a retina. What cannot be computed is NaN, with a note.
    """
    width = boundaries.shape[1]
    known = ~np.isnan(boundaries)
    segmented = known.any(axis=0)
    offsets = np.abs(np.arange(width) + 0.5 - width / 2)
    central = None if lateral_scale is None else segmented & (offsets * lateral_scale <= _CENTRAL_UM / 2)
    values: dict[str, float] = {"segmented_width_px": int(segmented.sum())}
    for name, thickness in layer_thickness(boundaries).items():
        measured = ~np.isnan(thickness)
        inside = thickness[measured]
        found = {
            statistic: float(function(inside)) if inside.size else float("nan")
            for statistic, function in (("mean", np.mean), ("median", np.median), ("min", np.min), ("max", np.max))
        }
        if central is not None:
            middle = thickness[central & measured]
            found["central_mean"] = float(middle.mean()) if middle.size else float("nan")
        for statistic, pixels in found.items():
            column = f"{column_name(name)}_thickness_{statistic}"
            values[f"{column}_px"] = pixels
            if pixel_size is not None:
                values[f"{column}_um"] = pixels * pixel_size
    notes = []
    if not segmented.any():
        notes.append("no retina found")
    elif not segmented.all():
        notes.append(f"no retina in {int(width - segmented.sum())} of {width} columns")
    cut = int((segmented & ~known.all(axis=0)).sum())
    if cut:
        notes.append(f"retina cut off by the edge in {cut} of {width} columns")
    if segmented.any() and central is not None and np.isnan(values["retina_thickness_central_mean_px"]):
        notes.append("no whole retina in the central millimetre")
    return Biomarkers(values, tuple(notes))
