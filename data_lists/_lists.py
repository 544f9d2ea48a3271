"""Making, joining, describing and writing lists."""

from __future__ import annotations

import csv
import inspect
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args, get_origin, get_type_hints

from numpy.typing import NDArray

from common.pixels import PHOTO_SUFFIXES, read_pixels
from common.scans import VOLUME_SUFFIX, read_scan, split_address
from data_lists._alike import find_alike, leave_out_alike
from data_lists._base import DataListError, DataListWarning, Dataset, Item, Tree, class_of, tell
from data_lists._checks import check_files, check_leaks, digest, in_parallel, linked, read
from data_lists._split import SPLITS, split_labelled, split_patients

DataList = dict[str, Any]
"""The content of a list file: facts about the dataset, and a list of items under each of the three splits."""


def build_list(
    dataset: Dataset,
    root: str | Path,
    *,
    name: str | None = None,
    seed: int = 0,
    validation: float = 0.2,
    test: float | str | None = None,
    exclude: Collection[str] = (),
    without: str | Path | Collection[str | Path] = (),
    **options: Any,
) -> DataList:
    """Check a dataset and divide it by patient.

    Args:
        dataset: its description.
        root: its folder.
        name: another name for the dataset, in place of its own.
        seed: decides the division.
        validation: share of the patients that are not in the test split of the release.
        test: share of all patients; ``official`` for the test split of the release, which has to have one; None for
            that test split where there is one, and else for none.
        exclude: paths or shell patterns, relative to the root, of files to leave out.
        without: folders of photos, or lists that were made for the same root: what shows the same as one of their
            photos, in whatever size, is left out.
        options: the dataset's own options.

    Returns:
        The list. Paths are relative to the root, with POSIX separators.

    Raises:
        DataListError: an option or a file is wrong; the text names it.
    """
    _check_options(dataset, options)
    name = name or dataset.name
    tree = Tree(root, exclude)
    items = dataset.find(tree, **options)
    tree.check_exclude()
    for source in [without] if isinstance(without, str | Path) else without:
        folder, photos = _photos_of(Path(source), tree.root)
        items = leave_out_alike(tree.root, items, dataset, folder, photos, str(source))
    same: list[tuple[str, str]] = []
    if dataset.same_patient is not None:
        items, same = find_alike(tree.root, items, dataset, dataset.same_patient)
    fixed_test = any(item.split == "test" for item in items)
    if test == "official" and not fixed_test:
        raise DataListError(f"{dataset.name} in {root} has no official test split; give --test a share, such as 0.2")
    if isinstance(test, str) and test != "official":
        raise DataListError(f"--test is {test!r}; it has to be a share, such as 0.2, or 'official'")
    if fixed_test and test not in (None, "official"):
        raise DataListError(
            f"--test {test:g} would mix test images of {dataset.name} into training; leave --test out, or take those "
            "images out with --exclude first"
        )
    digests = check_files(tree.root, items, dataset)
    _tell_differing(items, digests)
    share = 0.0 if test is None or isinstance(test, str) else test
    splits = _assign(items, digests, same, validation=validation, test=share, seed=seed)
    check_leaks(
        (split, item.patient, item.files["image"], image_digest)
        for split, item, image_digest in zip(splits, items, digests, strict=True)
    )
    entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for split, item in zip(splits, items, strict=True):
        category = {"class": item.category} if isinstance(item.category, str) else {}
        facts = {"patient": item.patient, **category, "dataset": name}
        entries[split].append({**item.files, **item.values, **facts})
    head: dict[str, Any] = {"name": name}
    head |= {key: getattr(dataset, key) for key in ("description", "reference", "licence")}
    head["labels"] = dict(dataset.labels(**options) if callable(dataset.labels) else dataset.labels)
    head["files"] = sorted({key for item in items for key in item.files})
    return _assemble(head, seed, entries)


