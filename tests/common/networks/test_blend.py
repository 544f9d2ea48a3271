from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import SettingError
from common.networks import FusionClassifier, load_weights
from common.networks.blend import blend_weights, blended


def network(seed: int, labels: int = 2, features: int = 0) -> FusionClassifier:
    torch.manual_seed(seed)
    return FusionClassifier(3, labels, "mobilenet_v2", tabular_features=features)


def test_the_encoder_is_mixed_and_a_head_of_another_kind_stays() -> None:
    tuned, start = network(0).state_dict(), network(1, labels=8, features=3).state_dict()

    mixed = blended(tuned, start, 0.25)

    assert mixed.keys() == tuned.keys()
    for key, value in tuned.items():
        if key.startswith("encoder.") and value.is_floating_point():
            torch.testing.assert_close(mixed[key], 0.25 * value + 0.75 * start[key])
        else:
            assert torch.equal(mixed[key], value)


@pytest.mark.parametrize(("share", "seed"), [(0, 1), (1, 0)])
def test_the_ends_of_the_line_are_the_two_networks(share: float, seed: int) -> None:
    mixed = blended(network(0).state_dict(), network(1).state_dict(), share)

    for key, value in network(seed).state_dict().items():
        torch.testing.assert_close(mixed[key], value, rtol=1e-5, atol=1e-6)


def test_the_file_is_one_that_the_network_loads(tmp_path: Path) -> None:
    files = [str(tmp_path / name) for name in ("tuned.pt", "start.pt", "mixed.pt")]
    torch.save(network(0).state_dict(), files[0])
    torch.save({"network": network(1).state_dict(), "epoch": 3}, files[1])

    command = [sys.executable, "-m", "common.networks.blend", *files, "--share", "0.5"]
    subprocess.run(command, check=True, capture_output=True)

    saved = torch.load(files[2], weights_only=True)
    assert all(value.dtype == torch.float16 for value in saved.values() if value.is_floating_point())
    other = network(2)
    load_weights(other, files[2])
    expected = blended(network(0).state_dict(), network(1).state_dict(), 0.5)
    torch.testing.assert_close(other.state_dict()["head.weight"], expected["head.weight"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("share", [-0.1, 1.5, True, "half"])
def test_a_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(SettingError, match=r"from 0 \(as before\) to 1"):
        blended(network(0).state_dict(), network(1).state_dict(), share)


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    tuned, start = tmp_path / "tuned.pt", tmp_path / "start.pt"
    torch.save(network(0).state_dict(), tuned)
    torch.save(FusionClassifier(3, 2, "resnet18").state_dict(), start)

    with pytest.raises(SettingError, match=r"start\.pt have not the encoder .*that the training started from"):
        blend_weights(str(tuned), str(start), str(tmp_path / "mixed.pt"))
    assert not (tmp_path / "mixed.pt").exists()
    with pytest.raises(SettingError, match="these have none"):
        blended({"a": torch.zeros(1)}, {"a": torch.zeros(1)}, 0.5)


def test_the_heads_are_mixed_where_the_outputs_are_the_same_labels(tmp_path: Path) -> None:
    tuned, before, mixed = (str(tmp_path / name) for name in ("tuned.pt", "start.pt", "mixed.pt"))
    start = network(1, labels=8, features=3).eval()
    torch.save(network(0).state_dict(), tuned)
    torch.save(start.state_dict(), before)

    blend_weights(tuned, before, mixed, share=0.0, outputs=[4, 1])

    other = network(2).eval()
    load_weights(other, mixed)
    photos = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(other(photos), start(photos)[:, [4, 1]], rtol=0.02, atol=0.02)
    for outputs in ([1], 1):
        with pytest.raises(SettingError, match=r"outputs \[1\] .* are 1, and .* has 2"):
            blend_weights(tuned, before, mixed, outputs=outputs)  # type: ignore[arg-type]
    torch.save(network(0, features=3).state_dict(), tuned)
    with pytest.raises(SettingError, match="has tabular features"):
        blend_weights(tuned, before, mixed, outputs=[4, 1])
