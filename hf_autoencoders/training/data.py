# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Images from a name: `digits`, a Hub id, or a local folder, as data sets of uint8 pixels::

    load_images(name, to_uint8=processor.to_uint8)
      read      `digits` | a folder of pictures or tables | a Hub id       rows with an image column
      split     train, and test / validation / a held-out tenth
      decode    once into memory (CachedImages), or at each access where that would not fit or originals are cropped
                (DecodedImages), or as they arrive (StreamingImages)      uint8 (N, C, H, W)
      augment   crop, flip, binarise, keyed by (seed, epoch, image)       {"pixel_values": float32 (B, C, H, W)}

Random draws are a hash of (seed, epoch, image), not the state of a generator: workers, processes, batch sizes and
restarts change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..models.codebooks import rank, world_size
from .augmentation import Augmentation
from .image_columns import DataError, find_image_column, find_label_column, holds_encoded_images, undecoded
from .image_folders import HELD_OUT, split_of
from .image_rows import UNKNOWN_LABELS, Rows, ToUint8, open_header, read_labels, words_of
from .image_sets import CachedImages, DecodedImages, Images, IndexedImages, collate, collate_bytes, scaled
from .image_sources import EVAL_SPLITS, find_splits, read_source, say_once_a_run
from .image_streams import StreamingImages, key_of, share_of


__all__ = [
    "CachedImages", "DecodedImages", "ImageSplits", "StreamingImages",
    "collate", "collate_bytes", "load_images", "scaled",
]  # fmt: skip

HOLD_OUT = 0.1  # share of the training split that is held out if a data set has no split for evaluation
STREAM_EVAL_IMAGES = 4096  # held-out images of a stream, unless `max_eval_samples` says otherwise
LOOKED_AT = 256  # pictures whose sizes and modes are read before the first one is decoded


@dataclass
class ImageSplits:
    """What to train on and what to evaluate on.

    Args:
        name: the name that was asked for.
        train: `CachedImages`, `DecodedImages` or `StreamingImages`.
        eval: `CachedImages` or `DecodedImages`.
        train_split, eval_split: names of the splits; a held-out part is called "train (held out)".
        notes: choices made here that a user should know; logged as warnings, too.
    """

    name: str
    train: Images
    eval: IndexedImages
    train_split: str
    eval_split: str
    notes: list[str] = field(default_factory=list)


