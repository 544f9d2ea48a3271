"""Writes what inference found: masks, probability maps, overlays, a row per photo."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from common.data import failure_of
from common.errors import SettingError
from common.pictures import encode_mask, encode_picture, encode_probability, outline, overlay, panels, reduced
from common.readers import to_picture
from common.results import ResultFolder, check_flag

_STYLES: dict[str, Callable[..., NDArray[np.uint8]]] = {"fill": overlay, "outline": outline}


class RowWriter:
    """Writes a row, and files, for every photo as soon as it is done; what belongs to all writers of results.

    Args:
        results: the folder of the results.
    """

    def __init__(self, results: ResultFolder) -> None:
        self.results = results

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Write the results of one iteration; a photo whose results cannot be written is recorded as a failure."""
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            data = {**item, **output}
            try:
                self._write(data)
            except Exception as error:
                # A full or broken disk would fail every photo; a name that is too long is this photo's own.
                if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                    raise
                failure = failure_of(data["name"], "write", error)
                self.results.add_failure(failure.name, failure.stage, failure.reason)

    def _write(self, data: Mapping[str, Any]) -> None:
        raise NotImplementedError


class ResultWriter(RowWriter):
    """Writes one row and the files of every photo as soon as it is done; the row names the patient where it is known.

    Per photo: ``<name>_<structure>.png`` for every structure (uint8, 0/255, the photo's own size),
    ``<name>_overlay.jpg``, with ``save_probability`` ``<name>_probability_<structure>.png`` (16 bits, 65535 is 1), and
    with ``figure`` ``<name>_figure.jpg`` (photo, a panel for each mask, outlines).

    Args:
        results: the folder of the results.
        structures: names of the channels of ``pred``.
        save_probability: whether to write the probability maps too.
        pred_key: masks ``(C, W, H)``.
        probability_key: probabilities ``(C, W, H)``.
        photo_key: the photo ``(3, W, H)`` uint8, at its own size.
        biomarker_key: column name to value, where the postprocessing has computed some.
        style: how the overlay shows a mask: ``fill`` or ``outline``.
        figure: whether to write the figure of several panels too (`common.pictures.panels`).

    Raises:
        SettingError: ``save_probability`` or ``figure`` is neither True nor False, or ``style`` is another.
    """

    def __init__(
        self,
        results: ResultFolder,
        structures: Sequence[str],
        save_probability: bool = False,
        pred_key: str = "pred",
        probability_key: str = "probability",
        photo_key: str = "photo",
        biomarker_key: str = "biomarkers",
        style: str = "fill",
        figure: bool = False,
    ) -> None:
        super().__init__(results)
        self.structures = tuple(structures)
        self.save_probability = check_flag("save_probability", save_probability)
        self.pred_key = pred_key
        self.probability_key = probability_key
        self.photo_key = photo_key
        self.biomarker_key = biomarker_key
        if style not in _STYLES:
            raise SettingError(f"style is {style!r}; give one of {sorted(_STYLES)}.")
        self.style = style
        self.figure = check_flag("figure", figure)

    def _write(self, data: Mapping[str, Any]) -> None:
        name = data["output_name"]
        masks = {structure: to_picture(data[self.pred_key][i : i + 1]) for i, structure in enumerate(self.structures)}
        row: dict[str, Any] = {"image": data["name"]}
        if "patient" in data:
            row["patient"] = data["patient"]
        for structure, mask in masks.items():
            row[f"mask_{structure}"] = f"{name}_{structure}.png"
            self.results.write(row[f"mask_{structure}"], encode_mask(mask))
        if self.save_probability:
            for i, structure in enumerate(self.structures):
                row[f"probability_{structure}"] = f"{name}_probability_{structure}.png"
                probability = to_picture(data[self.probability_key][i : i + 1])
                self.results.write(row[f"probability_{structure}"], encode_probability(probability))
        row["overlay"] = f"{name}_overlay.jpg"
        photo = to_picture(data[self.photo_key])
        small = reduced(photo)
        self.results.write(row["overlay"], encode_picture(_STYLES[self.style](small, masks)))
        if self.figure:
            row["figure"] = f"{name}_figure.jpg"
            self.results.write(row["figure"], encode_picture(panels(photo, masks, small=small)))
        row.update(data.get(self.biomarker_key, {}))
        row["note"] = data.get("note", "")
        self.results.add_row(row)
