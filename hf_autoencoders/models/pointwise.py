# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Linear maps of each position, by the faster library: 1x1 convolutions, and the projections of attention.

On one thread torch gives float32 1x1 convolutions of fewer than 16 pictures to MKL (see `cpu_products`), and for those
with channels last it copies the weights at each call. Measured on one core of an AMD EPYC: 77 ms and 32 ms in bfloat16
for OpenAI's last layer, 2048 to 8192 channels at 14 x 14 positions; 30 ms and 15 ms as linear maps.
"""

import torch
from torch import Tensor, nn

from .cpu_products import linear_map, onednn_suits
from .memory_format import has_channels_last, is_on_cpu
from .precision import may_be_read


class PointwiseConv2d(nn.Conv2d):
    """A convolution of kernel size 1. Its arguments are torch's, since PEFT makes adapters of a layer's own class."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return pointwise_convolution(self, hidden_states)


class PointwiseLinear(nn.Linear):
    """A linear map of the last axis, with bias."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if may_be_read(hidden_states):
            rows = hidden_states.flatten(0, -2)
            if onednn_suits(rows, self.weight, self.bias):
                return linear_map(rows, self.weight, self.bias).unflatten(0, hidden_states.shape[:-1])
        return super().forward(hidden_states)


def pointwise_convolution(conv: nn.Conv2d, hidden_states: Tensor) -> Tensor:
    """What `conv`, of kernel size and stride 1, gives for (B, C, H, W)."""
    if may_be_read(hidden_states) and has_channels_last(hidden_states):
        positions = hidden_states.permute(0, 2, 3, 1)  # (B, H, W, C), not copied
        rows, weight = positions.flatten(0, 2), conv.weight.flatten(1)
        if is_faster_by_rows(rows, weight, conv.bias):
            return linear_map(rows, weight, conv.bias).unflatten(0, positions.shape[:3]).permute(0, 3, 1, 2)
    return nn.Conv2d.forward(conv, hidden_states)


def is_faster_by_rows(rows: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether `linear_map` was measured to be faster than torch's convolution for tensors like these."""
    if rows.dtype == torch.bfloat16:  # torch's own linear map of these is oneDNN's
        plain = is_on_cpu(rows) and weight.dtype == rows.dtype and not torch.is_autocast_enabled("cpu")
        return plain and not torch.is_grad_enabled() and len(rows) <= weight.shape[1]  # else the weights' copy is cheap
    return onednn_suits(rows, weight, bias)
