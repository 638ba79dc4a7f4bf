# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Every knob of train.py, with its unit and default: flags, recipes and the fields of a model's config as one list.

A recipe is a flat YAML file of the same names. It is turned into flags that stand before those of the command line, so
a flag overrides the recipe, and both pass the same checks.
"""

import argparse
import dataclasses
import difflib
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from transformers import AutoConfig, HfArgumentParser, PreTrainedConfig

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
    max_train_samples: int | None = knob(None, "train on the first so many images")
    max_eval_samples: int | None = knob(None, "evaluate on the first so many images")
    random_flip: bool = knob(False, "mirror each training image with probability 1/2, anew in each epoch")
    random_crop: int = knob(0, "pad training images by so many pixels and crop at a random place, anew in each epoch")
    binarize: str = knob(
        "none", "none; dynamic: Bernoulli draw from the grey level, anew in each epoch; fixed: drawn once"
    )
    image_fit: Literal["crop", "stretch", "pad"] | None = knob(None, "how pictures reach --image_size (default: crop)")
    streaming: bool = knob(False, "read the training images as they arrive; needs --max_train_steps")
    cache_limit_gib: float = knob(8.0, "GiB of decoded pixels of a split to keep in memory; above it: decode each time")
    dataloader_num_workers: int = knob(0, "processes that load data; 0 is fastest for images cached as tensors")


@dataclass
class TrainingArguments:
    """The optimisation."""

    _argument_group_name = "training"

    train_batch_size: int = knob(64, "images of one micro-batch of one process")
    eval_batch_size: int = knob(256, "images of one evaluation batch of one process")
    gradient_accumulation_steps: int = knob(1, "micro-batches of one optimizer step")
    num_train_epochs: float = knob(10.0, "passes over the training split")
    max_train_steps: int | None = knob(None, "optimizer steps, in place of num_train_epochs")
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = knob(
        "adam", "adam, adamw, sgd; muon: Muon for the matrices of linear layers, adamw for everything else"
    )
    learning_rate: float = knob(1e-3, "step size after the warm-up")
    lr_scheduler: Literal["constant", "linear", "cosine", "quarter_cosine"] = knob("constant", "shape over the steps")
    lr_warmup_steps: int = knob(0, "steps in which the learning rate climbs from 0")
    lr_end: float = knob(0.0, "learning rate at the end of a schedule that is not constant")
    lr_steps: int | None = knob(None, "steps until lr_end is reached (default: all of the run)")
    adam_beta1: float = knob(0.9, "decay of Adam's mean gradient")
    adam_beta2: float = knob(0.999, "decay of Adam's mean squared gradient")
    adam_epsilon: float = knob(1e-8, "Adam's epsilon")
    weight_decay: float = knob(
        0.0, "share of a weight that a step takes away, times the learning rate (sgd, adam: L2 term)"
    )
    momentum: float = knob(0.0, "momentum of sgd")
    max_grad_norm: float = knob(0.0, "clip the gradient's norm to this; 0: off (losses in nats have large gradients)")
    mixed_precision: Literal["no", "fp16", "bf16"] | None = knob(
        None, "no, bf16 or fp16 (default: what the launcher says)"
    )
    gradient_checkpointing: bool = knob(False, "recompute activations in the backward pass: less memory, more time")
    ema_weights: float | None = knob(
        None, "decay of an average of the weights, which is evaluated and saved (DALL-E: 0.999)"
    )
    init_output_bias: bool = knob(False, "start the decoder's output bias at the mean training image")
    exact_resume: bool = knob(False, "3 or more processes: resume bit-exactly, at the price of slower steps")


@dataclass
class LoggingArguments:
    """What is written, and when (all in optimizer steps; 0: never, or only at the end)."""

    _argument_group_name = "logging and checkpoints"

    logging_steps: int = knob(50, "steps between lines of metrics.jsonl")
    eval_steps: int = knob(0, "steps between evaluations on the held-out split; 0: only at the end")
    image_steps: int = knob(0, "steps between pictures of reconstructions in the trackers; 0: with each evaluation")
    checkpointing_steps: int = knob(0, "steps between checkpoints; 0: only when a signal stops the run")
    checkpoints_total_limit: int | None = knob(None, "keep so many checkpoints; older ones go after a new one is safe")


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
        "publish at the end; with each checkpoint; with each checkpoint and the checkpoint itself, for --resume ID",
    )
    hub_private: bool = knob(False, "create the repository as a private one")


@dataclass
class ScheduleArguments:
    """Weights that change over time; each ends at the config field of its name (kl_weight, ...)."""

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


# What decides the weights and the order of the data: a resumed run must not change it.
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
        "binarize",
        "image_fit",
        "streaming",
        "init_output_bias",
        "ema_weights",
    ]
)

GROUPS = (RunArguments, DataArguments, TrainingArguments, LoggingArguments, HubArguments, ScheduleArguments)


@dataclass
class Arguments:
    """All knobs of one run.

    Attributes:
        model_type: ae, vae, vqvae or dvae.
        recipe: path of the recipe, if one was given.
        model: config fields that the user set, by name; the config class has the defaults of the others.
        given: names of all knobs that the user set, by flag or recipe.
    """

    model_type: str
    recipe: str | None
    run: RunArguments
    data: DataArguments
    training: TrainingArguments
    logging: LoggingArguments
    hub: HubArguments
    schedules: ScheduleArguments
    model: dict[str, Any]
    given: frozenset[str]

    def as_dict(self) -> dict[str, Any]:
        """Flat, as in a recipe: every knob of the run with its value, and the config fields that were set."""
        groups = (self.run, self.data, self.training, self.logging, self.hub, self.schedules)
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


class Parser(HfArgumentParser):
    """Reports a mistake as a ValueError in one line, and takes no abbreviations."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def error(self, message: str):
        raise ValueError(message[0].upper() + message[1:] + ("" if message.endswith(".") else "."))


