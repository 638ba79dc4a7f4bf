# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Where images come from: `digits`, a Hub id, or a local folder, read to tables with a column of encoded pictures."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor


ToUint8 = Callable[[Sequence[Any]], Tensor]  # pictures -> uint8 (B, C, H, W); an image processor's `to_uint8`

EVAL_SPLITS = ("test", "validation", "valid", "val")
ARRAYS = ("Array2D", "Array3D")  # pixels as they are: (H, W) or (H, W, C), uint8
LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label")


class DataError(ValueError):
    """The images cannot be had, and one line says why."""


# -- rows to pixels ----------------------------------------------------------------------------------------------------


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
        raise DataError(f"Cannot decode {where}{path}: {_one_line(error)}") from error
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
                raise DataError(f"Unfit: {place}: {_one_line(cause)}") from cause
        raise DataError(
            f"{where[0][0].upper()}{where[0][1:]} and those after it do not make a batch (sizes or modes differ): "
            f"{_one_line(error)}"
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


def undecoded(table: Any, column: str) -> Any:
    """The image column as {"bytes", "path"}: decoding belongs where a row can be named."""
    from datasets import Image as ImageFeature

    feature = table.features[column]
    return table.cast_column(column, ImageFeature(decode=False)) if holds_encoded_images(feature) else table


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


def _one_line(error: BaseException) -> str:
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# -- columns and splits ------------------------------------------------------------------------------------------------


def holds_encoded_images(feature: Any) -> bool:
    """The Image type, or what a parquet file without its metadata has in its place: {"bytes", "path"} or bytes."""
    if type(feature).__name__ == "Image":
        return True
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


def find_image_column(features: dict[str, Any], wanted: str | None = None) -> str:
    """Name of the column that holds images: `wanted`, or the only one of an image's type.

    Raises:
        DataError: no such column, or several and none wanted; it lists the columns.
    """
    columns = ", ".join(f"{name} ({_type_name(feature)})" for name, feature in features.items())
    if wanted is not None:
        if wanted not in features:
            raise DataError(f"No column {wanted!r} in this data set (`image_column`); its columns: {columns}.")
        if not holds_encoded_images(features[wanted]) and _type_name(features[wanted]) not in ARRAYS:
            raise DataError(f"Column {wanted!r} (`image_column`) holds no images; columns: {columns}.")
        return wanted
    found = [name for name, feature in features.items() if holds_encoded_images(feature)]
    found = found or [name for name, feature in features.items() if _type_name(feature) in ARRAYS]
    if len(found) != 1:
        problem = "No column holds images" if not found else f"{len(found)} columns hold images, choose `image_column`"
        raise DataError(f"{problem}; columns: {columns or 'none'}.")
    return found[0]


def _type_name(feature: Any) -> str:
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


def find_splits(
    available: Sequence[str], train: str = "train", evaluation: str | None = None
) -> tuple[str, str | None]:
    """Names of the split to train on and of the one to evaluate on (None: there is none)."""
    if train not in available and len(available) == 1 and train == "train":
        train = available[0]  # a set that was never split
    for name, knob in ((train, "train_split"), (evaluation, "eval_split")):
        if name is not None and name not in available:
            raise DataError(f"No split {name!r} (`{knob}`) in this data set; its splits: {', '.join(available)}.")
    usual = (name for name in EVAL_SPLITS if name in available and name != train)
    return train, evaluation or next(usual, None)


# -- reading -----------------------------------------------------------------------------------------------------------


def _digits() -> dict[str, Any]:
    """scikit-learn's 1,797 handwritten digits (8x8, 17 grey levels), 1,437 to train on and 360 held out, by class."""
    from datasets import Array2D, ClassLabel, Features
    from datasets import Dataset as Table
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    features = Features({"image": Array2D((8, 8), "uint8"), "label": ClassLabel(names=[str(d) for d in range(10)])})
    parts = train_test_split(np.arange(len(images)), test_size=360, random_state=0, stratify=bunch.target)
    return {
        split: Table.from_dict({"image": list(images[rows]), "label": bunch.target[rows]}, features=features)
        for split, rows in zip(("train", "test"), parts, strict=True)
    }


def _read_folder(folder: Path, config: str | None, streaming: bool) -> Any:
    """Parquet files, images, class directories, or what `save_to_disk` wrote."""
    from datasets import Dataset as Table
    from datasets import load_dataset, load_from_disk

    if not (folder / "dataset_dict.json").exists() and not (folder / "state.json").exists():
        return load_dataset(str(folder), config, streaming=streaming)
    saved = load_from_disk(str(folder))
    saved = {"train": saved} if isinstance(saved, Table) else dict(saved)
    return {split: table.to_iterable_dataset() for split, table in saved.items()} if streaming else saved


def read_tables(name: str, config: str | None, streaming: bool) -> dict[str, Any]:
    """Split name -> `datasets.Dataset`, or `datasets.IterableDataset` of a stream."""
    if name == "digits":
        if streaming:
            raise DataError("`digits` is 115 kB and is not streamed; leave out `streaming`.")
        return _digits()
    path = Path(name).expanduser()
    if path.is_file():
        raise DataError(f"`dataset_name` {name} is a file; give the folder that holds train-*.parquet or images.")
    if not path.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise DataError(f"`dataset_name` {name}: there is no such folder.")
    try:
        if path.is_dir():
            return dict(_read_folder(path, config, streaming))
        from datasets import load_dataset

        return dict(load_dataset(name, config, streaming=streaming))
    except Exception as error:  # datasets raises some ten kinds, from FileNotFoundError to DatasetGenerationError
        hint = "" if path.is_dir() else " It is no folder here, so it was asked for on the Hub."
        cause = error.__cause__ or error  # DatasetGenerationError says nothing, its cause does
        raise DataError(f"Cannot read data set {name!r}.{hint} {_one_line(cause)}") from error
