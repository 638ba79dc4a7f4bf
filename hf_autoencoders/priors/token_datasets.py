# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Data sets of image tokens: written once, read by every prior, and never mixed up with another model's.

folder/
  train-00000-of-00004.parquet   image_tokens: flat in raster order, fixed length, uint16 (uint32 above 65,536 codes)
  ...                            the other columns of the pictures' data set, and `index`, the row they came from
  image_tokenizer.json           which model made the tokens, from what, and how many there are
  README.md                      the same as a card
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..training.image_columns import find_label_column
from .token_records import TokenDatasetError, check_same_image_tokenizer, read_token_record
from .token_shards import flat_tokens, read_token_shards


class TokenBatch(Sequence):
    """Pictures of a batch: whole columns by name, or one picture by number, as torch's `default_collate` reads it.

    >>> batch = TokenBatch({"image_tokens": torch.zeros(3, 7, 7), "labels": torch.arange(3)})
    >>> batch["image_tokens"].shape, batch[2]["labels"], len(batch)
    (torch.Size([3, 7, 7]), tensor(2), 3)
    """

    def __init__(self, columns: dict[str, Tensor]):
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["image_tokens"])

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: column[key] for name, column in self.columns.items()}

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return (self[number] for number in range(len(self)))

    def keys(self):
        """Names of the columns, so that `dict(batch)` holds them whole."""
        return self.columns.keys()

    def get(self, name: str, default: Any = None) -> Any:
        return self.columns.get(name, default)


class TokenDataset(Dataset):
    """Image tokens in memory, in the small integers of the files.

    Args:
        tokens: (N, h*w) or (N, h*w*depth), unsigned integers, flat in raster order.
        grid_size: (h, w) or (h, w, depth).
        labels: (N,) int64, or None.
        names: of the classes, or None.
        record: what image_tokenizer.json says; None for tokens that were never on disk.

    >>> tokens = TokenDataset(np.zeros((10, 49), dtype=np.uint16), (7, 7), labels=torch.arange(10))
    >>> tokens.__getitems__([0, 1, 2])["image_tokens"].shape
    torch.Size([3, 7, 7])
    """

    def __init__(
        self,
        tokens: np.ndarray,
        grid_size: Sequence[int],
        labels: Tensor | None = None,
        names: list[str] | None = None,
        record: dict[str, Any] | None = None,
    ):
        if tokens.ndim != 2 or tokens.shape[1] != int(np.prod(grid_size)):
            fits = f"(N, {int(np.prod(grid_size))})"
            raise TokenDatasetError(f"Tokens of a {tuple(grid_size)} grid must be {fits}, got {tokens.shape}.")
        self.tokens, self.grid_size = tokens, tuple(grid_size)
        self.labels, self.names, self.record = labels, names, record

    def __len__(self) -> int:
        return len(self.tokens)

    def first(self, count: int | None) -> "TokenDataset":
        """The first so many pictures; None: all of them."""
        return self.select(slice(count))

    def select(self, rows: Any) -> "TokenDataset":
        """The pictures of these numbers."""
        labels = None if self.labels is None else self.labels[rows]
        return TokenDataset(self.tokens[rows], self.grid_size, labels, self.names, self.record)

    @property
    def num_classes(self) -> int:
        """Classes that the labels name; 0 without labels."""
        if self.labels is None:
            return 0
        return len(self.names) if self.names else int(self.labels.max()) + 1

    def __getitems__(self, indices: Sequence[int]) -> TokenBatch:
        """{"image_tokens": int64 (B, h, w), "labels": int64 (B,) where there are any}: a whole batch at once."""
        rows = self.tokens[np.asarray(indices, dtype=np.int64)].astype(np.int64)
        batch = {"image_tokens": torch.from_numpy(rows).view(-1, *self.grid_size)}
        if self.labels is not None:
            batch["labels"] = self.labels[torch.as_tensor(indices, dtype=torch.int64)]
        return TokenBatch(batch)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Picture {index} of {len(self)}.")
        return self.__getitems__([index])[0]


def load_token_dataset(
    name: str | Path, expect=None, split: str = "train", revision: str | None = None, verify: bool = True
) -> TokenDataset:
    """A split of a data set that encode_dataset.py wrote.

    Args:
        name: a folder, or a Hub id.
        expect: the image model that the tokens must be of.
        verify: compare each file with the hash that was taken when it was written.

    Raises:
        TokenDatasetError: no such data set or split, one that is not finished or damaged, or tokens of another model.
    """
    record = read_token_record(name, revision)
    if "splits" not in record:
        raise TokenDatasetError(
            f"{name} is not finished: run `hf-autoencoders encode_dataset` again with the same arguments."
        )
    if split not in record["splits"]:
        raise TokenDatasetError(f"No split {split!r} in {name}; its splits: {', '.join(record['splits'])}.")
    if expect is not None:
        check_same_image_tokenizer(record, expect, str(name))
    table = read_token_shards(name, record, split, revision, verify)
    labels, names = labels_of(table, record.get("label_column"))
    return TokenDataset(flat_tokens(table, record), record["grid_size"], labels, names, record)


def labels_of(table: Any, wanted: str | None = None) -> tuple[Tensor | None, list[str] | None]:
    """Class of each row of a `pyarrow.Table`, (N,) int64, -1 where it has none, and the names of the classes.

    Args:
        wanted: column of the labels; found by its type if None.
    """
    from datasets import Features

    try:
        features = Features.from_arrow_schema(table.schema)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # of whatever its JSON could hold
        raise TokenDatasetError(f"The shards' description of their columns is damaged: {error}.") from error
    column = find_label_column(features, wanted)
    if column is None:
        return None, None
    values = table.column(column).fill_null(-1).combine_chunks().to_numpy(zero_copy_only=False)
    return torch.from_numpy(values.astype(np.int64)), getattr(features[column], "names", None)
