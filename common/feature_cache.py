"""A training on the features of a frozen encoder, which are computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import PersistentDataset
from monai.transforms import Compose, MapTransform, Randomizable
from torch import nn
from torch.nn import functional

from common.errors import SettingError
from common.networks.hq_sam import HQSAM, PATCH

_logger = logging.getLogger(__name__)
_CHECKSUM = "checksum"
_STEP = PATCH // 4
"""Pixels of the decoder's masks for each step of the encoder's grid."""


class FeatureDataset(PersistentDataset):
    """MONAI's `PersistentDataset` for what a frozen encoder makes of augmented views.

    Every item gives ``views`` entries. An entry is one view of the photo, drawn by ``transform`` with its own seed, and
    goes through the encoder when it is first needed; its features and its label are then kept in ``cache_dir`` in
    half precision. Later epochs, and later runs, read them: neither photo nor encoder is touched.

    The file of an entry is named after all that it depends on: the encoder's weights, the bytes of the item's files,
    the transform and its settings, and the number of the view. When one of these has changed, the old file is removed
    and a new one is made. The same is done with a file that is damaged.

    An item of this data set has ``image``, the final features ``(256, G, G)``, ``early`` ``(C, G, G)``, and ``label``
    ``(S, W, H)`` at the decoder's own resolution, a quarter of the image's; all in half precision. Then come the
    transforms ``after``. `common.networks.HQSAMDecoder` is the network that is trained on them.

    Args:
        data: items of a data list, with absolute paths.
        transform: gives one view: ``image`` and ``label`` (`RandDiscViewsd` with ``num_samples`` 1).
        network: its encoder is used, in evaluation mode.
        cache_dir: the folder; it is made. None keeps nothing, and every access goes through the encoder.
        views: number of views of each item.
        after: transforms of what was read, which may be random.
        seed: of the views.
        path_keys: keys of an item that are files.
        bfloat16: encode under bfloat16 autocast.

    Raises:
        SettingError: the encoder is not frozen, or the number of views is none.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Compose,
        network: HQSAM,
        cache_dir: str | Path | None,
        views: int = 4,
        after: Callable[[Any], Any] | None = None,
        seed: int = 0,
        path_keys: Sequence[str] = ("image", "label", "disc", "cup"),
        bfloat16: bool = False,
    ) -> None:
        if not network.freeze_encoder:
            raise SettingError("The encoder is trained, so its features change: set freeze_encoder to True.")
        if not (isinstance(views, int) and views > 0):
            raise SettingError(f"cached_views is {views!r}; give a whole number from 1 on.")
        entries = [{**item, "view": view} for item in data for view in range(views)]
        super().__init__(entries, transform, cache_dir, hash_func=self._name)
        self.network = network
        self.after = after
        self.seed = seed
        self.path_keys = tuple(path_keys)
        self.bfloat16 = bfloat16
        self._files: dict[str, str] = {}
        self._common = _digest(
            [_weights_digest(network.image_encoder), network.image_size, describe(transform), seed, bfloat16]
        )

    def _place(self, entry: Mapping[str, Any]) -> str:
        """What stays the same when an entry becomes stale: its photo and its view."""
        return _digest([entry["image"], entry["view"]])[:16]

    def _name(self, entry: Mapping[str, Any]) -> bytes:
        """Name of the file of an entry, as `PersistentDataset` wants it."""
        for key in self.path_keys:
            if key in entry and entry[key] not in self._files:
                with Path(entry[key]).open("rb") as file:
                    self._files[entry[key]] = hashlib.file_digest(file, "sha256").hexdigest()
        contents = {key: self._files.get(value, value) for key, value in entry.items() if key != "name"}
        return f"{self._place(entry)}-{_digest([self._common, contents])[:32]}".encode()

    def _cachecheck(self, item_transformed: Any) -> Any:
        """Remove what is stale or damaged, then do as `PersistentDataset` does."""
        if self.cache_dir is not None:
            path = self.cache_dir / f"{self._name(item_transformed).decode()}.pt"
            if not path.is_file():
                for stale in self.cache_dir.glob(f"{self._place(item_transformed)}-*.pt"):
                    _logger.info(f"The cached features {stale} are of other weights, files or settings: removed.")
                    stale.unlink()
            else:
                try:
                    entry = torch.load(path, weights_only=True)
                    if entry.pop(_CHECKSUM) == _checksum(entry):
                        return entry
                    reason = "its checksum is another"
                except Exception as error:  # what the unpickler raises on a damaged file has no end
                    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                _logger.warning(f"The cached features {path} are damaged ({reason}): made anew.")
                path.unlink()
        entry = super()._cachecheck(item_transformed)
        del entry[_CHECKSUM]
        return entry

    def _pre_transform(self, item_transformed: Any) -> dict[str, Any]:
        """Draw the view of an entry and encode it."""
        # By the name within the data set, so that the same views are drawn wherever the data set lies.
        drawn = [self.seed, item_transformed.get("name", item_transformed["image"]), item_transformed["view"]]
        seed = int.from_bytes(hashlib.sha256(json.dumps(drawn).encode()).digest()[:4])
        self.transform.set_random_state(seed=seed)
        view: Any = self.transform(item_transformed)
        (view,) = view if isinstance(view, list) else [view]
        image = torch.as_tensor(view["image"]).as_subclass(torch.Tensor)[None]
        label = torch.as_tensor(view["label"]).as_subclass(torch.Tensor)[None]
        device = next(self.network.parameters()).device
        was_training = self.network.training
        self.network.eval()
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
            features = self.network.encode(image.to(device))
        self.network.train(was_training)
        side = self.network.image_size // 4
        entry = {
            "image": features.final[0],
            "early": features.early[0],
            "label": functional.interpolate(label.float(), (side, side), mode="area")[0],
        }
        halved: dict[str, Any] = {key: value.to("cpu", torch.float16).contiguous() for key, value in entry.items()}
        return {**halved, _CHECKSUM: _checksum(halved)}

    def _post_transform(self, item_transformed: Any) -> Any:
        return item_transformed if self.after is None else self.after(item_transformed)


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _checksum(entry: Mapping[str, torch.Tensor]) -> int:
    """CRC-32 of the values: reading a file of PyTorch does not check that of its own."""
    checksum = 0
    for _, value in sorted(entry.items()):
        checksum = zlib.crc32(np.ascontiguousarray(value.numpy()).data, checksum)
    return checksum


