"""Synthetic retinal images whose truth is known exactly."""

from common.phantoms.fundus import FundusPhantom, fundus_phantom, write_fundus_phantoms
from common.phantoms.oct import OctPhantom, oct_phantom, write_oct_phantoms

__all__ = [
    "FundusPhantom",
    "OctPhantom",
    "fundus_phantom",
    "oct_phantom",
    "write_fundus_phantoms",
    "write_oct_phantoms",
]
