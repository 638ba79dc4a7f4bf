# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""--compile: the forward and backward pass of a step as compiled kernels (torch.compile)."""

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn


def compile_step(accelerator: Accelerator, model: nn.Module) -> None:
    """Compiles `model` in place, before it is prepared: names, files and hooks stay as they are.

    The first step of each shape and mode takes as long as the compiler does.

    Raises:
        ValueError: this machine cannot compile, or the model will be sharded.
    """
    check_whole_model(accelerator.distributed_type)
    check_compiler(accelerator.device)
    model.compile()


def check_whole_model(kind: DistributedType) -> None:
    """Raises ValueError where the weights of a compiled step would be sharded: that was never tried."""
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        raise ValueError(f"--compile is for whole models, and {kind.value} shards them: leave it out, or use DDP.")


def check_compiler(device: torch.device) -> None:
    """Raises ValueError, in one line, where a compiled function of one addition does not run on `device`."""
    try:
        torch.compile(_add_one)(torch.zeros(2, device=device))
    except Exception as error:  # of torch's front end, of its code generator, or of the compiler of C++ or Triton
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"--compile needs a working compiler (C++ for a CPU, Triton for a GPU), and torch.compile failed: {reason} "
            "Without --compile the run computes the same, with other draws of noise."
        ) from error


def _add_one(x: torch.Tensor) -> torch.Tensor:
    return x + 1
