from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.page.server import sweep_always
from common.page.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work", keep_seconds=3600)


def upload(workspace: Workspace, name: str = "photo.png") -> Path:
    file = workspace.upload_folder() / "hash" / name
    file.parent.mkdir()
    file.write_bytes(b"photo")
    return file


def test_session_has_only_its_present_files(workspace: Workspace) -> None:
    first, second, other = upload(workspace), upload(workspace), upload(workspace)
    workspace.claim("a", [first])
    workspace.claim("b", [other])
    workspace.claim("a", [str(second)])
    assert [path.exists() for path in (first, second, other)] == [False, True, True]
    workspace.end("a")
    assert [path.exists() for path in (second, other)] == [False, True]
    workspace.end("a")


def test_paths_outside_of_uploads_are_not_claimed(workspace: Workspace, tmp_path: Path) -> None:
    example = workspace.root / "example.png"
    example.write_bytes(b"")
    uploads = workspace.root / "uploads"
    workspace.claim("a", [example, tmp_path, uploads, uploads / ".." / "example.png", workspace.root / "runs"])
    workspace.end("a")
    assert example.exists()
    assert (workspace.root / "runs").is_dir()


def test_only_the_latest_results_stay(workspace: Workspace) -> None:
    folders = []
    for _ in range(5):
        with workspace.run_folder("a") as folder:
            folders.append(folder)
    assert [folder.exists() for folder in folders] == [False, False, True, True, True]


def test_files_in_use_stay_until_they_are_done_with(workspace: Workspace) -> None:
    file = upload(workspace)
    workspace.claim("a", [file])
    with workspace.run_folder("a") as folder:
        workspace.end("a")
        assert file.exists()
        assert folder.exists()
    assert not file.exists()
    assert not folder.exists()


def test_who_comes_back_during_a_run_keeps_the_files(workspace: Workspace) -> None:
    file = upload(workspace)
    with workspace.run_folder("a") as folder:
        workspace.end("a")
        workspace.claim("a", [file])
    assert file.exists()
    assert folder.exists()


def test_sweep(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "work", keep_seconds=3600)
    kept, stray = upload(workspace), upload(workspace)
    workspace.claim("a", [kept])
    workspace.sweep()
    assert kept.exists()
    assert stray.exists()

    workspace.keep_seconds = -1
    with workspace.run_folder("b") as folder:
        workspace.sweep()
        assert folder.exists()
    (workspace.root / "stray").write_bytes(b"")
    workspace.sweep()
    assert [path.exists() for path in (kept, stray, folder, workspace.root / "stray")] == [False] * 4
    assert (workspace.root / "uploads").is_dir()


def failed(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == sweep_always.__module__]


def test_sweeps_go_on_after_one_that_failed(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    uploads = workspace.root / "uploads"
    uploads.rmdir()
    stray = workspace.root / "stray"
    stray.write_bytes(b"")
    workspace.keep_seconds = -1

    async def watch() -> None:
        task = asyncio.create_task(sweep_always(workspace, 0.01))
        while not failed(caplog):
            await asyncio.sleep(0.01)
        uploads.mkdir()
        while stray.exists():
            await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()

    async def watch_for_a_minute() -> None:
        await asyncio.wait_for(watch(), 60)

    with ThreadPoolExecutor(1) as thread:  # this one may have a browser's loop already
        thread.submit(asyncio.run, watch_for_a_minute()).result()

    assert "could not be removed; it is tried again" in failed(caplog)[0].getMessage()
    assert "FileNotFoundError" in caplog.text
