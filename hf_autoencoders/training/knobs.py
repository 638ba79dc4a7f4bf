# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The one reader of knobs: flags and recipe of every command that trains, as `Arguments`."""

import argparse
import copy
import dataclasses
import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import HfArgumentParser

from ..own_process import typed_name
from .arguments import (
    MODEL_TYPES,
    Arguments,
    DataArguments,
    HubArguments,
    JudgingArguments,
    LoggingArguments,
    LossArguments,
    RunArguments,
    ScheduleArguments,
    TrainingArguments,
)
from .config_knobs import add_config_flags, check_fields, config_fields, config_value
from .knob_checks import check_arguments
from .recipes import drop_overridden, find_recipe, list_recipes, read_recipe, recipe_flags


# Names of knobs in transformers' Trainer, diffusers and other projects -> the name of the same knob here.
NAMES_ELSEWHERE = {
    "batch_size": "train_batch_size",
    "per_device_train_batch_size": "train_batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "max_steps": "max_train_steps",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "lr": "learning_rate",
    "lr_scheduler_type": "lr_scheduler",
    "warmup_steps": "lr_warmup_steps",
    "optim": "optimizer",
    "bf16": "mixed_precision",
    "fp16": "mixed_precision",
    "resolution": "image_size",
    "train_data_dir": "dataset_name",
    "data_dir": "dataset_name",
    "dataset": "dataset_name",
    "dataset_config_name": "dataset_config",
    "save_steps": "checkpointing_steps",
    "save_total_limit": "checkpoints_total_limit",
    "resume_from_checkpoint": "resume",
    "overwrite_output_dir": "overwrite",
    "use_ema": "ema_weights",
    "ema_decay_weights": "ema_weights",
    "beta": "kl_weight",
    "latent_dim": "latent_channels",
    "num_embeddings": "codebook_size",
    "embedding_dim": "codebook_dim",
}


