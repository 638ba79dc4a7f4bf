# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Recipes: flat YAML files of knobs.

A recipe is turned into flags that stand before those of the command line. So a flag overrides the recipe, and both pass
the same checks. A recipe may come from a stranger: no value in it can become another flag, and a small file cannot
become large in memory.
"""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError


SHIPPED = Path(__file__).resolve().parents[1] / "commands" / "recipes"
MOST_BYTES = 1_000_000  # of a recipe; ours have about 500
# The command that trains it, by `model_type`; of the four autoencoders it is `train`.
TRAINED_BY = {"prior": "train_prior", "latent-diffusion": "train_latent_diffusion"}
Scalar = (str, int, float, bool, type(None))


class NumbersLoader(yaml.SafeLoader):
    """Reads 1e-3 as a number, as YAML 1.2 does. Refuses double keys, and references, by which a small file grows."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            raise ConstructorError(problem="references (*name) have no place in a list of knobs")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := sorted({str(name) for name in names if names.count(name) > 1}):
            raise ConstructorError(problem=f"{twice[0]!r} is there twice")
        return super().construct_mapping(node, deep)


NumbersLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with this package."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file `name`, or the recipe of that name that comes with this package (also under its path in a checkout).

    Raises:
        ValueError: there is neither such a file nor such a recipe.
    """
    path, shipped = Path(name), shipped_recipes()
    if path.is_file():
        return path
    if path.suffix in ("", ".yaml") and path.stem in shipped and path.parent.name in ("", "recipes"):
        return shipped[path.stem]
    nearest = difflib.get_close_matches(path.stem, shipped, n=1, cutoff=0.0)[0]
    raise ValueError(
        f"There is no recipe {name!r}: neither a file, nor one of those that --recipe list shows; the nearest is "
        f"{nearest!r}."
    )


def about(path: Path) -> str:
    """What a recipe says of itself: the comment it begins with, up to the command or the first knob."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# ") or line.startswith("#  "):
            break
        lines.append(line[2:].strip())
    return " ".join(lines)


def list_recipes() -> str:
    """A line for each recipe that comes with this package."""
    shipped = shipped_recipes()
    width = max(map(len, shipped))
    return "\n".join(f"{name:{width}}  {about(path)}" for name, path in shipped.items())


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The flat YAML file at `path`; 1e-3 is a number in it (YAML 1.1 reads a string).

    Raises:
        ValueError: no such file, no YAML, no flat list of knobs, a double key, a value that is neither a scalar nor a
            list of scalars.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than any recipe needs ({MOST_BYTES:,}).")
        recipe = yaml.load(path.read_text(encoding="utf-8"), Loader=NumbersLoader)
    except FileNotFoundError:
        raise ValueError(f"There is no recipe {str(path)!r}.") from None
    except (OSError, UnicodeDecodeError, RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"The recipe {path} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict) or not all(is_knob_value(value) for value in recipe.values()):
        raise ValueError(f"The recipe {path} must be a flat list of 'knob: value' lines.")
    return {str(name): value for name, value in recipe.items()}


def is_knob_value(value: Any) -> bool:
    """A scalar, or a list of scalars."""
    return isinstance(value, Scalar) or (isinstance(value, list) and all(isinstance(item, Scalar) for item in value))


def recipe_flags(recipe: dict[str, Any]) -> list[str]:
    """
    >>> recipe_flags({"learning_rate": 0.001, "block_out_channels": [32, 64], "overwrite": True})
    ['--learning_rate=0.001', '--block_out_channels', '32', '64', '--overwrite=true']
    """
    flags = []
    for name, value in recipe.items():
        if isinstance(value, list):
            flags += [f"--{name}", *([_item(name, item) for item in value] or ["[]"])]
        elif value is not None:
            flags.append(f"--{name}={_text(value)}")
    return flags


def _item(name: str, value: Any) -> str:
    if isinstance(value, str) and value.startswith("-"):
        raise ValueError(f"{name} of the recipe holds {value!r}, which would be read as a flag.")
    return _text(value)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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
