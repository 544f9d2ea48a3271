"""Transforms of optic disc and cup: labels of every convention, views around the disc, and clean masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from common.biomarkers import disc_cup_biomarkers, eye_from_name
from common.errors import SettingError
from common.pixels import read_pixels
from common.readers import from_picture, to_picture
from common.transforms.biomarkers import check_pixel_size

LABEL_MAPS: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "refuge": ((0, 128), (0,)),
    "rim1_cup2": ((1, 2), (2,)),
}
"""Label maps: the grey values that are disc, and those that are cup (the cup is part of the disc)."""
_BACKGROUND = {"refuge": 255, "rim1_cup2": 0}
_FORMATS = (*LABEL_MAPS, "masks", "softmaps")


def _read_grey(path: str) -> NDArray[np.uint8]:
    """The grey values of a mask; of one in colour (IDRiD's are red on black) the brightest channel."""
    pixels = read_pixels(path)
    return np.asarray(pixels.max(axis=-1)) if pixels.ndim == 3 else pixels


class LoadDiscCupd(MapTransform):
    """Load the labels of disc and cup, of any convention, as ``(2, W, H)`` of uint8: channel 0 disc, 1 cup, 0 or 255.

    The item says by ``label_format`` how its files are to be read: ``refuge`` (``label``: 255 background, 128 rim,
    0 cup), ``rim1_cup2`` (``label``: 0 background, 1 rim, 2 cup), ``masks`` (``disc`` and ``cup``, binary), or
    ``softmaps`` (``disc`` and ``cup``: the structure is where the grey value is at least ``min_value``). An item
    without ``cup`` has no annotated cup: its channel is empty, and ``annotated`` is ``(True, False)``.

    Args:
        keys: the one key under which the label is put.
        ref_key: the loaded photo ``(3, W, H)`` that the label belongs to.

    Raises:
        SettingError: when called on an item whose format is unknown or that lacks a file that the format needs, or on
            a mask that has other values than the format or another size than the photo.
        UnreadableImageError: when called on a file that cannot be read.
    """

    def __init__(self, keys: KeysCollection, ref_key: str = "image") -> None:
        super().__init__(keys)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Load and check."""
        d = dict(data)
        label_format = d.get("label_format")
        name = d.get("name", "a photo")
        if label_format not in _FORMATS:
            raise SettingError(
                f"The item of {name} has label_format {label_format!r}: give one of {', '.join(_FORMATS)} in the data "
                "list."
            )
        required = "label" if label_format in LABEL_MAPS else "disc"
        if required not in d:
            raise SettingError(f"The item of {name} has no '{required}', which '{label_format}' needs: add it.")
        photo = d[self.ref_key]
        disc: NDArray[np.bool_]
        cup: NDArray[np.bool_] | None
        if label_format in LABEL_MAPS:
            disc, cup = self._from_map(self._grey(str(d["label"]), photo), str(d["label"]), str(label_format))
        else:
            disc = self._from_file(self._grey(str(d["disc"]), photo), str(d["disc"]), d)
            cup = self._from_file(self._grey(str(d["cup"]), photo), str(d["cup"]), d) if "cup" in d else None
        channels = np.stack([disc, np.zeros_like(disc) if cup is None else cup & disc], axis=-1)
        d[self.keys[0]] = MetaTensor(torch.as_tensor(from_picture(channels.astype(np.uint8) * np.uint8(255))))
        d["annotated"] = torch.tensor([True, cup is not None])
        return d

    @staticmethod
    def _grey(path: str, photo: torch.Tensor) -> NDArray[np.uint8]:
        """Read a mask that has to have the photo's size."""
        grey = _read_grey(path)
        width, height = photo.shape[1:]
        if grey.shape != (height, width):
            raise SettingError(
                f"The mask {path} has {grey.shape[1]}x{grey.shape[0]} pixels, its photo {width}x{height}: correct the "
                "file or the data list."
            )
        return grey

    @staticmethod
    def _from_map(grey: NDArray[np.uint8], path: str, label_format: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        disc_values, cup_values = LABEL_MAPS[label_format]
        others = sorted(set(np.unique(grey).tolist()) - set(disc_values) - {_BACKGROUND[label_format]})
        if others:
            raise SettingError(
                f"The label {path} has the grey values {others[:6]}, which are not of the format '{label_format}': "
                "correct the file, or label_format in the data list."
            )
        return np.isin(grey, disc_values), np.isin(grey, cup_values)

    @staticmethod
    def _from_file(grey: NDArray[np.uint8], path: str, item: Mapping[Any, Any]) -> NDArray[np.bool_]:
        if item["label_format"] == "softmaps":
            if not isinstance(item.get("min_value"), int):
                raise SettingError(f"The item of {path} is a soft map without a whole number min_value: add it.")
            return np.asarray(grey >= item["min_value"])
        values = np.unique(grey)
        if len(values) > 2 or (len(values) == 2 and values[0] != 0):
            raise SettingError(
                f"The mask {path} is not binary: it has {len(values)} grey values ({values[:6].tolist()}). "
                "Save it with 0 for background and one other value."
            )
        return np.asarray(grey > 0)


def crop_square(image: torch.Tensor, left: int, top: int, side: int, fill: float = 0.0) -> torch.Tensor:
    """Cut a square out of an image, which may reach beyond its edges.

    Args:
        image: ``(..., W, H)``.
        left: first column, may be negative.
        top: first row, may be negative.
        side: in pixels.
        fill: value beyond the edges.

    Returns:
        ``(..., side, side)``.
    """
    width, height = image.shape[-2:]
    square = image.new_full((*image.shape[:-2], side, side), fill)
    x0, x1 = max(left, 0), min(left + side, width)
    y0, y1 = max(top, 0), min(top + side, height)
    if x0 < x1 and y0 < y1:
        square[..., x0 - left : x1 - left, y0 - top : y1 - top] = image[..., x0:x1, y0:y1]
    return square


class RandDiscViewsd(Randomizable, MapTransform):
    """Cut random square views out of a photo, some of the whole of it and some around the disc, and scale them.

    So one network learns both passes of `common.inferers.CoarseToFineInferer`, and crops around the disc.

    Args:
        keys: image and label, ``(C, W, H)`` of uint8; both become floating point, with their values kept.
        label_key: the label; its first channel is the disc.
        size: side of a view in pixels.
        num_samples: views per photo.
        whole: share of the views that show the whole photo.
        elsewhere: share of the views that lie anywhere on the photo, with the disc in them or not.
        min_side: smallest side of a view around the disc, in disc diameters.
        max_side: largest side, in disc diameters.
        shift: largest shift of the view's centre from the disc's, in disc diameters along each axis.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        size: int = 256,
        num_samples: int = 1,
        whole: float = 0.45,
        elsewhere: float = 0.1,
        min_side: float = 1.6,
        max_side: float = 4.0,
        shift: float = 0.4,
    ) -> None:
        super().__init__(keys)
        self.label_key = label_key
        self.size = size
        self.num_samples = num_samples
        self.whole = whole
        self.elsewhere = elsewhere
        self.min_side, self.max_side = min_side, max_side
        self.shift = shift
        self._square = (0, 0, size)

    def randomize(self, data: Any) -> None:
        """Draw one square (first column, first row, side) of a photo with this label."""
        width, height = data.shape[1:]
        inside = torch.nonzero(torch.as_tensor(data[0]) > 127)
        kind = self.R.random()
        if kind < self.whole or not len(inside):
            side = max(width, height) * self.R.uniform(0.9, 1.1)
            shift = self.R.uniform(-0.1, 0.1, 2) * side
            x, y = width / 2 + shift[0], height / 2 + shift[1]
        else:
            first, last = inside.min(0).values.tolist(), inside.max(0).values.tolist()
            diameter = max(last[0] - first[0], last[1] - first[1]) + 1
            side = diameter * np.exp(self.R.uniform(np.log(self.min_side), np.log(self.max_side)))
            if kind < self.whole + self.elsewhere:
                x, y = self.R.uniform(0, width), self.R.uniform(0, height)
            else:
                shift = self.R.uniform(-self.shift, self.shift, 2) * diameter
                x, y = (first[0] + last[0]) / 2 + shift[0], (first[1] + last[1]) / 2 + shift[1]
        pixels = max(2, round(side))
        self._square = (round(x - pixels / 2), round(y - pixels / 2), pixels)

    def __call__(self, data: Mapping[Any, Any]) -> list[dict[Any, Any]]:
        """Give the views."""
        views = []
        for _ in range(self.num_samples):
            self.randomize(data[self.label_key])
            view = dict(data)
            for key in self.key_iterator(view):
                cut = crop_square(torch.as_tensor(data[key]).as_subclass(torch.Tensor), *self._square)
                view[key] = MetaTensor(resize_square(cut.float()[None], self.size)[0])
            views.append(view)
        return views


def resize_square(images: torch.Tensor, size: int) -> torch.Tensor:
    """Scale square images ``(B, C, side, side)`` of floating point to a side of ``size``, smoothed where reduced."""
    return torch.nn.functional.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


_RIM_FACTOR = 2.0
"""Largest change of the neuroretinal rim's width: beyond it the stretched rim becomes streaks."""
_STILL = 1.25
"""From this radius on, as a share of the disc's, nothing is moved."""


def resized_cup(
    image: NDArray[np.float32], label: NDArray[np.float32], factor: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make the cup of a photo larger or smaller: what lies in the disc is moved towards its edge or its centre.

    The disc is taken for an ellipse with its second moments. Along every ray from its centre, ``factor`` times the
    cup's mean radius, as a share of the disc's, gets what lies at the cup's mean radius; between there, the centre and
    the disc's edge, places are interpolated by a monotone cubic (Fritsch and Butland, SIAM J. Sci. Stat. Comput. 5(2),
    1984). The edge stays, and so does what lies well outside.

    Args:
        image: ``(H, W, 3)``.
        label: ``(H, W, 2)``, disc and cup, 0 to 1.
        factor: of the cup's radius, above 0. It is brought nearer to 1 where the neuroretinal rim would get more than
            twice, or less than half, of its width.

    Returns:
        Image and label; unchanged where there is no cup, or where the disc touches the edge of the image.
    """
    disc, cup = label[..., 0] > 0.5, label[..., 1] > 0.5
    if not cup.any() or disc[[0, -1]].any() or disc[:, [0, -1]].any():
        return image, label
    rows, columns = np.nonzero(disc)
    points = np.stack([columns, rows])
    center = points.mean(axis=1)
    # A full ellipse has a covariance of a quarter of its squared half axes.
    to_circle = np.linalg.inv(np.linalg.cholesky(4 * np.cov(points) + 1e-3 * np.eye(2)))
    grid = np.stack(np.meshgrid(np.arange(disc.shape[1]), np.arange(disc.shape[0])))
    offset = grid.reshape(2, -1) - center[:, None]
    radius = np.linalg.norm(to_circle @ offset, axis=0)
    old = float(np.sqrt(cup.sum() / disc.sum()))
    new = float(np.clip(factor * old, 1 - _RIM_FACTOR * (1 - old), 1 - (1 - old) / _RIM_FACTOR))
    if not 0 < old < 1 or new <= 0:
        return image, label
    knots = (1.0, _STILL, _STILL + 0.1)
    source = PchipInterpolator([0.0, new, *knots], [0.0, old, *knots])(np.minimum(radius, _STILL))
    scale = np.where(radius < _STILL, source / np.maximum(radius, 1e-6), 1.0)
    x, y = (center[:, None] + offset * scale).reshape(2, *disc.shape).astype(np.float32)
    moved, moved_label = (
        cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for picture in (image, label)
    )
    return np.asarray(moved, dtype=np.float32), np.asarray(moved_label, dtype=np.float32)


class RandCupSized(RandomizableTransform, MapTransform):
    """Make the cup larger or smaller at random (`resized_cup`); a photo without an annotated cup stays.

    Small sets of photos have few small cups, or few large ones; a network that has seen few draws such cups too near to
    the average.

    Args:
        keys: the image ``(3, W, H)`` and its label ``(2, W, H)`` (disc, cup, 0 to 1), in this order.
        prob: probability of a change.
        factor: least and largest factor of the cup's radius; drawn evenly on a logarithmic scale.

    Raises:
        SettingError: the factors are not above 0, or in another order.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.5, factor: Sequence[float] = (0.6, 1.4)) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if len(factor) != 2 or not 0 < factor[0] <= factor[1]:
            raise SettingError(f"The factor of the cup's size is {factor!r}; give the least and the largest, above 0.")
        self.factor = tuple(factor)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Change it."""
        d = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return d
        factor = float(np.exp(self.R.uniform(np.log(self.factor[0]), np.log(self.factor[1]))))
        image_key, label_key = self.keys
        pictures = resized_cup(to_picture(d[image_key]), to_picture(d[label_key]), factor)
        for key, picture in zip(self.keys, pictures, strict=True):
            d[key] = convert_to_dst_type(from_picture(picture), d[key])[0]
        return d


class MarkUnannotatedd(MapTransform):
    """Set the channels of a label that were not annotated to -1, which loss and metrics leave out.

    Args:
        keys: the label ``(C, W, H)`` of floating point.
        annotated_key: for each channel, whether it was annotated.
    """

    def __init__(self, keys: KeysCollection, annotated_key: str = "annotated") -> None:
        super().__init__(keys)
        self.annotated_key = annotated_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            unknown = ~torch.as_tensor(d[self.annotated_key], dtype=torch.bool)
            if unknown.any():
                d[key] = torch.where(unknown[:, None, None], torch.full_like(d[key], -1.0), d[key])
        return d


def _largest_filled(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part (8-connected) with its holes filled."""
    values = np.ascontiguousarray(mask).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(values, connectivity=8)
    if count < 2:
        return np.zeros_like(mask)
    largest = (labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).view(np.uint8)
    contours, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(values)
    cv2.drawContours(filled, contours, -1, 1, thickness=cv2.FILLED)
    return filled.view(np.bool_)


def _ellipse_of(mask: NDArray[np.bool_], frame: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """The ellipse fitted to a region's outline (Fitzgibbon et al., IEEE TPAMI 1999); of a tiny region, itself.

    ``frame`` is the photo in the coordinates of the mask: first column, first row, last column, last row. The outline
    on it is where the photo cuts the region off, and takes no part.
    """
    contours, _ = cv2.findContours(np.ascontiguousarray(mask).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline: NDArray[Any] | None = max(contours, key=len, default=None)
    if outline is None:
        return mask
    points = outline[:, 0]
    outline = outline[((points > frame[:2]) & (points < frame[2:])).all(axis=1)]
    if len(outline) < 5:
        return mask
    drawn = np.zeros(mask.shape, dtype=np.uint8)
    cv2.ellipse(drawn, cv2.fitEllipseDirect(outline), 1, thickness=cv2.FILLED)
    return drawn.view(np.bool_)


def disc_cup_masks(
    probability: NDArray[np.floating], threshold: float = 0.5, ellipse: bool = False
) -> NDArray[np.bool_]:
    """Turn the probabilities of disc and cup into one region each, without holes, the cup inside the disc.

    Args:
        probability: ``(2, H, W)`` (or ``(2, W, H)``): disc, cup.
        threshold: probability from which a pixel counts.
        ellipse: whether to replace each region by the ellipse fitted to its outline, without what of it lies on the
            edge of the photo.

    Returns:
        Masks in the same shape; all False where no disc was found.
    """
    masks = np.zeros(probability.shape, dtype=bool)
    above = np.ascontiguousarray(probability[0] >= threshold)
    left, top, width, height = cv2.boundingRect(above.view(np.uint8))
    if not width:
        return masks
    # Everything happens inside the box around the disc: the rest of a large photo costs nothing.
    margin = max(width, height) // 8 + 2 if ellipse else 0
    rows = slice(max(0, top - margin), top + height + margin)
    columns = slice(max(0, left - margin), left + width + margin)
    disc = _largest_filled(above[rows, columns])
    cup = _largest_filled(np.ascontiguousarray(probability[1, rows, columns] >= threshold) & disc)
    if ellipse:
        frame = (-columns.start, -rows.start, above.shape[1] - 1 - columns.start, above.shape[0] - 1 - rows.start)
        disc = _ellipse_of(disc, frame)
        cup = _ellipse_of(cup, frame) & disc
    masks[0, rows, columns], masks[1, rows, columns] = disc, cup
    return masks


class DiscCupMasksd(MapTransform):
    """Turn the probabilities of disc and cup into clean masks (`disc_cup_masks`) of uint8, 0 and 1.

    Args:
        keys: probabilities ``(2, W, H)``.
        threshold: probability from which a pixel counts, above 0 and below 1.
        ellipse: whether to fit ellipses.
        probability_key: key under which the probabilities are kept; None for not at all.

    Raises:
        SettingError: the threshold or ``ellipse`` is not usable.
    """

    def __init__(
        self,
        keys: KeysCollection,
        threshold: float = 0.5,
        ellipse: bool = False,
        probability_key: str | None = None,
    ) -> None:
        super().__init__(keys)
        if not (isinstance(threshold, float) and 0 < threshold < 1):
            raise SettingError(f"threshold is {threshold!r}; give a probability above 0 and below 1.")
        if not isinstance(ellipse, bool):
            raise SettingError(f"ellipse_fit is {ellipse!r}; give True or False.")
        self.threshold = threshold
        self.ellipse = ellipse
        self.probability_key = probability_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            if self.probability_key is not None:
                d[self.probability_key] = d[key]
            tensor = torch.as_tensor(d[key])
            masks = disc_cup_masks(tensor.detach().cpu().numpy(), self.threshold, self.ellipse)
            found = torch.as_tensor(masks.view(np.uint8), device=tensor.device)
            d[key] = MetaTensor(found).copy_meta_from(d[key]) if isinstance(d[key], MetaTensor) else found
        return d


class DiscCupBiomarkersd(MapTransform):
    """Compute `common.biomarkers.disc_cup_biomarkers` on the masks of disc and cup ``(2, W, H)``.

    Adds ``biomarkers``: column name to value; reasons for values that could not be computed are appended to ``note``.
    The eye's side is taken from the item (``eye``), else from the file's name or path, else from the disc's place in
    the camera's circle, where there is one.

    Args:
        keys: the masks.
        fov_key: mask of the field of view, ``(1, W, H)``.
        pixel_size: micrometres per pixel of photos whose item has no ``pixel_size``, or None when it is not known.

    Raises:
        SettingError: the pixel size is no positive number.
    """

    def __init__(self, keys: KeysCollection, fov_key: str = "fov", pixel_size: float | None = None) -> None:
        super().__init__(keys)
        check_pixel_size(pixel_size)
        self.fov_key = fov_key
        self.pixel_size = pixel_size

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Compute them for every key."""
        d = dict(data)
        view = to_picture(d[self.fov_key]) > 0
        # Without a circle the field of view is the whole frame, and the disc's place in it tells nothing.
        circle = None if view.all() else view
        for key in self.key_iterator(d):
            disc, cup = (to_picture(d[key][channel : channel + 1]) > 0 for channel in range(2))
            eye = d.get("eye") or eye_from_name(str(d.get("name", "")))
            found = disc_cup_biomarkers(disc, cup, circle, eye=eye, pixel_size=d.get("pixel_size", self.pixel_size))
            d["biomarkers"] = {**d.get("biomarkers", {}), **found.values}
            d["note"] = "; ".join(part for part in (str(d.get("note", "")), *found.notes) if part)
        return d
