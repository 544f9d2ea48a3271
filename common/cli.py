"""The `retina` command."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import fire
from fire.parser import DefaultParseValue

from common.bundles import find_bundle, open_bundle
from common.errors import SettingError, setting_error_behind

ALL_FAILED = 1
_NONE = "None"
WRONG_SETTING = 2
INTERRUPTED = 130


class _Task:
    """A command whose arguments were understood; it runs when Fire has found none left over.

    Args:
        run: gives the exit code.
    """

    def __init__(self, run: Callable[[], int]) -> None:
        # Private, so that Fire does not take it for a further command.
        self._run = run


def _deferred(command: Callable[..., int]) -> Callable[..., _Task]:
    """Make a command give a task in place of running: Fire would report a misspelt flag only after the run."""

    @functools.wraps(command)
    def prepare(*args: Any, **kwargs: Any) -> _Task:
        return _Task(functools.partial(command, *args, **kwargs))

    return prepare


class Commands:
    """Retinal imaging as MONAI bundles: segment and measure photos, train, evaluate, and see that it works.

    `retina COMMAND --help` describes a command.
    """

    @_deferred
    def infer(self, bundle: str, input: str, output: str, **overrides: Any) -> int:
        """Run a bundle on photos: masks, overlays and results.csv.

        The same as `python -m monai.bundle run` with the bundle's inference.json. Finished photos are skipped, so a
        run that was stopped goes on when it is started again; --overwrite does them anew. What cannot be used stands
        in failures.csv. The exit code is 0, or 1 when every photo failed, or 2 when a setting is wrong.

        Every id of the config can be set by a flag, a nested one with #: --threshold 0.4, --save_probability,
        --network_def#dropout 0.1. An id that the config does not have is refused.

        Args:
            bundle: name of a bundle, or path of its folder.
            input: folder of photos (its sub-folders too), or one photo.
            output: folder for the results; it is made.
            overrides: ids of the config and their values.
        """
        return _infer(bundle, input, output, overrides)

    @_deferred
    def examine(
        self,
        input: str,
        output: str,
        *,
        bundles: str | Sequence[str] | None = None,
        pixel_size: float | None = None,
        axial_scale: float | None = None,
        lateral_scale: float | None = None,
        saliency: bool = True,
        resume: bool = True,
        overwrite: bool = False,
        workers: int = 0,
        device: str | None = None,
    ) -> int:
        """Run every bundle on photos and OCT B-scans: one table, masks, overlays and a report to look at.

        OUTPUT gets results.csv and results.parquet (a row per photo), patients.csv where patients are known, masks/,
        overlays/, saliency/, report.html, run.json, and failures.csv where there are some. B-scans are told from fundus
        photos by what is on them. Started again after an interruption it goes on. For research; not a medical device.
        Exit codes as those of infer.

        Args:
            input: a photo or B-scan, a folder (its sub-folders too), or a CSV table with the column path and any of
                patient, eye, age, sex, pixel_size, axial_scale, lateral_scale, modality (fundus or oct), fovea_x,
                fovea_y, disc_x, disc_y.
            output: folder for the results; it is made.
            bundles: names, separated by commas; by default all that have weights, but disc_cup_hqsam_segmentation.
            pixel_size: micrometres of one pixel of the fundus photos.
            axial_scale: micrometres of one row of the B-scans.
            lateral_scale: micrometres of one column of the B-scans.
            saliency: classifiers draw which parts of a photo speak for their most probable label.
            resume: go on with what an earlier run has done; with --resume False, a folder with results is refused.
            overwrite: do everything again.
            workers: processes that read and prepare photos meanwhile.
            device: cpu, cuda or cuda:1; by default the GPU where there is one.
        """
        names = None if bundles is None else _names(bundles)
        scales = {"pixel_size": pixel_size, "axial_scale": axial_scale, "lateral_scale": lateral_scale}
        options = {**scales, "saliency": saliency, "workers": workers, "device": device}
        return _examine(input, output, names, resume, overwrite, options)

    @_deferred
    def train(self, bundle: str, dataset_dir: str, data_list: str, output: str, **overrides: Any) -> int:
        """Train a bundle on your own data, or go on with a training that was stopped.

        The same as `python -m monai.bundle run` with the bundle's train.json. The best weights are written to
        OUTPUT/models/model.pt.

        Every id of the config can be set by a flag, a nested one with #: --epochs 50, --learning_rate 0.0003. An id
        that the config does not have is refused.

        Args:
            bundle: name of a bundle, or path of its folder.
            dataset_dir: root of the data set.
            data_list: datalist JSON, as `python -m data_lists` writes it.
            output: folder for weights, curves and figures; it is made.
            overrides: ids of the config and their values.
        """
        given = {"dataset_dir": dataset_dir, "data_list": data_list, "output_dir": _text("output", output)}
        return _train(bundle, ["train.json"], given, overrides)

    @_deferred
    def evaluate(self, bundle: str, dataset_dir: str, data_list: str, output: str, **overrides: Any) -> int:
        """Measure a bundle on data with truth: evaluation_report.json and a figure.

        The same as `python -m monai.bundle run` with the bundle's train.json and evaluate.json.

        Every id of the config can be set by a flag, a nested one with #: --split test, --ckpt_path my_model.pt. An id
        that the config does not have is refused.

        Args:
            bundle: name of a bundle, or path of its folder.
            dataset_dir: root of the data set.
            data_list: datalist JSON, as `python -m data_lists` writes it.
            output: folder for the report; it is made.
            overrides: ids of the config and their values.
        """
        given = {"dataset_dir": dataset_dir, "data_list": data_list, "output_dir": _text("output", output)}
        return _train(bundle, ["train.json", "evaluate.json"], given, overrides)

    @_deferred
    def serve(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 7860,
        bundles: str | Sequence[str] | None = None,
        device: str | None = None,
        max_files: int = 20,
        max_megabytes: float = 50,
        keep_minutes: float = 60,
    ) -> int:
        """Serve a page in the browser: photos and B-scans in, overlays, biomarkers and probabilities out.

        Needs Gradio: pip install -e ".[web]" in the folder of the repository. What is uploaded is removed when its
        session ends. The page has no password: whoever reaches the address can use it. For research; not a medical
        device.

        Args:
            host: address to listen on; 0.0.0.0 lets other computers in.
            port: port to listen on; 0 takes a free one.
            bundles: names, separated by commas; by default all that have weights, but disc_cup_hqsam_segmentation.
            device: cpu, cuda or cuda:1; by default the GPU where there is one.
            max_files: how many files can be examined at once.
            max_megabytes: how large each of them may be.
            keep_minutes: how long files stay of a session that asks for nothing.
        """
        if find_spec("gradio") is None:
            raise SettingError(
                'The page needs Gradio: install it with pip install -e ".[web]" in the folder of the repository.'
            )
        from common.page import PageSettings, serve

        names = None if bundles is None else _names(bundles)
        serve(PageSettings(str(host), port, names, device, max_files, max_megabytes, keep_minutes))
        return 0

    @_deferred
    def ablate(
        self,
        bundle: str,
        dataset_dir: str,
        data_list: str,
        output: str,
        *,
        seeds: Any = (0, 1, 2),
        split: str = "validation",
        variants: Any = (),
        resamples: int = 1000,
        configs: Any = "train.json",
        **overrides: Any,
    ) -> int:
        """Measure what biomarkers and clinical data add to a classifier of photos.

        The bundle is trained and evaluated on the photo alone, with biomarkers, with clinical columns and with all of
        it, each with the same seeds. OUTPUT gets a folder for each training, ablation.csv and ablation.md, with 95%
        intervals over patients. Started again it goes on where it was stopped; give the same settings then.

        Every id of the config can be set by a flag, the same for all trainings: --biomarkers_path
        BIOMARKERS/results.csv, --epochs 20. An id that the config does not have is refused.

        Args:
            bundle: name of a classifier, or path of its folder.
            dataset_dir: root of the data set.
            data_list: datalist JSON, as `python -m data_lists` writes it.
            output: folder for the trainings and the table; it is made.
            seeds: of the trainings, separated by commas.
            split: split that is measured.
            variants: photo, and any of biomarkers, clinical and all, separated by commas; all of them by default.
            resamples: number of samples of the bootstrap.
            configs: the bundle's config files of the training, separated by commas.
            overrides: ids of the config and their values.
        """
        from common.ablation import run_ablation

        return run_ablation(
            _text("bundle", bundle),
            _text("dataset_dir", dataset_dir),
            _text("data_list", data_list),
            _text("output", output),
            _seeds(seeds),
            _text("split", split),
            _names(variants),
            resamples,
            _names(configs),
            _with_paths(overrides),
        )

    @_deferred
    def to_via(
        self, results: str, photos: str, output: str, *, attribute: str = "Abnormality", least_area: int = 1
    ) -> int:
        """Write masks that `retina infer` found as polygons for VGG Image Annotator, to be corrected by hand there.

        Load the photos in VIA and import the file ("Annotation", "Import annotations (from csv)"). What VIA exports
        after the correction becomes a data list by `python -m data_lists via`.

        Args:
            results: output folder of `retina infer`.
            photos: folder of the photos.
            output: CSV file to write.
            attribute: name of the region attribute that says what a region is.
            least_area: regions of fewer pixels are left out.
        """
        from common.via import masks_to_via

        folders = _text("results", results), _text("photos", photos)
        regions = masks_to_via(*folders, _text("output", output), _text("attribute", attribute), least_area)
        print(f"{regions} regions written to {output}")
        return 0

    @_deferred
    def search(
        self,
        bundle: str,
        *,
        space: str,
        sampler: str = "tpe",
        trials: int | None = None,
        storage: str | None = None,
        output_dir: str = "search_output",
        study: str | None = None,
        prune_after: int | None = 5,
        seed: int = 0,
        configs: str | Sequence[str] | None = None,
        heartbeat: int = 30,
        **overrides: Any,
    ) -> int:
        """Search for good values of a bundle's ids; every trial is a training with its train.json.

        Started again after an interruption it goes on, and trials that were cut off are done again, from their last
        checkpoint. Start it several times with the same --storage, here or on other machines, to share the work.
        OUTPUT_DIR gets trials.csv, best.json (a further --config_file for `python -m monai.bundle run`), figures, and a
        folder per trial with its TensorBoard log and weights. The exit code is 0, or 1 when every training failed, or 2
        when a setting is wrong.

        Ids that the space does not vary can be set by flags as for `retina train`: --dataset_dir DATA --data_list
        list.json --epochs 20. An id that the config does not have is refused.

        Args:
            bundle: name of a bundle, or path of its folder.
            space: JSON file of the ids and the values that each may take.
            sampler: grid, random or tpe.
            trials: number of trainings of the whole study; all points of a grid if left out.
            storage: database URL, e.g. sqlite:////folder/study.db; study.db in OUTPUT_DIR if left out.
            output_dir: folder for the results; it is made.
            study: name in the database; the bundle's name if left out.
            prune_after: epochs after which a training below the median of the others is given up; None for never.
            seed: of the sampler.
            configs: the bundle's config files, separated by commas; those that the space names if left out.
            heartbeat: seconds between two signs of life of a trial; without four of them it is done again.
            overrides: ids of the config and their values.
        """
        from common.search import run_search

        _without_repeated_errors()
        return run_search(
            _text("bundle", bundle),
            _text("space", space),
            _text("output_dir", output_dir),
            sampler,
            trials,
            None if storage is None else _text("storage", storage),
            None if study is None else _text("study", study),
            prune_after,
            seed,
            _names(configs),
            heartbeat,
            _with_paths(overrides),
        )

    @_deferred
    def demo(self, *, output: str = "demo_output", count: int = 2) -> int:
        """Run every bundle that has weights on pictures drawn here, and compare with the exact truth.

        Args:
            output: folder for the pictures and the results.
            count: number of pictures.
        """
        from common.demo import run_demo

        return run_demo(_text("output", output), count)

    @_deferred
    def benchmark(
        self,
        *,
        bundles: str | Sequence[str] | None = None,
        output: str = "benchmark.md",
        sizes: Any = (),
        repeats: int = 3,
        photos: int = 200,
    ) -> int:
        """Measure the speed and the memory of the bundles on this machine, as Markdown tables.

        Speed is given as ratios taken in one run, too, since these can be compared between machines.

        Args:
            bundles: names or folders, separated by commas, and examine for `retina examine`; by default all of it.
            output: Markdown file to write.
            sizes: width x height of the pictures, separated by commas; usual ones for photos and for B-scans if empty.
            repeats: measurements of which the median is taken.
            photos: number of photos on which `retina examine` is measured; 0 for none.
        """
        from common.benchmark import run_benchmark

        return run_benchmark(_names(bundles), _text("output", output), _names(sizes), repeats, photos)


def _names(value: Any) -> list[str]:
    """Read names separated by commas; Fire has already made a tuple of some, and a number of one."""
    if value is None:
        return []
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    return [str(part).strip() for part in parts]


def _seeds(value: Any) -> list[int]:
    """Read whole numbers from 0 on, separated by commas."""
    names = _names(value)
    if not all(name.isdecimal() for name in names):
        raise SettingError(f"--seeds is {','.join(names)}: give whole numbers from 0 on, separated by commas.")
    return [int(name) for name in names]


def _text(name: str, value: Any) -> str:
    """Give a path or a name as text; a flag with nothing behind it is True."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise SettingError(f"--{name} is {value!r}: give a path or a name.")
    return str(value)


