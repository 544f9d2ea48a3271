"""Transforms of lesions: labels of every kind, as the channels that a network is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from common.biomarkers import lesion_biomarkers
from common.errors import SettingError
from common.lesions import check_lesions
from common.pixels import read_pixels
from common.readers import from_picture, to_picture
from common.regions import check_region, draw_region
from common.transforms.biomarkers import check_pixel_size

_FORMATS = ("masks", "regions", "map")
_LANDMARKS = ("fovea", "disc")
NOT_ANNOTATED = -1.0


def _read_grey(path: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a mask that has to have the photo's size (width, height); of one in colour the brightest channel."""
    pixels = read_pixels(path)
    grey = np.asarray(pixels.max(axis=-1)) if pixels.ndim == 3 else pixels
    if grey.shape != size[::-1]:
        raise SettingError(
            f"The mask {path} has {grey.shape[1]}x{grey.shape[0]} pixels, its photo {size[0]}x{size[1]}: correct the "
            "file or the data list."
        )
    return grey


class LoadLesionsd(MapTransform):
    """Load the lesions of a photo as ``(1 + lesions, W, H)`` of float32: the background, then a channel each, 0 or 1.

    Lesions may overlap; the background is what is in none of them. The item says by ``label_format`` how they were
    annotated, and by ``lesions`` which of them were looked for:

    - ``masks``: a binary mask under the name of each lesion, but for those that ``absent`` names, which the photo has
      not.
    - ``regions``: the list ``regions`` of shapes (`common.regions`), each with its ``lesion``.
    - ``map``: ``label`` is a label map, 0 for background and n for the n-th of this transform's lesions; an item needs
      no ``lesions``.

    The channel of a lesion that was not looked for is -1 everywhere.

    Args:
        keys: the one key under which the label is put.
        lesions: names of the lesions, in the order of the channels.
        ref_key: the loaded photo ``(3, W, H)`` that the label belongs to.

    Raises:
        SettingError: the names are wrong; or, when called, the item's format is unknown, it lacks what the format
            needs, or a mask has other values or another size than the photo.
        UnreadableImageError: when called on a file that cannot be read.
    """

    def __init__(self, keys: KeysCollection, lesions: Sequence[str], ref_key: str = "image") -> None:
        super().__init__(keys)
        self.lesions = check_lesions(lesions)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Load and check."""
        d = dict(data)
        width, height = (int(side) for side in d[self.ref_key].shape[1:])
        label_format = d.get("label_format")
        if label_format == "map":
            masks = self._from_map(d, (width, height))
        elif label_format == "masks":
            masks = self._from_masks(d, (width, height))
        elif label_format == "regions":
            masks = self._from_regions(d, (width, height))
        else:
            raise SettingError(
                f"The item of {d.get('name', 'a photo')} has label_format {label_format!r}: give one of "
                f"{', '.join(_FORMATS)} in the data list."
            )
        channels = np.full((height, width, 1 + len(self.lesions)), NOT_ANNOTATED, dtype=np.float32)
        channels[..., 0] = ~np.any([np.zeros((height, width), bool), *masks.values()], axis=0)
        for channel, lesion in enumerate(self.lesions, start=1):
            if lesion in masks:
                channels[..., channel] = masks[lesion]
        d[self.keys[0]] = MetaTensor(torch.as_tensor(from_picture(channels)))
        return d

    def _from_map(self, item: Mapping[Any, Any], size: tuple[int, int]) -> dict[str, NDArray[np.bool_]]:
        if "label" not in item:
            raise SettingError(f"The item of {item.get('name', 'a photo')} has no 'label', which 'map' needs: add it.")
        grey = _read_grey(str(item["label"]), size)
        if grey.max(initial=0) > len(self.lesions):
            raise SettingError(
                f"The label {item['label']} has the grey value {grey.max()}; a label map has 0 for background and "
                f"1 to {len(self.lesions)} for {', '.join(self.lesions)}."
            )
        return {lesion: grey == value for value, lesion in enumerate(self.lesions, start=1)}

    def _from_masks(self, item: Mapping[Any, Any], size: tuple[int, int]) -> dict[str, NDArray[np.bool_]]:
        masks = {}
        for lesion in self._annotated(item):
            if lesion in item:
                masks[lesion] = _read_binary(str(item[lesion]), size)
            elif lesion in item.get("absent", ()):
                masks[lesion] = np.zeros(size[::-1], dtype=bool)
            else:
                raise SettingError(
                    f"The item of {item.get('name', 'a photo')} has no '{lesion}', which its 'lesions' name: add the "
                    "mask to the data list, or the name to 'absent' if the photo has none."
                )
        return masks

    def _from_regions(self, item: Mapping[Any, Any], size: tuple[int, int]) -> dict[str, NDArray[np.bool_]]:
        masks = {lesion: np.zeros(size[::-1], dtype=np.uint8) for lesion in self._annotated(item)}
        for number, region in enumerate(item.get("regions", ())):
            try:
                check_region(region)
            except ValueError as error:
                raise SettingError(
                    f"Region {number} of {item.get('name', 'a photo')} cannot be drawn ({error}): correct the data "
                    "list."
                ) from error
            if region.get("lesion") in masks:
                draw_region(masks[region["lesion"]], region)
        return {lesion: mask > 0 for lesion, mask in masks.items()}

    def _annotated(self, item: Mapping[Any, Any]) -> list[str]:
        """The lesions that were looked for, out of this transform's."""
        names = item.get("lesions")
        if not isinstance(names, Sequence) or isinstance(names, str):
            raise SettingError(
                f"The item of {item.get('name', 'a photo')} does not say which lesions were looked for: add 'lesions', "
                "a list of names, to the data list."
            )
        return [lesion for lesion in self.lesions if lesion in names]


