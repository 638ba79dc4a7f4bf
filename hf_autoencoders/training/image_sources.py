# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Where images come from: `digits`, a Hub id, or a local folder, read to tables with a column of encoded pictures."""

import glob
import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .image_columns import DataError, one_line_of
from .image_folders import HELD_OUT, picture_table, read_layout, split_of
from .text import asked_of_hub


logger = logging.getLogger(__name__)

EVAL_SPLITS = ("test", "validation", "valid", "val")
STREAM_SHARDS = 64  # a folder of pictures that is read as a stream has at most so many shards


@dataclass
class ImageSource:
    """A data set as it was found: `datasets.Dataset` (or `IterableDataset`) by split, and notes for the user."""

    splits: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def find_splits(
    available: Sequence[str], train: str = "train", evaluation: str | None = None
) -> tuple[str, str | None]:
    """Names of the split to train on and of the one to evaluate on (None: there is none).

    If a name is not there, the only split with the same meaning is taken: `Training` for `train`.
    """
    if train not in available and len(available) == 1 and train == "train":
        train = available[0]  # a data set with one split only
    train, evaluation = (_same_meaning(name, available) for name in (train, evaluation))
    for name, knob in ((train, "train_split"), (evaluation, "eval_split")):
        if name is not None and name not in available:
            raise DataError(f"No split {name!r} (`{knob}`) in this data set; its splits: {', '.join(available)}.")
    return train, evaluation or usual_held_out_split(available, train)


def usual_held_out_split(available: Iterable[str], train: str) -> str | None:
    """The split to evaluate on where none is asked for; None: there is none.

    >>> usual_held_out_split(["train", "validation", "test"], "train"), usual_held_out_split(["train"], "train")
    ('test', None)
    """
    others = [name for name in available if name != train]
    usual = [name for name in EVAL_SPLITS if name in others]
    usual += [name for kind in HELD_OUT for name in others if split_of(name) == kind]
    return next(iter(usual), None)


def _same_meaning(name: str | None, available: Sequence[str]) -> str | None:
    if name is None or name in available:
        return name
    same = [other for other in available if split_of(other) is not None and split_of(other) == split_of(name)]
    return same[0] if len(same) == 1 else name


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


def _read_folder(folder: Path, config: str | None, streaming: bool) -> ImageSource:
    """Pictures, tables of pictures, or what `save_to_disk` wrote."""
    from datasets import Dataset as Table
    from datasets import load_dataset, load_from_disk

    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        saved = load_from_disk(str(folder))
        saved = {"train": saved} if isinstance(saved, Table) else dict(saved)
        return ImageSource({split: _as_stream(table) for split, table in saved.items()} if streaming else saved)
    if config is not None or _declares_configs(folder):
        return ImageSource(dict(load_dataset(str(folder), config, streaming=streaming)))
    kind, layout = read_layout(folder)
    order = [split for split in ("train", "validation", "test") if split in layout.splits]
    layout.splits = {split: layout.splits[split] for split in dict.fromkeys([*order, *layout.splits])}
    if kind == "pictures":
        tables = {split: picture_table(layout, split, folder) for split in layout.splits}
        return ImageSource({s: _as_stream(table) for s, table in tables.items()} if streaming else tables, layout.notes)
    tables = {}
    for split, paths in layout.splits.items():  # one by one, as their columns may differ
        files = [_plain_pattern(path) for path in paths]
        tables |= load_dataset(kind, data_files={split: files}, streaming=streaming)
    return ImageSource(tables, layout.notes)


def _as_stream(table: Any) -> Any:
    return table.to_iterable_dataset(num_shards=max(1, min(STREAM_SHARDS, len(table))))


def _declares_configs(folder: Path) -> bool:
    """Whether the folder's card says which files belong to which split; then the card decides."""
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    card = folder / "README.md"
    return card.is_file() and bool(MetadataConfigs.from_dataset_card_data(DatasetCard.load(card).data))


def _plain_pattern(path: Path) -> str:
    """`path` as a pattern for `datasets`: wild cards are escaped, and a link replaces `::`, which it would cut."""
    path = path.absolute()
    if "::" in str(path):
        from datasets import config

        link = Path(
            config.HF_DATASETS_CACHE, "links", hashlib.sha256(str(path).encode()).hexdigest()[:16] + path.suffix
        )
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        path = link
    return glob.escape(str(path))


def read_source(name: str, config: str | None, streaming: bool) -> ImageSource:
    """The data set of this name: `digits`, a folder, or a Hub id.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    if name == "digits":
        if streaming:
            raise DataError("`digits` is 115 kB and is not streamed; leave out `streaming`.")
        return ImageSource(_digits())
    path = Path(name).expanduser()
    if path.is_file():
        raise DataError(f"`dataset_name` {name} is a file; give the folder that holds train-*.parquet or images.")
    if not path.is_dir() and (name.startswith((".", "/", "~")) or name.count("/") > 1):
        raise DataError(f"`dataset_name` {name}: there is no such folder.")
    try:
        if path.is_dir():
            return _read_folder(path, config, streaming)
        from datasets import load_dataset

        return ImageSource(dict(load_dataset(name, config, streaming=streaming)))
    except Exception as error:  # datasets raises some ten kinds, from FileNotFoundError to DatasetGenerationError
        cause = error.__cause__ or error  # DatasetGenerationError has no message of its own, but its cause has
        text = str(error) if isinstance(error, DataError) else one_line_of(cause)
        raise DataError(f"Cannot read data set {name!r}{asked_of_hub(path)}. {text}") from error


def read_tables(name: str, config: str | None, streaming: bool) -> dict[str, Any]:
    """Split name -> `datasets.Dataset`, or `datasets.IterableDataset` of a stream; notes are logged."""
    source = read_source(name, config, streaming)
    for note in source.notes:
        say_once_a_run(note)
    return source.splits


def say_once_a_run(note: str) -> None:
    """Logs a warning, on the first process only."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning(note)
