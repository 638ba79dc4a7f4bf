# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The `dalle` backbone: the net of OpenAI's discrete VAE (Ramesh et al. 2021; dall_e/encoder.py, decoder.py).

Submodules carry OpenAI's names (`blocks.group_1.block_1.res_path.conv_1`), with `weight` and `bias` for its `w`
and `b`.  The decoder starts after OpenAI's 1x1 input convolution: that one, applied to one-hot codes, is the codebook.
Letters: B batch, C channels, H W pixels, h w latent grid.
"""

from collections import OrderedDict

from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .pointwise import pointwise_convolution


class DalleConv2d(nn.Conv2d):
    """A convolution that keeps height and width; its own class because it starts from N(0, 1 / fan_in).

    Its other arguments are torch's, since PEFT makes adapters of a layer's own class.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size, stride=1, padding=None, **others):
        side = kernel_size if isinstance(kernel_size, int) else kernel_size[0]
        padding = (side - 1) // 2 if padding is None else padding
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, **others)

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.kernel_size == (1, 1):
            return pointwise_convolution(self, hidden_states)
        return super().forward(hidden_states)


class DalleBlock(GradientCheckpointingLayer):
    """id(x) + res(x) / num_layers**2: a bottleneck of four convolutions, a quarter as wide as its output.

    `kernel_sizes`: of the four convolutions. `num_layers`: blocks in the whole net; the post-gain 1 / num_layers**2
    keeps the sum of all residuals small at the start.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_sizes: tuple[int, ...], num_layers: int):
        super().__init__()
        if out_channels % 4:
            raise ValueError(
                f"`block_out_channels` must be multiples of 4 for the dalle backbone (its bottleneck is a quarter "
                f"as wide), got {out_channels}."
            )
        self.post_gain = 1 / num_layers**2
        self.id_path = DalleConv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        widths = [in_channels] + [out_channels // 4] * 3 + [out_channels]
        layers = OrderedDict()
        for index, kernel_size in enumerate(kernel_sizes):
            layers[f"relu_{index + 1}"] = nn.ReLU()
            layers[f"conv_{index + 1}"] = DalleConv2d(widths[index], widths[index + 1], kernel_size)
        self.res_path = nn.Sequential(layers)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.id_path(hidden_states) + self.post_gain * self.res_path(hidden_states)


def dalle_groups(config, in_channels: int, widths: list[int], kernel_sizes: tuple[int, ...], resize) -> OrderedDict:
    """`group_1`, `group_2`, ...: `layers_per_block` blocks of each width, `resize()` behind all groups but the last."""
    num_layers = len(widths) * config.layers_per_block
    groups = OrderedDict()
    for number, width in enumerate(widths, start=1):
        group = OrderedDict()
        for block in range(1, config.layers_per_block + 1):
            group[f"block_{block}"] = DalleBlock(in_channels, width, kernel_sizes, num_layers)
            in_channels = width
        if number < len(widths):
            group["resize"] = resize()
        groups[f"group_{number}"] = nn.Sequential(group)
    return groups


def dalle_output(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(relu=nn.ReLU(), conv=DalleConv2d(in_channels, out_channels, 1)))


class DalleEncoder(nn.Module):
    """(B, C, H, W) in [-1, 1] -> (B, out_channels, h, w), h = H / 2**(groups - 1), by max-pooling; K logits."""

    input_layer = "blocks.input"

    def __init__(self, config, out_channels: int):
        super().__init__()
        widths = list(config.block_out_channels)
        blocks = OrderedDict(input=DalleConv2d(config.num_channels, widths[0], 7))
        blocks.update(dalle_groups(config, widths[0], widths, (3, 3, 3, 1), lambda: nn.MaxPool2d(2)))
        blocks["output"] = dalle_output(widths[-1], out_channels)
        self.blocks = nn.Sequential(blocks)

    def forward(self, pixel_values: Tensor) -> Tensor:
        # OpenAI's net sees x in [0, 1] squeezed to 0.8 x + 0.1. No weights can do that: the zero padding comes after.
        # In its own order of operations, which gives the same bits; 0.4 pixel_values + 0.5 rounds otherwise.
        return self.blocks(0.8 * ((pixel_values + 1) / 2) + 0.1)


class DalleDecoder(nn.Module):
    """(B, in_channels, h, w) code vectors -> (B, out_channels, H, W), H = h * 2**(groups - 1), nearest up-sampling."""

    def __init__(self, config, in_channels: int, out_channels: int):
        super().__init__()
        widths = list(reversed(config.block_out_channels))
        blocks = dalle_groups(config, in_channels, widths, (1, 3, 3, 3), lambda: nn.Upsample(scale_factor=2.0))
        blocks["output"] = dalle_output(widths[-1], out_channels)
        self.blocks = nn.Sequential(blocks)

    @property
    def output_layer(self) -> nn.Module:
        return self.blocks.output.conv

    def forward(self, latents: Tensor) -> Tensor:
        return self.blocks(latents)
