# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Sheets of drawn pictures."""

import torch
from PIL import Image
from torch import Tensor, nn

from ..models.pixels import to_bytes


SAMPLES_PICTURE = "samples.png"  # in the folder of a run
SAMPLED = 80  # pictures in it


def labels_of_sheet(classes: int) -> list[int] | None:
    """One class a column; None where there are no classes."""
    return [number % classes for number in range(SAMPLED)] if classes else None


def sheet(pictures: Tensor, classes: int) -> Image.Image:
    """Pictures of `labels_of_sheet`, one class a column."""
    return tile_pictures(pictures, columns=min(classes, 20) or 10)


def tile_pictures(pictures: Tensor, columns: int, least_side: int = 56) -> Image.Image:
    """(B, C, H, W) in [-1, 1] as one picture, row by row, each enlarged by a whole factor to `least_side` pixels."""
    scale = max(1, -(-least_side // min(pictures.shape[2:])))
    levels = to_bytes(pictures.cpu())
    levels = levels[:, :3] if levels.shape[1] >= 3 else levels[:, :1].expand(-1, 3, -1, -1)
    levels = levels.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    padded = nn.functional.pad(levels, (1, 1, 1, 1), value=255)  # (B, 3, H, W)
    missing = -len(padded) % columns
    padded = torch.cat([padded, padded.new_full((missing, *padded.shape[1:]), 255)])
    rows = padded.unflatten(0, (-1, columns)).permute(0, 3, 1, 4, 2)  # (rows, H, columns, W, 3)
    return Image.fromarray(rows.flatten(2, 3).flatten(0, 1).contiguous().numpy())
