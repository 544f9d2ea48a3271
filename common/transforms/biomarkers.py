"""Dictionary transforms that compute biomarkers from masks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from common.biomarkers.vessels import vessel_biomarkers
from common.errors import SettingError
from common.readers import to_picture


def check_pixel_size(pixel_size: float | None, name: str = "pixel_size") -> None:
    """Refuse what cannot be the micrometres of one pixel.

    Args:
        pixel_size: the value.
        name: id of the setting.

    Raises:
        SettingError: it is neither None nor a positive, finite number.
    """
    if pixel_size is None:
        return
    is_number = isinstance(pixel_size, int | float) and not isinstance(pixel_size, bool)
    if not (is_number and 0 < pixel_size < math.inf):
        raise SettingError(f"{name} is {pixel_size!r}; give the micrometres of one pixel, or None.")


class VesselBiomarkersd(MapTransform):
    """Compute `common.biomarkers.vessels.vessel_biomarkers` on vessel masks ``(1, W, H)``.

    Adds ``biomarkers``: column name to value; reasons for values that could not be computed are appended to ``note``.

    Args:
        keys: the mask.
        fov_key: mask of the field of view, ``(1, W, H)``.
        pixel_size: micrometres per pixel of photos whose item has no ``pixel_size``, or None when it is not known.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        SettingError: the pixel size is no positive number.
    """

    def __init__(
        self,
        keys: KeysCollection,
        fov_key: str = "fov",
        pixel_size: float | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        check_pixel_size(pixel_size)
        self.fov_key = fov_key
        self.pixel_size = pixel_size

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Compute them for every key."""
        d = dict(data)
        field_of_view = to_picture(d[self.fov_key]) > 0
        for key in self.key_iterator(d):
            pixel_size = d.get("pixel_size", self.pixel_size)
            found = vessel_biomarkers(to_picture(d[key]) > 0, field_of_view, pixel_size=pixel_size)
            d["biomarkers"] = {**d.get("biomarkers", {}), **found.values}
            d["note"] = "; ".join(part for part in (str(d.get("note", "")), *found.notes) if part)
        return d
