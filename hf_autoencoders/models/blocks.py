# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Encoders and decoders: `mlp` and `conv` here, `resnet` and `dalle` next door, all four in the table BACKBONES.

    encoder = Encoder(config, out_channels)                # (B, C, H, W) -> (B, out_channels, h, w); mlp: h = w = 1
    decoder = Decoder(config, in_channels, out_channels)   # (B, in_channels, h, w) -> (B, out_channels, H, W)

`encoder.input_layer` names the layer that pixels enter first. `decoder.output_layer` is the last linear map, whose bias
is what the decoder says before it has seen any data.
Letters: B batch, C channels, H W pixels, h w latent grid.
"""

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from .blocks_dalle import DalleConv2d, DalleDecoder, DalleEncoder
from .blocks_dalle_pytorch import DallePytorchDecoder, DallePytorchEncoder
from .blocks_resnet import GroupNorm, ResnetDecoder, ResnetEncoder
from .cpu_products import linear_map
from .pointwise import PointwiseConv2d, PointwiseLinear


class MLPLinear(nn.Linear):
    """A linear map; its own class because it starts from Glorot's uniform distribution and zero bias."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return linear_map(hidden_states, self.weight, self.bias)


class MLPInputLayer(nn.Module):
    """act(W x + b) of the pixels. Never checkpointed: the reentrant kind of checkpointing gives a layer's weights a
    gradient only if the layer's input needs one, and pixels need none."""

    def __init__(self, config, in_features: int, out_features: int):
        super().__init__()
        self.linear = MLPLinear(in_features, out_features)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.activation(self.linear(hidden_states))


class MLPLayer(GradientCheckpointingLayer, MLPInputLayer):
    """act(W x + b)."""


class MLPEncoder(nn.Module):
    """(B, C, H, W) -> (B, out_channels, 1, 1): fully connected, 784-512-256-z in the papers on AE and VAE.

    Its weights see pixels in [0, 1], as in those papers: a black background, which is most of MNIST, is 0 and moves no
    weight. With -1 a VAE's bound was 2.5 nats worse after 20 epochs.
    """

    input_layer = "layers.0.linear"

    def __init__(self, config, out_channels: int):
        super().__init__()
        widths = [config.num_channels * config.height * config.width, *config.hidden_sizes]
        kinds = [MLPInputLayer, *[MLPLayer] * len(widths)]
        self.layers = nn.ModuleList(kind(config, *pair) for kind, pair in zip(kinds, pairwise(widths), strict=False))
        self.out = MLPLinear(widths[-1], out_channels)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden_states = (pixel_values.flatten(1) + 1) / 2  # (B, C*H*W) in [0, 1]
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return self.out(hidden_states)[:, :, None, None]  # (B, out_channels, 1, 1)


class MLPDecoder(nn.Module):
    """(B, in_channels, 1, 1) -> (B, out_channels, H, W): the encoder mirrored."""

    def __init__(self, config, in_channels: int, out_channels: int):
        super().__init__()
        self.output_shape = (out_channels, config.height, config.width)
        widths = [in_channels, *reversed(config.hidden_sizes)]
        self.layers = nn.ModuleList(MLPLayer(config, *pair) for pair in pairwise(widths))
        self.out = MLPLinear(widths[-1], math.prod(self.output_shape))

    @property
    def output_layer(self) -> nn.Module:
        return self.out

    def forward(self, latents: Tensor) -> Tensor:
        hidden_states = latents.flatten(1)  # (B, in_channels)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return self.out(hidden_states).unflatten(1, self.output_shape)  # (B, out_channels, H, W)


class ResidualLayer(GradientCheckpointingLayer):
    """x + conv1(relu(conv3(relu(x)))), `residual_channels` wide inside (van den Oord et al. 2017, section 4.1).

    In the style `inplace_relu` the first term is relu(x), too: there the ReLU overwrites what is added later.
    """

    def __init__(self, config, channels: int):
        super().__init__()
        self.adds_to_relu = config.conv_style == "inplace_relu"
        self.conv1 = nn.Conv2d(channels, config.residual_channels, 3, padding=1)
        self.conv2 = PointwiseConv2d(config.residual_channels, channels, 1)

    def forward(self, hidden_states: Tensor) -> Tensor:
        rectified = F.relu(hidden_states)
        skip = rectified if self.adds_to_relu else hidden_states
        return skip + self.conv2(F.relu(self.conv1(rectified)))


class ResidualStack(nn.Module):
    """`layers_per_block` residual layers and a last relu."""

    def __init__(self, config, channels: int):
        super().__init__()
        self.layers = nn.ModuleList(ResidualLayer(config, channels) for _ in range(config.layers_per_block))

    def forward(self, hidden_states: Tensor) -> Tensor:
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return F.relu(hidden_states)


