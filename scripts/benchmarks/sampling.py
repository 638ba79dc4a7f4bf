# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Images per second of drawing codes from each prior, untrained, 0.6 to 1 M parameters, on a grid:

python scripts/benchmarks/sampling.py --grid 7 7 --batch_size 64
"""

import argparse
import time

import torch

from hf_autoencoders.models.image_token_ids import generate_ids
from hf_autoencoders.priors.autoregressive import build_prior, generate_image_tokens
from hf_autoencoders.priors.drawing import draw_codes
from hf_autoencoders.priors.sequences import ImageTokenSequencer


@torch.no_grad()
def full_passes(prior, sequencer: ImageTokenSequencer, num_images: int) -> None:
    """A PixelCNN drawn as it is defined: a pass over the whole picture for each code."""
    codes = torch.zeros(num_images, sequencer.ids.num_tokens, dtype=torch.int64)
    ids = torch.cat([sequencer.prompt(num_images=num_images), codes], dim=1)
    for position in range(sequencer.ids.num_tokens):
        ids[:, 1 + position] = draw_codes(prior(ids).logits[:, position])


def main() -> None:
    parser = argparse.ArgumentParser(description="Images per second of drawing codes.")
    parser.add_argument("--grid", type=int, nargs=2, default=[7, 7])
    parser.add_argument("--codebook_size", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--num_threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.num_threads)
    count = arguments.batch_size
    sequencer = ImageTokenSequencer(arguments.codebook_size, arguments.grid, num_classes=10)
    sizes = {"llama": (128, 3), "pixelcnn": (48, 10), "masked": (128, 3)}
    priors = {name: build_prior(sequencer, name, *size).eval() for name, size in sizes.items()}
    ways = {
        "pixelcnn, a full pass a code": lambda: full_passes(priors["pixelcnn"], sequencer, count),
        "pixelcnn, incremental": lambda: generate_image_tokens(priors["pixelcnn"], num_images=count),
        "llama, without cache": lambda: generate_ids(priors["llama"], sequencer.ids, num_images=count, use_cache=False),
        "llama, cached": lambda: generate_image_tokens(priors["llama"], num_images=count),
        "masked, 8 passes": lambda: generate_image_tokens(priors["masked"], num_images=count),
    }
    rates = {name: count / fastest(way, arguments.repeats) for name, way in ways.items()}
    naive = rates["pixelcnn, a full pass a code"]
    for name, rate in rates.items():
        millions = sum(p.numel() for p in priors[name.split(",")[0]].parameters()) / 1e6
        print(f"{name:30} {millions:.2f} M  {rate:8.1f} images/s  {rate / naive:6.1f} x")


def fastest(way, repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        way()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    main()
