"""Annotations of VGG Image Annotator (VIA): reading and writing its CSV and JSON exports.

Dutta and Zisserman, The VIA annotation software for images, audio and video, ACM Multimedia 2019.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import SettingError, UnreadableImageError
from common.pixels import read_pixels
from common.regions import check_region, mask_to_polygons
from common.results import RESULTS
from common.tables import read_table

COLUMNS = (
    "filename",
    "file_size",
    "file_attributes",
    "region_count",
    "region_id",
    "region_shape_attributes",
    "region_attributes",
)
"""The columns of a CSV export of VIA 2; VIA 1 calls the first ``#filename``."""
_METADATA, _SETTINGS = "_via_img_metadata", "_via_settings"


@dataclass(frozen=True)
class Region:
    """One region of an image.

    Attributes:
        shape: VIA's shape attributes, which `common.regions.check_region` accepts.
        attributes: VIA's region attributes: name to text, or to the options that were ticked.
        where: where it stands in the file, for messages.
    """

    shape: Mapping[str, Any]
    attributes: Mapping[str, Any]
    where: str

    def values(self, attribute: str) -> tuple[str, ...]:
        """Give the values of an attribute: one, or those ticked in a checkbox; none where it is missing or empty."""
        value = self.attributes.get(attribute)
        if isinstance(value, Mapping):
            return tuple(str(name) for name, ticked in value.items() if ticked)
        return () if value is None or not str(value).strip() else (str(value).strip(),)


def read_via(path: str | Path) -> dict[str, list[Region]]:
    """Read the regions of every image of a VIA export: CSV, JSON, or a saved project (JSON).

    Args:
        path: the file; a project or an export of JSON begins with ``{``, whatever its name.

    Returns:
        The regions by the name of the image, also of an image without any; in the order of the file.

    Raises:
        SettingError: the file cannot be read, is no such export, has two photos of one name, or a row or a region is
            malformed; the text names its line, or in JSON the image and the number of the region.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingError(f"The annotations {path} cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"The annotations {path} are no text in UTF-8: export them from VIA again.") from error
    entries = _read_json(path, text) if text.lstrip().startswith("{") else _read_csv(path, text)
    images: dict[str, list[Region]] = {}
    sizes: dict[str, str] = {}
    for name, size, region in entries:
        if sizes.setdefault(name, size) != size:
            reason = f"there are two photos of this name, of {sizes[name]} and of {size} bytes; give them two names"
            raise _wrong(path, f"image {name!r}", reason)
        images.setdefault(name, []).extend([] if region is None else [region])
    if not images:
        raise SettingError(f"The annotations {path} name no image: export them from VIA again.")
    return images


def _wrong(path: Path, where: str, reason: str) -> SettingError:
    return SettingError(f"The annotations {path}, {where}: {reason}. Correct it, or export the file from VIA again.")


def _rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Give the number of the first line and the cells of each row of a CSV file that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise _wrong(path, f"line {line}", f"it is no row of CSV ({error})") from error
        if row is None:
            return
        if any(cell.strip() for cell in row):
            yield line, row
        line = reader.line_num + 1


def _read_csv(path: Path, text: str) -> Iterator[tuple[str, str, Region | None]]:
    """Give name, size in bytes and region of each row."""
    rows = _rows(path, text)
    line, header = next(rows, (1, []))
    names = [name.strip().removeprefix("#") for name in header]
    for column in COLUMNS:
        if names.count(column) != 1:
            raise _wrong(path, f"line {line}", f"the header has the column {column!r} {names.count(column)} times")
    places = {column: names.index(column) for column in COLUMNS}
    for line, row in rows:
        where = f"line {line}"
        if len(row) != len(names):
            raise _wrong(path, where, f"it has {len(row)} cells, the header {len(names)}")
        cells = {column: row[place].strip() for column, place in places.items()}
        if not cells["filename"]:
            raise _wrong(path, where, "it names no image")
        shape = _parse_cell(path, where, "region_shape_attributes", cells["region_shape_attributes"])
        attributes = _parse_cell(path, where, "region_attributes", cells["region_attributes"])
        if not shape and cells["region_count"] != "0":
            raise _wrong(path, where, f"it has no shape, although region_count is {cells['region_count']!r}")
        region = _region(path, where, shape, attributes) if shape else None
        yield cells["filename"], cells["file_size"], region


def _parse_cell(path: Path, where: str, column: str, cell: str) -> Mapping[str, Any]:
    try:
        content = json.loads(cell or "{}")
    except (ValueError, RecursionError) as error:
        raise _wrong(path, where, f"{column} is no JSON ({error})") from error
    return _mapping(path, where, column, content)


def _mapping(path: Path, where: str, what: str, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, Mapping):
        raise _wrong(path, where, f"{what} is {json.dumps(content)[:80]}, no object with names and values")
    return content


def _region(path: Path, where: str, shape: Mapping[str, Any], attributes: Mapping[str, Any]) -> Region:
    try:
        check_region(shape)
    except ValueError as error:
        raise _wrong(path, where, str(error)) from error
    return Region(shape, attributes, where)


def _read_json(path: Path, text: str) -> Iterator[tuple[str, str, Region | None]]:
    """Give name, size in bytes and region of each region, and None for the region of an image without any."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise _wrong(path, f"line {error.lineno}", f"it is no JSON ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise _wrong(path, "the whole of it", f"it is no JSON that can be read ({error})") from error
    if _SETTINGS in content or _METADATA in content:
        content = _mapping(path, "the project", _METADATA, content.get(_METADATA))
    for key, entry in content.items():
        where = f"image {key!r}"
        image = _mapping(path, where, "the entry", entry)
        name, size, regions = image.get("filename"), str(image.get("size", "")), image.get("regions", [])
        if not isinstance(name, str) or not name.strip():
            raise _wrong(path, where, "it has no filename")
        if isinstance(regions, Mapping):  # VIA 1 numbers them
            regions = list(regions.values())
        if not isinstance(regions, list):
            raise _wrong(path, where, "its regions are no list")
        if not regions:
            yield name.strip(), size, None
        for number, region in enumerate(regions):
            place = f"{where}, region {number}"
            parts = _mapping(path, place, "the region", region)
            shape = _mapping(path, place, "shape_attributes", parts.get("shape_attributes"))
            attributes = _mapping(path, place, "region_attributes", parts.get("region_attributes") or {})
            yield name.strip(), size, _region(path, place, shape, attributes)


