from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score

from common.errors import SettingError
from common.metrics import MacroAUC


def test_it_is_the_mean_over_the_labels_that_have_both() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(40, 3, generator=generator)
    truth = (torch.rand(40, 3, generator=generator) > 0.6).float()
    truth[:, 1] = 0
    metric = MacroAUC()
    for part in (slice(0, 25), slice(25, 40)):
        metric(scores[part], truth[part])

    expected = (roc_auc_score(truth[:, 0], scores[:, 0]) + roc_auc_score(truth[:, 2], scores[:, 2])) / 2

    assert metric.aggregate() == pytest.approx(expected)


def test_without_such_a_label_it_says_what_is_missing() -> None:
    metric = MacroAUC()
    metric(torch.rand(4, 2), torch.ones(4, 2))

    with pytest.raises(SettingError, match="give a data list that has both"):
        metric.aggregate()
