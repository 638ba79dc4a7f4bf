# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""JPEG with as many bits as a model's codes have, as a baseline.

Only the picture's own data count, without header and tables, which are the same for all pictures of one quality. If
quality 1 still takes too many bits, or if the error becomes smaller, the picture is first halved in size, maybe often.
"""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..models.pixels import to_bytes


START_OF_SCAN = b"\xff\xda"
END_OF_IMAGE = 2  # bytes
FINEST = 95  # with higher quality, files grow and pictures do not get better


class Compressed(NamedTuple):
    """pixels: (C, H, W) in [-1, 1]. bits: size of the data that they are decoded from."""

    pixels: Tensor
    bits: int


def scan_bits(file: bytes) -> int:
    """Bits of a JPEG file's last scan, without headers and tables."""
    start = file.rindex(START_OF_SCAN) + 2
    return 8 * (len(file) - END_OF_IMAGE - start - int.from_bytes(file[start : start + 2], "big"))


def jpeg_of_batch(pixels: Tensor, bits: float) -> tuple[Tensor, Tensor]:
    """`jpeg_within` of each picture (B, 1 or 3, H, W) in [-1, 1]: decoded (B, C, H, W) on their device, bits (B,)."""
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # PIL releases Python's lock
        found = list(threads.map(lambda picture: jpeg_within(picture, bits), pixels.cpu()))
    decoded = torch.stack([one.pixels for one in found]).to(pixels.device)
    return decoded, torch.tensor([float(one.bits) for one in found], dtype=torch.float64)


def jpeg_within(pixels: Tensor, bits: float) -> Compressed:
    """The JPEG with the lowest squared error that takes at most `bits`; if there is none, the smallest one.

    Args:
        pixels: (1 or 3, H, W) in [-1, 1].
    """
    picture, tried = as_pil(pixels), []
    for halvings in range(max(1, int(math.log2(min(picture.size))) - 2)):  # down to 8 pixels, one block
        size = [max(1, round(side / 2**halvings)) for side in picture.size]
        reduced = picture if halvings == 0 else picture.resize(size, Image.Resampling.BOX)
        file = finest_file(reduced, bits)
        decoded = Image.open(io.BytesIO(file)).resize(picture.size, Image.Resampling.BICUBIC)
        tried.append(Compressed(as_pixels(decoded), scan_bits(file)))
        if len(tried) > 1 and error_of(tried[-1], pixels) > error_of(tried[-2], pixels) and tried[-2].bits <= bits:
            break  # smaller sizes only get worse now
    fitting = [one for one in tried if one.bits <= bits]
    return min(fitting, key=lambda one: error_of(one, pixels)) if fitting else min(tried, key=lambda one: one.bits)


def error_of(compressed: Compressed, pixels: Tensor) -> float:
    return (compressed.pixels - pixels).square().mean().item()


def finest_file(picture: Image.Image, bits: float) -> bytes:
    """The file of the highest quality whose scan takes at most `bits`; of quality 1 if there is none."""
    low, high, best = 1, FINEST, jpeg_file(picture, 1)
    while low < high:
        middle = (low + high + 1) // 2
        file = jpeg_file(picture, middle)
        if scan_bits(file) <= bits:
            low, best = middle, file
        else:
            high = middle - 1
    return best


def jpeg_file(picture: Image.Image, quality: int) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=quality)
        return file.getvalue()


def as_pil(pixels: Tensor) -> Image.Image:
    levels = to_bytes(pixels.cpu()).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)


def as_pixels(picture: Image.Image) -> Tensor:
    """-> (C, H, W) in [-1, 1]"""
    levels = torch.from_numpy(np.array(picture)).float() / 127.5 - 1
    return levels[None] if levels.dim() == 2 else levels.permute(2, 0, 1)
