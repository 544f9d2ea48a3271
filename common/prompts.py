"""Prompts of a user: boxes and points for each structure, from a file, and as the tensor that a network takes.

A file of prompts names photos, by their paths relative to the input folder:

    {
        "visit1/left.jpg": {
            "disc": {"box": [812, 640, 1010, 861]},
            "cup": {"points": [[905, 742, 1], [860, 700, 0]]}
        }
    }

A box is ``[x0, y0, x1, y1]``, its first and last pixel; a point is ``[x, y, 1]`` inside the structure and ``[x, y, 0]``
outside. All in pixels of the photo as it is seen upright, x to the right and y down, from 0. Every part may be missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from common.errors import SettingError
from common.networks.hq_sam import ABSENT, BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE
from common.results import ResultFolder


def read_prompts(path: str | Path | None, structures: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Read and check a file of prompts.

    Args:
        path: the JSON file; None is no prompts.
        structures: names of the structures.

    Returns:
        What the file holds: name of a photo to structure to ``box`` and ``points``.

    Raises:
        SettingError: the file cannot be read, or holds something else.
    """
    if path is None:
        return {}
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingError(f"The file of prompts {path} does not exist: check the path.") from error
    except (OSError, ValueError) as error:
        raise SettingError(f"The file of prompts {path} is no JSON file that can be read ({error}).") from error
    if not isinstance(content, dict):
        raise SettingError(f"The file of prompts {path} is no object: name a photo and, for each, its structures.")
    for name, prompts in content.items():
        try:
            prompt_rows(prompts, structures)
        except ValueError as error:
            raise SettingError(f"The prompts of {name} in {path} cannot be used: {error}") from error
    return content


def add_prompts(
    items: Sequence[Mapping[str, Any]], table: Mapping[str, Any], results: ResultFolder
) -> list[dict[str, Any]]:
    """Add to each photo of a list its prompts.

    Args:
        items: items with ``name``.
        table: what `read_prompts` gave.
        results: the folder of the results, which knows the photos that are done and so not in the list.

    Returns:
        The items, with ``prompts`` where there are some.

    Raises:
        SettingError: there are prompts for a photo that is not there.
    """
    unknown = sorted(set(table) - {str(item["name"]) for item in items} - set(results.done))
    if unknown:
        raise SettingError(
            f"There are prompts for {', '.join(unknown[:3])}{' and others' if len(unknown) > 3 else ''}, but no such "
            "photo: name photos in the file of prompts by their paths relative to dataset_dir."
        )
    return [{**item, **({"prompts": table[item["name"]]} if item["name"] in table else {})} for item in items]


def prompt_rows(prompts: Any, structures: Sequence[str]) -> NDArray[np.float32]:
    """Turn the prompts of one photo into rows (x, y, kind); `common.networks.hq_sam` says what they mean.

    Args:
        prompts: structure to ``box`` and ``points``.
        structures: names of the structures, in the order of the network's channels.

    Returns:
        ``(S, N, 3)``, padded with rows that do not count; N is at least 1.

    Raises:
        ValueError: it is something else; the message says what.
    """
    _check_names(prompts, structures, "structures")
    rows = []
    for name in structures:
        given = prompts.get(name, {})
        _check_names(given, ("box", "points"), f"parts of {name}")
        own: list[tuple[float, float, int]] = []
        if "box" in given:
            x0, y0, x1, y1 = _numbers(given["box"], 4, f"the box of {name} is no [x0, y0, x1, y1]")
            if x1 < x0 or y1 < y0:
                raise ValueError(f"the box of {name} ends before it begins: {given['box']}.")
            own += [(x0, y0, BOX_FIRST), (x1, y1, BOX_LAST)]
        for point in _sequence(given.get("points", []), f"the points of {name} are no list"):
            x, y, kind = _numbers(point, 3, f"a point of {name} is no [x, y, 1 or 0]")
            if kind not in (0, 1):
                raise ValueError(f"a point of {name} is {point}; its third number is 1 (inside) or 0 (outside).")
            own.append((x, y, POSITIVE if kind else NEGATIVE))
        rows.append(own)
    return pad_rows([np.asarray(own, dtype=np.float32).reshape(-1, 3) for own in rows])


