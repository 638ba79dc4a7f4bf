# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pictures larger than memory: encoder and decoder tile by tile, as diffusers' `enable_tiling` does, but exactly."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .precision import may_be_read
from .tiled_maps import TilePlan
from .tiled_operations import through_tiles


OVERLAP = 0.25  # of neighbouring tiles that are blended; diffusers' value


@dataclass(frozen=True)
class Tiling:
    """How a model that tiles does it; see `enable_tiling`."""

    tile_size: int
    memory_gib: float
    approximate: bool


class WithTiling:
    """`enable_tiling` and `disable_tiling` of a model with a `config`."""

    tiling: Tiling | None = None  # a state of the process: it is not saved

    def enable_tiling(self, tile_size: int = 512, memory_gib: float = 2.0, approximate: bool = False) -> None:
        """From now on pictures larger than a tile are encoded and decoded tile by tile.

        The result is that of the whole picture but for rounding (1e-5): a tile is computed with a halo as wide as what
        its pixels see, GroupNorm looks at all tiles for its statistics first, attention sees all positions. Gradients
        are not computed, so a model in training mode takes pictures whole.

        Args:
            tile_size: side of a tile in pixels; a multiple of `downsample_factor`.
            memory_gib: feature maps that may be held besides the tile, in GiB. Maps of more than a third of it, and
                those that do not fit, are computed again each time they are read: less memory costs time, and
                changes nothing else. `math.inf`: hold all.
            approximate: compute overlapping tiles as if each were a picture of its own, and blend them, as diffusers
                does. One pass, and attention of tiles only; but statistics are those of tiles, and the result is
                another one, tokens included.

        Raises:
            ValueError: the backbone is not convolutional, or a number does not fit.
        """
        if self.config.backbone == "mlp":
            raise ValueError("The mlp backbone reads the whole picture at once: only convolutional ones have tiles.")
        factor = self.config.downsample_factor
        if not isinstance(tile_size, int) or tile_size < factor or tile_size % factor:
            raise ValueError(f"`tile_size` must be a positive multiple of {factor} pixels, got {tile_size!r}.")
        if not isinstance(memory_gib, (int, float)) or not memory_gib >= 0:  # NaN is not, either
            raise ValueError(f"`memory_gib` must be a number of at least 0, got {memory_gib!r}.")
        self.tiling = Tiling(tile_size, memory_gib, approximate)

    def disable_tiling(self) -> None:
        """From now on pictures go through encoder and decoder whole."""
        self.tiling = None

    def by_tiles(self, net: Callable[[Tensor], Tensor], inputs: Tensor, upscale: int, downscale: int) -> Tensor:
        """`net(inputs)`, (B, C, H, W) -> (B, C', H * upscale / downscale, ...), by tiles where tiling says so."""
        tiling = self.tiling
        if tiling is None or self.training or not may_be_read(inputs):
            return net(inputs)
        size = tiling.tile_size // upscale  # the side of a tile of `inputs`
        if max(inputs.shape[-2:]) <= size:
            return net(inputs)
        if torch.is_grad_enabled() and inputs.requires_grad:
            raise ValueError("Tiles have no gradient: call disable_tiling(), or use torch.no_grad().")
        if tiling.approximate:
            return torch.cat([blended_tiles(net, x, size, upscale, downscale) for x in inputs.split(1)])
        rows, columns = (math.ceil(side / size) for side in inputs.shape[-2:])
        memory = tiling.memory_gib * 2**30
        return torch.cat([through_tiles(net, x, TilePlan(rows, columns, memory)) for x in inputs.split(1)])


@torch.no_grad()
def blended_tiles(net, inputs: Tensor, size: int, upscale: int, downscale: int) -> Tensor:
    """Approximately `net(inputs)`: overlapping tiles, `size` of `inputs` wide, each by itself, blended linearly."""
    height, width = (side * upscale // downscale for side in inputs.shape[-2:])
    weights, result = torch.zeros(height, width, device=inputs.device), None
    for rows in overlapping(inputs.shape[-2], size, downscale):
        for columns in overlapping(inputs.shape[-1], size, downscale):
            tile = net(inputs[..., rows, columns])
            if result is None:
                result = tile.new_zeros(*tile.shape[:2], height, width)
            rows_made, columns_made = (scaled_span(span, upscale, downscale) for span in (rows, columns))
            weight = ramp(rows_made, height)[:, None] * ramp(columns_made, width)
            result[..., rows_made, columns_made] += weight.to(tile) * tile
            weights[rows_made, columns_made] += weight.to(weights)
    return result / weights.to(result)


def scaled_span(span: slice, upscale: int, downscale: int) -> slice:
    return slice(span.start * upscale // downscale, span.stop * upscale // downscale)


def overlapping(length: int, size: int, multiple: int) -> Iterator[slice]:
    """Spans of `size` that hold `length` and overlap by a quarter or more; their starts are multiples of `multiple`.

    >>> list(overlapping(10, 4, 1))
    [slice(0, 4, None), slice(3, 7, None), slice(6, 10, None)]
    """
    step = max(int(size * (1 - OVERLAP)) // multiple, 1) * multiple
    last = max(length - size, 0)
    for start in [*range(0, last, step), last]:
        yield slice(start, min(start + size, length))


def ramp(span: slice, length: int) -> Tensor:
    """Weights of a tile along an axis of `length`: they rise over the overlap, and are 1 at the picture's edge."""
    places = torch.arange(1, span.stop - span.start + 1)
    rising = places if span.start > 0 else torch.full_like(places, len(places))
    falling = places.flip(0) if span.stop < length else torch.full_like(places, len(places))
    return (torch.minimum(rising, falling) / (OVERLAP * len(places))).clamp(max=1)
