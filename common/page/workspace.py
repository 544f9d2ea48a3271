"""The folder that a running page keeps files in: what belongs to whom, and when it is removed."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_UPLOADS, _RUNS = "uploads", "runs"
_KEPT_RUNS = 3


@dataclass
class _Session:
    """What one visitor has on the disk.

    Attributes:
        uploads: folders of uploaded files, one for each upload.
        runs: folders of the latest results, the newest last.
        used: when something was last asked for it.
        busy: whether its files are being worked on, and must stay.
        ended: whether the visitor has gone.
    """

    uploads: set[Path] = field(default_factory=set)
    runs: list[Path] = field(default_factory=list)
    used: float = field(default_factory=time.monotonic)
    busy: int = 0
    ended: bool = False


class Workspace:
    """Keeps the files of the visitors of a page apart, and removes them.

    Every upload and every run has a folder of its own whose name cannot be guessed. A visitor has the files of the
    present choice and the results of the latest three runs, no more; both go when the session ends, and when nothing
    was asked for ``keep_seconds``, as uploads do that no session takes.

    Args:
        root: an empty folder; whoever made it removes it.
        keep_seconds: how long files stay that nobody asks for.
    """

    def __init__(self, root: Path, keep_seconds: float = 3600) -> None:
        self.root = root.resolve()
        self.keep_seconds = keep_seconds
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()
        for name in (_UPLOADS, _RUNS):
            (self.root / name).mkdir(parents=True)

    def upload_folder(self) -> Path:
        """Make the folder of one upload."""
        folder = self.root / _UPLOADS / secrets.token_urlsafe(16)
        folder.mkdir()
        return folder

    def claim(self, session: str, paths: Iterable[str | Path]) -> None:
        """Say which uploaded files a session uses now; its earlier uploads are removed.

        Args:
            session: name of the session.
            paths: files; those that lie in no folder of an upload belong to the page, and stay.
        """
        uploads = self.root / _UPLOADS
        inside = [path.relative_to(uploads) for path in map(Path.resolve, map(Path, paths)) if uploads in path.parents]
        kept = {uploads / path.parts[0] for path in inside}
        with self._lock:
            known = self._sessions.setdefault(session, _Session())
            known.used = time.monotonic()
            known.ended = False
            dropped = known.uploads - kept
            known.uploads = kept
        _remove(dropped)

    @contextmanager
    def run_folder(self, session: str) -> Iterator[Path]:
        """Give a new folder for a run of a session; the session's files stay while the context lasts.

        The results of all but the latest runs are removed.

        Args:
            session: name of the session.
        """
        folder = self.root / _RUNS / secrets.token_urlsafe(16)
        folder.mkdir()
        with self._lock:
            known = self._sessions.setdefault(session, _Session())
            known.runs.append(folder)
            earlier, known.runs = known.runs[:-_KEPT_RUNS], known.runs[-_KEPT_RUNS:]
            known.busy += 1
        _remove(earlier)
        try:
            yield folder
        finally:
            with self._lock:
                known.busy -= 1
                known.used = time.monotonic()
            if known.ended:
                self.end(session)

    def end(self, session: str) -> None:
        """Remove all that a session has; when its files are being worked on, as soon as this is over.

        Args:
            session: name of the session; one that has nothing is no error.
        """
        with self._lock:
            known = self._sessions.get(session)
            if known is None:
                return
            known.ended = True
            if known.busy:
                return
            del self._sessions[session]
        _remove([*known.uploads, *known.runs])

    def sweep(self) -> None:
        """Remove what nobody has asked for since ``keep_seconds``, uploads without a session among it."""
        now = time.monotonic()
        with self._lock:
            known = self._sessions.items()
            old = [name for name, one in known if not one.busy and now - one.used > self.keep_seconds]
        for name in old:
            self.end(name)
        with self._lock:
            claimed = {folder for known in self._sessions.values() for folder in known.uploads}
        oldest = time.time() - self.keep_seconds
        strays = [path for path in (self.root / _UPLOADS).iterdir() if path not in claimed]
        # Gradio leaves an empty file beside them for each file that a function is given.
        strays += [path for path in self.root.iterdir() if path.is_file()]
        _remove(path for path in strays if path.stat().st_mtime < oldest)


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