def _read_binary(path: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    grey = _read_grey(path, size)
    values = np.unique(grey)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0):
        raise SettingError(
            f"The mask {path} is not binary: it has {len(values)} grey values ({values[:6].tolist()}). "
            "Save it with 0 for background and one other value."
        )
    return np.asarray(grey > 0)


class WithoutBackgroundd(MapTransform):
    """Drop the first channel, the background, of ``(1 + classes, W, H)``.

    Args:
        keys: keys of masks or probabilities.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = d[key][1:]
        return d


class LesionBiomarkersd(MapTransform):
    """Compute `common.biomarkers.lesion_biomarkers` on the masks of lesions ``(lesions, W, H)``.

    Adds ``biomarkers``: column name to value; reasons for values that could not be computed are appended to ``note``.
    Where an item says where the fovea or the optic disc is (``fovea_x`` and ``fovea_y``, ``disc_x`` and ``disc_y``, in
    pixels), the distances to it are among them.

    Args:
        keys: the masks.
        lesions: names of their channels.
        fov_key: mask of the field of view, ``(1, W, H)``.
        pixel_size: micrometres per pixel of photos whose item has no ``pixel_size``, or None when it is not known.

    Raises:
        SettingError: the names are wrong, or the pixel size is no positive number; or, when called, an item has one
            coordinate of a landmark without the other.
    """

    def __init__(
        self, keys: KeysCollection, lesions: Sequence[str], fov_key: str = "fov", pixel_size: float | None = None
    ) -> None:
        super().__init__(keys)
        check_pixel_size(pixel_size)
        self.lesions = check_lesions(lesions)
        self.fov_key = fov_key
        self.pixel_size = pixel_size

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Compute them for every key."""
        d = dict(data)
        field_of_view = to_picture(d[self.fov_key]) > 0
        landmarks = {name: place for name in _LANDMARKS if (place := _place(d, name)) is not None}
        pixel_size = d.get("pixel_size", self.pixel_size)
        for key in self.key_iterator(d):
            masks = {lesion: to_picture(d[key][[channel]]) > 0 for channel, lesion in enumerate(self.lesions)}
            found = lesion_biomarkers(masks, field_of_view, landmarks=landmarks, pixel_size=pixel_size)
            d["biomarkers"] = {**d.get("biomarkers", {}), **found.values}
            d["note"] = "; ".join(part for part in (str(d.get("note", "")), *found.notes) if part)
        return d


def _place(item: Mapping[Any, Any], landmark: str) -> tuple[float, float] | None:
    """Row and column of a landmark; None where it is not known."""
    x, y = (item.get(f"{landmark}_{axis}") for axis in "xy")
    if x is None and y is None:
        return None
    if x is None or y is None:
        raise SettingError(
            f"The table gives one of {landmark}_x and {landmark}_y without the other: give both columns, or none."
        )
    return float(y), float(x)
