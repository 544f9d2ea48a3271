"""The results of an examination as HTML: the picture with its structures in layers, tables, probabilities.

Nothing is drawn again when a structure is switched or the opacity changed: every structure is a transparent picture of
its own over the photo, and the browser lays them on one another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, Template
from numpy.typing import NDArray
from PIL import Image

from common.biomarkers.layers import LAYERS
from common.examine.report import HEAT_COLOURS, css, label_of
from common.examine.shown import SOURCES, Shown, shown_as
from common.examine.thumbnails import colour_of, heat_layer, is_saliency, saliency_name
from common.pictures import encode_picture, reduce_picture, reduced
from common.pixels import read_pixels

_PROBABILITY = "p_"
_HQSAM = "hqsam"
_LABELS = "labels"
STATISTICS = ("mean", "median", "min", "max")
_STRUCTURES = {"vessel": "Vessels", "exudate": "Exudates", "haemorrhage": "Haemorrhages"}
_DISC_CUP, _PHOTO = "Optic disc and cup", "Picture"
_GROUPS = {
    "vessel": "Vessels",
    **dict.fromkeys(("disc", "cup", "cdr", "rim", "ddls", "isnt"), _DISC_CUP),
    **dict.fromkeys(("exudate", "haemorrhage", "lesion", "lesions"), "Lesions"),
    **dict.fromkeys(("eye", "fov", "width", "height", "pixel", "axial", "lateral"), _PHOTO),
    _HQSAM: f"{_DISC_CUP}, by HQ-SAM",
}
_LAYER_NAMES = {layer.lower().replace("-", "_"): layer for layer in LAYERS} | {"retina": "Retina"}
_THICKNESS = re.compile(rf"(?P<layer>{'|'.join(_LAYER_NAMES)})_thickness_(?P<statistic>{'|'.join(STATISTICS)})_(px|um)")
_NOT_MEASURES = re.compile(r"image|note|volume|modality|patient|age|sex|.*_(version|sha256)")
Address = Callable[[Path], str]


@dataclass(frozen=True)
class Layer:
    """One structure on a picture, or a map of saliency.

    Attributes:
        key: of the structure, as in the names of the masks; of a map as `common.examine.thumbnails.saliency_key` says.
        picture: transparent PNG in the structure's colour.
        colour: as CSS.
    """

    key: str
    picture: Path
    colour: str

    @property
    def heat(self) -> bool:
        """Whether it is a map of saliency, which hides what is below."""
        return is_saliency(self.key)

    @property
    def name(self) -> str:
        """The structure in words."""
        structure = self.key.removeprefix(f"{_HQSAM}_")
        if is_saliency(self.key):
            return saliency_name(self.key)
        name = _STRUCTURES.get(structure, structure if structure in LAYERS else structure.capitalize())
        return name if structure == self.key else f"{name} (HQ-SAM)"


@dataclass(frozen=True)
class Chances:
    """The probabilities that one bundle gives.

    Attributes:
        title: of the bundle.
        performance: what was measured of it, in words.
        percents: label and its probability in percent.
        saliency: the layer that shows what speaks for the most probable label, in words; empty where there is none.
    """

    title: str
    performance: str
    percents: Sequence[tuple[str, float]]
    saliency: str = ""

    @property
    def most(self) -> str:
        """The most probable label."""
        return max(self.percents, key=lambda percent: percent[1])[0]


@dataclass(frozen=True)
class Card:
    """What is shown of one picture.

    Attributes:
        image: its name.
        modality: ``fundus`` or ``oct``.
        row: measures of the table of results; empty when there are none.
        failure: what could not be done and why; empty when all was.
        base: the picture itself, reduced; None when it could not be read.
        size: width and height of ``base``.
        layers: the structures found on it.
        chances: probabilities by bundle.
    """

    image: str
    modality: str = ""
    row: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    base: Path | None = None
    size: tuple[int, int] = (0, 0)
    layers: Sequence[Layer] = ()
    chances: Sequence[Chances] = ()

    @property
    def kind(self) -> str:
        """The modality in words."""
        return {"fundus": "Fundus photo", "oct": "OCT B-scan"}.get(self.modality, "")

    @property
    def thicknesses(self) -> dict[str, list[list[str]]]:
        """Unit to rows of a table: the layer's name and its thickness by `STATISTICS`."""
        tables: dict[str, dict[str, dict[str, str]]] = {}
        for column, value in self.row.items():
            if match := _THICKNESS.fullmatch(column):
                rows = tables.setdefault(shown_as(column).unit, {})
                rows.setdefault(_LAYER_NAMES[match["layer"]], {})[match["statistic"]] = show_value(value)
        return {
            unit: [[layer, *(values.get(statistic, "–") for statistic in STATISTICS)] for layer, values in rows.items()]
            for unit, rows in tables.items()
        }

    @property
    def measures(self) -> dict[str, list[tuple[Shown, str]]]:
        """Group to its measures and their values. What is known of the picture itself comes last."""
        groups: dict[str, list[tuple[Shown, str]]] = {}
        for column, value in self.row.items():
            if _THICKNESS.fullmatch(column) or column.startswith(_PROBABILITY) or _NOT_MEASURES.fullmatch(column):
                continue
            shown = shown_as(column.removeprefix(f"{_HQSAM}_"))
            group = _GROUPS.get(column.partition("_")[0], "Other measures")
            groups.setdefault(group, []).append((shown, show_value(value, shown.factor)))
        if _PHOTO in groups:
            groups[_PHOTO] = groups.pop(_PHOTO)
        return groups


