"""HRF: vessels in 45 high-resolution photos of healthy, diabetic and glaucomatous eyes.

Features:
    15 photos each of healthy (h), diabetic-retinopathy (dr) and glaucoma (g) patients, 3504 x 2336 pixels, Canon CR-1
    camera, 45 degrees, with masks of vessels and field of view. Patient: number and kind, one photo each.

Layout:
    ``images/01_h.jpg`` (also ``01_dr.JPG``), ``manual1/01_h.tif`` and ``mask/01_h_mask.tif``, as in the archive
    ``all.zip``; PNG and other formats are accepted. Without a folder ``mask/`` the list has no ``fov``.

Official split:
    none. In the literature the first 5 patients of each kind train and the others test: ``--train_first 5``.

Terms: CC BY 4.0.

Get it: https://www5.cs.fau.de/research/data/fundus-images/

Reference:
    Budai et al., Robust vessel segmentation in fundus images, International Journal of Biomedical Imaging, 2013.
"""

from __future__ import annotations

from data_lists._base import VESSELS, Dataset, Item, Tree, test_after

KINDS = {"h": "normal", "dr": "DR", "g": "glaucoma"}


def find(tree: Tree, *, train_first: int | None = None) -> list[Item]:
    """Find the photos and their masks.

    Args:
        tree: the dataset's folder.
        train_first: patients of each kind up to this number are for training and validation, the others are the test
            split.
    """
    key = r"\d+_(?:h|dr|g)"
    images = tree.find("images", "{key}", key)
    if not images.paths:
        raise tree.nothing_found("images/01_h.jpg, manual1/01_h.tif, mask/01_h_mask.tif ...")
    labels = tree.pair(images, tree.find("manual1", "{key}", key))
    views = tree.pair(images, tree.find("mask", "{key}_mask", key), "field of view") if tree.has("mask") else {}
    splits = test_after({patient: int(patient.split("_")[0]) for patient in images.paths}, train_first)
    return [
        Item(
            {"image": path, "label": labels[patient], **({"fov": views[patient]} if views else {})},
            patient=patient,
            category=KINDS[patient.split("_")[1]],
            split=splits[patient],
        )
        for patient, path in images.paths.items()
    ]


DATASET = Dataset(
    name="hrf",
    description="HRF: retinal vessels in high-resolution photos of normal, diabetic and glaucomatous eyes.",
    licence="CC BY 4.0",
    reference="Budai et al., International Journal of Biomedical Imaging, 2013.",
    labels=VESSELS,
    find=find,
    guide=__doc__,
)
