"""The small pictures of the report: the photo, and each mask and saliency map as a transparent layer over it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.biomarkers import LAYERS
from common.examine.folder import SALIENCY
from common.pictures import COLOURS, encode_picture, reduce_picture, reduced

SIDE = 512
"""Longer side of a picture of the report, in pixels."""
_LEVELS, _HEAT_LEVELS = 8, 64
_OTHER_COLOUR = (255, 255, 255)


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of the photo.

    Attributes:
        content: JPEG.
        size: its width and height.
    """

    content: bytes
    size: tuple[int, int]


def thumbnail(pixels: NDArray[np.uint8]) -> Thumbnail:
    """Make a small picture of a photo ``(H, W)`` or ``(H, W, 3)``."""
    small = reduced(pixels, SIDE)
    return Thumbnail(encode_picture(small, quality=80), (small.shape[1], small.shape[0]))


def layers(files: Mapping[str, bytes], masks: Mapping[str, str], size: tuple[int, int]) -> dict[str, bytes]:
    """Make the transparent layers of a photo's masks.

    Args:
        files: path to content.
        masks: structure to the path of its mask; a label map of OCT layers is called ``labels``, a map of saliency as
            `saliency_key` says.
        size: width and height of the layers.

    Returns:
        Structure to PNG.
    """
    made = {}
    for key, place in masks.items():
        mask = np.asarray(cv2.imdecode(np.frombuffer(files[place], np.uint8), cv2.IMREAD_UNCHANGED), dtype=np.uint8)
        if is_saliency(key):
            # The map is coarse: the browser enlarges what is half as large.
            made[key] = heat_layer(reduced(mask, max(size) // 2))
        else:
            made[key] = _label_layer(mask, size) if key == "labels" else _mask_layer(mask, size, colour_of(key))
    return made


def saliency_key(bundle: str) -> str:
    """What the layer of a bundle's saliency is called: ``saliency_odir`` for ``odir_classification``."""
    return f"{SALIENCY}_{bundle.rpartition('_')[0]}"


def is_saliency(key: str) -> bool:
    """Whether a layer is one of saliency."""
    return key.startswith(f"{SALIENCY}_")


def saliency_name(key: str) -> str:
    """A layer of saliency in words: ``Saliency (ODIR)``."""
    return f"Saliency ({key.removeprefix(f'{SALIENCY}_').replace('_', ' ').upper()})"


def heat_layer(heat: NDArray[np.uint8]) -> bytes:
    """A map of saliency, from nothing (0) to opaque red (255), as PNG."""
    levels = np.rint(heat * ((_HEAT_LEVELS - 1) / 255)).astype(np.uint8)
    scale = np.rint(np.linspace(0, 255, _HEAT_LEVELS)).astype(np.uint8)
    colours = cv2.applyColorMap(scale[:, None], cv2.COLORMAP_TURBO)[:, 0, ::-1]
    return _palette_png(levels, [tuple(colour.tolist()) for colour in colours], scale.tobytes())


def colour_of(structure: str) -> tuple[int, int, int]:
    """The colour of a structure, whatever the prefix of its bundle."""
    return next((colour for name, colour in COLOURS.items() if structure.endswith(name)), _OTHER_COLOUR)


def _mask_layer(mask: NDArray[np.uint8], size: tuple[int, int], colour: tuple[int, int, int]) -> bytes:
    """A mask in one colour, with soft edges."""
    cover = reduce_picture((mask > 0).astype(np.uint8) * np.uint8(255), size)
    levels = np.rint(cover * ((_LEVELS - 1) / 255)).astype(np.uint8)
    return _palette_png(
        levels, [colour] * _LEVELS, bytes(round(255 * level / (_LEVELS - 1)) for level in range(_LEVELS))
    )


def _label_layer(labels: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """A label map in the colours of its layers."""
    small = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)
    colours = [(0, 0, 0), *(COLOURS[layer] for layer in LAYERS)]
    return _palette_png(small, colours, bytes([0] + [255] * len(LAYERS)))


def _palette_png(values: NDArray[np.uint8], colours: Sequence[tuple[int, ...]], opacity: bytes) -> bytes:
    picture = Image.fromarray(values, mode="P")
    picture.putpalette([level for colour in colours for level in colour])
    content = io.BytesIO()
    picture.save(content, format="PNG", transparency=opacity, optimize=True, bits=4 if len(colours) <= 16 else 8)
    return content.getvalue()
