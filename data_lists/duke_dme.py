"""Duke DME: retinal layers on OCT B-scans of patients with diabetic macular oedema, drawn by two graders.

Features:
    10 patients, of each a volume of 61 B-scans of 496 x 768 pixels (Spectralis, Heidelberg Engineering; 3.87
    micrometres per row), of which 11 were annotated: eight boundaries (ILM, NFL/GCL, IPL/INL, INL/OPL, OPL/ONL,
    ISM/ISE, OS/RPE, BM) by each grader, in a part of the columns, and fluid. An item is one annotated B-scan.

Layout:
    ``Subject_01.mat`` ... ``Subject_10.mat`` in one folder, as released: ``images`` (496 x 768 x B-scans),
    ``manualLayers1`` and ``manualLayers2`` (8 x 768 x B-scans; rows counted from 1, NaN where nothing was drawn), and
    ``manualFluid1`` (as ``images``; 0 or NaN where there is no fluid), which may be missing. Files that hold only the
    annotated B-scans are read too. In a list ``Subject_01.mat#11`` is the 11th B-scan of the file.

Official split:
    none; in the literature subjects 1-5 train and 6-10 test: ``--train_first 5``. For a leave-one-subject-out
    validation, make a list for each subject: ``--validation_subjects 01``, then ``02`` and so on.

Terms: released for research; the page states no licence.

Get it: https://people.duke.edu/~sf59/Chiu_BOE_2014_dataset.htm

Reference:
    Chiu et al., Kernel regression based segmentation of optical coherence tomography images with diabetic macular
    edema, Biomedical Optics Express 6(4), 2015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from common.biomarkers.layers import LAYERS
from common.errors import UnreadableImageError
from common.scans import FLUID, frame_address, has_variable, read_scan, read_variable
from data_lists._base import DataListError, Dataset, Item, Tree, test_after

_GRADERS = {"label": "manualLayers1", "label_2": "manualLayers2"}
_BOUNDARIES = 8


def find(tree: Tree, *, train_first: int | None = None, validation_subjects: tuple[str, ...] = ()) -> list[Item]:
    """Find the annotated B-scans.

    Args:
        tree: the dataset's folder.
        train_first: subjects up to this number are for training and validation, the others are the test split.
        validation_subjects: numbers of the subjects that are the validation split, such as 03, in place of a share; all
            others that are not for testing are for training.
    """
    files = tree.find("", "Subject_{key}", r"\d+", suffixes={".mat"}, shared=True)
    if not files.paths:
        raise tree.nothing_found("Subject_01.mat, Subject_02.mat ...")
    splits = test_after({subject: int(subject) for subject in files.paths}, train_first)
    if validation_subjects:
        splits = _with_validation(splits, validation_subjects)
    items = []
    for subject, path in files.paths.items():
        frames = _annotated(tree, path)
        keys = ("image", *_GRADERS, *_fluid(tree, path))
        for frame, count in frames:
            address = frame_address(path, frame, count)
            items.append(Item(dict.fromkeys(keys, address), patient=subject, split=splits[subject]))
    return items


def _with_validation(splits: Mapping[str, str | None], wanted: Sequence[str]) -> dict[str, str | None]:
    """Divide the subjects that are not for testing by the numbers of those for validation.

    Raises:
        DataListError: a subject is not there or is for testing, or nothing is left for training.
    """
    by_number = {int(subject): subject for subject in splits}
    chosen = set()
    for number in wanted:
        subject = by_number.get(int(number)) if number.isdecimal() else None
        if subject is None or splits[subject] == "test":
            why = "there is no such file" if subject is None else "--train_first makes it a test subject"
            there = ", ".join(name for name, split in splits.items() if split != "test")
            raise DataListError(f"--validation_subjects {number}: {why}; choose from {there}")
        chosen.add(subject)
    divided: dict[str, str | None] = {
        subject: split or ("validation" if subject in chosen else "training") for subject, split in splits.items()
    }
    if "training" not in divided.values():
        raise DataListError(f"--validation_subjects {' '.join(wanted)} leaves nothing for training; name fewer")
    return divided


def _annotated(tree: Tree, path: str) -> list[tuple[int, int]]:
    """The numbers of the B-scans of a file on which the first grader drew all boundaries somewhere, and their count.

    Raises:
        DataListError: the file cannot be read, lacks a variable, or has one of another shape.
    """
    try:
        images = read_variable(tree.root / path, "images")
        boundaries = {name: read_variable(tree.root / path, name) for name in _GRADERS.values()}
    except UnreadableImageError as error:
        raise DataListError(f"{error}; download it again or leave it out with --exclude '{path}'") from error
    expected = (_BOUNDARIES, *images.shape[1:])
    for name, values in boundaries.items():
        if values.shape != expected:
            raise DataListError(
                f"{tree.root / path}: '{name}' has the shape {values.shape}, its images {images.shape}; {expected} is "
                f"expected. Download it again or leave it out with --exclude '{path}'"
            )
    drawn = ~np.isnan(boundaries["manualLayers1"]).any(axis=0)
    frames = np.flatnonzero(drawn.any(axis=0))
    if not frames.size:
        raise DataListError(f"{tree.root / path} has no annotated B-scan; leave it out with --exclude '{path}'")
    return [(int(frame) + 1, images.shape[2]) for frame in frames]


def _fluid(tree: Tree, path: str) -> tuple[str, ...]:
    """The key of the fluid where a file, whose images can be read, has it.

    Raises:
        DataListError: it cannot be read or has another shape than the images.
    """
    try:
        if not has_variable(tree.root / path, FLUID):
            return ()
        shape, expected = (read_variable(tree.root / path, name).shape for name in (FLUID, "images"))
    except UnreadableImageError as error:
        raise DataListError(f"{error}; download it again or leave it out with --exclude '{path}'") from error
    if shape != expected:
        raise DataListError(
            f"{tree.root / path}: '{FLUID}' has the shape {shape}, its images {expected}. Download it again or leave "
            f"it out with --exclude '{path}'"
        )
    return ("fluid",)


DATASET = Dataset(
    name="duke_dme",
    description="Duke DME: retinal layers on OCT B-scans with diabetic macular oedema, drawn by two graders.",
    licence="for research; no licence stated",
    reference="Chiu et al., Biomedical Optics Express 6(4), 2015.",
    labels={"0": "background", **{str(label): name for label, name in enumerate(LAYERS, start=1)}},
    find=find,
    guide=__doc__,
    masks={},
    read=read_scan,
)
