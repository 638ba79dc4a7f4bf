# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Rows on the codebook: finding the nearest code, how its time and memory grow, a training step of the quantizer."""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import Case, in_fresh_process, installed, interleaved

from hf_autoencoders import VQVAEConfig
from hf_autoencoders.models.nearest_codes import nearest_codes
from hf_autoencoders.models.quantizers import QUANTIZERS


SHAPES = ((64, 512), (64, 8192), (256, 8192), (8, 16384))  # D, K
OVER_DIFFUSERS = {(64, 8192): 4.0, (256, 8192): 2.5, (8, 16384): 5.0}
PEAK = """
import resource, sys, torch
from hf_autoencoders.models.nearest_codes import nearest_codes
n, k, d = map(int, sys.argv[1:])
torch.set_num_threads(1)
latents, codebook = torch.randn(n, d), torch.randn(k, d)
nearest_codes(latents[:64], codebook[:64])  # what libraries allocate once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest_codes(latents, codebook)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def vectors(count: int, codes: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, dim, generator=generator), torch.randn(codes, dim, generator=generator)


@torch.no_grad()
def lookup(given: argparse.Namespace) -> list[Case]:
    """Nearest codes of N vectors of D numbers among K, and the product alone that any such search contains."""
    cases = []
    for dim, codes in ((4, 16), (8, 32)) if given.tiny else SHAPES:
        latents, codebook = vectors(64 if given.tiny else 16384, codes, dim)
        ways = {
            "ours": lambda z=latents, e=codebook: nearest_codes(z, e),
            "bare fp32 product": lambda z=latents, e=codebook: z @ e.t(),
            "diffusers VectorQuantizer": diffusers_look_up(latents, codebook),
            "vector-quantize-pytorch": lucidrains_look_up(latents, codebook),
        }
        case = Case(f"N = {len(latents)}, D = {dim}, K = {codes}", interleaved(ways, given.rounds))
        case.claim("of the bare product", 1 / case.ratio("bare fp32 product"), "<=", 0.6 if codes > 512 else 1.0)
        if (dim, codes) in OVER_DIFFUSERS:
            faster = case.ratio("diffusers VectorQuantizer")
            case.claim("as fast as diffusers", faster, ">=", OVER_DIFFUSERS[dim, codes])
        distances = torch.cdist(latents[:2048].double(), codebook.double())
        ours = distances.gather(1, ways["ours"]()[:2048, None])[:, 0]
        nearer = (ours > distances.amin(1)).sum()
        case.claim("vectors of the first 2,048 with a nearer code, in float64", nearer, "<=", 0, "")
        cases.append(case)
    return cases


def diffusers_look_up(latents: torch.Tensor, codebook: torch.Tensor) -> Callable | None:
    if not installed("diffusers"):
        return None
    from diffusers.models.autoencoders.vae import VectorQuantizer

    quantizer = VectorQuantizer(*codebook.shape, beta=0.25, legacy=False).eval()
    quantizer.embedding.weight.data = codebook
    images = latents.view(4, -1, 4, codebook.shape[1]).permute(0, 3, 1, 2).contiguous()
    return lambda: quantizer(images)


def lucidrains_look_up(latents: torch.Tensor, codebook: torch.Tensor) -> Callable | None:
    if not installed("vector_quantize_pytorch"):
        return None
    from vector_quantize_pytorch import VectorQuantize

    quantizer = VectorQuantize(dim=codebook.shape[1], codebook_size=codebook.shape[0]).eval()
    quantizer._codebook.embed.data = codebook[None]
    return lambda: quantizer(latents[None])


@torch.no_grad()
def growth(given: argparse.Namespace) -> list[Case]:
    """Time of the look-up against the number of codes and of vectors, and its memory."""
    dim, count, codes = (8, 64, 64) if given.tiny else (64, 1024, 8192)
    by_codes = [64, 128, 256] if given.tiny else [512, 2048, 8192, 32768, 131072, 262144]
    by_vectors = [64, 128, 256] if given.tiny else [512, 2048, 8192, 32768]
    curves = {
        f"K, N = {count}": [(k, growth_time(count, k, dim, given.rounds)) for k in by_codes],
        f"N, K = {codes}": [(n, growth_time(n, codes, dim, given.rounds)) for n in by_vectors],
    }
    memory = [(k, int(in_fresh_process(PEAK, count, k, dim)[1]) / 1024) for k in (by_codes[0], by_codes[-1])]
    case = Case(f"D = {dim}", {})
    for name, points in curves.items():
        (_, *times), sizes = (milliseconds for _, milliseconds in points), [size for size, _ in points][1:]
        exponent = np.polyfit(np.log(sizes), np.log(times), 1)[0]
        case.claim(f"exponent p of time ~ ({name.split(',')[0]})^p", float(exponent), "<=", 1.1, "")
        case.notes.append(f"Time against {name}: " + ", ".join(f"{size}: {ms:.3g} ms" for size, ms in points) + ".")
    whole = count * by_codes[-1] * 4 / 2**20
    case.claim(
        f"MiB more at the peak, K = {by_codes[-1]} (an N x K matrix has {whole:.0f})", memory[-1][1], "<=", 64, ""
    )
    draw_growth(curves, Path(given.page).parent / "images" / "lookup_growth.png")
    case.notes.append("![Time of the look-up against K and against N](images/lookup_growth.png)")
    return [case]


def growth_time(count: int, codes: int, dim: int, rounds: int) -> float:
    latents, codebook = vectors(count, codes, dim)
    return min(interleaved({"ours": lambda: nearest_codes(latents, codebook)}, rounds)["ours"].cpu)


def draw_growth(curves: dict, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(curves), figsize=(7, 2.6), layout="constrained")
    for axis, (name, points) in zip(axes, curves.items(), strict=True):
        sizes, times = zip(*points, strict=True)
        axis.loglog(sizes, times, "o-", label="measured")
        axis.loglog(sizes, [times[-1] * size / sizes[-1] for size in sizes], ":", color="grey", label="linear")
        axis.set(xlabel=name, ylabel="ms, fastest round")
        axis.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def quantizer(given: argparse.Namespace) -> list[Case]:
    """Forward, backward and the codebook's update by moving averages."""
    codes, dim, batch, side = (32, 8, 2, 4) if given.tiny else (8192, 64, 16, 16)
    latents = torch.randn(batch, dim, side, side, generator=torch.Generator().manual_seed(0))
    ways = {
        "ours": our_quantizer(latents, codes),
        "vector-quantize-pytorch": lucidrains_quantizer(latents, codes),
        "pythae QuantizerEMA": pythae_quantizer(latents, codes),
    }
    case = Case(f"K = {codes}, D = {dim}, {batch} x {side} x {side} vectors", interleaved(ways, given.rounds))
    peers = [ratio for ratio in map(case.ratio, list(ways)[1:]) if ratio is not None]
    case.claim("as fast as the faster peer", min(peers, default=None), ">=", 2.0)
    return [case]


