from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_folder() -> Callable[[str], Path]:
    """Gives a folder of `RETINA_DATA`; the test is skipped where it is not there."""

    def find(name: str) -> Path:
        data = os.environ.get("RETINA_DATA")
        if not data:
            pytest.skip(f"RETINA_DATA is not set: it names the folder with the public data set {name}")
        folder = Path(data) / name
        if not folder.is_dir():
            pytest.skip(f"{folder} is not there: set RETINA_DATA to the folder with {name}")
        return folder

    return find
