# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The fastest float32 product of this CPU: known, or measured once for each class of shapes.

torch multiplies float32 matrices by MKL, which keeps its AVX-512 code for Intel's CPUs: one core of an AMD EPYC gets
75 to 100 GFLOP/s from it, and 170 to 210 from oneDNN, which torch has for convolutions. Which one is asked may change
the last bits of a product: where results hang on them, as in a linear layer, the choice follows from the CPU and the
shapes alone, so that a run and its continuation choose alike.
"""

import functools
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import is_transformed, may_be_read


Product = Callable[[Tensor, Tensor, Tensor], Tensor]

WORTH_MEASURING = 2**24  # multiplications; fewer take less than a millisecond
ROUNDS = 3
CLEARLY = 0.9  # of torch's own time: what is nearer may be noise

WORTH_ANOTHER_LIBRARY = 2**22  # multiplications of a linear layer: 0.1 ms

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
    if mkl_is_slow():  # measured on a busy machine, the slower one was chosen now and then
        return by_onednn
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


# -- linear layers -----------------------------------------------------------------------------------------------------


def linear_map(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``rows @ weight.T + bias``, (N, I), (O, I), (O,) -> (N, O), with its gradients, by the faster library."""
    if onednn_suits(rows, weight, bias):
        return OneDNNLinearMap.apply(rows, weight, bias)
    return F.linear(rows, weight, bias)


def onednn_suits(rows: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether oneDNN takes these tensors, and is faster than MKL here. False in graphs that are recorded."""
    if torch.compiler.is_compiling() or rows.dim() != 2 or not mkl_is_slow():
        return False
    if len(rows) * weight.numel() < WORTH_ANOTHER_LIBRARY or torch.is_autocast_enabled("cpu"):
        return False
    return may_be_read(rows) and all(is_plain(tensor) for tensor in (rows, weight, bias))


def is_plain(tensor: Tensor) -> bool:
    """A float32 tensor of a CPU: no shard, no stand-in, not inside torch.func's transforms."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not is_transformed(tensor)
    return plain and tensor.dtype == torch.float32 and tensor.device.type == "cpu"


@functools.cache
def mkl_is_slow() -> bool:
    """Whether this CPU has AVX-512, is AMD's, and so gets older code from MKL: half of oneDNN's speed was measured."""
    return has_onednn() and torch.backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in name_of_cpu()


def name_of_cpu() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()[:1000]
    except OSError:
        return platform.processor()


class OneDNNLinearMap(torch.autograd.Function):
    """A linear map whose products, forward and backward, are oneDNN's."""

    @staticmethod
    def forward(ctx, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return by_onednn(bias, rows, weight)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        times = torch.mm if torch.is_grad_enabled() else product_by_onednn  # gradients of gradients are torch's
        return (
            times(gradient, weight) if of_rows else None,
            times(gradient.t(), rows) if of_weight else None,
            gradient.sum(0) if of_bias else None,
        )


def product_by_onednn(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, of matrices in any order in memory."""
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")


# -- attention ---------------------------------------------------------------------------------------------------------

MOST_SCORES = 2**22  # of a picture that are held at once: 16 MB, those of 2048 positions


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(C)) v of one head, all (B, N, C)."""
    if may_be_read(query) and is_faster_by_onednn(query, key, value):
        return torch.stack([attention_by_onednn(*of_one) for of_one in zip(query, key, value, strict=True)])
    return F.scaled_dot_product_attention(*(tensor.unsqueeze(1) for tensor in (query, key, value))).squeeze(1)


def is_faster_by_onednn(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether oneDNN's two products were measured to take less time; they have no gradient here."""
    if torch.is_grad_enabled() or len(query) == 0 or query.shape[1] * key.shape[1] > MOST_SCORES:
        return False
    return onednn_suits(query[0], key[0], value[0])


def attention_by_onednn(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """`attention` of one picture, all (N, C)."""
    scores = product_by_onednn(query * query.shape[1] ** -0.5, key.t())  # (N, N)
    return product_by_onednn(scores.softmax(1), value)
