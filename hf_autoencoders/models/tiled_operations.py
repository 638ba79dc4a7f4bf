# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""How a net's own operations run on a picture that is computed tile by tile.

`TiledTensor` looks like a tensor to the net, which does not know. Each of torch's operations that reaches it becomes a
`TiledMap`: a convolution, a pooling, an up-sampling, a padding or what works on each pixel reads a region and a halo;
a normalisation looks at all tiles for its statistics first; any other operation, such as attention, gets the whole map.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from .precision import at_least_float32, exact_dtype
from .tiled_maps import Operation, Region, Span, TiledMap, TilePlan


aten = torch.ops.aten
COPIES = {aten._to_copy, aten.clone, aten.detach, aten.alias}  # of each pixel, though torch does not call them so


class TiledTensor(torch.Tensor):
    """A tensor (B, C, H, W) without values: `tiled` computes them where they are wanted."""

    @staticmethod
    def __new__(cls, tiled: TiledMap):
        tensor = torch.Tensor._make_wrapper_subclass(cls, tiled.shape, dtype=tiled.dtype, device=tiled.device)
        tensor.tiled = tiled
        return tensor

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        rule = RULES.get(function.overloadpacket, pointwise)
        made = rule(function, args, kwargs)
        return on_the_whole(function, args, kwargs) if made is None else made


def on_the_whole(function, args, kwargs):
    """What no rule covers: the operation itself, on whole maps."""
    if function._schema.is_mutable:
        raise NotImplementedError(f"{function} changes its input in place, which tiling cannot do: disable_tiling().")

    def whole(value):
        return value.tiled.whole() if isinstance(value, TiledTensor) else value

    return function(*tree_map(whole, args), **tree_map(whole, kwargs))


def result_on_meta(function, args, kwargs) -> Any:
    """What the operation would give, on the meta device: shape and dtype."""

    def meta(value):
        return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")

    args, kwargs = tree_map(lambda value: meta(value) if isinstance(value, Tensor) else value, (args, kwargs))
    return function(*args, **kwargs)


def made_by(operation: Operation, sources: list[TiledMap], function, args, kwargs) -> TiledTensor:
    like = result_on_meta(function, args, kwargs)
    like = like[0] if isinstance(like, tuple) else like
    return TiledTensor(TiledMap(like, sources[0].plan, operation, tuple(sources)))


# -- what works on each pixel by itself --------------------------------------------------------------------------------


@dataclass
class Pointwise(Operation):
    """`function` of its arguments, in which sources stand as `Slot`s."""

    function: Any
    args: Any
    kwargs: dict
    count: int

    def needs(self, region: Region) -> list[Region]:
        return [region] * self.count

    def compute(self, region: Region, parts: list[Tensor]) -> Tensor:
        args = tree_map(lambda value: parts[value.number] if isinstance(value, Slot) else value, self.args)
        return self.function(*args, **self.kwargs)


@dataclass
class Slot:
    number: int


def pointwise(function, args, kwargs) -> TiledTensor | None:
    is_pointwise = torch.Tag.pointwise in function.tags or function.overloadpacket in COPIES
    if not is_pointwise or function._schema.is_mutable or kwargs.get("device") is not None:
        return None
    tensors = [value for value in tree_leaves(args) if isinstance(value, Tensor)]
    first = next(value for value in tensors if isinstance(value, TiledTensor))
    sources, size = [], first.shape[-2:]
    if not all(is_alike(value, size) for value in tensors):
        return None

    def slot(value):
        if not isinstance(value, Tensor) or value.dim() < 4 or value.shape[-2:] != size:
            return value
        sources.append(value.tiled if isinstance(value, TiledTensor) else TiledMap(value, first.tiled.plan))
        return Slot(len(sources) - 1)

    slotted = tree_map(slot, args)
    return made_by(Pointwise(function, slotted, kwargs, len(sources)), sources, function, args, kwargs)


def is_alike(value: Tensor, size: torch.Size) -> bool:
    """Whether a value stands beside a map of `size` as a map of its own, or as one number for each channel or all."""
    if isinstance(value, TiledTensor) or value.dim() == 4:
        return value.shape[-2:] == size or (value.shape[-2:] == (1, 1) and not isinstance(value, TiledTensor))
    return value.numel() == 1


