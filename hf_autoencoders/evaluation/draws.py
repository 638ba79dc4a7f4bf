# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""One generator for each picture of a set: random draws of a metric depend neither on batches nor on processes."""

import hashlib
from collections.abc import Iterable

import torch


def picture_generators(
    numbers: Iterable[int] | torch.Tensor, seed: int, device: str | torch.device = "cpu"
) -> list[torch.Generator]:
    """A generator for each picture, seeded by a hash of `seed` and of the picture's number in its set.

    >>> whole, rest = picture_generators(range(4), seed=0), picture_generators([2, 3], seed=0)
    >>> torch.equal(torch.randn(5, generator=whole[3]), torch.randn(5, generator=rest[1]))
    True
    """
    numbers = numbers.tolist() if isinstance(numbers, torch.Tensor) else numbers
    return [torch.Generator(device).manual_seed(picture_seed(int(number), seed)) for number in numbers]


def picture_seed(number: int, seed: int) -> int:
    """A seed of 32 bits (torch's CPU generator uses no more); seeds of neighbouring pictures are far apart."""
    digest = hashlib.blake2b(f"{seed} {number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big")
