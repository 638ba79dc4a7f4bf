# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The `resnet` backbone: the net of VQGAN and latent diffusion (Esser et al. 2021; Rombach et al. 2022).

Submodules carry the names that diffusers gives them in AutoencoderKL and VQModel, so that a state dict loads
there and here with strict=True and no key map.  Letters: B batch, C channels, H W pixels, h w latent grid.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .cpu_products import attention
from .memory_format import has_channels_last, is_on_cpu
from .pointwise import PointwiseConv2d, PointwiseLinear
from .precision import may_be_read


NORM_EPSILON = 1e-6  # of every GroupNorm, in taming, LDM and diffusers alike (torch's own default is 1e-5)


# A CPU's 16-bit kernel reads such groups number by number: 0.8 ms where float32 takes 0.15 ms with both conversions.
NARROW_GROUP, SMALL_MAP = 16, 1024  # channels, positions; from either of them on it is fast


class GroupNorm(nn.GroupNorm):
    """torch's; in float32 and back where its 16-bit kernel is slow. Both compute in float32 inside."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if not self.is_faster_in_float32(hidden_states):
            return super().forward(hidden_states)
        values, weight, bias = (tensor.float() for tensor in (hidden_states, self.weight, self.bias))
        return F.group_norm(values, self.num_groups, weight, bias, self.eps).to(hidden_states.dtype)

    def is_faster_in_float32(self, hidden_states: Tensor) -> bool:
        if torch.is_grad_enabled() or hidden_states.dtype.itemsize != 2 or not may_be_read(hidden_states):
            return False
        narrow = self.num_channels < NARROW_GROUP * self.num_groups
        small = hidden_states.shape[2] * hidden_states.shape[3] < SMALL_MAP
        return narrow and small and is_on_cpu(hidden_states) and has_channels_last(hidden_states)


def group_norm(config, channels: int) -> GroupNorm:
    """GroupNorm over `config.norm_num_groups` groups. Raises ValueError if they do not divide `channels`."""
    groups = config.norm_num_groups
    if channels % groups:
        raise ValueError(
            f"`norm_num_groups` must divide every width in `block_out_channels`, got {groups} groups for {channels} "
            f"channels: the resnet backbone normalises equal groups of channels."
        )
    return GroupNorm(groups, channels, eps=NORM_EPSILON)


class ResnetBlock(GradientCheckpointingLayer):
    """x + conv(silu(norm(conv(silu(norm(x)))))); a 1x1 convolution on the skip where the width changes."""

    def __init__(self, config, in_channels: int, out_channels: int):
        super().__init__()
        self.norm1 = group_norm(config, in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(config, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = PointwiseConv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        residual = self.conv1(F.silu(self.norm1(hidden_states)))
        residual = self.conv2(F.silu(self.norm2(residual)))
        if self.conv_shortcut is not None:
            hidden_states = self.conv_shortcut(hidden_states)
        return hidden_states + residual


class SpatialSelfAttention(GradientCheckpointingLayer):
    """One head of self-attention over the h*w positions, added to its input (Esser et al. 2021, `AttnBlock`)."""

    def __init__(self, config, channels: int):
        super().__init__()
        self.group_norm = group_norm(config, channels)
        self.to_q = PointwiseLinear(channels, channels)
        self.to_k = PointwiseLinear(channels, channels)
        self.to_v = PointwiseLinear(channels, channels)
        # A list, because diffusers keeps a dropout behind the map.
        self.to_out = nn.ModuleList([PointwiseLinear(channels, channels)])

    def forward(self, hidden_states: Tensor) -> Tensor:
        positions = self.group_norm(hidden_states).flatten(2).transpose(1, 2)  # (B, h*w, C)
        attended = attention(self.to_q(positions), self.to_k(positions), self.to_v(positions))  # (B, h*w, C)
        update = self.to_out[0](attended).transpose(1, 2)  # (B, C, h*w)
        return hidden_states + update.reshape_as(hidden_states)


class Downsample(nn.Module):
    """Halves height and width: 3x3 convolution of stride 2, padded by one zero to the right and below only."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.conv(F.pad(hidden_states, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles height and width: nearest neighbour, then a 3x3 convolution.

    Both are one linear map, a transposed convolution, whose 4x4 kernel of sums takes 16 products where they take 36.
    It is used where it was measured to be faster: on a CPU, forward and backward at 1.5 to 2 times the speed. In eval
    mode, small pictures (those that do not have their channels last) keep the last bits of other packages' nets.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, hidden_states: Tensor) -> Tensor:
        if (
            may_be_read(hidden_states)
            and is_on_cpu(hidden_states)
            and (self.training or has_channels_last(hidden_states))
            and is_worth_folding(self.conv, hidden_states)
        ):
            return F.conv_transpose2d(hidden_states, doubling_kernel(self.conv.weight), self.conv.bias, 2, padding=1)
        return self.conv(F.interpolate(hidden_states, scale_factor=2.0, mode="nearest"))


POSITIONS_WORTH_FOLDING = 1024  # of a batch; with 256 of them, summing the kernel costs what it saves


def is_worth_folding(conv: nn.Module, hidden_states: Tensor) -> bool:
    """Whether `conv` is no more than its weight and bias (no adapter, no hook of an offloading library), and the input
    (B, C, h, w) large enough."""
    hooks = conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks or conv._backward_pre_hooks
    is_plain = type(conv) is nn.Conv2d and "forward" not in vars(conv) and not hooks
    return is_plain and hidden_states.numel() >= POSITIONS_WORTH_FOLDING * hidden_states.shape[1]


