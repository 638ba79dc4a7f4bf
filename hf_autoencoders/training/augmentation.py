# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Crop, flip and binarise pictures by draws that are keyed by (seed, epoch, image).

A draw is a hash and not the state of a generator: workers, processes, batch sizes and restarts change nothing. It is
computed for a whole batch at once; a torch.Generator for each image would take 7 microseconds to draw 784 numbers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .crop_windows import CropWindow


BINARIZE = ("none", "dynamic", "fixed")

_MASK_64 = (1 << 64) - 1


def _signed(number: int, bits: int = 64) -> int:
    """`number` as a signed integer (two's complement), since torch's integers wrap in this way."""
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> (bits - 1) else number


_SPLITMIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # Steele, Lea & Flood 2014


def _shift_right(x: Tensor, bits: int, width: int) -> Tensor:
    """Logical shift; torch's own keeps the sign."""
    return (x >> bits) & ((1 << (width - bits)) - 1)


def hash_keys(seed: int, epoch: int, purpose: int, index: Tensor) -> Tensor:
    """One well mixed 64-bit key for each image: splitmix64 over (seed, epoch, purpose) and then index. (B,) int64."""
    increment, first, second = _SPLITMIX
    stream = 0
    for number in (seed, epoch, purpose):
        stream = (stream ^ (number & _MASK_64)) + increment & _MASK_64
        stream = (stream ^ (stream >> 30)) * first & _MASK_64
        stream = (stream ^ (stream >> 27)) * second & _MASK_64
        stream ^= stream >> 31
    x = index * _signed(increment) + _signed(stream)
    x = (x ^ _shift_right(x, 30, 64)) * _signed(first)
    x = (x ^ _shift_right(x, 27, 64)) * _signed(second)
    return x ^ _shift_right(x, 31, 64)


def _uniform_integers(keys: Tensor, stop: int) -> Tensor:
    """Integers in [0, stop) from 31 bits of each key; the bias is below stop / 2**31."""
    return (_shift_right(keys, 33, 64) * stop) >> 31


def _pixel_noise(keys: Tensor, pixels: int) -> Tensor:
    """Uniform multiples of 2**-24 in [0, 1): (B,) keys -> (B, pixels) float32.

    It uses 32-bit integers, in place: four times as fast as 64-bit ones, for which CPUs have no vector product. The key
    enters by an exclusive or and by an odd factor, so the noise of one image is never a shifted copy of another's.
    """
    counters = hash_keys(0, 0, 0, torch.arange(pixels)).to(torch.int32)
    low, odd = keys.to(torch.int32), (keys >> 32).to(torch.int32) | 1
    x = (counters ^ low[:, None]).mul_(odd[:, None])
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(_signed(0x846CA68B, 32))  # a round of Wellons' lowbias32
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF))
    return (x >> 8).bitwise_and_(0xFFFFFF).float().mul_(2.0**-24)


@dataclass(frozen=True)
class Augmentation:
    """What happens to a picture between storage and batch; a pure function of (seed, epoch, image).

    Args:
        random_flip: mirror left and right with probability 1/2.
        random_crop: pixels by which each side is padded (its edge repeated) before a crop of the old size is taken.
        binarize: `dynamic` draws each pixel from Bernoulli(grey level), again in each epoch; `fixed` draws once.
            Neither is the static binarised MNIST of Larochelle, whose draw was published as a file.
        random_resized_crop: take a random window of each photograph and resize it. The window has the shape of the
            target and at least this share of the area of the largest such window (1: the largest window at a random
            place). It is cut out of the original when that is decoded. None: the centre.
        seed: of all draws.
    """

    random_flip: bool = False
    random_crop: int = 0
    binarize: str = "none"
    random_resized_crop: float | None = None
    seed: int = 0

    def __post_init__(self):
        if self.binarize not in BINARIZE:
            raise ValueError(f"`binarize` must be one of {', '.join(BINARIZE)}, got {self.binarize!r}.")
        if self.random_crop < 0:
            raise ValueError(f"`random_crop` is a number of pixels and cannot be negative, got {self.random_crop}.")
        if self.random_resized_crop is not None and not 0 < self.random_resized_crop <= 1:
            raise ValueError(f"`random_resized_crop` is a share in (0, 1], got {self.random_resized_crop}.")

    def for_evaluation(self) -> "Augmentation":
        """For evaluation: no flips and crops; pixels are binarised once, with other draws than in training."""
        binarize = "none" if self.binarize == "none" else "fixed"
        return Augmentation(binarize=binarize, seed=self.seed ^ 0x5EED)

    def windows(self, index: Tensor, epoch: int, height: int, width: int) -> list[CropWindow] | None:
        """The window to cut out of each photograph: (B,) int64 -> B windows, which are resized to (height, width)."""
        if self.random_resized_crop is None:
            return None
        draws = [_shift_right(hash_keys(self.seed, epoch, p, index), 11, 64).double() / 2**53 for p in (5, 6, 7)]
        least = self.random_resized_crop
        return [
            CropWindow(least + (1 - least) * area, down, right, height, width)
            for area, down, right in zip(*(draw.tolist() for draw in draws), strict=True)
        ]

    def __call__(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """uint8 (B, C, H, W) and a number that identifies each image, (B,) int64 -> uint8 of the same shape."""
        if self.random_crop:
            images = self._crop(images, index, epoch)
        if self.random_flip:
            flips = hash_keys(self.seed, epoch, 1, index) < 0  # the sign bit
            images = torch.where(flips[:, None, None, None], images.flip(-1), images)
        if self.binarize != "none":
            images = self._binarize(images, index, epoch if self.binarize == "dynamic" else 0)
        return images

    def _crop(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        batch, channels, height, width = images.shape
        places = 2 * self.random_crop + 1
        down, right = (_uniform_integers(hash_keys(self.seed, epoch, p, index), places) for p in (2, 3))
        rows = (torch.arange(height) + down[:, None] - self.random_crop).clamp_(0, height - 1)  # (B, H)
        columns = (torch.arange(width) + right[:, None] - self.random_crop).clamp_(0, width - 1)  # (B, W)
        places = (rows[:, :, None] * width + columns[:, None, :]).view(batch, 1, -1)
        return images.flatten(2).gather(2, places.expand(-1, channels, -1)).view_as(images)

    def _binarize(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        noise = _pixel_noise(hash_keys(self.seed, epoch, 4, index), images[0].numel())
        return (noise.mul_(255) < images.flatten(1)).to(torch.uint8).mul_(255).view_as(images)


PLAIN = Augmentation()  # pictures as they are
