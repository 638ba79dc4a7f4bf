# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training on from a saved model: what may change, what is refused, and which parts stay as they are."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from .arguments import Arguments
from .config_knobs import config_fields
from .knob_checks import flags_of
from .saved_models import check_finite


# Fields of a config that change neither the net nor what its weights mean.
MAY_CHANGE = {
    "image_size", "kl_weight", "commitment_cost", "gumbel_temperature", "hard", "num_importance_samples",
    "data_variance", "ema_decay", "ema_epsilon", "dead_code_threshold", "codebook_seed", "scaling_factor",
    "shift_factor", "latents_mean", "latents_std", "force_upcast",
}  # fmt: skip
# What --train_only calls a part, and the modules and parameters of a model that belong to it.
PARTS = {
    "encoder": ("encoder", "quant_conv"),
    "codebook": ("quantize",),
    "decoder": ("decoder", "post_quant_conv", "likelihood", "log_variance"),
}

LoadParent = Callable[[str, str | None], PreTrainedModel]


def load_parent(arguments: Arguments, load: LoadParent) -> PreTrainedModel | None:
    """The model that --init_from names, with all of its weights; None without it.

    Raises:
        ValueError: nothing is there, it is of another type, or its weights are no numbers.
    """
    name = arguments.run.init_from
    if name is None:
        return None
    parent = load(name, arguments.run.init_revision)
    if parent.config.model_type != arguments.model_type:
        raise ValueError(
            f"--init_from {name} is a {parent.config.model_type}, and this run trains a {arguments.model_type}: give "
            f"--model_type {parent.config.model_type}."
        )
    if getattr(parent.config, "encoder_only", False):
        raise ValueError(f"--init_from {name} has no decoder, so it cannot be trained to reconstruct.")
    check_finite(parent, name)
    return parent


def train_on(parent: PreTrainedModel, arguments: Arguments, image_size: int | list[int]) -> PreTrainedModel:
    """A model with the parent's weights, for pictures of `image_size`, with what the user changed of its loss.

    Raises:
        ValueError: a knob that would change the net, or a size that it does not take.
    """
    config = parent.config
    same = {name for name, value in arguments.model.items() if _as_typed(getattr(config, name)) == _as_typed(value)}
    if refused := sorted(set(arguments.model) - same - MAY_CHANGE):
        name = refused[0]
        raise ValueError(
            f"{flags_of(refused)}: would change the net of --init_from {arguments.run.init_from} (its {name} is "
            f"{getattr(config, name)!r}): leave it out (over a recipe: --name null)."
        )
    size = arguments.model.get("image_size", image_size)
    if config.backbone == "mlp" and _as_typed(size) != _as_typed(config.image_size):
        name = arguments.run.init_from
        raise ValueError(
            f"--init_from {name} has the mlp backbone, made for pictures of {config.image_size}, not {size}."
        )
    changed = {**{name: arguments.model[name] for name in arguments.model if name in MAY_CHANGE}, "image_size": size}
    fields = {name: getattr(config, name) for name in config_fields(config.model_type)}
    model = type(parent)(type(config)(**{**fields, **changed}))
    model.load_state_dict(parent.state_dict())
    return model


def train_parts(model: PreTrainedModel, parts: Sequence[str]) -> None:
    """Freezes everything but `parts` of the model: encoder, codebook, decoder. No part named: all are trained.

    Raises:
        ValueError: an unknown part, or nothing in it that gradients could train.
    """
    if not parts:
        return
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ValueError(f"--train_only takes {', '.join(PARTS)}; got {', '.join(unknown)}.")
    trained = {module for part in parts for module in PARTS[part]}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.split(".")[0] in trained)
    if "codebook" not in parts:
        model.freeze_codebook = True  # averages and revival leave it alone, too
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"--train_only {' '.join(parts)}: this model has no weights there that gradients train.")


def keeps_tokens(arguments: Arguments) -> bool:
    """Whether every picture has the same tokens (or latents) as with the parent: data sets of them stay valid."""
    return arguments.run.init_from is not None and set(arguments.run.train_only) == {"decoder"}


def _as_typed(value: Any) -> Any:
    """Lists and pairs alike; one number for a square."""
    if not isinstance(value, (list, tuple)):
        return value
    values = list(value)
    return values[0] if len(values) == 2 and values[0] == values[1] else values


def describe_start(arguments: Arguments) -> str:
    """Lines on where the weights come from and which parts are trained; "" for a run that starts anew."""
    run, lines = arguments.run, []
    if run.init_from is not None:
        lines.append(f"starts from {run.init_from}")
    if run.train_only:
        lines.append(f"  trains {' and '.join(run.train_only)}; the rest stays as it is")
    if keeps_tokens(arguments):
        lines.append("  every picture keeps its tokens: token data sets and priors of that model stay valid")
    return "".join(f"{line}\n" for line in lines)


def weights_fingerprint(model: PreTrainedModel) -> str:
    """SHA-256, in hexadecimal digits, over name, type, shape and bytes of every tensor of the state dict, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def record_of_start(arguments: Arguments, fingerprint: str | None) -> dict[str, Any]:
    """What metrics.json says of the parent; {} for a run that started from random weights.

    Args:
        fingerprint: `weights_fingerprint` of the parent, before it was trained on.
    """
    run = arguments.run
    if run.init_from is None:
        return {}
    # Of a folder or file its own name: records are published, and where it lies concerns nobody.
    name = Path(run.init_from).name if Path(run.init_from).exists() else run.init_from
    parent = {"name": name, "revision": run.init_revision, "fingerprint": fingerprint}
    parent["keeps_tokens"] = keeps_tokens(arguments)
    return {"parent": parent, "train_only": list(run.train_only)}
