"""CHASE_DB1: vessels in 28 photos of 14 children, each labelled by two observers.

Features:
    28 photos, both eyes of 14 children (Child Heart and Health Study in England), 999 x 960 pixels, Nidek NM-200-D
    camera, 30 degrees. Patient: the child's number, so that both eyes stay in one split.

Layout:
    ``Image_01L.jpg``, ``Image_01L_1stHO.png``, ``Image_01L_2ndHO.png`` ... in one folder. Field-of-view masks are not
    released; those in a folder ``fov/`` (``Image_01L.png``) are used where the folder exists; every photo then
    needs one.

Official split:
    none. In the literature the first 8 or 10 children train and the others test: ``--train_first``.

Terms: CC BY 4.0.

Get it: https://blogs.kingston.ac.uk/retinal/chasedb1/

Reference:
    Fraz et al., An ensemble classification-based approach applied to retinal blood vessel segmentation, IEEE
    Transactions on Biomedical Engineering 59(9), 2012.
"""

from __future__ import annotations

from typing import Literal

from data_lists._base import VESSELS, Dataset, Item, Tree, test_after


def find(tree: Tree, *, observer: Literal[1, 2] = 1, train_first: int | None = None) -> list[Item]:
    """Find the photos and their masks.

    Args:
        tree: the dataset's folder.
        observer: whose masks are the labels.
        train_first: children up to this number are for training and validation, the others are the test split.
    """
    key = r"\d+[LR]"
    images = tree.find("", "Image_{key}", key, shared=True)
    if not images.paths:
        raise tree.nothing_found("Image_01L.jpg, Image_01L_1stHO.png, Image_01L_2ndHO.png ...")
    ending = {1: "1stHO", 2: "2ndHO"}[observer]
    labels = tree.pair(images, tree.find("", f"Image_{{key}}_{ending}", key, shared=True))
    views = tree.pair(images, tree.find("fov", "Image_{key}", key), "field of view") if tree.has("fov") else {}
    splits = test_after({eye: int(eye[:-1]) for eye in images.paths}, train_first)
    return [
        Item(
            {"image": path, "label": labels[eye], **({"fov": views[eye]} if views else {})},
            patient=eye[:-1],
            split=splits[eye],
        )
        for eye, path in images.paths.items()
    ]


DATASET = Dataset(
    name="chase_db1",
    description="CHASE_DB1: retinal vessels in photos of both eyes of children.",
    licence="CC BY 4.0",
    reference="Fraz et al., IEEE Transactions on Biomedical Engineering 59(9), 2012.",
    labels=VESSELS,
    find=find,
    guide=__doc__,
)
