"""Speed and memory of one examination, measured from within: `retina benchmark` runs it in a process of its own.

    python -m common.benchmark_examine PHOTOS OUTPUT REPORT.json --after 50

It is the examination that `retina examine PHOTOS OUTPUT` does. Its time is set against that of the networks alone in
the same run, and the peak of its memory after some photos against that after all.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from pathlib import Path

import fire

from common.errors import SettingError
from common.examine import Examiner


def peak_gigabytes() -> float:
    """Gigabytes that this process has taken at most so far."""
    # Linux counts in kilobytes, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6 / 1.024)


def measure(photos: str, output: str, report: str, after: int = 50) -> None:
    """Examine photos, and write what it took.

    Args:
        photos: folder of photos that can all be examined.
        output: folder for the results, empty or not there.
        report: JSON file to write: ``photos``, their number; ``seconds`` from the first photo to the written report and
            ``network_seconds`` of the networks alone; the same of the processor, ``cpu_seconds`` and
            ``network_cpu_seconds``; ``gigabytes_after`` the first photos and ``gigabytes``, the peaks of the memory.
        after: number of the first photos.

    Raises:
        SettingError: a photo failed.
    """
    examiner = Examiner()
    count, first = 0, 0.0
    started = time.perf_counter(), time.process_time()
    for count, examination in enumerate(examiner.run(photos, output), start=1):
        if examination.failure is not None:
            raise SettingError(f"{examination.image} failed ({examination.failure}): give photos that can be examined.")
        if count == after:
            first = peak_gigabytes()
    found = {
        "photos": count,
        "seconds": time.perf_counter() - started[0],
        "network_seconds": examiner.network_seconds,
        "cpu_seconds": time.process_time() - started[1],
        "network_cpu_seconds": examiner.network_cpu_seconds,
        "gigabytes_after": first,
        "gigabytes": peak_gigabytes(),
    }
    Path(report).write_text(json.dumps(found, indent=4) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="monai|torch|ignite|timm")
    fire.Fire(measure)
