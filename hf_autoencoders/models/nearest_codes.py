# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Which code is nearest: one function for every quantizer.

Letters in shapes: N vectors, D their width, K codes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .cpu_products import fastest_product
from .precision import exact_dtype, float32_island, may_be_read


TILE = 128  # codes whose scores are reduced together: amax over 128 is 9 times as fast as argmax over 8192 (CPU)
SCORES_AT_ONCE = 2**21  # entries of one block, 8 MiB: half or twice of it costs 6 to 90 % in some shape (CPU)
SHARE_OF_MEMORY = 64  # an accelerator may use 1/64 of its memory for one block: 1.2 GiB of 80
# Codes of which scores are made together, below 32 MiB a block: glibc gives larger blocks back to the system each time.
CODES_AT_ONCE = 2**16
LEAST_ROWS = 64  # of a block, however many codes: with fewer, reading the codebook costs more than the product
PAIRS_AT_ONCE = 2**20  # float64 entries of one chunk of exact distances


def nearest_codes(latents: Tensor, codebook: Tensor) -> Tensor:
    """For each vector the index of the code at the smallest Euclidean distance: (..., D), (K, D) -> (...) int64.

    ``argmin |z - e|^2 = argmax (z - c) (e - c)^T - |e - c|^2 / 2`` for any c. With the codebook's mean as c,
    an offset that all vectors share costs no digits. Scores are made for a block of rows at a time, never for N x K.
    float64 inputs are compared in float64, narrower ones in float32. A vector that is not finite gets some valid code.
    No gradient.

    On the CPU, rows whose two best scores are closer than rounding can tell apart are decided again by float64
    distances; exact ties go to the lowest index. Which rows these are has to be read from the device. That would stop
    an accelerator's queue, and a graph (compile, export, vmap) cannot do it: there, the best five codes of every row
    are compared by float64 distances. Both agree unless more than five codes lie within the rounding of one score.
    """
    if latents.ndim < 2 or codebook.ndim != 2 or latents.shape[-1] != codebook.shape[1]:
        raise ValueError(f"expected (..., D) latents and a (K, D) codebook, got {latents.shape} and {codebook.shape}.")
    dtype = torch.promote_types(torch.promote_types(latents.dtype, codebook.dtype), torch.float32)
    codebook = codebook.detach().to(latents.device, dtype)
    rows = latents.detach().to(dtype).flatten(0, -2)  # (N, D)
    with float32_island(latents), torch.no_grad():
        readable = may_be_read(latents)
        if readable and reads_are_free(latents):
            codes = _nearest_on_cpu(rows, codebook)
        elif readable:
            blocks = rows.split(rows_at_once(codebook, scores_at_once(rows)))
            codes = torch.cat([_nearest_of_five(block, codebook) for block in blocks])
        else:
            codes = _nearest_of_five(rows, codebook)
        return codes.reshape(latents.shape[:-1])


def reads_are_free(tensor: Tensor) -> bool:
    """Whether a value can be read without waiting for a queue of work: on the CPU."""
    return tensor.device.type == "cpu"


