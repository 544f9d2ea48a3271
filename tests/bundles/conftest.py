"""The table of the bundles, and what the contract suite runs them on.

A new bundle is one entry of `TABLE`. Everything runs on phantoms, small and with small networks; what the shipped
weights find is tested on phantoms of the usual size.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import fire
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, scripts
from numpy.typing import NDArray
from PIL import Image

from common.biomarkers import LAYERS
from common.errors import SettingError
from common.phantoms import fundus_phantom, oct_phantom, write_fundus_phantoms, write_oct_phantoms

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
TIMEOUT = 900
# Small networks are faster on one thread, and the tests leave the other cores to whoever needs them.
THREADS = "1"
IMAGENET = ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))


# --- kinds of pictures -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Marked:
    """A picture with marks that are neither symmetric nor central, and which a network of one pixel can find.

    Attributes:
        picture: ``(H, W, 3)`` or ``(H, W)``, uint8.
        masks: the mark of each structure.
        mark: all of them.
    """

    picture: NDArray[np.uint8]
    masks: Mapping[str, NDArray[np.bool_]]

    @property
    def mark(self) -> NDArray[np.bool_]:
        return np.logical_or.reduce(list(self.masks.values()))


class Photos:
    """Fundus photos.

    Attributes:
        noun: what the bundle calls its inputs.
        channels: of the network's input.
        odd: what `note` says of a picture of the kind "none".
        canvas: settings of a size of preprocessing that is large enough for the tests of exports.
    """

    noun = "photo"
    channels = 3
    odd = "no field of view found"
    canvas: Mapping[str, int] = {"diameter": 320}

    def write(self, root: Path, count: int, sizes: Sequence[tuple[int, int]]) -> None:
        """Write phantoms: pictures in `image`, truths in other folders."""
        write_fundus_phantoms(root, count, sizes=sizes)

    def draw(self, height: int, width: int, seed: int, kind: Any = "round") -> tuple[NDArray[np.uint8], Any]:
        """Draw a phantom: the picture, and an object with the true mask of each structure."""
        phantom = fundus_phantom(height, width, seed=seed, field_of_view=kind)
        return phantom.photo, lambda structure: getattr(phantom, structure)

    def blank(self, height: int, width: int) -> NDArray[np.uint8]:
        """A picture on which there is nothing to find."""
        center, radius = (width // 2, height // 2), round(0.47 * min(height, width))
        circle = cv2.circle(np.zeros((height, width, 3), np.uint8), center, radius, (60, 40, 30), cv2.FILLED)
        return np.asarray(circle, dtype=np.uint8)

    def mark(self, bundle: Bundle, height: int, width: int, seed: int, kind: Any) -> Marked:
        """A phantom with a blue mark, which stands for every structure."""
        mark = np.zeros((height, width), dtype=bool)
        # An "L" right of the middle, with its foot to the left: no flip and no transposition gives it back.
        thick = min(height, width) // 10
        top, left = round(0.2 * height), round(0.55 * width)
        mark[top : top + 4 * thick, left : left + thick] = True
        mark[top + 3 * thick : top + 4 * thick, left - thick : left + thick] = True
        photo = fundus_phantom(height, width, seed=seed, field_of_view=kind).photo.copy()
        photo[mark] = (0, 0, 255)
        return Marked(photo, dict.fromkeys(bundle.structures or ("mark",), mark))

    def finder(self, bundle: Bundle) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of a convolution of one pixel that finds blue.

        Its logit is 20 (B - R - 0.1) of the normalised input.
        """
        channels = len(bundle.structures)
        (red, red_std), _, (blue, blue_std) = bundle.mean_and_std
        weight = torch.tensor([-20 * red_std, 0.0, 20 * blue_std]).reshape(1, 3, 1, 1).repeat(channels, 1, 1, 1)
        return weight, torch.full((channels,), 20 * (blue - red - 0.1))


