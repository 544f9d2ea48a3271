"""A classifier of photos that also takes what is known of eye and patient: biomarkers, age, sex."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.errors import SettingError
from common.networks.mobilenet import make_encoder
from common.networks.weights import load_state, load_weights, network_state

Columns = Mapping[str, Sequence[str] | None]
"""Columns by name: None for a number, or the categories that a text may be."""


def feature_names(columns: Columns) -> list[str]:
    """Names of the features that columns give: a number gives one, a text one for each category.

    Args:
        columns: the columns, in the order of the features.

    Returns:
        ``name`` for a number, ``name=category`` for each category.

    Raises:
        SettingError: a column's categories are not at least two different texts.
    """
    names = []
    for name, categories in columns.items():
        if categories is None:
            names.append(name)
            continue
        if isinstance(categories, str) or len(categories) < 2 or len(set(categories)) != len(categories):
            raise SettingError(
                f"The column {name!r} has the categories {categories!r}: give null for a number, or a list of at least "
                "two different texts."
            )
        names += [f"{name}={category}" for category in categories]
    return names


def feature_count(columns: Columns) -> int:
    """Number of the features that columns give, see `feature_names`."""
    return len(feature_names(columns))


def features_of(item: Mapping[str, Any], columns: Columns) -> list[float]:
    """The features of one item, in the order of `feature_names`; NaN where the value is missing.

    Args:
        item: values by column; missing ones are absent, None, NaN or an empty text.
        columns: the columns.

    Raises:
        SettingError: a value is no number, or none of its column's categories.
    """
    values: list[float] = []
    for name, categories in columns.items():
        value = item.get(name)
        missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
        if categories is None:
            try:
                values.append(math.nan if missing else float(value))  # type: ignore[arg-type]
                if math.isinf(values[-1]):
                    raise ValueError("infinite")
            except (TypeError, ValueError, OverflowError) as error:
                raise SettingError(
                    f"The column {name!r} of {item.get('name', 'an item')} has {value!r}, which is no number: correct "
                    "it, or give the column its categories."
                ) from error
        elif missing:
            values += [math.nan] * len(categories)
        elif str(value) in categories:
            values += [float(str(value) == category) for category in categories]
        else:
            raise SettingError(
                f"The column {name!r} of {item.get('name', 'an item')} has {value!r}, which is none of "
                f"{', '.join(categories)}: correct it, or add it to the categories."
            )
    return values


def tabular_columns(use_biomarkers: bool, biomarker_columns: Columns, clinical_columns: Columns) -> Columns:
    """All columns that a network takes, the biomarkers first.

    Args:
        use_biomarkers: whether it takes the biomarkers.
        biomarker_columns: those of the biomarkers.
        clinical_columns: the others, such as age and sex; none by an empty mapping.

    Raises:
        SettingError: a column is among both.
    """
    both = sorted(set(biomarker_columns) & set(clinical_columns))
    if both:
        raise SettingError(f"{', '.join(both)} stands in biomarker_columns and in clinical_columns: keep one of them.")
    return {**(biomarker_columns if use_biomarkers else {}), **clinical_columns}


class FusionClassifier(nn.Module):
    """Convolutional encoder, whose pooled features are joined with an embedding of tabular features, and a linear head.

    A tabular feature goes in as its own value, NaN where it is missing. It is standardised with ``tabular_mean`` and
    ``tabular_std``, which are stored with the weights (`fit_standardisation` sets them from the training data); a
    missing one becomes the mean, and a further input says that it is missing. Without tabular features it is the plain
    classifier of the photo.

    Args:
        in_channels: channels of the photo.
        out_channels: number of logits.
        backbone: ``mobilenet_v2``, ``resnet50`` or any other backbone of `FlexibleUNet`.
        tabular_features: number of tabular features.
        embedding_channels: channels of their embedding.
        dropout: dropout before the head.
        tabular_dropout: probability in training that all tabular features of an item count as missing, so that the
            network also serves where none are known.
        spatial_dims: 2.
        encoder_weights: path or URL of a classifier's checkpoint with torchvision's key names
            (``resnet50-11ad3fa6.pth``, ``mobilenet_v2-7ebf99e0.pth``), or None to start from random weights.

    Raises:
        SettingError: there is no such backbone, or the checkpoint cannot be read or does not fit the encoder.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 8,
        backbone: str = "mobilenet_v2",
        tabular_features: int = 0,
        embedding_channels: int = 32,
        dropout: float = 0.2,
        tabular_dropout: float = 0.1,
        spatial_dims: int = 2,
        encoder_weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.encoder, map_channels = make_encoder(backbone, in_channels, spatial_dims, encoder_weights)
        self.tabular_features = tabular_features
        self.tabular_dropout = tabular_dropout
        channels = map_channels[-1]
        self.register_buffer("tabular_mean", torch.zeros(tabular_features))
        self.register_buffer("tabular_std", torch.ones(tabular_features))
        self.embedding = nn.Sequential()
        if tabular_features > 0:
            self.embedding = nn.Sequential(
                nn.Linear(2 * tabular_features, embedding_channels),
                nn.ReLU(),
                nn.Linear(embedding_channels, embedding_channels),
                nn.ReLU(),
            )
            channels += embedding_channels
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, out_channels)

    def standardise(self, tabular: torch.Tensor) -> torch.Tensor:
        """Standardised values, 0 where they are missing, and beside them 1 where they are missing and else 0.

        Args:
            tabular: ``(B, tabular_features)``, NaN where a value is missing.

        Returns:
            ``(B, 2 * tabular_features)``.
        """
        missing = torch.isnan(tabular)
        known = torch.where(missing, self.tabular_mean, tabular)  # type: ignore[arg-type]
        values = (known - self.tabular_mean) / self.tabular_std  # type: ignore[operator]
        return torch.cat([values, missing.to(values.dtype)], dim=1)

    def forward(self, inputs: torch.Tensor, tabular: torch.Tensor | None = None) -> torch.Tensor:
        """Give the logits.

        Args:
            inputs: photos, ``(B, in_channels, W, H)``.
            tabular: ``(B, tabular_features)``, NaN where a value is missing; None where all are.

        Returns:
            ``(B, out_channels)``.
        """
        features = self.encoder(inputs)[-1].mean(dim=(2, 3))
        if self.tabular_features > 0:
            if tabular is None:
                tabular = torch.full(
                    (inputs.shape[0], self.tabular_features), float("nan"), dtype=torch.float32, device=inputs.device
                )
            if self.training:
                dropped = torch.rand(inputs.shape[0], 1, device=inputs.device) < self.tabular_dropout
                tabular = torch.where(dropped, torch.full_like(tabular, float("nan")), tabular)
            embedded = self.embedding(self.standardise(tabular).to(features.dtype))
            features = torch.cat([features, embedded], dim=1)
        logits: torch.Tensor = self.head(self.dropout(features))
        return logits


