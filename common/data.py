"""Lists of inputs, and a data set that survives a broken file."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from monai.data import Dataset, list_data_collate

from common.biomarkers import eye_from_name
from common.errors import SettingError, UnreadableImageError
from common.pages import pages_note
from common.patients import patient_from_name
from common.pixels import PHOTO_SUFFIXES
from common.results import ResultFolder, escaped
from common.scans import SCAN_SUFFIXES, VOLUME_SUFFIXES, scan_addresses, split_address
from common.tables import join_table, read_photo_table

PATH_KEYS = ("image", "label", "label_2", "fluid", "fov")
IsVolume = Callable[[Path, Mapping[str, Any]], bool]


def load_data_list(
    data_list: str | Path,
    dataset_dir: str | Path,
    split: str,
    path_keys: Sequence[str] = PATH_KEYS,
    required: Sequence[str] = ("image", "label"),
) -> list[dict[str, Any]]:
    """Read one split of a MONAI datalist and make its paths absolute.

    Args:
        data_list: the JSON file.
        dataset_dir: folder that the list's paths are relative to.
        split: ``training``, ``validation`` or ``test``.
        path_keys: keys of an item that are paths.
        required: keys that every item has to have.

    Returns:
        The items, each with ``name``: the image's path as it stands in the list.

    Raises:
        SettingError: the list or the folder is missing, the split is empty, an item lacks a required key or names a
            file that does not exist.
    """
    data_list, folder = Path(data_list), Path(dataset_dir)
    if not folder.is_dir():
        raise SettingError(f"The folder {folder} does not exist: set dataset_dir to the root of the data set.")
    try:
        content = json.loads(data_list.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingError(
            f"The data list {data_list} does not exist: make it with `python -m data_lists` and set data_list to it."
        ) from error
    except (OSError, ValueError) as error:
        raise SettingError(f"The data list {data_list} is no JSON file that can be read ({error}).") from error
    items = content.get(split) if isinstance(content, dict) else None
    if not items or not isinstance(items, list):
        raise SettingError(f"The data list {data_list} has no items under '{split}': add some, or give another list.")
    absolute = []
    for number, item in enumerate(items):
        for key in required:
            if not isinstance(item, dict) or key not in item:
                raise SettingError(f"Item {number} of '{split}' in {data_list} has no '{key}': add it to the list.")
        for key in path_keys:
            if not isinstance(item.get(key, ""), str):
                raise SettingError(f"Item {number} of '{split}' in {data_list}: its '{key}' is no path: {item[key]}.")
        paths = {key: folder / item[key] for key in path_keys if key in item}
        for key, path in paths.items():
            if not split_address(path)[0].is_file():
                raise SettingError(
                    f"The {key} {path}, named in {data_list}, does not exist: correct the list or dataset_dir."
                )
        absolute.append({**item, **{key: str(path) for key, path in paths.items()}, "name": item["image"]})
    return absolute


def sampling_weights(items: Sequence[Mapping[str, Any]], balance: float = 1.0) -> list[float]:
    """Weights with which to draw items, so that a small data set is not drowned by a large one.

    The share of a data set of n items (those with the same ``dataset``) is proportional to n^(1 - balance).

    Args:
        items: items of a data list.
        balance: from 0, every item is as likely as any other, to 1, every data set is.

    Returns:
        A weight for each item; their sum is 1.

    Raises:
        SettingError: ``balance`` is not from 0 to 1.
    """
    if not 0 <= balance <= 1:
        raise SettingError(f"dataset_balance is {balance!r}; give a number from 0 to 1.")
    names = [str(item.get("dataset", "")) for item in items]
    counts = Counter(names)
    total = sum(count ** (1 - balance) for count in counts.values())
    return [counts[name] ** -balance / total for name in names]


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    file, frame = split_address(name)
    if frame is not None:
        return f"{file.with_suffix('').as_posix()}_{name.rpartition('#')[2]}"
    return path.with_suffix("").as_posix() if path.stem.strip(".") else name


def _output_names(names: Sequence[str], earlier: Mapping[str, str] | None = None) -> dict[str, str]:
    """Name the outputs of each input: its path without the suffix, or with it where two inputs would share it.

    Args:
        names: paths relative to the input folder.
        earlier: what the outputs of images that are done are called; they keep their names.
    """
    earlier = earlier or {}
    by_stem: dict[str, list[str]] = {}
    for name in names:
        by_stem.setdefault(_without_suffix(name).casefold(), []).append(name)
    elsewhere = {output.casefold() for name, output in earlier.items() if name not in set(names)}
    taken = {output.casefold() for output in earlier.values()}
    outputs = {}
    for stem, sharing in by_stem.items():
        shared = len(sharing) > 1 or stem in elsewhere
        for name in sharing:
            if name in earlier:
                outputs[name] = earlier[name]
                continue
            output = name if shared else _without_suffix(name)
            if output.casefold().endswith("_probability"):
                output += "_"  # else its mask might have the name of another photo's probability map
            while output.casefold() in taken or (shared and output.casefold() in by_stem):
                output += "_"
            taken.add(output.casefold())
            outputs[name] = output
    return outputs


def _why_no_file(path: Path) -> str | None:
    """Say why a path is no file that can be opened; None when it is one."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "is a link to a file that does not exist" if path.is_symlink() else "has disappeared"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if stat.S_ISREG(mode) else "is no regular file"