# -- what reads a neighbourhood ----------------------------------------------------------------------------------------


@dataclass
class Window(Operation):
    """An operation whose output row i reads the input rows `step * i - before` to `step * i - before + length - 1`.

    Each field holds (rows, columns). `size`: of the input. `function`: of the rows read, rows beyond its edge included,
    which `fill` stands for.
    """

    size: tuple[int, int]
    step: tuple[int, int]
    before: tuple[int, int]
    length: tuple[int, int]
    function: Any
    fill: float = 0.0

    def reads(self, region: Region) -> list[Span]:
        spans = zip(region, self.step, self.before, self.length, strict=True)
        return [Span(a * step - before, (b - 1) * step - before + length) for (a, b), step, before, length in spans]

    def needs(self, region: Region) -> list[Region]:
        inside = (span.within(size) for span, size in zip(self.reads(region), self.size, strict=True))
        return [Region(*inside)]

    def compute(self, region: Region, parts: list[Tensor]) -> Tensor:
        rows, columns = zip(self.reads(region), self.size, strict=True)
        beyond = [max(amount, 0) for (a, b), size in (columns, rows) for amount in (-a, b - size)]
        return self.function(F.pad(parts[0], beyond, value=self.fill) if any(beyond) else parts[0])


def pair(value) -> tuple[int, int]:
    return tuple(value) if len(value) == 2 else (value[0], value[0])


def convolution(function, args, kwargs) -> TiledTensor | None:
    pixels, weight, bias, step, padding, dilation, transposed, output_padding, groups = args
    if kwargs or not isinstance(pixels, TiledTensor) or any(output_padding):
        return None
    weight, bias = weight.detach(), bias if bias is None else bias.detach()  # a hook may change a parameter's data
    step, padding, dilation, size = pair(step), pair(padding), pair(dilation), tuple(pixels.shape[-2:])
    length = tuple(d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[-2:], strict=True))

    def apply(part: Tensor) -> Tensor:
        return function(part, weight, bias, step, [0, 0], dilation, transposed, [0, 0], groups)

    if transposed:
        pixels.tiled.keep()  # the last map before a larger one
        operation = TransposedConvolution(size, step, padding, length, apply)
    else:
        operation = Window(size, step, padding, length, apply)
    return made_by(operation, [pixels.tiled], function, args, kwargs)


