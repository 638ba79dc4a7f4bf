# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""How many pictures a second the loader gives, beside how many a small net trains on:

    python scripts/benchmarks/loading.py [--image_size 128] [--pictures 200] [--folder PHOTOS]

Without --folder, JPEGs of three sizes are drawn: smooth colours and grain, as of a camera. Each row is the median of
three passes after one that warms up. `whole` decodes every pixel of each original and cuts the window then; `reduced`
is what the package does.
"""

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from hf_autoencoders import VQVAEConfig, VQVAEModel
from hf_autoencoders.training.data import collate_bytes, load_images, scaled
from hf_autoencoders.training.fitted_processor import FittedProcessor


SIZES = {"500 x 375": (375, 500), "1600 x 1200": (1200, 1600), "4000 x 3000": (3000, 4000)}
BATCH, PASSES = 16, 3


def draw_photographs(folder: Path, count: int, height: int, width: int) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        colours = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(colours.resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = random.integers(-8, 9, (height, width, 1), dtype=np.int16)
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(folder / f"{number:04d}.jpg", quality=90)


def loader_rate(folder: Path, size: int, workers: int, **options) -> float:
    """Pictures a second."""
    images = load_images(str(folder), to_uint8=FittedProcessor(size, 3, "crop"), eval_split="train", **options).train
    batches = [list(range(start, min(start + BATCH, len(images)))) for start in range(0, len(images), BATCH)]
    rates = []
    for epoch in range(PASSES + 1):
        images.set_epoch(epoch)
        started, count = time.perf_counter(), 0
        for batch in DataLoader(images, batch_sampler=batches, num_workers=workers, collate_fn=collate_bytes):
            count += len(batch["pixel_values"])
        rates.append(count / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def stream_rate(folder: Path, size: int, workers: int, count: int) -> float:
    splits = load_images(str(folder), to_uint8=FittedProcessor(size, 3, "crop"), streaming=True, max_eval_samples=8,
                         stream_shuffle=64, random_resized_crop=0.5)  # fmt: skip
    batches, steps = splits.train.batches(BATCH, workers, collate_bytes), count // BATCH
    next(batches)
    started = time.perf_counter()
    served = sum(len(batch["pixel_values"]) for batch in islice(batches, PASSES * steps))
    return served / (time.perf_counter() - started)


def training_rate(size: int) -> float:
    """Of a small VQ-VAE with 8 x 8 pixels a code, float32, Adam."""
    config = VQVAEConfig(
        image_size=size, backbone="resnet", block_out_channels=[32, 32, 64, 64], layers_per_block=1,
        norm_num_groups=16, latent_channels=8, codebook_dim=8, codebook_size=1024,
    )  # fmt: skip
    model = VQVAEModel(config).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    pixels = scaled(torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8))
    times = []
    for _ in range(6):
        started = time.perf_counter()
        model(pixels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
    return BATCH / statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, {given.image_size} px, batch {BATCH}; pictures a second")
    print(f"training step of a small net with a stride of 8: {training_rate(given.image_size):.0f}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folders = {"given": given.folder} if given.folder else {}
        for name, (height, width) in {} if given.folder else SIZES.items():
            folders[name] = Path(place, name.replace(" ", ""))
            draw_photographs(folders[name], max(32, given.pictures * 500 // width), height, width)
        print("| originals | centre, decoded | random windows, whole | reduced | 2 workers | stream, 2 workers |")
        print("|---|---:|---:|---:|---:|---:|")
        for name, folder in folders.items():
            print(row(name, folder, given), flush=True)


def row(name: str, folder: Path, given: argparse.Namespace) -> str:
    size = given.image_size
    centre = loader_rate(folder, size, 0, cache_limit_gib=0.0)
    draft = Image.Image.draft
    from PIL.JpegImagePlugin import JpegImageFile

    reduced_draft, JpegImageFile.draft = JpegImageFile.draft, draft  # the base class decodes whole
    try:
        whole = loader_rate(folder, size, 0, random_resized_crop=0.5)
    finally:
        JpegImageFile.draft = reduced_draft
    reduced = loader_rate(folder, size, 0, random_resized_crop=0.5)
    workers = loader_rate(folder, size, 2, random_resized_crop=0.5)
    stream = stream_rate(folder, size, 2, given.pictures)
    return f"| {name} | {centre:.0f} | {whole:.0f} | {reduced:.0f} | {workers:.0f} | {stream:.0f} |"


if __name__ == "__main__":
    main()
