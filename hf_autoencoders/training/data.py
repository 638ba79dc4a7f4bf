# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Images from a name: `digits`, a Hub id, or a local folder, as data sets of uint8 pixels.

    load_images(name, to_uint8=processor.to_uint8)
      read      `digits` | datasets.load_dataset | load_from_disk      rows with an image column
      split     train, and test / validation / a held-out tenth
      decode    once into memory (CachedImages), or at each access where that would not fit (DecodedImages),
                or as they arrive (StreamingImages)                     uint8 (N, C, H, W)
      serve     crop, flip, binarise, keyed by (seed, epoch, image)   {"pixel_values": float32 (B, C, H, W) in [-1, 1]}

Randomness here is a hash of (seed, epoch, image), never the state of a generator: workers, processes, batch sizes and
restarts change nothing.
"""

import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from .augmentation import PLAIN, Augmentation
from .fingerprints import fingerprint
from .image_columns import DataError, find_image_column, find_label_column, holds_encoded_images, undecoded
from .image_rows import Rows, ToUint8, check_shape, open_image, to_uint8_or_say_where
from .image_sources import EVAL_SPLITS, find_splits, read_tables


logger = logging.getLogger(__name__)

HOLD_OUT = 0.1  # share of the training split held out where a data set has no split to evaluate on
STREAM_EVAL_IMAGES = 4096  # held-out images of a stream, unless `max_eval_samples` says otherwise
STREAM_CHUNK = 64  # images that a stream decodes together
STATISTICS_IMAGES = 4096  # images that statistics are measured on where pixels are not in memory


def collate_bytes(images: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
    """uint8 (B, C, H, W), or a list of (C, H, W) -> {"pixel_values": uint8 (B, C, H, W)}, a quarter of its floats."""
    return {"pixel_values": images if isinstance(images, Tensor) else torch.stack(list(images))}


def scaled(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1], on the images' device, to the same bits on every kind of it."""
    # By a number of Python's, CUDA would multiply with its reciprocal, which rounds otherwise.
    return images.float().div_(torch.full((), 127.5, device=images.device)).sub_(1)


