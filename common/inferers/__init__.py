"""Ways to apply a network, as MONAI inferers."""

from __future__ import annotations

from common.inferers.autocast import AutocastInferer
from common.inferers.coarse_to_fine import CoarseToFineInferer
from common.inferers.mirrored import MirroredInferer
from common.inferers.prompted import PromptInferer, SimulatedUser

__all__ = ["AutocastInferer", "CoarseToFineInferer", "MirroredInferer", "PromptInferer", "SimulatedUser"]
