# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""In which precision things are computed, and which tensors hold values that Python may look at."""

import contextlib

import torch
from torch import Tensor, nn
from transformers.utils import is_tracing


MATMUL_SETTINGS = {"cuda": torch.backends.cuda.matmul, "cpu": torch.backends.mkldnn.matmul}  # of float32 products


def float32_island(tensor: Tensor):
    """A context in which float32 products are float32: no autocast, no TF32.

    Under bfloat16 autocast a product picks a wrong code for up to 25 % of vectors. A compiled graph keeps TF32 where
    it is switched on: a graph cannot change that setting.
    """
    device = tensor.device.type
    if torch.compiler.is_compiling():
        return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()
    return _float32_island(device)


@contextlib.contextmanager
def _float32_island(device: str):
    """Reads `fp32_precision` only: the older `allow_tf32` raises once somebody has used this newer name."""
    matmul = MATMUL_SETTINGS.get(device)
    before = "none" if matmul is None else matmul.fp32_precision
    reduced = before not in ("none", "ieee")
    autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    if reduced:
        matmul.fp32_precision = "ieee"
    try:
        with torch.autocast(device, enabled=False) if autocast else contextlib.nullcontext():
            yield
    finally:
        if reduced:
            matmul.fp32_precision = before


def at_least_float32(tensor: Tensor) -> Tensor:
    """`tensor` itself in float32 and float64, a float32 copy of anything narrower."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def exact_dtype(device: torch.device) -> torch.dtype:
    """float64, except on Apple's GPUs, which have none."""
    return torch.float32 if device.type == "mps" else torch.float64


def compute_dtype(module: nn.Module, given: Tensor) -> torch.dtype:
    """The dtype in which a module computes: that of its parameters, unless these are only stored in 8 bits.

    Then it is what diffusers' `apply_layerwise_casting` was told, or that of the `given` input.
    """
    dtype = next(module.parameters()).dtype
    if dtype.is_floating_point and dtype.itemsize > 1:
        return dtype
    registries = (getattr(layer, "_diffusers_hook", None) for layer in module.modules())
    hooks = (registry.get_hook("layerwise_casting") for registry in registries if registry is not None)
    return next((hook.compute_dtype for hook in hooks if hook is not None), given.dtype)


def may_be_read(tensor: Tensor) -> bool:
    """False where no value can be looked at: on the meta device, while a graph is recorded (compile, export, trace,
    FakeTensorMode), and inside torch.func's transforms."""
    return not (torch.compiler.is_compiling() or tensor.is_meta or is_tracing(tensor) or is_transformed(tensor))


def is_transformed(tensor: Tensor) -> bool:
    """True inside torch.func's transforms such as vmap and grad."""
    return not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def is_batched(tensor: Tensor) -> bool:
    """True if the tensor is one of many that torch.func.vmap computes at once."""
    while is_transformed(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False
