"""What a client is told when a request cannot be served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import HTTPException

from common.data import failure_of
from common.errors import SettingError


def refuse(status: HTTPStatus, sentence: str) -> HTTPException:
    """Give the error that FastAPI turns into an answer with this status and ``detail``."""
    return HTTPException(status_code=status, detail=sentence)


def unknown(kind: str, name: Any, names: Iterable[str]) -> HTTPException:
    """Give the error for a name that is none of those that there are."""
    return refuse(HTTPStatus.NOT_FOUND, f"There is no {kind} {name!r}: give one of {', '.join(names) or 'none'}.")


@contextmanager
def removed_if_refused(path: str | Path) -> Iterator[None]:
    """Remove a file that came with a request which is refused: MONAI Label removes those of answered requests alone.

    Args:
        path: the file.

    Raises:
        HTTPException: what refused the request.
    """
    try:
        yield
    except HTTPException:
        Path(path).unlink(missing_ok=True)
        raise


@contextmanager
def told_to_client(what: str) -> Iterator[None]:
    """Turn what goes wrong into an answer: the image's fault, the request's, or the server's.

    Args:
        what: what is done, or with what; the answer begins with it.

    Raises:
        HTTPException: with a sentence.
    """
    try:
        yield
    except HTTPException:
        raise
    except Exception as error:
        try:
            failure = failure_of(what, "inference", error)
        except SettingError as setting:
            raise refuse(HTTPStatus.BAD_REQUEST, str(setting)) from error
        if failure.stage == "read":
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"{what} {failure.reason}.") from error
        raise refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{what} failed: {failure.reason}.") from error
