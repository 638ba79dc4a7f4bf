# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Names of weights, theirs and ours: tables of pairs that are read in both directions, and checks by name and shape."""

import re

import torch

from .torch_files import Weights


# Pairs (theirs, ours) of pieces of a name, applied in order from theirs to ours, and in reverse order back.
# `{}` stands for a number, the same on both sides; `^` and `$` for the ends of the name.
Renames = tuple[tuple[str, str], ...]


def compiled(piece: str) -> re.Pattern:
    text = re.escape(piece).replace(r"\{\}", r"(\d+)")
    return re.compile(text.replace(r"\^", "^", 1).replace(r"\$", "$"))


def template(piece: str) -> str:
    """The replacement that `re.sub` takes: `{}` becomes the group of the same place."""
    parts = piece.removeprefix("^").removesuffix("$").split("{}")
    return "".join(part + (rf"\g<{number}>" if number < len(parts) else "") for number, part in enumerate(parts, 1))


def substituted(weights: Weights, table: list[tuple[str, str]], whose: str) -> Weights:
    rules = [(compiled(old), template(new)) for old, new in table]
    renamed = {}
    for name, tensor in weights.items():
        new_name = name
        for pattern, replacement in rules:
            new_name = pattern.sub(replacement, new_name)
        if new_name in renamed:
            raise ValueError(f"Two weights would be named `{new_name}` in {whose} model; one of them is `{name}`.")
        renamed[new_name] = tensor
    return renamed


def rename(weights: Weights, renames: Renames) -> Weights:
    """The same tensors under our names. Raises ValueError if two names become one.

    >>> list(rename({"encoder.down.3.block.1.norm1.bias": 0}, ((".down.{}.block.{}.", ".down_blocks.{}.resnets.{}."),)))
    ['encoder.down_blocks.3.resnets.1.norm1.bias']
    """
    return substituted(weights, list(renames), "our")


def rename_back(weights: Weights, renames: Renames) -> Weights:
    """The same tensors under their names: the way back of `rename`."""
    return substituted(weights, [(ours, theirs) for theirs, ours in reversed(renames)], "their")


def count_indices(weights: Weights, pattern: str) -> int:
    """How many different indices the group of `pattern` takes among the names: levels, blocks, layers."""
    return len({match.group(1) for name in weights if (match := re.match(pattern, name))})


def shape_of(weights: Weights, name: str, axes: int | None = None) -> torch.Size:
    """Raises ValueError if there is no such weight, or not one of so many axes."""
    if name not in weights:
        raise ValueError(
            f"No weight becomes `{name}`: these are not the weights that this conversion is for. They begin with "
            f"{sorted(weights)[:3]}."
        )
    shape = weights[name].shape
    if axes is not None and len(shape) != axes:
        raise ValueError(f"`{name}` must have {axes} axes, got shape {tuple(shape)}.")
    return shape


def listed(names, most: int = 5) -> str:
    """
    >>> listed(["c", "a", "b"], most=2)
    'a, b, ...'
    """
    names = sorted(names)
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def check_names_and_shapes(weights: Weights, expected: Weights) -> None:
    """Raises ValueError unless both have the same names and, under each, the same shape."""
    complaints = {
        "missing": expected.keys() - weights.keys(),
        "of no use": weights.keys() - expected.keys(),
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(expected[name].shape)}"
            for name in weights.keys() & expected.keys()
            if weights[name].shape != expected[name].shape
        ],
    }
    text = "; ".join(f"{len(names)} {what}: {listed(names)}" for what, names in complaints.items() if names)
    if text:
        raise ValueError(f"The weights do not fit the model that their sizes describe: {text} (at most 5 shown each).")
