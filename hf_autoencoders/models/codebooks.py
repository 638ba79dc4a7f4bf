# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a codebook needs and no quantizer should repeat: the nearest code, the statistics of a batch over all
processes, k-means, and draws of rows that every process makes alike.

Letters in shapes: N vectors, D their width, K codes.
"""

import contextlib

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


# ---- Precision -------------------------------------------------------------------------------------------------------


def float32_island(tensor: Tensor):
    """A context without autocast: a bfloat16 product picks a wrong code for up to 25 % of vectors."""
    if torch.amp.is_autocast_available(tensor.device.type):
        return torch.autocast(tensor.device.type, enabled=False)
    return contextlib.nullcontext()


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor` itself in float32 and float64, a float32 copy of anything narrower."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def exact_dtype(device: torch.device) -> torch.dtype:
    """float64, except on Apple's GPUs, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def product_roundoff(tensor: Tensor) -> float:
    """Largest relative error of one rounding inside a matrix product of such tensors: TF32 keeps 11 bits."""
    if tensor.dtype == torch.float64:
        return 2.0**-53
    if tensor.device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
        return 2.0**-11
    return 2.0**-24


# ---- Nearest code ----------------------------------------------------------------------------------------------------

TILE = 128  # codes whose scores are reduced together: amax over 128 is 9 times as fast as argmax over 8192 (CPU)
SCORES_AT_ONCE = 2**22  # entries of one block, 16 MiB: half of it costs 6 %, twice of it gains nothing (CPU)
LEAST_ROWS = 64  # of a block, however many codes: with fewer, reading the codebook costs more than the product
PAIRS_AT_ONCE = 2**20  # float64 entries of one chunk of exact distances


def nearest_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """For each vector the index of the code at the smallest Euclidean distance: (N, D), (K, D) -> (N,) int64.

    argmin |z - e|^2 = argmax (z - c) (e - c)^T - |e - c|^2 / 2 for any c; the codebook's mean as c keeps an offset
    that all share out of the rounding. Scores are made for a block of rows at a time, never for N x K. Rows whose two
    best scores are closer than rounding can tell apart are decided again by float64 distances; exact ties go to the
    lowest index. float64 inputs are compared in float64, narrower ones in float32. No gradient.

    Inside `torch.compile`, `torch.export` and `torch.jit.trace`, where control flow may not depend on data, the
    scores of all rows are made at once (N x K), and the best four of each row are compared exactly.
    """
    if latents.ndim != 2 or codebook.ndim != 2 or latents.shape[1] != codebook.shape[1]:
        raise ValueError(f"expected (N, D) latents and a (K, D) codebook, got {latents.shape} and {codebook.shape}.")
    if latents.is_meta:
        return latents.new_empty(latents.shape[0], dtype=torch.int64)
    dtype = torch.promote_types(torch.promote_types(latents.dtype, codebook.dtype), torch.float32)
    latents, codebook = latents.detach().to(dtype), codebook.detach().to(latents.device, dtype)
    with float32_island(latents), torch.no_grad():
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return _nearest_of_four(latents, codebook)
        return _nearest_in_blocks(latents, codebook)


def _nearest_of_four(latents: Tensor, codebook: Tensor) -> Tensor:
    centre = codebook.mean(0)
    centred = codebook - centre
    scores = torch.addmm(-centred.square().sum(1) / 2, latents - centre, centred.t())  # (N, K)
    candidates = scores.topk(min(4, codebook.shape[0]), dim=1).indices.sort(dim=1).values
    exact = exact_dtype(latents.device)
    distances = (latents[:, None].to(exact) - codebook[candidates].to(exact)).square().sum(2)
    return candidates.gather(1, distances.argmin(1, keepdim=True)).squeeze(1)


