# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Plain convolutional nets: DALLE-pytorch's DiscreteVAE, and ports of sonnet's VQ-VAE to PyTorch."""

import torch

from hf_autoencoders.models.configuration_dvae import DVAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig

from .source import Conversion, ImageSize, Origin, Settings, Source
from .torch_files import Weights
from .weight_names import Renames, count_indices, rename, shape_of


# -- DALLE-pytorch -----------------------------------------------------------------------------------------------------

NORMALIZATION = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])


def lucidrains_names(weights: Weights) -> tuple[Weights, int, int]:
    """Our names, the number of strided layers and of residual blocks; theirs count every layer of a sequence."""
    levels = count_indices(weights, r"encoder\.(\d+)\.0\.weight")
    blocks = count_indices(weights, r"encoder\.(\d+)\.net\.0\.weight")
    first_up = 1 + blocks if blocks else 0
    table: list[tuple[str, str]] = [("^codebook.", "quantize.embedding.")]
    table += [(f"^encoder.{i}.0.", f"encoder.downsamplers.{i}.") for i in range(levels)]
    table += [(f"^encoder.{levels + j}.net.", f"encoder.layers.{j}.net.") for j in range(blocks)]
    table += [(f"^encoder.{levels + blocks}.", "encoder.conv_out.")]
    table += [("^decoder.0.", "decoder.conv_in.")] if blocks else []
    table += [(f"^decoder.{1 + j}.net.", f"decoder.layers.{j}.net.") for j in range(blocks)]
    table += [(f"^decoder.{first_up + i}.0.", f"decoder.upsamplers.{i}.") for i in range(levels)]
    table += [(f"^decoder.{first_up + levels}.", "decoder.conv_out.")]
    renames: Renames = tuple(table)
    return rename(weights, renames), levels, blocks


