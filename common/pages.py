"""The pages of TIFF files, counted without decoding them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tifffile

from common.errors import UnreadableImageError

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})


@dataclass(frozen=True)
class Pages:
    """What is known of the pages of a file from its headers.

    Attributes:
        count: number of pages, at least 1.
        pictures: numbers, from 1 on, of the pages that are pictures of their own, at least one: neither a reduced copy
            of another page, such as a thumbnail, nor a mask, by the tag ``NewSubfileType``.
    """

    count: int = 1
    pictures: tuple[int, ...] = (1,)


def tiff_pages(path: str | Path) -> Pages:
    """Count the pages of a TIFF file.

    Args:
        path: the file. A file that is no TIFF at all has one page, whatever its name: its reader knows better.

    Raises:
        UnreadableImageError: the file cannot be opened, breaks off within its pages, or keeps several pictures in one
            page.
    """
    path = Path(path)
    try:
        with tifffile.TiffFile(path) as file:
            pages = file.pages
            count = len(pages)
            _check_end(path, file)
            if count == 1 and (file.is_imagej or file.is_shaped):
                (series,) = file.series
                kept = series.size // pages.first.size
                if kept > 1:
                    raise UnreadableImageError(
                        path, f"keeps {kept} pictures in one page; save each as a page of its own"
                    )
            pictures = [number for number, page in enumerate(pages, 1) if not _is_derived(page)]
    except OSError as error:
        raise UnreadableImageError(path, f"cannot be opened ({error.strerror or error})") from error
    except tifffile.TiffFileError:
        return Pages()
    except UnreadableImageError:
        raise
    except Exception as error:  # what a decoder raises on a damaged file has no end
        raise UnreadableImageError(path, f"has damaged pages ({error or type(error).__name__})") from error
    return Pages(count, tuple(pictures) or tuple(range(1, count + 1)))


def _is_derived(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    whole = page.aspage()
    return whole.is_reduced or whole.is_mask


def _check_end(path: Path, file: tifffile.TiffFile) -> None:
    """Refuse a file whose last page says that another one follows, which is not there."""
    place = file.pages.next_page_offset
    assert place is not None
    file.filehandle.seek(place)
    following = file.filehandle.read(file.tiff.offsetsize)
    if any(following) or len(following) < file.tiff.offsetsize:
        raise UnreadableImageError(path, f"breaks off after page {len(file.pages)}: get it again")


def pages_note(path: str | Path, page: int | None = None) -> str:
    """Say which pages of a file are not used.

    Args:
        path: the file, whatever its kind.
        page: number of the page that is used, where each picture of the file is an input of its own; None where the
            file is one input.

    Returns:
        A phrase; empty where nothing is left out.
    """
    if Path(path).suffix.lower() not in TIFF_SUFFIXES:
        return ""
    try:
        pages = tiff_pages(path)
    except UnreadableImageError as error:
        return f"only the first page is used: the file {error.reason}"
    if page is None:
        return "" if pages.count == 1 else f"only the first of {pages.count} pages is used"
    left_out = pages.count - len(pages.pictures)
    return f"{left_out} of {pages.count} pages left out: marked as reduced copies or masks" if left_out else ""
