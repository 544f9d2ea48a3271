from __future__ import annotations

import re

from common.benchmark_cache import run_cache_benchmark


def test_it_measures_both_ways_with_the_same_losses() -> None:
    table = run_cache_benchmark(image_size=64, photos=2, window_share=0.5, epochs=2)

    assert "vit_tiny at 64 pixels, 2 views" in table
    assert "Largest difference of the losses of a step: 0.0e+00 of " in table
    for name in ("without the cache", "with the cache"):
        row = re.search(rf"\| {name} \| (\d+\.\d+) \| (\d+\.\d+) \|", table)
        assert row is not None
        assert all(float(value) > 0 for value in row.groups())