def scores_at_once(rows: Tensor) -> int:
    """Entries of one block of scores: what a CPU's cache likes, or a share of an accelerator's memory."""
    accelerator = getattr(torch, rows.device.type, None)
    if rows.device.type == "cpu" or not hasattr(accelerator, "get_device_properties"):
        return SCORES_AT_ONCE
    memory = accelerator.get_device_properties(rows.device).total_memory
    return max(SCORES_AT_ONCE, memory // (SHARE_OF_MEMORY * rows.element_size()))


def rows_at_once(codebook: Tensor, scores: int) -> int:
    return max(LEAST_ROWS, scores // codebook.shape[0])


def _nearest_of_five(rows: Tensor, codebook: Tensor) -> Tensor:
    """(N, D), (K, D) -> (N,): the best four scores, and the first of all best ones, compared by exact distances."""
    centre = codebook.mean(0)
    centred = codebook - centre
    scores = torch.addmm(-centred.square().sum(1) / 2, rows - centre, centred.t())  # (N, K)
    candidates = torch.cat([scores.argmax(1, keepdim=True), _best_four(scores)], dim=1).sort(dim=1).values
    exact = exact_dtype(rows.device)
    distances = (rows[:, None].to(exact) - codebook[candidates].to(exact)).square().sum(2)  # (N, 5)
    return candidates.gather(1, distances.argmin(1, keepdim=True)).squeeze(1)


def _best_four(scores: Tensor) -> Tensor:
    """Indices of the four largest of each row: (N, K) -> (N, 4); of many codes, by way of the four best tiles."""
    size = scores.shape[1]
    if size < 8 * TILE:
        return scores.topk(min(4, size), dim=1).indices
    tiles = F.pad(scores, (0, -size % TILE), value=-torch.inf).unflatten(1, (-1, TILE))  # (N, tiles, TILE)
    best_tiles = tiles.amax(2).topk(4, dim=1).indices  # (N, 4)
    inside = tiles.gather(1, best_tiles[:, :, None].expand(-1, -1, TILE)).flatten(1)  # (N, 4 TILE)
    best = inside.topk(4, dim=1).indices
    codes = best_tiles.gather(1, best // TILE) * TILE + best % TILE
    return codes.clamp(max=size - 1)  # a row of NaN may point into the padding


def _nearest_on_cpu(latents: Tensor, codebook: Tensor) -> Tensor:
    size = codebook.shape[0]
    centre = codebook.mean(0)
    tile = min(TILE, max(size, 2))
    centred = F.pad(codebook - centre, (0, 0, 0, -size % tile))
    offsets = centred.square().sum(1) / -2
    longest = (-2 * offsets.min()).sqrt()
    offsets[size:] = -torch.inf  # the padding is never nearest

    # A score's error is below (D + 4) roundings of its terms (Higham, Accuracy and Stability, 3.1); two scores differ.
    roundoff = (latents.shape[1] + 4) * torch.finfo(latents.dtype).eps
    codes, margins, reaches = _screen(latents, centre, centred, offsets, tile)
    in_doubt = margins <= roundoff * (reaches + longest / 2) * longest
    product = fastest_product(latents[:LEAST_ROWS], centred)
    doubtful = in_doubt.nonzero().squeeze(1)
    for rows_left in doubtful.split(LEAST_ROWS):
        block = latents[rows_left]
        scores = product(offsets, block - centre, centred)
        bound = roundoff * ((block - centre).norm(dim=1) + longest / 2) * longest
        codes[rows_left] = _nearest_exactly(block, codebook, scores[:, :size], bound)
    return codes.clamp_(max=size - 1)  # a row of NaN may point into the padding


def _screen(latents: Tensor, centre: Tensor, centred: Tensor, offsets: Tensor, tile: int) -> tuple[Tensor, ...]:
    """For each row the code of the best score, its margin over the second best, and the row's length from the centre.

    Part after part of the codes, so that the scores of a block stay small however many codes there are.
    """
    count, at_once = len(latents), CODES_AT_ONCE // tile * tile
    codes = latents.new_zeros(count, dtype=torch.int64)
    best, second = (latents.new_full((count,), -torch.inf) for _ in range(2))
    lengths = latents.new_empty(count)
    for first in range(0, len(centred), at_once):
        part, part_offsets = centred[first : first + at_once], offsets[first : first + at_once]
        rows = rows_at_once(part, SCORES_AT_ONCE)
        product = fastest_product(latents[:rows], part)
        for start in range(0, count, rows):
            block, here = latents[start : start + rows] - centre, slice(start, start + rows)
            code, top, runner_up = _best_two(product(part_offsets, block, part), tile)
            second[here] = torch.maximum(torch.maximum(second[here], runner_up), torch.minimum(best[here], top))
            codes[here] = torch.where(top > best[here], first + code, codes[here])
            best[here] = torch.maximum(best[here], top)
            lengths[here] = block.norm(dim=1)
    return codes, best - second, lengths


def _best_two(scores: Tensor, tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each row: the index of the largest score, this score, and the second largest."""
    tiles = scores.unflatten(1, (-1, tile))  # (rows, tiles, tile)
    tops = tiles.amax(2)
    best_tile = tops.argmax(1)
    row = torch.arange(len(scores), device=scores.device)
    inside = tiles[row, best_tile]  # (rows, tile), a copy
    best, index = inside.max(1)
    others = inside.scatter_(1, index[:, None], -torch.inf).amax(1)  # both in a third of the time of topk(2)
    runner_up = tops.index_put((row, best_tile), others).amax(1)
    return best_tile * tile + index, best, runner_up


def _nearest_exactly(latents: Tensor, codebook: Tensor, scores: Tensor, bound: Tensor) -> Tensor:
    """The nearest code among those whose score is within `bound` of the best one, by differences in float64."""
    row, code = (scores >= scores.amax(1, keepdim=True) - bound[:, None]).nonzero(as_tuple=True)
    distances = torch.full(scores.shape, torch.inf, dtype=torch.float64, device=scores.device)
    chunk = max(1, PAIRS_AT_ONCE // latents.shape[1])
    for i, j in zip(row.split(chunk), code.split(chunk), strict=True):
        distances[i, j] = (latents[i].double() - codebook[j].double()).square().sum(1)
    return distances.argmin(1)
