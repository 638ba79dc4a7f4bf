# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Published weights of image tokenizers, as models of ours.

    model = convert("taming-vqgan", weights, image_size=256)      # weights: a state dict under its authors' names
    model = convert(None, weights)                                # the kind is recognised by the names

A kind is one line of a table in a file source_*.py.  Every size of the net is read off the weights; then every name
and every shape must fit our model exactly, and what a file holds beside the net is listed.  Reading files:
weight_files.py; tables of names: weight_names.py; comparing with the authors' own code: verification.py.
"""

from typing import Any

import torch
from transformers import PreTrainedModel

from hf_autoencoders.models.modeling_dvae import DVAEModel
from hf_autoencoders.models.modeling_vae import VAEModel
from hf_autoencoders.models.modeling_vqvae import VQVAEModel

from .source import Conversion, ImageSize, Source
from .source_compvis import VQGAN_SOURCES
from .source_conv import CONV_SOURCES
from .source_diffusers import DIFFUSERS_SOURCES
from .source_openai import OPENAI_SOURCES, named_parts
from .torch_files import Weights
from .weight_names import check_names_and_shapes, listed


SOURCES = {source.name: source for source in (*OPENAI_SOURCES, *VQGAN_SOURCES, *CONV_SOURCES, *DIFFUSERS_SOURCES)}
MODEL_CLASSES = {"dvae": DVAEModel, "vqvae": VQVAEModel, "vae": VAEModel}


def recognise(weights: Weights, settings: dict[str, Any] | None = None) -> Source:
    """The kind that these weights are of, by their names. Raises ValueError if they are of none."""
    weights = named_parts(weights)
    settings = {**(settings or {}), "neighbours": tuple(weights)}
    for source in SOURCES.values():
        if source.recognises(weights, settings):
            return source
    raise ValueError(
        f"These weights are of no kind that can be converted ({', '.join(SOURCES)}). They begin with "
        f"{sorted(weights)[:3]}."
    )


def conversion_of(
    kind: str | None,
    weights: Weights,
    image_size: ImageSize | None = None,
    settings: dict[str, Any] | None = None,
) -> tuple[Source, Conversion]:
    """The source, named or recognised, and what its weights become. Nothing is built yet."""
    if kind is not None and kind not in SOURCES:
        raise ValueError(f"`kind` must be one of {', '.join(SOURCES)}, got {kind!r}.")
    weights, settings = named_parts(weights), settings or {}
    source = recognise(weights, settings) if kind is None else SOURCES[kind]
    prefix = source.prefix(weights)
    if prefix is None:
        raise ValueError(
            f"There is no `{source.anchor}`: these are not the weights that this conversion is for. They begin with "
            f"{sorted(weights)[:3]}."
        )
    net = source.net(weights, prefix)
    size = source.size_of(settings) if image_size is None else image_size
    conversion = source.to_ours(net, size, settings)
    used = {f"{prefix}{name}" for name in net} - {f"{prefix}{name}" for name in conversion.left_behind}
    left = tuple(sorted(weights.keys() - used))
    return source, Conversion(conversion.config, conversion.weights, left, conversion.notes)


def build(conversion: Conversion) -> PreTrainedModel:
    """The model of a conversion, in eval mode; its dtype is that of the weights, its codebook stays float32.

    Nothing is allocated before every name and shape fits, so that no file can ask for more memory than it fills.

    Raises:
        ValueError: any weight that is missing, left over or of another shape.
    """
    with torch.device("meta"):
        model = MODEL_CLASSES[conversion.config.model_type](conversion.config)
    expected = model.state_dict()
    check_names_and_shapes(conversion.weights, expected)
    dtype = conversion.weights[next(name for name in expected if name.startswith("encoder."))].dtype
    if not dtype.is_floating_point:
        raise ValueError(f"The weights are {str(dtype).removeprefix('torch.')}, no floating point numbers.")
    dtype = dtype if dtype.itemsize > 1 else torch.float32  # no CPU computes with 8-bit floats
    filled = {}
    for name, tensor in conversion.weights.items():
        kept = name.startswith("quantize.") and dtype != torch.float64
        target = expected[name].dtype if kept else dtype
        filled[name] = tensor.detach().to(target, copy=True).contiguous()
    model.load_state_dict(filled, assign=True)
    model.config.dtype = dtype
    return model.eval()


def convert(
    kind: str | None,
    weights: Weights,
    image_size: ImageSize | None = None,
    settings: dict[str, Any] | None = None,
) -> PreTrainedModel:
    """A model of ours, in eval mode, with somebody else's weights.

    Args:
        kind: a key of SOURCES; None: the kind is recognised by the names.
        weights: state dict under its authors' names.
        image_size: pixels (side, or height and width) of the pictures it was trained on; no weight tells it. None: what
            `settings` say, or what the kind was published for.
        settings: what its file or folder says of the net, under the authors' names.

    Raises:
        ValueError: unknown `kind`, or any weight that is missing, left over or of another shape.
    """
    return build(conversion_of(kind, weights, image_size, settings)[1])


def left_in_words(names: tuple[str, ...]) -> str:
    """What of a file the model has no use for: names, or the first part of many with how many there are.

    >>> left_in_words(("loss.a", "quantize.codebook_used", "model_ema.x", "model_ema.y", "model_ema.z", "model_ema.w"))
    'loss.a, model_ema.* (4), quantize.codebook_used'
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(name.split(".")[0], []).append(name)
    words = [[f"{first}.* ({len(of)})"] if len(of) > 3 else of for first, of in groups.items()]
    return listed([word for group in words for word in group], most=12)