def _walk(folder: Path, left_out: Callable[[str], bool]) -> tuple[list[Path], dict[Path, str]]:
    """Find every file of a folder and its sub-folders, linked ones too; each folder is read once, whatever links say.

    Args:
        folder: where to begin.
        left_out: whether a sub-folder, given by its real path, is not read.

    Returns:
        The files, and for each entry that is none, or cannot be read, why; both sorted.
    """
    files: list[Path] = []
    broken: dict[Path, str] = {}
    visited: set[str] = set()
    starts = [folder]

    def record(error: OSError) -> None:
        broken[Path(error.filename)] = f"cannot be read ({error.strerror})"

    while starts:
        # Links wait until all else is read, so that what is in the folder itself goes by its own name.
        start = min(starts)
        starts.remove(start)
        for root, folders, names in os.walk(start, onerror=record):
            real = os.path.realpath(root)
            if real in visited or (Path(root) != folder and left_out(real)):
                folders.clear()
                continue
            visited.add(real)
            links = [name for name in folders if os.path.islink(os.path.join(root, name))]
            starts += [Path(root, name) for name in links]
            folders[:] = sorted(set(folders) - set(links))
            for path in (Path(root, name) for name in names):
                reason = _why_no_file(path)
                if reason is None:
                    files.append(path)
                else:
                    broken[path] = reason
    return sorted(files), dict(sorted(broken.items()))


def _check_outputs(outputs: Collection[str], output: Path, folder: Path) -> None:
    """Refuse results that would come to lie among the inputs, since the next run would take them for photos."""
    if not folder.is_relative_to(output):
        return
    for name in outputs:
        if (output / name).is_relative_to(folder):
            raise SettingError(
                f"The results of {folder / name} would be written into the input folder, since the output folder is "
                f"{output}: set output_dir to another folder."
            )


def no_volume(path: Path, known: Mapping[str, Any]) -> bool:
    """Say of every file that it is one input, as a photo is, even where it has several pages."""
    return False


def may_be_volume(path: Path, known: Mapping[str, Any]) -> bool:
    """Tell by its suffix whether a file that is known to hold OCT can hold many B-scans."""
    return path.suffix.lower() in VOLUME_SUFFIXES


def _expand(
    folder: Path, names: Sequence[str], known: Mapping[str, Mapping[str, Any]], is_volume: IsVolume
) -> tuple[list[str], dict[str, str]]:
    """Give every file with many B-scans as these, and for each that cannot be read, why."""
    expanded: list[str] = []
    unreadable: dict[str, str] = {}
    for name in names:
        try:
            volume = is_volume(folder / name, known.get(name, {}))
            expanded += scan_addresses(folder, name) if volume else [name]
        except UnreadableImageError as error:
            unreadable[name] = error.reason
    return expanded, unreadable


def _tell_pages(items: Sequence[dict[str, Any]]) -> None:
    """Add ``note`` to what is read from a file of which some pages are not used."""
    notes: dict[tuple[Path, bool], str] = {}
    for item in items:
        file, frame = split_address(item["image"])
        key = (file, frame is None)
        if key not in notes:
            notes[key] = pages_note(file, frame)
        if notes[key]:
            item["note"] = notes[key]


def usable_names(names: Sequence[str], suffixes: Collection[str], kind: str) -> tuple[list[str], dict[str, str]]:
    """Tell apart the files that can be inputs by their names, and the others.

    Args:
        names: paths of files.
        suffixes: those of the files that count, in lower case.
        kind: what they are called in messages.

    Returns:
        The names of the files that count, and for each of the others, why it does not.
    """
    reasons = {
        name: "has a name that is not in UTF-8 (as in some ZIP archives): rename the file, or its folder"
        if escaped(name) != name
        else f"its suffix is not that of a {kind}"
        for name in names
        if escaped(name) != name or PurePosixPath(name).suffix.lower() not in suffixes
    }
    return [name for name in names if name not in reasons], reasons


