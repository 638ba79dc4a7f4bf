# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Windows cut out of photographs before they are resized, and JPEGs decoded at the smallest scale that suffices."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..models.image_reading import EXIF_ORIENTATION, upright


SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange width and height
MARGIN = 2  # a JPEG is decoded at twice the wanted size at least, so that the resize can filter


@dataclass(frozen=True)
class CropWindow:
    """A part of a picture, of the shape of the target.

    Args:
        area: share of the largest window of this shape that fits the picture, in (0, 1].
        down, right: its place, 0 (top, left) to 1 (bottom, right).
        height, width: what it will be resized to, pixels.
    """

    area: float
    down: float
    right: float
    height: int
    width: int

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in a picture of this size.

        >>> CropWindow(area=0.25, down=1, right=0, height=32, width=32).box(height=100, width=200)
        (0.0, 50.0, 50.0, 100.0)
        """
        scale = min(height / self.height, width / self.width) * math.sqrt(self.area)
        tall, wide = scale * self.height, scale * self.width
        top, left = (height - tall) * self.down, (width - wide) * self.right
        return left, top, left + wide, top + tall


def cut_window(image: Image.Image, window: CropWindow) -> Image.Image:
    """The window of an upright picture (EXIF orientation); a JPEG is decoded at 1/2, 1/4 or 1/8 if that suffices."""
    width, height = image.size
    stored = image.size
    if _orientation(image) in SIDEWAYS:
        width, height = height, width
    left, top, right, bottom = window.box(height, width)
    shrink = min((bottom - top) / window.height, (right - left) / window.width) / MARGIN
    if shrink > 1:
        image.draft(None, (math.ceil(stored[0] / shrink), math.ceil(stored[1] / shrink)))  # has an effect on JPEG only
    image.load()
    image = upright(image)
    across, along = image.width / width, image.height / height
    left, right = round(left * across), round(right * across)
    top, bottom = round(top * along), round(bottom * along)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


def cut_array(picture: np.ndarray, window: CropWindow) -> np.ndarray:
    """The window of an array (H, W), (H, W, C) or (C, H, W)."""
    first = picture.ndim == 3 and picture.shape[0] in (1, 3, 4) and picture.shape[2] not in (1, 3, 4)
    height, width = picture.shape[1:] if first else picture.shape[:2]
    left, top, right, bottom = map(round, window.box(height, width))
    rows, columns = slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))
    return picture[:, rows, columns] if first else picture[rows, columns]


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(EXIF_ORIENTATION, 1)