def merge(
    root: str | Path,
    lists: Mapping[str | Path, str],
    *,
    leave_out: Collection[str] = (),
    training_only: Collection[str] = (),
) -> DataList:
    """Join lists that were made for folders below one root, and check the whole for leaks again.

    Args:
        root: folder that holds the datasets' folders.
        lists: for each list file, the folder that it was made for, relative to the root (``.`` for the root itself).
        leave_out: names of datasets of which every item goes to ``test``; the other items keep their splits.
        training_only: names of datasets of which only the training items are taken. The others are left out, for an
            evaluation by the dataset's own list: no picture of theirs may stand in the joined training.

    Returns:
        The joined list. Paths are relative to the root; patients are named ``dataset_patient``.

    Raises:
        DataListError: a list or a file is missing or wrong, two lists are of one dataset or have different labels,
            or a picture stands in two splits.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataListError(f"{root} is not a folder; give the folder that holds the folders of all datasets")
    if not lists:
        raise DataListError("there is nothing to merge; give at least one list as LIST.json=FOLDER")
    loaded = [(Path(path), _subfolder(root, folder), load(path)) for path, folder in lists.items()]
    sources = [content for _, _, content in loaded]
    _check_sources(loaded)
    names = [source["name"] for source in sources]
    for option, chosen in (("leave_out", leave_out), ("training_only", training_only)):
        for name in chosen:
            if name not in names:
                raise DataListError(f"--{option} {name}: there is no such dataset; the lists are of {', '.join(names)}")
    for name in set(leave_out) & set(training_only):
        raise DataListError(f"--leave_out and --training_only both name {name}; give one of them")
    entries: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    held_out: list[tuple[str, dict[str, Any]]] = []
    for path, folder, source in loaded:
        for split in SPLITS:
            for item in source[split]:
                files = {key: str(folder / item[key]) for key in source["files"] if key in item}
                for name in files.values():
                    if not split_address(root / name)[0].is_file():
                        raise DataListError(f"{root / name} is missing; check the folder {folder} given for {path}")
                entry = {**item, **files, "patient": f"{source['name']}_{item['patient']}"}
                if source["name"] in training_only and split != "training":
                    held_out.append((split, entry))
                else:
                    entries["test" if source["name"] in leave_out else split].append(entry)
    tell(
        "items left out by --training_only, which are not in training in their own list",
        [item["image"] for _, item in held_out],
    )
    if not entries["training"]:
        raise DataListError("--leave_out leaves nothing for training; name fewer lists in it")
    flat = [*((split, item) for split in SPLITS for item in entries[split]), *held_out]
    digests = in_parallel(lambda entry: digest(read(root / entry[1]["image"], _read)), flat)
    checked = [
        (split, item["patient"], item["image"], image_digest)
        for (split, item), image_digest in zip(flat, digests, strict=True)
    ]
    kept = len(flat) - len(held_out)
    check_leaks(checked[:kept])
    # What is held out is in no split of this list, and may be in another list's validation or test.
    training = [entry for entry in checked[:kept] if entry[0] == "training"]
    for split in SPLITS:
        check_leaks([*training, *(entry for entry in checked[kept:] if entry[0] == split)])
    head = {
        "name": "+".join(names),
        "description": " ".join(source["description"] for source in sources),
        "reference": " ".join(source["reference"] for source in sources),
        "licence": "; ".join(f"{source['name']}: {source['licence']}" for source in sources),
        "labels": sources[0]["labels"],
        "files": sorted({key for source in sources for key in source["files"]}),
        "sources": names,
        "left_out": sorted(leave_out),
        "training_only": sorted(training_only),
    }
    seeds = [source["seed"] for source in sources]
    return _assemble(head, seeds[0] if len(set(seeds)) == 1 else seeds, entries)


def load(path: str | Path) -> DataList:
    """Read a list that this package wrote.

    Raises:
        DataListError: the file is missing or is no such list.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataListError(f"{path} cannot be opened ({error.strerror})") from error
    except ValueError as error:
        raise DataListError(f"{path} is not a JSON file ({error})") from error
    if not isinstance(content, dict) or not {"name", "files", "labels", "seed", *SPLITS} <= content.keys():
        raise DataListError(f"{path} is not a list made by data_lists")
    return content


def write(content: DataList, output: str | Path) -> None:
    """Write a list in one step, so that no half file is ever seen; missing folders are made.

    Raises:
        DataListError: the output is a folder or cannot be written.
    """
    output = Path(output)
    if output.is_dir():
        raise DataListError(f"--output {output} is a folder; give a file name, such as {output / 'list.json'}")
    text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataListError(f"--output {output} cannot be written ({error.strerror})") from error


def write_report(remarks: Sequence[DataListWarning], output: str | Path) -> Path | None:
    """Write every case of the warnings that came up while a list was made into a CSV file beside it.

    The columns are ``remark`` and ``case``; a warning that names no cases has one row. The report of an earlier list
    is removed when there is nothing to report.

    Args:
        remarks: the warnings.
        output: the list; the report of ``list.json`` is ``list.report.csv``.

    Returns:
        The report, or None when there is nothing to report.

    Raises:
        DataListError: it cannot be written.
    """
    path = Path(output).with_suffix(".report.csv")
    try:
        if not remarks:
            path.unlink(missing_ok=True)
            return None
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("remark", "case"))
            table.writerows((str(remark), case) for remark in remarks for case in remark.cases or ("",))
    except OSError as error:
        raise DataListError(f"the report {path} cannot be written ({error})") from error
    return path


def summary(content: DataList) -> str:
    """Say in a small table how many images and patients of each dataset and class are in each split."""
    lines = [f"{'split':<12}{'dataset':<14}{'images':>7}{'patients':>10}  classes"]
    for split in SPLITS:
        for name in content.get("sources", [content["name"]]):
            items = [item for item in content[split] if item["dataset"] == name]
            classes = Counter(name for item in items for name in _classes(item))
            counts = ", ".join(f"{key} {classes[key]}" for key in sorted(classes)) or "-"
            n_patients = len({item["patient"] for item in items})
            lines.append(f"{split:<12}{name:<14}{len(items):>7}{n_patients:>10}  {counts}")
    return "\n".join(lines)


def _classes(item: Mapping[str, Any]) -> list[str]:
    """Give the class of an item, or its labels where it may have several."""
    if "class" in item:
        return [item["class"]]
    return item["label"] if isinstance(item.get("label"), list) else []


