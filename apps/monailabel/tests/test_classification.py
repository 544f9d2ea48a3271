"""Bundles that classify: probabilities as JSON, and no masks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from common.bundles import available_bundles
from common.label.inference import describe


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_probabilities_are_those_of_the_bundles_own_run(
    server: Any, classifier: str, own_classes: Any, photos: Path, suffix: str
) -> None:
    name = f"eye_OD_{suffix[1:]}"
    server.upload_file(f"{classifier}_{name}", photos / f"{name}{suffix}")

    params = server.infer(classifier, f"{classifier}_{name}")

    row = own_classes.rows[f"{name}{suffix}"]
    labels = list(describe(available_bundles()[classifier]).values)
    assert list(params["probabilities"]) == list(params["label_names"]) == labels
    for label, probability in params["probabilities"].items():
        assert float(row[f"p_{label}"]) == pytest.approx(probability, rel=1e-4)
    assert params["note"] == row["note"]
    assert 0 < params["entropy"] <= 1


def test_an_upload_is_answered_whatever_output_is_asked_for(server: Any, classifier: str, photos: Path) -> None:
    for output in (None, "json"):
        answer = server.client.post(
            f"/infer/{classifier}",
            params={"output": output} if output else {},
            files={"file": ("a.png", (photos / "eye_OD_png.png").read_bytes())},
        )
        assert set(answer.raise_for_status().json()["probabilities"]) == set(
            describe(available_bundles()[classifier]).values
        )


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"foreground": [[1, 2]]}, "takes no clicks and no box"),
        ({"known": {"shoe_size": 42}}, "takes no column 'shoe_size'"),
        ({"known": [1]}, "known is [1]; give a number or a text"),
    ],
)
def test_what_a_classifier_does_not_take(
    server: Any, classifier: str, photos: Path, params: dict[str, Any], sentence: str
) -> None:
    answer = server.client.post(
        f"/infer/{classifier}",
        data={"params": json.dumps(params)},
        files={"file": ("a.png", (photos / "eye_OD_png.png").read_bytes())},
    )
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]


def test_there_is_nothing_to_correct(server: Any, classifier: str) -> None:
    answer = server.client.post(f"/train/{classifier}", params={"run_sync": True}, json={})

    assert answer.status_code == 400
    assert "gives no masks that could be corrected" in answer.json()["detail"]
