"""The lesions of diabetic retinopathy: their names, and the check of a setting that chooses some."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import SettingError

LESIONS: tuple[str, ...] = ("exudate", "haemorrhage", "microaneurysm", "soft_exudate")
"""Names of the lesions, as data lists, channels and results call them; ``exudate`` is the hard exudate."""


def check_lesions(lesions: Sequence[str]) -> tuple[str, ...]:
    """Give the lesions that a setting chooses.

    Args:
        lesions: the setting.

    Raises:
        SettingError: it is no list of different names of `LESIONS`.
    """
    chosen = () if isinstance(lesions, str) else tuple(lesions)
    if not chosen or len(set(chosen)) < len(chosen) or not set(chosen) <= set(LESIONS):
        raise SettingError(f"lesions is {lesions!r}; give a list of different names out of {', '.join(LESIONS)}.")
    return chosen
