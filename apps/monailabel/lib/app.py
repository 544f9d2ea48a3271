"""The app: which bundles it serves, and what clients may ask of them."""

from __future__ import annotations

import atexit
import functools
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag
from monailabel.interfaces.exception import MONAILabelException
from monailabel.interfaces.tasks.batch_infer import BatchInferTask
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.utils.others.generic import remove_file
from monailabel.utils.sessions import Sessions

from common.bundles import available_bundles, find_bundle
from common.errors import SettingError
from common.label.inference import describe
from lib.datastore import PhotoDatastore
from lib.errors import refuse, removed_if_refused, told_to_client, unknown
from lib.infer import SERVED, BundleInfer
from lib.strategy import AnyPhoto, Uncertainty
from lib.train import BundleTrain

_ALL = "all"
_NAMED_IMAGES = 10
_logger = logging.getLogger(__name__)


def chosen_bundles(conf: Mapping[str, str]) -> dict[str, Path]:
    """The bundles that ``--conf models`` names, by default all that the app can serve.

    Raises:
        SettingError: there is no such bundle.
    """
    names = [name.strip() for name in conf.get("models", _ALL).split(",")]
    if _ALL not in names:
        return {name: find_bundle(name) for name in names}
    bundles = available_bundles()
    for name in [name for name, path in bundles.items() if describe(path).kind not in SERVED]:
        _logger.warning(f"The bundle {name} is left out: it gives neither masks nor probabilities.")
        del bundles[name]
    return bundles


