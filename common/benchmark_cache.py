"""Speed of a training with a frozen HQ-SAM encoder, with and without the features kept on disk, in one run.

    python -m common.benchmark_cache --image_size 1024

It runs the bundle's own configs on phantoms, in turns: an epoch in which every view goes through the encoder, and one
that reads the cache, which was filled before. The medians count, since other work on the machine disturbs both. All
counted epochs begin with the same weights and draw the same windows and prompts, so their losses can be compared.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader
from monai.utils import set_determinism

from common.bundles import find_bundle
from common.errors import SettingError
from common.phantoms import write_fundus_phantoms

BUNDLE = "disc_cup_hqsam_segmentation"


def _parser(folder: Path, settings: dict[str, Any]) -> ConfigParser:
    root = find_bundle(BUNDLE)
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / f"{name}.json") for name in ("train", "train_frozen")])
    given = {"bundle_root": str(root), "output_dir": str(folder), "dataset_dir": str(folder), **settings}
    for name, value in given.items():
        parser[name] = value
    return parser


def _epoch(parser: ConfigParser, dataset: Any, seed: int) -> tuple[float, float, list[float]]:
    """One epoch of training: seconds, seconds of the processor, and the loss of each step."""
    network = parser.get_parsed_content("network")
    decoder, loss_of = parser.get_parsed_content("decoder"), parser.get_parsed_content("loss")
    inferer, prepare = (parser.get_parsed_content(f"train#{name}") for name in ("inferer", "trainer#prepare_batch"))
    start = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW([part for part in network.parameters() if part.requires_grad], lr=1e-3)
    dataset.after.set_random_state(seed=seed)
    loader = DataLoader(dataset, batch_size=parser.get_parsed_content("images_per_batch"))
    network.train()
    losses = []
    began = time.perf_counter(), time.process_time()
    for batch in loader:
        features, label, args, named = prepare(batch, parser.get_parsed_content("device"))
        loss = loss_of(inferer(features, decoder, *args, **named), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    took = time.perf_counter() - began[0], time.process_time() - began[1]
    network.load_state_dict(start)
    return *took, losses


def run_cache_benchmark(
    image_size: int = 1024,
    photos: int = 6,
    window_share: float = 0.25,
    bfloat16: bool = False,
    batch: int = 2,
    epochs: int = 5,
) -> str:
    """Measure an epoch with and without the cache.

    Args:
        image_size: side of the network's input, in pixels.
        photos: number of phantoms, of 1440 x 960 pixels; one view of each is an epoch.
        window_share: side of the window that is decoded, as a share of the image's.
        bfloat16: train the decoder under bfloat16 autocast; the encoder works in float32.
        batch: photos in a batch.
        epochs: counted epochs of each kind.

    Returns:
        A table in Markdown.

    Raises:
        SettingError: no epoch would be counted.
    """
    if epochs < 1:
        raise SettingError(f"epochs is {epochs!r}; give a whole number from 1 on.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_fundus_phantoms(folder, photos, sizes=((960, 1440),))
        items = [
            {
                "image": path.relative_to(folder).as_posix(),
                "disc": f"disc/{path.stem}.png",
                "cup": f"cup/{path.stem}.png",
                "label_format": "masks",
            }
            for path in sorted((folder / "image").iterdir())
        ]
        (folder / "list.json").write_text(json.dumps({"training": items, "validation": items[:1]}), encoding="utf-8")
        set_determinism(seed=0)
        parser = _parser(
            folder,
            {
                "data_list": str(folder / "list.json"),
                "view_size": image_size,
                "diameter": image_size,
                "images_per_batch": batch,
                "cached_views": 1,
                "window_share": window_share,
                "cpu_bfloat16": bfloat16,
            },
        )
        dataset = parser.get_parsed_content("train#dataset")
        folders = {"without the cache": None, "with the cache": dataset.cache_dir}
        runs: dict[str, list[tuple[float, float, list[float]]]] = {name: [] for name in folders}
        _epoch(parser, dataset, 0)  # fills the cache
        for number in range(epochs + 1):
            for name, place in folders.items():
                dataset.cache_dir = place
                run = _epoch(parser, dataset, 1)
                if number:  # the first of each kind warms up
                    runs[name].append(run)
        size = sum(path.stat().st_size for path in folders["with the cache"].iterdir()) / photos
    rows = [
        (name, statistics.median(run[0] for run in of), statistics.median(run[1] for run in of))
        for name, of in runs.items()
    ]
    (_, slow, slow_processor), (_, fast, _) = rows
    losses = [run[2] for of in runs.values() for run in of]
    difference = max(abs(one - other) for run in losses for one, other in zip(run, losses[0], strict=True))
    lines = [
        f"vit_tiny at {image_size} pixels, {photos} views, {torch.get_num_threads()} threads, decoder in "
        f"{'bfloat16' if bfloat16 else 'float32'} on windows of {window_share:g}, medians of {epochs} epochs.",
        "",
        "| an epoch | seconds a view | seconds of the processor a view | ratio |",
        "|---|---:|---:|---:|",
        *(
            f"| {name} | {seconds / photos:.3f} | {processor / photos:.3f} | {slow_processor / processor:.1f} |"
            for name, seconds, processor in rows
        ),
        "",
        f"Largest difference of the losses of a step: {difference:.1e} of {losses[0][-1]:.3f}. "
        f"Ratio of the wall clock: {slow / fast:.1f}. A view takes {size / 1e6:.1f} MB on the disk.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    fire.Fire(run_cache_benchmark)