def strided_widths(config) -> list[int]:
    """Widths of the strided convolutions, finest first. Raises ValueError if there are none."""
    if len(config.block_out_channels) < 2:
        raise ValueError(
            f"`block_out_channels` needs at least two entries for the conv backbone (one more than its stride-2 "
            f"layers, of which the last makes the image), got {tuple(config.block_out_channels)}."
        )
    return list(config.block_out_channels[:-1])


class ConvEncoder(nn.Module):
    """(B, C, H, W) -> (B, out_channels, h, w): the net of the VQ-VAE paper, as in sonnet's nets/vqvae.py."""

    input_layer = "downsamplers.0"

    def __init__(self, config, out_channels: int):
        super().__init__()
        widths, width = strided_widths(config), config.block_out_channels[-1]
        pairs = pairwise([config.num_channels, *widths])
        self.downsamplers = nn.ModuleList(nn.Conv2d(*pair, 4, stride=2, padding=1) for pair in pairs)
        self.conv_in = nn.Conv2d(widths[-1], width, 3, padding=1)
        self.residual_stack = ResidualStack(config, width)
        self.conv_out = PointwiseConv2d(width, out_channels, 1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden_states = pixel_values
        for downsampler in self.downsamplers:
            hidden_states = F.relu(downsampler(hidden_states))
        hidden_states = F.relu(self.conv_in(hidden_states))  # (B, block_out_channels[-1], h, w)
        return self.conv_out(self.residual_stack(hidden_states))


class ConvDecoder(nn.Module):
    """(B, in_channels, h, w) -> (B, out_channels, H, W): the encoder mirrored, without a last relu."""

    def __init__(self, config, in_channels: int, out_channels: int):
        super().__init__()
        widths, width = strided_widths(config), config.block_out_channels[-1]
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.residual_stack = ResidualStack(config, width)
        pairs = pairwise([width, *reversed(widths[:-1]), out_channels])
        self.upsamplers = nn.ModuleList(nn.ConvTranspose2d(*pair, 4, stride=2, padding=1) for pair in pairs)

    @property
    def output_layer(self) -> nn.Module:
        return self.upsamplers[-1]

    def forward(self, latents: Tensor) -> Tensor:
        hidden_states = self.residual_stack(self.conv_in(latents))  # (B, block_out_channels[-1], h, w)
        for upsampler in self.upsamplers[:-1]:
            hidden_states = F.relu(upsampler(hidden_states))
        return self.upsamplers[-1](hidden_states)  # (B, out_channels, H, W)


BACKBONES: dict[str, tuple[type[nn.Module], type[nn.Module]]] = {
    "mlp": (MLPEncoder, MLPDecoder),
    "conv": (ConvEncoder, ConvDecoder),
    "resnet": (ResnetEncoder, ResnetDecoder),
    "dalle": (DalleEncoder, DalleDecoder),
}


def backbone_of(config) -> tuple[type[nn.Module], type[nn.Module]]:
    """The classes of encoder and decoder that the config names."""
    if config.backbone == "conv" and config.conv_style == "dalle_pytorch":
        return DallePytorchEncoder, DallePytorchDecoder
    return BACKBONES[config.backbone]


def glorot_uniform_(module: nn.Module) -> None:
    """U(+-sqrt(6 / (fan_in + fan_out))), zero bias (Glorot & Bengio 2010, equation 16)."""
    init.xavier_uniform_(module.weight)
    init.zeros_(module.bias)


def dalle_normal_(module: nn.Module) -> None:
    """N(0, 1 / fan_in), zero bias (dall_e/utils.py)."""
    init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    init.zeros_(module.bias)


def torch_default_(module: nn.Module) -> None:
    """What torch gives convolutions and linear maps: weight and bias U(+-1 / sqrt(fan_in)).

    As in torch, fan_in counts the second axis of the weight, which in a transposed convolution is its output.
    """
    init.kaiming_uniform_(module.weight, a=math.sqrt(5))
    bound = module.weight[0].numel() ** -0.5
    init.uniform_(module.bias, -bound, bound)


def identity_norm_(module: nn.Module) -> None:
    init.ones_(module.weight)
    init.zeros_(module.bias)


INITIALIZERS = {
    MLPLinear: glorot_uniform_,
    DalleConv2d: dalle_normal_,
    nn.Conv2d: torch_default_,
    PointwiseConv2d: torch_default_,
    nn.ConvTranspose2d: torch_default_,
    nn.Linear: torch_default_,
    PointwiseLinear: torch_default_,
    GroupNorm: identity_norm_,
}


def initialize(module: nn.Module) -> bool:
    """Give one module its starting values; False if its class is none of ours.

    Looks at the exact class: a subclass made elsewhere has reasons of its own.  Tensors that a checkpoint has filled
    stay as they are (transformers.initialization sees to it).
    """
    initializer = INITIALIZERS.get(type(module))
    if initializer is None:
        return False
    initializer(module)
    return True
