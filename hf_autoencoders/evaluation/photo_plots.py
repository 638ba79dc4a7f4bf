# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pictures of photographs: sheets in which a pixel is a pixel, difference maps, and maps of what codes do where.

Pixels are (N, C, H, W) in [-1, 1].
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from ..models.codebooks import histogram
from .plots import figure_for, styled, to_picture


CAPTION_HEIGHT = 14  # height of a line of text in pixels
GAP = 4  # pixels between pictures
LEAST_COLUMN = 84  # pixels that the longest heading takes
FULL_SCALE = 0.25  # difference on [0, 1] pixels that is shown brightest


def sheet_of_columns(columns: dict[str, Sequence[Image.Image]], captions: Sequence[str], scale: int = 1) -> Image.Image:
    """Pictures of one size side by side, a column for each heading, a caption below each row.

    Args:
        scale: each pixel becomes so many squared.
    """
    width, height = (side * scale for side in next(iter(columns.values()))[0].size)
    rows, row_height, column_width = len(captions), height + CAPTION_HEIGHT + GAP, max(width, LEAST_COLUMN) + GAP
    canvas = Image.new("RGB", (len(columns) * column_width + GAP, CAPTION_HEIGHT + rows * row_height + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for column, (heading, pictures) in enumerate(columns.items()):
        left = GAP + column * column_width
        draw.text((left, 1), heading, fill="black")
        for row, picture in enumerate(pictures):
            big = picture.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            canvas.paste(big, (left, CAPTION_HEIGHT + row * row_height))
    for row, caption in enumerate(captions):
        draw.text((GAP, CAPTION_HEIGHT + row * row_height + height + 1), caption, fill="black")
    return canvas


def as_images(pixels: Tensor) -> list[Image.Image]:
    """(N, C, H, W) -> grey or RGB pictures; of other channel counts what `to_picture` shows."""
    return [Image.fromarray((to_picture(one) * 255).round().astype(np.uint8)) for one in pixels]


def difference_maps(reconstructions: Tensor, pixels: Tensor) -> list[Image.Image]:
    """|difference| of each pair on [0, 1] pixels, mean over channels: black 0, bright yellow FULL_SCALE and more."""
    difference = ((reconstructions.clamp(-1, 1) - pixels) / 2).abs().mean(1) / FULL_SCALE
    colours = matplotlib.colormaps["inferno"](difference.clamp(0, 1).cpu().numpy())
    return [Image.fromarray((picture[..., :3] * 255).round().astype(np.uint8)) for picture in colours]


def window_of_worst(reconstruction: Tensor, pixels: Tensor, side: int) -> tuple[slice, slice]:
    """Rows and columns of the window (side, side) with the largest squared error, of one picture (C, H, W)."""
    error = (reconstruction.clamp(-1, 1) - pixels).square().mean(0, keepdim=True)[None]
    height, width = (min(side, whole) for whole in pixels.shape[1:])
    sums = torch.nn.functional.avg_pool2d(error, (height, width), stride=1)[0, 0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return slice(top, top + height), slice(left, left + width)


@styled
def where_errors_are(reconstructions: Tensor, pixels: Tensor, title: str) -> Figure:
    """Mean |difference| and mean difference at each pixel of all pictures (N, C, H, W), on the [0, 1] scale."""
    difference = (reconstructions.clamp(-1, 1) - pixels) / 2
    absolute, signed = difference.abs().mean((0, 1)), difference.mean((0, 1))
    shifts = ", ".join(f"{round(shift, 3) + 0.0:+.3f}" for shift in difference.mean((0, 2, 3)).tolist())
    most = signed.abs().max().clamp_min(1e-6).item()
    figure = _two_maps(absolute.shape)
    left, right = figure.axes
    _heat(left, absolute, "mean |difference|", "[0, 1] pixels", cmap="inferno", vmin=0)
    _heat(
        right,
        signed,
        "mean difference",
        "[0, 1] pixels",
        cmap="RdBu_r",
        vmin=-most,
        vmax=most,
    )
    figure.suptitle(f"{title}; mean difference of each channel {shifts}", x=0.01, ha="left", size=11)
    return figure


@styled
def code_map(image_tokens: Tensor, codebook_size: int, title: str) -> Figure:
    """How many codes each position uses, and the entropy of its codes; image tokens (N, h, w)."""
    used, entropy = position_usage(image_tokens, codebook_size)
    figure = _two_maps(used.shape)
    left, right = figure.axes
    most = min(len(image_tokens), codebook_size)
    _heat(left, used, f"codes used at each position, of at most {most:,}", "codes", cmap="viridis")
    _heat(right, entropy, f"entropy of each position's codes, at most {np.log2(most):.1f}", "bits", cmap="viridis")
    figure.suptitle(title, x=0.01, ha="left", size=11)
    return figure


def position_usage(image_tokens: Tensor, codebook_size: int) -> tuple[Tensor, Tensor]:
    """(codes used, entropy in bits) of each position of tokens (N, h, w): twice (h, w), over the N pictures.

    >>> used, entropy = position_usage(torch.tensor([[[0, 1]], [[0, 2]]]), 4)
    >>> used.tolist(), entropy.tolist()
    ([[1, 2]], [[0.0, 1.0]])
    """
    grid = image_tokens.shape[1:]
    counts = [histogram(codes, codebook_size, torch.int64) for codes in image_tokens.flatten(1).T]
    used = torch.stack([(count > 0).sum() for count in counts])
    shares = (count / count.sum() for count in counts)
    entropy = torch.stack([torch.special.entr(share.double()).sum() / np.log(2) for share in shares])
    return used.view(grid), entropy.view(grid)


def _two_maps(shape: Sequence[int]) -> Figure:
    height, width = shape
    figure, _ = figure_for(np.zeros((height, 2 * width)), width=9.0, extra=0.8)
    figure.clear()
    figure.subplots(1, 2)
    return figure


def _heat(axes: Axes, values: Tensor, title: str, unit: str, **look) -> None:
    shown = axes.imshow(values.cpu().numpy(), **look)
    axes.set_title(title, size=10)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.ax.set_ylabel("of all pictures")
    bar.ax.set_xlabel(unit, size=8)
