# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The health of a codebook: one line during training, and advice if too few codes are used."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..models.codebooks import perplexity


TOKENS_PER_CODE = 10  # fewer tokens than this for each code cannot tell a dead code from a rare one


@dataclass(frozen=True)
class CodebookHealth:
    """Use of a codebook over a window of training steps.

    Attributes:
        codebook_size: K.
        tokens: how many tokens of each level the window holds.
        used: codes that occur in it (of the worst level, where there are several).
        perplexity: exp(entropy) of the codes, 1 .. K (of the worst level).
        norm_ratio: mean length of latents over that of their codes; 1 is healthy, None where it has no meaning.
    """

    codebook_size: int
    tokens: int
    used: int
    perplexity: float
    norm_ratio: float | None = None

    @classmethod
    def of(cls, counts: Tensor, norm_ratio: float | None = None) -> "CodebookHealth":
        """From `counts` (depth, K) of `count_codes`, summed over the window and over all processes.

        >>> import torch
        >>> CodebookHealth.of(torch.tensor([[5, 5, 0, 0]])).perplexity
        2.0
        """
        return cls(
            codebook_size=counts.shape[1],
            tokens=int(counts[0].sum()),
            used=int((counts > 0).sum(1).min()),
            perplexity=round(perplexity(counts.double()).min().item(), 9),
            norm_ratio=norm_ratio,
        )

    def line(self) -> str:
        share = self.perplexity / self.codebook_size
        text = (
            f"codes: {self.used}/{self.codebook_size} used, perplexity {self.perplexity:.1f} ({share:.0%} of K), "
            f"{self.codebook_size - self.used} dead"
        )
        return text if self.norm_ratio is None else f"{text}, |z|/|e| {self.norm_ratio:.2f}"

    def cures(self, config: Any) -> list[str]:
        """What is wrong and which knob helps; empty for a healthy codebook, or a window too short to judge it.

        `config`: the model's config; only fields that it has are recommended.
        """
        if self.tokens < TOKENS_PER_CODE * self.codebook_size:
            return []
        found = []
        if self.used < 0.5 * self.codebook_size:
            found.append(
                f"{self.codebook_size - self.used} of {self.codebook_size} codes are dead: {_revival(config)}."
            )
        elif self.perplexity < 0.1 * self.codebook_size:
            found.append(f"most tokens are a few codes (perplexity {self.perplexity:.1f}): {_spreading(config)}.")
        if self.norm_ratio is not None and self.norm_ratio > 2:
            found.append(f"latents are {self.norm_ratio:.1f} times as long as their codes: {_tying(config)}.")
        if self.norm_ratio is not None and self.norm_ratio < 0.5:
            found.append(
                f"codes are {1 / max(self.norm_ratio, 1e-9):.1f} times as long as the latents: --codebook_init data"
            )
        return found


def _reads(config: Any, field: str) -> bool:
    return hasattr(config, field) and field not in config.ignored_fields


def _revival(config: Any) -> str:
    if _reads(config, "revive_dead_codes") and not config.revives_dead_codes:
        return "--revive_dead_codes true --codebook_init data, or --quantizer ema"
    if _reads(config, "kl_weight"):
        return "a larger --kl_weight, or a higher --gumbel_temperature for longer"
    return "a smaller --codebook_size, or more epochs"


def _spreading(config: Any) -> str:
    if _reads(config, "normalize_codes") and not config.normalize_codes:
        return "--normalize_codes true, or a smaller --codebook_dim"
    if _reads(config, "kl_weight"):
        return "a larger --kl_weight"
    return "a smaller --codebook_dim or --codebook_size"


def _tying(config: Any) -> str:
    if _reads(config, "commitment_cost"):
        return f"a larger --commitment_cost (now {config.commitment_cost}), or --codebook_init data"
    return "a smaller --learning_rate"
