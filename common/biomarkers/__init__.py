"""Measurements on masks: pure NumPy functions without torch, files or settings."""

from common.biomarkers._base import Biomarkers
from common.biomarkers.skeleton import skeletonize
from common.biomarkers.vessels import (
    FractalDimensions,
    VesselTrace,
    fractal_dimensions,
    trace_vessels,
    vessel_biomarkers,
    vessel_density,
)

__all__ = [
    "Biomarkers",
    "FractalDimensions",
    "VesselTrace",
    "fractal_dimensions",
    "skeletonize",
    "trace_vessels",
    "vessel_biomarkers",
    "vessel_density",
]
