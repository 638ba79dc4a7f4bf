# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Rows of a table as pixels: decoding, and errors that name the row."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .image_columns import DataError, one_line_of, undecoded


ToUint8 = Callable[[Sequence[Any]], Tensor]  # pictures -> uint8 (B, C, H, W); an image processor's `to_uint8`


def open_image(value: Any, where: str) -> Any:
    """One cell of an image column as a PIL image (encoded bytes or path) or an array."""
    if value is None or (isinstance(value, dict) and not value.get("bytes") and not value.get("path")):
        raise DataError(f"No image in {where}.")
    if not isinstance(value, dict):
        return np.asarray(value, dtype=np.uint8)
    try:
        image = Image.open(io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"])
        image.load()
        if "exif" in image.info or image.format == "TIFF":
            image = ImageOps.exif_transpose(image)  # cameras store the picture as the sensor lay
    except Exception as error:  # PIL's plugins raise OSError, SyntaxError, ValueError, struct.error and more
        path = f" ({value['path']})" if value.get("path") else ""
        raise DataError(f"Cannot decode {where}{path}: {one_line_of(error)}") from error
    return image


def to_uint8_or_say_where(images: list[Any], to_uint8: ToUint8, where: Sequence[str]) -> Tensor:
    """(B, C, H, W); where a batch is refused, its pictures are tried one by one to name the one at fault."""
    try:
        return to_uint8(images)
    except Exception as error:
        for image, place in zip(images, where, strict=True):
            try:
                to_uint8([image])
            except Exception as cause:
                raise DataError(f"Unfit: {place}: {one_line_of(cause)}") from cause
        raise DataError(
            f"{where[0][0].upper()}{where[0][1:]} and those after it do not make a batch (sizes or modes differ): "
            f"{one_line_of(error)}"
        ) from error


def check_shape(images: Tensor, shape: tuple[int, ...], where: str) -> None:
    """Raises `DataError` unless `images` (B, C, H, W) are of `shape` (C, H, W), as those before them."""
    if tuple(images.shape[1:]) != tuple(shape):
        raise DataError(
            f"The image in {where} has (channels, height, width) {tuple(images.shape[1:])}, those before it "
            f"{tuple(shape)}; an image size brings them all to one."
        )


class Rows:
    """A split of encoded images: which rows, which column, and what they are called in messages.

    Args:
        table: a `datasets.Dataset`.
        split: its name.
        column: of the images; its cells are {"bytes", "path"} or arrays.
        row_numbers: number of each row in the split as it is stored, where some are left out.
    """

    def __init__(self, table: Any, split: str, column: str, label_column: str | None, row_numbers: Any = None):
        self.split, self.column, self.row_numbers = split, column, row_numbers
        self.table = undecoded(table, column).select_columns(column)
        self.labels, self.names = _labels(table, label_column)

    def __len__(self) -> int:
        return len(self.table)

    def cells(self, rows: Sequence[int]) -> list[Any]:
        """These rows as they are stored, each {"bytes", "path"} or an array."""
        return self.table[list(rows)][self.column]

    def where(self, row: int) -> str:
        number = row if self.row_numbers is None else int(self.row_numbers[row])
        return f"row {number} of split {self.split!r}, column {self.column!r}"

    def decode(self, rows: Sequence[int], to_uint8: ToUint8, shape: tuple[int, ...] | None = None) -> Tensor:
        """These rows as uint8 (B, C, H, W). Raises `DataError` naming the row that is corrupt or of another shape."""
        places = [self.where(row) for row in rows]
        cells = self.cells(rows)
        images = to_uint8_or_say_where(
            [open_image(*cell) for cell in zip(cells, places, strict=True)], to_uint8, places
        )
        if shape is not None:
            check_shape(images, shape, places[0])
        return images

    def decode_all(self, to_uint8: ToUint8, batch_size: int = 512) -> Tensor:
        """(N, C, H, W) uint8. Batches keep the decoded PIL images, which are larger, few."""
        shape = tuple(self.decode([0], to_uint8).shape[1:])
        pixels = torch.empty(len(self), *shape, dtype=torch.uint8)
        for start in range(0, len(self), batch_size):
            stop = min(start + batch_size, len(self))
            pixels[start:stop] = self.decode(range(start, stop), to_uint8, shape)
        return pixels


def _labels(table: Any, column: str | None) -> tuple[Tensor | None, list[str] | None]:
    """Class of each row (N,) int64 and the names of the classes. Words are numbered in alphabetical order;
    -1 marks a row without a class, as in datasets' own ClassLabel."""
    if column is None:
        return None, None
    feature, values = table.features[column], table[column][:]
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    names = getattr(feature, "names", None)
    if names is None and all(isinstance(value, str) for value in known):
        names = sorted(set(known))
        values = [None if value is None else names.index(value) for value in values]
    elif any(not isinstance(value, int) for value in known):
        raise DataError(f"`label_column` {column!r} holds {feature}, not one whole number or word for each image.")
    values = [-1 if value is None else value for value in values]
    return torch.tensor(values, dtype=torch.int64), names
