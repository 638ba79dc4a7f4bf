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
from .source_diffusers import OLD_RENAMES
from .source_vqgan import flatten_attention
from .torch_files import Weights, first_line
from .weight_names import rename


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


# -- the authors' own package ------------------------------------------------------------------------------------------


def flava_outputs(settings: dict[str, Any], weights: Weights, pixels: Tensor) -> dict[str, Tensor]:
    from transformers import FlavaImageCodebook, FlavaImageCodebookConfig

    config = FlavaImageCodebookConfig(**nested(settings, "image_codebook_config"))
    net = loaded(FlavaImageCodebook(config), weights)
    logits = net(0.8 * ((pixels + 1) / 2) + 0.1)
    return {"pixel_values": (pixels + 1) / 2, "encoder_logits": logits, "codes": logits.argmax(1)}


def chameleon_outputs(settings: dict[str, Any], weights: Weights, pixels: Tensor) -> dict[str, Tensor]:
    from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE, ChameleonVQVAEConfig

    net = loaded(ChameleonVQVAE(ChameleonVQVAEConfig(**nested(settings, "vq_config"))), weights)
    encoded = net.encode(pixels)
    latents = net.quant_conv(encoded.last_hidden_state)
    return {"pixel_values": pixels, "pre_quant": latents, "codes": encoded.image_tokens}


def janus_outputs(settings: dict[str, Any], weights: Weights, pixels: Tensor) -> dict[str, Tensor]:
    from transformers.models.janus.modeling_janus import JanusVQVAE, JanusVQVAEConfig

    fields = {**nested(settings, "vq_config"), "num_patches": 4}  # the pictures here have a 4x4 grid
    net = loaded(JanusVQVAE(JanusVQVAEConfig(**fields)), weights)
    encoded = net.encode(pixels)
    codes = encoded.image_tokens.view(len(pixels), -1)
    latents = net.quant_conv(encoded.last_hidden_state)
    return {"pixel_values": pixels, "pre_quant": latents, "codes": codes, "reconstruction": net.decode(codes)}


def diffusers_outputs(settings: dict[str, Any], weights: Weights, pixels: Tensor) -> dict[str, Tensor]:
    from diffusers import AutoencoderKL, VQModel

    weights = flatten_attention(rename(weights, OLD_RENAMES))
    fields = {name: value for name, value in settings.items() if not name.startswith("_")}
    if "quantize.embedding.weight" in weights:
        net = loaded(VQModel(**fields), weights)
        latents = net.encode(pixels).latents
        codes = net.quantize(latents)[2][2].view(len(pixels), *latents.shape[2:])
        return {"pixel_values": pixels, "pre_quant": latents, "codes": codes, "reconstruction": net(pixels).sample}
    net = loaded(AutoencoderKL(**fields), weights)
    posterior = net.encode(pixels).latent_dist
    picture = net.decode(posterior.mean).sample
    statistics = {"mean": posterior.mean, "logvar": posterior.logvar}
    return {"pixel_values": pixels, **statistics, "reconstruction": picture}


PACKAGES = {
    "flava-codebook": ("transformers' FlavaImageCodebook", flava_outputs),
    "chameleon-vq": ("transformers' ChameleonVQVAE", chameleon_outputs),
    "janus-vq": ("transformers' JanusVQVAE", janus_outputs),
    "diffusers": ("diffusers' own class", diffusers_outputs),
}


def nested(settings: dict[str, Any], part: str) -> dict[str, Any]:
    """The config of the image tokenizer, of its own or within that of the model around it."""
    fields = settings.get(part, settings)
    return {name: value for name, value in fields.items() if name not in ("architectures", "dtype", "torch_dtype")}


def loaded(net: torch.nn.Module, weights: Weights) -> torch.nn.Module:
    net.load_state_dict(weights)
    return net.float().eval()


@torch.no_grad()
def compare_with_package(
    source: Source, model: PreTrainedModel, weights: Weights, settings: dict[str, Any]
) -> Comparison:
    """Runs the authors' net, from their installed package, and the converted one on two pictures of a 4x4 grid."""
    title, outputs = PACKAGES[source.name]
    side = 4 * model.config.downsample_factor
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, model.config.num_channels, side, side, generator=generator) * 2 - 1
    net = source.net(weights, source.prefix(weights) or "")
    io = outputs(settings, {name: tensor.float() for name, tensor in net.items()}, pixels)
    return Comparison(stage_differences(model.float(), io, source), title)


def verify(
    source: Source,
    model: PreTrainedModel,
    weights: Weights,
    settings: dict[str, Any],
    fixture: str | Path | None = None,
) -> Comparison:
    """Compares with the authors' package where it is installed and the settings say how to build their net, else with a
    fixture: the one that is named, or the stored one.

    Raises:
        ValueError: there is neither, or the fixture is of another kind.
    """
    if fixture is None and source.name in PACKAGES and settings:
        return compare_with_package(source, model, weights, settings)
    return compare_with_fixture(source, stored_fixture(source) if fixture is None else fixture)
