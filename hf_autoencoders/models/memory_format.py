# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""In which order a net's activations lie in memory: channels last where its convolutions are faster so.

Only the order changes, not the values: pixels and latents enter a net through `as_net_computes` and leave it through
`contiguous`, so that callers, weights, files and optimizers never see another order.
"""

import torch
from torch import Tensor

from .precision import may_be_read


NOT_CONVOLUTIONAL = ("mlp",)
# The gradient of GroupNorm costs up to 7 times as much with channels last on a CPU, more than the convolutions gain.
NORMALISES_GROUPS = ("resnet",)
# A CPU gains little at smaller pictures, and their last bits stay those of other packages' nets with the same weights.
LEAST_PIXELS = 64 * 64


def as_net_computes(values: Tensor, backbone: str, training: bool, stride: int = 1) -> Tensor:
    """(B, C, H, W), in the order in memory in which the `backbone` is fastest. A graph that is recorded keeps its own:
    compilers choose for themselves.

    Args:
        stride: pixels of the picture along a side for each position of `values`; 1 for pixels.
    """
    pixels = values.shape[2] * values.shape[3] * stride**2
    slower_on_cpu = pixels < LEAST_PIXELS or (training and backbone in NORMALISES_GROUPS)
    slower = backbone in NOT_CONVOLUTIONAL or (slower_on_cpu and is_on_cpu(values))
    return values if slower or not may_be_read(values) else with_channels_last(values)


def with_channels_last(values: Tensor) -> Tensor:
    """Of one channel both orders are the same memory; the strides returned say channels last all the same."""
    if values.shape[1] == 1:
        return values.squeeze(1).unsqueeze(3).permute(0, 3, 1, 2)
    return values.contiguous(memory_format=torch.channels_last)


def has_channels_last(values: Tensor) -> bool:
    """Whether the order is channels last, and not the other one, too."""
    return values.is_contiguous(memory_format=torch.channels_last) and not values.is_contiguous()


def is_on_cpu(values: Tensor) -> bool:
    return values.device.type == "cpu"
