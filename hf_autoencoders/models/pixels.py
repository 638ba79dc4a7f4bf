# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pixels on the [-1, 1] scale: what is said of those that a model cannot take, and how they become bytes."""

import warnings

import torch
from torch import Tensor


RANGE_TOLERANCE = 1e-3  # resampling and bfloat16 overshoot [-1, 1] by less
CURE = "the saved image processor (AutoImageProcessor.from_pretrained) scales pictures so"


def check_pixels(config, pixel_values: Tensor) -> None:
    """Raises ValueError for a batch (B, C, H, W) of a shape or a dtype that the model of `config` cannot take."""
    if pixel_values.dim() != 4 or pixel_values.shape[1] != config.num_channels:
        raise ValueError(
            f"`pixel_values` must have shape (B, {config.num_channels}, H, W), got {tuple(pixel_values.shape)}."
        )
    if not pixel_values.is_floating_point():
        raise ValueError(f"`pixel_values` must be floats in [-1, 1], got {pixel_values.dtype}: {CURE}.")
    batch, _, height, width = pixel_values.shape
    if batch == 0:
        raise ValueError(f"`pixel_values` must hold at least one picture, got shape {tuple(pixel_values.shape)}.")
    if config.backbone == "mlp":
        if (height, width) != (config.height, config.width):
            raise ValueError(
                f"The mlp backbone was made for {config.height}x{config.width} pixels, got {height}x{width}."
            )
    elif height % config.downsample_factor or width % config.downsample_factor:
        raise ValueError(
            f"Height and width must be multiples of {config.downsample_factor} "
            f"({len(config.block_out_channels) - 1} stride-2 levels), got {height}x{width}."
        )


def warn_of_range(pixel_values: Tensor) -> bool:
    """Warns, and gives True, when pixels lie outside [-1, 1], the commonest silent mistake."""
    low, high = torch.stack(pixel_values.detach().aminmax()).tolist()
    outside = low < -1 - RANGE_TOLERANCE or high > 1 + RANGE_TOLERANCE
    if outside:
        warnings.warn(
            f"`pixel_values` lie in [{low:.4g}, {high:.4g}], but this model expects [-1, 1]: {CURE}.", stacklevel=5
        )
    return outside


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1] to grey levels 0..255, clamped and rounded: any shape -> the same, uint8."""
    return round_levels((pixels.detach().float() + 1) * 127.5)


def round_levels(levels: Tensor) -> Tensor:
    """Grey levels as floats to bytes, rounded and clamped to 0..255: any shape -> the same, uint8. Bytes stay."""
    return levels if levels.dtype == torch.uint8 else levels.round().clamp(0, 255).to(torch.uint8)
