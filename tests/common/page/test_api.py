"""The page as Gradio's client calls it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
import tifffile
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from common.phantoms import oct_phantom, write_oct_phantoms

if TYPE_CHECKING:
    from tests.common.page.conftest import RunningPage

BUNDLE, SCANS = "vessel_segmentation", "oct_layer_segmentation"
CLIENTS = 20


def connect(page: RunningPage, folder: Path) -> Client:
    return Client(page.url, verbose=False, download_files=str(folder), httpx_kwargs={"timeout": 60})


def call(client: Client, files: list[Path], bundles: list[str] | None = None, **scales: float) -> Any:
    return client.predict(
        files=[handle_file(str(file)) for file in files],
        bundles=[BUNDLE] if bundles is None else bundles,
        api_name="/examine",
        **scales,
    )


def test_twenty_clients_at_once(
    page: RunningPage, photos: list[Path], tmp_path: Path, inferred: Callable[[Path], bytes]
) -> None:
    def visit(number: int) -> bytes:
        photo = photos[number % 2]
        client = connect(page, tmp_path / str(number))
        try:
            results, archive = call(client, [photo])
        finally:
            client.close()
        assert [(one["image"], one["failure"]) for one in results] == [(photo.name, None)]
        with zipfile.ZipFile(archive) as content:
            return content.read(f"masks/{photo.stem}_vessel.png")

    expected = [inferred(photo) for photo in photos]
    with ThreadPoolExecutor(CLIENTS) as pool:
        masks = list(pool.map(visit, range(CLIENTS)))
    assert masks == [expected[number % 2] for number in range(CLIENTS)]
    page.wait_for_no_files()


def test_endpoint(page: RunningPage, photos: list[Path], tmp_path: Path) -> None:
    client = connect(page, tmp_path / "downloads")
    bad = tmp_path / photos[0].name
    bad.write_bytes(b"no image")
    try:
        assert list(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/examine"]

        # Two files of one name, one of which is no image.
        results, _ = call(client, [photos[0], bad, photos[1]], pixel_size=8)
        stem, ending = photos[0].stem, photos[0].suffix
        assert [one["image"] for one in results] == [photos[0].name, f"{stem}_2{ending}", photos[1].name]
        assert [bool(one["failure"]) for one in results] == [False, True, False]
        found = results[0]["results"]
        assert found["vessel_length_um"] == pytest.approx(8 * found["vessel_length_px"], rel=1e-4)

        scan = write_oct_phantoms(tmp_path / "scans", 1, sizes=[(200, 256)], borders=["none"]) / "image"
        results, _ = call(client, [*scan.iterdir(), photos[0]], [BUNDLE, SCANS], pixel_size=8, axial_scale=3.5)
        found = results[[one["modality"] for one in results].index("oct")]["results"]
        assert found["axial_scale_um"] == 3.5
        # With random weights the outer layers reach the edges of the picture, which cut them off.
        assert found["inl_thickness_mean_um"] == pytest.approx(3.5 * found["inl_thickness_mean_px"], rel=1e-4)
        assert not any("was not used" in one["results"]["note"] for one in results)

        volume = tmp_path / "volume.tif"
        frame = oct_phantom(200, 256, seed=1, border="none").scan
        tifffile.imwrite(
            volume, np.stack([frame, *[np.zeros_like(frame)] * 30]), photometric="minisblack", compression="zlib"
        )
        for files, bundles, said in (
            ([], ["vessels"], "not in the list of choices"),
            (photos[:1], [], "Nothing is chosen"),
            (photos * 2, [BUNDLE], "4 files are too many at once"),
            ([volume], [SCANS], "These files hold 31 pictures, and at most 30 are taken at once"),
        ):
            with pytest.raises(AppError, match=said):
                call(client, files, bundles)
    finally:
        client.close()
    page.wait_for_no_files()


def test_files_of_the_computer_are_not_given(page: RunningPage, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    data = {"data": [[{"path": str(secret), "meta": {"_type": "gradio.FileData"}}], [BUNDLE], 0, 0, 0]}
    event = httpx.post(f"{page.url}/gradio_api/call/examine", json=data).json()["event_id"]
    answer = httpx.get(f"{page.url}/gradio_api/call/examine/{event}", timeout=60).text
    assert "event: error" in answer
    assert httpx.get(f"{page.url}/gradio_api/file={secret}").status_code == 403
    assert page.files() == []


def test_upload_over_the_limit(page: RunningPage) -> None:
    for size in (1_200_000, 5_000_000):
        answer = httpx.post(f"{page.url}/gradio_api/upload", files={"files": ("a.png", bytes(size))})
        assert answer.status_code == 413
    assert page.files() == []
