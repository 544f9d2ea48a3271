"""Lists of public retinal datasets in MONAI's datalist format, split by patient and checked.

From Python::

    from data_lists import build, write

    write(build("hrf", "/data/HRF", seed=0, validation=0.2), "hrf.json")

From a shell: ``python -m data_lists hrf --root /data/HRF --output hrf.json``.

A dataset is one module with a `Dataset` named ``DATASET``, registered in `DATASETS` below.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from data_lists import (
    aptos2019,
    chase_db1,
    class_folders,
    disc_cup_folder,
    drishti_gs1,
    drive,
    duke_dme,
    fives,
    hrf,
    idrid_disc,
    idrid_grading,
    idrid_lesions,
    image_mask,
    odir5k,
    refuge,
    smdg,
    stare,
    via,
)
from data_lists._base import DataListError, DataListWarning, Dataset, Item, Tree
from data_lists._lists import DataList, build_list, load, merge, summary, write, write_report
from data_lists._split import SPLITS, split_labelled, split_patients

_MODULES = (
    aptos2019,
    chase_db1,
    class_folders,
    disc_cup_folder,
    drishti_gs1,
    drive,
    duke_dme,
    fives,
    hrf,
    idrid_disc,
    idrid_grading,
    idrid_lesions,
    image_mask,
    odir5k,
    refuge,
    smdg,
    stare,
    via,
)

DATASETS: dict[str, Dataset] = {module.DATASET.name: module.DATASET for module in _MODULES}
"""The datasets by name."""

__all__ = [
    "DATASETS",
    "SPLITS",
    "DataList",
    "DataListError",
    "DataListWarning",
    "Dataset",
    "Item",
    "Tree",
    "build",
    "load",
    "merge",
    "split_labelled",
    "split_patients",
    "summary",
    "write",
    "write_report",
]


def build(
    dataset: str,
    root: str | Path,
    *,
    name: str | None = None,
    seed: int = 0,
    validation: float = 0.2,
    test: float | str | None = None,
    exclude: Collection[str] = (),
    without: str | Path | Collection[str | Path] | None = None,
    **options: Any,
) -> DataList:
    """Check a dataset and make its list, divided by patient.

    Args:
        dataset: one of `DATASETS`.
        root: the dataset's folder.
        name: another name for it in the list, for instance to merge two datasets of one layout.
        seed: decides the division; the same seed always gives the same list.
        validation: share of the patients that are not in the release's own test split.
        test: share of all patients; ``official`` for the release's own test split, which has to exist; None for
            that split where there is one, and else for none.
        exclude: paths or shell patterns, relative to the root, of files to leave out.
        without: folders of photos, or lists that were made for the same root: what shows the same as one of their
            photos, in whatever size, is left out.
        options: the dataset's own options, see its module.

    Returns:
        The list, to be written with `write`.

    Raises:
        DataListError: the dataset or an option is unknown, or a file is wrong; the text names it.
    """
    if dataset not in DATASETS:
        raise DataListError(f"there is no dataset {dataset!r}; known are {', '.join(sorted(DATASETS))}")
    return build_list(
        DATASETS[dataset],
        root,
        name=name,
        seed=seed,
        validation=validation,
        test=test,
        exclude=exclude,
        without=without or (),
        **options,
    )
