"""STARE: vessels in 20 digitised slides, half of them with pathology, each labelled by two observers.

Features:
    20 slides, 700 x 605 pixels, TopCon TRV-50 camera, 35 degrees. Observers: Adam Hoover (ah, the usual reference) and
    Valentina Kouznetsova (vk), who marked more of the thin vessels. The release does not say which slides are of one
    patient: each slide counts as a patient.

Layout:
    the unpacked archives ``stare-images.tar``, ``labels-ah.tar`` and ``labels-vk.tar``, each in a folder of its own
    name (``stare-images/im0001.ppm``, ``labels-ah/im0001.ah.ppm``) or all files in one folder. The files in the
    archives are compressed once more: ``gunzip *.gz``.

Official split:
    none.

Terms: no licence is stated; research use.

Get it: https://cecas.clemson.edu/~ahoover/stare/probing/

Reference:
    Hoover, Kouznetsova and Goldbaum, Locating blood vessels in retinal images by piecewise threshold probing of a
    matched filter response, IEEE Transactions on Medical Imaging 19(3), 2000.
"""

from __future__ import annotations

from typing import Literal

from data_lists._base import VESSELS, Dataset, Item, Tree


def find(tree: Tree, *, observer: Literal["ah", "vk"] = "ah") -> list[Item]:
    """Find the slides and their masks.

    Args:
        tree: the dataset's folder.
        observer: whose masks are the labels.
    """
    key = r"im\d+"
    photos = "stare-images" if tree.has("stare-images") else ""
    masks = f"labels-{observer}" if tree.has(f"labels-{observer}") else ""
    images = tree.find(photos, "{key}", key, shared=not photos)
    if not images.paths:
        raise tree.nothing_found(
            "im0001.ppm, im0001.ah.ppm ... or stare-images/im0001.ppm, labels-ah/im0001.ah.ppm ..."
        )
    labels = tree.pair(images, tree.find(masks, f"{{key}}.{observer}", key, shared=not masks))
    return [Item({"image": path, "label": labels[name]}, patient=name) for name, path in images.paths.items()]


DATASET = Dataset(
    name="stare",
    description="STARE: retinal vessels in digitised slides of normal and diseased eyes.",
    licence="no licence stated; research use, see https://cecas.clemson.edu/~ahoover/stare/",
    reference="Hoover et al., IEEE Transactions on Medical Imaging 19(3), 2000.",
    labels=VESSELS,
    find=find,
    guide=__doc__,
)
