"""Makes torchvision importable beside a PyTorch that its compiled part does not fit.

The usual torchvision wheel is compiled against CUDA libraries. Beside a CPU build of PyTorch its compiled part cannot
be loaded, its operators are missing, and `import torchvision` ends with
`RuntimeError: operator torchvision::nms does not exist`. With it fails everything that imports torchvision: timm,
segment_anything_hq, and parts of MONAI.

Call `ensure_torchvision` before the first import of such a library:

    from common.torchvision_compat import ensure_torchvision

    ensure_torchvision()
    import timm

Models, transforms, `nms` and `batched_nms` of torchvision then work on the CPU. `deform_conv2d` and `torchvision.io`
need the compiled part and still fail when they are called.
"""

from __future__ import annotations

import importlib
import logging
import sys

import torch

__all__ = ["ensure_torchvision"]

_MISSING_OPERATOR = "operator torchvision::nms does not exist"

# The operators live as long as this object: it must never be collected.
_library: torch.library.Library | None = None

_logger = logging.getLogger(__name__)


def ensure_torchvision() -> None:
    """Import torchvision, and define the operators that its import needs where its compiled part cannot be loaded.

    Do nothing more than the import where torchvision is whole. It can be called any number of times.

    Raises:
        ImportError: if torchvision is not installed.
        Exception: any other error of the import, unchanged.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING_OPERATOR not in str(error):
            raise
    else:
        return

    _forget_torchvision()
    _define_operators()
    importlib.import_module("torchvision")
    # Set only after the import. With it, `torchvision.ops.nms` reaches the operator defined here, while `roi_align`,
    # which took its own copy of the old function during the import, goes on using torchvision's Python implementation.
    extension = importlib.import_module("torchvision.extension")
    extension._has_ops = _has_ops  # type: ignore[attr-defined]
    _logger.info("The compiled part of torchvision does not fit this PyTorch: a plain CPU `nms` takes its place.")


def _forget_torchvision() -> None:
    """Remove from `sys.modules` what a failed import of torchvision left there."""
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]


def _define_operators() -> None:
    """Define `torchvision::nms` with its CPU implementation, and the schema of `torchvision::qnms`."""
    global _library
    if _library is not None:
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", _nms, "CPU")
    _library = library


def _has_ops() -> bool:
    """Take the place of `torchvision.extension._has_ops`."""
    return True


def _nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Greedy non-maximum suppression, in the semantics of torchvision's compiled CPU kernel.

    Boxes are visited by decreasing score, equal scores in the order of the input. A box is dropped if its intersection
    over union with a box kept before is larger than the threshold. Where the union is empty it is never dropped.

    Args:
        dets: boxes `(x1, y1, x2, y2)` in pixels, shape `(N, 4)`.
        scores: shape `(N,)`, of the type of `dets`.
        iou_threshold: largest intersection over union that two kept boxes may have, a ratio.

    Returns:
        Indices of the boxes kept, int64, by decreasing score.

    Raises:
        ValueError: if the shapes or types do not fit.
    """
    if dets.ndim != 2 or dets.shape[1] != 4:
        raise ValueError(f"boxes must have the shape (N, 4), not {tuple(dets.shape)}")
    if scores.ndim != 1 or scores.shape[0] != dets.shape[0]:
        raise ValueError(f"scores must have the shape ({dets.shape[0]},), one for each box, not {tuple(scores.shape)}")
    if dets.dtype != scores.dtype:
        raise ValueError(f"boxes and scores must have one type, not {dets.dtype} and {scores.dtype}")

    order = torch.argsort(scores, descending=True, stable=True)
    boxes = dets[order]
    top_left, bottom_right = boxes[:, :2], boxes[:, 2:]
    areas = (bottom_right - top_left).prod(dim=1)
    dropped = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    kept = []
    for i in range(len(boxes)):
        if dropped[i]:
            continue
        kept.append(i)
        rest = slice(i + 1, None)
        size = torch.minimum(bottom_right[i], bottom_right[rest]) - torch.maximum(top_left[i], top_left[rest])
        intersection = size.clamp(min=0).prod(dim=1)
        iou = intersection / (areas[i] + areas[rest] - intersection)
        dropped[rest] |= iou > iou_threshold
    return order[torch.tensor(kept, dtype=torch.int64, device=order.device)]