def load_images(
    dataset_name: str = "digits",
    *,
    to_uint8: ToUint8,
    dataset_config: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    train_split: str = "train",
    eval_split: str | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    random_flip: bool = False,
    random_crop: int = 0,
    random_resized_crop: float | None = None,
    binarize: str = "none",
    pixel_range: Sequence[float] | None = None,
    skip_corrupt: bool = False,
    unknown_labels: str = "refuse",
    streaming: bool = False,
    stream_shuffle: int = 1000,
    cache_limit_gib: float = 8.0,
    seed: int = 0,
) -> ImageSplits:
    """The images of a data set, ready for batches.

    Args:
        dataset_name: `digits`, a folder (pictures, class folders, parquet files, `save_to_disk`), or a Hub id. How the
            folders of a folder are understood stands at the top of image_folders.py.
        to_uint8: from a list of PIL images or arrays to uint8 (B, C, H, W): an image processor's method. If it has a
            method `look_at`, that is called first, with up to `LOOKED_AT` training pictures that are not decoded yet.
        dataset_config: configuration of a Hub data set that has several.
        image_column, label_column: default: found by their types.
        train_split: split to train on; if there is no "train", the only split.
        eval_split: default: the first of test, validation, valid, val; else a tenth of the training split, which
            does not depend on the seed.
        max_train_samples, max_eval_samples: use only the first so many pictures.
        random_flip, random_crop, random_resized_crop, binarize, seed: see `Augmentation`; evaluation is binarised once,
            without flips and crops.
        pixel_range: (black, white) of arrays, and of pictures with more than 8 bits. Default: found in the data
            (0..255, for floats also 0..1, for uint16 also 0..65535); data that fit none of these are refused.
        skip_corrupt: leave out and count pictures that cannot be decoded; False: stop at the first.
        unknown_labels: what to do with classes that only the evaluation split has: "refuse", or "ignore" (no class).
        streaming: read the images as they arrive; the data set is not downloaded as a whole.
        stream_shuffle: a stream is shuffled in blocks of so many pictures, kept in memory as they are stored.
        cache_limit_gib: GiB of decoded pixels of one split that a process keeps in memory; above it, images are
            decoded at each access.

    Raises:
        DataError: a data set, split or column is missing or empty; an image is corrupt or unusable (names its row).
    """
    augmentation = Augmentation(random_flip, random_crop, binarize, random_resized_crop, seed)
    for knob, value in (("max_train_samples", max_train_samples), ("max_eval_samples", max_eval_samples)):
        if value is not None and value < 1:
            raise DataError(f"`{knob}` must be at least 1, got {value}.")
    if unknown_labels not in UNKNOWN_LABELS:
        raise DataError(f"`unknown_labels` must be one of {', '.join(UNKNOWN_LABELS)}, got {unknown_labels!r}.")
    if stream_shuffle < 0:
        raise DataError(f"`stream_shuffle` is a number of pictures and cannot be negative, got {stream_shuffle}.")
    source = read_source(dataset_name, dataset_config, streaming)
    if not source.splits:
        raise DataError(f"Data set {dataset_name!r} holds no split.")
    train_name, eval_name = find_splits(list(source.splits), train_split, eval_split)
    choice = _Choice(
        dataset_name, image_column, label_column, to_uint8, cache_limit_gib, _range(pixel_range), skip_corrupt,
        unknown_labels, stream_shuffle,
    )  # fmt: skip
    for note in source.notes:
        choice.say(note)
    choice.name_what_is_left_out(source.splits, (train_name, eval_name))
    limits = (max_train_samples, max_eval_samples)
    read = choice.stream if streaming else choice.tables
    return read(source.splits, train_name, eval_name, limits, augmentation)


def hold_out_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows to train on, a tenth that is held out) of a split of `count` rows; the same for pictures and their tokens.

    >>> rows, held_out = hold_out_rows(20)
    >>> len(rows), len(held_out), set(rows) & set(held_out)
    (18, 2, set())
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).numpy()
    held = max(1, round(HOLD_OUT * count))
    return np.sort(order[held:]), np.sort(order[:held])


def _range(pixel_range: Sequence[float] | None) -> tuple[float, float] | None:
    if pixel_range is None:
        return None
    if len(pixel_range) != 2 or not np.isfinite(pixel_range).all() or pixel_range[0] == pixel_range[1]:
        raise DataError(f"`pixel_range` is two numbers, the values of black and white, got {list(pixel_range)}.")
    return float(pixel_range[0]), float(pixel_range[1])


