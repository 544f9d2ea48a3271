from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import SettingError
from common.networks.hq_sam import ABSENT, BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE
from common.prompts import add_prompts, box_rows, correcting_click, prompt_rows, read_prompts
from common.results import ResultFolder

STRUCTURES = ("disc", "cup")
GIVEN = {"disc": {"box": [3, 4, 10, 20]}, "cup": {"points": [[5, 6, 1], [7.5, 8, 0], [1, 2, 1]]}}


def test_rows_are_in_the_order_of_the_structures_and_padded() -> None:
    rows = prompt_rows({name: GIVEN[name] for name in ("cup", "disc")}, STRUCTURES)

    assert rows.tolist() == [
        [[3, 4, BOX_FIRST], [10, 20, BOX_LAST], [0, 0, ABSENT]],
        [[5, 6, POSITIVE], [7.5, 8, NEGATIVE], [1, 2, POSITIVE]],
    ]


def test_no_prompts_are_rows_that_do_not_count() -> None:
    assert prompt_rows({}, STRUCTURES).tolist() == [[[0, 0, ABSENT]]] * 2


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([], "is no object with structures"),
        ({"optic": {}}, "'optic' is none of the structures: disc, cup"),
        ({"disc": {"boxes": []}}, "'boxes' is none of the parts of disc: box, points"),
        ({"disc": {"box": [1, 2, 3]}}, r"the box of disc is no \[x0, y0, x1, y1\]: \[1, 2, 3\]"),
        ({"disc": {"box": [5, 2, 3, 9]}}, "the box of disc ends before it begins"),
        ({"disc": {"box": [1, 2, 3, True]}}, "the box of disc is no"),
        ({"cup": {"points": {}}}, "the points of cup are no list"),
        ({"cup": {"points": [[1, 2]]}}, "a point of cup is no"),
        ({"cup": {"points": [[1, 2, 2]]}}, "its third number is 1"),
        ({"cup": {"points": [[1, float("nan"), 1]]}}, "a point of cup is no"),
    ],
)
def test_what_is_wrong_is_said(prompts: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        prompt_rows(prompts, STRUCTURES)

    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"a.png": prompts}), encoding="utf-8")
    with pytest.raises(SettingError, match=rf"The prompts of a\.png in {path} cannot be used: .*{words}"):
        read_prompts(path, STRUCTURES)


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is no JSON file"), ("[]", "is no object"), (None, "does not exist")]
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "prompts.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    with pytest.raises(SettingError, match=f"The file of prompts {path} {words}"):
        read_prompts(path, STRUCTURES)


def test_prompts_are_added_to_their_photos(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"b/c.png": GIVEN, "done.png": {}}), encoding="utf-8")
    results = ResultFolder(tmp_path / "out")
    results.done.add("done.png")
    items = [{"name": "a.png"}, {"name": "b/c.png"}]

    table = read_prompts(path, STRUCTURES)

    assert add_prompts(items, table, results) == [{"name": "a.png"}, {"name": "b/c.png", "prompts": GIVEN}]
    assert add_prompts(items, read_prompts(None, STRUCTURES), results) == items


def test_prompts_for_a_photo_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"prompts for gone\.png, but no such photo"):
        add_prompts([{"name": "a.png"}], {"gone.png": {}}, ResultFolder(tmp_path))


def test_the_box_of_a_mask() -> None:
    mask = np.zeros((40, 30), dtype=bool)  # (W, H)
    mask[7:12, 20] = mask[9, 15:25] = True

    assert box_rows(mask).tolist() == [[7, 15, BOX_FIRST], [11, 24, BOX_LAST]]
    assert box_rows(np.zeros((5, 6), dtype=bool)).shape == (0, 3)


@pytest.mark.parametrize("missed", [True, False])
def test_a_click_corrects_the_largest_error(missed: bool) -> None:
    truth = np.zeros((60, 40), dtype=bool)
    truth[10:30, 10:30] = True
    predicted = truth.copy()
    predicted[10:15, 10:30] = False  # missed: 5 x 20
    predicted[40:49, 3:34] = not missed  # found wrongly: 9 x 31

    (click,) = correcting_click(predicted, truth).tolist()

    assert click[2] == (POSITIVE if missed else NEGATIVE)
    assert click[0] == (12 if missed else 44)
    assert correcting_click(truth, truth).shape == (0, 3)