def parse_arguments(argv: list[str] | None = None) -> Arguments:
    """Reads flags and recipe.

    Raises:
        ValueError: an unknown name (with the nearest known one), a value of the wrong type, or a knob without effect.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    first = Parser(add_help=False)
    first.add_argument("--recipe")
    recipe_path = first.parse_known_args(argv)[0].recipe
    recipe = read_recipe(recipe_path) if recipe_path else {}
    argv, recipe = drop_overridden(argv, recipe)
    model_type = _model_type(argv, recipe)
    parser = _parser(model_type)
    known = {action.dest for action in parser._actions} - {"help"}
    for name in recipe:
        if name not in known - {"recipe"}:
            raise ValueError(_unknown(f"key {name!r} in {recipe_path}", name, known, model_type))
    if {"-h", "--help"} & set(argv):
        parser.parse_args(["--help"])
    return _read(parser, recipe_flags(recipe) + argv, known, model_type)


def read_recipe(path: str) -> dict[str, Any]:
    """The flat YAML file at `path`; 1e-3 is a number in it (YAML 1.1 reads a string)."""
    try:
        recipe = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_NumbersLoader)
    except FileNotFoundError:
        raise ValueError(f"There is no recipe {path!r}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"The recipe {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict) or any(isinstance(value, dict) for value in recipe.values()):
        raise ValueError(f"The recipe {path} must be a flat list of 'knob: value' lines.")
    return {str(name): value for name, value in recipe.items()}


def recipe_flags(recipe: dict[str, Any]) -> list[str]:
    """
    >>> recipe_flags({"learning_rate": 0.001, "block_out_channels": [32, 64], "overwrite": True})
    ['--learning_rate=0.001', '--block_out_channels', '32', '64', '--overwrite=true']
    """
    flags = []
    for name, value in recipe.items():
        if isinstance(value, list):
            flags += [f"--{name}", *([_text(item) for item in value] or ["[]"])]
        elif value is not None:
            flags.append(f"--{name}={_text(value)}")
    return flags


def config_fields(model_type: str) -> dict[str, Any]:
    """Name -> annotation of the fields that this model's config adds to those of every transformers model."""
    config_class = type(AutoConfig.for_model(model_type))
    inherited = {f.name for f in dataclasses.fields(PreTrainedConfig)}
    return {f.name: f.type for f in dataclasses.fields(config_class) if f.name not in inherited and f.init}


def build_config(arguments: Arguments, measured: dict[str, Any]) -> PreTrainedConfig:
    """The model's config. `measured`: values taken from the data, for fields that the user did not set.

    Raises:
        ValueError: the user set a field that this choice of backbone, quantizer and likelihood never reads.
    """
    fields = config_fields(arguments.model_type)
    from_data = {name: value for name, value in measured.items() if name in fields and name not in arguments.model}
    config = AutoConfig.for_model(arguments.model_type, **from_data, **arguments.model)
    ignored = sorted(set(arguments.model) & set(config.ignored_fields))
    if ignored:
        choice = ", ".join(
            f"{n} {getattr(config, n)}" for n in ("backbone", "quantizer", "reconstruction_loss") if hasattr(config, n)
        )
        raise ValueError(
            f"{_flags(ignored)}: never read by this {arguments.model_type} ({choice}); leave it out "
            "(over a recipe: --name null)."
        )
    return config


