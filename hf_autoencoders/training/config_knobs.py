# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The fields of a model's config as knobs: their names, how flags become values, and the config itself."""

import argparse
import dataclasses
import inspect
import re
from typing import Any, get_args, get_origin

import yaml
from transformers import AutoConfig, PreTrainedConfig

from .arguments import Arguments
from .knob_checks import flags_of
from .recipes import NumbersLoader


def config_fields(model_type: str) -> dict[str, Any]:
    """Name -> annotation of the fields that this model's config adds to those of every transformers model."""
    config_class = type(AutoConfig.for_model(model_type))
    inherited = {f.name for f in dataclasses.fields(PreTrainedConfig)}
    return {f.name: f.type for f in dataclasses.fields(config_class) if f.name not in inherited and f.init}


def check_fields(arguments: Arguments) -> None:
    """Raises the error of the config for a field of a wrong type or out of range, before any data are read.

    If the size of the pictures is not known yet, the check uses a size that the strides divide.
    """
    levels = arguments.model.get("block_out_channels")
    side = 2 ** min(16, max(5, len(levels) - 1 if isinstance(levels, list) else 0))
    AutoConfig.for_model(arguments.model_type, **{"image_size": side, **arguments.model})


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
            f"{flags_of(ignored)}: never read by this {arguments.model_type} ({choice}); leave it out "
            "(to remove it from a recipe: --name null)."
        )
    return config


def add_config_flags(parser: argparse.ArgumentParser, model_type: str) -> None:
    """A flag for each field of the model's config, explained by the config's own docstring."""
    group = parser.add_argument_group(
        f"fields of the {model_type} config",
        "a grid is smaller than its picture by the stride, 2 ** (number of block_out_channels - 1)",
    )
    defaults, explained = AutoConfig.for_model(model_type), field_docs(type(AutoConfig.for_model(model_type)))
    for name, hint in config_fields(model_type).items():
        dashed = [f"--{name.replace('_', '-')}"] if "_" in name else []
        group.add_argument(
            f"--{name}", *dashed, default=getattr(defaults, name), metavar=_metavar(hint), help=explained.get(name),
            **_arity(hint),
        )  # fmt: skip


def field_docs(config_class: type) -> dict[str, str]:
    """Field -> its text in the docstring of the class, else in that of the nearest base class.

    An entry of `Args:` begins with the field's name, or with several names, and a type in brackets:
    `name, other (`type`): words`.
    """
    found: dict[str, str] = {}
    for level in config_class.__mro__:
        if level is PreTrainedConfig:
            break
        arguments = inspect.cleandoc(level.__doc__ or "").partition("Args:\n")[2].partition("\n\n")[0]
        for entry in re.split(r"\n(?= {4}\w)", "\n" + arguments):
            names, _, words = " ".join(entry.split()).partition(": ")
            for name in re.sub(r"\(.*\)", "", names).split(","):
                # % is argparse's own sign.
                found.setdefault(name.strip(), re.sub(r"`", "", words).rstrip(".").replace("%", "%%"))
    return found


def _metavar(hint: Any) -> str:
    """int, float, str, true|false, as people type them."""
    options = [option for option in (get_args(hint) or (hint,)) if option is not type(None)]
    names = ["int" if _takes_list(option) else {bool: "true|false"}.get(option, option.__name__) for option in options]
    return "|".join(dict.fromkeys(names))


def _takes_list(hint: Any) -> bool:
    return any(get_origin(option) in (list, tuple) for option in (hint, *get_args(hint)))


def _arity(hint: Any) -> dict[str, Any]:
    if _takes_list(hint):
        return {"nargs": "+"}
    if bool in (hint, *get_args(hint)):
        return {"nargs": "?", "const": "true"}
    return {}


def config_value(name: str, text: str | list[str], hint: Any) -> Any:
    """The value of a config field from its flag, read as YAML. The strict config checks the type."""
    if not isinstance(text, list):
        return text if hint is str else _scalar(name, text)
    values = [_scalar(name, item) for item in text]
    if len(values) == 1 and isinstance(values[0], list):
        return values[0]
    return values[0] if len(values) == 1 and (int in get_args(hint) or values[0] is None) else values


def _scalar(name: str, text: str) -> Any:
    try:
        return yaml.load(text, Loader=NumbersLoader)
    except yaml.YAMLError:
        raise ValueError(f"--{name}: {text!r} cannot be read as a value.") from None
