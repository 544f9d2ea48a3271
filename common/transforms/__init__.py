"""Dictionary transforms for MONAI, with the NumPy functions or array transforms that they are built on."""

from common.transforms.biomarkers import VesselBiomarkersd
from common.transforms.disc_cup import (
    DiscCupBiomarkersd,
    DiscCupMasksd,
    LoadDiscCupd,
    MarkUnannotatedd,
    RandDiscViewsd,
    crop_square,
    disc_cup_masks,
    resize_square,
)
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
from common.transforms.prompts import PlacePromptsd, RandPromptsd

__all__ = [
    "DiscCupBiomarkersd",
    "DiscCupMasksd",
    "FieldOfView",
    "FieldOfViewd",
    "KeepInsided",
    "LabClahe",
    "LabClahed",
    "LoadDiscCupd",
    "LoadMaskd",
    "LoadPhotod",
    "MarkUnannotatedd",
    "PlacePromptsd",
    "RandDiscViewsd",
    "RandHued",
    "RandPromptsd",
    "ThresholdProbabilityd",
    "VesselBiomarkersd",
    "crop_square",
    "disc_cup_masks",
    "find_field_of_view",
    "lab_clahe",
    "resize_square",
    "turn_hue",
]
