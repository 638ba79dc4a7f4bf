# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The knobs of train_prior.py, and those that the trainers of priors and of latent diffusion share."""

from dataclasses import dataclass
from typing import Literal

from ..training.arguments import (
    Arguments,
    HubArguments,
    LoggingArguments,
    RunArguments,
    TrainingArguments,
    knob,
)
from ..training.knob_checks import check_arguments
from ..training.knobs import KnobTable
from .autoregressive import ARCHITECTURES


@dataclass
class PriorArguments:
    """The prior, and the image model whose tokens it learns."""

    _argument_group_name = "prior"

    image_tokenizer: str = knob(None, "folder or Hub id of the image model")
    image_tokenizer_revision: str = knob("main", "its commit, branch or tag on the Hub")
    architecture: Literal[tuple(ARCHITECTURES)] = knob(
        "llama", "stock llama or gpt2, the paper's pixelcnn, or a masked BERT"
    )
    image_token_lm: bool = knob(
        True, "llama, gpt2: save prior and image model in one, too, and publish it as <repository>-image-token-lm"
    )
    hidden_size: int = knob(128, "width")
    num_layers: int = knob(3, "layers")
    num_heads: int = knob(4, "heads of attention; divides the width")
    dropout: float = knob(0.0, "share of activations that a training step leaves out")
    unconditional: bool = knob(False, "leave the classes of the data set aside")
    class_dropout: float = knob(
        0.1, "share of training pictures that lose their class, for guidance; 0 where there are none"
    )


@dataclass
class PictureArguments:
    """Pictures that an image model encodes at the start."""

    _argument_group_name = "data"
    streaming = False  # no knob: what is encoded fits in memory
    cache_limit_gib, random_crop, dataloader_num_workers = 8.0, 0, 0  # no knobs either: each picture is read once

    dataset_name: str | None = knob(None, "pictures: 'digits', a Hub id, or a folder (default: digits)")
    dataset_config: str | None = knob(None, "configuration of a Hub data set that has several")
    image_column: str | None = knob(None, "column of the images (default: the only one of type Image)")
    label_column: str | None = knob(None, "column of the labels (default: found by its type)")
    train_split: str = knob("train", "split to train on")
    eval_split: str | None = knob(None, "held-out split (default: test, then validation)")
    max_train_samples: int | None = knob(None, "train on the first so many pictures")
    max_eval_samples: int | None = knob(None, "evaluate on the first so many pictures")
    binarize: Literal["none", "fixed"] = knob("none", "fixed: draw each pixel from its grey level, once")
    pixel_range: list[float] | None = knob(
        None, "black and white of array columns and float pictures (default: 0 255, 0 1 or 0 65535, as is found)"
    )
    skip_corrupt: bool = knob(False, "leave out and count pictures that cannot be decoded (default: stop at the first)")
    unknown_labels: Literal["refuse", "ignore"] = knob(
        "refuse", "classes that only the held-out split has: refuse them, or ignore (such a picture has no class)"
    )


@dataclass
class TokenArguments(PictureArguments):
    """Where the tokens come from: pictures that are encoded at the start, or a data set of tokens."""

    token_dataset: str | None = knob(None, "folder or Hub id of `hf-autoencoders encode_dataset`, in place of pictures")


OF_PICTURES = {
    "dataset_name", "dataset_config", "image_column", "label_column", "binarize", "pixel_range", "skip_corrupt",
    "unknown_labels",
}  # fmt: skip
LANGUAGE_MODELS = ("llama", "gpt2")
NEVER_READ = frozenset({"init_output_bias", "hub_strategy", "train_only"})  # of the shared groups


def check_prior_knobs(arguments: Arguments) -> None:
    prior, data, given = arguments.model, arguments.data, arguments.given
    if prior["image_tokenizer"] is None:
        raise ValueError("--image_tokenizer is needed: the model whose tokens the prior learns.")
    if data.token_dataset is not None and OF_PICTURES & given:
        raise ValueError(f"--{min(OF_PICTURES & given)} has no effect with --token_dataset; leave it out.")
    if min(prior[name] for name in ("hidden_size", "num_layers", "num_heads")) < 1:
        raise ValueError("--hidden_size, --num_layers and --num_heads must be at least 1.")
    if prior["architecture"] not in LANGUAGE_MODELS and "image_token_lm" in given and prior["image_token_lm"]:
        fits = ", ".join(LANGUAGE_MODELS)
        raise ValueError(f"--image_token_lm holds a causal language model ({fits}), no {prior['architecture']}.")
    if prior["architecture"] == "pixelcnn" and "num_heads" in given:
        raise ValueError("--num_heads has no effect with --architecture pixelcnn; leave it out.")
    check_shared(arguments)
    if data.token_dataset is None and data.dataset_name is None:
        data.dataset_name = "digits"


def check_shared(arguments: Arguments) -> None:
    """What holds for every model that learns an image model's codes or latents."""
    model, given = arguments.model, arguments.given
    if model["unconditional"] and model["class_dropout"] and "class_dropout" in given:
        raise ValueError("--class_dropout has no effect with --unconditional; leave it out.")
    if not 0 <= model["class_dropout"] < 1 or not 0 <= model["dropout"] < 1:
        raise ValueError(f"Dropouts lie in [0, 1), got {model['class_dropout']} and {model['dropout']}.")
    check_arguments(arguments)


def knobs_of_prior(data: type) -> dict[str, type]:
    """The groups that a prior shares with an autoencoder; `data`: where its examples come from."""
    return {
        "run": RunArguments,
        "data": data,
        "training": TrainingArguments,
        "logging": LoggingArguments,
        "hub": HubArguments,
    }


PRIOR_KNOBS = KnobTable(
    "train_prior",
    "Train a prior over image tokens.",
    knobs_of_prior(TokenArguments),
    ("prior",),
    PriorArguments,
    check_prior_knobs,
    NEVER_READ,
)


def parse_prior_arguments(argv: list[str] | None = None) -> Arguments:
    """The knobs of train_prior.py. Raises ValueError as `KnobTable.read` does."""
    return PRIOR_KNOBS.read(argv)
