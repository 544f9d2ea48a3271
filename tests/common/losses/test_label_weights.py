from __future__ import annotations

from typing import Any

import pytest

from common.errors import SettingError
from common.losses import positive_weights

ITEMS: list[dict[str, Any]] = [
    {"label": ["N"]},
    {"label": ["N"]},
    {"label": ["N", "G"]},
    {"label": ["G"]},
    {"label": []},
]


@pytest.mark.parametrize(("power", "expected"), [(0.0, [1, 1]), (1.0, [2 / 3, 1.5]), (0.5, [(2 / 3) ** 0.5, 1.5**0.5])])
def test_positive_items_weigh_the_more_the_fewer_they_are(power: float, expected: list[float]) -> None:
    assert positive_weights(ITEMS, ["N", "G"], power).tolist() == pytest.approx(expected)


def test_a_label_that_cannot_be_learned_is_named() -> None:
    with pytest.raises(SettingError, match="The label 'D' stands at 0 of 5 items"):
        positive_weights(ITEMS, ["N", "D"])
    with pytest.raises(SettingError, match="class_weight_power is 2"):
        positive_weights(ITEMS, ["N"], power=2)