def _weights_digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def describe(transform: Any) -> Any:
    """Say in plain values what a transform is and how it is set, whatever its random state.

    Args:
        transform: a MONAI transform, or a `Compose` of some.

    Returns:
        Lists, dictionaries, numbers and texts.
    """
    if isinstance(transform, (str, int, float, bool, type(None))):
        return transform
    if isinstance(transform, (list, tuple, set, frozenset)):
        parts = [describe(part) for part in transform]
        return sorted(parts, key=str) if isinstance(transform, (set, frozenset)) else parts
    if isinstance(transform, Mapping):
        return {str(key): describe(value) for key, value in transform.items()}
    if isinstance(transform, (np.ndarray, torch.Tensor)):
        return np.asarray(transform).tolist()
    kind = f"{type(transform).__module__}.{type(transform).__qualname__}"
    if isinstance(transform, np.random.RandomState):
        return kind
    settings = getattr(transform, "__dict__", {})
    # MONAI keeps a transform's last draw beside its settings, under names that begin with an underscore.
    return [kind, {name: describe(value) for name, value in sorted(settings.items()) if name[:1] != "_"}]


class RandWindowd(Randomizable, MapTransform):
    """Cut features and label to one window of the encoder's grid, so that the decoder draws only a part of the mask.

    Adds ``window``: the first column and row of the window, in steps of the grid.

    Args:
        keys: the features to cut, ``(C, G, G)``, upright.
        label_key: the label ``(S, W, H)`` at four steps for each of the grid.
        share: side of the window, as a share of the grid's side; 1 cuts nothing.
        anywhere: probability that the window lies anywhere; else it lies around a point of a structure's outline, whose
            distance from the window's middle is at most a quarter of the side along each axis.
        window_key: where its place is put.

    Raises:
        SettingError: the share is not above 0 and at most 1.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        share: float = 0.5,
        anywhere: float = 0.2,
        window_key: str = "window",
    ) -> None:
        super().__init__(keys)
        if not 0 < share <= 1:
            raise SettingError(f"window_share is {share!r}; give a number above 0 and at most 1.")
        self.label_key = label_key
        self.share = share
        self.anywhere = anywhere
        self.window_key = window_key

    def draw(self, data: torch.Tensor) -> tuple[int, int, int]:
        """Draw the first column, the first row and the side of a window."""
        grid = data.shape[1] // _STEP
        side = max(1, round(self.share * grid))
        anywhere, shift = self.R.random() < self.anywhere, self.R.uniform(0, 1, 2)
        masks = (data > 0.5).cpu().numpy().astype(np.uint8)
        outlines = [np.argwhere(mask - cv2.erode(mask, np.ones((3, 3), np.uint8))) for mask in masks]
        outlines = [places for places in outlines if len(places)]
        if anywhere or not outlines:
            first = shift * (grid - side + 1)
        else:
            places = outlines[self.R.randint(len(outlines))]
            first = places[self.R.randint(len(places))] / _STEP - side / 2 + (shift - 0.5) * side / 2
        x, y = np.clip(np.floor(first), 0, grid - side).astype(int).tolist()
        return x, y, side

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Cut every key and the label."""
        d = dict(data)
        label = d[self.label_key]
        x, y, side = self.draw(label)
        for key in self.key_iterator(d):
            d[key] = d[key][:, y : y + side, x : x + side].contiguous()
        d[self.label_key] = label[:, x * _STEP : (x + side) * _STEP, y * _STEP : (y + side) * _STEP].contiguous()
        d[self.window_key] = torch.tensor([x, y])
        return d
