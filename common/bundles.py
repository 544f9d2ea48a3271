"""The bundles of this repository: where they are, what can be overridden, and how one is opened.

Nothing here imports MONAI before it is needed, so that the `retina` command starts at once.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from pydoc import locate
from typing import TYPE_CHECKING, Any

from common.errors import SettingError

if TYPE_CHECKING:
    from monai.bundle import ConfigParser, ConfigWorkflow

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
_DEVICE = "device"


def available_bundles() -> dict[str, Path]:
    """The bundles of the repository that the package is installed from: name to folder."""
    return {path.parent.parent.name: path.parent.parent for path in sorted(BUNDLES.glob("*/configs/inference.json"))}


def has_weights(bundle: Path) -> bool:
    """Whether a bundle's folder has ``models/model.pt``."""
    return (bundle / "models" / "model.pt").is_file()


def find_bundle(bundle: str) -> Path:
    """Find a bundle by its name or its folder.

    Args:
        bundle: name of a bundle of this repository, or path of a bundle's folder.

    Returns:
        The absolute path of its folder.

    Raises:
        SettingError: there is no such bundle.
    """
    bundles = available_bundles()
    if bundle in bundles:
        return bundles[bundle]
    folder = Path(bundle)
    if (folder / "configs" / "inference.json").is_file():
        return folder.resolve()
    if folder.is_dir():
        raise SettingError(
            f"The folder {bundle} is no bundle (it has no configs/inference.json): give another BUNDLE folder."
        )
    names = ", ".join(bundles) or f"none, since {BUNDLES} has no bundle"
    near = get_close_matches(bundle, bundles, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise SettingError(
        f"There is no BUNDLE '{bundle}': give the path of a bundle's folder or one of the names available "
        f"({names}).{meant}"
    )


def _ids(config: Any, prefix: str = "") -> Iterator[str]:
    """Every id of a config, nested ones joined by #; places in a list are left out."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield f"{prefix}{key}"
            yield from _ids(value, f"{prefix}{key}#")


def _arguments(component: Any) -> set[str] | None:
    """Names of the arguments that a class or function takes; None when it takes any."""
    if not inspect.isclass(component):
        parameters = inspect.signature(component).parameters.values()
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
        return None if takes_any else {parameter.name for parameter in parameters}
    names: set[str] = set()
    for base in component.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
        names |= {parameter.name for parameter in parameters}
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return names


def _accepted(parser: ConfigParser, parent: str) -> set[str] | None:
    """What can be set in the component with the id ``parent``; None for anything, nothing where it is none."""
    from monai.bundle import ConfigComponent

    if not parent or parent not in parser or not ConfigComponent.is_instantiable(parser[parent]):
        return set()
    target = ConfigComponent(config=parser[parent], id=parent, locator=parser.locator).resolve_module_name()
    component = locate(target) if isinstance(target, str) else target
    if not callable(component):
        return None  # MONAI says what is wrong with such a target
    names = _arguments(component)
    return None if names is None else names | set(ConfigComponent.non_arg_keys)


def check_overrides(config: Mapping[str, Any], overrides: Mapping[str, Any], config_names: str) -> None:
    """Refuse what would change nothing: MONAI ignores an override of an id that no config has.

    An id is accepted when the config has it, or when it is an argument of the component that it lies in
    (``network_def#dropout``).

    Args:
        config: the content of the config files.
        overrides: id to value; nested ids are joined by ``#`` or ``::``.
        config_names: the config files, for the error.

    Raises:
        SettingError: an id is unknown; the sentence names the nearest one.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser(deepcopy(dict(config)))
    unknown = {name.replace("::", "#"): value for name, value in overrides.items()}
    for name in list(unknown):
        if name in parser:
            # Another `_target_` takes other arguments, so what is known is applied before the rest is looked at.
            parser[name] = unknown.pop(name)
    for name in unknown:
        parent, _, argument = name.rpartition("#")
        accepted = _accepted(parser, parent)
        if accepted is None or argument in accepted:
            continue
        ids = list(_ids(parser.config))
        same_end = [known for known in ids if known.rpartition("#")[2] == name]
        arguments = [f"{parent}#{known}" for known in sorted(accepted) if not known.startswith("_")]
        near = same_end or get_close_matches(name, [*arguments, *ids], n=1)
        advice = f"the nearest is --{near[0]}" if near else "look there for the right one"
        raise SettingError(f"The setting --{name} is no id of {config_names}: {advice}.")


def checked_device(device: str | int | None) -> str | None:
    """Give the name of a device that is there.

    Args:
        device: as `torch.device` takes it, e.g. ``cpu`` or ``cuda:0``, or the number of a GPU; None for no choice.

    Raises:
        SettingError: there is no such device.
    """
    if device is None:
        return None
    import torch

    try:
        name = str(torch.device(f"cuda:{device}" if type(device) is int else device))
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise SettingError(f"--device is {device!r}, which cannot be used ({reason}): give cpu or cuda.") from error
    return name


def _with_device(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with the device as the configs need it, not as its name; an expression stays as it is."""
    device = overrides.get(_DEVICE)
    if device is None:  # as without it
        return {name: value for name, value in overrides.items() if name != _DEVICE}
    if not isinstance(device, str | int | float) or str(device).startswith(("$", "@", "%")):
        return dict(overrides)
    return {**overrides, _DEVICE: f"$torch.device({checked_device(overrides[_DEVICE])!r})"}


def open_bundle(
    bundle: Path, configs: Sequence[str], overrides: Mapping[str, Any], *, bundle_logging: bool = False
) -> ConfigWorkflow:
    """Read a bundle's configs, check the overrides and initialize it.

    Args:
        bundle: the bundle's folder.
        configs: names of config files, the later overriding the earlier.
        overrides: id to value, as on the command line of ``python -m monai.bundle run``; ``device`` may also be the
            name of a device, or None for the bundle's own choice.
        bundle_logging: whether to log as the bundle's ``logging.conf`` says; otherwise warnings only.

    Returns:
        MONAI's workflow, ready for ``run``.

    Raises:
        SettingError: a config is missing, an override is unknown, or a setting is wrong.
    """
    paths = [bundle / "configs" / name for name in configs]
    for path in paths:
        if not path.is_file():
            raise SettingError(f"The bundle {bundle.name} has no {path}: choose another BUNDLE.")
    from monai.bundle import ConfigParser, ConfigWorkflow

    files = [str(path) for path in paths]
    check_overrides(ConfigParser.load_config_files(files), overrides, " + ".join(configs))
    given = _with_device(overrides)
    # Its remarks on where the logging and the metadata come from are of no use to the user of a command.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    workflow = ConfigWorkflow(
        files,
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=None if bundle_logging else False,
        **{"bundle_root": str(bundle), **given},
    )
    workflow.initialize()
    return workflow


def inference_command(bundle: Path, photos: Path, output: Path) -> list[str]:
    """The command with which a user of MONAI runs a bundle on photos; photos that were done before are done again."""
    settings = {
        "config_file": bundle / "configs" / "inference.json",
        "bundle_root": bundle,
        "dataset_dir": photos,
        "output_dir": output,
        "overwrite": True,
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", *flags]


def reason_in(log: str) -> str:
    """The wrong setting that a log of ``python -m monai.bundle`` tells of, or else its last line."""
    lines = log.strip().splitlines() or ["its log is empty"]
    mark = f"{SettingError.__name__}: "
    return next((line.partition(mark)[2] for line in lines if mark in line), lines[-1])
