"""What annotation tools need of a bundle: inference on one image at a time, and fine-tuning on corrected label maps.

Nothing here imports MONAI Label; the app in ``apps/monailabel`` builds on it.
"""

from common.label.inference import BundlePredictor, Classification, Prediction
from common.label.labels import entropy, label_map, label_values, remap
from common.label.training import Annotation, fine_tune

__all__ = [
    "Annotation",
    "BundlePredictor",
    "Classification",
    "Prediction",
    "entropy",
    "fine_tune",
    "label_map",
    "label_values",
    "remap",
]
