"""Speed and memory of the bundles, measured on this machine with the bundles' own configs.

The steps of an inference are timed inside the bundle's own evaluator, at its events; nothing is built anew here. Ratios
are of numbers taken in one run, in turn, so that what else the machine does meets all of them alike.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.bundles import available_bundles, find_bundle, has_weights, inference_command, open_bundle, reason_in
from common.demo import DEMO_INPUTS
from common.errors import SettingError

if TYPE_CHECKING:
    import torch

STEPS = ("read", "preprocess", "network", "postprocess", "write")
MAX_RATIO = 1.3
SIZES = {
    "fundus": ("565x584", "1752x1168", "3504x2336"),
    "oct": ("768x496", "1024x496", "1024x1024"),
}
"""What is measured unless sizes are given: width x height of the pictures, by the kind of picture."""

MAX_GIGABYTES = 2.5
EXAMINATION, EXAMINATION_SIZE, EXAMINATION_FIRST, EXAMINATION_GIGABYTES = "examine", "1752x1168", 50, 3.0
_EAGER, _BFLOAT16 = "eager, float32", "eager, bfloat16 autocast"
_CROP = 64
_SLOW = 4.0
_MEASURE = (
    "import resource, subprocess, sys\n"
    "code = subprocess.call(sys.argv[1:], stdout=sys.stderr)\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    "sys.exit(code)"
)


@dataclass(frozen=True)
class Size:
    """Size of a photo in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``565x584``: width x height.

        Raises:
            SettingError: it is of another form.
        """
        parts = text.lower().split("x")
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise SettingError(f"The size '{text}' in --sizes is not WIDTHxHEIGHT: write for example 565x584.")
        return cls(int(parts[0]), int(parts[1]))

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def run_benchmark(
    bundles: Sequence[str], output: str | Path, sizes: Sequence[str], repeats: int, photos: int = 0
) -> int:
    """Measure bundles, print Markdown tables and write them to a file.

    Args:
        bundles: names or folders, and ``examine`` for `retina examine`; all of it when there is none.
        output: the file.
        sizes: width x height of the pictures; those of `SIZES` for the bundle's kind of picture when there is none.
        repeats: measurements of which the median is taken, at least 1.
        photos: number of photos on which `retina examine` is measured; 0 for not at all.

    Returns:
        The exit code 0.

    Raises:
        SettingError: a setting is wrong, or a bundle has no weights.
    """
    if type(repeats) is not int or repeats < 1:
        raise SettingError(f"--repeats is {repeats!r}: give 1 or more.")
    if type(photos) is not int or photos < 0 or (not photos and EXAMINATION in bundles):
        raise SettingError(f"--photos is {photos!r}: give 1 or more, or leave `retina examine` out by 0.")
    target = Path(output)
    if not target.resolve().parent.is_dir():
        raise SettingError(f"The folder of --output {target} does not exist: make it, or give another file.")
    given = [Size.parse(size) for size in sizes]
    examined = bool(photos) and (not bundles or EXAMINATION in bundles)
    folders = [find_bundle(name) for name in bundles if name != EXAMINATION]
    if not bundles:
        folders = [path for path in available_bundles().values() if has_weights(path)]
    for folder in folders:
        if not has_weights(folder):
            raise SettingError(
                f"The bundle {folder.name} has no models/model.pt: train it, or leave it out of --bundles."
            )
    if not folders and not (bundles and examined):
        raise SettingError("No bundle has weights to measure: train one with `retina train` and put them into it.")
    parts = []
    with tempfile.TemporaryDirectory() as temporary:
        drawn: dict[tuple[str, Size], Path] = {}
        for folder in folders:
            modality = DEMO_INPUTS[folder.name].modality if folder.name in DEMO_INPUTS else "fundus"
            pictures = {}
            for size in given or [Size.parse(size) for size in SIZES[modality]]:
                if (modality, size) not in drawn:
                    drawn[modality, size] = _draw_photo(Path(temporary), size, modality)
                pictures[size] = drawn[modality, size]
            parts.append(_measure_bundle(folder, pictures, Path(temporary), repeats))
        if examined:
            parts.append(_measure_examination(photos, Path(temporary)))
    text = f"{_machine()}\n\n" + "\n".join(parts)
    target.write_text(text, encoding="utf-8")
    print(text)
    print(f"Written to {target}")
    return 0


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _draw_photo(folder: Path, size: Size, modality: str) -> Path:
    from common.phantoms import write_fundus_phantoms, write_oct_phantoms

    _note(f"drawing a picture of {size} ({modality})")
    root, shape = folder / f"{modality}_{size}", (size.height, size.width)
    if modality == "oct":
        return write_oct_phantoms(root, 1, sizes=[shape], borders=["none"], suffixes=[".png"]) / "image"
    return write_fundus_phantoms(root, 1, sizes=[shape], fields_of_view=["round"], photo_suffixes=[".jpg"]) / "image"


def _machine() -> str:
    import torch

    return (
        f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads, Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}; inference on "
        f"{'a GPU' if torch.cuda.is_available() else 'the CPU'}."
    )


def _measure_bundle(bundle: Path, photos: dict[Size, Path], temporary: Path, repeats: int) -> str:
    """Measure one bundle; gives its tables."""
    lines = [
        f"## {bundle.name}",
        "",
        f"Seconds per photo, and their sum over the network alone (at most {MAX_RATIO}); peak memory of a process that "
        f"does one photo (at most {MAX_GIGABYTES} GB).",
        "",
        f"| photo | {' | '.join(STEPS)} | sum | sum / network | memory |",
        f"|---|{'---:|' * (len(STEPS) + 3)}",
    ]
    networks: list[str] = []
    for size, folder in photos.items():
        _note(f"{bundle.name}: {size}")
        output = temporary / f"{bundle.name}_{size}"
        gigabytes = _peak_memory(bundle, folder, output / "memory")
        workflow = open_bundle(
            bundle, ["inference.json"], {"dataset_dir": str(folder), "output_dir": str(output / "steps")}
        )
        seconds, batch = _time_steps(workflow, repeats)
        total = sum(seconds.values())
        cells = [f"{seconds[step]:.3f}" for step in STEPS]
        lines.append(
            f"| {size} | {' | '.join(cells)} | {total:.3f} | {total / seconds['network']:.2f} | {gigabytes:.2f} GB |"
        )
        if size == list(photos)[-1]:
            _note(f"{bundle.name}: forms of the network")
            networks = _compare_networks(workflow, batch, temporary, repeats)
    return "\n".join([*lines, "", *networks, ""])


def _measure_examination(photos: int, temporary: Path) -> str:
    """Measure `retina examine` on many photos; gives its table."""
    size, after = Size.parse(EXAMINATION_SIZE), max(1, min(EXAMINATION_FIRST, photos // 2))
    (photo,) = _draw_photo(temporary / "examination", size, "fundus").iterdir()
    _note(f"{EXAMINATION}: {photos} photos")
    folder, report = temporary / "photos", temporary / "examination.json"
    folder.mkdir()
    for number in range(photos):
        os.link(photo, folder / f"{number:05d}{photo.suffix}")
    command = [sys.executable, "-m", "common.benchmark_examine", str(folder), str(temporary / "examined"), str(report)]
    _peak_gigabytes([*command, "--after", str(after)], "The examination")
    found = json.loads(report.read_text(encoding="utf-8"))
    took = [found[name] / photos for name in ("network_seconds", "seconds", "network_cpu_seconds", "cpu_seconds")]
    cells = [f"{took[0]:.3f}", f"{took[1]:.3f}", f"{took[1] / took[0]:.2f}", f"{took[3] / took[2]:.2f}"]
    cells += [f"{found[name]:.2f} GB" for name in ("gigabytes_after", "gigabytes")]
    return "\n".join(
        [
            "## retina examine",
            "",
            f"Seconds per photo of {size} from the first photo to the written report, and their ratio to the time of "
            f"the networks alone in the same run (at most {MAX_RATIO}), by the clock and by the time of the processor, "
            "which does not count what else the machine does; peak memory of the process after the first photos and "
            f"after all (at most {EXAMINATION_GIGABYTES:g} GB).",
            "",
            f"| photos | networks | all | ratio | ratio, processor | memory after {after} | memory after all |",
            "|---:|---:|---:|---:|---:|---:|---:|",
            f"| {photos} | {' | '.join(cells)} |",
            "",
        ]
    )


def _peak_memory(bundle: Path, photos: Path, output: Path) -> float:
    """Gigabytes that a fresh process with the real inference takes at most."""
    return _peak_gigabytes(inference_command(bundle, photos, output), f"The inference of {bundle.name}")


def _peak_gigabytes(command: Sequence[str], what: str) -> float:
    """Gigabytes that a fresh process takes at most.

    A small process starts it and asks for the peak of its child: a process takes over, as its own peak, that of the
    one that it was started from, and this one may be large.
    """
    measured = [sys.executable, "-c", _MEASURE, *command]
    done = subprocess.run(measured, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SettingError(f"{what} failed: {reason_in(done.stderr)}")
    # Linux counts in kilobytes, macOS in bytes.
    return int(done.stdout) / (1e9 if sys.platform == "darwin" else 1e6 / 1.024)


class _Stamp:
    """An identity among the transforms: notes when the data came by."""

    def __init__(self) -> None:
        self.moment = 0.0

    def __call__(self, data: Any) -> Any:
        self.moment = time.perf_counter()
        return data


def _time_steps(workflow: Any, repeats: int) -> tuple[dict[str, float], torch.Tensor]:
    """Median seconds of each step of the bundle's own evaluator, and the last batch that its network was given."""
    from ignite.engine import Events
    from monai.engines.utils import IterationEvents
    from monai.transforms import LoadImaged

    evaluator = workflow.parser.get_parsed_content("evaluator")
    network = workflow.parser.get_parsed_content("network")
    preprocessing = workflow.parser.get_parsed_content("preprocessing")
    transforms = list(preprocessing.transforms)
    readers = [number for number, transform in enumerate(transforms) if isinstance(transform, LoadImaged)]
    loaded = _Stamp()
    transforms.insert(readers[-1] + 1 if readers else 0, loaded)
    preprocessing.transforms = tuple(transforms)

    moments: dict[str, float] = {}
    runs: list[dict[str, float]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: moments.__setitem__(name, time.perf_counter())

    def finish() -> None:
        middle = (loaded.moment, moments["loaded"], moments["network"], moments["post"])
        edges = (moments["start"], *middle, time.perf_counter())
        runs.append({step: edges[i + 1] - edges[i] for i, step in enumerate(STEPS)})

    # Ignite calls the handlers of an event in the order in which they were added: these come after the bundle's own.
    evaluator.add_event_handler(Events.GET_BATCH_STARTED, note("start"))
    evaluator.add_event_handler(Events.GET_BATCH_COMPLETED, note("loaded"))
    evaluator.add_event_handler(IterationEvents.FORWARD_COMPLETED, note("network"))
    evaluator.add_event_handler(IterationEvents.MODEL_COMPLETED, note("post"))
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, finish)
    batches: list[torch.Tensor] = []
    hook = network.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))
    evaluator.run()
    hook.remove()
    if not runs:
        failures = Path(workflow.parser.get_parsed_content("results").failures)
        raise SettingError(f"The bundle failed on the photo: {failures.read_text(encoding='utf-8').splitlines()[-1]}")
    # The first run warms up; it is not counted.
    runs.clear()
    for _ in range(repeats):
        evaluator.run()
    return {step: statistics.median(run[step] for run in runs) for step in STEPS}, batches[-1]


