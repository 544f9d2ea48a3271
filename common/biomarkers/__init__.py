"""Measurements on masks: pure NumPy functions without torch, files or settings."""

from common.biomarkers._base import Biomarkers
from common.biomarkers.disc_cup import (
    CupToDiscRatios,
    EllipseShape,
    RimProfile,
    cup_to_disc_ratios,
    ddls_stage,
    disc_cup_biomarkers,
    ellipse_shape,
    eye_from_name,
    eye_from_position,
    isnt_rule,
    rim_profile,
)
from common.biomarkers.layers import (
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
from common.biomarkers.lesions import lesion_areas, lesion_biomarkers, nearest_distance
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
    "BOUNDARIES",
    "LAYERS",
    "Biomarkers",
    "CupToDiscRatios",
    "EllipseShape",
    "FractalDimensions",
    "RimProfile",
    "VesselTrace",
    "boundaries_to_labels",
    "cup_to_disc_ratios",
    "ddls_stage",
    "disc_cup_biomarkers",
    "ellipse_shape",
    "eye_from_name",
    "eye_from_position",
    "fractal_dimensions",
    "hide_cut_boundaries",
    "isnt_rule",
    "labels_to_boundaries",
    "layer_biomarkers",
    "layer_thickness",
    "lesion_areas",
    "lesion_biomarkers",
    "nearest_distance",
    "order_violations",
    "ordered_boundaries",
    "rim_profile",
    "skeletonize",
    "trace_vessels",
    "vessel_biomarkers",
    "vessel_density",
]
