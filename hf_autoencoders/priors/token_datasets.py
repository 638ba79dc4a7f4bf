# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Data sets of image tokens: written once, read by every prior, and never mixed up with another model's.

folder/
  train-00000-of-00004.parquet   image_tokens: flat in raster order, fixed length, uint16 (uint32 above 65,536 codes)
  ...                            the other columns of the pictures' data set, and `index`, the row they came from
  image_tokenizer.json           which model made the tokens, from what, and how many there are
  README.md                      the same as a card
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..training.image_columns import find_label_column
from .sequences import commit_of, digest_of


RECORD = "image_tokenizer.json"
COLUMN = "image_tokens"


class TokenDatasetError(ValueError):
    """The tokens cannot be written or read, and one line says why."""


# -- which model made them ---------------------------------------------------------------------------------------------


def describe_image_tokenizer(model, image_processor=None, revision: str | None = None) -> dict[str, Any]:
    """What must be equal for tokens to mean the same: name, commit, weights, codebook, grid, order, processor."""
    config = model.config
    return {
        "image_tokenizer": public_name(config.name_or_path),
        "revision": commit_of(config.name_or_path, revision),
        "weights": fingerprint(model),
        "model_type": config.model_type,
        "codebook_size": model.codebook_size,
        "grid_size": [*model.grid_size, *([config.codes_per_position] if config.codes_per_position > 1 else [])],
        "order": "raster",
        "image_size": [config.height, config.width],
        "dtype": str(model.dtype).removeprefix("torch."),
        "image_processor": json.loads(image_processor.to_json_string()) if image_processor is not None else None,
    }


def public_name(name: str | None) -> str | None:
    """A Hub id as it is, a folder by its own name: paths of somebody's machine are nobody's business."""
    return Path(name).resolve().name if name and Path(name).exists() else name or None


def fingerprint(model) -> str:
    """16 hexadecimal digits of a hash over all weights that decide a picture's tokens: encoder and codebook."""
    return digest_of(model, ("encoder.", "quant_conv.", "quantize."))


def name_of(record: dict[str, Any]) -> str:
    """
    >>> record = {"image_tokenizer": "org/vq", "revision": None, "weights": "409250a3"}
    >>> name_of({**record, "codebook_size": 128, "grid_size": [7, 7]})
    'org/vq (128 codes, grid 7x7, weights 409250a3)'
    """
    name = record["image_tokenizer"] or "a model without a name"
    if record["revision"]:
        name += f" at {record['revision'][:12]}"
    grid = "x".join(map(str, record["grid_size"]))
    return f"{name} ({record['codebook_size']} codes, grid {grid}, weights {record['weights']})"


def check_same_image_tokenizer(record: dict[str, Any], model, where: str) -> None:
    """Raises `TokenDatasetError`, naming both, unless `model` is the one that made the tokens."""
    expected = describe_image_tokenizer(model)
    if any(record[key] != expected[key] for key in ("weights", "codebook_size", "grid_size", "order")):
        dtype = "" if record["dtype"] == expected["dtype"] else f" (in {record['dtype']} and {expected['dtype']})"
        raise TokenDatasetError(
            f"The tokens in {where} are of {name_of(record)}, the model is {name_of(expected)}{dtype}: "
            "its codes mean other pictures. Encode the images again with this model."
        )


# -- reading -----------------------------------------------------------------------------------------------------------


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
        labels = None if self.labels is None else self.labels[:count]
        return TokenDataset(self.tokens[:count], self.grid_size, labels, self.names, self.record)

    @property
    def num_classes(self) -> int:
        """Classes that the labels name; 0 without labels."""
        if self.labels is None:
            return 0
        return len(self.names) if self.names else int(self.labels.max()) + 1

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """{"image_tokens": int64 (B, h, w), "labels": int64 (B,) where there are any}: a whole batch at once."""
        rows = self.tokens[np.asarray(indices)].astype(np.int64)
        batch = {"image_tokens": torch.from_numpy(rows).view(-1, *self.grid_size)}
        return batch if self.labels is None else {**batch, "labels": self.labels[torch.as_tensor(indices)]}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"Picture {index} of {len(self)}.")
        return {name: values[0] for name, values in self.__getitems__([index]).items()}


def load_token_dataset(
    name: str | Path, expect=None, split: str = "train", revision: str | None = None
) -> TokenDataset:
    """A split of a data set that encode_dataset.py wrote.

    Args:
        name: a folder, or a Hub id.
        expect: the image model that the tokens must be of.

    Raises:
        TokenDatasetError: no such data set or split, one that is not finished, or tokens of another model.
    """
    record = read_record(name, revision)
    if "splits" not in record:
        raise TokenDatasetError(f"{name} is not finished: run encode_dataset.py again with the same arguments.")
    if split not in record["splits"]:
        raise TokenDatasetError(f"No split {split!r} in {name}; its splits: {', '.join(record['splits'])}.")
    if expect is not None:
        check_same_image_tokenizer(record, expect, str(name))
    table = _read_table(name, record["splits"][split]["shards"], split, revision)
    rows = record["splits"][split]["rows"]
    if len(table) != rows:
        raise TokenDatasetError(f"{name} should hold {rows} rows in split {split!r}, found {len(table)}.")
    tokens = _flat_tokens(table)
    if rows and tokens.max() >= record["codebook_size"]:
        raise TokenDatasetError(
            f"{name} holds code {tokens.max()} in split {split!r}, but {name_of(record)} has none above "
            f"{record['codebook_size'] - 1}: the files are damaged, or not those of the record."
        )
    labels, names = _labels(table)
    return TokenDataset(tokens, record["grid_size"], labels, names, record)


def read_record(name: str | Path, revision: str | None = None) -> dict[str, Any]:
    """image_tokenizer.json of a folder or of a data set on the Hub."""
    path = Path(name) / RECORD
    if not Path(name).is_dir() and str(name).count("/") <= 1 and not str(name).startswith((".", "/", "~")):
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, HFValidationError, RepositoryNotFoundError

        try:
            path = Path(hf_hub_download(str(name), RECORD, repo_type="dataset", revision=revision))
        except (EntryNotFoundError, HFValidationError, RepositoryNotFoundError) as error:
            raise TokenDatasetError(
                f"{name} is no data set of image tokens: no folder here, and nothing on the Hub with {RECORD} "
                f"({type(error).__name__})."
            ) from error
    if not path.exists():
        raise TokenDatasetError(f"{name} is no data set of image tokens: it has no {RECORD}.")
    return json.loads(path.read_text(encoding="utf-8"))


def _read_table(name: str | Path, shards: list[str], split: str, revision: str | None) -> Any:
    from datasets import load_dataset

    if not Path(name).is_dir():
        return load_dataset(str(name), data_files={split: shards}, split=split, revision=revision)
    missing = [shard for shard in shards if not (Path(name) / shard).exists()]
    if missing:
        raise TokenDatasetError(f"{len(missing)} of {len(shards)} shards of {name} are missing, such as {missing[0]}.")
    return load_dataset("parquet", data_files={split: [str(Path(name) / shard) for shard in shards]}, split=split)


def _flat_tokens(table: Any) -> np.ndarray:
    """(N, n), through Arrow: a hundred times as fast as row by row."""
    column = table.data.column(COLUMN)
    flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks])
    return flat.reshape(len(table), -1)


def _labels(table: Any) -> tuple[Tensor | None, list[str] | None]:
    column = find_label_column(table.features)
    if column is None:
        return None, None
    return torch.tensor(table[column][:], dtype=torch.int64), getattr(table.features[column], "names", None)
