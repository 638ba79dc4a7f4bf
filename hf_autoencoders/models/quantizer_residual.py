# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Quantizers in depth: each level quantises what the levels before it left over.

Letters in shapes: B batch, h w grid, D width of a code vector, K codes.
"""

import torch
from torch import Tensor, nn

from .precision import at_least_float32, float32_island
from .quantizer_base import GRADIENTS, Quantized, Quantizer, channels_first, channels_last, norm_ratio
from .quantizer_vq import NEAREST_CODE


class ResidualQuantizer(Quantizer):
    """Each level quantises what the levels before it left over; their vectors add up. Lee et al. 2022 (2203.01941).

    Codes are (B, h, w, depth). Losses, perplexity and usage are means over the levels, so that their weights in a loss
    do not depend on the depth. `l2` levels compare the direction of the remainder and add vectors of length 1.
    """

    def __init__(self, config):
        super().__init__()
        self.size = config.codebook_size
        self.gradient = GRADIENTS[config.gradient]
        level = NEAREST_CODE[config.level_quantizer]
        self.levels = nn.ModuleList(level(config, level=i) for i in range(config.num_quantizers))

    @property
    def wants_data(self) -> bool:
        return any(level.wants_data for level in self.levels)

    def forward(self, z_e: Tensor) -> Quantized:
        with float32_island(z_e):
            z = at_least_float32(z_e)  # (B, D, h, w)
            total, parts = torch.zeros_like(z), []
            for level in self.levels:
                parts.append(level(z - total))
                total = total + parts[-1].latents.detach()
            latents = channels_first(self.gradient(channels_last(z), channels_last(total)))
            means = {name: torch.stack([getattr(part, name) for part in parts]).mean() for name in LEVEL_MEANS}
            codes = torch.stack([part.codes for part in parts], dim=-1)  # (B, h, w, depth)
            ratio = norm_ratio(channels_last(z), channels_last(total))
            return Quantized(latents.to(z_e.dtype), codes, **means, norm_ratio=ratio)

    def encode(self, z_e: Tensor) -> Tensor:
        """(B, D, h, w) -> codes (B, h, w, depth). Changes no state."""
        return torch.stack([codes for _, codes in self.descend(z_e)], dim=-1)

    def descend(self, z_e: Tensor):
        """Yields each level's input (B, D, h, w) and the codes (B, h, w) that it chooses."""
        with float32_island(z_e):
            z = at_least_float32(z_e)
            total = torch.zeros_like(z)
            for level in self.levels:
                codes = level.encode(z - total)
                yield z - total, codes
                total = total + level.get_codebook_entry(codes).to(z.dtype)

    def get_codebook_entry(self, codes: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
        """Codes (B, h, w, depth), or flat ones with `shape` = (B, h, w, ...), to their sums (B, D, h, w)."""
        codes = codes if shape is None else codes.reshape(*shape[:3], len(self.levels))
        vectors = [level.get_codebook_entry(codes[..., i]) for i, level in enumerate(self.levels)]
        return torch.stack(vectors).cumsum(0)[-1]  # in the order of `forward`: the same rounding

    def log_affinities(self, z_e: Tensor) -> Tensor:
        """``-|remainder - e_k|^2`` in the order of flat codes: (B, D, h, w) -> (B, h*w*depth, K)."""
        remainders = [z for z, _ in self.descend(z_e)]
        each = [level.log_affinities(z) for level, z in zip(self.levels, remainders, strict=True)]
        return torch.stack(each, dim=2).flatten(1, 2)

    @torch.no_grad()
    def initialize_from_data(self, z_e: Tensor) -> None:
        with float32_island(z_e):
            remainder = at_least_float32(z_e)
            for level in self.levels:
                level.initialize_from_data(remainder)
                remainder = remainder - level.get_codebook_entry(level.encode(remainder))

    def hold_still(self, still: bool = True) -> None:
        super().hold_still(still)
        for level in self.levels:
            level.hold_still(still)

    def defer_state_updates(self, deferred: bool = True) -> None:
        for level in self.levels:
            level.defer_state_updates(deferred)

    def apply_state_updates(self) -> None:
        for level in self.levels:
            level.apply_state_updates()


LEVEL_MEANS = ("codebook_loss", "commitment_loss", "perplexity", "codebook_usage")
