"""The command ``python -m data_lists``."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import types
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from data_lists import DATASETS, DataListError, DataListWarning, Dataset, build, merge, summary, write, write_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the words after ``python -m data_lists``; None for those of the process.

    Returns:
        0 when the list is written, 1 when a file or an option is wrong. A command line that cannot be understood ends
        the process with status 2, after one sentence.
    """
    options = vars(_parser().parse_args(arguments))
    command, root, output = options.pop("command"), options.pop("root"), options.pop("output")
    print(f"checking every file below {root} ...", file=sys.stderr)
    remarks: list[DataListWarning] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", DataListWarning)
        warnings.showwarning = _showing(remarks)
        try:
            if command == "merge":
                content = merge(root, _pairs(options.pop("lists")), **options)
            else:
                content = build(command, root, **options)
            write(content, output)
            report = write_report(remarks, output)
        except DataListError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    print(f"{summary(content)}\nwritten to {output}")
    if report is not None:
        print(f"what was mended or left out: {report}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m data_lists",
        description="Turn a public retinal dataset, as it is downloaded, into a checked MONAI data list by patient.",
        epilog="python -m data_lists DATASET --help describes a dataset: its layout, terms, source and options.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="DATASET")
    for name, dataset in sorted(DATASETS.items()):
        _add_dataset(commands, name, dataset)
    joined = commands.add_parser(
        "merge",
        help="join lists of several datasets",
        description="Join lists that were made for folders below one root into one list, and check it for leaks again.",
        epilog="example: python -m data_lists merge chase.json=CHASE_DB1 hrf.json=HRF --root /data --output all.json",
        allow_abbrev=False,
    )
    joined.add_argument(
        "lists", nargs="+", metavar="LIST=FOLDER", help="a list, and the folder below the root that it was made for"
    )
    _add_paths(joined, "folder that holds the folders of all datasets")
    joined.add_argument(
        "--leave_out",
        nargs="+",
        default=[],
        metavar="NAME",
        help="datasets of which every item goes to test, for a test on an unseen camera; others keep their splits",
    )
    joined.add_argument(
        "--training_only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="datasets of which only the training items are taken; their others are left out, to be evaluated with the "
        "dataset's own list",
    )
    return parser


def _add_dataset(commands: Any, name: str, dataset: Dataset) -> None:
    parser = commands.add_parser(
        name,
        help=dataset.description,
        description=dataset.guide,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_paths(parser, "the dataset's folder")
    parser.add_argument("--name", default=None, help="another name for the dataset in the list")
    parser.add_argument("--seed", type=int, default=0, help="decides the division; same seed, same list (default: 0)")
    parser.add_argument(
        "--validation", type=float, default=0.2, help="share of the patients outside test (default: 0.2)"
    )
    parser.add_argument(
        "--test",
        type=_share_or_official,
        help="share of all patients, or 'official' for the release's own test split (default: that split where there "
        "is one, else no test)",
    )
    parser.add_argument(
        "--exclude",
        nargs="+",
        default=[],
        metavar="PATH",
        help="files to leave out, relative to the root; * is allowed",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="folders of photos, or lists (JSON) that were made for the same root: what shows the same as one of their "
        "photos, in whatever size, is left out",
    )
    hints = get_type_hints(dataset.find)
    texts = _argument_texts(dataset.find.__doc__ or "")
    for option, parameter in inspect.signature(dataset.find).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            if hints[option] is bool:
                parser.add_argument(f"--{option}", action="store_true", help=texts[option])
                continue
            if get_origin(hints[option]) is tuple:
                text = f"{texts[option]} (default: {' '.join(parameter.default) or 'none'})"
                parser.add_argument(f"--{option}", nargs="+", default=parameter.default, help=text)
                continue
            kind, choices = _kind_and_choices(hints[option])
            default = "" if parameter.default is None else f" (default: {parameter.default})"
            parser.add_argument(
                f"--{option}", type=kind, choices=choices, default=parameter.default, help=texts[option] + default
            )


def _add_paths(parser: argparse.ArgumentParser, root: str) -> None:
    parser.add_argument("--root", type=Path, required=True, help=root)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.json", help="the list to write")


def _share_or_official(text: str) -> float | str:
    """Read the value of ``--test``."""
    try:
        return text if text == "official" else float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share, such as 0.2, nor 'official'") from error


def _kind_and_choices(hint: Any) -> tuple[type, tuple[Any, ...] | None]:
    """Give the type of an option's value, and the allowed values of a ``Literal``."""
    if get_origin(hint) is Literal:
        return type(get_args(hint)[0]), get_args(hint)
    if get_origin(hint) is types.UnionType:
        return next(member for member in get_args(hint) if member is not type(None)), None
    return hint, None


def _argument_texts(docstring: str) -> dict[str, str]:
    """Give the text of each argument in a Google-style docstring."""
    found = re.findall(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", docstring, flags=re.MULTILINE)
    return {name: re.sub(r"\s+", " ", text) for name, text in found}


def _pairs(words: Sequence[str]) -> dict[str | Path, str]:
    pairs: dict[str | Path, str] = {}
    for word in words:
        path, equals, folder = word.rpartition("=")
        if not (path and equals and folder):
            raise DataListError(f"{word!r} has to be LIST.json=FOLDER, with the folder relative to the root")
        if path in pairs:
            raise DataListError(f"{path} is given twice")
        pairs[path] = folder
    return pairs


def _showing(remarks: list[DataListWarning]) -> Callable[..., None]:
    """A `warnings.showwarning` that prints a warning as one sentence, without its line of code, and keeps ours."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)
        if isinstance(message, DataListWarning):
            remarks.append(message)

    return show


if __name__ == "__main__":
    sys.exit(main())