def list_scans(dataset_dir: str | Path, results: ResultFolder) -> list[dict[str, Any]]:
    """List the B-scans of a folder and its sub-folders (or of one file) that are not done yet.

    As `list_photos`; each B-scan of a ``.mat`` file or of a TIFF file of several pages is an item of its own, with its
    address (``file.mat#03``) as its name. Items also have ``volume``: what a B-scan is part of, that file, or the
    folder of its picture.

    Args:
        dataset_dir: a folder, or one file.
        results: the folder of the results; its finished B-scans are skipped.

    Returns:
        The items.

    Raises:
        SettingError: see `list_photos`.
    """
    items = list_photos(dataset_dir, results, suffixes=SCAN_SUFFIXES, kind="B-scan", is_volume=may_be_volume)
    for item in items:
        file, frame = split_address(item["name"])
        item["volume"] = (file if frame is not None else file.parent).as_posix()
    return items


def list_photos(
    dataset_dir: str | Path,
    results: ResultFolder,
    table_path: str | Path | None = None,
    suffixes: Collection[str] = PHOTO_SUFFIXES,
    kind: str = "photo",
    further: Mapping[str, Sequence[str] | None] | None = None,
    is_volume: IsVolume = no_volume,
) -> list[dict[str, Any]]:
    """List the photos of a folder and its sub-folders (or one photo) that are not done yet.

    Linked sub-folders are read too, each folder once. What cannot be read, what is no regular file, and files that are
    no photo by their suffix, or have a name that is not in UTF-8, are recorded as failures of the stage ``list``. The
    output folder is left out when it lies inside the input folder.

    Args:
        dataset_dir: a folder, or one file.
        results: the folder of the results; its finished images are skipped.
        table_path: CSV file with what is known of each photo (`common.tables.read_photo_table`), or None.
        suffixes: those of the files that count, in lower case.
        kind: what they are called in messages.
        further: further columns that the table may have (`common.tables.read_photo_table`).
        is_volume: tells of a file, and of what is known of it, whether each of its pictures is an item of its own.

    Returns:
        Items with ``image`` (path), ``name`` (path relative to the folder) and ``output_name`` (what its outputs' names
        begin with; no two inputs share it), and with what the table says of them (``eye``, ``patient``,
        ``pixel_size``), sorted by path. An item whose file has pages that are not used has a ``note``.

    Raises:
        SettingError: the folder does not exist, holds no photo, is the output folder, or is not the one whose photos
            the results are of; or the table is wrong.
    """
    given = Path(dataset_dir)
    if not given.exists():
        raise SettingError(
            f"The input {given} does not exist: set dataset_dir to a folder of {kind}s, or to one {kind}."
        )
    folder = given if given.is_dir() else given.parent
    output, inputs = results.folder.resolve(), folder.resolve()
    if output == inputs:
        raise SettingError(f"The input and output folders are both {folder}: set output_dir to another folder.")

    def left_out(real: str) -> bool:
        return Path(real) == output or (output.is_relative_to(inputs) and Path(real).is_relative_to(output))

    if given.is_dir():
        found, broken = _walk(folder, left_out)
    else:
        found, broken = ([given], {}) if given.is_file() else ([], {given: "is no regular file"})
    names = [path.relative_to(folder).as_posix() for path in found]
    photos, unusable = usable_names(names, suffixes, kind)
    failures = {path.relative_to(folder).as_posix(): reason for path, reason in broken.items()}
    if not photos:
        named = [name for name in unusable if PurePosixPath(name).suffix.lower() in suffixes]
        told = failures | {name: unusable[name] for name in named}
        also = "".join(f" {escaped(str(folder / name))} {reason}." for name, reason in told.items())
        raise SettingError(
            f"The input {given} holds no {kind}{' that can be used' if named else ''}: {len(names)} files, none "
            f"{'with a name in UTF-8 ' if named else ''}ending in {', '.join(sorted(suffixes))}.{also[:1000]}"
        )
    known = {} if table_path is None else read_photo_table(table_path, photos, further)
    failures |= unusable
    return name_items(folder, photos, results, known, failures, is_volume)


def name_items(
    folder: Path,
    names: Sequence[str],
    results: ResultFolder,
    known: Mapping[str, Mapping[str, Any]],
    failures: Mapping[str, str],
    is_volume: IsVolume,
) -> list[dict[str, Any]]:
    """Make the items of images that were found, leave out those that are done, and keep what cannot be used.

    Args:
        folder: the input folder.
        names: paths of the images, relative to it.
        results: the folder of the results.
        known: what is known of each image.
        failures: what cannot be used, and why.
        is_volume: see `list_photos`.

    Returns:
        The items, see `list_photos`.

    Raises:
        SettingError: results would lie among the inputs, or are those of another input folder.
    """
    results.bind_input(folder)
    names, unreadable = _expand(folder, names, known, is_volume)
    outputs = _output_names(names, results.outputs)
    _check_outputs(outputs.values(), results.folder.resolve(), folder.resolve())
    for name in sorted(failures):
        results.list_failure(escaped(name), "list", failures[name])
    for name, reason in unreadable.items():
        results.list_failure(name, "read", reason)
    items = [
        {
            **known.get(name, known.get(split_address(name)[0].as_posix(), {})),
            "image": str(folder / name),
            "name": name,
            "output_name": outputs[name],
        }
        for name in names
        if name not in results.done
    ]
    results.skipped = len(names) - len(items)
    _tell_pages(items)
    return items