class OneSpelling(argparse.ArgumentDefaultsHelpFormatter):
    """--help shows --like_this; --like-this is understood, too."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        spellings = [text for text in action.option_strings if "-" not in text.lstrip("-")]
        shown = copy.copy(action)
        shown.option_strings = spellings or action.option_strings
        return super()._format_action_invocation(shown)


class Parser(HfArgumentParser):
    """Reports a mistake as a ValueError in one line, and takes no abbreviations."""

    def __init__(self, *args, command: str = "", **kwargs):
        super().__init__(*args, prog=typed_name(command), allow_abbrev=False, formatter_class=OneSpelling, **kwargs)

    def error(self, message: str):
        raise ValueError(message[0].upper() + message[1:] + ("" if message.endswith(".") else "."))


@dataclass(frozen=True)
class KnobTable:
    """The knobs of one training command.

    Args:
        command, description: of --help.
        groups: dataclass of each field of `Arguments` (run, data, training, logging, hub, schedules).
        model_types: values that `model_type` may have. If there is one only, it is no flag, and no other recipe fits.
        default_type: the `model_type` if neither flag nor recipe gives it.
        model: dataclass of the model's own knobs; None: the fields of the config of the `model_type` are the knobs.
        check: raises ValueError for knobs that do not fit; may fill in defaults.
        never_read: names in `groups` that this command does not read.
    """

    command: str
    description: str
    groups: dict[str, type]
    model_types: tuple[str, ...]
    model: type | None = None
    check: Callable[[Arguments], None] = check_arguments
    never_read: frozenset[str] = frozenset()
    default_type: str = ""

    def read(self, argv: list[str] | None = None) -> Arguments:
        """Reads flags and recipe.

        Raises:
            ValueError: an unknown name (with the nearest known one), a value of the wrong type, or a knob without
                effect.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        path = _early(argv, "--recipe")
        if path == "list":
            print(list_recipes())
            sys.exit(0)
        argv, recipe = drop_overridden(argv, read_recipe(find_recipe(path)) if path else {})
        model_type = self._model_type(argv, recipe, path)
        parser = self.parser(model_type)
        known = {action.dest for action in parser._actions} - {"help"} - self.never_read
        for name in recipe:
            if name not in known - {"recipe"}:
                raise ValueError(self._unknown(f"key {name!r} in {path}", name, known, model_type))
        if {"-h", "--help"} & set(argv):
            parser.parse_args(["--help"])
        given = self._given(parser, recipe_flags(recipe) + argv, known, model_type)
        arguments = self._as_arguments(given, model_type, path)
        self.check(arguments)
        return arguments

    def parser(self, model_type: str) -> Parser:
        classes = [*([self.model] if self.model else []), *self.groups.values()]
        parser = Parser(classes, command=self.command, description=self.description)
        parser.add_argument("--recipe", help="YAML file of knobs, or a shipped one by name (--recipe list)")
        if len(self.model_types) > 1:
            choices = ", ".join(self.model_types)
            parser.add_argument("--model_type", "--model-type", default=self.default_type, help=f"one of {choices}")
        if self.model is None:
            add_config_flags(parser, model_type)
        return parser

    def _model_type(self, argv: list[str], recipe: dict[str, Any], path: str | None) -> str:
        if len(self.model_types) == 1:
            only = self.model_types[0]
            if (found := recipe.pop("model_type", only)) != only:
                raise ValueError(f"{path} is a recipe of a {found}, not for {typed_name(self.command)}.")
            return only
        model_type = _early(argv, "--model_type", "--model-type") or recipe.get("model_type") or self.default_type
        if model_type not in self.model_types:
            raise ValueError(f"--model_type must be one of {', '.join(self.model_types)}, got {model_type!r}.")
        return model_type

    def _given(self, parser: Parser, flags: list[str], known: set[str], model_type: str) -> dict[str, Any]:
        """The knobs that the user set."""
        for action in parser._actions:
            action.default = argparse.SUPPRESS  # what is left in the namespace is what the user set
        namespace, rest = parser.parse_known_args(flags)
        given = {name: value for name, value in vars(namespace).items() if name not in ("recipe", "model_type")}
        unread = sorted(self.never_read & set(given))
        if rest or unread:
            name = rest[0].split("=")[0].lstrip("-") if rest else unread[0]
            raise ValueError(self._unknown(f"argument '--{name}'", name.replace("-", "_"), known, model_type))
        return given

    def _as_arguments(self, given: dict[str, Any], model_type: str, recipe: str | None) -> Arguments:
        if self.model is None:
            hints = config_fields(model_type)
            model = {name: config_value(name, given[name], hints[name]) for name in given if name in hints}
        else:
            model = dataclasses.asdict(_filled(self.model, given))
        groups = {name: _filled(group, given) for name, group in self.groups.items()}
        # A prior has neither schedules nor perceptual losses, and paints no picture that it was shown.
        rest = {"schedules": ScheduleArguments(), "losses": LossArguments(), "judging": JudgingArguments(), **groups}
        return Arguments(model_type, recipe, **rest, model=model, given=frozenset(given))

    def _unknown(self, what: str, name: str, known: set[str], model_type: str) -> str:
        if NAMES_ELSEWHERE.get(name) in known:
            return f"Unknown {what}: its name here is --{NAMES_ELSEWHERE[name]}."
        others = [m for m in self.model_types if m != model_type and name in config_fields(m)]
        if others:
            return f"Unknown {what}: a {model_type} does not read it, only {' and '.join(others)}."
        elsewhere = {other: here for other, here in NAMES_ELSEWHERE.items() if here in known}
        names = {**elsewhere, **{here: here for here in known}}
        nearest = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.0)[0]
        return f"Unknown {what}; the nearest known name is {names[nearest]!r}."


def _early(argv: list[str], *names: str) -> str | None:
    """The value of one flag, read before the parser of all flags can be built."""
    parser = Parser(add_help=False)
    parser.add_argument(*names, dest="value")
    return parser.parse_known_args(argv)[0].value


def _filled(group: type, given: dict[str, Any]) -> Any:
    names = {field.name for field in dataclasses.fields(group)}
    return group(**{name: value for name, value in given.items() if name in names})


def check_autoencoder_knobs(arguments: Arguments) -> None:
    """Raises ValueError for knobs that do not fit, and for config fields with values that the config refuses."""
    check_arguments(arguments)
    if arguments.run.init_from is None:  # else the fields are changes of the config that the saved model has
        check_fields(arguments)


AUTOENCODER_KNOBS = KnobTable(
    "train",
    "Train an autoencoder.",
    {
        "run": RunArguments,
        "data": DataArguments,
        "training": TrainingArguments,
        "logging": LoggingArguments,
        "hub": HubArguments,
        "schedules": ScheduleArguments,
        "losses": LossArguments,
        "judging": JudgingArguments,
    },
    MODEL_TYPES,
    check=check_autoencoder_knobs,
    default_type="vqvae",
)


def parse_arguments(argv: list[str] | None = None) -> Arguments:
    """The knobs of `hf-autoencoders train`. Raises ValueError as `KnobTable.read` does."""
    return AUTOENCODER_KNOBS.read(argv)
