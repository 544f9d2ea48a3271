"""Loading and storing of weights: strict, `weights_only`, and with errors that name the file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse
from urllib.request import url2pathname

import torch
from torch import nn

from common.errors import SettingError


def _local(source: str | Path) -> Path:
    """The file that a path or URL names; one from the web is kept in torch's hub cache."""
    parts = urlparse(str(source))
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    if parts.scheme not in ("http", "https"):
        return Path(source)
    path = Path(torch.hub.get_dir(), "checkpoints", Path(parts.path).name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(str(source), str(path), progress=False)
    return path


def read_checkpoint(source: str | Path, sha256: str | None = None) -> dict[str, Any]:
    """Read a checkpoint with ``weights_only=True`` on the CPU.

    Args:
        source: path, ``file`` URL, or ``http(s)`` URL (kept in torch's hub cache once it was loaded).
        sha256: what the file's SHA-256 has to be, as 64 hexadecimal digits; None does not check.

    Returns:
        What the file holds.

    Raises:
        SettingError: the file is missing, cannot be fetched, has another SHA-256, or is no checkpoint.
    """
    try:
        path = _local(source)
        if sha256 is not None:
            _check_sha256(path, source, sha256)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise SettingError(f"The weights {source} do not exist: check the path.") from error
    except (URLError, TimeoutError) as error:
        raise SettingError(
            f"The weights {source} cannot be fetched ({error}): download the file and give its path."
        ) from error
    except SettingError:
        raise
    except Exception as error:  # what the unpickler raises on a damaged file has no end
        raise SettingError(f"The file {source} is no checkpoint that can be read: {_first_line(error)}") from error
    if not isinstance(content, Mapping) or not content:
        raise SettingError(f"The file {source} holds no state of a network: give a checkpoint with named tensors.")
    return dict(content)


def _check_sha256(path: Path, source: str | Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.strip().lower():
        raise SettingError(
            f"The file {path} has the SHA-256 {found}, not {expected}: it is damaged or another one. Get {source} anew "
            "(remove the file first), or correct the SHA-256."
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def load_state(network: nn.Module, state: Mapping[str, torch.Tensor], source: str | Path) -> None:
    """Load a state into a network; every key and every shape has to fit.

    Args:
        network: the network.
        state: its state, of any floating type.
        source: where the state is from, for the error.

    Raises:
        SettingError: a key is missing or unexpected, or a shape differs.
    """
    own = network.state_dict()
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    shaped = sorted(key for key in set(own) & set(state) if own[key].shape != state[key].shape)
    found = [
        f"{text} {_some(names)}"
        for text, names in (("missing:", missing), ("not expected:", unexpected), ("of another shape:", shaped))
        if names
    ]
    if found:
        raise SettingError(
            f"The weights {source} do not fit the network ({'; '.join(found)}). "
            "Give the weights that belong to this network_def, or train this network first."
        )
    network.load_state_dict(dict(state), strict=True)


def network_state(source: str | Path) -> dict[str, Any]:
    """Read a network's state, also where it stands under a name beside an optimizer's."""
    content = read_checkpoint(source)
    for name in ("network", "model", "state_dict"):
        if isinstance(content.get(name), Mapping):
            return dict(content[name])
    return content


def load_weights(network: nn.Module, source: str | Path) -> None:
    """Load a checkpoint into a network, strictly; weights stored in half precision are widened.

    Args:
        network: the network, or one wrapped in ``DistributedDataParallel``.
        source: path or URL.

    Raises:
        SettingError: see `read_checkpoint` and `load_state`.
    """
    bare = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    load_state(bare, network_state(source), source)


def load_encoder_weights(encoder: nn.Module, source: str | Path) -> None:
    """Load a classifier's checkpoint with torchvision's key names into an encoder; its last layer is left out.

    Args:
        encoder: the encoder, without a classification layer.
        source: path or URL.

    Raises:
        SettingError: see `read_checkpoint` and `load_state`.
    """
    state = network_state(source)
    load_state(
        encoder, {key: value for key, value in state.items() if not key.startswith(("fc.", "classifier."))}, source
    )


def save_durably(content: Any, path: str | Path) -> None:
    """Save with `torch.save` so that a reader finds the old file or the whole new one, whenever the process is killed.

    The content is written beside ``path``, flushed to the disk and renamed.

    Args:
        content: what to save; tensors and plain Python values, so that it loads with ``weights_only=True``.
        path: the file; its folder is made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def half_precision(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give a state in half precision, as weights are shipped; a tensor too large for it keeps its type."""
    halved = {}
    for key, value in state.items():
        half = value.detach().cpu().half() if value.is_floating_point() else value.detach().cpu()
        halved[key] = half if torch.isfinite(half).all() else value.detach().cpu()
    return halved
