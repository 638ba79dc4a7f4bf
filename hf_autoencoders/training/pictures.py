# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A sheet of pictures: originals above their reconstructions."""

from PIL import Image, ImageDraw
from torch import Tensor

from ..models.pixels import to_bytes


LEAST_SIDE = 56  # pixels of a shown picture; 8x8 digits are enlarged 7 times, without smoothing
CAPTION = 14  # height of a line of text in pixels


def reconstruction_sheet(originals: Tensor, reconstructions: Tensor, columns: int = 12) -> Image.Image:
    """Originals above reconstructions, (B, C, H, W) both in [-1, 1], in pairs of rows with captions.

    Pictures are enlarged by a whole factor to at least LEAST_SIDE pixels, each pixel a square.
    """
    count, channels, height, width = originals.shape
    scale = max(1, -(-LEAST_SIDE // min(height, width)))
    cell_height, cell_width = height * scale + 2, width * scale + 2
    columns = min(columns, count)
    pairs = -(-count // columns)
    sheet = Image.new("RGB", (columns * cell_width + 2, pairs * 2 * (cell_height + CAPTION) + 2), "white")
    draw = ImageDraw.Draw(sheet)
    for pair in range(pairs):
        for row, (name, pictures) in enumerate((("original", originals), ("reconstruction", reconstructions))):
            top = (2 * pair + row) * (cell_height + CAPTION)
            draw.text((3, top + 1), name, fill="black")
            for column, picture in enumerate(pictures[pair * columns : (pair + 1) * columns]):
                big = _to_image(picture).resize((width * scale, height * scale), Image.Resampling.NEAREST)
                sheet.paste(big, (2 + column * cell_width, top + CAPTION))
    return sheet


def _to_image(picture: Tensor) -> Image.Image:
    """(C, H, W) in [-1, 1] -> RGB; one channel is grey, of more than three the first three are shown."""
    levels = to_bytes(picture.cpu())
    levels = levels[:3] if levels.shape[0] >= 3 else levels[:1].expand(3, -1, -1)
    return Image.fromarray(levels.permute(1, 2, 0).contiguous().numpy())
