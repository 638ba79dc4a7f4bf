# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a codebook needs and no quantizer should repeat: the statistics of a batch over all processes, k-means, and
draws of rows that every process makes alike.

Letters in shapes: N vectors, D their width, K codes.
"""

import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from .nearest_codes import nearest_codes


# ---- All processes as one --------------------------------------------------------------------------------------------


def world_size() -> int:
    """Processes that train together, asked when it matters: a model may be older than its process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them, 0 if it is alone."""
    return dist.get_rank() if world_size() > 1 else 0


def accumulates_gradients() -> bool:
    """True in a micro-batch without an optimizer step behind it, in `accelerator.accumulate` or transformers' Trainer.

    Both keep this in one place, which is read here where accelerate is in use and never imported.
    """
    accelerate = sys.modules.get("accelerate.state")
    return accelerate is not None and not accelerate.GradientState._shared_state.get("sync_gradients", True)


def sum_over_processes(tensor: Tensor) -> Tensor:
    """`tensor`, in place, summed over all processes."""
    if world_size() > 1:
        dist.all_reduce(tensor)
    return tensor


def gather_rows(rows: Tensor) -> Tensor:
    """The rows (N_r, D) of all processes in rank order: (sum of N_r, D), the same on every process."""
    if world_size() == 1:
        return rows
    first, total = row_range(rows)
    everything = rows.new_zeros(int(total), rows.shape[1])
    everything[int(first) : int(first) + rows.shape[0]] = rows
    return sum_over_processes(everything)


def row_range(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(index of this process's first row in the global batch, rows of the global batch), both 0-dim int64."""
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=rows.device)
    own = rank()
    sizes[own] = rows.shape[0]
    sum_over_processes(sizes)
    return sizes[:own].sum(), sizes.sum()


def draw_global_rows(rows: Tensor, count: int, seed: int, step: Tensor) -> Tensor:
    """`count` rows of the global batch, with replacement: (N_r, D) -> (count, D), the same on every process.

    Every process draws the same row numbers; the owner of a row fills it in, one all-reduce shares it.
    """
    first, total = row_range(rows)
    number = scramble(count, seed, step, rows.device) % total - first
    mine = (number >= 0) & (number < rows.shape[0])
    drawn = rows[number.clamp(0, rows.shape[0] - 1)].where(mine[:, None], 0.0)
    return sum_over_processes(drawn)


def scramble(count: int, seed: int, step: Tensor | int, device: torch.device) -> Tensor:
    """`count` pseudo-random integers in [0, 2**32), a pure function of (seed, step): (count,) int64.

    A hash instead of a `torch.Generator`: the same on CPU and GPU, no number has to leave the device, and it compiles.
    """
    return _mix((torch.arange(count, device=device) + _mix(_mix(seed & 0xFFFFFFFF) ^ step)) & 0xFFFFFFFF)


def _mix(x):
    """A bijection of 32 bits whose output looks random (hash-prospector's 16 21f0aaad 15 735a2d97 15)."""
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x735A2D97) & 0xFFFFFFFF
    return x ^ (x >> 15)


# ---- Statistics of a batch -------------------------------------------------------------------------------------------


def histogram(codes: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """How often each of `size` codes occurs: (N,) -> (K,). `bincount` would break a compiled graph."""
    ones = torch.ones(codes.numel(), dtype=dtype, device=codes.device)
    return torch.zeros(size, dtype=dtype, device=codes.device).index_add(0, codes.flatten(), ones)


def code_statistics(latents: Tensor, codes: Tensor, size: int) -> Tensor:
    """[counts | sums] of the vectors that chose each code, packed so that one all-reduce shares them: (K, 1 + D).

    A vector with an entry that is not finite does not count: one broken pixel would stay in the averages for ever.
    """
    finite = latents.isfinite().all(1, keepdim=True)
    counted = torch.cat([finite.to(latents.dtype), latents.where(finite, 0.0)], dim=1)
    return counted.new_zeros(size, counted.shape[1]).index_add(0, codes, counted)


def perplexity(counts: Tensor) -> Tensor:
    """exp(entropy of the codes' frequencies), 1..K: as many codes as if all were used alike. (..., K) -> (...).

    Of no codes at all it is 1.

    >>> perplexity(torch.tensor([[5.0, 5.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])).tolist()
    [2.0, 4.0]
    """
    return torch.special.entr(counts / counts.sum(-1, keepdim=True).clamp_min(1)).sum(-1).exp()


def perplexity_and_usage(counts: Tensor) -> tuple[Tensor, Tensor]:
    """The perplexity of the codes, and the fraction of codes that occur: (K,) -> two 0-dim."""
    return perplexity(counts), (counts > 0).to(counts.dtype).mean()


# ---- k-means ---------------------------------------------------------------------------------------------------------


def k_means(rows: Tensor, size: int, seed: int, iterations: int = 10, unit_norm: bool = False) -> tuple[Tensor, Tensor]:
    """`size` centroids of `rows` and how many rows each has: (N, D) -> (K, D), (K,). Lloyd 1982, a fixed effort.

    A pure function of its arguments. A centroid that lost all its rows is moved to a row that is badly served.
    """
    centroids = _spread_rows(rows, size, seed)
    for iteration in range(iterations):
        codes = nearest_codes(rows, centroids)
        statistics = code_statistics(rows, codes, size)
        counts, means = statistics[:, :1], statistics[:, 1:] / statistics[:, :1].clamp_min(1)
        far = _draw_by_error(rows, centroids[codes], size, seed, size + iteration)
        lost = counts == 0
        order = (
            (lost.cumsum(0) - 1).clamp_min(0).squeeze(1)
        )  # the first lost centroid takes the first far row, and so on
        means = torch.where(lost, far[order], means)
        centroids = F.normalize(means, dim=1) if unit_norm else means
    return centroids, histogram(nearest_codes(rows, centroids), size, rows.dtype)


def _spread_rows(rows: Tensor, size: int, seed: int) -> Tensor:
    """`size` rows far from each other: one, then as many again, drawn by their squared distance to those before.

    k-means++ (Arthur & Vassilvitskii 2007) in log2(K) rounds. Rows drawn evenly would mostly coincide: real batches
    are full of equal ones, such as a plain background.
    """
    chosen = _draw_by_error(rows, rows.mean(0), 1, seed, 0)
    while len(chosen) < size:
        served = chosen[nearest_codes(rows, chosen)]
        more = _draw_by_error(rows, served, min(len(chosen), size - len(chosen)), seed, len(chosen))
        chosen = torch.cat([chosen, more])
    return chosen


def _draw_by_error(rows: Tensor, chosen: Tensor, count: int, seed: int, step: int) -> Tensor:
    """`count` rows drawn by squared error, distinct ones first (Gumbel top-k); repeated where N < count."""
    error = (rows - chosen).square().sum(1)
    uniform = (scramble(len(rows), seed, step, rows.device).to(rows.dtype) + 0.5) / 2**32
    order = (error.log() - (-uniform.log()).log()).argsort(descending=True, stable=True)
    return rows[order[torch.arange(count, device=rows.device) % len(rows)]]