def _is_path(name: str) -> bool:
    """Whether an id of a config is that of a path."""
    return name in ("data_list", "checkpoint") or name.endswith(("_dir", "_path", "_weights", "_encoder"))


def _with_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with every path as text; one may still be None."""
    return {
        name: _text(name, value) if _is_path(name) and isinstance(value, bool | int | float) else value
        for name, value in settings.items()
    }


def _settings(given: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Join what the arguments and the flags say; nothing may be said twice."""
    twice = sorted(set(given) & set(overrides))
    if twice:
        raise SettingError(f"The setting --{twice[0]} is already given by an argument: leave the flag out.")
    return _with_paths({**given, **overrides})


def _without_repeated_errors() -> None:
    """Keep Ignite from logging, once per engine, the error that the command itself reports."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: "terminating due to exception" not in record.getMessage())


def _infer(bundle: str, photos: str, output: str, overrides: Mapping[str, Any]) -> int:
    folder = find_bundle(_text("bundle", bundle))
    settings = _settings({"dataset_dir": _text("input", photos), "output_dir": _text("output", output)}, overrides)
    print(f"{folder.name}: loading", file=sys.stderr)
    from ignite.engine import Events
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    _without_repeated_errors()
    workflow = open_bundle(folder, ["inference.json"], settings)
    evaluator = workflow.parser.get_parsed_content("evaluator")
    results = workflow.parser.get_parsed_content("results")
    with (
        tqdm(total=len(evaluator.data_loader), desc=folder.name, unit="photo") as bar,
        logging_redirect_tqdm(),
    ):
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: bar.update())
        workflow.run()
    workflow.finalize()
    print(results.summary())
    return ALL_FAILED if results.failed and not results.written and not results.skipped else 0


def _examine(
    photos: str, output: str, bundles: Sequence[str] | None, resume: bool, overwrite: bool, options: Mapping[str, Any]
) -> int:
    print("Loading the bundles", file=sys.stderr)
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from common.examine import TABLE, Examiner
    from common.results import check_flag

    photos, output = _text("input", photos), _text("output", output)
    flags = {"resume": check_flag("resume", resume), "overwrite": check_flag("overwrite", overwrite)}
    examiner = Examiner(bundles, **options)
    for entry in TABLE:
        if bundles is None and entry.by_default and entry.missing:
            print(f"Left out: {entry.missing}", file=sys.stderr)
    run = examiner.run(photos, output, **flags)
    with tqdm(run, total=run.total, desc="examine", unit="photo") as bar, logging_redirect_tqdm():
        for examination in bar:
            if examination.failure:
                bar.write(f"{examination.image} failed: {examination.failure}", file=sys.stderr)
    print(run.summary())
    results = run.folder
    return ALL_FAILED if results.failed and not results.written and not results.skipped else 0


def _train(bundle: str, configs: Sequence[str], given: Mapping[str, Any], overrides: Mapping[str, Any]) -> int:
    folder = find_bundle(_text("bundle", bundle))
    workflow = open_bundle(folder, configs, _settings(given, overrides), bundle_logging=True)
    _without_repeated_errors()
    workflow.run()
    workflow.finalize()
    print(f"Finished; look at {given['output_dir']}.")
    return 0


def _quoted(value: str) -> str:
    """A value that Fire, which reads values as Python, leaves as it is."""
    return value if DefaultParseValue(value) == value else repr(value)


def _with_texts(arguments: Sequence[str]) -> list[str]:
    """Keep Fire from making numbers of paths and names: of a folder called 1e3 or 2024_11, given as it is or by a flag.

    Values of other flags have to be read as Python.
    """
    command, *others = arguments or [""]
    method = vars(Commands).get(command.replace("-", "_"))
    parameters = inspect.signature(method).parameters.values() if callable(method) else ()
    texts = {parameter.name for parameter in parameters if parameter.annotation in ("str", "str | None")}
    texts.discard("device")  # may be the number of a GPU
    quoted = []
    name = ""
    for argument in others:
        if re.match(r"--|-[a-zA-Z]", argument):
            flag, equals, value = argument.partition("=")
            name = flag.lstrip("-").replace("-", "_")
            is_text = name in texts or _is_path(name)
            quoted.append(f"{flag}={_quoted(value)}" if equals and is_text and value != _NONE else argument)
        else:
            # Behind no flag it is a place, such as INPUT; None is a flag's way to say that there is none.
            is_text = not name or name in texts or _is_path(name)
            quoted.append(_quoted(argument) if is_text and not (name and argument == _NONE) else argument)
            name = ""
    return [*arguments[:1], *quoted]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the `retina` command.

    Args:
        arguments: of the command line, without the command's name; by default those of this process.

    Returns:
        The exit code: 0, 1 when every image failed, 2 when a setting is wrong, 130 when it was interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(given):
        # Fire would hand --help on to a command that takes any flag.
        given = [name for name in given[:1] if not name.startswith("-")] + ["--", "--help"]
    else:
        given = _with_texts(given)
    os.environ.setdefault("PAGER", "cat")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    warnings.filterwarnings("ignore", module="monai|torch|ignite|timm")
    try:
        task = fire.Fire(
            Commands(), given, name="retina", serialize=lambda result: None if isinstance(result, _Task) else result
        )
        return task._run() if isinstance(task, _Task) else 0
    except KeyboardInterrupt:
        print("Interrupted; what is finished stays. Start the command again to go on.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        wrong = setting_error_behind(error)
        if wrong is None:
            raise
        print(f"retina: {wrong}", file=sys.stderr)
        return WRONG_SETTING


if __name__ == "__main__":
    sys.exit(main())
