# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Does a converted net compute what its authors' code computes? The largest difference at each stage.

Where the authors' package is installed (diffusers, transformers), both nets run on the same pictures. Elsewhere a
stored fixture answers for the kind: weights that a seed gives, and what the authors' code made of them. A fixture is a
safetensors file of `io/*` (pixel_values, latents or logits, codes, reconstruction) and of `weights/*`, or of metadata
`shapes` and `seed` in their place; other fixtures of this form can be named, too.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from .converters import convert
from .source import Source
from .weight_files import Weights, first_line


FIXTURES = Path(__file__).parent / "fixtures"
# What fixtures call the stage, and what ours is.
LATENTS = ("pre_quant", "encoder_logits", "latents", "mean")
RAW = ("decoder_stats",)


@dataclass(frozen=True)
class Comparison:
    """`stages`: the largest difference at each stage, by name. `against`: whose outputs ours were compared with."""

    stages: dict[str, float]
    against: str

    def __str__(self) -> str:
        return f"against {self.against}: " + ", ".join(f"{name} {value:.2g}" for name, value in self.stages.items())


@dataclass(frozen=True)
class Fixture:
    weights: Weights
    io: dict[str, Tensor]
    settings: dict[str, Any]


def seeded_weights(shapes: dict[str, list[int]], seed: int) -> Weights:
    """Weights of these names and shapes that every machine draws alike: uniform, of a spread that keeps nets alive.

    Vectors, which are biases and scales of norms, are 0.1 wide, scales around 1.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in sorted(shapes):
        shape = shapes[name]
        values = torch.rand(shape, generator=generator) * 2 - 1
        if len(shape) > 1:
            values *= (6 * shape[0] / values.numel()) ** 0.5
        else:
            values = 0.1 * values + ("norm" in name and name.endswith("weight"))
        weights[name] = values
    return weights


def read_fixture(path: str | Path) -> Fixture:
    """Raises ValueError if it is no fixture."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (the file is no dict)
            metadata = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
    except Exception as error:  # the library's own errors are several, none of them a ValueError
        raise ValueError(f"{path} is no fixture: {first_line(error)}") from error
    io = {name.removeprefix("io/"): tensor for name, tensor in tensors.items() if name.startswith("io/")}
    weights = {name.removeprefix("weights/"): t for name, t in tensors.items() if name.startswith("weights/")}
    if "shapes" in metadata:
        weights = seeded_weights(metadata["shapes"], metadata["seed"])
    if "pixel_values" not in io or not weights:
        raise ValueError(f"{path} is no fixture: it has no `io/pixel_values`, or no weights.")
    return Fixture(weights, io, metadata.get("config", {}))


def stored_fixture(source: Source) -> Path:
    """The fixture that this package has for the kind. Raises ValueError if there is none."""
    path = FIXTURES / f"{source.fixture}.safetensors"
    if not source.fixture or not path.is_file():
        raise ValueError(f"There is no stored fixture for {source.name}; name one: --verify FIXTURE.safetensors.")
    return path


def compare_with_fixture(source: Source, path: str | Path) -> Comparison:
    """Converts the fixture's weights and compares what the model gives with what the authors' code gave."""
    fixture = read_fixture(path)
    size = tuple(fixture.io["pixel_values"].shape[2:])
    model = convert(source.name, fixture.weights, size, fixture.settings)
    return Comparison(stage_differences(model, fixture.io, source), f"the stored outputs in {Path(path).name}")


@torch.no_grad()
def stage_differences(model: PreTrainedModel, io: dict[str, Tensor], source: Source) -> dict[str, float]:
    """The largest difference at each stage that `io` has; of codes, how many differ."""
    low, high = source.range
    pixels = 2 * (io["pixel_values"] - low) / (high - low) - 1
    encoded = model.encode(pixels)
    found = {}
    for name in LATENTS:
        if name in io:
            found["latents"] = largest(encoded.latents, io[name])
    if "logvar" in io:
        found["logvar"] = largest(encoded.latent_dist.logvar, io["logvar"])
    if "codes" in io:
        found["codes that differ"] = float((encoded.image_tokens.flatten() != io["codes"].flatten()).sum())
    if model.config.encoder_only or "reconstruction" not in io:
        return found
    given = io["codes"].view_as(encoded.image_tokens) if "codes" in io else encoded.latents
    decoded = model.decode(given)
    for name in RAW:
        if name in io:
            found["decoder output"] = largest(decoded.logits, io[name])
    low, high = source.output_range
    found["pixels"] = largest((decoded.sample + 1) / 2 * (high - low) + low, io["reconstruction"])
    return found


def largest(ours: Tensor, theirs: Tensor) -> float:
    return (ours.double() - theirs.double()).abs().max().item()