def _compare_networks(workflow: Any, batch: torch.Tensor, temporary: Path, repeats: int) -> list[str]:
    """Time the network alone in several forms, in turn, on a batch of the photo."""
    import torch

    network = workflow.parser.get_parsed_content("network").eval()
    batch = torch.as_tensor(batch).detach()
    crop = batch[..., :_CROP, :_CROP].contiguous()
    with torch.inference_mode():
        forms = _network_forms(network, batch, temporary)
        # bfloat16 can be a hundred times slower on a CPU without arithmetic for it: a small part of the batch tells.
        slow = _bfloat16_ratio(network, crop)
        if slow > _SLOW:
            del forms[_BFLOAT16]
        outputs = {name: torch.as_tensor(form()).float().cpu() for name, form in forms.items()}
        seconds: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(repeats):
            for name, form in forms.items():
                seconds[name].append(_seconds(form, batch.is_cuda))
    base = statistics.median(seconds[_EAGER])
    shape = "x".join(str(side) for side in batch.shape)
    lines = [
        f"The network alone on a batch of {shape}: time relative to eager float32 of the same run, and largest "
        "difference of the logits.",
        "",
        "| network | seconds | ratio | difference |",
        "|---|---:|---:|---:|",
    ]
    for name, taken in seconds.items():
        median = statistics.median(taken)
        difference = float((outputs[name] - outputs[_EAGER]).abs().max())
        lines.append(f"| {name} | {median:.3f} | {median / base:.2f} | {difference:.1e} |")
    if slow > _SLOW:
        lines.append(f"| {_BFLOAT16} (on {_CROP}x{_CROP} only: this CPU has no arithmetic for it) | | {slow:.0f} | |")
    return lines


