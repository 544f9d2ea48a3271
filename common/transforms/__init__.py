"""Dictionary transforms for MONAI, with the NumPy functions or array transforms that they are built on."""

from common.transforms.biomarkers import VesselBiomarkersd
from common.transforms.field_of_view import FieldOfView, FieldOfViewd, KeepInsided, find_field_of_view
from common.transforms.photo import (
    LabClahe,
    LabClahed,
    LoadMaskd,
    LoadPhotod,
    RandHued,
    ThresholdProbabilityd,
    lab_clahe,
    turn_hue,
)

__all__ = [
    "FieldOfView",
    "FieldOfViewd",
    "KeepInsided",
    "LabClahe",
    "LabClahed",
    "LoadMaskd",
    "LoadPhotod",
    "RandHued",
    "ThresholdProbabilityd",
    "VesselBiomarkersd",
    "find_field_of_view",
    "lab_clahe",
    "turn_hue",
]
