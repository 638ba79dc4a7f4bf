# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Which column of a table holds pictures, and which one their classes."""

from typing import Any


ARRAYS = ("Array2D", "Array3D")  # pixels as they are: (H, W), (H, W, C) or (C, H, W)
LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label")


class DataError(ValueError):
    """The images cannot be read; the message is one line."""


def one_line_of(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def holds_encoded_images(feature: Any) -> bool:
    """True for the type Image, and for what a parquet file without metadata has instead: {"bytes", "path"} or bytes."""
    if type(feature).__name__ == "Image":
        return True
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def find_image_column(features: dict[str, Any], wanted: str | None = None) -> str:
    """Name of the column that holds images: `wanted`, or the only one with an image type.

    Raises:
        DataError: there is no such column, or there are several and `wanted` is None. It lists the columns.
    """
    columns = ", ".join(f"{name} ({type_name(feature)})" for name, feature in features.items())
    if wanted is not None:
        if wanted not in features:
            raise DataError(f"No column {wanted!r} in this data set (`image_column`); its columns: {columns}.")
        if not holds_encoded_images(features[wanted]) and type_name(features[wanted]) not in ARRAYS:
            raise DataError(f"Column {wanted!r} (`image_column`) holds no images; columns: {columns}.")
        return wanted
    found = [name for name, feature in features.items() if holds_encoded_images(feature)]
    found = found or [name for name, feature in features.items() if type_name(feature) in ARRAYS]
    if len(found) != 1:
        problem = "No column holds images" if not found else f"{len(found)} columns hold images, choose `image_column`"
        raise DataError(f"{problem}; columns: {columns or 'none'}.")
    return found[0]


def type_name(feature: Any) -> str:
    name = type(feature).__name__
    return getattr(feature, "dtype", name) if name == "Value" else name


def find_label_column(features: dict[str, Any], wanted: str | None = None) -> str | None:
    """`wanted`; else the first ClassLabel; else a whole-number column with a usual name; else None."""
    if wanted is not None:
        if wanted not in features:
            raise DataError(f"No column {wanted!r} in this data set (`label_column`); columns: {', '.join(features)}.")
        return wanted
    classes = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    numbers = [
        name for name in LABEL_COLUMNS if str(getattr(features.get(name), "dtype", "")).startswith(("int", "uint"))
    ]
    return next(iter(classes + numbers), None)


def undecoded(table: Any, column: str) -> Any:
    """The table with its image column as {"bytes", "path"}: we decode later, where an error can name the row."""
    from datasets import Image as ImageFeature

    feature = table.features[column]
    return table.cast_column(column, ImageFeature(decode=False)) if holds_encoded_images(feature) else table
