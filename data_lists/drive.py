"""DRIVE: vessels in 40 photos from a diabetic-retinopathy screening programme.

Features:
    40 photos of 40 people, 565 x 584 pixels, Canon CR5 camera, 45 degrees, with masks of vessels and field of view.
    The test photos were labelled by two observers. Patient: the number in the name.

Layout:
    ``training/images/21_training.tif``, ``training/1st_manual/21_manual1.gif``,
    ``training/mask/21_training_mask.gif``; ``test/images/01_test.tif``, ``test/1st_manual/01_manual1.gif``,
    ``test/2nd_manual/01_manual2.gif``, ``test/mask/01_test_mask.gif``. Releases that keep the test labels back have no
    folder ``test/1st_manual``: their test photos are left out, with a warning.

Official split:
    the folder ``test/`` (20 photos).

Terms: no open licence is stated; for research and education, after registration. See the page.

Get it: https://drive.grand-challenge.org/

Reference:
    Staal et al., Ridge-based vessel segmentation in color images of the retina, IEEE Transactions on Medical Imaging
    23(4), 2004.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

from data_lists._base import VESSELS, DataListWarning, Dataset, Item, Tree


def find(tree: Tree, *, observer: Literal[1, 2] = 1) -> list[Item]:
    """Find the photos and their masks.

    Args:
        tree: the dataset's folder.
        observer: whose masks are the labels of the test split. The training photos were labelled once.
    """
    items = _part(tree, "training", 1, None)
    if not items:
        raise tree.nothing_found("training/images/21_training.tif, training/1st_manual/21_manual1.gif ...")
    if tree.has("test") and not tree.has("test/1st_manual") and not tree.has("test/2nd_manual"):
        warnings.warn(
            "the test photos are left out: there is no folder test/1st_manual with their labels",
            DataListWarning,
            stacklevel=2,
        )
        return items
    return items + _part(tree, "test", observer, "test")


def _part(tree: Tree, part: str, observer: int, split: str | None) -> list[Item]:
    key = r"\d+"
    images = tree.find(f"{part}/images", f"{{key}}_{part}", key)
    manual = {1: "1st_manual", 2: "2nd_manual"}[observer]
    labels = tree.pair(images, tree.find(f"{part}/{manual}", f"{{key}}_manual{observer}", key))
    views: Mapping[str, str] = {}
    if tree.has(f"{part}/mask"):
        views = tree.pair(images, tree.find(f"{part}/mask", f"{{key}}_{part}_mask", key), "field of view")
    return [
        Item({"image": path, "label": labels[number], **({"fov": views[number]} if views else {})}, number, split=split)
        for number, path in images.paths.items()
    ]


DATASET = Dataset(
    name="drive",
    description="DRIVE: retinal vessels in photos from a diabetic-retinopathy screening programme.",
    licence="no open licence stated; research and education, see https://drive.grand-challenge.org/",
    reference="Staal et al., IEEE Transactions on Medical Imaging 23(4), 2004.",
    labels=VESSELS,
    find=find,
    guide=__doc__,
)