def via_csv(images: Iterable[tuple[str, int, Sequence[tuple[Mapping[str, Any], str]]]], attribute: str) -> str:
    """Write regions as a CSV export of VIA 2, which VIA imports by "Annotation", "Import annotations (from csv)".

    Args:
        images: for each image its name and size in bytes, by which VIA knows it, and its regions: the shape attributes
            and the value of the attribute.
        attribute: name of the region attribute that holds the value.

    Returns:
        The content of the file.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for name, size, regions in images:
        if not regions:
            table.writerow((name, size, "{}", 0, 0, "{}", "{}"))
        for number, (shape, value) in enumerate(regions):
            cells = (json.dumps(part, separators=(",", ":")) for part in (dict(shape), {attribute: value}))
            table.writerow((name, size, "{}", len(regions), number, *cells))
    return text.getvalue()


def masks_to_via(
    results: str | Path, photos: str | Path, output: str | Path, attribute: str = "Abnormality", least_area: int = 1
) -> int:
    """Write the masks of a run of inference as polygons for VIA, so that a person can correct them there.

    `read_via` and the list ``via`` read what VIA then exports. Each connected region of a mask is a polygon (more than
    one where it has holes, which a polygon cannot have), whose attribute is the name of the mask.

    Args:
        results: the output folder of the run, with ``results.csv``.
        photos: the folder of its photos; VIA knows a photo by its name and its size in bytes.
        output: the CSV file to write.
        attribute: name of the region attribute.
        least_area: smaller regions are left out, in pixels.

    Returns:
        Number of regions.

    Raises:
        SettingError: the table, a mask or a photo is missing or cannot be read, the table has no masks, two photos of
            different folders have one name, or the output cannot be written.
    """
    if not (isinstance(least_area, int) and least_area >= 1):
        raise SettingError(f"least_area is {least_area!r}; give a whole number of pixels from 1 on.")
    results, photos, output = Path(results), Path(photos), Path(output)
    rows = read_table(results / RESULTS, "The table of results")
    names = rows[0] if rows else {}
    columns = [column for column in names if column.startswith("mask_")]
    if "image" not in names or not columns:
        raise SettingError(
            f"The table {results / RESULTS} has no rows, no column image, or no column mask_...: run inference first."
        )
    images: dict[str, tuple[str, int, list[tuple[Mapping[str, Any], str]]]] = {}
    for row in rows:
        photo = photos / row["image"]
        try:
            size = photo.stat().st_size
        except OSError as error:
            raise SettingError(f"The photo {photo} cannot be read ({error.strerror}): give its folder.") from error
        if photo.name in images:
            raise SettingError(
                f"Two photos are called {photo.name}, and VIA has no folders to tell them apart: give them two names."
            )
        regions: list[tuple[Mapping[str, Any], str]] = [
            (shape, column.removeprefix("mask_"))
            for column in columns
            for shape in mask_to_polygons(_mask(results / row[column]), least_area)
        ]
        images[photo.name] = (photo.name, size, regions)
    text = via_csv(images.values(), attribute)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SettingError(f"The file {output} cannot be written ({error.strerror}).") from error
    return sum(len(regions) for _, _, regions in images.values())


def _mask(path: Path) -> NDArray[np.uint8]:
    try:
        return read_pixels(path)
    except UnreadableImageError as error:
        raise SettingError(f"The mask {error}: run inference again with --overwrite True.") from error