def add_what_the_name_says(item: dict[str, Any]) -> None:
    """Add ``patient`` and ``eye`` to an item where no table says them and the file's name does (``12_left.jpg``)."""
    said = {"patient": patient_from_name(item["name"]), "eye": eye_from_name(item["name"])}
    item.update({key: value for key, value in said.items() if value is not None and key not in item})


def list_patients_photos(
    dataset_dir: str | Path,
    results: ResultFolder,
    table_path: str | Path | None = None,
    biomarkers_path: str | Path | None = None,
    biomarker_columns: Sequence[str] = (),
    clinical_columns: Mapping[str, Sequence[str] | None] | None = None,
) -> list[dict[str, Any]]:
    """List the photos of a folder that are not done yet, with what a classifier is told of them besides.

    As `list_photos`. Where the table does not say so, ``patient`` and ``eye`` are those that the file's name says, as
    in ODIR (``12_left.jpg``). What the tables that are given do not say stands in ``note``.

    Args:
        dataset_dir: a folder, or one file.
        results: the folder of the results; its finished photos are skipped.
        table_path: CSV file with what is known of each photo, the clinical columns among it, or None.
        biomarkers_path: ``results.csv`` of a bundle that measured biomarkers on the same photos, or None.
        biomarker_columns: its columns that the network takes; without any the table is not read.
        clinical_columns: further columns that the network takes: None for a number, or the texts that it may be.

    Returns:
        The items of `list_photos`, with the columns that are known.

    Raises:
        SettingError: see `list_photos` and `common.tables.join_table`.
    """
    clinical = clinical_columns or {}
    items = list_photos(dataset_dir, results, table_path, further=clinical)
    expected = list(clinical) if table_path is not None else []
    if biomarkers_path is not None and biomarker_columns:
        items = join_table(items, biomarkers_path, list(biomarker_columns), results.done)
        expected += list(biomarker_columns)
    for item in items:
        add_what_the_name_says(item)
        item["note"] = "; ".join(part for part in (item.get("note", ""), note_of_unknown(item, expected)) if part)
    return items


def note_of_unknown(item: Mapping[str, Any], expected: Sequence[str]) -> str:
    """Say which of the columns that a classifier takes are not known of an item; empty when all are."""
    unknown = [column for column in expected if item.get(column) is None]
    return f"not known: {', '.join(unknown)}" if unknown else ""


@dataclass(frozen=True)
class Failure:
    """An input that could not be used, in place of its data.

    Attributes:
        name: path relative to the input folder.
        stage: ``read`` or ``preprocess``.
        reason: why, in words.
    """

    name: str
    stage: str
    reason: str


def failure_of(name: str, stage: str, error: BaseException) -> Failure:
    """Say why an input failed: MONAI wraps errors, so the innermost, or ours inside it, is what a user has to know.

    Args:
        name: path relative to the input folder.
        stage: where it failed, unless the file could not be read.
        error: the error.

    Returns:
        The failure.

    Raises:
        SettingError: that is the innermost error: it would be the same for every input.
    """
    while error.__cause__ is not None and not isinstance(error, (SettingError, UnreadableImageError)):
        error = error.__cause__
    if isinstance(error, SettingError):
        raise error
    if isinstance(error, UnreadableImageError):
        return Failure(name, "read", error.reason)
    return Failure(name, stage, f"{type(error).__name__}: {error}")


class TolerantDataset(Dataset):
    """A MONAI data set that gives a `Failure` in place of an input that cannot be used.

    Args:
        data: items with ``name``.
        transform: the preprocessing.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable[..., Any]) -> None:
        super().__init__(data, transform)

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            return failure_of(self.data[index]["name"], "preprocess", error)


def collate_one(batch: list[Any]) -> Any:
    """Collate a batch of one item; a `Failure` is passed on as it is.

    Photos have different sizes, so whole photos go one by one.

    Args:
        batch: the items of the batch.

    Raises:
        SettingError: the batch has more than one item.
    """
    if len(batch) != 1:
        raise SettingError(f"The batch has {len(batch)} photos of different sizes: set the batch size to 1.")
    return batch[0] if isinstance(batch[0], Failure) else list_data_collate(batch)