def pad_rows(rows: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Join the rows ``(N, 3)`` of each structure, padded with rows that do not count, as ``(S, longest, 3)``."""
    longest = max(1, *(len(own) for own in rows))
    padded = np.full((len(rows), longest, 3), (0, 0, ABSENT), dtype=np.float32)
    for place, own in zip(padded, rows, strict=True):
        place[: len(own)] = own
    return padded


def compact_prompts(prompts: torch.Tensor) -> torch.Tensor:
    """Leave out the rows that count in no structure of a batch: every row costs time in the decoder.

    Args:
        prompts: ``(B, S, N, 3)``, rows (x, y, kind).

    Returns:
        ``(B, S, longest, 3)``: the rows that count in their order, padded with rows that do not; one row at least.
    """
    counts = prompts[..., 2] > ABSENT
    longest = max(1, int(counts.sum(dim=2).max()))
    order = counts.to(torch.uint8).argsort(dim=2, descending=True, stable=True)[..., :longest]
    return prompts.take_along_dim(order[..., None], dim=2)


def _check_names(given: Any, allowed: Collection[str], what: str) -> None:
    if not isinstance(given, Mapping):
        raise ValueError(f"{given!r} is no object with {what}.")
    unknown = sorted(set(given) - set(allowed))
    if unknown:
        raise ValueError(f"{unknown[0]!r} is none of the {what}: {', '.join(allowed)}.")


def _sequence(value: Any, message: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{message}: {value!r}.")
    return value


def _numbers(value: Any, count: int, message: str) -> list[float]:
    if not isinstance(value, list) or len(value) != count or not all(_is_number(number) for number in value):
        raise ValueError(f"{message}: {value!r}.")
    return [float(number) for number in value]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def box_rows(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The smallest box around a mask.

    Args:
        mask: ``(W, H)``.

    Returns:
        Two rows ``(2, 3)``; none, ``(0, 3)``, for an empty mask.
    """
    # The array is (W, H): what OpenCV calls the top of its box is the first y.
    y, x, height, width = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    rows = [(x, y, BOX_FIRST), (x + width - 1, y + height - 1, BOX_LAST)]
    if not width:
        rows = []
    return np.asarray(rows, dtype=np.float32).reshape(-1, 3)


def correcting_click(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The click of a user who corrects a mask: in the middle of the largest region that is wrong.

    The largest connected region of missed or wrongly found pixels is taken, and of it the pixel farthest from its edge
    (as in Sofiiuk et al., "Reviving Iterative Training with Mask Guidance for Interactive Segmentation", ICIP 2022).

    Args:
        predicted: mask ``(W, H)``.
        truth: mask ``(W, H)``.

    Returns:
        One row ``(1, 3)``, positive where the structure was missed and negative where it was found wrongly; none,
        ``(0, 3)``, where the masks are alike.
    """
    best = (0.0, np.zeros((0, 3), dtype=np.float32))
    for kind, wrong in ((POSITIVE, truth & ~predicted), (NEGATIVE, predicted & ~truth)):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(wrong.astype(np.uint8), connectivity=8)
        if count < 2:
            continue
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        region = np.pad((labels == largest).astype(np.uint8), 1)
        depth = cv2.distanceTransform(region, cv2.DIST_L2, 5)[1:-1, 1:-1]
        x, y = np.unravel_index(int(np.argmax(depth)), depth.shape)
        area = float(stats[largest, cv2.CC_STAT_AREA])
        if area > best[0]:
            best = (area, np.asarray([[x, y, kind]], dtype=np.float32))
    return best[1]