@dataclass
class TransposedConvolution(Operation):
    """Input row i adds to the output rows `step * i - before` to `step * i - before + length - 1`."""

    size: tuple[int, int]
    step: tuple[int, int]
    before: tuple[int, int]
    length: tuple[int, int]
    function: Any

    def needs(self, region: Region) -> list[Region]:
        axes = zip(region, self.size, self.step, self.before, self.length, strict=True)
        return [
            Region(*(Span(-((length - 1 - before - a) // step), (b - 1 + before) // step + 1).within(size)
                     for (a, b), size, step, before, length in axes))
        ]  # fmt: skip

    def compute(self, region: Region, parts: list[Tensor]) -> Tensor:
        (read,), result = self.needs(region), self.function(parts[0])
        starts = (span.start * step - before for span, step, before in zip(read, self.step, self.before, strict=True))
        made = Region(*(Span(start, start + size) for start, size in zip(starts, result.shape[-2:], strict=True)))
        return region.of(result, made)


def max_pool(function, args, kwargs) -> tuple | None:
    defaults = ([], [0], [1], False)
    pixels, length, step, padding, dilation, ceil_mode = (*args, *defaults[len(args) - 2 :])
    if ceil_mode or any(padding) or any(d != 1 for d in dilation):
        return None
    operation = Window(
        tuple(pixels.shape[-2:]), pair(step or length), (0, 0), pair(length),
        lambda part: function(part, length, step)[0],
    )  # fmt: skip
    made = made_by(operation, [pixels.tiled], function, args, kwargs)
    return made, made  # in place of the indices, which nobody reads


def zero_pad(function, args, kwargs) -> TiledTensor | None:
    pixels, padding, value = (*args, 0.0)[:3]
    if len(padding) > 4:
        return None
    left, _, top, _ = (*padding, 0, 0)[:4]
    operation = Window(tuple(pixels.shape[-2:]), (1, 1), (top, left), (1, 1), lambda part: part, value)
    return made_by(operation, [pixels.tiled], function, args, kwargs)


@dataclass
class NearestUpsampling(Operation):
    """Each pixel `factor` (rows, columns) times."""

    factor: tuple[int, int]

    def needs(self, region: Region) -> list[Region]:
        axes = zip(region, self.factor, strict=True)
        return [Region(*(Span(span.start // factor, (span.stop - 1) // factor + 1) for span, factor in axes))]

    def compute(self, region: Region, parts: list[Tensor]) -> Tensor:
        (read,), result = self.needs(region), parts[0]
        for axis, factor in zip((-2, -1), self.factor, strict=True):
            result = result.repeat_interleave(factor, axis)
        made = Region(*(Span(s.start * f, s.stop * f) for s, f in zip(read, self.factor, strict=True)))
        return region.of(result, made)


def nearest_upsampling(function, args, kwargs) -> TiledTensor | None:
    pixels, like = args[0], result_on_meta(function, args, kwargs)
    if any(large % small for large, small in zip(like.shape[-2:], pixels.shape[-2:], strict=True)):
        return None
    factor = tuple(large // small for large, small in zip(like.shape[-2:], pixels.shape[-2:], strict=True))
    pixels.tiled.keep()  # the last map before a larger one
    return made_by(NearestUpsampling(factor), [pixels.tiled], function, args, kwargs)


# -- what needs statistics of the whole map ----------------------------------------------------------------------------


def group_normalization(function, args, kwargs) -> tuple:
    """Group normalisation (Wu & He 2018): one look at all tiles for mean and variance, then a scale and a shift."""
    pixels, weight, bias, _, _, _, groups, epsilon = args
    counts, means, variances = [], [], []

    def look(part: Tensor) -> None:
        values = at_least_float32(part).unflatten(1, (groups, -1)).flatten(2)
        variance, mean = torch.var_mean(values, 2, correction=0)  # (B, G)
        counts.append(part.shape[1] // groups * part.shape[2] * part.shape[3])
        means.append(mean.to(exact_dtype(part.device)))
        variances.append(variance.to(exact_dtype(part.device)))

    pixels.tiled.keep(look)
    mean, variance = joined_statistics(counts, torch.stack(means), torch.stack(variances))
    inverse = (variance + epsilon).rsqrt()
    scale, shift = (each.repeat_interleave(pixels.shape[1] // groups, 1) for each in (inverse, -mean * inverse))
    if weight is not None:
        scale, shift = scale * weight, shift * weight
    shift = shift if bias is None else shift + bias
    computed = torch.promote_types(pixels.dtype, torch.float32)
    scale, shift = (each.to(computed)[:, :, None, None] for each in (scale, shift))  # (B, C, 1, 1)

    def apply(part: Tensor) -> Tensor:
        return torch.addcmul(shift, part.to(computed), scale).to(part.dtype)

    operation = Window(tuple(pixels.shape[-2:]), (1, 1), (0, 0), (1, 1), apply)
    return made_by(operation, [pixels.tiled], function, args, kwargs), mean.to(computed), inverse.to(computed)


def joined_statistics(counts: list[int], means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (B, G) of all values together, from those of parts (parts, B, G). Chan et al. 1979."""
    weights = means.new_tensor(counts).div(sum(counts))[:, None, None]
    mean = (weights * means).sum(0)
    return mean, (weights * (variances + (means - mean).square())).sum(0)


RULES = {
    aten.convolution: convolution,
    aten.max_pool2d_with_indices: max_pool,
    aten.constant_pad_nd: zero_pad,
    aten.upsample_nearest2d: nearest_upsampling,
    aten.native_group_norm: group_normalization,
}


@torch.no_grad()
def through_tiles(net, pixels: Tensor, plan: TilePlan) -> Tensor:
    """`net(pixels)`, both (B, C, H, W), computed tile by tile. The same but for the order of summation."""
    result = net(TiledTensor(TiledMap(pixels, plan)))
    return result.tiled.whole() if isinstance(result, TiledTensor) else result
