"""Examinations for the page: files in, cards, a table and an archive out. Nothing here knows of Gradio."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import SettingError
from common.examine import Examination, Examiner
from common.examine.folder import LOCK, file_columns, read_rows
from common.examine.inputs import SUFFIXES
from common.examine.report import about
from common.examine.thumbnails import saliency_key, saliency_name
from common.page.cards import Card, Chances, chances_of, draw_layers
from common.pixels import read_pixels
from common.results import FAILURES, RESULTS
from common.scans import read_scan, split_address

ARCHIVE = "retina_results"
MEGABYTE = 1024**2
PICTURES_PER_FILE = 10  # on average: a file may be a volume, and visitors wait for one another
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run gives.

    Attributes:
        cards: one for each picture, by name.
        archive: zip file of masks, overlays and tables.
        table: the table of results; None when every file failed.
    """

    cards: list[Card]
    archive: Path
    table: Path | None

    @property
    def failed(self) -> int:
        """Number of pictures of which something could not be done."""
        return sum(1 for card in self.cards if card.failure)


def check_limit(name: str, limit: float) -> None:
    """Refuse a limit of the page that is no positive number.

    Args:
        name: of the setting.
        limit: its value.

    Raises:
        SettingError: it is something else.
    """
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise SettingError(f"--{name} is {limit!r}: give a number above 0.")


class Runner:
    """Runs examinations with networks that stay loaded; it may be used by several threads.

    Args:
        bundles: names of the bundles that can be chosen; None for all that are there and run by default.
        device: of the networks, ``cpu`` or ``cuda``; None for a GPU where there is one.
        max_files: how many files one run may have.
        max_megabytes: how large each may be.

    Raises:
        SettingError: a bundle is missing, or a limit is not positive.
    """

    def __init__(
        self,
        bundles: Sequence[str] | None = None,
        device: str | None = None,
        max_files: int = 20,
        max_megabytes: float = 50,
    ) -> None:
        check_limit("max_files", max_files)
        check_limit("max_megabytes", max_megabytes)
        self.max_files = max_files
        self.max_bytes = int(max_megabytes * MEGABYTE)
        self._examiner = Examiner(bundles, device)
        self._about = {entry.name: about(entry) for entry in self._examiner.entries}
        self.bundles = list(self._about)
        self.modalities = {entry.modality for entry in self._examiner.entries}

    def check(self, paths: Sequence[str | Path]) -> None:
        """Check how many files there are, and how large.

        Args:
            paths: the files.

        Raises:
            SettingError: there is none, there are too many, or one is too large or gone.
        """
        if not paths:
            raise SettingError("There is no file yet: choose fundus photos or OCT B-scans, or take an example.")
        if len(paths) > self.max_files:
            raise SettingError(
                f"{len(paths)} files are too many at once: choose at most {self.max_files}, and the others after them."
            )
        for path in map(Path, paths):
            if not path.is_file():
                raise SettingError(f"{path.name} is no longer here, since the session has ended: choose it again.")
            if path.stat().st_size > self.max_bytes:
                raise SettingError(
                    f"{path.name} has {path.stat().st_size / MEGABYTE:.1f} MB, and at most "
                    f"{self.max_bytes / MEGABYTE:g} MB are taken: choose a smaller file."
                )

    def run(
        self,
        paths: Sequence[str | Path],
        bundles: Sequence[str],
        scales: Mapping[str, float | None],
        folder: Path,
        progress: Progress | None = None,
    ) -> Outcome:
        """Examine files.

        Args:
            paths: the files; they are left as they are.
            bundles: names of the bundles to run, some of `bundles`.
            scales: micrometres, if known, as of `common.examine.Examiner`: ``pixel_size``, ``axial_scale`` and
                ``lateral_scale``.
            folder: an empty folder, which is filled.
            progress: told how many pictures are done, of how many, and the name of the last one.

        Raises:
            SettingError: as `check`, or a choice is none, or the files hold too many pictures.
        """
        self.check(paths)
        if not bundles:
            raise SettingError(f"Nothing is chosen to be measured: choose some of {', '.join(self.bundles)}.")
        examiner = self._examiner.only(bundles, **scales)
        output = folder / ARCHIVE
        output.mkdir()
        staged = _stage(paths, folder / "input")
        cards = [
            Card(name, failure=f"the ending '{Path(name).suffix}' is none of {', '.join(sorted(SUFFIXES))}")
            for name in staged
            if Path(name).suffix.lower() not in SUFFIXES
        ]
        if len(cards) < len(staged):
            # Never a list of the files: among them, a CSV file is taken for a table of paths.
            run = examiner.run(folder / "input", output)
            most = PICTURES_PER_FILE * self.max_files
            if run.total > most:
                run.close()
                raise SettingError(
                    f"These files hold {run.total} pictures, and at most {most} are taken at once: choose fewer files."
                )
            for number, examination in enumerate(run, start=1):
                card = _card(examination, folder / "shown" / str(number))
                cards.append(replace(card, chances=self._chances(examination, run.folder.blocks)))
                if progress is not None:
                    progress(number, run.total, examination.image)
            (output / LOCK).unlink(missing_ok=True)
        shown = {card.image for card in cards}
        reasons = {row["image"]: row["reason"] for row in read_rows(output / FAILURES)}
        cards += [Card(image, failure=reason) for image, reason in reasons.items() if image not in shown]
        cards.sort(key=lambda card: card.image)
        archive = Path(shutil.make_archive(str(output), "zip", output))
        table = output / RESULTS
        return Outcome(cards, archive, table if table.is_file() else None)

    def _chances(self, examination: Examination, columns: Mapping[str, Sequence[str]]) -> list[Chances]:
        """The probabilities of a row, by the bundles to which the columns belong."""
        found = []
        for name, bundle in self._about.items():
            chances = chances_of(examination.row, columns.get(name, ()), bundle)
            if chances is not None:
                saliency = saliency_name(saliency_key(name)) if name in examination.saliency else ""
                found.append(replace(chances, saliency=saliency))
        return found


def _stage(paths: Sequence[str | Path], folder: Path) -> list[str]:
    """Put files into a new folder, under their own names, or with a number where two have the same."""
    folder.mkdir()
    names: dict[str, str] = {}
    for path in map(Path, paths):
        name, number = path.name, 1
        while name.lower() in names:
            number += 1
            name = f"{path.stem}_{number}{path.suffix}"
        names[name.lower()] = name
        try:
            os.link(path, folder / name)
        except OSError:
            shutil.copyfile(path, folder / name)
    return list(names.values())


def _card(examination: Examination, folder: Path) -> Card:
    """Draw what is shown of an examination into a new folder."""
    row = {name: value for name, value in examination.row.items() if name not in file_columns(examination.row)}
    card = Card(examination.image, examination.modality, row, examination.failure or "")
    if not examination.row:
        return card
    folder.mkdir(parents=True)
    _, frame = split_address(examination.path)
    pixels = read_pixels(examination.path) if frame is None else read_scan(examination.path)
    heats = {saliency_key(bundle): path for bundle, path in examination.saliency.items()}
    return draw_layers(card, pixels, {**examination.masks, **heats}, folder)
