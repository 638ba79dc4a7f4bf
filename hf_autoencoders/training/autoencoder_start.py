# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training on from a saved autoencoder: what may change in its config, and which parts are not trained."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from .arguments import Arguments
from .channels import change_channels, how_channels_change
from .config_knobs import config_fields
from .starting_point import LoadParent, Parent, load_parent, same_value, settle_knobs


# Fields of a config that change neither the net nor what its weights mean; `num_channels` changes two layers.
MAY_CHANGE = {
    "image_size", "num_channels", "kl_weight", "commitment_cost", "gumbel_temperature", "hard",
    "num_importance_samples", "data_variance", "ema_decay", "ema_epsilon", "dead_code_threshold", "codebook_seed",
    "scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast",
}  # fmt: skip
# What --train_only calls a part, and the modules and parameters of a model that belong to it.
PARTS = {
    "encoder": ("encoder", "quant_conv"),
    "codebook": ("quantize",),
    "decoder": ("decoder", "post_quant_conv", "likelihood", "log_variance"),
}


def load_autoencoder(arguments: Arguments, load: LoadParent | None) -> Parent | None:
    """The autoencoder that --init_from names, with notes for the screen and metrics.json; None without it.

    Raises:
        ValueError: nothing is there, it is of another type, has no decoder, or takes other channels and cannot change.
    """
    parent, name = load_parent(arguments, load), arguments.run.init_from
    if parent is None:
        return None
    config = parent.model.config
    if config.model_type != arguments.model_type:
        raise ValueError(
            f"--init_from {name} is a {config.model_type}, and this run trains a {arguments.model_type}: give "
            f"--model_type {config.model_type}."
        )
    if getattr(config, "encoder_only", False):
        raise ValueError(f"--init_from {name} has no decoder, so it cannot be trained to reconstruct.")
    channels = arguments.model.get("num_channels", config.num_channels)
    changed = how_channels_change(config, channels)
    # Another first layer changes the rounding of a frozen encoder, and what it sees of colours.
    keeps_latents = set(arguments.run.train_only) == {"decoder"} and changed is None
    has_codes = getattr(parent.model, "codebook_size", None) is not None
    if changed is not None:
        parent.notes.append(changed)
        parent.facts["num_channels"] = [config.num_channels, channels]
    if keeps_latents and has_codes:
        parent.notes.append("every picture keeps its tokens: token data sets and priors of that model stay valid")
    elif keeps_latents:
        parent.notes.append("every picture keeps its latents: latent diffusion on them stays valid")
    parent.facts["keeps_tokens"] = keeps_latents and has_codes
    return parent


def train_on(parent: PreTrainedModel, arguments: Arguments, image_size: int | list[int]) -> PreTrainedModel:
    """A model with the parent's weights, for pictures of `image_size`, with the user's changes.

    Raises:
        ValueError: a knob that would change the net, or a size that it does not take.
    """
    config, name = parent.config, arguments.run.init_from
    own = {field: getattr(config, field) for field in config_fields(config.model_type)}
    fields = settle_knobs(arguments, own, MAY_CHANGE)
    fields["image_size"] = arguments.model.get("image_size", image_size)
    if config.backbone == "mlp" and not same_value(fields["image_size"], config.image_size):
        raise ValueError(
            f"--init_from {name} has the mlp backbone, made for pictures of {config.image_size}, not "
            f"{fields['image_size']}."
        )
    model = type(parent)(type(config)(**fields))
    model.load_state_dict(change_channels(parent, fields["num_channels"]))
    return model


def train_parts(model: PreTrainedModel, parts: Sequence[str]) -> None:
    """Freezes everything but `parts` of the model: encoder, codebook, decoder. No part named: all are trained.

    Raises:
        ValueError: an unknown part, or a part without weights that have gradients.
    """
    if not parts:
        return
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ValueError(f"--train_only takes {', '.join(PARTS)}; got {', '.join(unknown)}.")
    trained = {module for part in parts for module in PARTS[part]}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in trained)
    if "codebook" not in parts:
        model.freeze_codebook = True  # averages and revival do not change it, either
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"--train_only {' '.join(parts)}: this model has no weights there that gradients train.")
