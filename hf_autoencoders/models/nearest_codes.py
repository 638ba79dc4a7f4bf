# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Which code is nearest: one function for every quantizer.

Letters in shapes: N vectors, D their width, K codes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import exact_dtype, float32_island, product_roundoff


TILE = 128  # codes whose scores are reduced together: amax over 128 is 9 times as fast as argmax over 8192 (CPU)
SCORES_AT_ONCE = 2**22  # entries of one block, 16 MiB: half of it costs 6 %, twice of it gains nothing (CPU)
LEAST_ROWS = 64  # of a block, however many codes: with fewer, reading the codebook costs more than the product
PAIRS_AT_ONCE = 2**20  # float64 entries of one chunk of exact distances


def nearest_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """For each vector the index of the code at the smallest Euclidean distance: (..., D), (K, D) -> (...) int64.

    argmin |z - e|^2 = argmax (z - c) (e - c)^T - |e - c|^2 / 2 for any c; the codebook's mean as c keeps an offset
    that all share out of the rounding. Scores are made for a block of rows at a time, never for N x K. Rows whose two
    best scores are closer than rounding can tell apart are decided again by float64 distances; exact ties go to the
    lowest index. float64 inputs are compared in float64, narrower ones in float32. No gradient.

    Inside `torch.compile`, `torch.export` and `torch.jit.trace`, where control flow may not depend on data, the
    scores of all rows are made at once (N x K), and the best four of each row are compared exactly.
    """
    if latents.ndim < 2 or codebook.ndim != 2 or latents.shape[-1] != codebook.shape[1]:
        raise ValueError(f"expected (..., D) latents and a (K, D) codebook, got {latents.shape} and {codebook.shape}.")
    if latents.is_meta:
        return latents.new_empty(latents.shape[:-1], dtype=torch.int64)
    dtype = torch.promote_types(torch.promote_types(latents.dtype, codebook.dtype), torch.float32)
    shape, codebook = latents.shape[:-1], codebook.detach().to(latents.device, dtype)
    rows = latents.detach().to(dtype).flatten(0, -2)  # (N, D)
    with float32_island(latents), torch.no_grad():
        one_graph = torch.compiler.is_compiling() or torch.jit.is_tracing()
        return (_nearest_of_four if one_graph else _nearest_in_blocks)(rows, codebook).view(shape)


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