def photo_state(state: Mapping[str, torch.Tensor], outputs: Sequence[int]) -> dict[str, torch.Tensor]:
    """Give the classifier of the photo alone that a network is where no tabular feature is known, for some labels.

    The embedding of features that are all missing is constant, and so a part of the head's bias.

    Args:
        state: state of a `FusionClassifier`, with tabular features or without.
        outputs: which of its outputs to keep, by their places from 0 on, in this order.

    Returns:
        State of a `FusionClassifier` without tabular features, in single precision.

    Raises:
        SettingError: there is no such output, or the state is one of another network.
    """
    if "head.weight" not in state or "tabular_mean" not in state:
        raise SettingError("The weights are not those of a classifier of this collection: they have no head.")
    head, bias = state["head.weight"].float(), state["head.bias"].float()
    wrong = [place for place in outputs if not (isinstance(place, int) and 0 <= place < len(head))]
    if wrong or not outputs:
        raise SettingError(f"The outputs are {list(outputs)!r}; give places from 0 to {len(head) - 1}.")
    features = state["tabular_mean"].numel()
    if features:
        embedded = torch.cat([torch.zeros(features), torch.ones(features)])
        for layer in ("embedding.0", "embedding.2"):
            weight, shift = state[f"{layer}.weight"].float(), state[f"{layer}.bias"].float()
            embedded = torch.relu(weight @ embedded + shift)
        head, bias = head[:, : -len(embedded)], bias + head[:, -len(embedded) :] @ embedded
    kept = {key: value for key, value in state.items() if key.startswith("encoder.")}
    single = {key: value.float() if value.is_floating_point() else value for key, value in kept.items()}
    places = list(outputs)
    return {
        **single,
        "head.weight": head[places].clone(),
        "head.bias": bias[places].clone(),
        "tabular_mean": torch.zeros(0),
        "tabular_std": torch.zeros(0),
    }


def fit_standardisation(network: nn.Module, items: Iterable[Mapping[str, Any]], columns: Columns) -> None:
    """Set the mean and standard deviation of the tabular features from the training data.

    A feature that is never known, or that is the same everywhere, keeps a standard deviation of 1.

    Args:
        network: the network, or one wrapped in ``DistributedDataParallel``.
        items: items of the training split.
        columns: the columns that the features are of.

    Raises:
        SettingError: a value is no number or no category of its column, or the network has another number of features.
    """
    bare: Any = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    values = torch.tensor([features_of(item, columns) for item in items], dtype=torch.float64)
    if values.shape[1] != bare.tabular_features:
        raise SettingError(
            f"The columns give {values.shape[1]} features, and the network takes {bare.tabular_features}: set "
            "tabular_features to feature_count(columns)."
        )
    known = ~torch.isnan(values)
    count = known.sum(0).clamp(min=1)
    mean = torch.where(known, values, 0).sum(0) / count
    std = (torch.where(known, (values - mean) ** 2, 0).sum(0) / count).sqrt()
    with torch.no_grad():
        bare.tabular_mean.copy_(mean)
        bare.tabular_std.copy_(torch.where(std > 1e-6, std, 1))


def prepare_network(
    network: nn.Module,
    items: Iterable[Mapping[str, Any]],
    columns: Columns,
    initial_weights: str | Path | None = None,
    initial_encoder: str | Path | None = None,
) -> None:
    """Make a network ready for its training: weights to start from, and the standardisation of tabular features.

    Args:
        network: the network; without columns any classifier of photos.
        items: items of the training split.
        columns: the columns that the tabular features are of.
        initial_weights: weights of the whole network, with their standardisation; None for none.
        initial_encoder: weights of another classifier, whose encoder is taken (`load_encoder`); None for none.

    Raises:
        SettingError: both are given, or see `load_weights`, `load_encoder` and `fit_standardisation`.
    """
    if initial_weights and initial_encoder:
        raise SettingError("initial_weights and initial_encoder are both set: give one of them.")
    if initial_weights:
        load_weights(network, initial_weights)
        return
    if initial_encoder:
        load_encoder(network, initial_encoder)
    if columns:
        fit_standardisation(network, items, columns)


def load_encoder(network: nn.Module, source: str | Path) -> None:
    """Load the encoder of another classifier of this kind, whatever its labels and tabular features are.

    Args:
        network: the network whose encoder is loaded.
        source: path or URL of the other classifier's weights.

    Raises:
        SettingError: the file cannot be read, or its encoder is another one.
    """
    state = network_state(source)
    prefix = "encoder."
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    bare: Any = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    load_state(bare.encoder, own, source)
