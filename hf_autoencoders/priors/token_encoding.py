# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Writes data sets of image tokens, shard by shard, so that a killed run continues where it was.

A shard appears under its name only when it is whole, and `splits` in the record only when all shards are there.
"""

import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..models.codebooks import histogram, perplexity
from ..training.data import DecodedImages, collate
from ..training.fingerprints import fingerprint
from ..training.image_columns import undecoded
from ..training.image_rows import CorruptImage, Rows, those_that_open, to_uint8_or_say_where
from ..training.image_streams import opener_of
from ..training.run_files import CARD
from .ahead import ahead
from .cards import token_dataset_card
from .token_datasets import TokenDataset
from .token_records import COLUMN, RECORD, TokenDatasetError, differences, entry_of, name_of, read_token_record
from .token_shards import as_table, check_tokens, sha256_of


logger = logging.getLogger(__name__)

UNFINISHED = ".encoding"
STREAM_PICTURES = 64  # that a stream is known by


def token_type(codebook_size: int) -> str:
    """The smallest unsigned integer of 16 or 32 bits that holds every code.

    >>> token_type(65536), token_type(65537)
    ('uint16', 'uint32')
    """
    for name, limit in (("uint16", 2**16), ("uint32", 2**32)):
        if codebook_size <= limit:
            return name
    raise TokenDatasetError(f"Codes of a codebook of {codebook_size} do not fit 32 bits: at most {2**32} do.")


@torch.no_grad()
def encode_in_memory(
    model, images, batch_size: int = 256, tell: Callable[[int], None] = lambda count: None
) -> TokenDataset:
    """The tokens of a whole data set of pictures (`CachedImages`, `DecodedImages`), never written to disk."""
    kind, parts = token_type(model.codebook_size), []
    for start in range(0, len(images), batch_size):
        batch = images.batch(range(start, min(start + batch_size, len(images))))
        tokens = model.get_image_tokens(batch["pixel_values"].to(model.device))
        parts.append(tokens.flatten(1).cpu().numpy().astype(kind))
        tell(len(parts[-1]))
    return TokenDataset(np.concatenate(parts), tokens.shape[1:], images.labels, images.names)


class PixelRows(NamedTuple):
    """Pixels (B, C, H, W) of the pictures of a batch that can be decoded, and the numbers of their rows, (B,)."""

    pixels: Tensor
    rows: np.ndarray


class TokenRows(NamedTuple):
    """Flat tokens (B, N), and the numbers of their rows, (B,)."""

    tokens: np.ndarray
    rows: np.ndarray


# -- shards ------------------------------------------------------------------------------------------------------------


@dataclass
class ShardWriter:
    """Turns rows of pictures into shards of tokens; one for each process.

    Threads decode and resize the next pictures while the model encodes, and one writes the last shard meanwhile.

    Args:
        model: with `get_image_tokens`, in eval mode, on the device that computes.
        to_uint8: from pictures to uint8 (B, C, H, W): the image processor's.
        folder: of the data set.
        rows_per_shard: the unit in which a killed run is continued.
        num_workers: threads that decode pictures; 0: they are decoded when they are needed.
        rank, processes: this process, and how many share the work. Shard i belongs to process i % processes.
        tell: is called with the number of images of each batch.
        autocast: type that the model computes in (the nearest code is always found in float32); None: its own.
        skip_corrupt: leave out pictures that cannot be decoded, and say which; False: the first is an error.
    """

    model: Any
    to_uint8: Callable[[Sequence[Any]], Tensor]
    folder: Path
    rows_per_shard: int = 10_000
    batch_size: int = 256
    num_workers: int = 0
    rank: int = 0
    processes: int = 1
    tell: Callable[[int], None] = lambda count: None
    autocast: torch.dtype | None = None
    skip_corrupt: bool = False

    def encode_table(self, table: Any, split: str, column: str) -> list[str]:
        """Encodes this process's share of a `datasets.Dataset`; names of all shards of the split."""
        check_columns(table.column_names, split, len(table))
        count = -(-len(table) // self.rows_per_shard)
        names = [f"{split}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
        mine = [n for n in range(self.rank, count, self.processes) if not (self.folder / names[n]).exists()]
        if not mine:
            return names
        images = DecodedImages(Rows(table, split, column, None), self.to_uint8, skip_corrupt=self.skip_corrupt)

        def read(part: range) -> PixelRows:
            pixels = images.batch(part)["pixel_values"]
            good = ~images.is_replaced(part)
            return PixelRows(pixels[good], np.array(part)[good.numpy()])

        spans = [range(n * self.rows_per_shard, min((n + 1) * self.rows_per_shard, len(table))) for n in mine]
        batches = self._encoded(read, (rows for span in spans for rows in self._parts(span)))
        encoded = (self._of_shard(batches, len(span)) for span in spans)
        shards = (
            (names[number], flat, other_columns(table, rows, column))
            for number, (flat, rows) in zip(mine, encoded, strict=True)
        )
        deque(ahead(lambda shard: self._write(*shard), shards, min(1, self.num_workers)), maxlen=0)
        return names

    def _parts(self, rows: Sequence) -> list[Sequence]:
        """Batches of rows, none of which crosses the end of a shard."""
        return [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]

    def _of_shard(self, batches: Iterator[TokenRows], rows: int) -> TokenRows:
        """The next batches of that many rows, as one."""
        flat, kept = zip(*islice(batches, -(-rows // self.batch_size)), strict=True)
        return TokenRows(np.concatenate(flat), np.concatenate(kept))

    def _encoded(self, read: Callable[[Any], PixelRows], parts: Iterable[Any]) -> Iterator[TokenRows]:
        """Batch after batch; `read` gives the pictures of a part."""
        return (TokenRows(self.encode(pixels), rows) for pixels, rows in ahead(read, parts, self.num_workers))

    @torch.no_grad()
    def encode(self, pixel_values: Tensor) -> np.ndarray:
        """(B, C, H, W) -> flat tokens (B, N)."""
        if len(pixel_values) == 0:  # all pictures of a batch were corrupt
            return np.empty((0, self.model.num_image_tokens), token_type(self.model.codebook_size))
        device = self.model.device
        with torch.autocast(device.type, self.autocast, enabled=self.autocast is not None):
            tokens = self.model.get_image_tokens(pixel_values.to(device)).flatten(1)
        self.tell(len(tokens))
        return tokens.cpu().numpy().astype(token_type(self.model.codebook_size))

    def encode_stream(self, stream: Any, split: str, column: str) -> list[str]:
        """Encodes this process's share of a `datasets.IterableDataset`; names of the shards that it wrote.

        The stream's state is kept beside the shards, so that a continued run begins to read where it stopped. A shard
        written just before a kill, without its state, is written again under the same name.
        """
        from datasets.distributed import split_dataset_by_node

        encoded = undecoded(stream, column)
        open_cell, share = (
            opener_of(encoded, column),
            split_dataset_by_node(encoded, rank=self.rank, world_size=self.processes),
        )
        progress = self.folder / UNFINISHED / f"{split}-{self.rank:03d}.json"
        done = json.loads(progress.read_text(encoding="utf-8")) if progress.exists() else {"shards": [], "state": None}
        if done["state"] is not None:
            share.load_state_dict(done["state"])
        rows = iter(share)
        while chunk := list(islice(rows, self.rows_per_shard)):
            check_columns(chunk[0], split, len(chunk))
            name = f"{split}-{self.rank:03d}-{len(done['shards']):05d}.parquet"
            flat, kept = self._encode_rows(chunk, column, open_cell, split, len(done["shards"]) * self.rows_per_shard)
            self._write(name, flat, rows_without([chunk[row] for row in kept], column, stream.features))
            done = {"shards": [*done["shards"], name], "state": share.state_dict()}
            write_whole(progress, lambda path, done=done: path.write_text(json.dumps(done), encoding="utf-8"))
        return done["shards"]

    def _encode_rows(
        self, rows: list[dict[str, Any]], column: str, open_cell: Callable[[Any, str], Any], split: str, before: int
    ) -> TokenRows:
        def where(number: int) -> str:
            return f"image {before + number} of this process's share of {split!r}"

        def leave_out(error: CorruptImage) -> None:
            logger.warning(f"Left out: {error}")

        def read(part: range) -> PixelRows:
            images = dict(
                those_that_open(
                    part,
                    lambda number: open_cell(rows[number][column], where(number)),
                    leave_out if self.skip_corrupt else None,
                )
            )
            if not images:
                return PixelRows(torch.empty(0), np.array([], dtype=np.int64))
            pixels = to_uint8_or_say_where(list(images.values()), self.to_uint8, [where(number) for number in images])
            return PixelRows(collate(pixels)["pixel_values"], np.array(list(images)))

        return self._of_shard(self._encoded(read, self._parts(range(len(rows)))), len(rows))

    def _write(self, name: str, flat: np.ndarray, others: Any) -> None:
        from datasets import Dataset, Features, List, Value, concatenate_datasets

        kind = List(Value(token_type(self.model.codebook_size)), length=flat.shape[1])
        shard = Dataset.from_dict({COLUMN: flat}, features=Features({COLUMN: kind}))
        if others.column_names and len(flat):
            shard = concatenate_datasets([shard, others], axis=1)
        elif others.column_names:  # all pictures of the shard were corrupt; `concatenate_datasets` drops empty columns
            features = Features({COLUMN: kind, **others.features})
            shard = Dataset.from_dict({name: [] for name in features}, features=features)
        write_whole(self.folder / name, lambda path: shard.to_parquet(path))


def tokens_changed(writer: ShardWriter, images: Any, count: int = 1000) -> tuple[int, int]:
    """(tokens that `writer.autocast` changes, all tokens) of the first `count` of `images`."""
    changed, total, exact = 0, 0, replace(writer, autocast=None, tell=lambda count: None)
    for start in range(0, min(count, len(images)), writer.batch_size):
        pixels = images.batch(range(start, min(start + writer.batch_size, count, len(images))))["pixel_values"]
        tokens = exact.encode(pixels)
        changed += int((tokens != replace(exact, autocast=writer.autocast).encode(pixels)).sum())
        total += tokens.size
    return changed, total


def other_columns(table: Any, rows: np.ndarray, column: str) -> Any:
    """The columns of these rows except the pictures, and `index`: the number of each row in the table."""
    from datasets import Dataset

    index = rows.astype(np.int32)
    others = table.select(rows).remove_columns(column)
    if not others.column_names:  # such a table knows no number of rows
        return Dataset.from_dict({"index": index})
    return others if "index" in others.column_names else others.add_column("index", index)


def identity_of(table: Any, split: str, column: str, label_column: str | None, streaming: bool) -> dict[str, Any]:
    """Fingerprints of the pictures and of their labels. A continued run must find the same.

    Of a stream the first 64 pictures count; see `training.fingerprints` for what else may go unnoticed.
    """
    if streaming:
        cells = [row[column] for row in undecoded(table, column).take(STREAM_PICTURES)]
        return {"pictures": fingerprint(len(cells), lambda rows: [cells[row] for row in rows], kind="stream")}
    pictures = fingerprint(len(table), Rows(table, split, column, None).cells)
    if label_column is None:
        return {"pictures": pictures}
    labels = sha256_of(json.dumps(table[label_column][:], default=str).encode())[:16]
    return {"pictures": pictures, "labels": labels}


def with_numbered_words(tables: dict[str, Any], column: str) -> dict[str, Any]:
    """The tables with the words of `column` as classes, numbered in alphabetical order, alike in all splits."""
    from datasets import ClassLabel

    words = {word for table in tables.values() for word in table.unique(column) if word is not None}
    return {split: table.cast_column(column, ClassLabel(names=sorted(words))) for split, table in tables.items()}


def check_columns(columns: Any, split: str, rows: int) -> None:
    """Raises `TokenDatasetError` where there is nothing to encode, or where the rows hold tokens already."""
    if rows == 0:
        raise TokenDatasetError(f"Split {split!r} is empty.")
    if COLUMN in columns:
        raise TokenDatasetError(f"Split {split!r} has a column {COLUMN!r} already: these pictures were encoded before.")


def rows_without(rows: list[dict[str, Any]], column: str, features: Any) -> Any:
    """The other columns of rows of a stream, as a table."""
    from datasets import Dataset, Features

    kinds = None
    if features is not None:
        kinds = Features({name: kind for name, kind in features.items() if name != column})
    return Dataset.from_list([{name: value for name, value in row.items() if name != column} for row in rows], kinds)


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Writes into a hidden folder, flushes, and renames: the file is whole, or not there."""
    folder = path.parent if path.parent.name == UNFINISHED else path.parent / UNFINISHED
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{path.name}"
    write(beside)
    descriptor = os.open(beside, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(beside, path)


# -- the folder --------------------------------------------------------------------------------------------------------


def open_token_folder(folder: Path, record: dict[str, Any], overwrite: bool) -> bool:
    """Makes the folder ready for tokens as `record` describes them; True if it holds all of them already.

    Raises:
        TokenDatasetError: it is a file, or holds other tokens, or files that are none.
    """
    if folder.exists() and not folder.is_dir():
        raise TokenDatasetError(f"--output_dir {folder} is a file: give a folder.")
    path = folder / RECORD
    found = sorted(item.name for item in folder.iterdir()) if folder.is_dir() else []
    if found and overwrite and path.exists():
        remove_tokens(folder)
        found = []
    if path.exists():
        return check_same_tokens(folder, record)
    if found:
        raise TokenDatasetError(f"{folder} holds other files ({', '.join(found[:3])}): give another --output_dir.")
    write_whole(path, lambda beside: beside.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8"))
    return False


def check_same_tokens(folder: Path, record: dict[str, Any]) -> bool:
    """Whether the tokens in the folder are finished. Raises `TokenDatasetError` if `record` describes other ones."""
    present = read_token_record(folder)
    different = differences(present, record)
    if different:
        name = min(different)
        was, now = entry_of(present, name), entry_of(record, name)
        kind = name.split(".")[0]
        raise TokenDatasetError(
            f"{folder} holds tokens of {name_of(present)}, encoded with another {kind} ({name} was {was!r}, now is "
            f"{now!r}): give another --output_dir, or --overwrite."
        )
    return "splits" in present


def remove_tokens(folder: Path) -> None:
    """Deletes what this module writes; other files stay."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    for path in (folder / RECORD, folder / CARD, *folder.glob("*-[0-9]*.parquet")):
        path.unlink(missing_ok=True)


def finish_token_folder(folder: Path, shards: dict[str, list[str]]) -> dict[str, Any]:
    """Counts rows and codes, takes hashes, writes the card and, last, the finished record. `shards`: names by split."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["splits"] = {split: describe_split(folder, sorted(names), record) for split, names in shards.items()}
    write_whole(folder / CARD, lambda path: path.write_text(token_dataset_card(record), encoding="utf-8"))
    write_whole(folder / RECORD, lambda path: path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8"))
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    return record


def describe_split(folder: Path, shards: list[str], record: dict[str, Any]) -> dict[str, Any]:
    """Shards of a split with their hashes, its rows, the codes that occur in it, and their perplexity."""
    size, rows, hashes = record["codebook_size"], 0, {}
    counts = torch.zeros(size, dtype=torch.int64)
    for name in shards:
        content = (folder / name).read_bytes()
        table = as_table(content, folder / name)
        check_tokens(table, record, folder / name)
        hashes[name], rows = sha256_of(content), rows + len(table)
        for chunk in table.column(COLUMN).chunks:
            counts += histogram(torch.from_numpy(np.asarray(chunk.flatten()).astype(np.int64)), size, torch.int64)
    used, alike = int((counts > 0).sum()), perplexity(counts.double()).item()
    return {"shards": shards, "sha256": hashes, "rows": rows, "codes_used": used, "perplexity": alike}
