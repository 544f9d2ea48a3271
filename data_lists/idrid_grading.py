"""IDRiD, part B: the grade of diabetic retinopathy and the risk of macular oedema in 516 photos.

Features:
    516 photos, 4288 x 2848 pixels, Kowa VX-10 alpha camera, 50 degrees, of people with diabetes, with the grade of
    retinopathy (0 to 4) and the risk of macular oedema (0 to 2). Class: the grade. Patient: the photo's number; the
    release does not say which photos are of one person. Five photos stand there twice under two numbers, some with two
    grades, and some eyes were photographed twice: photos that show the same are kept in one split, and are told with
    their grades. Photos that also look like one of the test split are left out of training.

Layout:
    ``1. Original Images/a. Training Set/IDRiD_001.jpg``, ``2. Groundtruths/a. IDRiD_Disease Grading_Training
    Labels.csv`` with the columns ``Image name``, ``Retinopathy grade`` and ``Risk of macular edema``, and the same
    in ``b. Testing Set`` with ``b. IDRiD_Disease Grading_Testing Labels.csv``. The root is the folder with these two,
    ``B. Disease Grading``, or the one above it.

Labels:
    ``grade``, ``edema_risk``, and ``label``: ``["DR"]`` from the grade ``--positive_from`` on, else none. With
    ``--absent_lesions`` a list for the segmentation of lesions instead, of the photos of grade 0: each has ``lesions``
    and ``absent``, which name every lesion.

Part A:
    most photos of part A (segmentation) are in part B under other numbers, with no table of them. Leave them out,
    also where the files were scaled, before a list of one part is used together with the other: here with ``--without
    "A. Segmentation/1. Original Images"``, in a list of part A with ``--without "B. Disease Grading/1. Original
    Images"``. Lesion boxes (`via`) are on photos of part B: ``--without`` also takes a list.

Official split:
    the folder ``b. Testing Set`` (103 photos), where it is there.

Terms: CC BY 4.0.

Get it: https://ieee-dataport.org/open-access/indian-diabetic-retinopathy-image-dataset-idrid

Reference:
    Porwal et al., Indian Diabetic Retinopathy Image Dataset (IDRiD): A Database for Diabetic Retinopathy Screening
    Research, Data 3(3), 25, 2018.
"""

from __future__ import annotations

from data_lists._alike import SAME_EYE
from data_lists._base import DataListError, Dataset, Item, Tree
from data_lists._grading import Columns, PositiveFrom, dr_labels, graded_items, without_lesions

IMAGES, TABLES = "1. Original Images", "2. Groundtruths"
PARTS = {"a. Training Set": ("Training", None, ""), "b. Testing Set": ("Testing", "test", "test_")}
"""Word in the table's name, split, and what goes before the number to name the patient, by the folder of photos."""
COLUMNS = Columns("image name", "retinopathy grade", "risk of macular edema")


def find(tree: Tree, *, positive_from: PositiveFrom = 1, absent_lesions: bool = False) -> list[Item]:
    """Find the photos and their grades.

    Args:
        tree: the dataset's folder.
        positive_from: grade from which on a photo has the label DR, 2 for retinopathy that is to be referred.
        absent_lesions: make a list of lesions instead, of the photos of grade 0, on which every lesion is absent.
    """
    part_b = "B. Disease Grading/"
    base = next((base for base in ("", part_b, part_b * 2) if tree.has(f"{base}{TABLES}")), "")
    items = []
    for part, (word, split, prefix) in PARTS.items():
        photos = tree.find(f"{base}{IMAGES}/{part}", "{key}", r"IDRiD_\d+")
        if not photos.paths:
            continue
        table = f"{base}{TABLES}/{part[:2]} IDRiD_Disease Grading_{word} Labels.csv"
        if table not in tree.files():
            raise DataListError(f"{tree.root / table} is missing, the table of the photos in {photos.folder}")
        items += graded_items(tree, table, COLUMNS, photos, positive_from=positive_from, split=split, prefix=prefix)
    if not items:
        raise tree.nothing_found(
            f"{IMAGES}/a. Training Set/IDRiD_001.jpg ... and {TABLES}/a. IDRiD_Disease Grading_Training Labels.csv, "
            "also in B. Disease Grading/"
        )
    return without_lesions(items) if absent_lesions else items


DATASET = Dataset(
    name="idrid_grading",
    description="IDRiD: grade of diabetic retinopathy and risk of macular oedema.",
    licence="CC BY 4.0",
    reference="Porwal et al., Data 3(3), 25, 2018.",
    labels=dr_labels,
    find=find,
    guide=__doc__,
    masks={},
    same_patient=SAME_EYE,
)