class BScans:
    """OCT B-scans, see `Photos`. Marks are seven layers of their own grey values, the same share of every column."""

    noun = "B-scan"
    channels = 1
    odd = "border left out"
    canvas: Mapping[str, int] = {"columns": 320, "rows": 320}
    levels = np.array([8, *np.linspace(160, 235, len(LAYERS))])
    share = 0.05  # of the height, for each layer

    def write(self, root: Path, count: int, sizes: Sequence[tuple[int, int]]) -> None:
        write_oct_phantoms(root, count, sizes=sizes)

    def draw(self, height: int, width: int, seed: int, kind: Any = "round") -> tuple[NDArray[np.uint8], Any]:
        phantom = oct_phantom(height, width, seed=seed, border=self._border(kind))
        return phantom.scan, lambda structure: phantom.labels == 1 + LAYERS.index(structure)

    def blank(self, height: int, width: int) -> NDArray[np.uint8]:
        return np.full((height, width), 20, dtype=np.uint8)

    def mark(self, bundle: Bundle, height: int, width: int, seed: int, kind: Any) -> Marked:
        # A slope that gets steeper: no flip and no transposition gives it back.
        top = np.rint(height * (0.06 + 0.5 * (np.arange(width) / width) ** 2))
        edges = top + np.rint(self.share * height * np.arange(len(LAYERS) + 1))[:, None]
        rows = np.arange(height)[:, None]
        masks = {name: (rows >= edges[i]) & (rows < edges[i + 1]) for i, name in enumerate(LAYERS)}
        scan = np.full((height, width), self.levels[0], dtype=np.uint8)
        for level, mask in zip(self.levels[1:], masks.values(), strict=True):
            scan[mask] = round(float(level))
        if self._border(kind) == "white":
            scan[:, : width // 10] = 255
            masks = {name: mask & (np.arange(width) >= width // 10) for name, mask in masks.items()}
        return Marked(scan, masks)

    def finder(self, bundle: Bundle) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of a convolution of one pixel that gives the class with the nearest grey value.

        Its logits are ``k (2 m x - m^2)`` for the classes' values ``m``: the square of the distance but for ``x^2``.
        Every marked B-scan has the same histogram, so that its normalised values are known.
        """
        shares = np.array([1 - self.share * len(LAYERS), *[self.share] * len(LAYERS)])
        mean = float(shares @ self.levels)
        deviation = float(np.sqrt(shares @ (self.levels - mean) ** 2))
        values = torch.tensor((self.levels - mean) / deviation, dtype=torch.float32)
        return 2000 * 2 * values.reshape(-1, 1, 1, 1), -2000 * values**2

    @staticmethod
    def _border(kind: Any) -> Any:
        return "white" if kind == "none" else "none"


class Lesions(Photos):
    """Fundus photos with lesions, see `Photos`. Each lesion has a mark of its own colour, since they are exclusive."""

    COLOURS: ClassVar[tuple[tuple[int, int, int], ...]] = ((0, 0, 255), (0, 255, 0))

    def write(self, root: Path, count: int, sizes: Sequence[tuple[int, int]]) -> None:
        for number in range(count):
            height, width = sizes[number % len(sizes)]
            phantom = fundus_phantom(height, width, seed=number, exudates=2, haemorrhages=3)
            pictures = {"image": phantom.photo, "fov": phantom.field_of_view}
            pictures |= {name: getattr(phantom, name) for name in ("exudate", "haemorrhage")}
            for folder, picture in pictures.items():
                (root / folder).mkdir(exist_ok=True)
                values = picture if folder == "image" else picture.astype(np.uint8) * 255
                Image.fromarray(values).save(root / folder / f"phantom_{number:03d}.png")

    def draw(self, height: int, width: int, seed: int, kind: Any = "round") -> tuple[NDArray[np.uint8], Any]:
        phantom = fundus_phantom(height, width, seed=seed, field_of_view=kind, exudates=3, haemorrhages=5)
        return phantom.photo, lambda structure: getattr(phantom, structure)

    def mark(self, bundle: Bundle, height: int, width: int, seed: int, kind: Any) -> Marked:
        photo = fundus_phantom(height, width, seed=seed, field_of_view=kind).photo.copy()
        masks = {}
        thick = min(height, width) // 12
        for number, (structure, colour) in enumerate(zip(bundle.structures, self.COLOURS, strict=True)):
            mark = np.zeros((height, width), dtype=bool)
            top, left = round(0.2 * height), round((0.62 - 0.34 * number) * width)
            mark[top : top + 4 * thick, left : left + thick] = True
            mark[top + 3 * thick : top + 4 * thick, left - thick : left + thick] = True
            photo[mark] = colour
            masks[structure] = mark
        return Marked(photo, masks)

    def finder(self, bundle: Bundle) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight and bias of a convolution of one pixel: the background's logit is 0, those of blue and green as above.

        Blue is found by B - R, green by G - R.
        """
        (red, red_std), (green, green_std), (blue, blue_std) = bundle.mean_and_std
        weight = torch.zeros(3, 3, 1, 1)
        weight[1, :, 0, 0] = torch.tensor([-20 * red_std, 0.0, 20 * blue_std])
        weight[2, :, 0, 0] = torch.tensor([-20 * red_std, 20 * green_std, 0.0])
        return weight, torch.tensor([0.0, 20 * (blue - red - 0.1), 20 * (green - red - 0.1)])


PHOTOS, B_SCANS, LESION_PHOTOS = Photos(), BScans(), Lesions()


UNET = {"_target_": "UNet", "spatial_dims": 2, "channels": [8, 16, 16], "strides": [2, 2]}


@dataclass(frozen=True)
class Bundle:
    """What the suite has to know about one bundle.

    A bundle either has ``structures`` and writes masks, or has ``labels`` and writes probabilities.

    Attributes:
        name: its folder.
        structures: name of each channel of the output, and the folder of its truth among the phantoms' masks.
        labels: of a classifier.
        settings: ids of the configs that make a run small.
        small: ids that make the bundle's own network small.
        tiny: another network, from MONAI, for `network_def`.
        changed: what makes yet another one of it.
        other: a third one, also from MONAI, and what names of its parameters begin with.
        metric: of training and validation, after ``train_`` and ``val_``.
        curves: what the learning curves have besides the metric and the loss.
        figures: names of the pictures in TensorBoard, and of the files of the second epoch.
        canvas: settings of a size of preprocessing that is large enough for the tests of exports.
        biomarkers: some of the columns that inference has to write.
        nothing_found: what `note` says of a photo on which nothing is found.
        floor: mean Dice that the shipped weights have to reach on phantoms.
        masks: key of a data list that names a mask, and the folder of these masks among the phantoms.
        entries: what else an item of a data list says.
        training: further ids of ``train.json`` that make a run small.
        mean_and_std: of each channel, with which the input is normalised.
        pictures: columns of the pictures that inference writes beside the masks.
        outlined: whether the overlay shows the outlines of the masks; else it fills them.
        cleaned: whether the masks are more than the pixels whose probability reaches the threshold.
        words: columns of words.
        table: columns of `table_path` that change the results; none where the bundle takes no table.
        metrics: metrics of the evaluation report, beside those that every report has.
        report: parts of the evaluation report, beside ``settings`` and ``structures``.
        input_size: width and height of the network's input, where it takes one size only; such a network is traced.
        lengths: columns of the evaluation report, beside the metrics, that may be above 1.
        pictures_of: the kind of its inputs, `PHOTOS` or `B_SCANS`.
        label_map: whether it writes one label map (1 for the first structure, and so on) in place of masks.
        agreement: how much the masks overlap with the pixels whose probability reaches 0.5, where ``cleaned``.
        setting: a number that the results depend on, its default and another value.
        out_of_range: settings of inference, each with a value that is refused.
        bad_label: what is said of a label with 256 grey values.
    """

    name: str
    structures: Mapping[str, str]
    settings: Mapping[str, Any]
    small: Mapping[str, Any]
    tiny: Mapping[str, Any]
    biomarkers: Sequence[str] = ()
    nothing_found: str = ""
    floor: float = 0.0
    masks: Mapping[str, str] = field(default_factory=dict)
    labels: Sequence[str] = ()
    changed: Mapping[str, Any] = field(default_factory=lambda: {"features": [16, 8, 8, 8, 8, 8]})
    other: tuple[Mapping[str, Any], str] = (UNET, "model.1.submodule")
    metric: str = "dice"
    curves: Sequence[str] = ()
    figures: Mapping[str, str] = field(default_factory=lambda: {"photo, truth, prediction": "epoch_0002"})
    canvas: Mapping[str, int] = field(default_factory=dict)
    entries: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, int] = field(default_factory=dict)
    mean_and_std: Sequence[tuple[float, float]] = IMAGENET
    pictures: Sequence[str] = ("overlay",)
    outlined: bool = False
    cleaned: bool = False
    words: Sequence[str] = ()
    table: Sequence[str] = ()
    metrics: Sequence[str] = ()
    report: Sequence[str] = ()
    input_size: tuple[int, int] | None = None
    lengths: Sequence[str] = ()
    pictures_of: Photos | BScans = PHOTOS
    label_map: bool = False
    agreement: float = 0.95
    setting: tuple[str, float, float] = ("threshold", 0.5, 0.4)
    out_of_range: Sequence[tuple[str, Any]] = (
        ("threshold", 1.5),
        ("mirrored_views", 3),
        ("diameter", 20),
        ("diameter", "large"),
        ("pixel_size", 0),
    )
    bad_label: str = "is not binary: it has 256 grey values"

    @property
    def mask_files(self) -> dict[str, str]:
        """The columns of the files with masks, and what their names end in."""
        return {"labels": "labels"} if self.label_map else {f"mask_{name}": name for name in self.structures}

    @property
    def parts(self) -> list[str]:
        """The structures or the labels."""
        return list(self.labels or self.structures)

    @property
    def channels(self) -> dict[str, Any]:
        """Channels of the input and of the output, as arguments of a network of MONAI's."""
        outputs: int = self.read("metadata")["network_data_format"]["outputs"]["pred"]["num_channels"]
        return {"in_channels": self.pictures_of.channels, "out_channels": outputs}

    @property
    def root(self) -> Path:
        return BUNDLES / self.name

    @property
    def weights(self) -> Path:
        return self.root / "models" / "model.pt"

    def config(self, *names: str) -> str:
        """The argument of `--config_file` for some configs."""
        paths = [str(self.root / "configs" / f"{name}.json") for name in names]
        return paths[0] if len(paths) == 1 else repr(paths)

    def read(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.root / "configs" / f"{name}.json").read_text(encoding="utf-8"))
        return content


def unet(channels: int, out_channels: int, in_channels: int = 3) -> dict[str, Any]:
    return {
        "_target_": "BasicUNet",
        "spatial_dims": 2,
        "in_channels": in_channels,
        "out_channels": out_channels,
        "features": [channels] * 6,
    }


def classifier(side: int, classes: int) -> dict[str, Any]:
    return {
        "_target_": "Classifier",
        "in_shape": [3, side, side],
        "classes": classes,
        "channels": [8, 8],
        "strides": [2, 2],
    }


DENSENET = {
    "_target_": "DenseNet",
    "spatial_dims": 2,
    "init_features": 8,
    "growth_rate": 4,
    "block_config": [2, 2],
    "bn_size": 2,
}
# What all classifiers of photos have in common here.
CLASSIFIER: Mapping[str, Any] = {
    "structures": {},
    "pictures": ("overlay", "saliency"),
    "changed": {"channels": [16, 8]},
    "other": (DENSENET, "class_layers"),
    "metric": "auc",
    "curves": ("train_accuracy", "val_accuracy"),
    "figures": {
        "ROC curves": "ROC_curves",
        "calibration": "calibration",
        "confusion matrices": "confusion_matrices",
    },
    "canvas": {"size": 320},
    "mean_and_std": ((0.5, 0.5),) * 3,
    "setting": ("mirrored_views", 2, 1),
    "out_of_range": (("mirrored_views", 3),),
    "words": ("patient", "eye"),
}
SIDE = 64

SMALL_RESNET = {"network_def#backbone": "resnet18_b", "network_def#decoder_channels": [16, 16, 8, 8, 8]}
SMALL_PHOTOS = {"diameter": 128, "window_size": 96}

TABLE = [
    Bundle(
        name="vessel_segmentation",
        structures={"vessel": "mask"},
        settings=SMALL_PHOTOS,
        small=SMALL_RESNET,
        tiny=unet(8, 1),
        biomarkers=("vessel_density", "vessel_fractal_d0", "vessel_tortuosity_median", "vessel_calibre_mean_px"),
        nothing_found="no vessel found",
        floor=0.6,
        masks={"label": "mask"},
        table=("patient", "pixel_size"),
        training={"patch_size": 64, "patches_per_image": 2},
        metrics=("cldice",),
    ),
    Bundle(
        name="disc_cup_segmentation",
        structures={"disc": "disc", "cup": "cup"},
        settings={"diameter": 160, "view_size": 96},
        small={"network_def#decoder_channels": [32, 16, 16, 8, 8]},
        tiny=unet(8, 2),
        biomarkers=("cdr_vertical", "rim_area_px2", "disc_diameter_vertical_px", "rim_thickness_min_px", "ddls_stage"),
        nothing_found="no optic disc found",
        floor=0.6,
        masks={"disc": "disc", "cup": "cup"},
        entries={"label_format": "masks"},
        training={"view_size": 64, "views_per_image": 2},
        mean_and_std=((0.5, 0.5),) * 3,
        pictures=("overlay", "figure"),
        outlined=True,
        cleaned=True,
        words=("eye", "isnt_rule"),
        table=("eye", "patient", "pixel_size"),
        report=("photos",),
    ),
    Bundle(
        name="disc_cup_hqsam_segmentation",
        structures={"disc": "disc", "cup": "cup"},
        settings={"diameter": 160, "view_size": 96},
        small={"network_def#image_size": 64},
        tiny=unet(8, 2),
        biomarkers=("cdr_vertical", "rim_area_px2", "disc_diameter_vertical_px", "rim_thickness_min_px", "ddls_stage"),
        nothing_found="no optic disc found",
        # Trained without ImageNet, on photos centred on the disc: phantoms are too far from these. See test_hqsam.py.
        floor=0.4,
        masks={"disc": "disc", "cup": "cup"},
        entries={"label_format": "masks"},
        # The networks of the suite take no prompts; tests/bundles/test_hqsam.py trains with them.
        training={"view_size": 64, "views_per_image": 2, "prompt_probability": 0},
        mean_and_std=((0.5, 0.5),) * 3,
        pictures=("overlay", "figure"),
        outlined=True,
        cleaned=True,
        words=("eye", "isnt_rule"),
        table=("eye", "patient", "pixel_size"),
        report=("photos",),
        input_size=(224, 224),
    ),
    Bundle(
        name="oct_layer_segmentation",
        structures=dict.fromkeys(LAYERS, "labels"),
        settings={"columns": 160, "rows": 160},
        small={"base_channels": 4},
        tiny=unet(8, 8, in_channels=1),
        biomarkers=("nfl_thickness_mean_px", "onl_ism_thickness_max_px", "retina_thickness_median_px"),
        nothing_found="no retina found",
        floor=0.6,
        masks={"label": "labels"},
        training={"strip_columns": 48, "strip_rows": 64},
        pictures=("overlay", "figure", "profile"),
        cleaned=True,
        words=("volume",),
        report=("scans",),
        lengths=("hausdorff95_px",),
        pictures_of=B_SCANS,
        label_map=True,
        agreement=0.75,
        setting=("certainty", 1.0, 0.4),
        out_of_range=(("certainty", 0), ("smoothing", 51), ("mirrored_views", 3), ("pixel_size", 0)),
        bad_label="has the grey values [8, 9, 10, 11, 12, 13]: a label map has 0 for background",
    ),
    Bundle(
        name="odir_classification",
        labels=tuple("NDGCAHMO"),
        settings={"size": SIDE, "use_biomarkers": False, "clinical_columns": {}},
        # The bundle's own training joins biomarkers and clinical columns.
        small={"use_biomarkers": True, "clinical_columns": {"age": None, "sex": ["female", "male"]}},
        tiny=classifier(SIDE, 8),
        table=("eye", "patient"),
        **CLASSIFIER,
    ),
    Bundle(
        name="dr_lesion_segmentation",
        structures={"exudate": "exudate", "haemorrhage": "haemorrhage"},
        settings=SMALL_PHOTOS,
        small={"decoder_channels": [32, 16, 16, 8, 8]},
        tiny=unet(8, 3),
        biomarkers=("exudate_largest_px2", "haemorrhage_largest_px2"),
        nothing_found="no exudate found; no haemorrhage found",
        # Trained on photos of one camera: exudates reach 0.77, but the phantoms' dark mottled background is taken for
        # haemorrhages (0.22), the figure that decides.
        floor=0.15,
        masks={"exudate": "exudate", "haemorrhage": "haemorrhage"},
        entries={"label_format": "masks", "lesions": ["exudate", "haemorrhage"]},
        training={"patch_size": 64, "patches_per_image": 2},
        mean_and_std=((0.5, 0.5),) * 3,
        table=("patient", "pixel_size"),
        report=("lesions",),
        pictures_of=LESION_PHOTOS,
        curves=("val_aupr",),
    ),
    Bundle(
        name="dr_classification",
        labels=("DR",),
        settings={"size": SIDE},
        small={},
        tiny=classifier(SIDE, 2),
        table=("eye", "patient"),
        **CLASSIFIER,
    ),
]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of masks for classifiers, and tests of labels for bundles that write masks."""
    left_out = []
    for item in items:
        callspec = getattr(item, "callspec", None)
        bundle = callspec.params.get("bundle") if callspec else None
        if isinstance(bundle, Bundle):
            other = "segmentation" if bundle.labels else "classification"
            if item.get_closest_marker(other):
                left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session", params=TABLE, ids=lambda bundle: bundle.name)
def bundle(request: pytest.FixtureRequest) -> Bundle:
    """Each bundle in turn."""
    found: Bundle = request.param
    return found


@pytest.fixture(scope="session")
def bundle_names() -> list[str]:
    """The bundles of the table."""
    return [entry.name for entry in TABLE]


@pytest.fixture(scope="session", autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(int(THREADS))
    yield
    torch.set_num_threads(before)


# --- running ---------------------------------------------------------------------------------------------------------


def arguments(options: Mapping[str, Any]) -> list[str]:
    """Options as a user types them."""
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]


@dataclass
class Command:
    """`python -m monai.bundle` in processes of its own."""

    prefix: Sequence[str] = ("-m", "monai.bundle")
    environment: Mapping[str, str] = field(default_factory=lambda: {**os.environ, "OMP_NUM_THREADS": THREADS})

    def start(self, log: Path, cwd: Path, *words: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start it with its output in a file."""
        with log.open("wb") as output:
            return subprocess.Popen(
                [sys.executable, *self.prefix, *words, *arguments(options)],
                cwd=cwd,
                env=dict(self.environment),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __call__(self, cwd: Path, *words: str, fails: bool = False, **options: Any) -> str:
        """Run it to its end and give what it printed."""
        done = subprocess.run(
            [sys.executable, *self.prefix, *words, *arguments(options)],
            cwd=cwd,
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            text=True,
            errors="replace",
        )
        assert (done.returncode != 0) == fails, done.stdout[-6000:]
        return done.stdout


@pytest.fixture(scope="session")
def command() -> Command:
    """Runs `python -m monai.bundle`, in a process of its own, in a given folder."""
    return Command()


@pytest.fixture(scope="session")
def torchrun() -> Command:
    """Runs `torchrun --nproc_per_node=2 -m monai.bundle`."""
    return Command(("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle"))


@pytest.fixture(scope="session")
def in_process() -> Callable[..., None]:
    """The same commands with the same reading of their arguments, in this process: no seconds for the imports."""
    verbs = {name: getattr(scripts, name) for name in ("run", "verify_net_in_out", "ckpt_export", "onnx_export")}

    def call(*words: str, **options: Any) -> None:
        if words[0] == "run":
            options["logging_file"] = False
        fire.Fire(verbs, command=[*words, *arguments(options)])

    return call


@pytest.fixture(scope="session")
def workflow() -> Callable[..., ConfigWorkflow]:
    """Makes MONAI's workflow of a bundle's configs."""

    def make(bundle: Bundle, *names: str, **options: Any) -> ConfigWorkflow:
        kind = "train" if names[0] == "train" else "infer"
        return ConfigWorkflow(
            config_file=[str(bundle.root / "configs" / f"{name}.json") for name in names],
            meta_file=str(bundle.root / "configs" / "metadata.json"),
            logging_file=False,
            workflow_type=kind,
            bundle_root=str(bundle.root),
            **options,
        )

    return make


@pytest.fixture(scope="session")
def setting_error(in_process: Callable[..., None]) -> Callable[..., str]:
    """Runs a command that has to stop for a wrong setting, and gives its one sentence."""

    def run(*words: str, **options: Any) -> str:
        with pytest.raises(Exception) as raised:  # noqa: PT011  MONAI wraps it in errors of its own
            in_process(*words, **options)
        error: BaseException | None = raised.value
        while error is not None and not isinstance(error, SettingError):
            error = error.__cause__ or error.__context__
        assert error is not None, f"stopped by {raised.value!r}"
        return str(error)

    return run


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], bool], subprocess.Popen[bytes]], None]:
    """Waits for something that a running process does."""

    def wait(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
        limit = time.monotonic() + TIMEOUT
        while not happened():
            assert process.poll() is None, "the process ended before it happened"
            assert time.monotonic() < limit, "it did not happen"
            time.sleep(0.0005)

    return wait


# --- data ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """A small data set of phantoms with its list, and the options that name it."""

    root: Path
    data_list: Path
    further: Mapping[str, str] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, str]:
        return {"dataset_dir": str(self.root), "data_list": str(self.data_list), **self.further}


