# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pixels that are not 8-bit levels: their range is found once for a whole column, or given by the user."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..models.image_reading import ROUNDING
from .image_columns import DataError


SAMPLE = 1024  # pictures that a range is found from


def is_deep(image: Any) -> bool:
    """Whether a PIL image has float or 32-bit pixels, whose range is unknown (that of 16-bit ones is 0..65535)."""
    return image.mode in ("I", "F") and image.format not in ("PNG", "PPM")


def find_pixel_range(pictures: Iterable[np.ndarray], column: str) -> tuple[float, float]:
    """(black, white) of pictures of one kind: 0..255, or 0..1 of floats, 0..65535 of uint16.

    Raises:
        DataError: the values fit none or several of these ranges, so `pixel_range` is needed.
    """
    pictures = list(pictures)
    kind = np.result_type(*pictures)
    if kind.name == "uint8":
        return 0.0, 255.0
    if kind.name == "bool":
        return 0.0, 1.0
    low, high = (float(reduce([reduce(p) for p in pictures])) for reduce in (np.nanmin, np.nanmax))
    words = f"Column {column!r} holds {kind} pixels from {low:g} to {high:g} in the {len(pictures)} pictures looked at"
    if kind.name == "uint16" and high > 255:
        return 0.0, 65535.0
    if kind.name == "uint16":
        raise DataError(f"{words}: `pixel_range` 0 255 or 0 65535 says which of them is white.")
    for white in (1.0, 255.0) if kind.kind == "f" else (255.0,):
        if low >= -ROUNDING * white and high <= white * (1 + ROUNDING):
            return 0.0, white
    raise DataError(f"{words}: `pixel_range` says which values are black and white, such as {low:g} {high:g}.")


def to_byte_levels(picture: np.ndarray, pixel_range: tuple[float, float], where: str) -> np.ndarray:
    """uint8 of the same shape: black is 0, white 255, rounded.

    Raises:
        DataError: a value lies outside of the range, or is NaN.

    >>> to_byte_levels(np.array([-1.0, 0.0, 1.0]), (-1, 1), "row 0")
    array([  0, 128, 255], dtype=uint8)
    """
    black, white = pixel_range
    if picture.dtype == np.uint8 and (black, white) == (0, 255):
        return picture
    low, high = float(picture.min()), float(picture.max())
    slack = ROUNDING * abs(white - black) if picture.dtype.kind == "f" else 0
    if not (min(black, white) - slack <= low and high <= max(black, white) + slack):  # NaN is in no range
        raise DataError(
            f"Unusable: {where} holds values from {low:g} to {high:g}, outside of {black:g}..{white:g} (`pixel_range`)."
        )
    levels = (picture.astype(np.float64) - black) * (255 / (white - black))
    return np.rint(levels).clip(0, 255).astype(np.uint8)