def chances_of(row: Mapping[str, Any], columns: Sequence[str], bundle: Mapping[str, Any]) -> Chances | None:
    """Give the probabilities of one bundle; None where there are none.

    Args:
        row: of the table of results.
        columns: those of the bundle.
        bundle: what `common.examine.report.about` says of it.
    """
    percents = [
        (label_of(column.removeprefix(_PROBABILITY), bundle), 100 * float(row[column]))
        for column in columns
        if column.startswith(_PROBABILITY) and show_value(row.get(column)) != "–"
    ]
    return Chances(bundle["title"], bundle["performance"], percents) if percents else None


def draw_layers(
    card: Card, pixels: NDArray[np.uint8], masks: Mapping[str, Path], folder: Path, max_side: int = 1600
) -> Card:
    """Write a picture and its structures as layers for the browser.

    Args:
        card: what is shown of the picture.
        pixels: ``(H, W)`` or ``(H, W, 3)``, uint8.
        masks: structure to mask file of the same size; ``labels`` is a label map of the layers of the retina. A map of
            saliency may be smaller.
        folder: where to write.
        max_side: longer side of what is written, at most.

    Returns:
        The card with the picture and its layers.
    """
    picture = reduced(pixels, max_side)
    size = (picture.shape[1], picture.shape[0])
    base = folder / "photo.jpg"
    base.write_bytes(encode_picture(picture))
    layers = []
    heats = {key: path for key, path in masks.items() if is_saliency(key)}
    for key, mask in _structures({key: path for key, path in masks.items() if key not in heats}).items():
        layer = Layer(key, folder / f"{key}.png", css(colour_of(key)))
        tint = Image.new("RGB", size, layer.colour)
        tint.putalpha(Image.fromarray(reduce_picture(mask.astype(np.uint8) * np.uint8(255), size)))
        tint.save(layer.picture, compress_level=3)
        layers.append(layer)
    for key, path in heats.items():
        layer = Layer(key, folder / f"{key}.png", HEAT_COLOURS)
        layer.picture.write_bytes(heat_layer(read_pixels(path)))
        layers.append(layer)
    return replace(card, base=base, size=size, layers=layers)


def _structures(masks: Mapping[str, Path]) -> dict[str, NDArray[np.bool_]]:
    found: dict[str, NDArray[np.bool_]] = {}
    for key, path in masks.items():
        values = read_pixels(path)
        if key == _LABELS:
            found |= {layer: values == number for number, layer in enumerate(LAYERS, start=1)}
        else:
            found[key] = values > 0
    return found


def show_value(value: Any, factor: float = 1) -> str:
    """Write a value of the table for people.

    Args:
        value: a number, a word, or nothing.
        factor: by which a number is multiplied.

    Returns:
        A number with four significant digits; a dash for what could not be computed.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str | bool):
        return {"true": "yes", "false": "no"}.get(str(value).lower(), str(value))
    number = float(value) * factor
    return f"{number:.0f}" if abs(number) >= 1000 or number.is_integer() else f"{number:.4g}"


@cache
def _template() -> Template:
    return Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template("results.html")


def results_html(cards: Sequence[Card], address: Address) -> str:
    """Lay out all results.

    Args:
        cards: one for each picture.
        address: gives the address in the browser of a file.
    """
    chosen = next((number for number, card in enumerate(cards) if card.row), 0)
    return _template().render(cards=cards, chosen=chosen, address=address, statistics=STATISTICS, sources=SOURCES)
