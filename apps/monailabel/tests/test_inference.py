from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import itk
import nibabel
import numpy as np
import pytest

from common.bundles import available_bundles
from common.label.inference import describe
from common.pixels import read_pixels

SEGMENTATION = "disc_cup_segmentation"


def test_info_lists_every_bundle(server: Any) -> None:
    info = server.get("/info/")
    assert sorted(info["models"]) == sorted(available_bundles())
    drawn = [name for name, path in available_bundles().items() if not describe(path).classifies]
    assert sorted(info["trainers"]) == sorted(drawn)
    for name, model in info["models"].items():
        description = describe(available_bundles()[name])
        assert model["labels"] == description.values
        assert model["dimension"] == 2
        assert model["type"] == ("deepgrow" if description.interactive else description.kind)
        assert model["version"] == description.version
    assert set(info["strategies"]) == {"random", "first", "uncertainty"}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_the_mask_is_that_of_the_bundles_own_run(
    server: Any, bundle: str, own: Any, pictures: Path, decode: Any, suffix: str
) -> None:
    name = f"eye_OD_{suffix[1:]}"
    server.upload_file(f"{bundle}_{name}", pictures / f"{name}{suffix}")
    mask = decode(server.infer(bundle, f"{bundle}_{name}", "image"))
    assert mask.dtype == np.uint8
    values = describe(available_bundles()[bundle]).values
    np.testing.assert_array_equal(mask, own.labels(f"{name}{suffix}", values))
    assert set(np.unique(mask).tolist()) > {0}


def test_biomarkers_come_along(server: Any, bundle: str, own: Any, pictures: Path) -> None:
    server.upload_file(f"{bundle}_OD_measured", pictures / "eye_OD_png.png")
    params = server.infer(bundle, f"{bundle}_OD_measured")
    row = own.rows["eye_OD_png.png"]
    files = {"image", "overlay", "figure", "labels", "profile", "volume", "note"}
    files |= {name for name in row if name.startswith("mask_")}
    measured = [name for name in row if name not in files]
    assert measured
    assert set(params["biomarkers"]) == set(measured)
    for name in measured:
        value = params["biomarkers"][name]
        if isinstance(value, float):
            assert float(row[name]) == pytest.approx(value, rel=1e-5), name
        else:
            assert row[name] == ("" if value is None else str(value)), name
    assert params["note"] == row["note"]
    assert params["label_names"] == describe(available_bundles()[bundle]).values
    assert 0 < params["entropy"] < 1


def test_nifti_gives_a_mask_in_the_same_place(
    server: Any, bundle: str, pictures: Path, write: Any, decode: Any, tmp_path: Path
) -> None:
    photo = read_pixels(pictures / "eye_OD_png.png")
    write(tmp_path / "photo.nii.gz", photo)
    picture = decode(server.infer(bundle, "", "image", file=pictures / "eye_OD_png.png"))
    (tmp_path / "mask.nii.gz").write_bytes(server.infer(bundle, "", "image", file=tmp_path / "photo.nii.gz"))
    mask: Any = nibabel.load(tmp_path / "mask.nii.gz")
    assert mask.shape == (*picture.shape[::-1], 1)
    assert mask.get_data_dtype() == np.uint8
    original: Any = nibabel.load(tmp_path / "photo.nii.gz")
    np.testing.assert_allclose(mask.affine, original.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj)[..., 0].T, picture)
    as_picture = server.infer(bundle, "", "image", file=tmp_path / "photo.nii.gz", result_extension=".png")
    np.testing.assert_array_equal(decode(as_picture), picture)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd"])
