# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pictures in the order in which they arrive: divided among processes, shuffled, and continued exactly after a stop.

    shards          each process gets its own shards, and reads several of them at a time, row by row in turn
    blocks          `shuffle` encoded pictures are read, and given out in an order drawn for (seed, epoch, block)
    decoding        in this process, or in workers, each of which gets the encoded pictures of one batch

Workers do not read the stream, so their number changes nothing. The position of a stream is that of the last picture
that was given out; pictures that workers decode ahead do not count.
"""

import copy
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .augmentation import PLAIN, Augmentation, hash_keys
from .crop_windows import CropWindow
from .fingerprints import fingerprint
from .image_columns import ARRAYS, DataError, type_name
from .image_rows import (
    SAMPLE,
    CorruptImage,
    ToUint8,
    check_shape,
    levels_of,
    open_image,
    range_of,
    those_that_open,
    to_uint8_or_say_where,
)
from .image_sets import STATISTICS_IMAGES, Epoch, Images, collate


logger = logging.getLogger(__name__)

CHUNK = 64  # pictures that are decoded together
LANES = 8  # shards that one process reads at a time


class Lanes:
    """Several streams read row by row in turn, each row once; a stream that has ended is skipped.

    `datasets.interleave_datasets` does the same, but its saved position does not lead back to the same row.

    >>> from datasets import Dataset
    >>> streams = [Dataset.from_dict({"n": rows}).to_iterable_dataset() for rows in ([0, 1, 2], [10])]
    >>> [row["n"] for row in Lanes(streams)]
    [0, 10, 1, 2]
    """

    def __init__(self, streams: Sequence[Any]):
        self.streams = list(streams)
        self._turn, self._ended = self._start = 0, [False] * len(self.streams)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Starts at the position of `load_state_dict`, or at the beginning."""
        (self._turn, self._ended), self._start = self._start, (0, [False] * len(self.streams))
        readers = [iter(stream) for stream in self.streams]
        while not all(self._ended):
            turn, self._turn = self._turn, (self._turn + 1) % len(self.streams)
            if self._ended[turn]:
                continue
            row = next(readers[turn], None)
            if row is None:
                self._ended[turn] = True
            else:
                yield row

    def state_dict(self) -> dict[str, Any]:
        """The position after the last row that was given out."""
        states = [copy.deepcopy(stream.state_dict()) for stream in self.streams]
        return {"turn": self._turn, "ended": list(self._ended), "streams": states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._start = state["turn"], list(state["ended"])
        for stream, inner in zip(self.streams, state["streams"], strict=True):
            stream.load_state_dict(copy.deepcopy(inner))


def share_of(stream: Any, rank: int = 0, processes: int = 1) -> Lanes:
    """This process's part of a `datasets.IterableDataset`, read from up to `LANES` shards in turn.

    This mixes a set that is sorted, for instance by class, as far as its shards allow (of few parquet files: their row
    groups). If there are fewer shards than processes, each process takes every n-th row.
    """
    from datasets.distributed import split_dataset_by_node

    if stream.num_shards < LANES * processes:
        stream = stream.reshard()
    if stream.num_shards < processes:
        return Lanes([split_dataset_by_node(stream, rank=rank, world_size=processes)])
    lanes = processes * min(LANES, stream.num_shards // processes)
    return Lanes([stream.shard(num_shards=lanes, index=index) for index in range(rank, lanes, processes)])


def key_of(cell: Any) -> int:
    """64 bits that identify a picture by its bytes. A stream has no index that is the same for all process counts."""
    if isinstance(cell, dict) and cell.get("bytes"):
        data = cell["bytes"]
    elif isinstance(cell, dict):
        data = str(cell.get("path")).encode()
    else:
        data = b"" if cell is None else np.ascontiguousarray(cell).tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def opener_of(stream: Any, column: str) -> Callable[[Any, str], Any]:
    """(cell, its place in words) -> a PIL image, or an array of levels 0..255; see `image_rows.open_image`.

    The range of arrays and float pictures is found once, in the first `SAMPLE` pictures of the undecoded `stream`.
    """
    feature = (stream.features or {}).get(column)
    dtype = feature.dtype if type_name(feature) in ARRAYS else None

    @cache
    def known_range() -> tuple[float, float]:
        cells = (row[column] for row in stream.take(SAMPLE))
        return range_of((open_image(cell, f"column {column!r}", None, dtype) for cell in cells), column)

    return lambda cell, place: levels_of(open_image(cell, place, None, dtype), place, known_range, asked=False)


@dataclass(frozen=True)
class Position:
    """The position in a stream: `given` pictures after the start of the block whose state is `block`, in this epoch."""

    epoch: int
    block: Any
    count: int  # pictures of this process in this epoch before the block
    given: int


@dataclass(frozen=True)
class Encoded:
    """An encoded picture, as it is sent to a decoder."""

    cell: Any
    key: int
    epoch: int
    place: str


class Decoder:
    """Encoded pictures -> uint8 (B, C, H, W). It is small, so that it can be sent to a worker.

    Args:
        to_uint8: an image processor's method.
        augmentation: applied to the pictures.
        dtype: of arrays.
        pixel_range: (black, white) of arrays and float pictures.
        skip_corrupt: True: another picture of the batch replaces one that cannot be decoded.
    """

    def __init__(
        self,
        to_uint8: ToUint8,
        augmentation: Augmentation,
        dtype: str | None,
        pixel_range: tuple[float, float] | None,
        skip_corrupt: bool,
    ):
        self.to_uint8, self.augmentation, self.dtype = to_uint8, augmentation, dtype
        self.pixel_range, self.skip_corrupt, self.asked = pixel_range, skip_corrupt, pixel_range is not None
        self.shape: tuple[int, ...] | None = None
        self.skipped = torch.zeros((), dtype=torch.int64).share_memory_()

    def __getitems__(self, batch: Sequence[Encoded]) -> Tensor:
        """What a DataLoader calls with each batch."""
        parts, batch = [], list(batch)
        while batch:  # a batch may cross the end of an epoch
            epoch = batch[0].epoch
            length = next((n for n, item in enumerate(batch) if item.epoch != epoch), len(batch))
            parts.append(self.decode(batch[:length]))
            batch = batch[length:]
        return torch.cat(parts)

    def decode(self, items: Sequence[Encoded], augment: bool = True) -> Tensor:
        """Pictures of one epoch. Without `augment`: the centre of each, for statistics and `image_shape`."""
        keys = torch.tensor([item.key for item in items])
        windows = None
        if self.shape is not None and self.augmentation.random_resized_crop is not None:
            size = self.shape[1:]
            centre = [CropWindow(1.0, 0.5, 0.5, *size)] * len(items)
            windows = self.augmentation.windows(keys, items[0].epoch, *size) if augment else centre
        pictures, good = self._open(items, windows)
        images = to_uint8_or_say_where(pictures, self.to_uint8, [items[index].place for index in good])
        self.shape = self.shape or tuple(images.shape[1:])
        check_shape(images, self.shape, items[good[0]].place)
        return self.augmentation(images, keys, items[0].epoch) if augment else images

    def _open(self, items: Sequence[Encoded], windows: Sequence[CropWindow] | None) -> tuple[list, list[int]]:
        """Returns (opened pictures, the index of the item of each)."""
        errors: list[CorruptImage] = []

        def leave_out(error: CorruptImage) -> None:
            errors.append(error)
            self.skipped += 1
            logger.warning(f"Left out: {error} ({int(self.skipped)} so far)")

        def open_one(index: int) -> Any:
            cell, place = items[index].cell, items[index].place
            image = open_image(cell, place, None if windows is None else windows[index], self.dtype)
            return levels_of(image, place, lambda: self.pixel_range, self.asked)

        pictures = dict(those_that_open(range(len(items)), open_one, leave_out if self.skip_corrupt else None))
        if not pictures:
            raise DataError(f"No picture of a batch can be decoded; the last: {errors[-1]}")
        good = list(pictures)
        good = [index if index in pictures else good[index % len(good)] for index in range(len(items))]
        return [pictures[index] for index in good], good


class StreamingImages(Images, IterableDataset):
    """Pictures of a stream, without end: each process reads its own share again and again.

    Shares may have different lengths, and a process without pictures would block the others; so the length of a run is
    given in steps, and a share has no end. `state_dict` is exact. Do not give its loader to `Accelerator.prepare`,
    which would divide it a second time.

    Args:
        stream: a `datasets.IterableDataset`.
        column: of the images.
        split: its name, for messages.
        to_uint8: an image processor's.
        augmentation: applied to each picture.
        rank, processes: which share this is, of how many.
        shuffle: pictures in a block, kept in memory as they are stored; 0: the order of arrival.
        held_out: keys of pictures that are skipped.
        limit: only the first so many rows of the stream.
        pixel_range, skip_corrupt: see `load_images`.
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
        shuffle: int = 0,
        held_out: frozenset[int] = frozenset(),
        limit: int | None = None,
        pixel_range: tuple[float, float] | None = None,
        skip_corrupt: bool = False,
    ):
        from datasets.distributed import split_dataset_by_node

        self.column, self.split, self.shuffle, self.held_out = column, split, shuffle, held_out
        self.augmentation, self._epoch = augmentation, Epoch()
        if limit is None:
            self.whole, self.share = share_of(stream), share_of(stream, rank, processes)
        else:
            self.whole = Lanes([stream.take(limit)])
            self.share = Lanes([split_dataset_by_node(stream.take(limit), rank=rank, world_size=processes)])
        feature = (stream.features or {}).get(column)
        dtype = feature.dtype if type_name(feature) in ARRAYS else None
        self.decoder = Decoder(to_uint8, augmentation, dtype, pixel_range, skip_corrupt)
        if dtype not in (None, "uint8") and pixel_range is None:
            first = [open_image(item.cell, item.place, None, dtype) for item in islice(self._first_items(), SAMPLE)]
            self.decoder.pixel_range = range_of(first, column)
        self._beginning = self.share.state_dict()
        self._position = Position(epoch=0, block=self._beginning, count=0, given=0)

    @property
    def skipped(self) -> int:
        """Corrupt pictures that were met until now, in all workers of this process."""
        return int(self.decoder.skipped)

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        first = list(islice(self._first_items(), CHUNK if self.decoder.skip_corrupt else 1))
        if not first:
            raise DataError(f"The stream of split {self.split!r} holds no picture to train on.")
        return tuple(self.decoder.decode(first, augment=False).shape[1:])

    @cached_property
    def fingerprint(self) -> str:
        """ "stream-" and 16 hexadecimal digits, of the first `CHUNK` pictures of the whole stream."""
        cells = [item.cell for item in islice(self._first_items(), CHUNK)]
        return fingerprint(len(cells), lambda rows: [cells[row] for row in rows], kind="stream")

    def __iter__(self) -> Iterator[Tensor]:
        """uint8 (C, H, W), from the position of `load_state_dict`, or where the last iterator stopped."""
        if get_worker_info() is not None:
            raise ValueError("Workers of a DataLoader would each read the whole share: use `batches(num_workers=...)`.")
        assert self.image_shape  # known before the first window is cut
        items = self._items(self._position)
        while chunk := list(islice(items, CHUNK)):
            images = self.decoder.__getitems__([item for item, _ in chunk])
            for image, (_, after) in zip(images, chunk, strict=True):
                self._stands_at(after)
                yield image

    def batches(
        self, batch_size: int, num_workers: int = 0, collate_fn: Callable[..., Any] = collate, **options: Any
    ) -> Iterator[dict[str, Tensor]]:
        """What `collate_fn` makes of uint8 (B, C, H, W), without end. `state_dict` then is the position after it.

        Args:
            batch_size: B.
            num_workers: processes that decode.
            options: of the DataLoader.
        """
        assert self.image_shape  # known before workers start, so that all cut windows of one shape
        positions: deque[Position] = deque()

        def read() -> Iterator[list[Encoded]]:
            items = self._items(self._position)
            while batch := list(islice(items, batch_size)):
                positions.append(batch[-1][1])
                yield [item for item, _ in batch]

        loader = DataLoader(
            self.decoder,
            batch_sampler=read(),
            num_workers=num_workers,
            collate_fn=collate_fn,
            generator=torch.Generator(),
            **options,
        )
        for batch in loader:
            self._stands_at(positions.popleft())
            yield batch

    def _items(self, position: Position) -> Iterator[tuple[Encoded, Position]]:
        """Pictures from `position` on, each with the position after it."""
        while True:
            self.share.load_state_dict(position.block)
            given_in_epoch = position.count > 0 or position.given > 0
            for rows in _chunks_of(self.share, self.shuffle or CHUNK):
                order = self._order(len(rows), position)
                for place in order[position.given :]:
                    position = replace(position, given=position.given + 1)
                    item = self._encoded(rows[place], position.count + place, position.epoch)
                    if item.key not in self.held_out:
                        given_in_epoch = True
                        yield item, position
                position = replace(position, block=self.share.state_dict(), count=position.count + len(rows), given=0)
            if not given_in_epoch:
                return  # a share without pictures has nothing to repeat
            position = Position(position.epoch + 1, self._beginning, 0, 0)

    def _order(self, length: int, position: Position) -> list[int]:
        if not self.shuffle:
            return list(range(length))
        seed = int(hash_keys(self.augmentation.seed, position.epoch, 8, torch.tensor(position.count)))
        return torch.randperm(length, generator=torch.Generator().manual_seed(seed)).tolist()

    def _encoded(self, row: dict[str, Any], number: int, epoch: int) -> Encoded:
        place = f"image {number} of the stream of split {self.split!r}"
        return Encoded(row[self.column], key_of(row[self.column]), epoch, place)

    def _stands_at(self, position: Position) -> None:
        self._position = position
        self.set_epoch(position.epoch)

    def state_dict(self) -> dict[str, Any]:
        """The position of this process: after the last picture, or batch, that was given out."""
        position = self._position
        return {"epoch": position.epoch, "stream": position.block, "count": position.count, "given": position.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iterator continues at this position."""
        self._stands_at(Position(state["epoch"], state["stream"], state["count"], state["given"]))

    def _first_items(self) -> Iterator[Encoded]:
        """The pictures of the whole stream in one pass, equal on all processes."""
        items = (self._encoded(row, number, 0) for number, row in enumerate(self.whole))
        return (item for item in items if item.key not in self.held_out)

    def _chunks(self) -> Iterator[Tensor]:
        """The first `STATISTICS_IMAGES` of the whole stream."""
        for items in _chunks_of(islice(self._first_items(), STATISTICS_IMAGES), CHUNK):
            yield self.decoder.decode(items, augment=False)


def _chunks_of(rows: Any, size: int) -> Iterator[list]:
    """Lists of `size`, the last one shorter."""
    rows = iter(rows)
    while chunk := list(islice(rows, size)):
        yield chunk