def _nearest_in_blocks(latents: Tensor, codebook: Tensor) -> Tensor:
    size = codebook.shape[0]
    centre = codebook.mean(0)
    tile = min(TILE, max(size, 2))
    centred = F.pad(codebook - centre, (0, 0, 0, -size % tile))
    offsets = centred.square().sum(1) / -2
    longest = (-2 * offsets.min()).sqrt()
    offsets[size:] = -torch.inf  # the padding is never nearest

    codes = latents.new_empty(latents.shape[0], dtype=torch.int64)
    in_doubt = latents.new_empty(latents.shape[0], dtype=torch.bool)
    # A score's error is below (D + 4) roundings of its terms (Higham, Accuracy and Stability, 3.1); two scores differ.
    roundoff = 2 * (latents.shape[1] + 4) * product_roundoff(latents)
    rows = max(LEAST_ROWS, SCORES_AT_ONCE // centred.shape[0])
    buffer = latents.new_empty(min(rows, latents.shape[0]), centred.shape[0])
    for start in range(0, latents.shape[0], rows):
        block = latents[start : start + rows] - centre
        scores = torch.addmm(offsets, block, centred.t(), out=buffer[: block.shape[0]])
        codes[start : start + rows], margin = _best_and_margin(scores, tile)
        bound = roundoff * (block.norm(dim=1) + longest / 2) * longest
        in_doubt[start : start + rows] = margin <= bound
    doubtful = in_doubt.nonzero().squeeze(1)
    for rows_left in doubtful.split(LEAST_ROWS):
        block = latents[rows_left]
        scores = torch.addmm(offsets, block - centre, centred.t(), out=buffer[: block.shape[0]])
        bound = roundoff * ((block - centre).norm(dim=1) + longest / 2) * longest
        codes[rows_left] = _nearest_exactly(block, codebook, scores[:, :size], bound)
    return codes.clamp_(max=size - 1)  # a row of NaN may point into the padding


def _best_and_margin(scores: Tensor, tile: int) -> tuple[Tensor, Tensor]:
    """Index of the largest score of each row, and how far it lies above the second largest."""
    tiles = scores.unflatten(1, (-1, tile))  # (rows, tiles, tile)
    tops = tiles.amax(2)
    best_tile = tops.argmax(1)
    row = torch.arange(len(scores), device=scores.device)
    best, index = tiles[row, best_tile].topk(2, dim=1)  # (rows, 2)
    runner_up = tops.index_put((row, best_tile), best[:, 1]).amax(1)
    return best_tile * tile + index[:, 0], best[:, 0] - runner_up


def _nearest_exactly(latents: Tensor, codebook: Tensor, scores: Tensor, bound: Tensor) -> Tensor:
    """The nearest code among those whose score is within `bound` of the best one, by differences in float64."""
    exact = exact_dtype(latents.device)
    row, code = (scores >= scores.amax(1, keepdim=True) - bound[:, None]).nonzero(as_tuple=True)
    distances = torch.full(scores.shape, torch.inf, dtype=exact, device=scores.device)
    chunk = max(1, PAIRS_AT_ONCE // latents.shape[1])
    for i, j in zip(row.split(chunk), code.split(chunk), strict=True):
        distances[i, j] = (latents[i].to(exact) - codebook[j].to(exact)).square().sum(1)
    return distances.argmin(1)


# ---- All processes as one --------------------------------------------------------------------------------------------


def world_size() -> int:
    """Processes that train together, asked when it matters: a model may be older than its process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


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
    rank = dist.get_rank() if len(sizes) > 1 else 0
    sizes[rank] = rows.shape[0]
    sum_over_processes(sizes)
    return sizes[:rank].sum(), sizes.sum()


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


def count_codes(codes: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """How often each of `size` codes occurs: (N,) -> (K,). `bincount` would break a compiled graph."""
    ones = torch.ones(codes.numel(), dtype=dtype, device=codes.device)
    return torch.zeros(size, dtype=dtype, device=codes.device).index_add_(0, codes.flatten(), ones)


def code_statistics(latents: Tensor, codes: Tensor, size: int) -> Tensor:
    """[counts | sums] of the vectors that chose each code, packed so that one all-reduce shares them: (K, 1 + D)."""
    counted = F.pad(latents, (1, 0), value=1.0)
    return counted.new_zeros(size, counted.shape[1]).index_add_(0, codes, counted)


def perplexity_and_usage(counts: Tensor) -> tuple[Tensor, Tensor]:
    """exp(entropy of the codes' frequencies) in [1, K], and the fraction of codes that occur: (K,) -> two 0-dim."""
    frequency = counts / counts.sum()
    return torch.special.entr(frequency).sum().exp(), (counts > 0).to(counts.dtype).mean()


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
        lost = (counts == 0).squeeze(1)
        means[lost] = far[: int(lost.sum())]
        centroids = F.normalize(means, dim=1) if unit_norm else means
    return centroids, count_codes(nearest_codes(rows, centroids), size, rows.dtype)


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