def bundle_settings(conf: Mapping[str, str], bundles: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """What ``--conf BUNDLE.ID VALUE`` sets in each bundle's ``inference.json``; values are read as JSON, or text.

    Raises:
        SettingError: a setting is for a bundle that is not served.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in bundles}
    for key, value in conf.items():
        bundle, dot, name = key.partition(".")
        if not dot:
            continue
        if bundle not in found:
            raise SettingError(f"--conf {key} is for '{bundle}', and these are served: {', '.join(found)}.")
        try:
            found[bundle][name] = json.loads(value)
        except ValueError:
            found[bundle][name] = value
    return found


class TolerantBatchInfer(BatchInferTask):
    """MONAI Label's batch inference, which outlives a broken photo and asks for GPUs only where there are some."""

    def __call__(self, request: Mapping[str, Any], datastore: Datastore, infer: Callable[..., Any]) -> dict[str, Any]:
        """Infer every image; one that cannot be used has an ``error`` in the answer."""

        def try_to_infer(image_request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
            try:
                found: dict[str, Any] = infer(image_request, datastore)
            except HTTPException as error:
                _logger.warning(f"{image_request['image']} is left out: {error.detail}")
                return {"error": error.detail}
            return found

        multi_gpu = bool(request.get("multi_gpu", True)) and torch.cuda.is_available()
        done: dict[str, Any] = super().__call__({**request, "multi_gpu": multi_gpu}, datastore, try_to_infer)
        return done


class NoSessions(Sessions):
    """Refuses sessions: MONAI Label unpacks archives that clients send for them without a look at the paths inside."""

    def get_session(self, *args: Any, **kwargs: Any) -> None:
        """Refuse."""
        raise refuse(HTTPStatus.NOT_IMPLEMENTED, "This server keeps no sessions: send the photo itself, as 'file'.")

    remove_session = get_session

    def add_session(self, data_file: str, *args: Any, **kwargs: Any) -> None:
        """Remove what was sent, and refuse."""
        sent = Path(data_file)
        remove_file(str(sent if sent.is_dir() else sent.parent))
        self.get_session()


class RetinaApp(MONAILabelApp):
    """Serves bundles: inference, fine-tuning, active learning. MONAI Label looks for this class.

    Args:
        app_dir: folder of this file.
        studies: folder of the photos.
        conf: what ``--conf`` gave.

    Raises:
        SettingError: a setting is wrong.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.bundles = chosen_bundles(conf)
        self.bundle_settings = bundle_settings(conf, self.bundles)
        self._uploads: Path | None = None
        super().__init__(
            app_dir,
            studies,
            conf,
            name="Retinal imaging",
            description="The bundles of this repository for annotators of retinal images",
        )

    def fine_tuned(self, bundle: str) -> Path:
        """Where the fine-tuned weights of a bundle are put: beside the photos, never in the bundle."""
        return Path(self.studies) / "training" / bundle / "model.pt"

    # --- what the app is made of ------------------------------------------------------------------------------------

    def init_datastore(self) -> Datastore:
        """The folder of studies."""
        if "://" in self.studies:
            raise SettingError(f"--studies is {self.studies}, and this app serves photos of a folder: give a folder.")
        return PhotoDatastore(self.studies, settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD)

    def init_infers(self) -> dict[str, BundleInfer]:
        """Inference of every bundle."""
        return {
            name: BundleInfer(path, self.fine_tuned(name), self.bundle_settings[name])
            for name, path in self.bundles.items()
        }

    def init_trainers(self) -> dict[str, TrainTask]:
        """Fine-tuning of every bundle that gives masks, which a person can correct."""
        return {
            name: BundleTrain(path, self.fine_tuned(name))
            for name, path in self.bundles.items()
            if not describe(path).classifies
        }

    def init_strategies(self) -> dict[str, Strategy]:
        """Which photo comes next."""
        return {"random": AnyPhoto(), "first": First(), "uncertainty": Uncertainty(self._infers)}

    def init_batch_infer(self) -> BatchInferTask:
        """Inference of many photos, in a process of its own."""
        return TolerantBatchInfer()

    def _load_sessions(self, load: bool = False) -> Sessions:
        """No sessions."""
        return NoSessions()

    # --- what clients ask for -----------------------------------------------------------------------------------------

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a bundle on one image.

        Args:
            request: ``model``, ``image`` (its name in the datastore, or an uploaded file), ``save_label`` and
                ``label_tag`` to keep the result, and what `BundleInfer` takes.
            datastore: where the image is; by default the app's.

        Returns:
            ``file``, ``label``, ``tag`` and ``params``, as MONAI Label's endpoints take them.

        Raises:
            HTTPException: it cannot be done.
        """
        task = self._infers.get(request.get("model"))
        if task is None:
            raise unknown("model", request.get("model"), self._infers)
        store = datastore or self.datastore()
        image = request.get("image")
        stored = store.get_image_uri(image) if isinstance(image, str) else ""
        path = Path(stored) if stored else self._uploaded(image)
        answer = functools.partial(task, {**request, "image": str(path), "name": path.name if stored else "photo"})
        if stored:
            file, params = answer()
        else:
            with removed_if_refused(path):
                file, params = answer()
        tag = request.get("label_tag") or DefaultLabelTag.ORIGINAL.value
        label = file
        if file and stored and request.get("save_label"):
            label = store.save_label(image, file, tag, {"model": request["model"], "params": params})
        return {"label": label, "tag": tag, "file": file, "params": params}

    def infer_wsi(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """What QuPath and the Digital Slide Archive call: photos are small enough to be done whole."""
        return self.infer(request, datastore)

    def train(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Fine-tune a bundle, in the process that MONAI Label starts for it.

        Raises:
            HTTPException: it cannot be done.
        """
        model = request.get("model")
        self.bundle_path(model)
        if model is not None and model not in self._trainers:
            raise refuse(
                HTTPStatus.BAD_REQUEST,
                f"The bundle {model} gives no masks that could be corrected: train it by `retina train`.",
            )
        with told_to_client(f"The training of {request.get('model')}"):
            trained: dict[str, Any] = super().train(request)
            return trained

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Choose the next photo.

        Raises:
            HTTPException: there is no such strategy.
        """
        if request.get("strategy") not in self._strategies:
            raise unknown("strategy", request.get("strategy"), self._strategies)
        sample: dict[str, Any] = super().next_sample(request)
        return sample

    def bundle_path(self, model: str | None) -> None:
        """MONAI Label asks for it before it starts a process for a model, so an unknown model is refused here.

        Nothing has to be added to that process's path: bundles have no code of their own.

        Raises:
            HTTPException: there is no such model.
        """
        if model is not None and model not in self._infers:
            raise unknown("model", model, self._infers)

    def model_file(self, model: str, validate: bool = True) -> str | None:
        """The fine-tuned weights alone: MONAI Label lets clients replace and delete the file that this names."""
        if model not in self._infers:
            raise unknown("model", model, self._infers)
        weights = self.fine_tuned(model)
        if not validate:
            weights.parent.mkdir(parents=True, exist_ok=True)
        return str(weights) if weights.is_file() or not validate else None

    def _uploaded(self, image: Any) -> Path:
        """The file that came with the request; no other file of the server is read for a client."""
        path = Path(str(image))
        if self._uploads is None or path.parent != self._uploads or not path.is_file():
            raise unknown("image in the studies folder", image, self.datastore().list_images()[:_NAMED_IMAGES])
        return path

    # --- the server ---------------------------------------------------------------------------------------------------

    def on_init_complete(self) -> None:
        """When the server is up: keep uploads apart from other files, and answer every error with a sentence."""
        self._uploads = Path(tempfile.mkdtemp(prefix="retina-uploads-"))
        atexit.register(shutil.rmtree, self._uploads, ignore_errors=True)
        # MONAI Label names its temporary files by this module, uploads and answers alike.
        tempfile.tempdir = str(self._uploads)
        from monailabel.app import app as server

        server.add_exception_handler(MONAILabelException, _answer)
        server.add_exception_handler(ValueError, _answer)
        server.add_exception_handler(Exception, _answer)
        # The server has put its handlers together before it started the app.
        server.middleware_stack = server.build_middleware_stack()
        super().on_init_complete()


def _answer(request: Request, error: Exception) -> JSONResponse:
    """Answer an error that nobody foresaw, or that MONAI Label has no answer for, with a sentence."""
    if isinstance(error, MONAILabelException):
        status, sentence = HTTPStatus.BAD_REQUEST, error.msg
    elif isinstance(error, json.JSONDecodeError):
        status, sentence = HTTPStatus.BAD_REQUEST, f"The parameters are no JSON ({error})."
    else:
        status, sentence = HTTPStatus.INTERNAL_SERVER_ERROR, f"The request failed ({type(error).__name__}: {error})."
    return JSONResponse({"detail": sentence}, status)