def doubling_kernel(weight: Tensor) -> Tensor:
    """(out, in, 3, 3) -> (in, out, 4, 4): as a transposed convolution of stride 2 and padding 1 it does what `weight`
    does to an input whose pixels are doubled: each of them meets one or two neighbouring taps, which are added."""
    for axis in (2, 3):
        first, middle, last = weight.unbind(axis)
        weight = torch.stack([last, middle + last, first + middle, first], axis)
    return weight.transpose(0, 1)


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where `attend` says so."""

    def __init__(self, config, in_channels: int, out_channels: int, num_layers: int, attend: bool):
        super().__init__()
        widths = [in_channels] + [out_channels] * (num_layers - 1)
        self.resnets = nn.ModuleList(ResnetBlock(config, width, out_channels) for width in widths)
        self.attentions = nn.ModuleList(SpatialSelfAttention(config, out_channels) for _ in widths) if attend else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        for index, resnet in enumerate(self.resnets):
            hidden_states = resnet(hidden_states)
            if self.attentions is not None:
                hidden_states = self.attentions[index](hidden_states)
        return hidden_states


class DownLevel(Level):
    """A level of the encoder; halves the resolution at its end unless it is the `last`."""

    def __init__(self, config, in_channels: int, out_channels: int, attend: bool, last: bool):
        super().__init__(config, in_channels, out_channels, config.layers_per_block, attend)
        self.downsamplers = nn.ModuleList([] if last else [Downsample(out_channels)])

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = super().forward(hidden_states)
        for downsample in self.downsamplers:
            hidden_states = downsample(hidden_states)
        return hidden_states


class UpLevel(Level):
    """A level of the decoder, one residual block deeper than the encoder's; doubles the resolution unless `last`."""

    def __init__(self, config, in_channels: int, out_channels: int, attend: bool, last: bool):
        super().__init__(config, in_channels, out_channels, config.layers_per_block + 1, attend)
        self.upsamplers = nn.ModuleList([] if last else [Upsample(out_channels)])

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = super().forward(hidden_states)
        for upsample in self.upsamplers:
            hidden_states = upsample(hidden_states)
        return hidden_states


class MidBlock(nn.Module):
    """Resnet block, attention (if `config.mid_block_add_attention`), resnet block, at the coarsest resolution."""

    def __init__(self, config, channels: int):
        super().__init__()
        attends = config.mid_block_add_attention
        self.attentions = nn.ModuleList([SpatialSelfAttention(config, channels)] if attends else [])
        self.resnets = nn.ModuleList(ResnetBlock(config, channels, channels) for _ in range(2))

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.resnets[0](hidden_states)
        for attend in self.attentions:
            hidden_states = attend(hidden_states)
        return self.resnets[1](hidden_states)


def levels(config) -> list[tuple[int, bool]]:
    """Width and attention of each level, finest first. Raises ValueError for an attention level that does not exist."""
    count = len(config.block_out_channels)
    unknown = sorted(set(config.attention_levels) - set(range(count)))
    if unknown:
        raise ValueError(
            f"`attention_levels` must lie in 0..{count - 1} (0 = finest; `block_out_channels` has {count} levels), "
            f"got {unknown}."
        )
    return [(width, level in config.attention_levels) for level, width in enumerate(config.block_out_channels)]


class ResnetEncoder(nn.Module):
    """(B, C, H, W) -> (B, out_channels, h, w), h = H / 2**(levels - 1)."""

    input_layer = "conv_in"

    def __init__(self, config, out_channels: int):
        super().__init__()
        width = config.block_out_channels[0]
        self.conv_in = nn.Conv2d(config.num_channels, width, 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for index, (next_width, attend) in enumerate(levels(config), start=1):
            last = index == len(config.block_out_channels)
            self.down_blocks.append(DownLevel(config, width, next_width, attend, last))
            width = next_width
        self.mid_block = MidBlock(config, width)
        self.conv_norm_out = group_norm(config, width)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        hidden_states = self.conv_in(pixel_values)  # (B, block_out_channels[0], H, W)
        for down_block in self.down_blocks:
            hidden_states = down_block(hidden_states)
        hidden_states = self.mid_block(hidden_states)  # (B, block_out_channels[-1], h, w)
        return self.conv_out(F.silu(self.conv_norm_out(hidden_states)))


class ResnetDecoder(nn.Module):
    """(B, in_channels, h, w) -> (B, out_channels, H, W), H = h * 2**(levels - 1)."""

    def __init__(self, config, in_channels: int, out_channels: int):
        super().__init__()
        width = config.block_out_channels[-1]
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.mid_block = MidBlock(config, width)
        self.up_blocks = nn.ModuleList()
        for index, (next_width, attend) in enumerate(reversed(levels(config)), start=1):
            last = index == len(config.block_out_channels)
            self.up_blocks.append(UpLevel(config, width, next_width, attend, last))
            width = next_width
        self.conv_norm_out = group_norm(config, width)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    @property
    def output_layer(self) -> nn.Module:
        return self.conv_out

    def forward(self, latents: Tensor) -> Tensor:
        hidden_states = self.mid_block(self.conv_in(latents))  # (B, block_out_channels[-1], h, w)
        for up_block in self.up_blocks:
            hidden_states = up_block(hidden_states)
        return self.conv_out(F.silu(self.conv_norm_out(hidden_states)))  # (B, out_channels, H, W)
