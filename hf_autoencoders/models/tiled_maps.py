# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Feature maps that are computed region by region, so that a picture may be larger than memory.

A `TiledMap` (B, C, H, W) knows its operation and the maps that this reads. Asked for a region, it asks them for the
regions that the operation needs (a 3x3 convolution: one pixel more on each side), and so on down to the picture.
Maps that are read more than once are held in memory as far as the `TilePlan` allows, and else computed again.
Letters: B batch, C channels, H W height and width of a map.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor


class Span(NamedTuple):
    """Rows, or columns, `start` to `stop - 1`."""

    start: int
    stop: int

    def within(self, size: int) -> "Span":
        return Span(max(self.start, 0), min(self.stop, size))


class Region(NamedTuple):
    """A rectangle of a map."""

    rows: Span
    columns: Span

    def joined(self, other: "Region") -> "Region":
        """The smallest region that holds both."""
        return Region(*(Span(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(self, other, strict=True)))

    def of(self, tensor: Tensor, origin: "Region") -> Tensor:
        """This region of a `tensor` that holds the region `origin`; a view."""
        for axis, span, whole in zip((-2, -1), self, origin, strict=True):
            tensor = tensor.narrow(axis, span.start - whole.start, span.stop - span.start)
        return tensor


class Operation:
    """What makes a map of others. A subclass writes both methods."""

    def needs(self, region: Region) -> list[Region]:
        """The region of each source that is read for `region` of the result."""
        raise NotImplementedError

    def compute(self, region: Region, parts: list[Tensor]) -> Tensor:
        """`region` of the result, from those regions of the sources."""
        raise NotImplementedError


@dataclass
class TilePlan:
    """How maps are divided and how many bytes of them may be held.

    Args:
        rows, columns: the number of tiles from top to bottom and from left to right, the same for maps of all sizes.
        memory: bytes of feature maps that may be held at once, besides the tile that is computed.
    """

    rows: int
    columns: int
    memory: float
    held: WeakSet = field(default_factory=WeakSet)

    def regions(self, height: int, width: int) -> Iterator[Region]:
        """The tiles of a map."""
        for rows in spans(height, self.rows):
            for columns in spans(width, self.columns):
                yield Region(rows, columns)

    def affords(self, size: int) -> bool:
        """Whether a map of `size` bytes may be held besides those that are.

        A residual block holds three at once: its input, a map between, and its output. Where three do not fit, the
        first would stay and keep all later maps out, smaller ones, too: each would be computed from there again.
        """
        return size <= self.memory / 3 and size + sum(tiled.size for tiled in self.held) <= self.memory


def spans(size: int, count: int) -> list[Span]:
    """`size` rows or columns in at most `count` parts of nearly the same length.

    >>> spans(10, 3)
    [Span(start=0, stop=4), Span(start=4, stop=8), Span(start=8, stop=10)]
    """
    length = -(-size // count)
    return [Span(start, min(start + length, size)) for start in range(0, size, length)]


class TiledMap:
    """A map (B, C, H, W), computed region by region by `operation` from `sources`, or held as `value`."""

    def __init__(self, like: Tensor, plan: TilePlan, operation: Operation | None = None, sources: tuple = ()):
        """`like` gives shape and dtype (it may lie on the meta device); without an operation it is the map's value."""
        self.shape, self.dtype, self.plan = like.shape, like.dtype, plan
        self.operation, self.sources = operation, sources
        self.value = like if operation is None else None
        self.device = like.device if operation is None else sources[0].device

    @property
    def size(self) -> int:
        """Bytes of the whole map."""
        return self.shape.numel() * self.dtype.itemsize

    @property
    def extent(self) -> Region:
        return Region(Span(0, self.shape[-2]), Span(0, self.shape[-1]))

    def hold(self, value: Tensor) -> None:
        """From now on the map is `value`; what only it has read is freed."""
        self.value, self.operation, self.sources = value, None, ()
        self.plan.held.add(self)

    def keep(self, look: Callable[[Tensor], Any] = lambda part: None) -> None:
        """Computes all tiles, shows each to `look`, and holds the map if memory allows."""
        self._visit(look, self.plan.affords(self.size))

    def whole(self) -> Tensor:
        """The map as a tensor, whatever its size."""
        self._visit(lambda part: None, True)
        return self.value

    def _visit(self, look: Callable[[Tensor], Any], hold: bool) -> None:
        regions = self.plan.regions(*self.shape[-2:])
        if self.value is not None:
            for region in regions:
                look(region.of(self.value, self.extent))
            return
        value = torch.empty(self.shape, dtype=self.dtype, device=self.device) if hold else None
        for region in regions:
            part = region_of(self, region)
            look(part)
            if hold:
                region.of(value, self.extent).copy_(part)
        if hold:
            self.hold(value)


def region_of(target: TiledMap, region: Region) -> Tensor:
    """A region of a map. Each map that it depends on is computed once, on all that is needed of it."""
    order = in_order(target)
    needed = {target: region}
    for tiled in reversed(order):
        for source, part in needs_of(tiled, needed[tiled]):
            needed[source] = part if source not in needed else part.joined(needed[source])
    readers, values = Counter(source for tiled in order for source in tiled.sources), {}
    for tiled in order:
        if tiled.value is not None:
            values[tiled] = needed[tiled].of(tiled.value, tiled.extent)
            continue
        parts = [part.of(values[source], needed[source]) for source, part in needs_of(tiled, needed[tiled])]
        values[tiled] = tiled.operation.compute(needed[tiled], parts)
        readers.subtract(tiled.sources)
        for source in {source for source in tiled.sources if readers[source] == 0}:
            del values[source]
    return values[target]


def needs_of(tiled: TiledMap, region: Region) -> list[tuple[TiledMap, Region]]:
    """The sources of a map and what it reads of them for `region`; nothing where the map is held."""
    return [] if tiled.value is not None else list(zip(tiled.sources, tiled.operation.needs(region), strict=True))


def in_order(target: TiledMap) -> list[TiledMap]:
    """`target` and all maps that it depends on, each behind its sources."""
    order, stack = {}, [(target, False)]
    while stack:
        tiled, sources_done = stack.pop()
        if sources_done:
            order[tiled] = None
        elif tiled not in order:
            stack.append((tiled, True))
            stack.extend((source, False) for source in tiled.sources if source not in order)
    return list(order)
