"""The folder of studies: photos, their labels, and nothing outside it."""

from __future__ import annotations

import logging
import re
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import Any

from monailabel.datastore.local import LocalDatastore

from common.errors import UnreadableImageError
from common.pixels import NIFTI_SUFFIXES, PHOTO_SUFFIXES, read_pixels
from lib.errors import refuse, removed_if_refused

SUFFIXES = (*NIFTI_SUFFIXES[::-1], *sorted(PHOTO_SUFFIXES))
"""Endings of the files that are photos or labels; the longer of two that fit comes first."""
# No separators of paths, no leading dot, nothing that a shell or a log would stumble over.
_PLAIN_NAME = re.compile(r"[^\W_][\w .+@()-]{0,199}")

_logger = logging.getLogger(__name__)


def check_name(kind: str, name: str) -> str:
    """Refuse a name that could lead out of the folder of studies.

    Args:
        kind: what is named, for the answer.
        name: the name that a client gave.

    Returns:
        The name.

    Raises:
        HTTPException: it is not usable.
    """
    if not _PLAIN_NAME.fullmatch(name):
        raise refuse(
            HTTPStatus.BAD_REQUEST,
            f"The {kind} {name!r} is no plain name: give letters, digits, spaces and . _ + @ ( ) -, beginning with a "
            "letter or digit.",
        )
    return name


class PhotoDatastore(LocalDatastore):
    """MONAI Label's store of a local folder, for photos and for NIfTI alike.

    A photo is checked before it is stored, a label before it is kept: a picture that can be read, of its photo's size.

    Args:
        folder: the folder of studies.
        auto_reload: whether files that appear in the folder are taken up.
    """

    def __init__(self, folder: str, auto_reload: bool) -> None:
        patterns = [f"*{ending}" for suffix in SUFFIXES for ending in (suffix, suffix.upper())]
        super().__init__(folder, extensions=patterns, auto_reload=auto_reload)
        files = self._list_files(self._datastore.image_path(), patterns)
        shared = [name for name, count in Counter(self._to_id(file)[0] for file in files).items() if count > 1]
        for name in shared:
            _logger.warning(f"{folder} has several files named {name} but for their endings: one of them is served.")

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Store a photo under a plain name.

        Raises:
            HTTPException: the name or the file cannot be used.
        """
        with removed_if_refused(image_filename):
            self._check_image(image_id, image_filename)
        stored: str = super().add_image(image_id, image_filename, image_info)
        return stored

    def _check_image(self, image_id: str, image_filename: str) -> None:
        check_name("image", image_id)
        self._check_ending("image", image_filename)
        existing = self._datastore.objects.get(image_id)
        ending = self._to_id(Path(image_filename).name)[1]
        if existing is not None and existing.image.ext != ending:
            raise refuse(
                HTTPStatus.CONFLICT,
                f"There is an image {image_id}{existing.image.ext}, and an image is known by its name without the "
                f"ending: store this {ending} file under another name.",
            )
        self._read(image_id, image_filename)

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label of a photo under a plain tag.

        Raises:
            HTTPException: there is no such photo, or the tag or the file cannot be used.
        """
        with removed_if_refused(label_filename):
            self._check_label(image_id, label_filename, label_tag)
        kept: str = super().save_label(image_id, label_filename, label_tag, label_info)
        return kept

    def _check_label(self, image_id: str, label_filename: str, label_tag: str) -> None:
        check_name("tag", str(getattr(label_tag, "value", label_tag)))
        path = self.get_image_uri(image_id)
        if not path:
            raise refuse(HTTPStatus.NOT_FOUND, f"There is no image {image_id!r} in the studies folder.")
        self._check_ending("label", label_filename)
        label, photo = self._read(f"label of {image_id}", label_filename), self._read(image_id, path)
        if label.shape[:2] != photo.shape[:2]:
            raise refuse(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"The label has {label.shape[1]}x{label.shape[0]} pixels, the image {image_id} "
                f"{photo.shape[1]}x{photo.shape[0]}: save it at the image's own size.",
            )

    @staticmethod
    def _check_ending(kind: str, filename: str) -> None:
        if not Path(filename).name.lower().endswith(SUFFIXES):
            raise refuse(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"The {kind} has the ending {''.join(Path(filename).suffixes)!r}: give a file that ends in one of "
                f"{', '.join(SUFFIXES)}.",
            )

    @staticmethod
    def _read(name: str, path: str) -> Any:
        try:
            return read_pixels(path)
        except UnreadableImageError as error:
            raise refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"The image {name} {error.reason}.") from error
