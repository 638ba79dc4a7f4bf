# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The pictures that a finished run was trained and measured on, read as it read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from .data import ImageSplits, load_images
from .saved_models import read_json_object


COLUMNS = ("dataset_config", "image_column", "label_column", "train_split", "eval_split")
READING = ("pixel_range", "skip_corrupt", "unknown_labels")


def images_of_run(
    run: str | Path,
    to_uint8: Callable[..., Tensor],
    dataset_name: str | None = None,
    binarize: str | None = None,
    seed: int = 0,
    **knobs: Any,
) -> tuple[ImageSplits, str]:
    """Returns (images without flips and crops, how they are binarised), read as the run read them by default.

    Args:
        run: a folder written by train.py. For any other name, give `dataset_name` too.
        to_uint8: the image processor's method.
        knobs: of `load_images`; they replace the run's own.

    Raises:
        ValueError: nothing names the data set, or it cannot be read (DataError).
    """
    record = read_record(run)
    trained_on = record.get("dataset", {}).get("name")
    dataset = dataset_name or trained_on
    if dataset is None:
        raise ValueError(f"{run} does not say what it was trained on: give --dataset_name.")
    settings = record.get("settings", {}) if dataset == trained_on else {}
    own = {name: settings[name] for name in (*COLUMNS, *READING) if name in settings}
    binarize = binarize or record.get("dataset", {}).get("binarize", "none")
    return load_images(dataset, to_uint8=to_uint8, binarize=binarize, seed=seed, **{**own, **knobs}), binarize


def read_record(run: str | Path) -> dict[str, Any]:
    """The content of the run's metrics.json; {} for a model without it."""
    path = Path(run) / "metrics.json"
    return read_json_object(path) if path.is_file() else {}
