from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.biomarkers import boundaries_to_labels, order_violations
from common.errors import SettingError
from common.phantoms import oct_phantom, write_oct_phantoms


@pytest.mark.parametrize("shape", [(496, 768), (128, 160), (200, 100), (1024, 512)], ids=str)
@pytest.mark.parametrize("cysts", [0, 3])
def test_the_truth_is_whole_and_in_order(shape: tuple[int, int], cysts: int) -> None:
    phantom = oct_phantom(*shape, seed=5, cysts=cysts)

    assert phantom.scan.shape == phantom.labels.shape == phantom.fluid.shape == shape
    assert phantom.scan.dtype == phantom.labels.dtype == np.uint8
    assert phantom.boundaries.shape == (8, shape[1])
    assert (np.diff(phantom.boundaries, axis=0) >= 0).all()
    assert order_violations(phantom.labels) == 0
    assert set(np.unique(phantom.labels)) == set(range(8))
    np.testing.assert_array_equal(phantom.labels, boundaries_to_labels(phantom.boundaries, shape[0]))


def test_the_same_seed_gives_the_same_scan() -> None:
    one, same, other = (oct_phantom(128, 160, seed=seed) for seed in (1, 1, 2))

    np.testing.assert_array_equal(one.scan, same.scan)
    assert (one.labels != other.labels).any()


def test_thickness_is_that_of_a_macula() -> None:
    phantom = oct_phantom(496, 768, seed=2)

    thickness = (phantom.boundaries[-1] - phantom.boundaries[0]) * phantom.axial_um
    inner = (phantom.boundaries[4] - phantom.boundaries[0]) * phantom.axial_um

    assert phantom.axial_um == 3.87
    assert 200 < np.median(thickness) < 420
    pit = int(np.argmin(inner))
    assert 0.35 * 768 < pit < 0.65 * 768
    assert inner[pit] < 0.3 * np.median(inner)
    assert phantom.boundaries[1, pit] - phantom.boundaries[0, pit] < 1


def test_a_deep_picture_shows_the_same_depth() -> None:
    assert oct_phantom(1024, 300, seed=2).axial_um == pytest.approx(1920 / 1024)


@pytest.mark.parametrize("seed", range(3))
def test_layers_differ_in_brightness_where_the_truth_says(seed: int) -> None:
    phantom = oct_phantom(496, 768, seed=seed, shadows=0)

    means = [phantom.scan[phantom.labels == layer].mean() for layer in range(1, 8)]
    above = phantom.scan[np.arange(496)[:, None] < phantom.boundaries[0] - 2].mean()

    nfl, gcl, inl, opl, onl, ise, _ = means
    assert nfl > gcl > inl > onl > 1.5 * above
    assert opl > inl
    assert ise > 2 * onl


def test_cysts_are_dark_and_inside_the_outer_nuclear_layer() -> None:
    plain, swollen = oct_phantom(496, 768, seed=4), oct_phantom(496, 768, seed=4, cysts=3)

    assert not plain.fluid.any()
    assert swollen.fluid.sum() > 500
    assert (swollen.labels[swollen.fluid] == 5).all()
    rest = (swollen.labels == 5) & ~swollen.fluid
    assert swollen.scan[swollen.fluid].mean() < 0.6 * swollen.scan[rest].mean()


def test_shadows_lie_under_the_nerve_fibres() -> None:
    bright, dark = (oct_phantom(300, 400, seed=3, shadows=count, noise=0) for count in (0, 6))
    rows = np.arange(300)[:, None]

    above = rows < bright.boundaries[0] - 3
    np.testing.assert_array_equal(bright.labels, dark.labels)
    assert np.abs(bright.scan[above].astype(int) - dark.scan[above]).mean() < 3
    retina = bright.labels == 7
    columns = np.array([dark.scan[retina[:, x], x].mean() / bright.scan[retina[:, x], x].mean() for x in range(400)])
    assert columns.min() < 0.75
    assert np.median(columns) > 0.9


def test_the_white_border_is_white_and_leaves_the_retina_of_most_columns() -> None:
    phantom = oct_phantom(300, 400, seed=3, border="white")

    assert (phantom.scan[phantom.border] == 255).all()
    assert phantom.border[:, :10].all()
    assert phantom.border[0, :200].all()
    assert not phantom.border[:, 60:][phantom.labels[:, 60:] > 0].any()


def test_a_data_set_in_its_layout(tmp_path: Path) -> None:
    root = write_oct_phantoms(tmp_path, 5, seed=3, sizes=((128, 160), (160, 128)))

    assert sorted(path.name for path in (root / "image").iterdir()) == [
        "phantom_000.png", "phantom_001.tif", "phantom_002.png", "phantom_003.tif", "phantom_004.png"
    ]  # fmt: skip
    for number in range(5):
        with Image.open(root / "labels" / f"phantom_{number:03d}.png") as picture:
            labels = np.asarray(picture)
        with Image.open(next((root / "image").glob(f"phantom_{number:03d}.*"))) as picture:
            scan = np.asarray(picture)
        assert scan.shape == labels.shape == ((128, 160), (160, 128))[number % 2]
        assert set(np.unique(labels)) == set(range(8))
    np.testing.assert_array_equal(labels, oct_phantom(128, 160, seed=7, border="none").labels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"height": 50}, "'height' is 50; give 96 to 4096"),
        ({"width": 9000}, "'width' is 9000"),
        ({"cysts": -1}, "'cysts' is -1"),
        ({"shadows": -2}, "'shadows' is -2"),
        ({"border": "black"}, "'border' is 'black'; choose from none and white"),
    ],
)
def test_wrong_settings_of_a_phantom(options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        oct_phantom(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"count": 0}, "'count' is 0"),
        ({"sizes": ()}, "'sizes' is empty"),
        ({"borders": ()}, "'borders' is empty"),
        ({"suffixes": (".jpg",)}, "'suffixes' has '.jpg'"),
    ],
)
def test_wrong_settings_of_a_data_set(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        write_oct_phantoms(tmp_path, **options)
