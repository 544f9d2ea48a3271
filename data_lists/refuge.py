"""REFUGE: optic disc and cup in 1200 photos with and without glaucoma.

Features:
    400 photos for training (Zeiss Visucam 500, 2124 x 2056 pixels), 400 for validation and 400 for testing (Canon
    CR-2, 1634 x 1634 pixels), each a tenth with glaucoma. Masks: 255 background, 128 rim, 0 cup. Class: the first
    letter of a training photo's name, g glaucoma, n none; other photos have none unless their masks lie in folders of
    that name. The release does not say which photos are of one patient: each photo counts as a patient.

Layout:
    as released, ``Training400/Glaucoma/g0001.jpg``, ``Training400/Non-Glaucoma/n0001.jpg``,
    ``Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp``, ``.../Non-Glaucoma/n0001.bmp``,
    ``REFUGE-Validation400/V0001.jpg``, ``REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp``,
    ``REFUGE-Test400/T0001.jpg`` (or ``Test400/``) and ``REFUGE-Test-GT/Disc_Cup_Masks/T0001.bmp``, at any depth below
    the root; or photos, such as crops around the disc, in ``images/g0001.jpg`` and ``masks/g0001.png``.

Official split:
    ``REFUGE-Test400`` is the test split. ``REFUGE-Validation400`` is the validation split where it is there, which
    takes the place of ``--validation``. A part whose masks are not there at all is left out.

Terms: for research, as the challenge says.

Get it: https://refuge.grand-challenge.org/

Reference:
    Orlando et al., REFUGE Challenge: A unified framework for evaluating automated methods for glaucoma assessment from
    fundus photographs, Medical Image Analysis 59, 2020.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import PurePosixPath

from data_lists._base import DISC_CUP, DataListWarning, Dataset, Item, Tree

CLASSES = {"g": "glaucoma", "n": "no glaucoma"}
PARTS = {"v": "validation", "t": "test"}
IMAGES = r"(.*/)?((refuge-)?(train|training|val|valid|validation|test)(400)?(/(non-)?glaucoma)?|images)"
MASKS = r"(.*/)?(disc_cup_masks?(/[^/]+)?|masks)"


def find(tree: Tree) -> list[Item]:
    """Find the photos and their masks.

    Args:
        tree: the dataset's folder.
    """
    images = tree.find("", "{key}", r"[gnvtGNVT]\d+", shared=True, below=IMAGES)
    if not images.paths:
        raise tree.nothing_found(
            "Training400/Glaucoma/g0001.jpg, Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp ... or "
            "images/g0001.jpg, masks/g0001.png ..."
        )
    masks = tree.find("", "{key}", r"[gnvtGNVT]\d+", shared=True, below=MASKS)
    for letter, part in PARTS.items():
        keys = {key for key in images.paths if key[0].lower() == letter}
        if keys and not keys & masks.paths.keys():
            text = f"the {len(keys)} {part} photos are left out: {tree.root} has no masks of them"
            left_out = [path for key, path in images.paths.items() if key in keys]
            warnings.warn(DataListWarning(text, left_out), stacklevel=2)
            kept = {key: path for key, path in images.paths.items() if key not in keys}
            images = replace(images, paths=kept, excluded={*images.excluded, *keys})
    labels = tree.pair(images, masks)
    parts = {key: PARTS.get(key[0].lower()) for key in images.paths}
    training = "training" if "validation" in parts.values() else None
    return [
        Item(
            {"image": path, "label": labels[key]},
            patient=key,
            category=_category(key, labels[key]),
            split=parts[key] or training,
            values={"label_format": "refuge"},
        )
        for key, path in images.paths.items()
    ]


def _category(key: str, mask: str) -> str | None:
    """Give the class that the photo's name, or else the mask's folder, says: ``Glaucoma``, ``G``, ``Non-Glaucoma``."""
    folder = PurePosixPath(mask).parent.name
    above = PurePosixPath(mask).parent.parent.name.lower()
    return CLASSES.get(key[0].lower()) or (CLASSES.get(folder[0].lower()) if above == "disc_cup_masks" else None)


DATASET = Dataset(
    name="refuge",
    description="REFUGE: optic disc and cup in photos with and without glaucoma.",
    licence="challenge data, for research",
    reference="Orlando et al., Medical Image Analysis 59, 2020.",
    labels=DISC_CUP,
    find=find,
    guide=__doc__,
    masks={"label": frozenset({0, 128, 255})},
)
