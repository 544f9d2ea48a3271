"""MONAI Label app: every bundle of this repository, served to annotators from where it stands.

    monailabel start_server --app apps/monailabel --studies FOLDER --conf models all --host 127.0.0.1

Photos and labels lie in FOLDER, and in its ``training`` what was fine-tuned on them. ``--conf models`` takes names of
bundles, separated by commas, or ``all``. ``--conf BUNDLE.ID VALUE`` sets an id of a bundle's ``inference.json``, as
``vessel_segmentation.pixel_size 7.5``.
"""

from lib.app import RetinaApp

__all__ = ["RetinaApp"]
