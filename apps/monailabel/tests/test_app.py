"""What the app does with its datastore, with bad requests and with paths; in this process."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MODEL = "disc_cup_segmentation"


def png(pixels: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def put(app: Any, name: str, content: bytes, file: str = "a.png", **info: Any) -> Any:
    return app.put(
        "/datastore/image",
        params={"image": name},
        files={"file": (file, content)},
        data={"params": json.dumps(info)},
    )


def put_label(app: Any, name: str, content: bytes, file: str = "a.png", tag: str = "final") -> Any:
    return app.put("/datastore/label", params={"image": name, "tag": tag}, files={"label": (file, content)})


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def photo(app: Any, draw: Any) -> str:
    """A photo in the datastore."""
    put(app, "here", png(draw(1))).raise_for_status()
    return "here"


# --- the datastore ---------------------------------------------------------------------------------------------------


def test_photo_and_label_come_back(app: Any, draw: Any) -> None:
    content = png(draw(2))
    assert put(app, "patient 7 (left)", content, patient="7").json() == {"image": "patient 7 (left)"}
    assert app.get("/datastore/image", params={"image": "patient 7 (left)"}).content == content
    assert app.get("/datastore/image/info", params={"image": "patient 7 (left)"}).json()["patient"] == "7"
    labels = np.zeros(draw(2).shape[:2], np.uint8)
    labels[5:20, 7:90] = 2
    stored = put_label(app, "patient 7 (left)", png(labels), tag="final")
    assert stored.json() == {"image": "patient 7 (left)", "label": "patient 7 (left)"}
    back = app.get("/datastore/label", params={"label": "patient 7 (left)", "tag": "final"})
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(back.content))), labels)
    assert (app.studies / "labels" / "final" / "patient 7 (left).png").is_file()
    app.delete("/datastore/image", params={"id": "patient 7 (left)"}).raise_for_status()
    assert app.get("/datastore/image", params={"image": "patient 7 (left)"}).status_code == 404


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "..", ".hidden", "a/b", "a\\b", "a\nb", "x" * 300])
def test_names_that_lead_out_of_the_folder(app: Any, draw: Any, photo: str, name: str) -> None:
    before, outside = everything(app.studies), everything(app.studies.parent)
    answer = put(app, name, png(draw(1)))
    assert answer.status_code == 400
    assert "is no plain name" in answer.json()["detail"]
    labels = png(np.zeros(draw(1).shape[:2], np.uint8))
    answer = put_label(app, photo, labels, tag=name)
    assert answer.status_code == 400
    assert "is no plain name" in answer.json()["detail"]
    assert everything(app.studies) == before
    assert everything(app.studies.parent) == outside


@pytest.mark.parametrize(
    ("file", "content", "status", "sentence"),
    [
        ("a.png", b"no picture", 422, "is not an image of a known format"),
        ("a.png", b"", 422, "is empty"),
        ("a.exe", b"MZ", 415, "has the ending '.exe'"),
        ("a", b"x", 415, "has the ending ''"),
        ("a.nii.gz", b"no NIfTI", 422, "cannot be decoded"),
    ],
)
def test_files_that_are_no_photos(app: Any, file: str, content: bytes, status: int, sentence: str) -> None:
    answer = put(app, "broken", content, file)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]
    assert app.get("/datastore/image", params={"image": "broken"}).status_code == 404


def test_another_ending_of_the_same_name(app: Any, draw: Any, photo: str) -> None:
    content = io.BytesIO()
    Image.fromarray(draw(1)).save(content, "JPEG")
    answer = put(app, photo, content.getvalue(), "a.jpg")
    assert answer.status_code == 409
    assert "There is an image here.png" in answer.json()["detail"]


def test_labels_that_do_not_fit(app: Any, draw: Any, photo: str) -> None:
    answer = put_label(app, photo, png(np.zeros((40, 50), np.uint8)))
    assert answer.status_code == 422
    height, width = draw(1).shape[:2]
    assert answer.json()["detail"].startswith(f"The label has 50x40 pixels, the image here {width}x{height}")
    answer = put_label(app, "nobody", png(np.zeros((40, 50), np.uint8)))
    assert answer.status_code == 404
    assert "There is no image 'nobody'" in answer.json()["detail"]
    assert put_label(app, photo, b"no picture").status_code == 422


# --- requests that cannot be served ----------------------------------------------------------------------------------


def infer(app: Any, model: str = MODEL, image: str = "here", params: str = "{}") -> Any:
    return app.post(f"/infer/{model}", params={"image": image, "output": "json"}, data={"params": params})


@pytest.mark.parametrize(
    "path", ["/infer/nothing?image=here", "/batch/infer/nothing", "/train/nothing", "/model/nothing"]
)
def test_unknown_model(app: Any, photo: str, path: str) -> None:
    answer = app.get(path) if path.startswith("/model") else app.post(path)
    assert answer.status_code == 404
    assert "There is no model 'nothing': give one of" in answer.json()["detail"]


def test_unknown_strategy(app: Any) -> None:
    answer = app.post("/activelearning/nothing")
    assert answer.status_code == 404
    assert "There is no strategy 'nothing': give one of random, first, uncertainty" in answer.json()["detail"]
    answer = app.post("/activelearning/uncertainty", json={"model": "nothing"})
    assert answer.status_code == 404


@pytest.mark.parametrize("image", ["nobody", "/etc/passwd", "../here.png", "datastore_v2.json", "."])
def test_only_photos_of_the_datastore_are_read(app: Any, photo: str, image: str) -> None:
    for answer in (infer(app, image=image), infer(app, params=json.dumps({"image": image}))):
        assert answer.status_code == 404
        assert f"There is no image in the studies folder {image!r}" in answer.json()["detail"]


def test_a_file_of_the_server_is_not_read_by_its_path(app: Any, photo: str) -> None:
    answer = infer(app, image=str(app.studies / "here.png"))
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ('{"foreground": [[1, 2]]}', "takes no clicks and no box"),
        ('{"label": "fovea"}', "has no label 'fovea': give one of disc, cup"),
        ('{"result_extension": ".jpg"}', "result_extension is '.jpg'; give one of .png"),
        ('{"result_extension": "/../../x.png"}', "result_extension is '/../../x.png'"),
        ('{"device": "cpu\') or 1/0 or (\'"}', "device is"),
        ('{"device": 7}', "device is 7"),
        ('{"roi": [1, 2, 3]}', "roi has [1, 2, 3]; give 4 or 6 numbers"),
        ('{"foreground": ["a"]}', "foreground has 'a'; give 2 or 3 numbers"),
        ('{"prompts": [1]}', "prompts is [1]; give the prompts of each structure"),
        ("{no json", "The parameters are no JSON"),
    ],
)
def test_bad_parameters(app: Any, photo: str, params: str, sentence: str) -> None:
    answer = infer(app, params=params)
    assert answer.status_code == 400
    assert sentence in answer.json()["detail"]


@pytest.mark.parametrize("content", [b"no picture", b"", png(np.zeros((8, 8, 3), np.uint8))])
def test_a_broken_upload(app: Any, content: bytes) -> None:
    answer = app.post(f"/infer/{MODEL}", files={"file": ("photo.png", content)})
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("The image photo ")


def test_no_sessions(app: Any, draw: Any) -> None:
    for answer in (
        app.put("/session/", files={"files": ("a.png", png(draw(1)))}),
        app.get("/session/abc"),
        app.post(f"/infer/{MODEL}", params={"session_id": "abc"}),
    ):
        assert answer.status_code == 501
        assert "This server keeps no sessions" in answer.json()["detail"]


def test_uploads_are_gone_after_the_answer(app: Any, draw: Any) -> None:
    from monailabel.interfaces.utils.app import app_instance

    uploads = app_instance()._uploads
    before = everything(uploads)
    answer = app.post(f"/infer/{MODEL}", params={"output": "image"}, files={"file": ("photo.png", png(draw(1)))})
    assert answer.status_code == 200
    assert app.post(f"/infer/{MODEL}", files={"file": ("photo.png", b"no picture")}).status_code == 422
    assert put(app, "../outside", png(draw(1))).status_code == 400
    assert put_label(app, "nobody", png(draw(1))).status_code == 404
    assert app.put("/session/", files={"files": ("a.png", png(draw(1)))}).status_code == 501
    assert everything(uploads) == before


# --- weights ---------------------------------------------------------------------------------------------------------


def test_shipped_weights_can_be_neither_replaced_nor_deleted(app: Any, photo: str) -> None:
    from common.bundles import available_bundles

    shipped = available_bundles()[MODEL] / "models" / "model.pt"
    before = shipped.read_bytes()
    assert app.delete(f"/model/{MODEL}").status_code == 404
    app.put(f"/model/{MODEL}", files={"file": ("model.pt", b"no weights")}).raise_for_status()
    answer = infer(app)
    assert answer.status_code == 400
    assert "is no checkpoint that can be read" in answer.json()["detail"]
    app.delete(f"/model/{MODEL}").raise_for_status()
    assert infer(app).status_code == 200
    assert shipped.read_bytes() == before
    assert [path.name for path in shipped.parent.iterdir()] == ["model.pt"]


def test_the_server_lives_on(app: Any, photo: str) -> None:
    assert infer(app).json()["label_names"] == {"disc": 1, "cup": 2}
