"""The measurements that a report shows first: what they are called, and what is known of normal eyes.

A range is that of a published population, measured by its own method; cameras and methods differ, so that a value
outside is a reason to look, and no finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCES = {
    "Crowston 2004": "Crowston et al. The effect of optic disc diameter on vertical cup to disc ratio percentiles in a "
    "population based cohort: the Blue Mountains Eye Study. British Journal of Ophthalmology 88, 766-770, 2004. 97.5th "
    "percentiles of eyes without glaucoma, by planimetry: 0.60 for a disc of 1.2 mm, 0.68 of 1.5 mm, 0.75 of 1.9 mm.",
    "Grover 2009": "Grover et al. Normative data for macular thickness by high-definition spectral-domain optical "
    "coherence tomography (Spectralis). American Journal of Ophthalmology 148, 266-271, 2009. 50 healthy eyes: 270.2 ± "
    "22.5 µm in the central subfield; given as mean ± 1.96 standard deviations.",
    "Henderer 2006": "Henderer. Disc damage likelihood scale. British Journal of Ophthalmology 90, 395-396, 2006.",
    "Masters 2004": "Masters. Fractal analysis of the vascular tree in the human retina. Annual Review of Biomedical "
    "Engineering 6, 427-452, 2004. It depends on the method, the camera and the mask.",
    "Poon 2017": "Poon et al. The ISNT rule: how often does it apply to disc photographs and retinal nerve fiber layer "
    "measurements in the normal population? American Journal of Ophthalmology 184, 19-27, 2017. 110 normal subjects.",
}
"""Where reference ranges are published, and what was measured."""


@dataclass(frozen=True)
class Shown:
    """How a column is shown.

    Attributes:
        column: its name.
        label: what it is called.
        unit: of the value that is shown.
        factor: by which the value is multiplied for that unit.
        low: lower limit of the reference range, in that unit; None where there is none.
        high: upper limit.
        reference: the range in words; empty where none is published for this measurement.
        source: where it is published, one of `SOURCES`.
    """

    column: str
    label: str
    unit: str = ""
    factor: float = 1.0
    low: float | None = None
    high: float | None = None
    reference: str = ""
    source: str = ""


def _thickness(layer: str, label: str) -> tuple[Shown, Shown]:
    """The mean thickness of a layer, in micrometres and in pixels."""
    column = f"{layer}_thickness_mean"
    return Shown(f"{column}_um", f"{label}, mean thickness", "µm"), Shown(
        f"{column}_px", f"{label}, mean thickness", "px"
    )


SHOWN: tuple[Shown, ...] = (
    Shown("vessel_density", "Vessel density (share of the field of view)", "%", 100),
    Shown(
        "vessel_fractal_d0",
        "Fractal dimension (box counting)",
        reference="about 1.7 in normal eyes",
        source="Masters 2004",
    ),
    Shown("vessel_tortuosity_median", "Tortuosity (arc over chord, median)"),
    Shown("vessel_calibre_mean_um", "Vessel calibre, mean", "µm"),
    Shown("vessel_calibre_mean_px", "Vessel calibre, mean", "px"),
    Shown("vessel_length_density_per_mm", "Vessel length density", "mm/mm²"),
    Shown("vessel_branching_points", "Branching points"),
    Shown(
        "cdr_vertical",
        "Cup-to-disc ratio, vertical",
        high=0.75,
        reference="up to 0.60 (small disc) or 0.75 (large disc) without glaucoma",
        source="Crowston 2004",
    ),
    Shown("cdr_horizontal", "Cup-to-disc ratio, horizontal"),
    Shown("cdr_area", "Cup-to-disc ratio, area"),
    Shown("rim_to_disc_ratio_min", "Rim-to-disc ratio, thinnest point"),
    Shown(
        "ddls_stage",
        "Disc damage likelihood scale",
        reference="scale from 1 (least) to 10 (most damage)",
        source="Henderer 2006",
    ),
    Shown("isnt_rule", "ISNT rule followed", reference="by 37 % of normal eyes", source="Poon 2017"),
    Shown(
        "disc_diameter_vertical_um",
        "Disc diameter, vertical",
        "mm",
        0.001,
        1.1,
        2.0,
        "1.1 to 2.0 mm in a population",
        "Crowston 2004",
    ),
    Shown("disc_diameter_vertical_px", "Disc diameter, vertical", "px"),
    *(
        shown
        for lesion, name in (("exudate", "Exudates"), ("haemorrhage", "Haemorrhages"))
        for shown in (
            Shown(f"{lesion}_count", f"{name}, number"),
            Shown(f"{lesion}_area_ratio", f"{name}, share of the field of view", "%", 100),
        )
    ),
    Shown(
        "retina_thickness_central_mean_um",
        "Retina, central millimetre",
        "µm",
        low=226.1,
        high=314.3,
        reference="226 to 314 µm in normal eyes",
        source="Grover 2009",
    ),
    *_thickness("retina", "Retina"),
    *_thickness("nfl", "NFL"),
    *_thickness("gcl_ipl", "GCL-IPL"),
    *_thickness("inl", "INL"),
    *_thickness("opl", "OPL"),
    *_thickness("onl_ism", "ONL-ISM"),
    *_thickness("ise", "ISE"),
    *_thickness("os_rpe", "OS-RPE"),
)
BY_COLUMN = {shown.column: shown for shown in SHOWN}
_UNITS = {"_per_mm": "mm/mm²", "_per_px": "1/px", "_px2": "px²", "_um2": "µm²", "_px": "px", "_um": "µm", "_deg": "°"}


def shown_as(column: str) -> Shown:
    """How a column is shown; one that is not in the table, by its name."""
    if column in BY_COLUMN:
        return BY_COLUMN[column]
    ending = next((ending for ending in _UNITS if column.endswith(ending)), "")
    words = column.removesuffix(ending).replace("_", " ")
    return Shown(column, words[:1].upper() + words[1:], _UNITS.get(ending, ""))


def first_shown(values: Mapping[str, str], most: int = 12) -> list[Shown]:
    """What is shown first of what a bundle found on a photo: what is in the table, and each length in one unit.

    Args:
        values: the bundle's columns and their cells, without prefix.
        most: how many are shown where none is in the table.
    """
    known = [BY_COLUMN[column] for column in values if column in BY_COLUMN]
    named = [shown for shown in known if not _in_other_unit(shown.column, values)]
    return named or [shown_as(column) for column in values][:most]


def _in_other_unit(column: str, values: Mapping[str, str]) -> bool:
    """Whether a length is left out: in pixels where it is there in micrometres, in these where it is not."""
    stem, _, unit = column.rpartition("_")
    if unit == "px":
        return bool(values.get(f"{stem}_um"))
    return unit == "um" and not values[column] and f"{stem}_px" in values