def known_of(bundle: Bundle, number: int) -> dict[str, Any]:
    """What the data list of a classifier says of a photo: every label is there and is not there in both splits."""
    if not bundle.labels:
        return {}
    labels = [name for place, name in enumerate(bundle.labels) if (place + number) % 3 == 0]
    return {
        "label": labels,
        "patient": f"P{number // 2}",
        "eye": ("OD", "OS")[number % 2],
        "age": None if number == 2 else 40 + number,
        "sex": ("female", "male")[number % 2],
    }


def write_biomarkers(bundle: Bundle, path: Path, images: Sequence[str]) -> dict[str, str]:
    """Write a table of biomarkers, as the bundle of disc and cup does; one photo has no row, another an empty cell."""
    columns = bundle.read("train").get("biomarker_columns")
    if not columns:
        return {}
    lines = [["image", *columns, "note"]]
    for number, image in enumerate(images[:-1]):
        lines.append([image, *(f"{0.1 * number + 0.01 * place:.3f}" for place in range(len(columns))), ""])
    lines[1][1] = ""
    path.write_text("".join(",".join(line) + "\n" for line in lines), encoding="utf-8")
    return {"biomarkers_path": str(path)}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Data:
    """Seven phantoms of three sizes, none square but one: four for training, three for validation."""
    root = tmp_path_factory.mktemp("phantoms")
    bundle.pictures_of.write(root, 7, sizes=((128, 160), (144, 144), (160, 128)))
    items = [
        {
            "image": path.relative_to(root).as_posix(),
            **{key: f"{folder}/{path.stem}.png" for key, folder in bundle.masks.items()},
            **bundle.entries,
            **({"fov": f"fov/{path.stem}.png"} if (root / "fov").is_dir() else {}),
            "patient": path.stem,
            "dataset": "phantoms",
            **known_of(bundle, number),
        }
        for number, path in enumerate(sorted((root / "image").iterdir()))
    ]
    data_list = root / "list.json"
    data_list.write_text(json.dumps({"training": items[:4], "validation": items[4:]}), encoding="utf-8")
    return Data(root, data_list, write_biomarkers(bundle, root / "biomarkers.csv", [item["image"] for item in items]))


