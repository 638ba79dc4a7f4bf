# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Time and memory of finding the nearest code:  python scripts/benchmarks/lookup.py [--memory]

Interleaved rounds in one process, so that a busy machine slows all of them alike; the ratios of the minima count.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch

from hf_autoencoders.models.nearest_codes import nearest_codes


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=16384, help="N")
    parser.add_argument("--codes", type=int, default=8192, help="K")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 256], help="D")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory", action="store_true", help="measure peak extra memory instead of time")
    parser.add_argument("--peak_of", type=int, nargs=3, metavar=("N", "K", "D"), help="peak of one look-up, MiB")
    return parser.parse_args()


def contestants(latents: torch.Tensor, codebook: torch.Tensor) -> dict:
    """Name -> a function that looks the same vectors up, or None where the package is not installed."""
    return {
        "ours": lambda: nearest_codes(latents, codebook),
        "bare product": lambda: latents @ codebook.t(),
        "addmm + argmax, N x K": lambda: torch.addmm(codebook.square().sum(1) / -2, latents, codebook.t()).argmax(1),
        "diffusers": diffusers_look_up(latents, codebook),
        "vector-quantize-pytorch": lucidrains_look_up(latents, codebook),
    }


def diffusers_look_up(latents: torch.Tensor, codebook: torch.Tensor):
    try:
        from diffusers.models.autoencoders.vae import VectorQuantizer
    except ImportError:
        return None
    quantizer = VectorQuantizer(*codebook.shape, beta=0.25, legacy=False).eval()
    quantizer.embedding.weight.data = codebook
    images = latents.view(16, -1, 32, codebook.shape[1]).permute(0, 3, 1, 2).contiguous()
    return lambda: quantizer(images)


def lucidrains_look_up(latents: torch.Tensor, codebook: torch.Tensor):
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError:
        return None
    quantizer = VectorQuantize(dim=codebook.shape[1], codebook_size=codebook.shape[0]).eval()
    quantizer._codebook.embed.data = codebook[None]
    return lambda: quantizer(latents[None])


def measure(functions: dict, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each function in each round, after one round to warm up."""
    times = {name: [] for name in functions}
    for i in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if i:
                times[name].append(1000 * (time.perf_counter() - start))
    return times


@torch.no_grad()
def compare(vectors: int, codes: int, dim: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(vectors, dim, generator=generator)
    codebook = torch.randn(codes, dim, generator=generator)
    functions = contestants(latents, codebook)
    times = measure({name: function for name, function in functions.items() if function}, rounds)
    print(f"\nN = {vectors}, K = {codes}, D = {dim}, {rounds} rounds, {torch.get_num_threads()} threads")
    print(f"{'':26}{'min ms':>9}{'median':>9}   ours is faster by (min, median)")
    for name, function in functions.items():
        if function is None:
            print(f"{name:26}not installed")
            continue
        best, middle = min(times[name]), statistics.median(times[name])
        ratios = best / min(times["ours"]), middle / statistics.median(times["ours"])
        print(f"{name:26}{best:9.1f}{middle:9.1f}   {ratios[0]:.2f} x, {ratios[1]:.2f} x")


def print_peak(vectors: int, codes: int, dim: int) -> None:
    """Growth of the largest resident size during one look-up, in MiB; call it in a fresh process."""
    latents, codebook = torch.randn(vectors, dim), torch.randn(codes, dim)
    nearest_codes(latents[:64], codebook[:64])  # what libraries allocate once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    nearest_codes(latents, codebook)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        print_peak(*arguments.peak_of)
    elif arguments.memory:
        for size in ((65536, 16384, 64), (8192, 262144, 64)):
            command = [sys.executable, __file__, "--threads", str(arguments.threads), "--peak_of", *map(str, size)]
            peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            whole = size[0] * size[1] * 4 / 2**20
            print(f"N = {size[0]}, K = {size[1]}, D = {size[2]}: {peak:.0f} MiB more at the peak (N x K: {whole:.0f})")
    else:
        for dim in arguments.dims:
            compare(arguments.vectors, arguments.codes, dim, arguments.rounds)


if __name__ == "__main__":
    main()
