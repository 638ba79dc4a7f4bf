# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The `conv` backbone in the style `dalle_pytorch`: the net of DALLE-pytorch's DiscreteVAE.

One width in all layers, residual blocks of three convolutions, a 1x1 convolution last.  Where there are residual
blocks, the decoder begins with a 1x1 convolution of the code vectors.
Letters: B batch, C channels, H W pixels, h w latent grid.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .pointwise import PointwiseConv2d


class PlainResidualLayer(GradientCheckpointingLayer):
    """x + conv1(relu(conv3(relu(conv3(x)))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            PointwiseConv2d(channels, channels, 1),
        )

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states + self.net(hidden_states)


class DallePytorchEncoder(nn.Module):
    """(B, C, H, W) -> (B, out_channels, h, w)."""

    input_layer = "downsamplers.0"

    def __init__(self, config, out_channels: int):
        super().__init__()
        width, levels = config.block_out_channels[-1], len(config.block_out_channels) - 1
        inputs = [config.num_channels] + [width] * (levels - 1)
        self.downsamplers = nn.ModuleList(nn.Conv2d(channels, width, 4, stride=2, padding=1) for channels in inputs)
        self.layers = nn.ModuleList(PlainResidualLayer(width) for _ in range(config.layers_per_block))
        self.conv_out = PointwiseConv2d(width, out_channels, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden_states = pixel_values
        for downsampler in self.downsamplers:
            hidden_states = F.relu(downsampler(hidden_states))
        for layer in self.layers:
            hidden_states = layer(hidden_states)  # (B, width, h, w)
        return self.conv_out(hidden_states)


class DallePytorchDecoder(nn.Module):
    """(B, in_channels, h, w) -> (B, out_channels, H, W): the encoder mirrored."""

    def __init__(self, config, in_channels: int, out_channels: int):
        super().__init__()
        width, levels = config.block_out_channels[-1], len(config.block_out_channels) - 1
        self.conv_in = PointwiseConv2d(in_channels, width, 1) if config.layers_per_block else None
        self.layers = nn.ModuleList(PlainResidualLayer(width) for _ in range(config.layers_per_block))
        inputs = [width if config.layers_per_block else in_channels] + [width] * (levels - 1)
        self.upsamplers = nn.ModuleList(
            nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1) for channels in inputs
        )
        self.conv_out = PointwiseConv2d(width, out_channels, 1)

    @property
    def output_layer(self) -> nn.Module:
        return self.conv_out

    def forward(self, latents: Tensor) -> Tensor:
        hidden_states = latents if self.conv_in is None else self.conv_in(latents)
        for layer in self.layers:
            hidden_states = layer(hidden_states)  # (B, width, h, w)
        for upsampler in self.upsamplers:
            hidden_states = F.relu(upsampler(hidden_states))
        return self.conv_out(hidden_states)  # (B, out_channels, H, W)
