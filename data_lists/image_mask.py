"""Any vessel dataset with a folder of images and a folder of masks under the same names.

Features:
    photos of any size with binary vessel masks, such as the "Retina Blood Vessel" set on Kaggle (80 training and 20
    test photos). Patient: the name without suffix, so each photo counts as a patient, unless ``--patients`` says more.

Layout:
    ``image/0.png`` and ``mask/0.png``; or ``train/image/0.png``, ``train/mask/0.png``, ``test/image/0.png`` and
    ``test/mask/0.png``. Other folder names: ``--image_folder`` and ``--mask_folder``.

Official split:
    the folder ``test/`` where there is one.

Terms: those of the dataset; read them on the page that it comes from.

Get it: for instance https://www.kaggle.com/datasets/abdallahwagih/retina-blood-vessel
"""

from __future__ import annotations

from pathlib import Path

from data_lists._base import VESSELS, Dataset, Item, Tree, read_patients


def find(
    tree: Tree, *, image_folder: str = "image", mask_folder: str = "mask", patients: Path | None = None
) -> list[Item]:
    """Find the photos and their masks.

    Args:
        tree: the dataset's folder.
        image_folder: name of the folders with images.
        mask_folder: name of the folders with masks.
        patients: CSV file with the columns image (path relative to the root) and patient, a row for each image.
    """
    parts = [part for part in ("train", "test") if tree.has(f"{part}/{image_folder}")]
    found: dict[str, tuple[str, str, str | None]] = {}
    for part in parts or [""]:
        folder = f"{part}/" if part else ""
        images = tree.find(f"{folder}{image_folder}", "{key}", ".+")
        labels = tree.pair(images, tree.find(f"{folder}{mask_folder}", "{key}", ".+"))
        for name, path in images.paths.items():
            found[path] = (labels[name], f"{part}_{name}" if part else name, "test" if part == "test" else None)
    if not found:
        raise tree.nothing_found(f"{image_folder}/0.png, {mask_folder}/0.png ..., also in train/ and test/")
    given = {} if patients is None else read_patients(patients, found)
    return [
        Item({"image": path, "label": label}, given.get(path, name), split=split)
        for path, (label, name, split) in found.items()
    ]


DATASET = Dataset(
    name="image_mask",
    description="Any folder of fundus photos with a folder of vessel masks under the same names.",
    licence="that of the dataset; see where it comes from",
    reference="see where the dataset comes from",
    labels=VESSELS,
    find=find,
    guide=__doc__,
)
