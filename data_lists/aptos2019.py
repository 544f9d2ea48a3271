"""APTOS 2019: the grade of diabetic retinopathy in 3662 photos from Indian eye camps.

Features:
    3662 photos of many sizes and cameras, some of them cropped, with the grade of retinopathy (0 to 4). Class: the
    grade. Patient: the photo's name, since the release does not say which photos are of one person. Some photos stand
    there more than once, also with two grades: the same pixels are kept in one split.

Layout:
    as on Kaggle, ``train.csv`` with the columns ``id_code`` and ``diagnosis``, and ``train_images/000c1434d8d7.png``,
    in that folder or in one of the same name in it. Any other table and folder of this form: ``--table`` and
    ``--images``.

Labels:
    ``grade``, and ``label``: ``["DR"]`` from the grade ``--positive_from`` on, else none. With ``--absent_lesions`` a
    list for the segmentation of lesions instead, of the photos of grade 0: each has ``lesions`` and ``absent``, which
    name every lesion.

Official split:
    none; the grades of the test photos were not released.

Terms: those of the competition; see the page.

Get it: https://www.kaggle.com/c/aptos2019-blindness-detection

Reference:
    Asia Pacific Tele-Ophthalmology Society, APTOS 2019 Blindness Detection, Kaggle, 2019.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from data_lists._base import DataListError, Dataset, Item, Tree
from data_lists._grading import Columns, PositiveFrom, dr_labels, graded_items, without_lesions

COLUMNS = Columns("id_code", "diagnosis")


def find(
    tree: Tree,
    *,
    positive_from: PositiveFrom = 1,
    absent_lesions: bool = False,
    table: str = "train.csv",
    images: str = "train_images",
) -> list[Item]:
    """Find the photos and their grades.

    Args:
        tree: the dataset's folder.
        positive_from: grade from which on a photo has the label DR, 2 for retinopathy that is to be referred.
        absent_lesions: make a list of lesions instead, of the photos of grade 0, on which every lesion is absent.
        table: the CSV file, relative to the root.
        images: folder of the photos, relative to the root.
    """
    images = images.strip("/")
    name = re.escape(PurePosixPath(images).name)
    photos = tree.find(images, "{key}", ".+", below=f"{re.escape(images)}(/{name})?")
    if not photos.paths and not photos.excluded:
        raise tree.nothing_found(f"{images}/000c1434d8d7.png ... and {table}")
    if table not in tree.files():
        raise DataListError(f"{tree.root / table} is missing, the table with the columns id_code and diagnosis")
    items = graded_items(tree, table, COLUMNS, photos, positive_from=positive_from)
    if not items:
        raise DataListError(f"{tree.root / table} names no photo in {images}; id_code is the name without its suffix")
    return without_lesions(items) if absent_lesions else items


DATASET = Dataset(
    name="aptos2019",
    description="APTOS 2019: grade of diabetic retinopathy in photos from eye camps.",
    licence="that of the Kaggle competition; see its page",
    reference="Asia Pacific Tele-Ophthalmology Society, APTOS 2019 Blindness Detection, Kaggle, 2019.",
    labels=dr_labels,
    find=find,
    guide=__doc__,
    masks={},
)