def lucidrains_dvae(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From `DiscreteVAE`, whose pixels in [0, 1] are normalised to our [-1, 1] inside; it was trained without a KL."""
    normalization = settings.get("normalization", NORMALIZATION)
    # Two rows of numbers; those of train_vae.py end in another one, for a fourth channel that is not there.
    rows = normalization if isinstance(normalization, (list, tuple)) and len(normalization) == 2 else [None]
    if not all(isinstance(row, (list, tuple)) and all(value == 0.5 for value in row[:3]) for row in rows):
        raise ValueError(f"This DiscreteVAE normalises pixels by {normalization}; only 0.5 and 0.5 can be converted.")
    weights, levels, blocks = lucidrains_names(weights)
    codebook_size, codebook_dim = shape_of(weights, "quantize.embedding.weight", axes=2)
    width, num_channels = shape_of(weights, "encoder.downsamplers.0.weight", axes=4)[:2]
    if num_channels > 3 and any(len(row) < num_channels or row[3] != 0.5 for row in rows):
        raise ValueError("This DiscreteVAE leaves its fourth channel in [0, 1]; ours are all in [-1, 1].")
    config = DVAEConfig(
        backbone="conv",
        conv_style="dalle_pytorch",
        image_size=image_size,
        num_channels=num_channels,
        block_out_channels=[width] * (levels + 1),
        layers_per_block=blocks,
        codebook_size=codebook_size,
        codebook_dim=codebook_dim,
        reconstruction_loss="mse",
        kl_weight=0.0,
        gumbel_temperature=settings.get("temperature", 0.9),
        hard=bool(settings.get("straight_through", False)),
    )
    return Conversion(config, weights)


# -- ports of sonnet's VQ-VAE ------------------------------------------------------------------------------------------

ZALANDO_RENAMES: Renames = (
    ("^_encoder._conv_1.", "encoder.downsamplers.0."),
    ("^_encoder._conv_2.", "encoder.downsamplers.1."),
    ("^_encoder._conv_3.", "encoder.conv_in."),
    ("^_encoder._residual_stack._layers.{}._block.1.", "encoder.residual_stack.layers.{}.conv1."),
    ("^_encoder._residual_stack._layers.{}._block.3.", "encoder.residual_stack.layers.{}.conv2."),
    ("^_pre_vq_conv.", "encoder.conv_out."),
    ("^_vq_vae._embedding.weight", "quantize.embedding.weight"),
    ("^_vq_vae._ema_cluster_size", "quantize.state.counts"),
    ("^_decoder._conv_1.", "decoder.conv_in."),
    ("^_decoder._residual_stack._layers.{}._block.1.", "decoder.residual_stack.layers.{}.conv1."),
    ("^_decoder._residual_stack._layers.{}._block.3.", "decoder.residual_stack.layers.{}.conv2."),
    ("^_decoder._conv_trans_1.", "decoder.upsamplers.0."),
    ("^_decoder._conv_trans_2.", "decoder.upsamplers.1."),
)


def halved_pixels(weights: Weights) -> Weights:
    """The same net between pixels in [-1, 1] instead of [-0.5, 0.5]: exact, since 2 is a power of two and 0 the pad."""
    weights = dict(weights)
    factors = {"encoder.downsamplers.0.weight": 0.5, "decoder.upsamplers.1.weight": 2, "decoder.upsamplers.1.bias": 2}
    for name, factor in factors.items():
        shape_of(weights, name)
        weights[name] = weights[name] * factor
    return weights


def with_zero_biases(weights: Weights) -> Weights:
    """Zeros for the biases that the residual layers of the port do not have."""
    convolutions = [name for name in weights if ".residual_stack.layers." in name and name.endswith(".weight")]
    shapes = {name: shape_of(weights, name, axes=4) for name in convolutions}
    zeros = {f"{name.removesuffix('weight')}bias": weights[name].new_zeros(shapes[name][0]) for name in convolutions}
    return {**zeros, **weights}


def zalando_vqvae(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From zalandoresearch/pytorch-vq-vae, a port of sonnet's example.

    Its in-place ReLU also changes what a residual layer adds its output to: `conv_style="inplace_relu"`. Pixels in
    [-0.5, 0.5] become ours by factors of two in the first and last layer.
    """
    weights = rename(weights, ZALANDO_RENAMES)
    widths = [shape_of(weights, f"encoder.downsamplers.{i}.weight", axes=4)[0] for i in range(2)]
    codebook_size, codebook_dim = shape_of(weights, "quantize.embedding.weight", axes=2)
    averaged = "quantize.state.counts" in weights
    inner = "encoder.residual_stack.layers.0.conv1.weight"
    config = VQVAEConfig(
        backbone="conv",
        conv_style="inplace_relu",
        image_size=image_size,
        num_channels=shape_of(weights, "encoder.downsamplers.0.weight")[1],
        block_out_channels=[*widths, shape_of(weights, "encoder.conv_in.weight", axes=4)[0]],
        layers_per_block=count_indices(weights, r"encoder\.residual_stack\.layers\.(\d+)\."),
        residual_channels=shape_of(weights, inner, axes=4)[0] if inner in weights else 32,
        codebook_size=codebook_size,
        codebook_dim=codebook_dim,
        quantizer="ema" if averaged else "vq",
        codebook_init="uniform",
        revive_dead_codes=False,
        reconstruction_loss="mse",
    )
    left = tuple(name for name in weights if name.startswith("_vq_vae."))
    weights = {name: tensor for name, tensor in with_zero_biases(halved_pixels(weights)).items() if name not in left}
    if averaged:
        weights["quantize.state.steps"] = torch.tensor(0)
        weights["quantize.state.initialized"] = torch.tensor(True)
    return Conversion(config, weights, left)


CONV_SOURCES = (
    Source(
        "lucidrains-dvae",
        Origin("DALLE-pytorch's DiscreteVAE", "https://github.com/lucidrains/DALLE-pytorch", "mit"),
        anchor="codebook.weight",
        to_ours=lucidrains_dvae,
        fits=lambda weights, settings: "encoder.0.0.weight" in weights,
        leaves=r"(?!codebook\.|encoder\.|decoder\.)",
        size_settings=("image_size",),
        fixture="lucidrains_dvae",
        range=(0.0, 1.0),
    ),
    Source(
        "zalando-vqvae",
        Origin("A PyTorch port of sonnet's VQ-VAE", "https://github.com/zalandoresearch/pytorch-vq-vae", "mit"),
        anchor="_encoder._conv_1.weight",
        to_ours=zalando_vqvae,
        image_size=32,
        fixture="zalando_vqvae",
        range=(-0.5, 0.5),
        output_range=(-0.5, 0.5),
    ),
)
