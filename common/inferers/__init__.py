"""Ways to apply a network, as MONAI inferers."""

from __future__ import annotations

from common.inferers.autocast import AutocastInferer
from common.inferers.coarse_to_fine import CoarseToFineInferer
from common.inferers.mirrored import MirroredInferer
from common.inferers.prompted import CorrectingInferer, PromptInferer, SimulatedUser

__all__ = [
    "AutocastInferer",
    "CoarseToFineInferer",
    "CorrectingInferer",
    "MirroredInferer",
    "PromptInferer",
    "SimulatedUser",
]
