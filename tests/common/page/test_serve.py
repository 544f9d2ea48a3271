"""`retina serve` as a process, and its wrong settings."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from common.cli import main


def test_process_serves_and_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "common.cli", "serve", "--port", "0", "--bundles", "oct_layer_segmentation"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", said)
        assert address is not None, said
        assert "Retina bundles" in httpx.get(address[0]).text
        upload = httpx.post(f"{address[0]}/gradio_api/upload", files={"files": ("a.png", b"photo")})
        assert Path(upload.json()[0]).read_bytes() == b"photo"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max_files", "0"], "--max_files is 0: give a number above 0."),
        (["--max_megabytes", "much"], "--max_megabytes is 'much': give a number above 0."),
        (["--keep_minutes", "x"], "--keep_minutes is 'x': give a number above 0."),
        (["--keep_minutes", "-1"], "--keep_minutes is -1: give a number above 0."),
        (["--bundles", "vessel_segmentatoin"], "vessel_segmentation"),
        (["--port", "70000"], "choose others with --host and --port"),
        (["--host", "192.0.2.1"], "choose others with --host and --port"),
    ],
)
def test_wrong_setting(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = [] if "--port" in flags else ["--port", "0"]
    assert main(["serve", *port, *flags]) == 2
    assert said in capsys.readouterr().err


def test_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 2
    assert f"cannot be served at 127.0.0.1, port {port}" in capsys.readouterr().err


def test_without_gradio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("common.cli.find_spec", lambda name: None)
    assert main(["serve"]) == 2
    assert 'pip install -e ".[web]"' in capsys.readouterr().err
