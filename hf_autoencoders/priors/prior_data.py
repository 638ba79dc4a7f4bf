# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a prior is trained on: an image model, the tokens of pictures, and sequences of them.

image model + pictures -> tokens (in memory), or a data set of tokens
tokens + classes -> sequences
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..training.arguments import Arguments
from ..training.batches import eval_batch_size
from ..training.data import ImageSplits, hold_out_rows, load_images
from ..training.fingerprints import fingerprint, identity
from ..training.image_sources import EVAL_SPLITS, usual_held_out_split
from ..training.saved_models import load_model, load_processor
from .classes import check_same_classes, settle_classes
from .prior_knobs import PictureArguments
from .sequences import ImageTokenSequencer
from .token_datasets import TokenDataset, load_token_dataset
from .token_encoding import encode_in_memory
from .token_records import TokenDatasetError, read_token_record


def load_image_model(name: str, revision: str = "main"):
    """An image model in eval mode, which takes no gradient, and its image processor."""
    return load_model(name, revision).requires_grad_(False), load_processor(name, revision)


class Sequences(Dataset):
    """What the loop takes of a set of tokens: batches {"input_ids", "labels"} (B, 1 + N) and {"index"} (B,)."""

    def __init__(self, tokens: TokenDataset, sequencer: ImageTokenSequencer):
        self.tokens, self.sequencer = tokens, sequencer

    def __len__(self) -> int:
        return len(self.tokens)

    def set_epoch(self, epoch: int) -> None:
        """Nothing here changes with the epoch: classes are dropped by the model in training."""

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        batch = self.tokens.__getitems__(indices)
        labels = batch.get("labels") if self.sequencer.num_classes else None
        return {**self.sequencer(batch["image_tokens"], labels), "index": torch.as_tensor(indices)}


@dataclass
class TokenSplits:
    """Tokens to train on and to evaluate on.

    Attributes:
        num_classes: that both splits agree on, 0 without classes.
        images: the held-out pictures, where there are any.
        metrics: of the image model on them, once measured.
        pictures: those to train on, where there are any.
    """

    name: str
    train: TokenDataset
    eval: TokenDataset
    num_classes: int = 0
    images: Any = None
    metrics: dict[str, float] | None = None
    pictures: Any = None

    def identity(self) -> dict[str, Any]:
        """Equal for the same pictures to train on, or the same tokens where they were read, with the same labels.

        Of pictures and not of the tokens just made of them: another number of threads may round one to another code.
        """
        if self.pictures is not None:
            return identity(self.pictures, self.train.labels)
        read = SimpleNamespace(fingerprint=fingerprint(len(self.train), lambda rows: self.train.tokens[rows]))
        return identity(read, self.train.labels)


def read_tokens(
    arguments: Arguments,
    image_model,
    processor,
    device: torch.device,
    say: Callable,
    known_classes: int | None = None,
) -> TokenSplits:
    """Encodes pictures, or reads tokens and makes sure that they are of this model. Classes are settled first.

    Args:
        known_classes: of the prior that is trained on; None of one that starts anew, which takes those of the data.
    """
    data = arguments.data
    if data.token_dataset is not None:
        train, held_out = read_token_splits(data, image_model, say)
        classes, labels = agreed_classes(arguments, train, held_out, say, known_classes)
        splits = TokenSplits(data.token_dataset, train, held_out, classes)
    else:
        images = read_pictures(arguments, processor)
        classes, labels = agreed_classes(arguments, images.train, images.eval, say, known_classes)
        image_model.to(device)
        batch_size = eval_batch_size(arguments, images.train.image_shape)
        say(f"encoding {len(images.train):,} + {len(images.eval):,} images of {images.name}")
        train, held_out = (encode_in_memory(image_model, part, batch_size) for part in (images.train, images.eval))
        splits = TokenSplits(images.name, train, held_out, classes, images.eval, pictures=images.train)
    splits.eval.labels = labels
    return splits


def agreed_classes(
    arguments: Arguments,
    train: Any,
    held_out: Any,
    say: Callable,
    known_classes: int | None = None,
) -> tuple[int, Tensor | None]:
    """As `settle_classes`, or 0 and None with --unconditional. `known_classes`: of `read_tokens`."""
    count, labels = 0, None
    if not arguments.model["unconditional"]:
        count, labels = settle_classes(train, held_out, say)
        if not count:
            say("no column of classes was found: the prior knows none (--label_column names one)")
    if known_classes is not None:
        check_same_classes(known_classes, count, arguments)
    return count, labels


def read_token_splits(data: Any, image_model, say: Callable) -> tuple[TokenDataset, TokenDataset]:
    """(tokens to train on, held-out ones). Of a data set with one split, rows are held out: those of the pictures that
    a training on these pictures holds out, too.

    Raises:
        TokenDatasetError: no such data set or split, tokens of another model, or too few.
    """
    name, read = data.token_dataset, partial(load_token_dataset, data.token_dataset, expect=image_model)
    train = read(split=data.train_split)
    splits = read_token_record(name).get("splits", {})
    held_out_split = data.eval_split or usual_held_out_split(splits, data.train_split)
    if held_out_split is not None:
        held_out = read(split=held_out_split)
    elif len(train) < 2:
        raise TokenDatasetError(f"Split {data.train_split!r} of {name} has {len(train)} rows, too few to divide.")
    else:
        rows, held_out_rows = hold_out_rows(len(train))
        say(
            f"{name} has no split to evaluate on ({', '.join(EVAL_SPLITS)}): {len(held_out_rows)} of the {len(train)} "
            f"rows of {data.train_split!r} are held out."
        )
        train, held_out = train.select(rows), train.select(held_out_rows)
    return train.first(data.max_train_samples), held_out.first(data.max_eval_samples)


def read_pictures(arguments: Arguments, processor) -> ImageSplits:
    """The pictures, at the size and scale that the image model's own processor gives them."""
    data = arguments.data
    knobs = {field.name: getattr(data, field.name) for field in dataclasses.fields(PictureArguments)}
    return load_images(knobs.pop("dataset_name"), to_uint8=processor.to_uint8, seed=arguments.run.seed, **knobs)
