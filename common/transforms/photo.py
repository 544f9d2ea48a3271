"""Transforms of a fundus photo's colours, and the loading of photos and masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor
from monai.data.image_reader import ImageReader
from monai.transforms import LoadImaged, MapTransform, RandomizableTransform, Transform
from numpy.typing import NDArray

from common.errors import SettingError
from common.readers import FundusReader, MaskReader, from_picture, to_picture


class _LoadPictured(LoadImaged):
    """`LoadImaged` with one reader and no fallback: MONAI's default readers would hide why a file cannot be read."""

    def __init__(self, keys: KeysCollection, reader: ImageReader, allow_missing_keys: bool = False) -> None:
        dtype: DtypeLike = np.uint8
        super().__init__(keys, dtype=dtype, ensure_channel_first=True, allow_missing_keys=allow_missing_keys)
        self._loader.readers = [reader]


class LoadPhotod(_LoadPictured):
    """Load fundus photos as ``(3, W, H)`` uint8 with `common.readers.FundusReader`.

    Args:
        keys: keys whose values are paths.
        min_side: shortest side in pixels that is accepted.
        max_aspect: largest ratio of the longer to the shorter side that is accepted.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        UnreadableImageError: when called on a file that cannot be used.
    """

    def __init__(
        self, keys: KeysCollection, min_side: int = 32, max_aspect: float = 4.0, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, FundusReader(min_side, max_aspect), allow_missing_keys)


class LoadMaskd(_LoadPictured):
    """Load binary masks as ``(1, W, H)`` uint8 of 0 and 1, and check them against the photo.

    Args:
        keys: keys whose values are paths.
        ref_key: the loaded photo ``(3, W, H)`` that the mask belongs to.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        SettingError: when called on a mask that has another size than the photo or more than two values.
        UnreadableImageError: when called on a file that cannot be used.
    """

    def __init__(self, keys: KeysCollection, ref_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, MaskReader(), allow_missing_keys)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Any, Any], reader: ImageReader | None = None) -> dict[Any, Any]:
        """Load, check and bring to 0 and 1."""
        paths = {key: data[key] for key in self.key_iterator(dict(data))}
        d: dict[Any, Any] = super().__call__(data, reader)
        for key, path in paths.items():
            mask = d[key]
            if mask.shape[1:] != d[self.ref_key].shape[1:]:
                raise SettingError(
                    f"The mask {path} has {mask.shape[1]}x{mask.shape[2]} pixels, its photo "
                    f"{d[self.ref_key].shape[1]}x{d[self.ref_key].shape[2]}: correct the file or the data list."
                )
            values = torch.unique(mask.as_tensor()).tolist()
            if len(values) > 2 or (len(values) == 2 and values[0] != 0):
                raise SettingError(
                    f"The mask {path} is not binary: it has {len(values)} grey values ({values[:6]}). "
                    "Save it with 0 for background and one other value."
                )
            d[key] = (mask > 0).to(torch.uint8)
        return d


class ThresholdProbabilityd(MapTransform):
    """Turn probabilities into masks of uint8: 1 from the threshold on.

    Args:
        keys: keys of the probabilities, of any shape.
        threshold: above 0 and below 1.
        probability_key: key under which the probabilities are kept; None for not at all.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        SettingError: the threshold is no such number.
    """

    def __init__(
        self,
        keys: KeysCollection,
        threshold: float = 0.5,
        probability_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if not (isinstance(threshold, float) and 0 < threshold < 1):
            raise SettingError(f"threshold is {threshold!r}; give a probability above 0 and below 1.")
        self.threshold = threshold
        self.probability_key = probability_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            if self.probability_key is not None:
                d[self.probability_key] = d[key]
            d[key] = (d[key] >= self.threshold).to(torch.uint8)
        return d


def lab_clahe(photo: NDArray[np.uint8], clip_limit: float = 2.0, tiles: int = 8) -> NDArray[np.uint8]:
    """Contrast-limited adaptive histogram equalisation of the lightness, with the colours kept.

    The photo is taken to CIELAB, OpenCV's CLAHE is applied to L, and it is taken back (Zuiderveld, Graphics Gems IV,
    1994).

    Args:
        photo: RGB ``(H, W, 3)``, uint8.
        clip_limit: contrast limit, relative to a flat histogram.
        tiles: number of tiles along each side.

    Returns:
        RGB ``(H, W, 3)``, uint8.
    """
    lab = cv2.cvtColor(np.ascontiguousarray(photo), cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(np.ascontiguousarray(lab[..., 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), dtype=np.uint8)


class LabClahe(Transform):
    """Array twin of `LabClahed`: CLAHE in LAB (`lab_clahe`) on a photo ``(3, W, H)`` of uint8.

    Args:
        clip_limit: contrast limit, relative to a flat histogram.
        tiles: number of tiles along each side.
    """

    def __init__(self, clip_limit: float = 2.0, tiles: int = 8) -> None:
        self.clip_limit = clip_limit
        self.tiles = tiles

    def __call__(self, image: Any) -> torch.Tensor:
        """Give the photo with equalised lightness; the metadata are kept."""
        photo = to_picture(image)
        if photo.dtype != np.uint8:
            raise ValueError(f"CLAHE works on a photo of uint8, not {photo.dtype}: put it before the scaling.")
        result = torch.as_tensor(from_picture(lab_clahe(photo, self.clip_limit, self.tiles)))
        return MetaTensor(result).copy_meta_from(image) if isinstance(image, MetaTensor) else result


class LabClahed(MapTransform):
    """CLAHE in LAB (`lab_clahe`) on photos ``(3, W, H)`` of uint8.

    Args:
        keys: keys of the photos.
        clip_limit: contrast limit, relative to a flat histogram.
        tiles: number of tiles along each side.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, clip_limit: float = 2.0, tiles: int = 8, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.clahe = LabClahe(clip_limit, tiles)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.clahe(d[key])
        return d


_RGB_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def turn_hue(image: torch.Tensor, angle: float, saturation: float = 1.0) -> torch.Tensor:
    """Turn the hue of an RGB image and scale its saturation, in the YIQ colour space; the luma is kept.

    Args:
        image: ``(3, ...)``, floating point.
        angle: in radians.
        saturation: factor.

    Returns:
        The image in its own shape, not clipped.
    """
    cosine, sine = saturation * float(np.cos(angle)), saturation * float(np.sin(angle))
    turn = torch.tensor([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    matrix = (torch.linalg.inv(_RGB_TO_YIQ) @ turn @ _RGB_TO_YIQ).to(image)
    return torch.einsum("ij,j...->i...", matrix, image)


class RandHued(RandomizableTransform, MapTransform):
    """Turn the hue and scale the saturation of RGB photos at random (`turn_hue`); MONAI has no such transform.

    Args:
        keys: keys of the photos ``(3, W, H)``, floating point.
        prob: probability.
        max_angle: largest turn either way, in degrees.
        max_saturation: largest relative change of saturation either way.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.5,
        max_angle: float = 15.0,
        max_saturation: float = 0.3,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.max_angle = max_angle
        self.max_saturation = max_saturation

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Draw once, apply to every key."""
        d = dict(data)
        self.randomize(None)
        angle = np.deg2rad(self.R.uniform(-self.max_angle, self.max_angle))
        saturation = self.R.uniform(1 - self.max_saturation, 1 + self.max_saturation)
        if self._do_transform:
            for key in self.key_iterator(d):
                d[key] = turn_hue(d[key], float(angle), float(saturation))
        return d
