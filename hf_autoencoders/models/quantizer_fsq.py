# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Finite scalar quantization: numbers are bounded and rounded, and the codebook is their grid."""

import math

import torch
from torch import Tensor, nn

from .codebook_tensors import Projection
from .precision import at_least_float32, float32_island
from .quantizer_base import (
    Quantized,
    Quantizer,
    channels_first,
    channels_last,
    negative_squared_distances,
    norm_ratio,
    straight_through,
)


class FiniteScalarQuantizer(Quantizer):
    """Each of a few numbers is bounded and rounded; the codebook is their grid. Mentzer et al. 2024 (2309.15505).

    Nothing to learn, no auxiliary loss. Where `codebook_dim` is not the number of levels, linear maps stand before
    and behind. The first number varies fastest in the code, as in the paper's own code.
    """

    def __init__(self, config):
        super().__init__()
        self.levels = tuple(balanced_levels(config.codebook_size) if config.fsq_levels is None else config.fsq_levels)
        self.size = config.codebook_size
        if min(self.levels) < 2 or math.prod(self.levels) != self.size:
            raise ValueError(
                f"`fsq_levels` must be numbers >= 2 whose product is `codebook_size` = {self.size}, got {self.levels} "
                f"with product {math.prod(self.levels)}."
            )
        width = len(self.levels)
        projects = config.codebook_dim != width
        self.project_in = Projection(config.codebook_dim, width) if projects else nn.Identity()
        self.project_out = Projection(width, config.codebook_dim) if projects else nn.Identity()

    def forward(self, z_e: Tensor) -> Quantized:
        with float32_island(z_e):
            bounded = self.to_grid(z_e)  # (B, h, w, levels)
            rounded = bounded.detach().round()
            codes = self.number(rounded)  # (B, h, w)
            values = straight_through(bounded, rounded) / self.half_widths(z_e)
            latents = channels_first(self.project_out(values)).to(z_e.dtype)
            zero = values.new_zeros(())
            return Quantized(latents, codes, zero, zero, *self.usage(codes), norm_ratio=norm_ratio(bounded, rounded))

    def encode(self, z_e: Tensor) -> Tensor:
        """(B, D, h, w) -> codes (B, h, w)."""
        with float32_island(z_e):
            return self.number(self.to_grid(z_e).round())

    def to_grid(self, z_e: Tensor) -> Tensor:
        """Numbers to be rounded, L levels each: (B, D, h, w) -> (B, h, w, levels) in [-(L-1)/2, (L-1)/2] or, of even L,
        in [-L/2, L/2 - 1]; 0 stays 0 (paper, appendix A.1; its tan is an atanh up to the fifth order)."""
        z = self.project_in(channels_last(at_least_float32(z_e)))
        half = [(level - 1) * (1 - 1e-3) / 2 for level in self.levels]
        offset = [0.5 * (level % 2 == 0) for level in self.levels]
        # Two levels have no middle one for 0 to stay at: it lies between them.
        shift = [math.atanh(o / h) if level > 2 else 0.0 for o, h, level in zip(offset, half, self.levels, strict=True)]
        half, offset, shift = (constants(numbers, z.dtype, z.device) for numbers in (half, offset, shift))
        return (z + shift).tanh() * half - offset

    def half_widths(self, like: Tensor) -> Tensor:
        """What scales the rounded numbers to [-1, 1]: (levels,) float32."""
        return constants([level // 2 for level in self.levels], torch.float32, like.device)

    def number(self, rounded: Tensor) -> Tensor:
        """Rounded numbers (..., levels) -> codes (...)."""
        digits = (rounded.nan_to_num(0.0) + self.half_widths(rounded)).long()  # a broken number: the middle one
        return sum(digits[..., i] * math.prod(self.levels[:i]) for i in range(len(self.levels)))

    def code_vectors(self, codes: Tensor | None = None) -> Tensor:
        """The vectors that `codes` (...) stand for, (..., D); those of all codes, (K, D), if None."""
        if codes is None:
            parameter = next(self.parameters(), torch.empty(0))  # none without a projection: then on the CPU
            codes = torch.arange(self.size, device=parameter.device)
        return self.project_out(self.grid_values(codes))

    def grid_values(self, codes: Tensor) -> Tensor:
        """Codes (...) -> numbers in [-1, 1], (..., levels)."""
        digits = [codes // math.prod(self.levels[:i]) % level for i, level in enumerate(self.levels)]
        half_widths = self.half_widths(codes)
        values = (torch.stack(digits, dim=-1) - half_widths) / half_widths
        return values.to(self.project_out.weight.dtype) if isinstance(self.project_out, Projection) else values

    def log_affinities(self, z_e: Tensor) -> Tensor:
        """``-|z - v_k|^2`` between bounded numbers and grid points, one unit apart: (B, D, h, w) -> (B, h*w, K)."""
        with float32_island(z_e):
            grid = self.grid_values(torch.arange(self.size, device=z_e.device)) * self.half_widths(z_e)
            return negative_squared_distances(self.to_grid(z_e), grid)


def constants(numbers: list[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """(len(numbers),), written on the device itself: a copy from the host would stop an accelerator's queue."""
    return torch.stack([torch.full((), number, dtype=dtype, device=device) for number in numbers])


def balanced_levels(codebook_size: int) -> list[int]:
    """Factors of K, largest first, each as near as possible to what FSQ's paper found best (5 to 8).

    >>> balanced_levels(512), balanced_levels(1024), balanced_levels(1000)
    ([8, 8, 8], [8, 8, 4, 4], [8, 5, 5, 5])
    """
    if codebook_size < 2:
        raise ValueError(f"`codebook_size` must be at least 2 for fsq, got {codebook_size}.")

    def cost(levels: list[int]) -> float:
        return sum(math.log(level / 6.3) ** 2 for level in levels)  # 6.3 = sqrt(5 * 8)

    return min(_factorisations(codebook_size, codebook_size), key=cost)


def _factorisations(product: int, largest: int):
    """All ways to write `product` as factors of at most `largest`, in falling order."""
    if product == 1:
        yield []
    for factor in range(min(product, largest), 1, -1):
        if product % factor == 0:
            yield from ([factor, *rest] for rest in _factorisations(product // factor, factor))
