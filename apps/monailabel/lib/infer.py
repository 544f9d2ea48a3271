"""Inference of one bundle for MONAI Label's clients."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.transform.post import FindContoursd
from monailabel.transform.writer import PolygonWriter, write_itk
from monailabel.utils.others.generic import device_list, name_to_device
from numpy.typing import NDArray

from common.errors import SettingError
from common.label import BundlePredictor, Classification, Prediction
from common.label.inference import describe
from common.pictures import COLOURS, encode_label_map
from common.pixels import NIFTI_SUFFIXES, is_nifti
from lib.errors import refuse, told_to_client

SERVED = (InferType.SEGMENTATION.value, InferType.CLASSIFICATION.value)
"""Formats of the output of bundles that the app can serve."""
_PICTURES = (".png", ".tif", ".bmp")
_VOLUMES = (*NIFTI_SUFFIXES, ".nrrd")
# The first axis of a photo points to the left and the second to the back, as ITK and so 3D Slicer read pictures.
_AFFINE_OF_PHOTOS = np.diag([-1.0, -1.0, 1.0, 1.0])
_POLYGON_OUTPUTS = ("asap", "dsa", "json")


def torch_device(name: Any) -> torch.device:
    """Give the device that a client names; its name becomes part of a config, so it has to be one.

    Args:
        name: as in `device_list` or as PyTorch names it; None is the best there is.

    Raises:
        SettingError: there is no such device.
    """
    try:
        return torch.device(name_to_device(name))
    except (AttributeError, IndexError, RuntimeError, TypeError) as error:
        raise SettingError(f"device is {name!r}; give one of {', '.join(device_list())}.") from error


def _numbers(name: str, values: Any, counts: tuple[int, ...]) -> list[float]:
    """Check that a client gave as many numbers as it should."""
    numbers = list(values) if isinstance(values, list | tuple) else []
    if len(numbers) not in counts or not all(isinstance(value, int | float) for value in numbers):
        expected = " or ".join(str(count) for count in counts)
        raise SettingError(f"{name} has {values!r}; give {expected} numbers.")
    return [float(value) for value in numbers]


def read_prompts(request: Mapping[str, Any], first: str) -> dict[str, dict[str, Any]]:
    """Read clicks and boxes in the forms that clients use.

    Args:
        request: ``foreground`` and ``background``, lists of (x, y) or (x, y, slice); ``roi``, the box (x0, y0, x1, y1),
            or (x0, x1, y0, y1, first slice, last slice) as 3D Slicer gives it; ``label``, whose they are. Or
            ``prompts``: name of each structure to its ``points`` (x, y, 1 or 0) and ``box`` (x0, y0, x1, y1).
        first: the structure when the request names none.

    Returns:
        Name of a structure to its prompts; empty when there are none.

    Raises:
        SettingError: they are of none of these forms.
    """
    given = request.get("prompts") or {}
    if not isinstance(given, dict) or not all(isinstance(prompt, dict) for prompt in given.values()):
        raise SettingError(f"prompts is {given!r}; give the prompts of each structure by its name.")
    prompts: dict[str, dict[str, Any]] = {}
    for structure, prompt in given.items():
        prompts[structure] = {"points": [_numbers("points", point, (3,)) for point in prompt.get("points") or []]}
        if prompt.get("box"):
            prompts[structure]["box"] = _sorted_box(*_numbers("box", prompt["box"], (4,)))
    clicks = [
        [*_numbers(name, place, (2, 3))[:2], inside]
        for name, inside in (("foreground", 1), ("background", 0))
        for place in request.get(name) or []
    ]
    roi = request.get("roi")
    if not clicks and not roi:
        return prompts
    prompt = prompts.setdefault(str(request.get("label") or first), {"points": []})
    prompt["points"] = prompt["points"] + clicks
    if roi:
        box = _numbers("roi", roi, (4, 6))
        prompt["box"] = _sorted_box(*(box if len(box) == 4 else (box[0], box[2], box[1], box[3])))
    return prompts


def _sorted_box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]


def _known(given: Any) -> dict[str, Any]:
    """Check what a client knows of a photo: numbers and texts by name."""
    known = given or {}
    if not isinstance(known, dict) or not all(isinstance(value, int | float | str) for value in known.values()):
        raise SettingError(f"known is {given!r}; give a number or a text for each column by its name.")
    return known


class BundleInfer(InferTask):
    """A bundle, served from where it stands, with its own weights or with fine-tuned ones.

    Args:
        bundle: the bundle's folder.
        fine_tuned: weights that are used in place of the bundle's own as soon as they are there.
        settings: ids of ``inference.json`` to override.

    Raises:
        SettingError: the bundle's output is of a format that the app cannot serve.
    """

    def __init__(self, bundle: Path, fine_tuned: Path, settings: Mapping[str, Any]) -> None:
        self.bundle = bundle
        self.fine_tuned = fine_tuned
        self.settings = dict(settings)
        description = describe(bundle)
        if description.kind not in SERVED:
            raise SettingError(
                f"The bundle {bundle.name} gives an output of the format '{description.kind}', and this app serves "
                f"{' and '.join(SERVED)}: leave it out of --conf models."
            )
        self.classifies = description.classifies
        super().__init__(
            type=InferType.DEEPGROW if description.interactive else InferType(description.kind),
            labels=description.values,
            dimension=2,
            description=description.text,
            config={"device": device_list()},
        )
        self.version = description.version
        self._loaded: dict[str, tuple[tuple[Any, ...], BundlePredictor]] = {}
        self._lock = threading.Lock()

    def info(self) -> dict[str, Any]:
        """What ``/info`` says of the bundle."""
        return {**super().info(), "version": self.version}

    def is_valid(self) -> bool:
        """Whether there are weights."""
        return self.get_path() is not None

    def get_path(self, validate: bool = True) -> str | None:
        """The weights that the next inference uses; None if they are not there and ``validate``."""
        shipped = Path(self.settings.get("ckpt_path", self.bundle / "models" / "model.pt"))
        weights = self.fine_tuned if self.fine_tuned.is_file() else shipped
        return str(weights) if weights.is_file() or not validate else None

    def predictor(self, device: Any = None) -> BundlePredictor:
        """The bundle with the newest weights on a device.

        Args:
            device: see `torch_device`.

        Raises:
            HTTPException: the bundle has no weights.
            SettingError: the weights or a setting do not fit.
        """
        weights = self.get_path()
        if weights is None:
            raise refuse(
                HTTPStatus.CONFLICT,
                f"The bundle {self.bundle.name} has no weights: train it, or put them at {self.fine_tuned}.",
            )
        name = str(torch_device(device))
        state = Path(weights).stat()
        stamp = (weights, state.st_mtime_ns, state.st_size)
        with self._lock:
            if name not in self._loaded or self._loaded[name][0] != stamp:
                overrides = {**self.settings, "ckpt_path": weights, "device": f"$torch.device('{name}')"}
                self._loaded[name] = stamp, BundlePredictor(self.bundle, overrides)
            return self._loaded[name][1]

    def predict(self, request: Mapping[str, Any]) -> Prediction | Classification:
        """Segment or classify the image of a request.

        Args:
            request: ``image`` (path); ``name``, what the client calls the image; clicks and boxes (`read_prompts`); for
                a classifier ``known``, what it may be told besides: name of a column to its value.

        Raises:
            HTTPException: it cannot be done.
        """
        name = str(request.get("name", "photo"))
        with told_to_client(f"The image {name}"):
            prompts = read_prompts(request, next(iter(self.labels)))
            if self.classifies:
                if prompts:
                    raise SettingError(f"The bundle {self.bundle.name} takes no clicks and no box: leave them out.")
                return self.predictor(request.get("device")).classify(
                    Path(request["image"]), name, _known(request.get("known"))
                )
            return self.predictor(request.get("device"))(Path(request["image"]), name, prompts)

    def __call__(self, request: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Answer a request.

        Args:
            request: see `predict`; ``label`` asks for one structure alone, as 0 and 1, ``result_extension`` for a kind
                of file, and ``output`` for polygons (``asap``, ``dsa``: a file of them; ``json``: in the parameters).

        Returns:
            The label map's file, and ``biomarkers``, ``note``, ``entropy``, ``label_names`` and ``latencies``. Of a
            classifier there is no file, and ``probabilities`` in place of the biomarkers.

        Raises:
            HTTPException: it cannot be done.
        """
        start = time.monotonic()
        values, structure = dict(self.labels), request.get("label")
        if structure and structure not in values:
            raise refuse(
                HTTPStatus.BAD_REQUEST,
                f"The bundle {self.bundle.name} has no label {structure!r}: give one of {', '.join(values)}.",
            )
        extension = self._extension(request)
        found = self.predict(request)
        if isinstance(found, Classification):
            return None, {
                "label_names": values,
                "probabilities": found.probabilities,
                "note": found.note,
                "entropy": found.entropy,
                "latencies": {"total": round(time.monotonic() - start, 3)},
            }
        labels, masks = found.labels, found.masks
        if structure:
            values, masks = {structure: 1}, {structure: masks[structure]}
            labels = masks[structure].astype(np.uint8)
        params = {
            "label_names": values,
            "biomarkers": found.biomarkers,
            "note": found.note,
            "entropy": found.entropy,
            "latencies": {"total": round(time.monotonic() - start, 3)},
        }
        output = request.get("output")
        if output in _POLYGON_OUTPUTS:
            return self._polygons(masks, request, params)
        return _write_labels(labels, Path(request["image"]), extension), params

    @staticmethod
    def _extension(request: Mapping[str, Any]) -> str:
        """The ending of the answer's file: as asked for, else NIfTI for NIfTI and PNG for every photo."""
        default = NIFTI_SUFFIXES[-1] if is_nifti(request["image"]) else _PICTURES[0]
        extension = str(request.get("result_extension") or default).lower()
        if extension not in _PICTURES + _VOLUMES:
            raise refuse(
                HTTPStatus.BAD_REQUEST,
                f"result_extension is {extension!r}; give one of {', '.join(_PICTURES + _VOLUMES)}.",
            )
        return extension

    def _polygons(
        self, masks: Mapping[str, NDArray[np.bool_]], request: Mapping[str, Any], params: dict[str, Any]
    ) -> tuple[str | None, dict[str, Any]]:
        """Answer with polygons, as QuPath, the Digital Slide Archive and CVAT's detectors take them."""
        data: dict[str, Any] = {
            "model": self.bundle.name,
            "description": self.bundle.name,
            "output": request["output"],
            "min_poly_area": request.get("min_poly_area", 0),
        }
        annotation: dict[str, Any] = {"elements": [], "labels": {}}
        for name, mask in masks.items():
            find = FindContoursd(keys="pred", labels={name: 1}, colormap=COLOURS)
            found = find({**data, "pred": mask.T.astype(np.uint8)}).get("result", {"annotation": {}})["annotation"]
            annotation["elements"] += found.get("elements", [])
            annotation["labels"] |= found.get("labels", {})
        file, answer = PolygonWriter()({**data, "result": {"annotation": annotation}})
        return file, {**params, "annotations": answer["annotations"]}


def _nifti(path: Path) -> Any:
    return nibabel.load(path)


def _write_labels(labels: NDArray[np.uint8], image: Path, extension: str) -> str:
    """Write a label map ``(H, W)`` in the place and direction of its image, and give the file."""
    with tempfile.NamedTemporaryFile(suffix=extension, delete=False) as file:
        path = file.name
    if extension in _VOLUMES:
        affine = np.asarray(_nifti(image).affine) if is_nifti(image) else _AFFINE_OF_PHOTOS
        write_itk(labels.T[:, :, None], path, affine, np.uint8, True)
    elif extension == _PICTURES[0]:
        Path(path).write_bytes(encode_label_map(labels))  # several times faster than ITK
    else:
        write_itk(labels.T, path, None, np.uint8, True)
    return path
