# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A codebook on a whole set: which codes are used, what each decodes to, and how large the quantization error is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.codebooks import histogram
from .metrics import evaluate


TEMPERATURES = (1.0, 0.5, 0.25, 0.125, 0.0625)  # DALL-E anneals from the first to the last


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Squared error per image on the [0, 1] scale, summed over C, H and W, of pixels in [-1, 1]; clamped; (B,)."""
    return ((a.clamp(-1, 1) - b.clamp(-1, 1)) / 2).square().flatten(1).sum(1)


def code_atlas(image_tokens: Tensor, pixels: Tensor, codebook_size: int, context: int = 1) -> Tensor:
    """What each code decodes to: the mean of the decoded pixels around all positions of this code, (K, C, s, s).

    Args:
        image_tokens: (N, h, w).
        pixels: (N, C, H, W), decoded from them; H = h * f.
        context: cells of f pixels that are shown on each side of the code's cell; s = (2 * context + 1) f.

    Returns:
        The means; NaN for a code that is never used.
    """
    factor = pixels.shape[2] // image_tokens.shape[1]
    size = (2 * context + 1) * factor
    total = torch.zeros(codebook_size, pixels.shape[1] * size * size)
    for tokens, part in zip(image_tokens.split(500), pixels.split(500), strict=True):
        padded = F.pad(part, [context * factor] * 4, mode="replicate")
        patches = F.unfold(padded, size, stride=factor)  # (n, C s s, h w)
        total.index_add_(0, tokens.flatten(), patches.transpose(1, 2).flatten(0, 1))
    counts = histogram(image_tokens, codebook_size, torch.int64)
    return (total / counts[:, None]).view(codebook_size, pixels.shape[1], size, size)  # 0 / 0 is NaN: never used


@torch.no_grad()
def errors_around_quantizer(model: nn.Module, batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Squared error per image, (N,): with the nearest codes, and with the encoder's latents without quantization."""
    quantized, unquantized = [], []
    for pixels in batches:
        latents = model.encode(pixels, return_dict=True).latents
        for errors, force in ((quantized, False), (unquantized, True)):
            sample = model.decode(latents, force_not_quantize=force, return_dict=True).sample
            errors.append(squared_error(sample, pixels).cpu())
    return torch.cat(quantized), torch.cat(unquantized)


@dataclass
class RelaxationGap:
    """ELBO in nats per image at each temperature, with relaxed and with one-hot samples."""

    temperatures: tuple[float, ...]
    relaxed: list[float]
    hard: list[float]


def relaxation_gap(
    model: nn.Module,
    batches: Callable[[], Iterable[Tensor]],
    temperatures: tuple[float, ...] = TEMPERATURES,
    seed: int = 0,
) -> RelaxationGap:
    """Compares the ELBO with relaxed codes to the ELBO with one-hot codes, which a prior would generate."""
    relaxed, hard = [], []
    for temperature in temperatures:
        pixels = ({"pixel_values": batch} for batch in batches())
        metrics = evaluate(model, pixels, temperature=temperature, seed=seed, ssim=False)
        relaxed.append(metrics["relaxed_elbo"])
        hard.append(metrics["hard_elbo"])
    return RelaxationGap(temperatures, relaxed, hard)