def test_a_volume_lies_where_itk_puts_the_photo(
    server: Any, photos: Path, decode: Any, tmp_path: Path, suffix: str
) -> None:
    photo = photos / "eye_OD_png.png"
    picture = decode(server.infer(SEGMENTATION, "", "image", file=photo))
    path = tmp_path / f"mask{suffix}"
    path.write_bytes(server.infer(SEGMENTATION, "", "image", file=photo, result_extension=suffix))
    mask, flat = itk.imread(str(path)), itk.imread(str(photo))
    np.testing.assert_array_equal(itk.array_from_image(mask)[0], picture)
    assert list(mask.GetOrigin())[:2] == list(flat.GetOrigin())
    assert list(mask.GetSpacing())[:2] == list(flat.GetSpacing())
    np.testing.assert_array_equal(itk.array_from_matrix(mask.GetDirection()), np.eye(3))


def test_parameters_and_mask_in_one_answer(server: Any, photos: Path) -> None:
    answer = server.client.post(
        f"/infer/{SEGMENTATION}", files={"file": ("a.png", (photos / "eye_OD_png.png").read_bytes())}
    ).raise_for_status()
    assert answer.headers["content-type"].startswith("multipart/form-data")
    assert b'"cdr_vertical"' in answer.content
    assert b"\x89PNG" in answer.content


def test_one_structure_alone(server: Any, own_disc: Any, photos: Path, decode: Any) -> None:
    masks = own_disc.masks("eye_OD_png.png")
    assert masks["cup"].any()
    for name, mask in masks.items():
        content = server.infer(SEGMENTATION, "", "image", file=photos / "eye_OD_png.png", label=name)
        np.testing.assert_array_equal(decode(content), mask.astype(np.uint8))


def test_polygons_for_qupath(server: Any, own_disc: Any, photos: Path) -> None:
    server.upload_file("eye_OD_qupath", photos / "eye_OD_png.png")
    answer = server.client.post(
        f"/infer/wsi/{SEGMENTATION}", params={"image": "eye_OD_qupath", "output": "asap"}, json={}
    ).raise_for_status()
    found = {}
    for annotation in ElementTree.fromstring(answer.text).iter("Annotation"):
        points = [(float(point.attrib["X"]), float(point.attrib["Y"])) for point in annotation.iter("Coordinate")]
        found[annotation.attrib["Name"]] = np.array(points)
    for name, mask in own_disc.masks("eye_OD_png.png").items():
        rows, columns = np.nonzero(mask)
        assert found[name].min(axis=0).tolist() == [columns.min(), rows.min()]
        assert found[name].max(axis=0).tolist() == [columns.max(), rows.max()]


def test_polygons_in_the_parameters(server: Any, photos: Path) -> None:
    answer = server.client.post(
        f"/infer/{SEGMENTATION}",
        params={"output": "json"},
        data={"params": json.dumps({"output": "json"})},
        files={"file": ("a.png", (photos / "eye_OD_png.png").read_bytes())},
    )
    params = answer.raise_for_status().json()
    elements = params["annotations"][0]["annotation"]["elements"]
    assert [element["label"] for element in elements] == ["disc", "cup"]
    assert all(len(contour) > 2 for element in elements for contour in element["contours"])


def test_twenty_requests_at_once(server: Any, draw: Any, decode: Any) -> None:
    names = [f"eye_OS_{seed}" for seed in range(10)]
    for seed, name in enumerate(names):
        server.upload(name, draw(seed))
    alone = {name: decode(server.infer(SEGMENTATION, name, "image")) for name in names}
    assert len({mask.tobytes() for mask in alone.values()}) == len(names)

    def ask(name: str) -> tuple[str, Any]:
        return name, decode(server.infer(SEGMENTATION, name, "image"))

    with ThreadPoolExecutor(20) as pool:
        for name, mask in pool.map(ask, names * 2):
            np.testing.assert_array_equal(mask, alone[name])


def test_numbers_are_json(server: Any) -> None:
    black = np.zeros((220, 260, 3), np.uint8)
    server.upload("black", black)
    answer = server.client.post(f"/infer/{SEGMENTATION}", params={"image": "black", "output": "json"})
    assert answer.status_code == 200

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    params = json.loads(answer.content, parse_constant=refuse)
    assert params["biomarkers"]["cdr_vertical"] is None
    assert "no optic disc found" in params["note"]
