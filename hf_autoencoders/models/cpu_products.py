# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The fastest float32 product of this CPU, found by measuring, once for each class of shapes.

torch multiplies float32 matrices by MKL, which keeps its AVX-512 code for Intel's CPUs: one core of an AMD EPYC gets
75 to 100 GFLOP/s from it, and 170 to 210 from oneDNN, which torch has for convolutions. Which one is asked may change
the last bits of a product, so it serves only where no result hangs on them.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .precision import may_be_read


Product = Callable[[Tensor, Tensor, Tensor], Tensor]

WORTH_MEASURING = 2**24  # multiplications; fewer take less than a millisecond
ROUNDS = 3
CLEARLY = 0.9  # of torch's own time: what is nearer may be noise

chosen: dict[tuple[int, ...], Product] = {}  # of a class of shapes


def by_torch(offsets: Tensor, rows: Tensor, codes: Tensor) -> Tensor:
    return torch.addmm(offsets, rows, codes.t())


def by_onednn(offsets: Tensor, rows: Tensor, codes: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows, codes, offsets, "none", [], "")


def has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def fastest_product(rows: Tensor, codes: Tensor) -> Product:
    """Of ``offsets + rows @ codes.T``, (K,), (N, D), (K, D) -> (N, K), of tensors as large as these."""
    work = rows.numel() * codes.shape[0]
    if rows.dtype != torch.float32 or work < WORTH_MEASURING or not has_onednn():
        return by_torch
    shapes = tuple(size.bit_length() for size in (*rows.shape, codes.shape[0]))
    key = (torch.get_num_threads(), *shapes)
    if key not in chosen:
        ours, theirs = shortest_times([by_onednn, by_torch], rows, codes)
        chosen[key] = by_onednn if ours < CLEARLY * theirs else by_torch
    return chosen[key]


def shortest_times(products: list[Product], rows: Tensor, codes: Tensor) -> list[float]:
    """Seconds of each, after a round to warm up; in turns, so that a busy machine slows them alike."""
    offsets, times = codes[:, 0].contiguous(), [[] for _ in products]
    for _ in range(ROUNDS + 1):
        for product, taken in zip(products, times, strict=True):
            start = time.perf_counter()
            product(offsets, rows, codes)
            taken.append(time.perf_counter() - start)
    return [min(taken[1:]) for taken in times]


class FastestLinearMaps(TorchFunctionMode):
    """Inside of this context, linear layers of which no gradient is asked take the fastest product.

    >>> with torch.no_grad(), FastestLinearMaps():
    ...     torch.nn.Linear(2, 3)(torch.zeros(4, 2)).shape
    torch.Size([4, 3])
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.linear and not kwargs and may_choose(*args):
            rows, weight, bias = args
            return fastest_product(rows, weight)(bias, rows, weight)
        return function(*args, **(kwargs or {}))


def may_choose(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether this linear map is a product of which only the value counts: on a CPU, no gradient, no 16 bits."""
    if bias is None or rows.dim() != 2 or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    return rows.device.type == "cpu" and rows.dtype == weight.dtype == bias.dtype and may_be_read(rows)
