from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from common.errors import SettingError
from common.networks import (
    FusionClassifier,
    MobileNetV2Encoder,
    feature_names,
    fit_standardisation,
    load_encoder,
    tabular_columns,
)
from common.networks.fusion import features_of, photo_state

COLUMNS = {"cdr_vertical": None, "age": None, "sex": ["female", "male"]}


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def classifier(**settings: Any) -> FusionClassifier:
    torch.manual_seed(0)
    return FusionClassifier(**{"out_channels": 3, "tabular_features": 4, **settings}).eval()


def test_a_number_is_one_feature_and_a_text_one_for_each_category() -> None:
    assert feature_names(COLUMNS) == ["cdr_vertical", "age", "sex=female", "sex=male"]
    assert features_of({"cdr_vertical": 0.5, "age": "61", "sex": "male"}, COLUMNS) == [0.5, 61, 0, 1]


@pytest.mark.parametrize("missing", [None, "", math.nan])
def test_what_is_missing_is_nan(missing: Any) -> None:
    assert all(math.isnan(value) for value in features_of(dict.fromkeys(COLUMNS, missing), COLUMNS))
    assert all(math.isnan(value) for value in features_of({}, COLUMNS))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"name": "1_left.jpg", "age": "old"}, "'age' of 1_left.jpg has 'old', which is no number"),
        ({"name": "1_left.jpg", "age": math.inf}, "'age' of 1_left.jpg has inf, which is no number"),
        ({"name": "1_left.jpg", "age": 10**400}, "'age' of 1_left.jpg has 10+, which is no number"),
        ({"name": "1_left.jpg", "sex": "M"}, "'sex' of 1_left.jpg has 'M', which is none of female, male"),
    ],
)
def test_a_value_that_does_not_fit_its_column_is_named(item: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        features_of(item, COLUMNS)


@pytest.mark.parametrize("categories", ["male", ["male"], ["male", "male"]])
def test_categories_are_at_least_two_different_texts(categories: Any) -> None:
    with pytest.raises(SettingError, match="give null for a number"):
        feature_names({"sex": categories})


def test_biomarkers_are_switched_off_and_stand_first() -> None:
    assert list(tabular_columns(True, {"cdr_vertical": None}, {"age": None})) == ["cdr_vertical", "age"]
    assert list(tabular_columns(False, {"cdr_vertical": None}, {"age": None})) == ["age"]
    with pytest.raises(SettingError, match="age stands in biomarker_columns and in clinical_columns"):
        tabular_columns(True, {"age": None}, {"age": None})


@pytest.mark.parametrize("backbone", ["mobilenet_v2", "resnet50"])
def test_the_logits_depend_on_photo_and_features(photos: torch.Tensor, backbone: str) -> None:
    network = classifier(
        backbone=backbone, dropout=0.0, tabular_dropout=0.0
    ).train()  # random weights vanish in eval mode
    tabular = torch.tensor([[0.5, 60, 1, 0], [0.7, 50, 0, 1]])

    logits = network(photos, tabular)

    assert logits.shape == (2, 3)
    assert not torch.allclose(logits, network(photos.flip(0), tabular))
    assert not torch.allclose(logits, network(photos, tabular.flip(0)))


def test_a_missing_value_is_a_value_of_its_own(photos: torch.Tensor) -> None:
    network: Any = classifier()
    network.tabular_mean[:] = torch.tensor([0.5, 60, 0.5, 0.5])
    missing = torch.full((2, 4), math.nan)

    assert torch.equal(network(photos), network(photos, missing))
    assert not torch.allclose(network(photos, missing), network(photos, network.tabular_mean.expand(2, 4)))
    assert torch.equal(network.standardise(missing), torch.tensor([0.0] * 4 + [1.0] * 4).expand(2, 8))


def test_in_training_all_features_of_an_item_are_dropped_together(photos: torch.Tensor) -> None:
    network = classifier(tabular_dropout=1.0, dropout=0.0)
    network.encoder.requires_grad_(False)
    network.train()
    network.encoder.eval()

    assert torch.allclose(network(photos, torch.ones(2, 4)), network.eval()(photos))


def test_without_features_it_is_the_plain_classifier(photos: torch.Tensor) -> None:
    network = classifier(tabular_features=0)

    features = network.encoder(photos)[-1].mean(dim=(2, 3))

    assert torch.allclose(network(photos), network.head(features))


def test_the_standardisation_is_that_of_the_training_items() -> None:
    network: Any = classifier()
    items: list[dict[str, Any]] = [
        {"cdr_vertical": 0.4, "age": 50.0, "sex": "male"},
        {"cdr_vertical": 0.6, "age": None, "sex": "male"},
        {"cdr_vertical": None, "age": 70.0, "sex": "male"},
    ]

    fit_standardisation(network, items, COLUMNS)

    assert network.tabular_mean.tolist() == pytest.approx([0.5, 60, 0, 1])
    assert network.tabular_std.tolist() == pytest.approx([0.1, 10, 1, 1])
    assert {"tabular_mean", "tabular_std"} <= set(network.state_dict())
    with pytest.raises(SettingError, match="give 1 features, and the network takes 4"):
        fit_standardisation(network, items, {"age": None})


def test_the_encoder_of_another_classifier_is_loaded(tmp_path: Path, photos: torch.Tensor) -> None:
    other = classifier(out_channels=8, tabular_features=0)
    torch.save(other.half().state_dict(), tmp_path / "other.pt")
    torch.manual_seed(1)
    network = FusionClassifier(out_channels=2).eval()

    load_encoder(network, tmp_path / "other.pt")

    assert torch.equal(network.encoder(photos)[-1], other.float().encoder(photos)[-1])
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "wrong.pt")
    with pytest.raises(SettingError, match=r"wrong\.pt do not fit"):
        load_encoder(network, tmp_path / "wrong.pt")


