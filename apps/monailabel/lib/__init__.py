"""The parts of the MONAI Label app: what it stores, infers, trains and asks for next."""

from common.torchvision_compat import ensure_torchvision

# MONAI Label imports torchvision, so this comes before every other import of the app.
ensure_torchvision()
