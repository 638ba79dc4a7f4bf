# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What all quantizers share: the answer they give, the questions they can be asked, and the gradient through a choice.

Letters in shapes: B batch, h w grid, D width of a code vector, K codes.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .codebooks import histogram, perplexity_and_usage, sum_over_processes
from .precision import float32_island, is_transformed, may_be_read


class Quantized(NamedTuple):
    """What a quantizer gives. Losses are means over elements, not weighed yet; scalars are 0-dim, float32 or float64.

    Attributes:
        latents: z_q (B, D, h, w) in the input's dtype; bit for bit `get_codebook_entry(codes)` cast to that dtype.
        codes: (B, h, w) int64, or (B, h, w, depth).
        codebook_loss: mean of (sg[z_e] - e)^2; 0 where no gradient moves the codebook.
        commitment_loss: mean of (z_e - sg[e])^2.
        perplexity: exp(entropy) of this batch's codes in [1, K]; over all processes in training, of this process in
            eval.
        codebook_usage: the share of codes that occur in this batch, counted like the perplexity.
        norm_ratio: mean ``|z_e|`` / mean ``|chosen e|``; far from 1: the encoder runs away from the codebook.
    """

    latents: Tensor
    codes: Tensor
    codebook_loss: Tensor
    commitment_loss: Tensor
    perplexity: Tensor
    codebook_usage: Tensor
    norm_ratio: Tensor


def check_codes(codes: Tensor, codebook_size: int) -> None:
    """Raises ValueError where an index lies outside 0..K-1 (a GPU would stop with a device-side assertion)."""
    fits = f"image tokens must lie in 0..{codebook_size - 1} (the codebook's size)"
    if codes.numel() == 0 or codes.is_meta or is_transformed(codes):
        return
    if not may_be_read(codes):  # in a graph the check is a node of it
        torch._assert_async(((codes >= 0) & (codes < codebook_size)).all(), f"{fits}.")
        return
    low, high = torch.stack(codes.aminmax()).tolist()
    if low < 0 or high >= codebook_size:
        raise ValueError(f"{fits}, got {low}..{high}.")


# ---- The gradient through a choice -----------------------------------------------------------------------------------


def straight_through(z_e: Tensor, z_q: Tensor) -> Tensor:
    """The value of `z_q`, bit for bit, with the gradient of `z_e`. Bengio et al. 2013."""
    return z_q.detach() + (z_e - z_e.detach())


def rotation(z_e: Tensor, z_q: Tensor) -> Tensor:
    """The value of `z_q`, with the gradient of the rotation and scaling that takes z_e to it. Fifty et al. 2024, eq. 4.

    ``q = lambda R z, R = I - 2 r r^T + 2 q^ z^T, r = (z^ + q^) / |z^ + q^|, lambda = |q| / |z|``, all held constant;
    (..., D), (..., D) -> (..., D).
    """
    z, q = z_e.detach(), z_q.detach()
    tiny = torch.finfo(z.dtype).tiny ** 0.5  # lengths below it count as it: no direction, no 0 / 0
    z_norm, q_norm = (v.norm(dim=-1, keepdim=True).clamp_min(tiny) for v in (z, q))
    z_unit, q_unit = z / z_norm, q / q_norm
    r = F.normalize(z_unit + q_unit, dim=-1)
    turned = z_e - 2 * (z_e * r).sum(-1, keepdim=True) * r + 2 * (z_e * z_unit).sum(-1, keepdim=True) * q_unit
    return straight_through(turned * (q_norm / z_norm), q)


GRADIENTS = {"straight_through": straight_through, "rotation": rotation}


class Quantizer(nn.Module):
    """What all quantizers can be asked. `size` is K; state that follows the data is none unless a class says so.

    A subclass writes `forward(z_e) -> Quantized`; `encode(z_e) -> codes (B, h, w)`, which changes no state;
    `code_vectors(codes=None) -> (..., D)`, the vectors of these codes or of all; `log_affinities(z_e) -> (B, h*w, K)`.
    """

    size: int
    wants_data = False  # True while the codebook waits for `initialize_from_data`
    holds_still = False  # True where nothing may move the codebook, although the model trains
    # What is called besides `forward`; a quantizer that FSDP shards must gather its parameters for these, too.
    fsdp_forward_methods = ("encode", "get_codebook_entry", "code_vectors", "log_affinities", "mix")

    def hold_still(self, still: bool = True) -> None:
        """Whether the codebook keeps its values in training: no start from data, no averages, no revival."""
        self.holds_still = still

    def get_codebook_entry(self, codes: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
        """Codes (B, h, w), or flat ones with `shape` = (B, h, w, ...), to their vectors (B, D, h, w)."""
        codes = codes if shape is None else codes.reshape(shape[:3])
        with float32_island(codes):
            return channels_first(self.code_vectors(codes))

    def usage(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Perplexity and usage of these codes, in training over all processes."""
        counts = histogram(codes, self.size)
        return perplexity_and_usage(sum_over_processes(counts) if self.training else counts)

    def initialize_from_data(self, z_e: Tensor) -> None:
        """Sets the codebook from the latents (B, D, h, w) of all processes, if it waits for them."""

    def defer_state_updates(self, deferred: bool = True) -> None:
        """Whether training forwards only gather statistics until `apply_state_updates` (gradient accumulation)."""

    def apply_state_updates(self) -> None:
        """Lets the codebook follow what was gathered since the last call; all processes must call it together."""


def channels_last(z: Tensor) -> Tensor:
    return z.permute(0, 2, 3, 1)


def channels_first(z: Tensor) -> Tensor:
    return z.permute(0, 3, 1, 2).contiguous()


def norm_ratio(z: Tensor, chosen: Tensor) -> Tensor:
    return (z.norm(dim=-1).mean() / chosen.norm(dim=-1).mean().clamp_min(1e-12)).detach()


def negative_squared_distances(z: Tensor, code_vectors: Tensor) -> Tensor:
    """(B, h, w, D), (K, D) -> (B, h*w, K)"""
    return -torch.cdist(z.flatten(1, 2), code_vectors.to(z)).square()