def our_quantizer(latents: torch.Tensor, codes: int) -> Callable:
    config = VQVAEConfig(quantizer="ema", codebook_size=codes, codebook_dim=latents.shape[1])
    quantize, z = QUANTIZERS["ema"](config).train(), latents.clone().requires_grad_()
    torch.nn.init.normal_(quantize.embedding.weight)

    def step() -> None:
        quantized = quantize(z)
        (quantized.latents.sum() + quantized.commitment_loss).backward()

    return step


def lucidrains_quantizer(latents: torch.Tensor, codes: int) -> Callable | None:
    if not installed("vector_quantize_pytorch"):
        return None
    from vector_quantize_pytorch import VectorQuantize

    quantize = VectorQuantize(dim=latents.shape[1], codebook_size=codes, decay=0.99, accept_image_fmap=True).train()
    z = latents.clone().requires_grad_()

    def step() -> None:
        quantized, _, loss = quantize(z)
        (quantized.sum() + loss.sum()).backward()

    return step


def pythae_quantizer(latents: torch.Tensor, codes: int) -> Callable | None:
    if not installed("pythae"):
        return None
    from types import SimpleNamespace

    from pythae.models.vq_vae.vq_vae_utils import QuantizerEMA

    config = SimpleNamespace(
        embedding_dim=latents.shape[1], num_embeddings=codes, commitment_loss_factor=0.25, decay=0.99
    )
    quantize, z = QuantizerEMA(config).train(), latents.clone().requires_grad_()

    def step() -> None:
        output = quantize(z.permute(0, 2, 3, 1))
        (output.quantized_vector.sum() + output.loss).backward()

    return step