@pytest.mark.parametrize("features", [0, 4])
def test_without_features_the_photo_alone_gives_the_same_for_some_labels(features: int, photos: torch.Tensor) -> None:
    whole = classifier(tabular_features=features)
    alone = classifier(tabular_features=0, out_channels=2)

    alone.load_state_dict(photo_state(whole.state_dict(), [2, 0]))

    with torch.no_grad():
        torch.testing.assert_close(alone(photos), whole(photos)[:, [2, 0]])


@pytest.mark.parametrize("outputs", [[], [3], [-1], ["N"]])
def test_outputs_that_a_network_has_not_are_refused(outputs: Any) -> None:
    with pytest.raises(SettingError, match="places from 0 to 2"):
        photo_state(classifier().state_dict(), outputs)
    with pytest.raises(SettingError, match="they have no head"):
        photo_state({"weight": torch.zeros(1)}, [0])


def test_imagenet_weights_of_torchvisions_format_start_the_encoder(tmp_path: Path, photos: torch.Tensor) -> None:
    encoder = MobileNetV2Encoder().eval()
    state = {**encoder.state_dict(), "classifier.1.weight": torch.zeros(1000, 1280)}
    torch.save(state, tmp_path / "mobilenet_v2.pth")

    network = classifier(encoder_weights=tmp_path / "mobilenet_v2.pth")

    assert torch.equal(network.encoder(photos)[-1], encoder(photos)[-1])


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(SettingError, match="backbone is 'vgg'; give one of"):
        classifier(backbone="vgg")


def test_scripted_and_exported_it_gives_the_same(tmp_path: Path, photos: torch.Tensor) -> None:
    import onnxruntime

    network = classifier()
    tabular = torch.tensor([[0.5, 60, 1, 0], [0.7, math.nan, math.nan, math.nan]])
    expected = network(photos, tabular)

    scripted = torch.jit.script(network)
    torch.onnx.export(
        network,
        (photos, tabular),
        str(tmp_path / "network.onnx"),
        input_names=["image", "tabular"],
        output_names=["logits"],
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"))
    (found,) = session.run(None, {"image": photos.numpy(), "tabular": tabular.numpy()})

    assert torch.allclose(scripted(photos, tabular), expected, atol=1e-4)
    assert torch.allclose(scripted(photos), network(photos), atol=1e-4)
    assert torch.allclose(torch.as_tensor(found), expected, atol=1e-4)