def _seconds(form: Callable[[], Any], on_gpu: bool) -> float:
    import torch

    started = time.perf_counter()
    form()
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _bfloat16_ratio(network: torch.nn.Module, crop: torch.Tensor) -> float:
    """Time of the network in bfloat16 autocast over that in float32, on a small batch, the second time of each."""
    ratio = [
        _seconds(_autocast(network, crop), crop.is_cuda) / _seconds(lambda: network(crop), crop.is_cuda)
        for _ in range(2)
    ]
    return ratio[-1]


def _autocast(network: torch.nn.Module, batch: torch.Tensor) -> Callable[[], torch.Tensor]:
    import torch

    def run() -> torch.Tensor:
        with torch.autocast(batch.device.type, dtype=torch.bfloat16):
            result: torch.Tensor = network(batch)
        return result

    return run


def _network_forms(network: torch.nn.Module, batch: torch.Tensor, temporary: Path) -> dict[str, Callable[[], Any]]:
    """The network in each form, as functions that run it on the batch."""
    import onnxruntime
    import torch
    from monai.networks.utils import convert_to_onnx

    frozen = torch.jit.freeze(torch.jit.trace(network, batch))
    path = temporary / "network.onnx"
    convert_to_onnx(network, [batch], input_names=["image"], filename=str(path), dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    wanted = ["CUDAExecutionProvider"] * batch.is_cuda + ["CPUExecutionProvider"]
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    array = batch.cpu().numpy()

    return {
        _EAGER: lambda: network(batch),
        "TorchScript (traced, frozen)": lambda: frozen(batch),
        "ONNX Runtime": lambda: session.run(None, {"image": array})[0],
        _BFLOAT16: _autocast(network, batch),
    }