@pytest.fixture(scope="session")
def make_marked(bundle: Bundle) -> Callable[..., Marked]:
    """Draws a picture with marks, which the network of `blue` finds."""

    def make(height: int, width: int, seed: int = 0, field_of_view: Any = "round") -> Marked:
        return bundle.pictures_of.mark(bundle, height, width, seed, field_of_view)

    return make


def share_of_blue(bundle: Bundle, path: Path) -> dict[str, Any]:
    """A classifier whose logits grow with the mean of B - R of the normalised input."""
    outputs = bundle.channels["out_channels"]
    network = {
        **classifier(bundle.settings["size"], outputs),
        **{"channels": [1], "strides": [1], "kernel_size": 1, "num_res_units": 0, "norm": None},
    }
    state = ConfigParser({"net": dict(network)}).get_parsed_content("net").state_dict()
    state["net.layer_0.conv.weight"][:] = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    state["net.layer_0.conv.bias"][:] = 0
    # Each output a little more than the one before, so that a softmax grows too.
    pixels = state["final.1.weight"].shape[1]
    state["final.1.weight"][:] = 6 / pixels * torch.linspace(0.5, 1, outputs)[:, None]
    state["final.1.bias"][:] = 2
    torch.save(state, path)
    return {"network_def": network, "ckpt_path": str(path)}


