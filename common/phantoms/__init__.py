"""Synthetic retinal images whose truth is known exactly."""

from common.phantoms.fundus import FundusPhantom, fundus_phantom, write_fundus_phantoms

__all__ = ["FundusPhantom", "fundus_phantom", "write_fundus_phantoms"]
