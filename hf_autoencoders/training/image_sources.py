# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Where images come from: `digits`, a Hub id, or a local folder, read to tables with a column of encoded pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .image_columns import DataError, one_line_of


EVAL_SPLITS = ("test", "validation", "valid", "val")


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
        raise DataError(f"Cannot read data set {name!r}.{hint} {one_line_of(cause)}") from error
