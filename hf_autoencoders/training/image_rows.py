# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Rows of a table as pixels: decoding, and errors that name the row."""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..models.image_reading import upright
from .crop_windows import CropWindow, cut_array, cut_window
from .image_columns import ARRAYS, DataError, one_line_of, type_name, undecoded
from .image_folders import class_order
from .pixel_ranges import SAMPLE, find_pixel_range, is_deep, to_byte_levels


ToUint8 = Callable[[Sequence[Any]], Tensor]  # pictures -> uint8 (B, C, H, W); an image processor's `to_uint8`
UNKNOWN_LABELS = ("refuse", "ignore")


class CorruptImage(DataError):
    """A picture cannot be decoded, or is not there."""


def open_image(value: Any, where: str, window: CropWindow | None = None, dtype: str | None = None) -> Any:
    """One cell of an image column: an upright PIL image (of encoded bytes or a path), or an array.

    Args:
        value: {"bytes", "path"}, or nested lists.
        where: the row in words, for messages.
        window: the part to cut out; None: all of it.
        dtype: of an array.

    Raises:
        CorruptImage: it cannot be decoded.
    """
    if value is None or (isinstance(value, dict) and not value.get("bytes") and not value.get("path")):
        raise CorruptImage(f"No image in {where}.")
    try:
        if not isinstance(value, dict):
            picture = np.asarray(value, dtype=dtype)
            return picture if window is None else cut_array(picture, window)
        with Image.open(io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"]) as image:
            if window is not None:
                return cut_window(image, window)
            image.load()
            return upright(image)
    except Exception as error:  # PIL's plugins raise OSError, SyntaxError, ValueError, struct.error and more
        path = f" ({value['path']})" if isinstance(value, dict) and value.get("path") else ""
        raise CorruptImage(f"Cannot decode {where}{path}: {one_line_of(error)}") from error


def those_that_open(
    numbers: Iterable[int], open_one: Callable[[int], Any], leave_out: Callable[[CorruptImage], None] | None
) -> Iterator[tuple[int, Any]]:
    """(number, picture) of each picture that can be decoded.

    Args:
        numbers: of the pictures, in any numbering that `open_one` knows.
        open_one: number -> picture, or `CorruptImage`.
        leave_out: is told of each corrupt picture; None: the first one is an error.
    """
    for number in numbers:
        try:
            picture = open_one(number)
        except CorruptImage as error:
            if leave_out is None:
                raise
            leave_out(error)
        else:
            yield number, picture


def open_header(value: Any, where: str) -> Any:
    """One cell as a PIL image that is not decoded yet, or an array; None if it cannot be opened."""
    try:
        if isinstance(value, dict) and (value.get("bytes") or value.get("path")):
            return Image.open(io.BytesIO(value["bytes"]) if value.get("bytes") else value["path"])
        return open_image(value, where)
    except (OSError, SyntaxError, ValueError):
        return None  # the error comes when it is decoded, and names the row


def to_uint8_or_say_where(images: list[Any], to_uint8: ToUint8, where: Sequence[str]) -> Tensor:
    """uint8 (B, C, H, W). If the batch fails, its pictures are tried one by one, to name the one at fault."""
    try:
        return to_uint8(images)
    except Exception as error:
        shapes = []
        for image, place in zip(images, where, strict=True):
            try:
                shapes.append(tuple(to_uint8([image]).shape[1:]))
            except Exception as cause:
                raise DataError(f"Unusable: {place}: {one_line_of(cause)}") from cause
        other = next((index for index, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is None:
            raise DataError(f"{where[0]} and those after it do not make a batch: {one_line_of(error)}") from error
        raise DataError(_of_two_sizes(where[other], shapes[other], shapes[0])) from error


def check_shape(images: Tensor, shape: tuple[int, ...], where: str) -> None:
    """Raises `DataError` unless `images` (B, C, H, W) are of `shape` (C, H, W), as those before them."""
    if tuple(images.shape[1:]) != tuple(shape):
        raise DataError(_of_two_sizes(where, tuple(images.shape[1:]), tuple(shape)))


def _of_two_sizes(where: str, shape: tuple[int, ...], before: tuple[int, ...]) -> str:
    edge = min(*shape[1:], *before[1:])
    return (
        f"{where[0].upper()}{where[1:]} has (channels, height, width) {shape}, those before it {before}: --image_size "
        f"brings all to one size, such as --image_size {edge} (--image_fit crop, stretch or pad)."
    )


class Rows:
    """A split of encoded images: its rows and column, and how messages name them.

    Args:
        table: a `datasets.Dataset`.
        split: its name.
        column: of the images; its cells are {"bytes", "path"} or arrays.
        labels: the class of each row, (N,) int64, or None.
        names: of the classes.
        row_numbers: the number of each row in the stored split, if some rows are left out.
        pixel_range: (black, white) of arrays and of float pictures; None: found in the data.
    """

    def __init__(
        self,
        table: Any,
        split: str,
        column: str,
        labels: Tensor | None = None,
        names: list[str] | None = None,
        row_numbers: Any = None,
        pixel_range: tuple[float, float] | None = None,
    ):
        self.split, self.column, self.row_numbers = split, column, row_numbers
        self.table = undecoded(table, column).select_columns(column)
        self.labels, self.names, self.pixel_range, self.asked = labels, names, pixel_range, pixel_range is not None
        feature = table.features[column]
        self.dtype = feature.dtype if type_name(feature) in ARRAYS else None

    def __len__(self) -> int:
        return len(self.table)

    def cells(self, rows: Sequence[int]) -> list[Any]:
        """These rows as they are stored, each {"bytes", "path"} or an array."""
        return self.table[list(rows)][self.column]

    def where(self, row: int) -> str:
        number = row if self.row_numbers is None else int(self.row_numbers[row])
        return f"row {number} of split {self.split!r}, column {self.column!r}"

    def evenly_spaced(self, wanted: int) -> list[int]:
        """The numbers of `wanted` evenly spaced rows, or of all rows if there are fewer."""
        return torch.linspace(0, len(self) - 1, min(len(self), wanted)).round().long().tolist()

    def decode(
        self,
        rows: Sequence[int],
        to_uint8: ToUint8,
        shape: tuple[int, ...] | None = None,
        windows: Sequence[CropWindow] | None = None,
    ) -> Tensor:
        """These rows as uint8 (B, C, H, W). Raises `DataError` naming the row that is corrupt or of another shape."""
        places = [self.where(row) for row in rows]
        images = [
            self.open(cell, place, None if windows is None else windows[index])
            for index, (cell, place) in enumerate(zip(self.cells(rows), places, strict=True))
        ]
        images = to_uint8_or_say_where(images, to_uint8, places)
        if shape is not None:
            check_shape(images, shape, places[0])
        return images

    def open(self, cell: Any, place: str, window: CropWindow | None = None) -> Any:
        """One cell as a PIL image, or as an array of levels 0..255."""
        return levels_of(open_image(cell, place, window, self.dtype), place, self.known_range, self.asked)

    def known_range(self) -> tuple[float, float]:
        """(black, white), found in `SAMPLE` evenly spaced rows at the first call."""
        if self.pixel_range is None:
            rows = self.evenly_spaced(SAMPLE)
            images = (
                open_image(c, self.where(r), None, self.dtype) for r, c in zip(rows, self.cells(rows), strict=True)
            )
            self.pixel_range = range_of(images, self.column)
        return self.pixel_range

    def decode_all(self, to_uint8: ToUint8, skip_corrupt: bool = False, batch_size: int = 512) -> tuple[Tensor, list]:
        """(N, C, H, W) uint8, and the errors of corrupt rows, which are left out of the pixels and of these rows.

        It decodes in batches, so that only a few PIL images, which are larger, are in memory.
        """
        parts, kept, errors = [], [], []
        for start in range(0, len(self), batch_size):
            rows = range(start, min(start + batch_size, len(self)))
            try:
                part = self.decode(rows, to_uint8, parts[0].shape[1:] if parts else None)
            except CorruptImage:
                if not skip_corrupt:
                    raise
                rows, wrong = self.readable(rows)
                errors += wrong
                part = self.decode(rows, to_uint8, parts[0].shape[1:] if parts else None) if rows else None
            kept += rows
            parts += [] if part is None else [part]
        if not parts:
            raise DataError(f"No picture of split {self.split!r} can be decoded; the first: {errors[0]}")
        if errors:
            self.keep(kept)
        return torch.cat(parts), errors

    def readable(self, rows: Sequence[int]) -> tuple[list[int], list[CorruptImage]]:
        """Returns (the rows that can be decoded, the errors of the others)."""
        errors: list[CorruptImage] = []
        opened = those_that_open(
            rows, lambda row: open_image(self.cells([row])[0], self.where(row), None, self.dtype), errors.append
        )
        return [row for row, _ in opened], errors

    def keep(self, rows: list[int]) -> None:
        """Drops the other rows."""
        self.row_numbers = [row if self.row_numbers is None else int(self.row_numbers[row]) for row in rows]
        self.labels = None if self.labels is None else self.labels[rows]
        self.table = self.table.select(rows)


def levels_of(image: Any, place: str, known_range: Callable[[], tuple[float, float]], asked: bool) -> Any:
    """Arrays, and pictures with float or 32-bit pixels, as uint8 arrays; other pictures as they are.

    If the user gave the range (`asked`), 16-bit pictures become arrays, too, and 8-bit pictures are a DataError.
    """
    if isinstance(image, Image.Image):
        if not is_deep(image) and not (asked and image.mode.startswith(("I", "F"))):
            if asked:
                raise DataError(f"Unusable: {place} has 8-bit levels (mode {image.mode}): leave out `pixel_range`.")
            return image
        image = np.array(image)
    return image if image.dtype == np.uint8 and not asked else to_byte_levels(image, known_range(), place)


def range_of(images: Any, column: str) -> tuple[float, float]:
    """(black, white) of the arrays and deep pictures among `images`."""
    deep = (image for image in images if not isinstance(image, Image.Image) or is_deep(image))
    return find_pixel_range([np.asarray(image) for image in deep], column)


# -- classes -----------------------------------------------------------------------------------------------------------


def words_of(table: Any, column: str | None) -> list[str] | None:
    """Names of the classes of a split, in the order of their numbers; None if classes are numbers, or there are none.

    A ClassLabel has names; words are numbered in alphabetical order, or by value if all are whole numbers.
    """
    if column is None or column not in table.features:
        return None
    names = getattr(table.features[column], "names", None)
    if names is not None:
        return list(names)
    known = {value for value in table[column][:] if value is not None}
    return class_order(known) if known and all(isinstance(value, str) for value in known) else None


def read_labels(table: Any, column: str | None, names: list[str] | None, split: str, unknown: str) -> Tensor | None:
    """The class of each row, (N,) int64; -1: no class, as in datasets' own ClassLabel. None: no row has a class.

    Args:
        names: classes of the training split; their order numbers the words of every split.
        unknown: "refuse" a word that is not in `names`, or "ignore" it: such a picture has no class.

    Raises:
        DataError: an unknown word, or cells that are neither whole numbers nor words.
    """
    if column is None or column not in table.features:
        return None
    feature, values = table.features[column], table[column][:]
    if all(value is None for value in values):
        return None
    own = getattr(feature, "names", None)
    if own is not None and names is not None and own != names:
        values = [None if value is None or value < 0 else own[value] for value in values]
    words = [value for value in values if isinstance(value, str)]
    if not words and any(not isinstance(value, int) for value in values if value is not None):
        raise DataError(f"`label_column` {column!r} holds {feature}, not one whole number or word for each image.")
    if words:
        number = {name: index for index, name in enumerate(names or ())}
        strange = sorted(set(words) - set(number))
        if strange and unknown == "refuse":
            raise DataError(
                f"{sum(word in strange for word in words)} pictures of split {split!r} have a class that is not in the "
                f"training split: {', '.join(map(repr, strange[:5]))}; its classes: {', '.join(names or ['none'])}. "
                "`unknown_labels` ignore keeps them, without a class."
            )
        values = [number.get(value) for value in values]
    return torch.tensor([-1 if value is None else value for value in values], dtype=torch.int64)
