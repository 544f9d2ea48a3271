import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common import torchvision_compat
from common.torchvision_compat import ensure_torchvision


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run the code in an interpreter of its own, where nothing has been imported yet."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=300, check=False
    )


def write_stand_in(folder: Path, code: str) -> None:
    """Write a package `torchvision` whose import runs the code."""
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(code)
    (package / "ops.py").write_text("")


def reference_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Non-maximum suppression from its definition: box by box, pair by pair, in float64."""

    def iou(a: np.ndarray, b: np.ndarray) -> float:
        width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
        height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
        union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
        return width * height / union if union > 0 else 0.0

    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def random_boxes(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes with whole-numbered corners and many overlaps, some without area; many equal scores."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 40, size=(n, 2))
    size = rng.integers(0, 30, size=(n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    scores = rng.integers(0, max(n // 2, 1), size=n)
    return torch.tensor(boxes, dtype=torch.float64), torch.tensor(scores, dtype=torch.float64)


@pytest.mark.parametrize("library", ["torchvision.models", "timm", "segment_anything_hq"])
def test_library_imports_after_the_call(library: str) -> None:
    code = (
        "from common.torchvision_compat import ensure_torchvision\n"
        "ensure_torchvision()\n"
        "ensure_torchvision()\n"
        f"import {library}\n"
        f"print({library}.__name__)\n"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == library


def test_works_after_a_failed_import() -> None:
    """MONAI tries the import by itself and goes on without it: what that leaves behind must do no harm."""
    code = (
        "try:\n"
        "    import torchvision\n"
        "except RuntimeError:\n"
        "    pass\n"
        "from common.torchvision_compat import ensure_torchvision\n"
        "ensure_torchvision()\n"
        "import torch, torchvision\n"
        "print(torchvision.models.resnet18(weights=None)(torch.zeros(1, 3, 64, 64)).shape[1])\n"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == "1000"


def test_second_call_keeps_the_module() -> None:
    ensure_torchvision()
    first = sys.modules["torchvision"]
    ensure_torchvision()
    assert sys.modules["torchvision"] is first


def test_whole_torchvision_is_left_alone(tmp_path: Path) -> None:
    write_stand_in(tmp_path, "import torchvision.ops\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torch, torchvision\n"
        "before = torchvision\n"
        "from common.torchvision_compat import ensure_torchvision\n"
        "ensure_torchvision()\n"
        "print(sys.modules['torchvision'] is before, hasattr(torch.ops.torchvision, 'nms'))\n"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-2:] == ["True", "False"]


@pytest.mark.parametrize(
    "error", ["RuntimeError('something else')", "ImportError('torchvision is broken')", "OSError('no such library')"]
)
def test_other_errors_propagate(error: str, tmp_path: Path) -> None:
    write_stand_in(tmp_path, f"raise {error}\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import torch\n"
        "from common.torchvision_compat import ensure_torchvision\n"
        "try:\n"
        "    ensure_torchvision()\n"
        "except Exception as error:\n"
        "    print(hasattr(torch.ops.torchvision, 'nms'), repr(error))\n"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip().splitlines()[-1] == f"False {error}"


def test_nms_of_three_known_boxes() -> None:
    ensure_torchvision()
    from torchvision.ops import nms

    # The second box covers half of the first: IoU 0.5. The third stands alone.
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 5.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    assert nms(boxes, scores, 0.4).tolist() == [1, 2]
    assert nms(boxes, scores, 0.5).tolist() == [1, 2, 0]  # dropped only above the threshold


def test_nms_of_no_boxes() -> None:
    ensure_torchvision()
    from torchvision.ops import nms

    kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(0, 40), seed=st.integers(0, 2**32 - 1), threshold=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
)
def test_nms_equals_its_definition(n: int, seed: int, threshold: float) -> None:
    boxes, scores = random_boxes(n, seed)
    kept = torchvision_compat._nms(boxes, scores, threshold)
    assert kept.tolist() == reference_nms(boxes.numpy(), scores.numpy(), threshold)


@pytest.mark.parametrize("n", [30, 1200])
def test_batched_nms_treats_each_class_alone(n: int) -> None:
    """30 boxes take torchvision's way through shifted coordinates, 1200 its loop over the classes."""
    ensure_torchvision()
    from torchvision.ops import batched_nms

    boxes, _ = random_boxes(n, seed=n)
    scores = torch.randperm(n, generator=torch.Generator().manual_seed(n)).double()  # without ties: one right order
    classes = torch.arange(n) % 3
    kept = batched_nms(boxes, scores, classes, 0.3)

    expected = []
    for label in range(3):
        index = np.flatnonzero(classes.numpy() == label)
        expected += [int(index[k]) for k in reference_nms(boxes.numpy()[index], scores.numpy()[index], 0.3)]
    expected.sort(key=lambda i: -scores[i].item())
    assert kept.tolist() == expected


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        (torch.zeros(2, 5), torch.zeros(2), r"\(N, 4\)"),
        (torch.zeros(2, 4), torch.zeros(3), r"\(2,\)"),
        (torch.zeros(2, 4), torch.zeros(2, dtype=torch.float64), "one type"),
    ],
)
def test_nms_refuses_what_does_not_fit(boxes: torch.Tensor, scores: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        torchvision_compat._nms(boxes, scores, 0.5)
