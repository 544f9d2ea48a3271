"""Mean area under the ROC curve over labels."""

from __future__ import annotations

import torch
from monai.metrics import ROCAUCMetric, compute_roc_auc

from common.errors import SettingError


class MacroAUC(ROCAUCMetric):
    """Mean over the labels of the area under the ROC curve; MONAI's is NaN as soon as one label is not among the items.

    Labels that no item has, or that all have, are left out.
    """

    def aggregate(self, average: object = None) -> float:
        """Give the mean over everything since the last reset.

        Raises:
            SettingError: no label has both positive and negative items.
        """
        scores, truth = self.get_buffer()
        areas = [
            float(compute_roc_auc(scores[:, label], truth[:, label]))  # type: ignore[arg-type]
            for label in range(truth.shape[1])
            if 0 < int(torch.count_nonzero(truth[:, label])) < len(truth)
        ]
        if not areas:
            raise SettingError(
                "No label has items with and without it in the validation split: give a data list that has both."
            )
        return sum(areas) / len(areas)
