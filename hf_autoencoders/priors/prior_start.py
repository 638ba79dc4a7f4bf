# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training on from a saved prior: of the same codes and classes, with what may change of its config."""

import copy
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ..models.configuration_image_token_lm import ImageTokenLMConfig
from ..training.arguments import Arguments
from ..training.saved_models import load_model, reading
from ..training.starting_point import Parent, load_parent, settle_knobs
from .autoregressive import check_fits, load_prior, sequencer_of
from .prior_knobs import check_prior_knobs
from .sequences import ImageTokenSequencer


# Architecture by the config's `model_type`, and its fields that --dropout sets.
PRIOR_KINDS = {
    "llama": ("llama", ("attention_dropout",)),
    "gpt2": ("gpt2", ("resid_pdrop", "embd_pdrop", "attn_pdrop")),
    "pixelcnn": ("pixelcnn", ("dropout",)),
    "bert": ("masked", ("hidden_dropout_prob", "attention_probs_dropout_prob")),
}
MAY_CHANGE_OF_A_PRIOR = {"dropout"}


def load_saved_prior(arguments: Arguments) -> Parent | None:
    """The prior that --init_from names, None without it; its knobs become those of the run.

    Raises:
        ValueError: nothing is there, it is no prior of ours, or a knob would change its net.
    """
    parent = load_parent(arguments, load_language_model)
    if parent is None:
        return None
    sequencer_of(parent.model)  # or it says what is missing
    arguments.model.update(settle_knobs(arguments, knobs_of_prior_config(parent.model.config), MAY_CHANGE_OF_A_PRIOR))
    check_prior_knobs(arguments)  # again: the architecture may be another one now
    return parent


def load_language_model(name: str, revision: str | None) -> PreTrainedModel:
    """The prior under a folder or Hub id, in float32; of a prior and its image model in one, the prior."""
    where = {"revision": revision or "main"}
    with reading(name):
        config = AutoConfig.from_pretrained(name, **where)
    if isinstance(config, ImageTokenLMConfig):
        return load_model(name, dtype=torch.float32, **where).language_model
    if config.model_type not in PRIOR_KINDS:
        raise ValueError(
            f"--init_from {name} is a {config.model_type}; priors that can be trained on are "
            f"{', '.join(kind for kind, _ in PRIOR_KINDS.values())}."
        )
    return load_prior(name, dtype=torch.float32, **where)


def knobs_of_prior_config(config: PreTrainedConfig) -> dict[str, Any]:
    """What --architecture, --hidden_size, ... made this config."""
    architecture, dropouts = PRIOR_KINDS[config.model_type]
    knobs = {"architecture": architecture, "hidden_size": config.hidden_size, "dropout": getattr(config, dropouts[0])}
    if architecture == "pixelcnn":
        return {**knobs, "num_layers": config.num_layers}
    return {**knobs, "num_layers": config.num_hidden_layers, "num_heads": config.num_attention_heads}


def check_same_codes(parent: Parent, arguments: Arguments, image_model: PreTrainedModel) -> None:
    """Raises ValueError unless the parent's tokens are of this image model's codebook and grid.

    Of the same codebook, that is: an image model whose decoder alone was trained has the same codes.
    """
    try:
        check_fits(sequencer_of(parent.model), image_model)
    except ValueError as error:
        name, tokenizer = arguments.run.init_from, arguments.model["image_tokenizer"]
        raise ValueError(f"--init_from {name} does not fit --image_tokenizer {tokenizer}. {error}") from error


def note_other_names(parent: Parent, sequencer: ImageTokenSequencer) -> None:
    """A line where the classes have other names than the parent's of the same numbers."""
    pairs = zip(sequencer_of(parent.model).class_names or (), sequencer.class_names or (), strict=False)
    if others := [f"{before} -> {now}" for before, now in pairs if before != now]:
        parent.notes.append(f"classes get the names of the data: {', '.join(others[:5])}{', ...' * (len(others) > 5)}")


def train_prior_on(parent: PreTrainedModel, sequencer: ImageTokenSequencer, dropout: float) -> PreTrainedModel:
    """A prior with the parent's weights, for the same codes and classes."""
    config = copy.deepcopy(parent.config)
    for field in PRIOR_KINDS[config.model_type][1]:
        setattr(config, field, dropout)
    config.image_token_sequencer = sequencer.to_dict()
    prior = type(parent)(config)
    prior.load_state_dict(parent.state_dict())
    if prior.can_generate():
        prior.generation_config.update(**sequencer.generation_kwargs())
    return prior
