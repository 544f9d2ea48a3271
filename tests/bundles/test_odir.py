"""What is special about the classifier of ODIR: other labels and columns by override, and what a table tells it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from common.phantoms import fundus_phantom, write_fundus_phantoms

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "odir_classification"
# A hybrid glaucoma classifier: photo, cup-to-disc ratio, and clinical data.
HYBRID: dict[str, Any] = {
    "labels": ["G"],
    "biomarker_columns": {"cdr_vertical": None},
    "clinical_columns": {"age": None, "intraocular_pressure": None},
    "size": 64,
}


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both eyes of four patients, with a list, a table of biomarkers and one of clinical data."""
    root = tmp_path_factory.mktemp("clinic")
    write_fundus_phantoms(root, 8, sizes=((120, 150),))
    items: list[dict[str, Any]] = []
    for number, path in enumerate(sorted((root / "image").iterdir())):
        path = path.rename(path.with_stem(f"{number // 2}_{('left', 'right')[number % 2]}"))
        known = {"age": 60 + number, "intraocular_pressure": None if number == 1 else 14.5 + number}
        label = {"label": ["G"] if number % 2 else ["N", "D"]}
        items.append({"image": f"image/{path.name}", "patient": str(number // 2), **label, **known})
    (root / "list.json").write_text(json.dumps({"training": items[:4], "validation": items[4:]}), encoding="utf-8")
    names = [Path(item["image"]).name for item in items]
    ratios = "".join(f"{name},{'' if number == 2 else 0.3 + 0.05 * number}\n" for number, name in enumerate(names[:-1]))
    (root / "results.csv").write_text("image,cdr_vertical\n" + ratios, encoding="utf-8")
    cells = "".join(f"{item['image'][6:]},{item['age']},{item['intraocular_pressure'] or ''}\n" for item in items)
    (root / "known.csv").write_text("image,Age,intraocular_pressure\n" + cells, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def hybrid(clinic: Path, in_process: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of the hybrid classifier."""
    folder = tmp_path_factory.mktemp("hybrid")
    in_process(
        "run",
        config_file=str(BUNDLE / "configs" / "train.json"),
        bundle_root=str(BUNDLE),
        dataset_dir=str(clinic),
        data_list=str(clinic / "list.json"),
        biomarkers_path=str(clinic / "results.csv"),
        output_dir=str(folder),
        epochs=1,
        images_per_batch=32,  # more than there are photos
        **HYBRID,
    )
    return folder


def infer(in_process: Callable[..., None], clinic: Path, hybrid: Path, output: Path, **options: Any) -> None:
    in_process(
        "run",
        config_file=str(BUNDLE / "configs" / "inference.json"),
        bundle_root=str(BUNDLE),
        dataset_dir=str(clinic / "image"),
        output_dir=str(output),
        ckpt_path=str(hybrid / "models" / "model.pt"),
        saliency=False,
        **{**HYBRID, **options},
    )


def rows_of(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return {row["image"]: row for row in csv.DictReader(file)}


def unknown(row: dict[str, str]) -> str:
    """What the note of a row says of values that are not known."""
    return "".join(part for part in row["note"].split("; ") if part.startswith("not known"))


def test_the_hybrid_classifier_has_one_label_and_three_columns(hybrid: Path) -> None:
    state = torch.load(hybrid / "models" / "model.pt", weights_only=True)

    assert state["head.weight"].shape[0] == 1
    # The mean of the training photos: of the cup-to-disc ratio without the one that is missing, of the age, and of the
    # pressure without the one that is missing.
    expected = [(0.3 + 0.35 + 0.45) / 3, 61.5, (14.5 + 16.5 + 17.5) / 3]
    torch.testing.assert_close(state["tabular_mean"].float(), torch.tensor(expected), rtol=1e-2, atol=0)


def test_what_is_known_changes_the_probability_and_what_is_not_is_noted(
    clinic: Path, hybrid: Path, in_process: Callable[..., None], tmp_path: Path
) -> None:
    infer(in_process, clinic, hybrid, tmp_path / "photo")
    tables = {"table_path": str(clinic / "known.csv"), "biomarkers_path": str(clinic / "results.csv")}
    infer(in_process, clinic, hybrid, tmp_path / "all", **tables)

    alone, known = rows_of(tmp_path / "photo"), rows_of(tmp_path / "all")
    assert all(list(row) == ["image", "patient", "eye", "p_G", "note"] for row in known.values())
    assert all(known[name]["p_G"] != alone[name]["p_G"] for name in known)
    assert not any(unknown(row) for row in alone.values())
    notes = {name.split(".")[0]: unknown(row) for name, row in known.items()}
    assert notes["0_right"] == "not known: intraocular_pressure"
    assert notes["1_left"] == "not known: cdr_vertical"
    assert notes["3_right"] == "not known: cdr_vertical"  # it has no row
    assert notes["0_left"] == notes["2_right"] == ""
    patients = (tmp_path / "all" / "patients.csv").read_text(encoding="utf-8").splitlines()
    assert patients[0] == "ID,G"
    assert len(patients) == 5


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("image,intraocular_pressure\n0_left.png,high\n", "has 'high' in the column 'intraocular_pressure'"),
        ("image,pressure\n0_left.png,12\n", "has the unknown column 'pressure'"),
    ],
)
def test_a_table_that_cannot_be_used(
    clinic: Path, hybrid: Path, setting_error: Callable[..., str], tmp_path: Path, table: str, words: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(fundus_phantom(120, 150, seed=1).photo).save(folder / "0_left.png")
    (tmp_path / "known.csv").write_text(table, encoding="utf-8")

    sentence = setting_error(
        "run",
        config_file=str(BUNDLE / "configs" / "inference.json"),
        bundle_root=str(BUNDLE),
        dataset_dir=str(folder),
        output_dir=str(tmp_path / "out"),
        ckpt_path=str(hybrid / "models" / "model.pt"),
        table_path=str(tmp_path / "known.csv"),
        **HYBRID,
    )

    assert words in sentence


def test_biomarkers_of_other_photos_are_refused(
    clinic: Path, hybrid: Path, setting_error: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("image,cdr_vertical\nother.png,0.5\n", encoding="utf-8")

    sentence = setting_error(
        "run",
        config_file=str(BUNDLE / "configs" / "inference.json"),
        bundle_root=str(BUNDLE),
        dataset_dir=str(clinic / "image"),
        output_dir=str(tmp_path / "out"),
        ckpt_path=str(hybrid / "models" / "model.pt"),
        biomarkers_path=str(tmp_path / "other.csv"),
        **HYBRID,
    )

    assert "has no row of any of the 8 photos" in sentence