def _tell_differing(items: Sequence[Item], digests: Sequence[str]) -> None:
    """Tell the pictures that stand there more than once with different classes."""
    first: dict[str, Item] = {}
    differing = []
    for item, image_digest in zip(items, digests, strict=True):
        other = first.setdefault(image_digest, item)
        if item.category != other.category:
            pair = (f"{one.files['image']} ({class_of(one)})" for one in (other, item))
            differing.append(" and ".join(pair))
    tell("pairs of the same picture that have two classes", differing)


def _check_options(dataset: Dataset, options: Mapping[str, Any]) -> None:
    known = {
        name: parameter
        for name, parameter in inspect.signature(dataset.find).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    types = get_type_hints(dataset.find)
    for name, value in options.items():
        if name not in known:
            has = ", ".join(known) or "none"
            raise DataListError(f"{dataset.name} has no option {name!r}; its own options are: {has}")
        if get_origin(types[name]) is Literal and value not in get_args(types[name]):
            choices = ", ".join(map(str, get_args(types[name])))
            raise DataListError(f"--{name} is {value!r}; it has to be one of {choices}")


def _assign(
    items: Sequence[Item],
    digests: Sequence[str],
    same: Sequence[tuple[str, str]],
    *,
    validation: float,
    test: float,
    seed: int,
) -> list[str]:
    """Give each item its split: the release's own, or one by patient, with pairs of patients kept together."""
    free = [index for index, item in enumerate(items) if item.split is None]
    if not free and all(item.split != "training" for item in items):
        raise DataListError("there are only test images, and none for training; add the training part of the release")
    if not free and test:
        raise DataListError(
            f"--test {test:g}: every item has its split already, and none is left to divide; leave it out"
        )
    if not free:
        return [item.split or "" for item in items]
    patients = {items[index].patient for index in free}
    pairs = [(patient, str(pair)) for pair in same if patients.issuperset(pair) for patient in pair]
    groups = linked([(items[index].patient, digests[index]) for index in free] + pairs)
    categories: dict[str, set[str]] = {group: set() for group in groups.values()}
    for index in free:
        category = items[index].category
        categories[groups[items[index].patient]].update(category if isinstance(category, tuple) else [category or ""])
    if any(isinstance(items[index].category, tuple) for index in free):
        by_group = split_labelled(categories, validation=validation, test=test, seed=seed)
    else:
        strata = {group: "+".join(sorted(names)) for group, names in categories.items()}
        by_group = split_patients(strata, validation=validation, test=test, seed=seed)
    return [item.split or by_group[groups[item.patient]] for item in items]


def _assemble(head: Mapping[str, Any], seed: Any, entries: Mapping[str, list[dict[str, Any]]]) -> DataList:
    counts = {f"num{split.capitalize()}": len(entries[split]) for split in SPLITS}
    return {**head, "seed": seed, **counts, **entries}


def _read(path: Path) -> NDArray[Any]:
    """Read a picture, or a B-scan of a file with many."""
    file, frame = split_address(path)
    return (read_scan if frame is not None or file.suffix.lower() == VOLUME_SUFFIX else read_pixels)(path)


def _photos_of(source: Path, root: Path) -> tuple[Path, list[str]]:
    """Give the photos of a folder, or of a list that was made for a root: the folder, and their paths below it.

    Raises:
        DataListError: there are none, or the list is wrong or names a file that is not there.
    """
    if source.suffix.lower() != ".json":
        photos = [path for path in Tree(source).files() if Path(path).suffix.lower() in PHOTO_SUFFIXES]
        if not photos:
            raise DataListError(f"--without {source} has no photo, also not in the folders below it")
        return source, photos
    content = load(source)
    photos = [item["image"] for split in SPLITS for item in content[split]]
    for photo in photos:
        if not (root / photo).is_file():
            raise DataListError(
                f"--without {source}: {root / photo} is missing; make that list for the same --root, or give the "
                "folder of its photos"
            )
    return root, photos


def _subfolder(root: Path, folder: str) -> PurePosixPath:
    path = PurePosixPath(Path(folder).as_posix())
    if path.is_absolute() or ".." in path.parts:
        raise DataListError(f"{folder} has to be a folder relative to {root}, and inside it")
    if not (root / path).is_dir():
        raise DataListError(f"{root / path} is not a folder; after LIST.json= give the folder that the list is for")
    return path


def _check_sources(loaded: Sequence[tuple[Path, PurePosixPath, DataList]]) -> None:
    first_path, _, first = loaded[0]
    seen: dict[str, Path] = {}
    for path, _, content in loaded:
        if "sources" in content:
            raise DataListError(f"{path} is a merged list itself; merge all single lists in one go")
        if content["name"] in seen:
            raise DataListError(
                f"{seen[content['name']]} and {path} are both of {content['name']}, so that patients could be mixed "
                "up; merge one list of each dataset (the option --name gives a dataset another name)"
            )
        if content["labels"] != first["labels"]:
            raise DataListError(
                f"the labels of {path} are {content['labels']}, those of {first_path} {first['labels']}"
            )
        seen[content["name"]] = path