@pytest.fixture(scope="session")
def blue(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> dict[str, Any]:
    """Options for inference: a network of one pixel that finds the marks, so that the right masks are known exactly.

    Everything else in the run is the bundle's own. Of a classifier, probabilities grow with the marks.
    """
    if bundle.labels:
        return {**bundle.settings, **share_of_blue(bundle, tmp_path_factory.mktemp("blue") / "model.pt")}
    weight, bias = bundle.pictures_of.finder(bundle)
    path = tmp_path_factory.mktemp("blue") / "model.pt"
    torch.save({"weight": weight, "bias": bias}, path)
    channels = {"in_channels": weight.shape[1], "out_channels": weight.shape[0]}
    network = {"_target_": "torch.nn.Conv2d", **channels, "kernel_size": 1}
    return {**bundle.settings, "network_def": network, "ckpt_path": str(path)}


# --- reading what a run wrote ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Output:
    """The folder of a run of inference."""

    folder: Path
    log: str = ""
    structures: Sequence[str] = ()

    def table(self, name: str = "results.csv") -> list[dict[str, str]]:
        path = self.folder / name
        if not path.exists():
            return []
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    def row(self, image: str) -> dict[str, str]:
        rows = [row for row in self.table() if row["image"] == image]
        assert len(rows) == 1, f"{image} has {len(rows)} rows"
        return rows[0]

    def failure(self, image: str) -> dict[str, str]:
        rows = [row for row in self.table("failures.csv") if row["image"] == image]
        assert len(rows) == 1, f"{image} has {len(rows)} failures"
        return rows[0]

    def masks(self, image: str) -> dict[str, NDArray[np.uint8]]:
        """The masks of an image, 0 and 255, also where they were written as one label map."""
        row = self.row(image)
        masks = {}
        for column, name in row.items():
            if column.startswith("mask_") or column == "labels":
                with Image.open(self.folder / name) as picture:
                    assert picture.format == "PNG"
                    assert picture.mode == "L"
                    values = np.asarray(picture)
                if column == "labels":
                    assert values.max() <= len(self.structures)
                    for label, structure in enumerate(self.structures, start=1):
                        masks[structure] = (values == label).astype(np.uint8) * np.uint8(255)
                else:
                    masks[column.removeprefix("mask_")] = values
        return masks

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Every file with the time of its last change and its content."""
        return {
            path.relative_to(self.folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        }


@pytest.fixture(scope="session")
def weights_of(bundle: Bundle, workflow: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights of a bundle; random ones of its network where it ships none yet."""
    if bundle.weights.is_file():
        return bundle.weights
    path = tmp_path_factory.mktemp("random") / "model.pt"
    torch.manual_seed(0)
    torch.save(workflow(bundle, "inference").parser.get_parsed_content("network_def").state_dict(), path)
    return path


@pytest.fixture(scope="session")
def output_of(bundle: Bundle) -> Callable[..., Output]:
    """Looks at the folder of a run of inference."""
    return functools.partial(Output, structures=tuple(bundle.structures))


@pytest.fixture(scope="session")
def overlap() -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """Intersection over union of two masks."""

    def measure(one: NDArray[Any], other: NDArray[Any]) -> float:
        assert one.shape == other.shape
        return float(np.logical_and(one, other).sum() / max(1, np.logical_or(one, other).sum()))

    return measure