def drop_overridden(argv: list[str], recipe: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """`--knob null` takes a knob out of the recipe; steps on the command line replace the recipe's epochs."""
    tokens, kept, recipe = [part for text in argv for part in _split_flag(text)], [], dict(recipe)
    for name, value in zip(tokens, [*tokens[1:], ""], strict=False):
        if name.startswith("--") and value in ("null", "None"):
            recipe.pop(_name_of(name), None)
        elif name not in ("null", "None"):
            kept.append(name)
    given = {_name_of(token) for token in kept if token.startswith("--")}
    for one, other in (("max_train_steps", "num_train_epochs"), ("num_train_epochs", "max_train_steps")):
        if one in given:
            recipe.pop(other, None)
    return kept, recipe


def _split_flag(text: str) -> list[str]:
    return text.split("=", 1) if text.startswith("--") and "=" in text else [text]


def _name_of(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _model_type(argv: list[str], recipe: dict[str, Any]) -> str:
    parser = Parser(add_help=False)
    parser.add_argument("--model_type", "--model-type")
    model_type = parser.parse_known_args(argv)[0].model_type or recipe.get("model_type") or "vqvae"
    if model_type not in MODEL_TYPES:
        raise ValueError(f"--model_type must be one of {', '.join(MODEL_TYPES)}, got {model_type!r}.")
    return model_type


def _parser(model_type: str) -> Parser:
    parser = Parser(GROUPS, prog="train.py", description="Train an autoencoder.")
    parser.add_argument("--recipe", help="flat YAML file of knobs; flags override it")
    parser.add_argument("--model_type", "--model-type", default="vqvae", help=f"one of {', '.join(MODEL_TYPES)}")
    group = parser.add_argument_group(f"fields of the {model_type} config")
    defaults = AutoConfig.for_model(model_type)
    for name, hint in config_fields(model_type).items():
        dashed = [f"--{name.replace('_', '-')}"] if "_" in name else []
        group.add_argument(f"--{name}", *dashed, default=getattr(defaults, name), help=_describe(hint), **_arity(hint))
    return parser


def _read(parser: Parser, flags: list[str], known: set[str], model_type: str) -> Arguments:
    for action in parser._actions:
        action.default = argparse.SUPPRESS  # what is left in the namespace is what the user set
    namespace, rest = parser.parse_known_args(flags)
    if rest:
        name = rest[0].split("=")[0]
        raise ValueError(_unknown(f"argument {name!r}", name.lstrip("-").replace("-", "_"), known, model_type))
    given = vars(namespace)
    hints = config_fields(model_type)
    model = {name: _value(name, given[name], hints[name]) for name in given if name in hints}
    names = {cls: {f.name for f in dataclasses.fields(cls)} for cls in GROUPS}
    groups = [cls(**{name: value for name, value in given.items() if name in names[cls]}) for cls in GROUPS]
    arguments = Arguments(
        model_type, given.get("recipe"), *groups, model=model, given=frozenset(given) - {"recipe", "model_type"}
    )
    check_arguments(arguments)
    return arguments


def check_arguments(arguments: Arguments):
    """Raises ValueError for values out of range, and for knobs that the rest of the choice makes idle."""
    training, logging, run, data = arguments.training, arguments.logging, arguments.run, arguments.data
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
            _at_least(name, getattr(group, name), 1)
    for group, names in (
        (training, ("learning_rate", "lr_end", "lr_warmup_steps", "weight_decay", "momentum", "max_grad_norm")),
        (logging, ("eval_steps", "image_steps", "checkpointing_steps")),
        (data, ("cache_limit_gib", "random_crop", "dataloader_num_workers")),
        (run, ("seed",)),
    ):
        for name in names:
            _at_least(name, getattr(group, name), 0)
    if training.num_train_epochs <= 0:
        raise ValueError(f"--num_train_epochs must be positive, got {training.num_train_epochs}.")
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
        (training.max_train_steps is not None, {"num_train_epochs"}, "beside --max_train_steps"),
    ]
    for condition, names, why in idle:
        if condition and names & given:
            raise ValueError(
                f"{_flags(sorted(names & given))}: has no effect {why}; leave it out (over a recipe: --name null)."
            )


def _at_least(name: str, value: float | None, least: int):
    if value is not None and value < least:
        raise ValueError(f"--{name} must be at least {least}, got {value}.")


def _unknown(what: str, name: str, known: set[str], model_type: str) -> str:
    others = [m for m in MODEL_TYPES if m != model_type and name in config_fields(m)]
    if others:
        return f"Unknown {what}: a {model_type} does not read it, only {' and '.join(others)}."
    nearest = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"Unknown {what}; the nearest known name is {nearest[0]!r}."


def _flags(names: list[str]) -> str:
    return ", ".join(f"--{name}" for name in names)


def _describe(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)).replace("typing.", "") if get_origin(hint) is None else str(hint)


def _takes_list(hint: Any) -> bool:
    return any(get_origin(option) in (list, tuple) for option in (hint, *get_args(hint)))


def _arity(hint: Any) -> dict[str, Any]:
    if _takes_list(hint):
        return {"nargs": "+"}
    if bool in (hint, *get_args(hint)):
        return {"nargs": "?", "const": "true"}
    return {}


def _value(name: str, text: str | list[str], hint: Any) -> Any:
    """A config field's value out of its flag. The strict config checks types, so this only reads YAML."""
    if not isinstance(text, list):
        return text if hint is str else _scalar(name, text)
    values = [_scalar(name, item) for item in text]
    if len(values) == 1 and isinstance(values[0], list):
        return values[0]
    return values[0] if len(values) == 1 and (int in get_args(hint) or values[0] is None) else values


def _scalar(name: str, text: str) -> Any:
    try:
        return yaml.load(text, Loader=_NumbersLoader)
    except yaml.YAMLError:
        raise ValueError(f"--{name}: {text!r} is no value.") from None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class _NumbersLoader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does."""


_NumbersLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)
