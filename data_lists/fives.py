"""FIVES: vessels in 800 photos of normal eyes, diabetic retinopathy, glaucoma and macular degeneration.

Features:
    800 photos, 2048 x 2048 pixels, Topcon TRC-NW8 camera, 50 degrees, 200 of each class; the letter in the name is
    the class: A age-related macular degeneration, D diabetic retinopathy, G glaucoma, N normal. The release does not
    say which photos are of one patient: each photo counts as a patient, except that the photos 22_A and 23_A, which
    show one eye, stay together. Further photos of one patient that were found by eye can be left out (``--exclude``).

Layout:
    ``train/Original/1_A.png``, ``train/Ground truth/1_A.png``, ``test/Original/...``, ``test/Ground truth/...`` as
    released; or a part of the training photos in ``images/1_A.jpg`` and ``masks/1_A.png``.

Official split:
    the folder ``test/`` (200 photos).

Terms: CC BY 4.0.

Get it: https://doi.org/10.6084/m9.figshare.19688169

Reference:
    Jin et al., FIVES: A Fundus Image Dataset for Artificial Intelligence based Vessel Segmentation, Scientific Data 9,
    475, 2022.
"""

from __future__ import annotations

from data_lists._base import VESSELS, Dataset, Item, Tree

CLASSES = {"A": "AMD", "D": "DR", "G": "glaucoma", "N": "normal"}
SAME_EYE = {"23_A": "22_A"}


def find(tree: Tree) -> list[Item]:
    """Find the photos and their masks.

    Args:
        tree: the dataset's folder.
    """
    released = tree.has("train") or tree.has("test")
    items = _part(tree, "train/Original", "train/Ground truth", "train_", None) if released else []
    items += _part(tree, "test/Original", "test/Ground truth", "test_", "test") if released else []
    items += [] if released else _part(tree, "images", "masks", "", None)
    if not items:
        raise tree.nothing_found(
            "train/Original/1_A.png, train/Ground truth/1_A.png ... or images/1_A.jpg, masks/1_A.png"
        )
    return items


def _part(tree: Tree, photos: str, masks: str, prefix: str, split: str | None) -> list[Item]:
    key = r"\d+_[ADGN]"
    images = tree.find(photos, "{key}", key)
    labels = tree.pair(images, tree.find(masks, "{key}", key))
    return [
        Item(
            {"image": path, "label": labels[name]},
            patient=prefix + (name if split else SAME_EYE.get(name, name)),
            category=CLASSES[name[-1]],
            split=split,
        )
        for name, path in images.paths.items()
    ]


DATASET = Dataset(
    name="fives",
    description="FIVES: retinal vessels in photos of normal and diseased eyes.",
    licence="CC BY 4.0",
    reference="Jin et al., Scientific Data 9, 475, 2022.",
    labels=VESSELS,
    find=find,
    guide=__doc__,
)