@dataclass
class _Choice:
    """The knobs that all splits share, and notes on the choices made."""

    name: str
    image_column: str | None
    label_column: str | None
    to_uint8: ToUint8
    cache_limit_gib: float
    pixel_range: tuple[float, float] | None
    skip_corrupt: bool
    unknown_labels: str
    stream_shuffle: int
    notes: list[str] = field(default_factory=list)

    def say(self, note: str) -> None:
        self.notes.append(note)
        say_once_a_run(note)

    def name_what_is_left_out(self, tables: dict[str, Any], used: Sequence[str | None]) -> None:
        counts = [
            f"{split} ({len(table):,} images)" if hasattr(table, "__len__") else split
            for split, table in tables.items()
            if split not in used and split_of(split) not in HELD_OUT
        ]
        if counts:
            self.say(f"Left out of {self.name!r}: split {', '.join(counts)}; `train_split` takes another one.")

    # -- tables --

    def tables(self, tables, train, evaluation, limits, augmentation: Augmentation) -> ImageSplits:
        column = find_label_column(tables[train].features, self.label_column)
        names = words_of(tables[train], column)
        train_part, eval_part = self.divide(tables, train, evaluation)
        train_rows = self.rows(*train_part, limits[0], column, names)
        eval_rows = self.rows(*eval_part, limits[1], column, names)
        self.look_at(train_rows)
        trained = self.images(train_rows, augmentation)
        held_out = self.images(eval_rows, augmentation.for_evaluation())
        return self.splits(trained, held_out, train, eval_part[1])

    def splits(self, train: Images, evaluation: IndexedImages, train_split: str, eval_split: str) -> ImageSplits:
        """Refuses held-out images of another size now; training would notice it at the end only."""
        shapes = ["x".join(map(str, part.image_shape)) for part in (train, evaluation)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"Images of split {train_split!r} are {shapes[0]}, those of {eval_split!r} {shapes[1]} "
                "(channels x height x width): --image_size brings all to one size."
            )
        return ImageSplits(self.name, train, evaluation, train_split, eval_split, self.notes)

    def divide(self, tables: dict[str, Any], train: str, evaluation: str | None) -> tuple[tuple, tuple]:
        """(table, split name, row numbers) for training and for evaluation; holds out rows if there is one split."""
        table = tables[train]
        if evaluation is not None and evaluation != train:
            return (table, train, None), (tables[evaluation], evaluation, None)
        if evaluation == train:
            self.say(f"Evaluation uses the training images (`eval_split` is {evaluation!r}).")
            return (table, train, None), (table, train, None)
        if len(table) < 2:
            raise DataError(f"Split {train!r} of {self.name!r} holds {len(table)} images: too few to hold some out.")
        train_rows, eval_rows = hold_out_rows(len(table))
        self.say(
            f"{self.name!r} has no split to evaluate on ({', '.join(EVAL_SPLITS)}): {len(eval_rows)} of the "
            f"{len(table)} images of {train!r} are held out."
        )
        held_out = (table.select(eval_rows), f"{train} (held out)", eval_rows)
        return (table.select(train_rows), train, train_rows), held_out

    def rows(
        self, table: Any, split: str, numbers: Any, limit: int | None, label_column: str | None, names: list[str] | None
    ) -> Rows:
        """A split as rows of one image column, with the classes numbered as in the training split."""
        if limit is not None:
            table = table.select(range(min(limit, len(table))))
        if len(table) == 0:
            raise DataError(f"Split {split!r} of {self.name!r} is empty.")
        column = find_image_column(table.features, self.image_column)
        labels = read_labels(table, label_column, names, split, self.unknown_labels)
        return Rows(table, split, column, labels, None if labels is None else names, numbers, self.pixel_range)

    def look_at(self, rows: Rows) -> None:
        """Shows pictures to a `to_uint8` that chooses its number of channels by them."""
        if hasattr(self.to_uint8, "look_at"):
            chosen = rows.evenly_spaced(LOOKED_AT)
            headers = [open_header(cell, rows.where(row)) for row, cell in zip(chosen, rows.cells(chosen), strict=True)]
            if note := self.to_uint8.look_at([header for header in headers if header is not None]):
                self.say(note)
            for header in headers:
                if isinstance(header, Image.Image):
                    header.close()

    def images(self, rows: Rows, augmentation: Augmentation) -> IndexedImages:
        """The split in memory, or decoded at each access if it is larger than the limit."""
        decoded = DecodedImages(rows, self.to_uint8, augmentation, self.skip_corrupt)
        size = len(rows) * np.prod(decoded.image_shape) / 2**30
        if augmentation.random_resized_crop is not None:
            return decoded
        if size <= self.cache_limit_gib:
            pixels, errors = rows.decode_all(self.to_uint8, self.skip_corrupt)
            for error in errors[:10]:
                self.say(f"Left out: {error}")
            if errors:
                self.say(f"{len(errors)} corrupt pictures of split {rows.split!r} are left out, {len(rows)} are used.")
            return CachedImages(pixels, rows.labels, rows.names, augmentation, rows, len(errors))
        self.say(
            f"Split {rows.split!r} would take {size:.2f} GiB decoded, more than `cache_limit_gib` "
            f"{self.cache_limit_gib:g}: images are decoded at each access (more `dataloader_num_workers` help)."
        )
        return decoded

    # -- streams --

    def stream(self, streams, train, evaluation, limits, augmentation: Augmentation) -> ImageSplits:
        """Training images are read as they arrive; held-out images are in memory."""
        stream, limit = streams[train], limits[1] or STREAM_EVAL_IMAGES
        column = find_image_column(_stream_features(stream, train, self.name), self.image_column)
        names = getattr(stream.features.get(find_label_column(stream.features, self.label_column)), "names", None)
        keys: frozenset[int] = frozenset()
        if evaluation is None:
            name, (table, keys) = f"{train} (held out)", self.hold_out(stream, train, column, limit)
        else:
            name = evaluation
            table = _table_of(islice(share_of(_undecoded(streams[name])), limit), streams[name], name, self.name)
            if limits[1] is None:
                self.say(f"Evaluation uses at most {limit} images of split {name!r} (`max_eval_samples`).")
        label_column = find_label_column(table.features, self.label_column)
        rows = self.rows(table, name, None, None, label_column, names or words_of(table, label_column))
        self.look_at(rows)
        held_out = self.images(rows, augmentation.for_evaluation())
        images = StreamingImages(
            undecoded(stream, column).select_columns(column), column, train, self.to_uint8, augmentation, rank(),
            world_size(), shuffle=self.stream_shuffle, held_out=keys, limit=limits[0], pixel_range=self.pixel_range,
            skip_corrupt=self.skip_corrupt,
        )  # fmt: skip
        return self.splits(images, held_out, train, name)

    def hold_out(self, stream: Any, split: str, column: str, limit: int) -> tuple[Any, frozenset[int]]:
        """About every tenth picture, chosen by a hash of its bytes, up to `limit` pictures; and their keys."""
        held: dict[int, dict[str, Any]] = {}
        first, read = None, 0
        for row in share_of(_undecoded(stream)):
            read += 1
            key = key_of(row[column])
            first = first or (key, row)
            if key % round(1 / HOLD_OUT) == 0:
                held.setdefault(key, row)
            if len(held) == limit:
                break
        if read < 2:
            raise DataError(f"Split {split!r} of {self.name!r} holds {read} images: too few to hold some out.")
        held = held or dict([first])
        self.say(
            f"{self.name!r} has no split to evaluate on: {len(held)} of the first {read} images of {split!r} are held "
            "out (`max_eval_samples`)."
        )
        return _table_of(held.values(), stream, split, self.name), frozenset(held)


def _stream_features(stream: Any, split: str, name: str) -> dict[str, Any]:
    features = stream.features or stream._resolve_features().features
    if not features:
        raise DataError(f"Split {split!r} of {name!r} is empty.")
    return features


def _undecoded(stream: Any) -> Any:
    """The stream with all image columns as they are stored, not decoded."""
    for column in [name for name, feature in (stream.features or {}).items() if holds_encoded_images(feature)]:
        stream = undecoded(stream, column)
    return stream


def _table_of(rows: Any, stream: Any, split: str, name: str) -> Any:
    """A few rows of an undecoded stream as a table."""
    from datasets import Dataset as Table
    from datasets import Features
    from datasets import Image as ImageFeature

    features = {
        column: ImageFeature(decode=False) if holds_encoded_images(feature) else feature
        for column, feature in _stream_features(stream, split, name).items()
    }
    return Table.from_list(list(rows), features=Features(features))
