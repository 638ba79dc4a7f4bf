# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Every knob of train.py, with its unit and default, in groups; and the object that holds those of one run.

knobs.py           reads flags and recipe into `Arguments`
recipes.py         recipe files
config_knobs.py    the fields of a model's config as knobs
knob_checks.py     values out of range, and knobs without effect
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from transformers import PreTrainedConfig

from .schedules import SCHEDULED_FIELDS, SHAPES, Schedule


MODEL_TYPES = ("ae", "vae", "vqvae", "dvae")


def knob(default: Any, help: str, **metadata) -> Any:
    """A field with its line of --help."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help, **metadata})
    return field(default=default, metadata={"help": help, **metadata})


@dataclass
class RunArguments:
    """Where the run lives, and how it starts."""

    _argument_group_name = "run"

    output_dir: str | None = knob(
        None, "folder of the run: checkpoints, metrics, the model (default: runs/<recipe or model>)"
    )
    overwrite: bool = knob(False, "replace the run that the output folder holds")
    resume: str | None = knob(
        None, "continue: 'latest', a checkpoint folder, or a Hub id (with --hub_strategy checkpoint)"
    )
    init_from: str | None = knob(
        None,
        "start from these weights: a run or what it published; of an autoencoder also diffusers' AutoencoderKL or "
        "VQModel, and published weights",
    )
    init_revision: str | None = knob(None, "commit, branch or tag of --init_from on the Hub")
    train_only: list[str] = knob([], "parts to train, of encoder, codebook, decoder; the rest is frozen (default: all)")
    seed: int = knob(0, "seed of weights, data order, augmentation and noise")
    cpu: bool = knob(False, "train on the CPU even where there is a GPU")
    num_threads: int | None = knob(None, "CPU threads of each process (default: cores / processes of this machine)")
    expected_processes: int | None = knob(None, "stop unless exactly this many processes train together")
    report_to: list[str] = knob(["none"], "trackers beside metrics.jsonl: none, tensorboard, wandb, trackio, all")


@dataclass
class DataArguments:
    """Images, and how they become pixel_values."""

    _argument_group_name = "data"

    dataset_name: str = knob("digits", "'digits' (embedded), a Hub id, or a folder of parquet files or images")
    dataset_config: str | None = knob(None, "configuration of a Hub data set that has several")
    image_column: str | None = knob(None, "column of the images (default: the only one of type Image)")
    label_column: str | None = knob(None, "column of the labels (default: found by its type)")
    train_split: str = knob("train", "split to train on")
    eval_split: str | None = knob(None, "held-out split (default: test, then validation)")
    max_train_samples: int | None = knob(None, "train on only the first so many images")
    max_eval_samples: int | None = knob(None, "evaluate on only the first so many images")
    random_flip: bool = knob(False, "mirror each training image with probability 1/2, anew in each epoch")
    random_crop: int = knob(0, "pad training images by so many pixels, and crop at a random place, anew in each epoch")
    random_resized_crop: float | None = knob(
        None,
        "cut a random window out of each original and resize it to --image_size; its area is at least this share of "
        "the largest window that fits; 1: only the place is random (default: the centre)",
    )
    binarize: str = knob(
        "none", "none; dynamic: Bernoulli draw from the grey level, anew in each epoch; fixed: drawn once"
    )
    image_fit: Literal["crop", "stretch", "pad"] | None = knob(
        None, "how pictures are brought to --image_size (default: crop)"
    )
    pixel_range: list[float] | None = knob(
        None, "black and white in arrays and float pictures (default: 0 255, 0 1 or 0 65535, found in the data)"
    )
    skip_corrupt: bool = knob(False, "leave out and count pictures that cannot be decoded (default: stop at the first)")
    unknown_labels: Literal["refuse", "ignore"] = knob(
        "refuse", "classes that only the held-out split has: refuse them, or ignore (such a picture has no class)"
    )
    streaming: bool = knob(False, "read the training images as they arrive; needs --max_train_steps")
    stream_shuffle: int = knob(
        1000, "shuffle a stream in blocks of so many pictures, kept in memory as they are stored"
    )
    cache_limit_gib: float = knob(
        8.0, "keep the decoded pixels of a split in memory up to so many GiB; else decode them at each access"
    )
    dataloader_num_workers: int = knob(0, "processes that load data; 0 is fastest for images cached as tensors")


@dataclass
class TrainingArguments:
    """The optimisation."""

    _argument_group_name = "training"

    train_batch_size: int = knob(64, "images of one micro-batch of one process")
    eval_batch_size: int = knob(
        256, "images of one evaluation batch of one process; fewer if their pixels exceed 8 MiB, unless you give it"
    )
    gradient_accumulation_steps: int = knob(1, "micro-batches of one optimizer step")
    num_train_epochs: float = knob(10.0, "passes over the training split")
    max_train_steps: int | None = knob(None, "optimizer steps, in place of num_train_epochs")
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = knob(
        "adam", "adam, adamw, sgd; muon: Muon for the matrices of linear layers, adamw for everything else"
    )
    learning_rate: float = knob(1e-3, "step size after the warm-up")
    lr_scheduler: Literal["constant", "linear", "cosine", "quarter_cosine"] = knob(
        "constant", "its shape over the steps"
    )
    lr_warmup_steps: int = knob(0, "steps in which the learning rate rises from 0")
    lr_end: float = knob(0.0, "learning rate at the end of a schedule that is not constant")
    lr_steps: int | None = knob(None, "steps until lr_end is reached (default: all of the run)")
    adam_beta1: float = knob(0.9, "decay of Adam's mean gradient")
    adam_beta2: float = knob(0.999, "decay of Adam's mean squared gradient")
    adam_epsilon: float = knob(1e-8, "Adam's epsilon")
    weight_decay: float = knob(
        0.0, "a step shrinks each weight by this share times the learning rate (sgd, adam: as an L2 term)"
    )
    momentum: float = knob(0.0, "momentum of sgd")
    max_grad_norm: float = knob(0.0, "clip the gradient's norm to this; 0: off (losses in nats have large gradients)")
    mixed_precision: Literal["no", "fp16", "bf16"] | None = knob(
        None, "no, bf16 or fp16 (default: what the launcher says)"
    )
    compile: bool = knob(False, "torch.compile the step: slow first steps; on a CPU later ones are no faster")
    gradient_checkpointing: bool = knob(False, "recompute activations in the backward pass: less memory, more time")
    ema_weights: float | None = knob(
        None, "decay of a moving average of the weights; the average is evaluated and saved (DALL-E: 0.999)"
    )
    init_output_bias: bool = knob(False, "start the decoder's output bias at the mean training image")
    exact_resume: bool = knob(False, "3 or more processes: resume bit-exactly, at the price of slower steps")


@dataclass
class LoggingArguments:
    """What is written, and when (all in optimizer steps; 0: never, or only at the end)."""

    _argument_group_name = "logging and checkpoints"

    logging_steps: int = knob(50, "steps between lines of metrics.jsonl")
    eval_steps: int | None = knob(
        None,
        "steps between evaluations on the held-out split, with a new reconstructions.png; 0: only at the end (default: "
        "ten in a run of an autoencoder, fewer if they would take over a tenth of its time; 0 for priors and for runs "
        "of fewer than 100 steps)",
    )
    image_steps: int = knob(0, "steps between pictures of reconstructions in the trackers; 0: with each evaluation")
    checkpointing_steps: int | None = knob(
        None,
        "steps between checkpoints; the end is saved, too (default: only the end); 0: only when a signal stops the run",
    )
    checkpoints_total_limit: int | None = knob(
        None,
        "number of checkpoints to keep; older ones are deleted after a new one is complete (default: all that "
        "--checkpointing_steps asks for, and the newest of those that a signal or the end of a run left)",
    )


@dataclass
class HubArguments:
    """Publishing while training."""

    _argument_group_name = "hub"

    push_to_hub: bool = knob(False, "publish the model")
    hub_model_id: str | None = knob(
        None, "repository, 'name' or 'organisation/name' (default: the output folder's name)"
    )
    hub_strategy: Literal["end", "every_save", "checkpoint"] = knob(
        "end",
        "publish at the end; with each checkpoint; or that, and upload the checkpoint itself for --resume ID",
    )
    hub_private: bool = knob(False, "create the repository as a private one")


@dataclass
class ScheduleArguments:
    """Values that change over time; each ends at the value of the config field of its name (kl_weight, ...)."""

    _argument_group_name = "schedules"

    kl_weight_start: float | None = knob(None, "kl_weight at step 0; it reaches kl_weight at kl_weight_steps")
    kl_weight_steps: int | None = knob(None, "optimizer steps until kl_weight is reached")
    kl_weight_schedule: Literal[tuple(SHAPES)] | None = knob(None, "shape of the way (default: cosine)")
    commitment_cost_start: float | None = knob(None, "commitment_cost at step 0")
    commitment_cost_steps: int | None = knob(None, "optimizer steps until commitment_cost is reached")
    commitment_cost_schedule: Literal[tuple(SHAPES)] | None = knob(None, "shape of the way (default: cosine)")
    gumbel_temperature_start: float | None = knob(None, "gumbel_temperature at step 0")
    gumbel_temperature_steps: int | None = knob(None, "optimizer steps until gumbel_temperature is reached")
    gumbel_temperature_schedule: Literal[tuple(SHAPES)] | None = knob(None, "shape of the way (default: cosine)")


@dataclass
class LossArguments:
    """Perceptual and adversarial losses, which make reconstructions of photographs sharp."""

    _argument_group_name = "perceptual and adversarial losses"

    perceptual_model: str | None = knob(
        None, "frozen net that compares pictures: efficientnet-lite0, digits, lpips-vgg, or a model of transformers"
    )
    perceptual_weight: float = knob(
        0.1, "weight of the distance between its unit-normalised feature maps, beside a loss per element"
    )
    perceptual_logits_weight: float = knob(0.0, "weight of the distance between its logits; needs --perceptual_size")
    perceptual_layers: list[int] = knob([], "numbers of the feature maps to compare, finest first (default: all)")
    perceptual_size: int | None = knob(
        None, "resize pictures for this net to so many pixels a side (default: as they are)"
    )
    adversarial_weight: float = knob(0.0, "weight of the discriminator's term, beside a loss per element; 0: none")
    adversarial_loss: Literal["hinge", "softplus"] = knob("hinge", "of model and discriminator")
    adversarial_start: int = knob(2000, "optimizer step from which the discriminator's term counts")
    adversarial_ramp_steps: int = knob(1000, "steps in which the weight of its term grows from 0")
    adversarial_adaptive: bool = knob(
        False, "scale the weight of its term by a ratio of gradients at the decoder's last layer (0.1 to 10)"
    )
    discriminator: Literal["pooled", "patch", "features"] = knob(
        "pooled",
        "pooled: VQGAN+'s, with blur and max-pool; patch: the shape of pix2pix's; features: heads on the feature maps "
        "of --perceptual_model, which learn in fewer steps",
    )
    discriminator_start: int = knob(1000, "optimizer step from which the discriminator is trained")
    discriminator_width: int = knob(64, "channels of the discriminator's first level")
    discriminator_levels: int = knob(3, "levels of the discriminator; each halves the resolution")
    discriminator_learning_rate: float = knob(1e-4, "learning rate of the discriminator's AdamW (betas 0.5, 0.9)")
    lecam_weight: float = knob(1e-3, "weight of LeCam's penalty, against a discriminator that overfits to few pictures")
    r1_weight: float = knob(
        0.0, "weight of the penalty on the discriminator's gradient at pictures; costs a second backward pass"
    )

    @property
    def judges_features(self) -> bool:
        """Whether the discriminator sees what the perceptual term computes, in place of pixels."""
        return self.discriminator == "features"


@dataclass
class JudgingArguments:
    """How reconstructions of photographs are evaluated when the run ends."""

    _argument_group_name = "metrics of photographs"

    feature_model: str | None = knob(
        None, "net whose features evaluate the finished model; take another one than in the loss: efficientnet-lite1, "
        "digits, or a model of transformers"
    )  # fmt: skip
    feature_size: int | None = knob(None, "resize pictures for it to so many pixels a side (default: as they are)")


# Knobs that decide the weights and the order of the data: a resumed run must not change them.
FIXED = frozenset(
    [
        "model_type",
        "seed",
        "train_batch_size",
        "gradient_accumulation_steps",
        "optimizer",
        "max_train_samples",
        "random_flip",
        "random_crop",
        "random_resized_crop",
        "pixel_range",
        "skip_corrupt",
        "stream_shuffle",
        "binarize",
        "image_fit",
        "streaming",
        "init_output_bias",
        "ema_weights",
        "init_from",
        "init_revision",
        "train_only",
        "perceptual_model",
        "discriminator",
        "discriminator_width",
        "discriminator_levels",
        "discriminator_start",
    ]
)


@dataclass
class Arguments:
    """All knobs of one run.

    Attributes:
        model_type: ae, vae, vqvae or dvae.
        recipe: path of the recipe, if one was given.
        model: config fields that the user set, by name; the config class has the defaults of the others.
        given: names of all knobs that the user set, by flag or recipe.
        command: what the user typed, where that is not the command line of the process.
    """

    model_type: str
    recipe: str | None
    run: RunArguments
    data: DataArguments
    training: TrainingArguments
    logging: LoggingArguments
    hub: HubArguments
    schedules: ScheduleArguments
    losses: LossArguments
    judging: JudgingArguments
    model: dict[str, Any]
    given: frozenset[str]
    command: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Flat, as in a recipe: every knob of the run with its value, and the config fields that were set."""
        groups = (
            self.run, self.data, self.training, self.logging, self.hub, self.schedules, self.losses,
            self.judging,
        )  # fmt: skip
        flat = {name: value for group in groups for name, value in dataclasses.asdict(group).items()}
        return {"model_type": self.model_type, **flat, **self.model}

    def as_recipe(self) -> dict[str, Any]:
        """Flat: only what the user set, so that the recipe repeats this run in another folder."""
        flat = self.as_dict()
        left_out = {"output_dir", "overwrite", "resume", "push_to_hub", "hub_model_id", "hub_strategy", "hub_private"}
        return {"model_type": self.model_type, **{name: flat[name] for name in flat if name in self.given - left_out}}

    def scheduled(self, config: PreTrainedConfig, names: list[str]) -> dict[str, Schedule]:
        """The schedules that the user asked for, by forward's name. `names`: those that the model's forward takes."""
        schedules = {}
        for name, config_field in SCHEDULED_FIELDS.items():
            start, steps, shape = (
                getattr(self.schedules, f"{config_field}_{part}") for part in ("start", "steps", "schedule")
            )
            if start is None and steps is None and shape is None:
                continue
            if name not in names:
                fits = ", ".join(SCHEDULED_FIELDS[n] for n in names) or "none"
                raise ValueError(
                    f"A {self.model_type} reads no {config_field}: --{config_field}_start, _steps, _schedule have no "
                    f"effect; schedules of this model: {fits}."
                )
            if start is None or steps is None:
                raise ValueError(
                    f"A schedule of {config_field} needs both --{config_field}_start and --{config_field}_steps."
                )
            schedules[name] = Schedule(shape or "cosine", start, getattr(config, config_field), steps)
        return schedules
