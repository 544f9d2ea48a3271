"""Transforms of OCT B-scans: reading, white borders, the network's canvas, speckle, and layers in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import (
    InvertibleTransform,
    MapTransform,
    RandomizableTransform,
    Resize,
    Transform,
)
from monai.utils import convert_to_dst_type
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from common.biomarkers.layers import (
    LAYERS,
    UNANNOTATED,
    boundaries_to_labels,
    hide_cut_boundaries,
    layer_biomarkers,
    ordered_boundaries,
)
from common.errors import SettingError
from common.readers import BScanReader, from_picture, to_picture
from common.scans import VOLUME_SUFFIX, read_boundaries, read_fluid, read_scan, split_address
from common.transforms.biomarkers import check_pixel_size
from common.transforms.photo import _LoadPictured

_WHITE = 245
_SPECKLED, _FLAT = 235, 0.98
_UNIFORM = 0.05
_BORDER_RUN = 32
_OPENING = 11
_RINGING = 2
_SMOOTH = 4.0


class LoadBScand(_LoadPictured):
    """Load OCT B-scans as ``(1, W, H)`` uint8 with `common.readers.BScanReader`.

    Args:
        keys: keys whose values are paths or addresses (``file.mat#03``).
        min_side: shortest side in pixels that is accepted.
        max_aspect: largest ratio of the longer to the shorter side that is accepted.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        UnreadableImageError: when called on a file that cannot be used.
    """

    def __init__(
        self, keys: KeysCollection, min_side: int = 32, max_aspect: float = 8.0, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, BScanReader(min_side, max_aspect), allow_missing_keys)


class LoadLayersd(MapTransform):
    """Load label maps of layers as ``(1, W, H)`` of uint8, by the rule of `boundaries_to_labels`.

    A path is that of a picture with the labels 0 (background), 1 to 7 (`LAYERS`) and 255 (not annotated), or the
    address of a B-scan in a ``.mat`` file with boundaries. A column of a picture that has no layer was not annotated:
    all of it becomes 255.

    Args:
        keys: keys whose values are paths or addresses.
        variables: for each key, the variable of a ``.mat`` file that has its boundaries.
        ref_key: the loaded B-scan ``(1, W, H)`` that the labels belong to.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        SettingError: there are not as many variables as keys; or, when called, a label map has another size than its
            B-scan or other values.
        UnreadableImageError: when called on a file that cannot be used.
    """

    def __init__(
        self,
        keys: KeysCollection,
        variables: Sequence[str] | str = ("manualLayers1", "manualLayers2"),
        ref_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        given = (variables,) if isinstance(variables, str) else tuple(variables)
        if len(given) < len(self.keys):
            raise SettingError(f"variables is {given} for the keys {self.keys}: give one for each key.")
        self.variables = given[: len(self.keys)]
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Load and check."""
        d = dict(data)
        for key, variable in self.key_iterator(d, self.variables):
            labels = self._read(str(d[key]), variable, d[self.ref_key].shape[2])
            _check_size(str(d[key]), labels, d[self.ref_key])
            d[key] = MetaTensor(torch.as_tensor(from_picture(labels)))
        return d

    @staticmethod
    def _read(path: str, variable: str, height: int) -> NDArray[np.uint8]:
        if split_address(path)[0].suffix.lower() == VOLUME_SUFFIX:
            return boundaries_to_labels(read_boundaries(path, variable), height)
        labels = read_scan(path)
        others = sorted(set(np.unique(labels).tolist()) - {*range(len(LAYERS) + 1), UNANNOTATED})
        if others:
            raise SettingError(
                f"The mask {path} has the grey values {others[:6]}: a label map has 0 for background, 1 to "
                f"{len(LAYERS)} for the layers and {UNANNOTATED} for what is not annotated."
            )
        drawn = ((labels > 0) & (labels <= len(LAYERS))).any(axis=0)
        return np.where(drawn, labels, np.uint8(UNANNOTATED))


class LoadFluidd(MapTransform):
    """Load the fluid that a grader drew as a mask ``(1, W, H)`` of uint8, 0 or 1 (`common.scans.read_fluid`).

    Args:
        keys: keys whose values are paths or addresses.
        ref_key: the loaded B-scan ``(1, W, H)`` that the mask belongs to.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        SettingError: when called on a mask of another size than its B-scan.
        UnreadableImageError: when called on a file that cannot be used.
    """

    def __init__(self, keys: KeysCollection, ref_key: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Load and check."""
        d = dict(data)
        for key in self.key_iterator(d):
            fluid = read_fluid(str(d[key]))
            _check_size(str(d[key]), fluid, d[self.ref_key])
            d[key] = MetaTensor(torch.as_tensor(from_picture(fluid.astype(np.uint8))))
        return d


def _check_size(path: str, mask: NDArray[Any], scan: torch.Tensor) -> None:
    """Raise a `SettingError` where a mask ``(H, W)`` is not as large as its B-scan ``(1, W, H)``."""
    width, height = scan.shape[1:]
    if mask.shape != (height, width):
        raise SettingError(
            f"The mask {path} has {mask.shape[1]}x{mask.shape[0]} pixels, its photo {width}x{height}: "
            "correct the file or the data list."
        )


def find_white_border(scan: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the regions that a scanner or a program adds around a B-scan, which show nothing.

    - White (at least 245 after a median over 5 pixels) and connected to an edge of the picture along at least 32
      pixels, or a whole side: layers that are cut off by the edge and are white there are thinner, and have speckle, of
      which a border has none (98% of it is at least 235). Thin white parts are not followed into the retina. The pixels
      within 2 of such a region belong to it: lossy files, such as JPEG, have grey values that ring there.
    - Columns at the left and right end that are of one grey value, of whatever brightness, from the top to the bottom
      (within a twentieth of the range of the picture).

    Args:
        scan: ``(H, W)`` uint8.

    Returns:
        ``(H, W)`` of bool.
    """
    border = np.zeros(scan.shape, dtype=bool)
    uniform = np.ptp(scan, axis=0) <= _UNIFORM * np.ptp(scan)
    if not uniform.all():
        border[:, np.logical_and.accumulate(uniform) | np.logical_and.accumulate(uniform[::-1])[::-1]] = True
    white = (cv2.medianBlur(np.ascontiguousarray(scan), 5) >= _WHITE).astype(np.uint8)
    kernel = np.ones((_OPENING, _OPENING), np.uint8)
    # The frame of ones keeps the opening from eating what touches the edge.
    framed = cv2.copyMakeBorder(white, _OPENING, _OPENING, _OPENING, _OPENING, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(framed, cv2.MORPH_OPEN, kernel)[_OPENING:-_OPENING, _OPENING:-_OPENING]
    count, components = cv2.connectedComponents(opened, connectivity=8)
    found = np.zeros(scan.shape, dtype=np.uint8)
    edges = (components[0], components[-1], components[:, 0], components[:, -1])
    for label in range(1, count):
        longest = max(_longest_run(edge == label) / min(_BORDER_RUN, edge.size) for edge in edges)
        region = components == label
        if longest >= 1 and (scan[region] >= _SPECKLED).mean() >= _FLAT:
            found[region] = 1
    return border | (cv2.dilate(found, np.ones((2 * _RINGING + 1, 2 * _RINGING + 1), np.uint8)) > 0)


def _longest_run(flags: NDArray[np.bool_]) -> int:
    """Length of the longest run of true values."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int(np.max(changes[1::2] - changes[::2], initial=0))


class NormalizeBScan(Transform):
    """Subtract the mean of a B-scan and divide by its standard deviation; white borders are left out and become 0."""

    def __call__(self, image: Any) -> torch.Tensor:
        """Normalise.

        Args:
            image: ``(1, W, H)`` uint8.

        Returns:
            ``(1, W, H)`` float32.
        """
        return self.with_border(image, find_white_border(to_picture(image)))

    def with_border(self, image: Any, border: NDArray[np.bool_]) -> torch.Tensor:
        """Normalise where the white border ``(H, W)`` is known."""
        scan, inside = to_picture(image), ~border
        # A picture that is white all over has no border that could be left out.
        values = scan[inside] if inside.any() else scan
        mean, deviation = float(values.mean()), float(values.std())
        normal = (scan.astype(np.float32) - mean) / (deviation or 1.0)
        result = torch.as_tensor(from_picture(np.where(inside, normal, 0).astype(np.float32)))
        return MetaTensor(result).copy_meta_from(image) if isinstance(image, MetaTensor) else result


class NormalizeBScand(MapTransform):
    """Dictionary twin of `NormalizeBScan`.

    Adds ``border_key``, the white border as a mask ``(1, W, H)`` of bool, and appends to ``note`` when there is one.

    Args:
        keys: keys of B-scans ``(1, W, H)`` of uint8.
        border_key: key of the mask.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, border_key: str = "white_border", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.normalize = NormalizeBScan()
        self.border_key = border_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Apply it to every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            border = find_white_border(to_picture(d[key]))
            d[key] = self.normalize.with_border(d[key], border)
            d[self.border_key] = torch.as_tensor(from_picture(border))
            if border.any():
                d["note"] = "; ".join(part for part in (str(d.get("note", "")), "border left out") if part)
        return d


class FitBScand(MapTransform, InvertibleTransform):
    """Bring B-scans of any size to one canvas: columns are scaled, rows are padded, or scaled where there are more.

    The columns of a B-scan lie at very different distances from scanner to scanner, while nearly all scanners give a
    depth of about 2 mm, with 500 rows or with 1,000: so the width always becomes that of the canvas, and the height is
    kept up to that of the canvas (padded at the bottom) and scaled down to it beyond. `inverse` returns a key to its
    own size.

    Args:
        keys: keys ``(C, W, H)``.
        columns: width of the canvas.
        rows: height of the canvas.
        mode: ``bilinear`` (smoothed before it is reduced) for images, ``nearest-exact`` for label maps (``nearest``
            would move them by half a pixel); one for all keys or one each.
        fill: value of the rows that are added; one for all keys or one each.
        allow_missing_keys: do not raise when a key is missing.

    Raises:
        SettingError: the canvas is smaller than 16 pixels, which is what the network halves four times.
    """

    def __init__(
        self,
        keys: KeysCollection,
        columns: int = 512,
        rows: int = 512,
        mode: str | Sequence[str] = "bilinear",
        fill: float | Sequence[float] = 0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if min(columns, rows) < 16:
            raise SettingError(f"The canvas is {columns}x{rows}; it needs at least 16 pixels on each side.")
        self.columns = columns
        self.rows = rows
        self.modes = (mode,) * len(self.keys) if isinstance(mode, str) else tuple(mode)
        self.fills = (fill,) * len(self.keys) if isinstance(fill, int | float) else tuple(fill)

    @staticmethod
    def _resize(image: torch.Tensor, size: tuple[int, int], mode: str, smooth: bool) -> torch.Tensor:
        """Scale without a record of it: the one that `push_transform` leaves serves for all."""
        resize = Resize(size, mode=mode, anti_aliasing=smooth, dtype=torch.float32)
        with resize.trace_transform(False):
            return torch.as_tensor(resize(image))

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Scale and pad every key."""
        d = dict(data)
        for key, mode, fill in self.key_iterator(d, self.modes, self.fills):
            width, height = d[key].shape[1:]
            rows = min(self.rows, height)
            scaled = self._resize(d[key], (self.columns, rows), mode, smooth=not mode.startswith("nearest"))
            d[key] = torch.nn.functional.pad(scaled, (0, self.rows - rows), value=fill)
            info = {"rows": rows, "width": width, "height": height, "mode": mode}
            self.push_transform(d[key], orig_size=(width, height), extra_info=info)
        return d

    def inverse(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return every key to its own size."""
        d = dict(data)
        for key in self.key_iterator(d):
            info = self.pop_transform(d[key])["extra_info"]
            size = (int(info["width"]), int(info["height"]))
            d[key] = self._resize(d[key][..., : int(info["rows"])], size, str(info["mode"]), smooth=False)
        return d


class RandGraderd(RandomizableTransform, MapTransform):
    """Take another grader's labels in place of the first one's, at random; the second key is removed.

    Args:
        keys: the key of the labels.
        other_key: key of the other grader's labels; an item without it keeps its own.
        prob: probability of the other grader.
    """

    def __init__(self, keys: KeysCollection, other_key: str = "label_2", prob: float = 0.3) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.other_key = other_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Draw and choose."""
        d = dict(data)
        self.randomize(None)
        other = d.pop(self.other_key, None)
        if self._do_transform and other is not None:
            for key in self.key_iterator(d):
                d[key] = other
        return d


class RandSpeckled(RandomizableTransform, MapTransform):
    """Multiply B-scans by noise of mean 1, as speckle is; MONAI's noise is added.

    The brightness above the darkest pixel is multiplied by gamma-distributed noise, the distribution of speckle
    intensity after averaging (Goodman, "Speckle phenomena in optics", 2007, chapter 3).

    Args:
        keys: keys ``(1, W, H)``, floating point.
        prob: probability.
        max_deviation: the standard deviation of the noise is drawn from 0 to this.
        allow_missing_keys: do not raise when a key is missing.
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.5, max_deviation: float = 0.4, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.max_deviation = max_deviation

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Draw once for each key."""
        d = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return d
        variance = self.R.uniform(0.05, self.max_deviation) ** 2
        for key in self.key_iterator(d):
            image = d[key]
            noise = self.R.standard_gamma(1 / variance, size=tuple(image.shape)).astype(np.float32) * variance
            darkest = image.min()
            d[key] = (image - darkest) * torch.as_tensor(noise, device=image.device) + darkest
        return d


def inflate_layer(
    scan: NDArray[np.float32],
    labels: NDArray[np.integer],
    layer: int,
    center: int,
    height: float,
    width: float,
    random: np.random.RandomState,
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Draw a cyst into a layer, which swells by it and lifts what lies above.

    Around ``center`` everything above the middle of the layer is moved up by a Gaussian of the given height and width.
    The gap is filled with the layer's own pixels of the same column, and its inside, where it is at least a quarter as
    high as at the centre, with pixels of the vitreous.

    Args:
        scan: ``(H, W)``.
        labels: ``(H, W)``, 0 above the retina.
        layer: label of the layer.
        center: column.
        height: in rows.
        width: standard deviation of the swelling, times the square root of 2, in columns.
        random: source of random numbers.

    Returns:
        Scan and labels; unchanged where the layer is missing in the centre or nothing is above the retina.
    """
    inside = labels == layer
    present = inside.any(axis=0)
    top = np.argmax((labels > 0) & (labels <= len(LAYERS)), axis=0)
    vitreous = scan[(labels == 0) & (np.arange(len(scan))[:, None] < top)]
    if not present[center] or not vitreous.size:
        return scan, labels
    rows, columns = np.arange(len(scan))[:, None], np.arange(scan.shape[1])
    counts = np.maximum(inside.sum(axis=0), 1)
    own = (inside * rows).sum(axis=0) / counts
    # Where the layer is not annotated, its middle lies between those of the columns around.
    smooth = gaussian_filter1d(np.interp(columns, columns[present], own[present]), _SMOOTH)
    middle = np.round(smooth).astype(int)
    # Where a column is known to have no retina, none is drawn, and what is not annotated stays so.
    open_to_it = (labels > 0).any(axis=0)
    annotated = ((labels > 0) & (labels <= len(LAYERS))).any(axis=0)
    lift = np.round(height * np.exp(-(((columns - center) / width) ** 2)) * open_to_it).astype(int)
    source = np.where(rows < middle - lift, rows + lift, rows)
    gap = (rows >= middle - lift) & (rows < middle)
    first = np.where(present, np.argmax(inside, axis=0), middle)
    drawn = first + np.floor(random.uniform(0.0, 1.0, scan.shape) * counts)
    source[gap] = drawn.astype(int)[gap]
    source = np.clip(source, 0, len(scan) - 1)
    swollen = np.take_along_axis(scan, source, axis=0)
    swollen_labels = np.take_along_axis(labels, source, axis=0)
    swollen_labels[gap & annotated] = layer
    cyst = gap & (np.abs(rows - (middle - lift / 2)) < 0.42 * lift) & (lift > 0.25 * height)
    swollen[cyst] = random.choice(vitreous, size=int(cyst.sum())) + random.uniform(0.0, 0.3)
    return swollen, swollen_labels


class RandCystd(RandomizableTransform, MapTransform):
    """Draw cysts of macular oedema into the inner or outer nuclear layer at random (`inflate_layer`).

    Oedema differs more from patient to patient than anything else on a B-scan; a few patients show few of its forms.

    Args:
        keys: the B-scan ``(1, W, H)`` and its label map ``(1, W, H)``, in this order.
        prob: probability of one to three cysts.
        layers: labels of the layers.
        height: least and largest height in rows.
        width: least and largest width in columns, as a Gaussian's standard deviation times the square root of 2.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.3,
        layers: Sequence[int] = (3, 5),
        height: Sequence[float] = (10, 80),
        width: Sequence[float] = (10, 60),
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.layers = tuple(layers)
        self.height = tuple(height)
        self.width = tuple(width)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Draw them."""
        d = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return d
        image_key, label_key = self.keys
        scan, labels = to_picture(d[image_key]), to_picture(d[label_key])
        for _ in range(self.R.randint(1, 4)):
            layer = self.layers[self.R.randint(len(self.layers))]
            center = int(self.R.randint(scan.shape[1]))
            height = self.R.uniform(self.height[0], self.height[1])
            width = self.R.uniform(self.width[0], self.width[1])
            scan, labels = inflate_layer(scan, labels, layer, center, height, width, self.R)
        for key, picture in ((image_key, scan), (label_key, labels)):
            d[key] = convert_to_dst_type(from_picture(picture), d[key])[0]
        return d


class LayerChannelsd(MapTransform):
    """Turn logits and label maps into one channel per layer, for metrics; what is not annotated is empty in both.

    Args:
        keys: keys of the logits ``(classes, W, H)``, of which the largest counts.
        label_key: label map ``(1, W, H)``.
    """

    def __init__(self, keys: KeysCollection, label_key: str = "label") -> None:
        super().__init__(keys)
        self.label_key = label_key

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Give uint8 ``(7, W, H)`` under every key and the label's."""
        d = dict(data)
        labels = torch.as_tensor(d[self.label_key])
        layers = torch.arange(1, len(LAYERS) + 1, device=labels.device).reshape(-1, 1, 1)
        annotated = labels != UNANNOTATED
        for key in self.key_iterator(d):
            found = torch.as_tensor(d[key]).argmax(dim=0, keepdim=True)
            d[key] = ((found == layers) & annotated).to(torch.uint8)
        d[self.label_key] = (labels == layers).to(torch.uint8)
        return d


def is_layer(labels: torch.Tensor) -> torch.Tensor:
    """Where a label map is retina: neither background nor `UNANNOTATED`; for MONAI's foreground crops."""
    return (labels > 0) & (labels <= len(LAYERS))


class OrderedLayersd(MapTransform):
    """Turn class probabilities into a label map whose layers are in order in every column (`ordered_boundaries`).

    Adds ``boundaries_key``, the boundaries ``(8, W)`` as float64, NaN where there is no retina and where the edge of
    the picture or of its white border cuts it off (`hide_cut_boundaries`).

    Args:
        keys: probabilities ``(8, W, H)``; each becomes a label map ``(1, W, H)`` of uint8.
        certainty: power of the probabilities, above 0.
        smoothing: standard deviation of the averaging along the columns, 0 or more.
        border_key: mask ``(1, W, H)`` of the white border, in which there is no retina.
        boundaries_key: key of the boundaries.
        hide_cut: mark boundaries that an edge cuts off as NaN; not for a comparison with a grader's.

    Raises:
        SettingError: ``certainty`` or ``smoothing`` is out of its range.
    """

    def __init__(
        self,
        keys: KeysCollection,
        certainty: float = 1.0,
        smoothing: float = 0.0,
        border_key: str = "white_border",
        boundaries_key: str = "boundaries",
        hide_cut: bool = True,
    ) -> None:
        super().__init__(keys)
        if isinstance(certainty, bool) or not isinstance(certainty, int | float) or not 0 < certainty <= 10:
            raise SettingError(f"certainty is {certainty!r}; give a number above 0, at most 10.")
        if isinstance(smoothing, bool) or not isinstance(smoothing, int | float) or not 0 <= smoothing <= 50:
            raise SettingError(f"smoothing is {smoothing!r}; give a number of columns from 0 to 50.")
        self.certainty = certainty
        self.smoothing = smoothing
        self.border_key = border_key
        self.boundaries_key = boundaries_key
        self.hide_cut = hide_cut

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Find the boundaries and draw the label map from them."""
        d = dict(data)
        for key in self.key_iterator(d):
            probabilities = np.stack([to_picture(channel[None]) for channel in torch.as_tensor(d[key])])
            border = to_picture(d[self.border_key]).astype(bool) if self.border_key in d else None
            if border is not None and border.any():
                probabilities[1:, border] = 0
                probabilities[0, border] = 1
            boundaries = ordered_boundaries(probabilities, self.certainty, self.smoothing)
            labels = boundaries_to_labels(boundaries, probabilities.shape[1])
            labels[labels == UNANNOTATED] = 0
            d[key] = torch.as_tensor(from_picture(labels))
            if self.hide_cut:
                boundaries = hide_cut_boundaries(boundaries, probabilities.shape[1], border)
            d[self.boundaries_key] = torch.as_tensor(boundaries)
        return d


class LayerBiomarkersd(MapTransform):
    """Compute `common.biomarkers.layers.layer_biomarkers` on boundaries ``(8, W)``.

    Adds ``biomarkers``: column name to value; reasons for values that could not be computed are appended to ``note``.

    Args:
        keys: the boundaries.
        pixel_size: micrometres per row of B-scans whose item has no ``axial_scale``, or None when it is not known.
        lateral_scale: micrometres per column of those whose item has no ``lateral_scale``, or None.

    Raises:
        SettingError: a scale is no positive number.
    """

    def __init__(
        self, keys: KeysCollection, pixel_size: float | None = None, lateral_scale: float | None = None
    ) -> None:
        super().__init__(keys)
        check_pixel_size(pixel_size)
        check_pixel_size(lateral_scale, "lateral_scale")
        self.pixel_size = pixel_size
        self.lateral_scale = lateral_scale

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Compute them for every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            boundaries = torch.as_tensor(d[key]).cpu().numpy()
            scales = d.get("axial_scale", self.pixel_size), d.get("lateral_scale", self.lateral_scale)
            found = layer_biomarkers(boundaries, *scales)
            d["biomarkers"] = {**d.get("biomarkers", {}), **found.values}
            d["note"] = "; ".join(part for part in (str(d.get("note", "")), *found.notes) if part)
        return d
