# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a source of published weights is: how its files are recognised, and how they become a model of ours."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hf_autoencoders.models.configuration_dvae import DVAEConfig
from hf_autoencoders.models.configuration_vae import VAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig

from .torch_files import Weights


ImageSize = int | tuple[int, int]
Settings = dict[str, Any]  # what the file or folder says of its net, under the authors' names


@dataclass(frozen=True)
class Origin:
    """What the card of a converted model says of its weights."""

    title: str
    url: str
    licence: str  # an identifier of the Hub
    citation: str = ""


@dataclass(frozen=True)
class Conversion:
    """A configuration, and weights under the names of the model that it makes.

    `left_behind`: names of the file that the model has no use for. `notes`: what a user should know, a line each.
    """

    config: DVAEConfig | VQVAEConfig | VAEConfig
    weights: Weights
    left_behind: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def setting(settings: Settings, path: str) -> Any:
    """What `settings` hold under a name with dots, None if nothing."""
    value: Any = settings
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def number_setting(settings: Settings, *paths: str) -> float | None:
    """The first number under these names, None if there is none."""
    values = [setting(settings, path) for path in paths]
    return next((v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)), None)


def always(weights: Weights, settings: Settings) -> bool:
    return True


@dataclass(frozen=True)
class Source:
    """One kind of published weights.

    Args:
        name: what users type.
        anchor: a weight that every net of this kind has; what stands before it in a file is a prefix.
        to_ours: (weights under their names, image size, settings) to a Conversion.
        fits: tells kinds with the same anchor apart, by names and settings; the first that fits is taken.
        leaves: names, within the net, of what serves training only; a regular expression at their start.
        image_size: pixels of the pictures that it was published for, where neither file nor user says it.
        size_settings: names, with dots, under which settings hold the picture's size.
        fixture: name of the file with outputs of the authors' own code; "" if there is none.
        range, output_range: of the pixels that the authors' code takes and gives, for the comparison with it.
    """

    name: str
    origin: Origin
    anchor: str
    to_ours: Callable[[Weights, ImageSize, Settings], Conversion]
    fits: Callable[[Weights, Settings], bool] = always
    leaves: str = r"loss\."
    image_size: int = 256
    size_settings: tuple[str, ...] = field(default=())
    fixture: str = ""
    range: tuple[float, float] = (-1.0, 1.0)
    output_range: tuple[float, float] = (-1.0, 1.0)

    def prefix(self, weights: Weights) -> str | None:
        """What stands before the net's names in a file; None if the net is not there."""
        ends = [name.removesuffix(self.anchor) for name in weights if name.endswith(self.anchor)]
        prefixes = sorted({end for end in ends if not end or end.endswith(".")}, key=lambda p: (p.count("."), p))
        first_stage = [prefix for prefix in prefixes if prefix.endswith("first_stage_model.")]
        return (first_stage or prefixes or [None])[0]

    def recognises(self, weights: Weights, settings: Settings) -> bool:
        prefix = self.prefix(weights)
        return prefix is not None and self.fits(self.net(weights, prefix), {**settings, "prefix": prefix})

    def net(self, weights: Weights, prefix: str) -> Weights:
        """The weights of the net, under the names of its own state dict."""
        mine = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        return {name: tensor for name, tensor in mine.items() if not re.match(self.leaves, name)}

    def size_of(self, settings: Settings) -> ImageSize:
        """The picture's size that the settings name, else the published one."""
        for path in self.size_settings:
            value = setting(settings, path)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
            if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, int) for v in value):
                return tuple(value)
        return self.image_size
