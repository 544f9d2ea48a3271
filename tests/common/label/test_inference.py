from __future__ import annotations

import csv
import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray

from common.bundles import find_bundle, open_bundle
from common.data import failure_of
from common.errors import SettingError
from common.label import BundlePredictor, Prediction
from common.label.inference import describe
from common.phantoms import fundus_phantom
from common.pictures import encode_picture
from common.pixels import read_pixels

SETTINGS = {"diameter": 384, "mirrored_views": 2}
BUNDLE = find_bundle("disc_cup_segmentation")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed, (height, width) in enumerate(((300, 380), (380, 300))):
        photo = fundus_phantom(height, width, seed=seed).photo
        (folder / f"eye_OD_{seed}.png").write_bytes(encode_picture(photo, ".png"))
    return folder


@pytest.fixture(scope="module")
def predictor() -> BundlePredictor:
    return BundlePredictor(BUNDLE, SETTINGS)


def test_description() -> None:
    description = describe(BUNDLE)
    assert description.values == {"disc": 1, "cup": 2}
    assert description.kind == "segmentation"
    assert not description.interactive
    assert description.version


def test_masks_are_those_of_the_bundles_own_run(photos: Path, predictor: BundlePredictor, tmp_path: Path) -> None:
    settings = {"dataset_dir": str(photos), "output_dir": str(tmp_path), **SETTINGS}
    open_bundle(BUNDLE, ["inference.json"], settings).run()
    table = csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8")))
    rows = {row["image"]: row for row in table}
    for photo in sorted(photos.iterdir()):
        found = predictor(photo, photo.name)
        disc, cup = (read_pixels(tmp_path / f"{photo.stem}_{name}.png") > 0 for name in ("disc", "cup"))
        assert cup.any()
        np.testing.assert_array_equal(found.masks["disc"], disc)
        np.testing.assert_array_equal(found.masks["cup"], cup)
        np.testing.assert_array_equal(found.labels, disc.astype(np.uint8) + cup)
        row = rows[photo.name]
        assert float(row["cdr_vertical"]) == pytest.approx(found.biomarkers["cdr_vertical"], rel=1e-5)
        assert found.biomarkers["eye"] == row["eye"] == "OD"
        assert found.entropy is not None
        assert 0 < found.entropy < 0.2


def test_the_folder_of_the_bundle_is_not_written_to(predictor: BundlePredictor) -> None:
    assert not (BUNDLE / "output").exists()


def test_what_cannot_be_computed_is_none(predictor: BundlePredictor, tmp_path: Path) -> None:
    black: NDArray[np.uint8] = np.zeros((200, 260, 3), np.uint8)
    (tmp_path / "black.png").write_bytes(encode_picture(black, ".png"))
    found = predictor(tmp_path / "black.png", "black.png")
    assert not found.labels.any()
    assert found.biomarkers["cdr_vertical"] is None
    assert "no optic disc found" in found.note


def test_a_broken_photo_does_not_harm_the_next(photos: Path, predictor: BundlePredictor, tmp_path: Path) -> None:
    photo = photos / "eye_OD_0.png"
    (tmp_path / "half.png").write_bytes(photo.read_bytes()[:2000])
    before = predictor(photo, photo.name)
    with pytest.raises(Exception) as raised:  # noqa: PT011  MONAI wraps it in errors of its own
        predictor(tmp_path / "half.png", "half.png")
    failure = failure_of("half.png", "inference", raised.value)
    assert failure.stage == "read"
    np.testing.assert_array_equal(predictor(photo, photo.name).labels, before.labels)


def test_prompts_for_a_bundle_that_takes_none(photos: Path, predictor: BundlePredictor) -> None:
    with pytest.raises(SettingError, match="disc_cup_segmentation takes no clicks"):
        predictor(photos / "eye_OD_0.png", "a", {"disc": {"points": [(1, 2, 1)]}})


def test_an_unknown_setting() -> None:
    with pytest.raises(SettingError, match="--mirrored_view is no id"):
        BundlePredictor(BUNDLE, {"mirrored_view": 1})


def test_threads_do_not_mix(photos: Path, predictor: BundlePredictor) -> None:
    images = sorted(photos.iterdir())
    alone = {image: predictor(image, image.name).labels for image in images}
    found: list[tuple[Path, Any]] = []

    def predict(image: Path) -> None:
        found.append((image, predictor(image, image.name)))

    threads = [threading.Thread(target=predict, args=(image,)) for image in images * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    for image, prediction in found:
        assert isinstance(prediction, Prediction)
        np.testing.assert_array_equal(prediction.labels, alone[image])


# --- a classifier ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> BundlePredictor:
    """The classifier of ODIR with random weights."""
    torch.manual_seed(0)
    bundle = find_bundle("odir_classification")
    settings = {"size": 64, "use_biomarkers": False, "clinical_columns": {"age": None, "sex": ["female", "male"]}}
    config = ConfigParser(ConfigParser.load_config_file(str(bundle / "configs" / "inference.json")))
    for name, value in settings.items():
        config[name] = value
    weights = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(config.get_parsed_content("network_def").state_dict(), weights)
    return BundlePredictor(bundle, {**settings, "ckpt_path": str(weights)})


def test_probabilities_are_those_of_the_network(photos: Path, classifier: BundlePredictor) -> None:
    photo = photos / "eye_OD_0.png"

    found = classifier.classify(photo, photo.name)
    known = classifier.classify(photo, photo.name, {"age": 61, "sex": "female"})

    assert classifier.description.classifies
    assert list(found.probabilities) == list(classifier.description.values) == list("NDGCAHMO")
    assert all(0 < p < 1 for p in found.probabilities.values())
    assert found.entropy is not None
    assert 0 < found.entropy <= 1
    assert known.probabilities != found.probabilities


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"ages": 61}, "takes no column 'ages': give any of age, sex"),
        ({"age": "old"}, "'old', which is no number"),
        ({"sex": "f"}, "'f', which is none of female, male"),
    ],
)
def test_what_is_known_has_to_fit(photos: Path, classifier: BundlePredictor, known: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011  MONAI wraps it in errors of its own
        classifier.classify(photos / "eye_OD_0.png", "photo", known)

    with pytest.raises(SettingError) as setting:
        failure_of("photo", "inference", raised.value)
    assert words in str(setting.value)