def collate(images: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
    """uint8 (B, C, H, W), or a list of (C, H, W) -> {"pixel_values": float32 (B, C, H, W) in [-1, 1]}."""
    return {"pixel_values": scaled(collate_bytes(images)["pixel_values"])}


class _Epoch:
    """The epoch in shared memory: workers that outlive an epoch hear of the next one, too."""

    def __init__(self):
        self._value = torch.zeros((), dtype=torch.int64).share_memory_()

    def __int__(self) -> int:
        return int(self._value)

    def set(self, epoch: int) -> None:
        self._value.fill_(epoch)


class _Images:
    """What every kind of image data set tells about itself. A subclass writes `_chunks`."""

    augmentation: Augmentation
    labels: Tensor | None = None  # (N,) int64
    names: list[str] | None = None  # of the classes
    collate = staticmethod(collate)

    def _chunks(self) -> Iterator[Tensor]:
        """The images that statistics are measured on, uint8 (n, C, H, W) at a time."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """ "<number of pictures>-<16 hexadecimal digits>": equal for the same pictures, wherever they lie and however
        they are decoded, resized or augmented. See fingerprints.py for what it costs and what it may miss.

        >>> CachedImages(torch.zeros(10, 1, 8, 8, dtype=torch.uint8)).fingerprint
        '10-ad1eda456afc8db5'
        """
        raise NotImplementedError

    def set_epoch(self, epoch: int) -> None:
        """Which draws of the augmentation the next images get. Reaches running workers."""
        self._epoch.set(epoch)

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """Histogram of the grey levels (256,), and mean image (C, H, W) in [0, 1], both float64."""
        histogram, total, count = torch.zeros(256, dtype=torch.int64), 0, 0
        for images in self._chunks():
            histogram += torch.bincount(images.flatten(), minlength=256)
            total = total + images.float().sum(0).double()  # exact in float32 up to 65,793 images a chunk
            count += len(images)
        return histogram.double(), total / (255 * count)

    @property
    def data_variance(self) -> float:
        """Variance over all pixels on the [0, 1] scale, binarised where batches are; flips and crops are left out.

        MNIST's training split: 0.0949. Divisor of the NMSE and of sonnet's VQ-VAE reconstruction loss.
        """
        histogram, _ = self._moments
        levels, shares = torch.arange(256, dtype=torch.float64) / 255, histogram / histogram.sum()
        mean = (shares * levels).sum()
        if self.augmentation.binarize != "none":
            return float(mean * (1 - mean))  # of a Bernoulli variable whose rate is the grey level
        return float((shares * (levels - mean).square()).sum())

    @property
    def mean_image(self) -> Tensor:
        """Mean of the pictures as stored, (C, H, W) float32 in [0, 1]: where an output bias may start."""
        return self._moments[1].float()


class _IndexedImages(_Images, Dataset):
    """Any image at any time. A subclass writes `_fetch` and sets `image_shape` (C, H, W)."""

    image_shape: tuple[int, int, int]

    def _fetch(self, index: Tensor) -> Tensor:
        """(B,) int64 -> uint8 (B, C, H, W)"""
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """A whole batch at once, uint8 (B, C, H, W); DataLoader prefers this to single images. Give it `collate`."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return self.augmentation(self._fetch(index), index, int(self._epoch))

    def __getitem__(self, index: int) -> Tensor:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Image {index} of {len(self)}.")
        return self.__getitems__([index % len(self)])[0]

    def plain_batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """These images as a model takes them, without the draws of an epoch: as evaluation sees them."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return collate(self.augmentation.for_evaluation()(self._fetch(index), index, 0))

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """These images as a model takes them; for pictures and for the first look at the data."""
        return collate(self.__getitems__(indices))


class CachedImages(_IndexedImages):
    """Pictures decoded once and kept as bytes.

    Args:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,), or None.
        names: of the classes.
        augmentation: what each batch goes through.
        rows: what the pixels were decoded from, for the fingerprint; without it, the pixels are what counts.

    >>> images = CachedImages(torch.zeros(10, 1, 8, 8, dtype=torch.uint8))
    >>> collate(images.__getitems__([0, 1, 2]))["pixel_values"].shape
    torch.Size([3, 1, 8, 8])
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor | None = None,
        names: list[str] | None = None,
        augmentation: Augmentation = PLAIN,
        rows: Rows | None = None,
    ):
        if pixels.dtype != torch.uint8 or pixels.dim() != 4:
            raise DataError(f"`pixels` must be uint8 (N, C, H, W), got {pixels.dtype} {tuple(pixels.shape)}.")
        self.pixels, self.labels, self.names, self.augmentation = pixels, labels, names, augmentation
        self.rows = rows
        self.image_shape = tuple(pixels.shape[1:])
        self._epoch = _Epoch()

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def fingerprint(self) -> str:
        read = self.rows.cells if self.rows is not None else lambda rows: self.pixels[rows].numpy()
        return fingerprint(len(self), read)

    def _fetch(self, index: Tensor) -> Tensor:
        return self.pixels.index_select(0, index)  # twice as fast as pixels[index]

    def _chunks(self) -> Iterator[Tensor]:
        return iter(self.pixels.split(max(1, 2**22 // self.pixels[0].numel())))


class DecodedImages(_IndexedImages):
    """Pictures decoded at each access, where the decoded set would not fit in memory. Otherwise as `CachedImages`."""

    def __init__(self, rows: Rows, to_uint8: ToUint8, augmentation: Augmentation = PLAIN):
        self.rows, self.to_uint8, self.augmentation = rows, to_uint8, augmentation
        self.labels, self.names = rows.labels, rows.names
        self.image_shape = tuple(rows.decode([0], to_uint8).shape[1:])
        self._epoch = _Epoch()

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(len(self), self.rows.cells)

    def _fetch(self, index: Tensor) -> Tensor:
        return self.rows.decode(index.tolist(), self.to_uint8, self.image_shape)

    def _chunks(self) -> Iterator[Tensor]:
        """Evenly spaced over the set, `STATISTICS_IMAGES` at most."""
        chosen = torch.linspace(0, len(self) - 1, min(len(self), STATISTICS_IMAGES)).round().long()
        return (self._fetch(index) for index in chosen.split(64))


class StreamingImages(_Images, IterableDataset):
    """Pictures in the order in which they arrive, without end: each process reads its own share again and again.

    Shares may be uneven, and a process that ran out while others wait for it would stop them all; so the length of a
    run is given in steps. `state_dict` is exact without a shuffle buffer (there is none) and with `num_workers=0`: what
    workers have read ahead it does not know. Images are keyed by their own bytes, as a stream has no index that all
    ways of sharing it agree on. Do not give its loader to `Accelerator.prepare`, which would share it a second time.

    Args:
        stream: a `datasets.IterableDataset`.
        column: of the images.
        split: its name, for messages.
        to_uint8: an image processor's.
        rank, processes: this share; `split_dataset_by_node` deals whole shards where their number allows it, else rows.
    """

    def __init__(
        self,
        stream: Any,
        column: str,
        split: str,
        to_uint8: ToUint8,
        augmentation: Augmentation = PLAIN,
        rank: int = 0,
        processes: int = 1,
    ):
        from datasets.distributed import split_dataset_by_node

        self.whole, self.column, self.split, self.to_uint8 = stream, column, split, to_uint8
        self.share = split_dataset_by_node(stream, rank=rank, world_size=processes)
        self.augmentation, self._epoch = augmentation, _Epoch()
        self._start = self._first = self.share.state_dict()  # the stream's state where the current chunk begins
        self._shape: tuple[int, ...] | None = None
        self._given = 0  # images of the current chunk that were given out
        self._count = 0  # images of this share and epoch before the current chunk; for messages

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        return tuple(next(self._chunks()).shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """Of the first `STREAM_CHUNK` pictures of the whole stream: "stream-<16 hexadecimal digits>"."""
        cells = [row[self.column] for row in self.whole.take(STREAM_CHUNK)]
        return fingerprint(len(cells), lambda rows: [cells[row] for row in rows], kind="stream")

    def _decode(self, rows: Sequence[dict[str, Any]], before: int) -> Tensor:
        """(B, C, H, W) uint8; `before`: how many came earlier."""
        places = [f"image {before + n} of the stream of split {self.split!r}" for n in range(len(rows))]
        images = [open_image(row[self.column], place) for row, place in zip(rows, places, strict=True)]
        images = to_uint8_or_say_where(images, self.to_uint8, places)
        self._shape = self._shape or tuple(images.shape[1:])
        check_shape(images, self._shape, places[0])
        return images

    def __iter__(self) -> Iterator[Tensor]:
        """uint8 (C, H, W), from where `load_state_dict` said or the iterator before this one stopped."""
        while True:
            self.share.load_state_dict(self._start)
            for rows in _chunks_of(self.share, STREAM_CHUNK):
                images = self._decode(rows, self._count)
                keys = torch.tensor([zlib.crc32(image.numpy().tobytes()) for image in images])
                images = self.augmentation(images, keys, int(self._epoch))
                while self._given < len(images):
                    self._given += 1
                    yield images[self._given - 1]
                self._start, self._given, self._count = self.share.state_dict(), 0, self._count + len(images)
            if self._count == 0:
                return  # a worker without a shard has nothing to repeat
            self._start, self._count = self._first, 0
            self.set_epoch(int(self._epoch) + 1)

    def state_dict(self) -> dict[str, Any]:
        """Where this process stands: the epoch, and the stream's state at the current chunk with the place in it."""
        return {"epoch": int(self._epoch), "stream": self._start, "count": self._count, "given": self._given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iterator continues after the last image that was given when the state was taken."""
        self.set_epoch(state["epoch"])
        self._start, self._count, self._given = state["stream"], state["count"], state["given"]

    def _chunks(self) -> Iterator[Tensor]:
        """The first `STATISTICS_IMAGES` of the whole stream, so that all processes measure the same."""
        for number, rows in enumerate(_chunks_of(self.whole, STREAM_CHUNK)):
            if number * STREAM_CHUNK >= STATISTICS_IMAGES:
                return
            yield self._decode(rows, number * STREAM_CHUNK)


def _chunks_of(rows: Any, size: int) -> Iterator[list]:
    """Lists of `size`, the last one shorter."""
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk


@dataclass
class ImageSplits:
    """What to train on and what to evaluate on.

    Args:
        name: as it was asked for.
        train: `CachedImages`, `DecodedImages` or `StreamingImages`.
        eval: `CachedImages` or `DecodedImages`.
        train_split, eval_split: names of the splits; a held-out part is called "train (held out)".
        notes: what a user should know of choices made here; logged as warnings, too.
    """

    name: str
    train: _Images
    eval: _IndexedImages
    train_split: str
    eval_split: str
    notes: list[str] = field(default_factory=list)


def _process() -> tuple[int, int]:
    """(rank, processes) of the running process group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


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
    binarize: str = "none",
    streaming: bool = False,
    cache_limit_gib: float = 8.0,
    seed: int = 0,
) -> ImageSplits:
    """The images of a data set, ready for batches.

    Args:
        dataset_name: `digits`, a folder (parquet files, images, class directories, `save_to_disk`), or a Hub id.
        to_uint8: from a list of PIL images or arrays to uint8 (B, C, H, W): an image processor's method.
        dataset_config: configuration of a Hub data set that has several.
        image_column, label_column: default: found by their types.
        train_split: split to train on; the only one where there is no "train".
        eval_split: default: the first of test, validation, valid, val; else a tenth of the training split, whose choice
            no seed changes.
        max_train_samples, max_eval_samples: the first so many.
        random_flip, random_crop, binarize, seed: see `Augmentation`; evaluation is binarised once and never moved.
        streaming: read as the images arrive; nothing is downloaded whole.
        cache_limit_gib: GiB of decoded pixels of one split that a process keeps in memory; above it, images are
            decoded at each access.

    Raises:
        DataError: missing or empty data set, split or column, a corrupt image (with its row), an unfit one.
    """
    augmentation = Augmentation(random_flip, random_crop, binarize, seed)
    for knob, value in (("max_train_samples", max_train_samples), ("max_eval_samples", max_eval_samples)):
        if value is not None and value < 1:
            raise DataError(f"`{knob}` must be at least 1, got {value}.")
    tables = read_tables(dataset_name, dataset_config, streaming)
    if not tables:
        raise DataError(f"Data set {dataset_name!r} holds no split.")
    train_name, eval_name = find_splits(list(tables), train_split, eval_split)
    choice = _Choice(dataset_name, image_column, label_column, to_uint8, cache_limit_gib)
    if streaming:
        return choice.stream(tables, train_name, eval_name, max_train_samples, max_eval_samples, augmentation)
    train, held_out = choice.divide(tables, train_name, eval_name)
    return ImageSplits(
        name=dataset_name,
        train=choice.images(*train, max_train_samples, augmentation),
        eval=choice.images(*held_out, max_eval_samples, augmentation.for_evaluation()),
        train_split=train_name,
        eval_split=held_out[1],
        notes=choice.notes,
    )


@dataclass
class _Choice:
    """The knobs that every split shares, and what they led to."""

    name: str
    image_column: str | None
    label_column: str | None
    to_uint8: ToUint8
    cache_limit_gib: float
    notes: list[str] = field(default_factory=list)

    def say(self, note: str) -> None:
        self.notes.append(note)
        if os.environ.get("RANK", "0") == "0":
            logger.warning(note)

    def divide(self, tables: dict[str, Any], train: str, evaluation: str | None) -> tuple[tuple, tuple]:
        """(table, split name, row numbers) to train on and to evaluate on, holding out where needed."""
        table = tables[train]
        if evaluation is not None and evaluation != train:
            return (table, train, None), (tables[evaluation], evaluation, None)
        if evaluation == train:
            self.say(f"Evaluation uses the images it was trained on (`eval_split` is {evaluation!r}).")
            return (table, train, None), (table, train, None)
        if len(table) < 2:
            raise DataError(f"Split {train!r} of {self.name!r} holds {len(table)} images: too few to hold some out.")
        order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0)).numpy()
        held = max(1, round(HOLD_OUT * len(table)))
        train_rows, eval_rows = np.sort(order[held:]), np.sort(order[:held])
        self.say(
            f"{self.name!r} has no split to evaluate on ({', '.join(EVAL_SPLITS)}): {held} of the {len(table)} images "
            f"of {train!r} are held out."
        )
        return (table.select(train_rows), train, train_rows), (
            table.select(eval_rows),
            f"{train} (held out)",
            eval_rows,
        )

    def images(self, table: Any, split: str, row_numbers: Any, limit: int | None, augmentation: Augmentation):
        """The split in memory, or decoded at each access where it would be larger than the limit."""
        if limit is not None:
            table = table.select(range(min(limit, len(table))))
        if len(table) == 0:
            raise DataError(f"Split {split!r} of {self.name!r} is empty.")
        column = find_image_column(table.features, self.image_column)
        label_column = find_label_column(table.features, self.label_column)
        rows = Rows(table, split, column, label_column, row_numbers)
        size = len(rows) * rows.decode([0], self.to_uint8).numel() / 2**30
        if size <= self.cache_limit_gib:
            return CachedImages(rows.decode_all(self.to_uint8), rows.labels, rows.names, augmentation, rows)
        self.say(
            f"Split {split!r} would take {size:.2f} GiB decoded, more than `cache_limit_gib` {self.cache_limit_gib:g}: "
            f"images are decoded at each access (more `dataloader_num_workers` help)."
        )
        return DecodedImages(rows, self.to_uint8, augmentation)

    def stream(self, streams, train, evaluation, max_train, max_eval, augmentation: Augmentation) -> ImageSplits:
        """Training images as they arrive; the first held-out ones in memory."""
        stream, held = streams[train], max_eval or STREAM_EVAL_IMAGES
        if evaluation is None:
            self.say(f"{self.name!r} has no split to evaluate on: the first {held} images of {train!r} are held out.")
            source, name, stream = stream.take(held), f"{train} (held out)", stream.skip(held)
        else:
            source, name = streams[evaluation].take(held), evaluation
            if max_eval is None:
                self.say(f"Evaluation uses the first {held} images of split {name!r} at most (`max_eval_samples`).")
        if max_train is not None:
            stream = stream.take(max_train)
        held_out = self.images(_table_of(source, name, self.name), name, None, None, augmentation.for_evaluation())
        column = find_image_column(_stream_features(stream, train, self.name), self.image_column)
        stream = undecoded(stream, column).select_columns(column)
        images = StreamingImages(stream, column, train, self.to_uint8, augmentation, *_process())
        return ImageSplits(self.name, images, held_out, train, name, self.notes)


def _stream_features(stream: Any, split: str, name: str) -> dict[str, Any]:
    features = stream.features or stream._resolve_features().features
    if not features:
        raise DataError(f"Split {split!r} of {name!r} is empty.")
    return features


def _table_of(stream: Any, split: str, name: str) -> Any:
    """A short stream as a table, its images still encoded."""
    from datasets import Dataset as Table
    from datasets import Features
    from datasets import Image as ImageFeature

    features = _stream_features(stream, split, name)
    for column in [column for column, feature in features.items() if holds_encoded_images(feature)]:
        stream = stream.cast_column(column, ImageFeature(decode=False))
        features = Features({**features, column: ImageFeature(decode=False)})
    return Table.from_list(list(stream), features=features)
