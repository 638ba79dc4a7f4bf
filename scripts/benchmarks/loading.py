# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a picture costs to load, beside what it costs to train on:

    python scripts/benchmarks/loading.py [--image_size 128] [--pictures 64] [--folder PHOTOS]

Milliseconds of one CPU core for each picture, so that other programs disturb little: the median of three passes after
one that warms up. The last column says how many pictures of a stream one core loads in a second. Data never waits while
loading costs less than training does, divided by the workers that load.
Without --folder, JPEGs of three sizes are drawn: smooth colours and grain, as of a camera. `whole` decodes every pixel
of each original and cuts the window then; `reduced` is what the package does.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from hf_autoencoders import VQVAEConfig, VQVAEModel
from hf_autoencoders.training.data import collate_bytes, load_images, scaled
from hf_autoencoders.training.fitted_processor import FittedProcessor


SIZES = {"500 x 375": (375, 500), "1600 x 1200": (1200, 1600), "4000 x 3000": (3000, 4000)}
BATCH, PASSES = 16, 3
COLUMNS = (
    "centre", "random windows, whole", "random windows, reduced", "stream of random windows", "of these, images/s",
)  # fmt: skip


def draw_photographs(folder: Path, count: int, height: int, width: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        colours = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = random.integers(-8, 9, (height, width, 1), dtype=np.int16)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=90)


def milliseconds(action: Callable[[], int]) -> float:
    """CPU time of this process for each picture that `action` says it handled."""
    times = []
    for _ in range(PASSES + 1):
        started = time.process_time()
        count = action()
        times.append(1e3 * (time.process_time() - started) / count)
    return statistics.median(times[1:])


def loading(folder: Path, size: int, **options) -> float:
    images = load_images(str(folder), to_uint8=FittedProcessor(size, 3, "crop"), eval_split="train", **options).train
    batches = [list(range(start, min(start + BATCH, len(images)))) for start in range(0, len(images), BATCH)]
    return milliseconds(lambda: sum(len(collate_bytes(images.__getitems__(b))["pixel_values"]) for b in batches))


def streaming(folder: Path, size: int, pictures: int) -> float:
    windows = {"stream_shuffle": BATCH, "random_resized_crop": 0.5}
    processor = FittedProcessor(size, 3, "crop")
    splits = load_images(str(folder), to_uint8=processor, streaming=True, max_eval_samples=2, **windows)
    batches = splits.train.batches(BATCH, collate_fn=collate_bytes)
    return milliseconds(lambda: sum(len(batch["pixel_values"]) for batch in islice(batches, -(-pictures // BATCH))))


def training(size: int) -> float:
    """A step of a small VQ-VAE with 8 x 8 pixels a code: float32, Adam."""
    config = VQVAEConfig(
        image_size=size, backbone="resnet", block_out_channels=[32, 32, 64, 64], layers_per_block=1,
        norm_num_groups=16, latent_channels=8, codebook_dim=8, codebook_size=1024,
    )  # fmt: skip
    model = VQVAEModel(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    pixels = scaled(torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8))

    def step() -> int:
        model(pixels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return BATCH

    return milliseconds(step)


@contextlib.contextmanager
def jpegs_decoded_whole() -> Iterator[None]:
    reduced, JpegImageFile.draft = JpegImageFile.draft, Image.Image.draft  # the base class's does nothing
    try:
        yield
    finally:
        JpegImageFile.draft = reduced


def row(folder: Path, size: int, pictures: int) -> list[float]:
    windows = {"random_resized_crop": 0.5}
    with jpegs_decoded_whole():
        whole = loading(folder, size, **windows)
    return [loading(folder, size, cache_limit_gib=0.0), whole, loading(folder, size, **windows),
            streaming(folder, size, pictures)]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(f"CPU milliseconds for each picture, {given.image_size} px, batches of {BATCH}")
    step = training(given.image_size)
    print(f"training step of a small net with a stride of 8: {step:.1f}, or {1e3 / step:.1f} images/s")
    print(f"| originals | {' | '.join(COLUMNS)} |")
    print("|---|" + "---:|" * len(COLUMNS))
    with tempfile.TemporaryDirectory() as place:
        for name, (height, width) in ({"given": (0, 0)} if given.folder else SIZES).items():
            folder = given.folder or Path(place, name.replace(" ", ""))
            if given.folder is None:
                draw_photographs(folder, given.pictures, height, width)
            costs = row(folder, given.image_size, given.pictures)
            print(f"| {name} | {' | '.join(f'{cost:.1f}' for cost in costs)} | {1e3 / costs[-1]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
