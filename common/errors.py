"""Errors that tell a user which file or setting is wrong and what to do about it."""

from __future__ import annotations

from pathlib import Path


class SettingError(ValueError):
    """A setting of a run is wrong (a missing folder, an empty list, an unknown column); the run stops at once."""


class UnreadableImageError(Exception):
    """One input file cannot be used; a run records it and goes on.

    Args:
        path: the file.
        reason: why it cannot be used, as a phrase that follows the file's name.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


def setting_error_behind(error: BaseException | None) -> SettingError | None:
    """Find the wrong setting behind an error: MONAI wraps what happens while it reads a config."""
    while error is not None and not isinstance(error, SettingError):
        error = error.__cause__ or error.__context__
    return error
