"""Synthetic OCT B-scans of the macula with exact layers.

A phantom is built from the truth: the thickness of each layer along the scan gives the eight boundaries, the
boundaries the brightness of each pixel, and the scanner's blur, shadows of vessels and speckle are added at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from common.biomarkers.layers import boundaries_to_labels
from common.errors import SettingError
from common.pictures import encode_label_map, encode_picture

Floats = NDArray[np.floating]
Border = Literal["none", "white"]

_SMALLEST, _LARGEST = 96, 4096
_AXIAL_UM = 3.87
_DEPTH_UM = 1920.0
_WIDTH_UM = 6000.0
# NFL, GCL-IPL, INL, OPL, ONL-ISM, ISE, OS-RPE: micrometres outside the fovea, and the share that is left in its centre.
_THICKNESS_UM = (32.0, 70.0, 34.0, 30.0, 88.0, 28.0, 28.0)
_FOVEAL_SHARE = (0.0, 0.05, 0.1, 0.25, 1.35, 1.1, 1.05)
_BRIGHTNESS = (0.78, 0.50, 0.32, 0.48, 0.20, 0.80, 0.86)
_VITREOUS, _CHOROID, _ELM, _FLUID = 0.06, 0.34, 0.34, 0.07
_PIT_UM = 420.0
_ELM_DEPTH = 0.78
_OS_SHARE = 0.5
_ROWS_AROUND = 8


@dataclass(frozen=True)
class OctPhantom:
    """A synthetic B-scan and its truth.

    Attributes:
        scan: ``(H, W)`` uint8.
        boundaries: ``(8, W)``, rows from 0 on, at parts of a pixel.
        labels: ``(H, W)`` uint8, by `common.biomarkers.layers.boundaries_to_labels`.
        fluid: ``(H, W)`` of bool, cysts inside the retina.
        border: ``(H, W)`` of bool, the white border.
        axial_um: micrometres per row.
        lateral_um: micrometres per column.
    """

    scan: NDArray[np.uint8]
    boundaries: Floats
    labels: NDArray[np.uint8]
    fluid: NDArray[np.bool_]
    border: NDArray[np.bool_]
    axial_um: float
    lateral_um: float


def _smooth(rng: Generator, length: int, waves: int, size: float) -> Floats:
    """A smooth random curve: a sum of a few sines, with a standard deviation of about ``size``."""
    x = np.linspace(0, 1, length)
    curve = np.zeros(length)
    for wave in range(1, waves + 1):
        curve += rng.normal() / wave * np.sin(2 * np.pi * (wave * x / 2 + rng.uniform()))
    return curve * size


def _thickness(rng: Generator, x_um: Floats, fovea_um: float, nasal: float) -> Floats:
    """Thickness ``(7, W)`` of the layers along the scan, in micrometres."""
    pit = np.exp(-(((x_um - fovea_um) / (_PIT_UM * rng.uniform(0.8, 1.2))) ** 2))
    layers = []
    for layer, (outside, share) in enumerate(zip(_THICKNESS_UM, _FOVEAL_SHARE, strict=True)):
        usual = outside * rng.uniform(0.8, 1.2) * (1 + _smooth(rng, len(x_um), 3, 0.08))
        if layer == 0:  # nerve fibres gather towards the optic disc
            usual = usual * np.clip(1 + nasal * (x_um - fovea_um) / _WIDTH_UM * 1.4, 0.35, None)
        layers.append(np.clip(usual * (1 - pit * (1 - share)), 0, None))
    return np.array(layers)


def _cysts(
    rng: Generator, count: int, x_um: Floats, fovea_um: float, thickness: Floats
) -> list[tuple[float, float, float]]:
    """Place cysts in the outer nuclear layer, which swells around them; centre, half width, half height in um."""
    found = []
    for _ in range(count):
        center = fovea_um + rng.uniform(-1200, 1200)
        wide, high = rng.uniform(100, 320), rng.uniform(35, 110)
        thickness[4] += 1.9 * high * np.exp(-(((x_um - center) / (1.3 * wide)) ** 2))
        found.append((center, wide, high))
    return found


def _brightness(rng: Generator, boundaries: Floats, height: int, fluid: NDArray[np.bool_]) -> Floats:
    """Mean brightness of each pixel before shadows and speckle, ``(H, W)`` from 0 to about 1."""
    rows = np.arange(height)[:, None] + 0.5
    values = np.full((height, boundaries.shape[1]), _VITREOUS * rng.uniform(0.6, 1.4))
    for layer, usual in enumerate(_BRIGHTNESS):
        # Coverage of each pixel by the layer: its edges are not on whole rows.
        covered = np.clip(rows + 0.5 - boundaries[layer], 0, 1) - np.clip(rows + 0.5 - boundaries[layer + 1], 0, 1)
        values += covered * (usual * rng.uniform(0.88, 1.12) - values)
    # The outer segments are a darker line between the two bright bands.
    segments = boundaries[6] + _OS_SHARE / 2 * (boundaries[7] - boundaries[6])
    half = np.maximum(_OS_SHARE / 2 * (boundaries[7] - boundaries[6]), 1e-6)
    values -= np.clip(1 - np.abs(rows - segments) / half, 0, 1) * 0.4
    membrane = boundaries[4] + _ELM_DEPTH * (boundaries[5] - boundaries[4])
    values += np.clip(1 - np.abs(rows - membrane) / 1.2, 0, 1) * (_ELM - _BRIGHTNESS[4])
    below = np.clip(rows - boundaries[-1], 0, None)
    choroid = _CHOROID * rng.uniform(0.75, 1.2) * np.exp(-below / (0.11 * height * rng.uniform(0.7, 1.3)))
    texture = cv2.GaussianBlur(rng.normal(size=values.shape), (0, 0), sigmaX=9, sigmaY=4)
    choroid *= np.clip(1 + 5 * texture, 0.3, 1.8)
    values = np.where(below > 0, np.maximum(choroid, _VITREOUS), values)
    values[fluid] = _FLUID
    return values


def _shadows(rng: Generator, count: int, boundaries: Floats, height: int) -> Floats:
    """Share of the light that is left under the vessels, ``(H, W)``."""
    width = boundaries.shape[1]
    columns, rows = np.arange(width), np.arange(height)[:, None]
    left = np.ones((height, width))
    for _ in range(count):
        center, half = rng.uniform(0, width), rng.uniform(0.003, 0.008) * width
        depth = rng.uniform(0.3, 0.6) * np.exp(-(((columns - center) / half) ** 4))
        left *= np.where(rows > boundaries[1], 1 - depth, 1)
    return left


def _check(height: int, width: int, cysts: int, shadows: int, border: str) -> None:
    for name, side in (("height", height), ("width", width)):
        if not _SMALLEST <= side <= _LARGEST:
            raise SettingError(f"'{name}' is {side}; give {_SMALLEST} to {_LARGEST} pixels.")
    for name, count in (("cysts", cysts), ("shadows", shadows)):
        if count < 0:
            raise SettingError(f"'{name}' is {count}; give 0 or more.")
    if border not in ("none", "white"):
        raise SettingError(f"'border' is {border!r}; choose from none and white.")


def oct_phantom(
    height: int = 496,
    width: int = 768,
    *,
    seed: int = 0,
    cysts: int = 0,
    shadows: int = 4,
    tilt_deg: float | None = None,
    noise: float = 0.28,
    border: Border = "none",
) -> OctPhantom:
    """Draw a B-scan through the fovea.

    The scan is 6 mm wide. A row is 3.87 micrometres, or less where the height needs it: no picture is deeper than
    1.92 mm. The fovea lies near the middle, with a pit in which the inner layers thin out, NFL to nothing.

    Args:
        height: rows.
        width: columns.
        seed: of everything that is random.
        cysts: number of dark cysts in the swollen outer nuclear layer.
        shadows: number of vessels that throw a shadow.
        tilt_deg: slope of the retina; drawn from -6 to 6 degrees when None.
        noise: standard deviation of the speckle, relative to the brightness.
        border: ``white``: a white corner and a white strip at the left, as scanners add them to a moved picture.

    Returns:
        The phantom.

    Raises:
        SettingError: a setting is out of its range.
    """
    _check(height, width, cysts, shadows, border)
    rng = default_rng((seed, 715))
    axial, lateral = min(_AXIAL_UM, _DEPTH_UM / height), _WIDTH_UM / width
    x_um = (np.arange(width) + 0.5) * lateral
    fovea = _WIDTH_UM * rng.uniform(0.42, 0.58)
    thickness = _thickness(rng, x_um, fovea, rng.choice([-1, 1]))
    placed = _cysts(rng, cysts, x_um, fovea, thickness)
    slope = np.tan(np.deg2rad(rng.uniform(-6, 6) if tilt_deg is None else tilt_deg))
    curve = rng.uniform(0, 90) * ((x_um - _WIDTH_UM / 2) / (_WIDTH_UM / 2)) ** 2 + _smooth(rng, width, 4, 9)
    lowest = (x_um - _WIDTH_UM / 2) * slope - curve
    # The retina is put where it fits: with its middle somewhat above that of the picture.
    top = lowest - thickness.sum(axis=0)
    room = height * axial - (lowest.max() - top.min())
    shift = max(room, 0) * rng.uniform(0.3, 0.5) - top.min()
    below_top = np.vstack([np.zeros(width), np.cumsum(thickness, axis=0)])
    boundaries = np.clip((top + shift + below_top) / axial, 0, height)

    fluid = np.zeros((height, width), dtype=bool)
    rows = np.arange(height)[:, None] + 0.5
    for center, wide, high in placed:
        inside = 1 - ((x_um - center) / wide) ** 2
        half = high / axial * np.sqrt(np.clip(inside, 0, None))
        middle = boundaries[4] + 0.45 * (boundaries[5] - boundaries[4])
        fluid |= (np.abs(rows - middle) < half) & (rows > boundaries[4] + 1) & (rows < boundaries[5] - 2)

    light = _brightness(rng, boundaries, height, fluid) * _shadows(rng, shadows, boundaries, height)
    light = np.asarray(cv2.GaussianBlur(light, (0, 0), sigmaX=0.8, sigmaY=0.7))
    if noise > 0:
        # Speckle is finer in depth than along the scan.
        speckle = cv2.GaussianBlur(rng.standard_gamma(1.2, size=light.shape) / 1.2, (0, 0), sigmaX=1.0, sigmaY=0.6)
        light = light * np.clip(1 + (speckle - 1) * noise / speckle.std(), 0, None) + rng.normal(0, 0.02, light.shape)
    scan = np.rint(np.clip(light * rng.uniform(0.85, 1.1), 0, 1) * 240).astype(np.uint8)
    white = _border(rng, height, width, boundaries) if border == "white" else np.zeros((height, width), dtype=bool)
    scan[white] = 255
    return OctPhantom(scan, boundaries, boundaries_to_labels(boundaries, height), fluid, white, axial, lateral)


def _border(rng: Generator, height: int, width: int, boundaries: Floats) -> NDArray[np.bool_]:
    """A white corner above the retina and a white strip of columns."""
    rows, columns = np.arange(height)[:, None], np.arange(width)
    free = max(0.0, float(boundaries[0].min()) - _ROWS_AROUND)
    corner = rows < free * (1 - columns / (0.8 * width))
    return corner | (columns < round(width * rng.uniform(0.04, 0.08)))


def write_oct_phantoms(
    folder: str | Path,
    count: int = 8,
    *,
    seed: int = 0,
    sizes: Sequence[tuple[int, int]] = ((496, 768), (496, 512), (512, 1024)),
    borders: Sequence[Border] = ("none", "white"),
    suffixes: Sequence[str] = (".png", ".tif"),
) -> Path:
    """Write a small data set of phantoms.

    B-scans are ``image/phantom_000.png`` or ``.tif``, label maps (0 background, 1 to 7 the layers) are
    ``labels/NAME.png``. B-scan number i is drawn with ``seed + i``; its size, border and format are the i-th of the
    given ones, which are used in turn. Every second one has one to three cysts.

    Args:
        folder: where to write; made if it is not there.
        count: number of B-scans.
        seed: seed of the first.
        sizes: heights and widths in pixels.
        borders: kinds of border.
        suffixes: formats, ``.png`` or ``.tif``.

    Returns:
        The folder.

    Raises:
        SettingError: a setting is out of its range.
    """
    if count < 1:
        raise SettingError(f"'count' is {count}; give the number of phantoms to write, at least 1.")
    for name, choices in (("sizes", sizes), ("borders", borders), ("suffixes", suffixes)):
        if not choices:
            raise SettingError(f"'{name}' is empty; give at least one value, or leave it out.")
    for suffix in suffixes:
        if suffix not in (".png", ".tif"):
            raise SettingError(f"'suffixes' has '{suffix}'; choose from .png and .tif.")
    root = Path(folder)
    for name in ("image", "labels"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        height, width = sizes[index % len(sizes)]
        cysts = int(default_rng((seed + index, 716)).integers(1, 4)) if index % 2 else 0
        phantom = oct_phantom(
            height,
            width,
            seed=seed + index,
            cysts=cysts,
            border=borders[(index + index // len(sizes)) % len(borders)],
        )
        name = f"phantom_{index:03d}"
        suffix = suffixes[index % len(suffixes)]
        (root / "image" / f"{name}{suffix}").write_bytes(encode_picture(phantom.scan, suffix))
        (root / "labels" / f"{name}.png").write_bytes(encode_label_map(phantom.labels))
    return root
