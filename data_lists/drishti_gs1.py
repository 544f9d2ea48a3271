"""Drishti-GS1: optic disc and cup in 101 photos, each labelled by four experts.

Features:
    101 photos, about 2047 x 1760 pixels, centred at the optic disc, 30 degrees, with soft maps of disc and cup: the
    grey value is the share of the four experts who marked a pixel. Class: the folder ``GLAUCOMA``
    or ``NORMAL`` where the photos lie in such folders. Patient: the photo's number.

Layout:
    as released, ``Training/Images/drishtiGS_002.png`` (also in folders ``GLAUCOMA`` and ``NORMAL``),
    ``Training/GT/drishtiGS_002/SoftMap/drishtiGS_002_ODsegSoftmap.png`` and ``drishtiGS_002_cupsegSoftmap.png``, and
    the same in ``Test/Images/`` with ``Test/Test_GT/`` or ``Test_GT/``, at any depth below the root, such as in
    ``Drishti-GS1_files/``; or a part in ``images/drishtiGS_002.jpg`` and ``softmaps/drishtiGS_002_ODsegSoftmap.png``.

Labels:
    ``disc`` and ``cup`` are the soft maps; a pixel counts where at least ``--experts`` of the four experts agree, which
    is ``min_value`` in the list.

Official split:
    the folder ``Test/`` (51 photos). Without its soft maps the test photos are left out.

Terms: for research; the release states no licence.

Get it: https://cvit.iiit.ac.in/projects/mip/drishti-gs/mip-dataset2/Home.php

Reference:
    Sivaswamy et al., Drishti-GS: Retinal image dataset for optic nerve head (ONH) segmentation, IEEE ISBI 2014; and
    A comprehensive retinal image dataset for the assessment of glaucoma from the optic nerve head analysis, JSM
    Biomedical Imaging Data Papers 2(1), 2015.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

from data_lists._base import DISC_CUP, SHARES, DataListWarning, Dataset, Item, Tree

CLASSES = {"glaucoma": "glaucoma", "normal": "no glaucoma"}
IMAGES = r"(.*/)?images(/(glaucoma|normal))?"
"""The folders of the photos; soft maps are found by their names alone."""


def find(tree: Tree, *, experts: Literal[1, 2, 3, 4] = 3) -> list[Item]:
    """Find the photos and their soft maps.

    Args:
        tree: the dataset's folder.
        experts: a pixel is disc or cup where at least so many of the four experts say so.
    """
    images = tree.find("", "drishtiGS_{key}", r"\d+", shared=True, below=IMAGES)
    if not images.paths:
        raise tree.nothing_found(
            "Training/Images/drishtiGS_002.png, Training/GT/drishtiGS_002/SoftMap/drishtiGS_002_ODsegSoftmap.png ... "
            "or images/drishtiGS_002.jpg, softmaps/drishtiGS_002_ODsegSoftmap.png ..."
        )
    discs = tree.find("", "drishtiGS_{key}_ODsegSoftmap", r"\d+", shared=True, below=".*")
    cups = tree.find("", "drishtiGS_{key}_cupsegSoftmap", r"\d+", shared=True, below=".*")
    splits = {key: _split(path) for key, path in images.paths.items()}
    test = {key for key, split in splits.items() if split == "test"}
    if test and not test & (discs.paths.keys() | cups.paths.keys()):
        text = f"the {len(test)} test photos are left out: {tree.root} has no soft maps of them (Test_GT/)"
        left_out = [path for key, path in images.paths.items() if key in test]
        warnings.warn(DataListWarning(text, left_out), stacklevel=2)
        images = replace(
            images,
            paths={key: path for key, path in images.paths.items() if key not in test},
            excluded={*images.excluded, *test},
        )
    disc_paths = tree.pair(images, discs, "disc soft map")
    cup_paths = tree.pair(images, cups, "cup soft map")
    # 3 of 4 experts are 191.25, which may be stored as 191 or as 192.
    values = {"label_format": "softmaps", "min_value": 255 * experts // 4 - 1}
    return [
        Item(
            {"image": path, "disc": disc_paths[key], "cup": cup_paths[key]},
            patient=key,
            category=CLASSES.get(PurePosixPath(path).parent.name.lower()),
            split=splits[key],
            values=values,
        )
        for key, path in images.paths.items()
    ]


def _split(path: str) -> str | None:
    """Give ``test`` to a photo in a folder whose name starts so, such as ``Test`` or ``Test-2021``."""
    return "test" if any(part.lower().startswith("test") for part in PurePosixPath(path).parts[:-1]) else None


DATASET = Dataset(
    name="drishti_gs1",
    description="Drishti-GS1: optic disc and cup in photos of normal eyes and glaucoma, by four experts.",
    licence="for research; no licence stated",
    reference="Sivaswamy et al., IEEE ISBI 2014; JSM Biomedical Imaging Data Papers 2(1), 2015.",
    labels=DISC_CUP,
    find=find,
    guide=__doc__,
    masks={"disc": SHARES, "cup": SHARES},
)
