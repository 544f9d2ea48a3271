from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.patients import PATIENTS, combine_eyes, patient_from_name, patient_rows, patient_table, write_patients
from common.results import ResultFolder


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("12_left.jpg", "12"),
        ("12_Right.JPG", "12"),
        ("clinic A/p-7 OD.png", "clinic A/p-7"),
        ("a.b-OS.tif", "a.b"),
        ("left.jpg", None),
        ("left/12.jpg", None),
        ("12_left_2.jpg", None),
        ("12.jpg", None),
        ("bright.jpg", None),
    ],
)
def test_the_patient_stands_before_the_eye(name: str, patient: str | None) -> None:
    assert patient_from_name(name) == patient


def test_a_patient_is_normal_when_both_eyes_are_and_has_what_one_has() -> None:
    values = np.array([[0.8, 0.1, 0.3], [0.5, 0.6, 0.2]])

    np.testing.assert_allclose(combine_eyes(values, ["N", "D", "G"]), [0.5, 0.6, 0.3])
    np.testing.assert_allclose(combine_eyes(values, ["D", "G", "N"]), [0.8, 0.6, 0.2])
    np.testing.assert_allclose(combine_eyes(values[:, :1], ["DR"]), [0.8])
    np.testing.assert_array_equal(combine_eyes(np.array([[1, 0], [0, 1]], bool), ["N", "D"]), [0, 1])


def test_patients_are_in_the_order_of_their_numbers_and_in_the_format_of_submissions() -> None:
    photos: list[tuple[str, dict[str, float]]] = [
        ("10", {"N": 0.5, "D": 0.25}),
        ("9", {"N": 1, "D": 0}),
        ("x", {"N": 0, "D": 1}),
        ("10", {"N": 0.5, "D": 0.75}),
    ]

    rows = patient_rows(photos, ["N", "D"])

    assert list(rows) == ["9", "10", "x"]
    assert patient_table(rows, ["N", "D"]) == b"ID,N,D\n9,1,0\n10,0.5,0.75\nx,0,1\n"


def test_an_eye_that_failed_is_spoken_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results = ResultFolder(tmp_path)
    for image, patient, probability, note in (
        ("1_left.png", "1", 0.25, ""),
        ("1_right.png", "1", None, "dr_classification failed: too dark"),
        ("2_left.png", "2", 0.75, "vessel_segmentation failed: too dark"),
        ("scan.png", "2", None, "oct_layer_segmentation failed: too dark"),
    ):
        modality = "oct" if image == "scan.png" else "fundus"
        row = {"image": image, "patient": patient, "modality": modality, "p_DR": probability, "note": note}
        results.add_row(row)

    write_patients(results, [{"DR": "p_DR"}])

    assert (tmp_path / PATIENTS).read_text() == "ID,DR\n1,0.25\n2,0.75\n"
    assert "Of 1 patients (1) a photo has no probability" in caplog.text
