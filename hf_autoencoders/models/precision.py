# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""In which precision things are computed: at least float32, whatever autocast or TF32 would like."""

import contextlib

import torch
from torch import Tensor


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
