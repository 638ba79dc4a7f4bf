# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Noise that one generator draws for a whole batch, or one generator for each picture."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def draw_noise(
    distribution: Callable[..., Tensor],
    shape: Sequence[int],
    generator: torch.Generator | list[torch.Generator] | None,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """`torch.rand` or `torch.randn` of this shape on `device`, drawn where the generator lives.

    A list has one generator for each picture, as in diffusers: then a picture's noise does not depend on the batch it
    is in. Where there are more rows than generators, the rows are whole batches one after the other.

    >>> both, second = (
    ...     draw_noise(torch.randn, (len(seeds), 3), [torch.Generator().manual_seed(s) for s in seeds],
    ...                torch.float32, torch.device("cpu"))
    ...     for seeds in ([1, 2], [2])
    ... )
    >>> torch.equal(both[1], second[0])
    True

    Raises:
        ValueError: the rows are no multiple of the generators.
    """
    if not isinstance(generator, list):
        place = device if generator is None else generator.device
        return distribution(*shape, generator=generator, dtype=dtype, device=place).to(device)
    rows = shape[0]
    if not generator or rows % len(generator):
        raise ValueError(f"{len(generator)} generators cannot draw for {rows} rows: give one for each picture.")
    times = rows // len(generator)
    parts = [distribution(times, *shape[1:], generator=one, dtype=dtype, device=one.device) for one in generator]
    return torch.stack(parts, dim=1).flatten(0, 1).to(device)  # (times, pictures, ...) -> (rows, ...)


def gumbel_noise(like: Tensor, generator: torch.Generator | list[torch.Generator] | None) -> Tensor:
    """Draws of the Gumbel distribution, -ln(-ln u), shape and device of `like`, in at least float32.

    A CPU draws many u at a time, which `exponential_` does not: for 3 million of them 13 ms, not 58.
    """
    dtype = torch.promote_types(like.dtype, torch.float32)  # in 16 bits, u may round to 1
    uniform = draw_noise(torch.rand, like.shape, generator, dtype, like.device)
    return uniform.clamp_min_(torch.finfo(dtype).tiny).log_().neg_().log_().neg_()


def draw_normal(
    shape: tuple[int, ...], like: Tensor, generator: torch.Generator | list[torch.Generator] | None
) -> Tensor:
    """N(0, 1) noise with dtype and device of `like`; of a list, each generator draws for one picture."""
    return draw_noise(torch.randn, shape, generator, like.dtype, device_of(like))


def device_of(parameter: Tensor) -> torch.device:
    """Where to put the input of the layer that owns `parameter`. An offloaded layer, on "meta", fetches its own."""
    return torch.device("cpu") if parameter.is_meta else parameter.device
