"""Lesions drawn in VGG Image Annotator (VIA), on photos of any source: rectangles, polygons, circles and so on.

Features:
    one CSV or JSON export of VIA (or a saved project) for a folder of photos. An item has ``regions``, the shapes as
    VIA has them, each with the name of its ``lesion``; and ``lesions``, the names of those that occur in the file,
    which counts as looked for on each of its photos. A photo without regions has none of these lesions. What lies
    outside a photo is clipped; the report beside the list names such regions. Patient: the photo's name without suffix.
    Boxes hold more than the lesion: they are weak labels. Photos that show the same eye are kept in one split.

Layout:
    the export and the photos anywhere below the root; each photo by the name that VIA knows it by. So IDRiD's ``B.
    Disease Grading/1. Original Images/a. Training Set/IDRiD_005.jpg`` with a file of one's own, ``C. Lesion boxes
    (VIA)/via_region_data.csv``, and ``--annotations 'C. Lesion boxes (VIA)/via_region_data.csv'``.

Official split:
    none.

Terms: those of the annotations and of the photos; read them where they come from.

Get it: https://www.robots.ox.ac.uk/~vgg/software/via/

Reference:
    Dutta and Zisserman, The VIA annotation software for images, audio and video, ACM Multimedia 2019.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

from common.errors import SettingError
from common.lesions import LESIONS
from common.pixels import read_pixels
from common.regions import region_box
from common.via import Region, read_via
from data_lists._alike import SAME_EYE
from data_lists._base import LESION_LABELS, DataListError, DataListWarning, Dataset, Item, Tree
from data_lists._checks import read

SPELLINGS: Mapping[str, str] = {
    "exudate": "exudate",
    "hard_exudate": "exudate",
    "haemorrhage": "haemorrhage",
    "hemorrhage": "haemorrhage",
    "microaneurysm": "microaneurysm",
    "soft_exudate": "soft_exudate",
    "cotton_wool_spot": "soft_exudate",
}
"""What values of the attribute mean when ``--values`` does not say; upper case, spaces, hyphens and a plural s too."""
_SUFFIXES = (".csv", ".json")


def find(
    tree: Tree, *, annotations: str | None = None, attribute: str = "Abnormality", values: str | None = None
) -> list[Item]:
    """Find the annotated photos.

    Args:
        tree: the dataset's folder.
        annotations: the export, relative to the root; needed where there are several CSV or JSON files.
        attribute: name of the region attribute that says what a region is.
        values: what values of the attribute mean, such as 'EX=exudate,HE=haemorrhage,drusen='; nothing after the = for
            regions to leave out. The usual English names are known.
    """
    file = annotations or _only_export(tree)
    try:
        images = read_via(tree.root / file)
    except SettingError as error:
        raise DataListError(str(error)) from error
    meanings = _meanings(values)
    found = {name: [_named(file, region, attribute, meanings) for region in images[name]] for name in images}
    occurring = {lesion for regions in found.values() for _, lesions in regions for lesion in lesions}
    lesions = [lesion for lesion in LESIONS if lesion in occurring]
    if not lesions:
        raise DataListError(f"{tree.root / file} has no region that is a lesion; see --attribute and --values")
    paths = _photos(tree, file, found)
    outside: dict[str, list[str]] = {"clipped at the edge": [], "left out: it lies outside the photo": []}
    items = []
    for name, path in paths.items():
        kept = _inside(tree, path, found[name], outside)
        present = [lesion for lesion in lesions if any(lesion in named for _, named in kept)]
        regions = [{**region.shape, "lesion": lesion} for region, named in kept for lesion in named]
        items.append(
            Item(
                {"image": path},
                patient=PurePosixPath(path).stem,
                category="+".join(present) or "none",
                values={"label_format": "regions", "lesions": lesions, "regions": regions},
            )
        )
    for what, cases in outside.items():
        if cases:
            text = f"{len(cases)} region(s) of {tree.root / file} {what}: {cases[0]}"
            warnings.warn(DataListWarning(text, cases), stacklevel=2)
    return items


def _only_export(tree: Tree) -> str:
    """The one CSV or JSON file below the root."""
    files = [path for path in tree.files() if path.lower().endswith(_SUFFIXES) and not tree.is_excluded(path)]
    if not files:
        raise tree.nothing_found("via_region_data.csv or via_export.json, and the photos that it names")
    if len(files) != 1:
        raise DataListError(
            f"{tree.root} has {len(files)} CSV and JSON files; give --annotations the export of VIA, relative to the "
            "root"
        )
    return files[0]


def _meanings(values: str | None) -> dict[str, str | None]:
    """Read ``--values``: value of the attribute to lesion, None for what is left out."""
    meanings: dict[str, str | None] = dict(SPELLINGS)
    for pair in values.split(",") if values else ():
        value, equals, lesion = (part.strip() for part in pair.partition("="))
        if not (value and equals) or (lesion and lesion not in LESIONS):
            raise DataListError(
                f"--values: {pair.strip()!r} has to be VALUE=LESION, with one of {', '.join(LESIONS)} or nothing"
            )
        meanings[value] = lesion or None
    return meanings


def _named(
    file: str, region: Region, attribute: str, meanings: Mapping[str, str | None]
) -> tuple[Region, tuple[str, ...]]:
    """Give a region with the lesions that it stands for.

    Raises:
        DataListError: it has no such attribute, or a value of unknown meaning.
    """
    values = region.values(attribute)
    if not values:
        has = ", ".join(map(repr, region.attributes)) or "none"
        raise DataListError(f"{file}, {region.where}: the region has no {attribute!r} (its attributes: {has})")
    lesions = []
    for value in values:
        usual = value.lower().replace(" ", "_").replace("-", "_")
        known = next((name for name in (value, usual, usual.removesuffix("s")) if name in meanings), None)
        if known is None:
            raise DataListError(
                f"{file}, {region.where}: {attribute} is {value!r}, which means no known lesion; say what it means "
                f"with --values '{value}=exudate', or '{value}=' to leave it out"
            )
        lesions.append(meanings[known])
    return region, tuple(lesion for lesion in lesions if lesion)


def _photos(tree: Tree, file: str, names: Collection[str]) -> dict[str, str]:
    """Find the photo of each name, except those that are to be left out.

    Raises:
        DataListError: there is none, or several, or two names are of one photo.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in tree.files():
        by_name[PurePosixPath(path).name].append(path)
    photos: dict[str, str] = {}
    for name in names:
        base = PurePosixPath(name.replace("\\", "/")).name
        paths = by_name.get(base, [])
        kept = [path for path in paths if not tree.is_excluded(path)]
        if len(kept) > 1:
            raise DataListError(
                f"{kept[0]} and {kept[1]} in {tree.root} are both called {base!r}, which {file} names; leave one out "
                f"with --exclude '{kept[1]}'"
            )
        if not paths:
            raise DataListError(f"{file} names {name!r}, but there is no such file below {tree.root}")
        if kept:
            if kept[0] in photos.values():
                raise DataListError(f"{file} names {kept[0]} twice, last as {name!r}; give the regions one name")
            photos[name] = kept[0]
    return photos


def _inside(
    tree: Tree,
    path: str,
    regions: Sequence[tuple[Region, tuple[str, ...]]],
    outside: Mapping[str, list[str]],
) -> list[tuple[Region, tuple[str, ...]]]:
    """Give the regions that reach into the photo, and note those that reach out of it."""
    if not regions:
        return []
    height, width = read(tree.root / path, read_pixels).shape[:2]
    clipped, left_out = outside.values()
    kept = []
    for region, lesions in regions:
        left, top, right, bottom = region_box(region.shape)
        case = f"{path}, {region.where}"
        if right <= 0 or bottom <= 0 or left >= width or top >= height:
            left_out.append(case)
            continue
        if left < 0 or top < 0 or right > width or bottom > height:
            clipped.append(case)
        kept.append((region, lesions))
    return kept


DATASET = Dataset(
    name="via",
    description="Lesions drawn in VGG Image Annotator (CSV or JSON export) on any photos.",
    licence="that of the annotations and photos; see where they come from",
    reference="see where the dataset comes from",
    labels=LESION_LABELS,
    find=find,
    guide=__doc__,
    masks={},
    same_patient=SAME_EYE,
)
