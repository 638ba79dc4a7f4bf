# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Checks of the knobs before anything else is done: values out of range, and knobs without effect."""

import dataclasses
import math

from ..perception.feature_nets import is_lpips
from .arguments import Arguments


def check_arguments(arguments: Arguments):
    """Raises ValueError for values out of range, and for knobs that have no effect beside the others."""
    training, logging, run, data = arguments.training, arguments.logging, arguments.run, arguments.data
    for group in filter(dataclasses.is_dataclass, vars(arguments).values()):
        check_all_finite(group)
    for group, names in (
        (
            training,
            ("train_batch_size", "eval_batch_size", "gradient_accumulation_steps", "max_train_steps", "lr_steps"),
        ),
        (logging, ("logging_steps", "checkpoints_total_limit")),
        (run, ("num_threads", "expected_processes")),
        (data, ("max_train_samples", "max_eval_samples")),
    ):
        for name in names:
            at_least(name, getattr(group, name), 1)
    for group, names in (
        (training, ("learning_rate", "lr_end", "lr_warmup_steps", "weight_decay", "momentum", "max_grad_norm")),
        (logging, ("eval_steps", "image_steps", "checkpointing_steps")),
        (data, ("cache_limit_gib", "random_crop", "dataloader_num_workers")),
        (run, ("seed",)),
    ):
        for name in names:
            at_least(name, getattr(group, name), 0)
    if training.num_train_epochs <= 0:
        raise ValueError(f"--num_train_epochs must be positive, got {training.num_train_epochs}.")
    check_losses(arguments)
    at_least("feature_size", arguments.judging.feature_size, 1)
    if run.init_revision is not None and run.init_from is None:
        raise ValueError("--init_revision: has no effect without --init_from.")
    if run.overwrite and run.resume:
        raise ValueError("--overwrite starts anew and --resume continues: give one of them.")
    _refuse_idle(arguments)


def _refuse_idle(arguments: Arguments):
    training, hub, given = arguments.training, arguments.hub, arguments.given
    of_adam, of_schedule = {"adam_beta1", "adam_beta2", "adam_epsilon"}, {"lr_end", "lr_steps"}
    idle = [
        (training.optimizer == "sgd", of_adam, "with --optimizer sgd"),
        (training.optimizer != "sgd", {"momentum"}, f"with --optimizer {training.optimizer}"),
        (training.lr_scheduler == "constant", of_schedule, "with a constant --lr_scheduler"),
        (not hub.push_to_hub, {"hub_model_id", "hub_strategy", "hub_private"}, "without --push_to_hub"),
        (arguments.run.report_to == ["none"], {"image_steps"}, "without a tracker (--report_to)"),
        (not arguments.data.streaming, {"stream_shuffle"}, "without --streaming"),
        (arguments.data.streaming, {"cache_limit_gib"}, "with --streaming"),
        (training.max_train_steps is not None, {"num_train_epochs"}, "beside --max_train_steps"),
    ]
    for condition, names, why in idle:
        if condition and names & given:
            raise ValueError(
                f"{flags_of(sorted(names & given))}: has no effect {why}; leave it out (to remove it from a recipe: "
                "--name null)."
            )


def check_all_finite(group: object):
    """Raises ValueError for NaN, which passes every comparison, and infinity in a group of knobs."""
    for name, value in vars(group).items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"--{name} must be a finite number, got {number}.")


def at_least(name: str, value: float | None, least: int):
    if value is not None and value < least:
        raise ValueError(f"--{name} must be at least {least}, got {value}.")


def flags_of(names: list[str]) -> str:
    return ", ".join(f"--{name}" for name in names)


def check_losses(arguments: Arguments):
    """Raises ValueError for perceptual and adversarial knobs out of range, or without effect."""
    losses, given = arguments.losses, arguments.given
    for name in ("perceptual_weight", "perceptual_logits_weight", "adversarial_weight", "lecam_weight", "r1_weight"):
        at_least(name, getattr(losses, name), 0)
    for name in ("adversarial_start", "discriminator_start", "discriminator_learning_rate"):
        at_least(name, getattr(losses, name), 0)
    for name in ("adversarial_ramp_steps", "discriminator_width", "discriminator_levels", "perceptual_size"):
        at_least(name, getattr(losses, name), 1)
    own = {name for name in vars(losses) if name in given}
    perceptual = {name for name in own if name.startswith("perceptual_")}
    if perceptual and losses.perceptual_model is None:
        raise ValueError(f"{flags_of(sorted(perceptual))}: has no effect without --perceptual_model.")
    of_feature_nets = perceptual - {"perceptual_model", "perceptual_weight"}
    if of_feature_nets and is_lpips(losses.perceptual_model):
        raise ValueError(
            f"{flags_of(sorted(of_feature_nets))}: has no effect with {losses.perceptual_model}, which has its own "
            "layers and weights; it is for feature nets."
        )
    if perceptual and not (losses.perceptual_weight or losses.perceptual_logits_weight):
        raise ValueError("--perceptual_model needs a --perceptual_weight or --perceptual_logits_weight above 0.")
    rest = own - perceptual - {"adversarial_weight"}
    if rest and not losses.adversarial_weight:
        raise ValueError(f"{flags_of(sorted(rest))}: has no effect without an --adversarial_weight above 0.")
    if losses.judges_features and (losses.perceptual_model is None or is_lpips(losses.perceptual_model)):
        raise ValueError(
            "--discriminator features judges the maps of a feature net: give one as --perceptual_model, for instance "
            "efficientnet-lite0."
        )
    if losses.adversarial_weight and losses.adversarial_start < losses.discriminator_start:
        raise ValueError(
            f"--adversarial_start {losses.adversarial_start} lies before --discriminator_start "
            f"{losses.discriminator_start}: the discriminator's term cannot count before it learns."
        )
