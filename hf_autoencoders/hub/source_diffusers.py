# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""diffusers' AutoencoderKL and VQModel, whose weights carry our names already: from their config, or from bare weights.

DownEncoderBlock2D, AttnDownEncoderBlock2D ...   our levels, attending where `attention_levels` says so
use_quant_conv=False                             our 1x1 convolutions are identities
"""

from typing import Any

from hf_autoencoders.models.configuration_vae import VAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig

from .source import Conversion, ImageSize, Origin, Settings, Source
from .source_vqgan import flatten_attention, resnet_sizes, vqgan_config, with_identities
from .torch_files import Weights
from .weight_names import Renames, rename, shape_of


# Our block at a level: without attention, with it.
BLOCKS = {
    "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
    "up_block_types": ("UpDecoderBlock2D", "AttnUpDecoderBlock2D"),
}
KINDS = ("AutoencoderKL", "VQModel")
DEFAULTS = {
    "in_channels": 3, "out_channels": 3, "block_out_channels": (64,), "layers_per_block": 1, "act_fn": "silu",
    "norm_num_groups": 32, "sample_size": 32, "scaling_factor": 0.18215, "mid_block_add_attention": True,
    "down_block_types": ("DownEncoderBlock2D",), "up_block_types": ("UpDecoderBlock2D",),
}  # fmt: skip
# Of the two classes each: what a config that does not say it means.
OWN_DEFAULTS = {
    "AutoencoderKL": {"latent_channels": 4, "force_upcast": True},
    "VQModel": {"latent_channels": 3, "num_vq_embeddings": 256, "vq_embed_dim": None, "force_upcast": False},
}
# The classes hold no loss. Trained on, such a VAE goes on as latent diffusion's first stages were trained
# (source_vqgan.py); with our defaults, its KL would be pulled down a million times as strongly.
LOSS_OF_KL = {"reconstruction_loss": "l1", "kl_weight": 5e-7, "learned_variance": False}

# Attention as diffusers called it before version 0.17.
OLD_RENAMES: Renames = (
    (".attentions.{}.query.", ".attentions.{}.to_q."),
    (".attentions.{}.key.", ".attentions.{}.to_k."),
    (".attentions.{}.value.", ".attentions.{}.to_v."),
    (".attentions.{}.proj_attn.", ".attentions.{}.to_out.0."),
)


def diffusers_net(
    weights: Weights, image_size: ImageSize | None, settings: Settings, **config_fields: Any
) -> Conversion:
    """From a state dict of AutoencoderKL or VQModel; `settings` is their config, or {} if only the weights are left."""
    weights = flatten_attention(rename(weights, OLD_RENAMES))
    is_vq = "quantize.embedding.weight" in weights
    kind = settings.get("_class_name") or ("VQModel" if is_vq else "AutoencoderKL")
    if kind not in KINDS:
        raise ValueError(f"This config is one of a {kind}; {' and '.join(KINDS)} can be read.")
    weights = with_identities(weights)
    if "block_out_channels" not in settings:
        return bare_weights(weights, image_size or 256, is_vq, config_fields)
    config = {**DEFAULTS, **OWN_DEFAULTS[kind], **settings}
    fields = shared_fields(config, image_size)
    if kind == "VQModel":
        return Conversion(VQVAEConfig(**{**fields, **code_fields(config), **config_fields}), weights)
    statistics = {name: config.get(name) for name in ("shift_factor", "latents_mean", "latents_std")}
    return Conversion(VAEConfig(**{**fields, **LOSS_OF_KL, **statistics, **config_fields}), weights)


def shared_fields(config: dict[str, Any], image_size: ImageSize | None) -> dict[str, Any]:
    refuse_unknown_config(config)
    size = config["sample_size"] if image_size is None else image_size
    return {
        "backbone": "resnet",
        "image_size": size if isinstance(size, int) else list(size),
        "num_channels": config["in_channels"],
        "block_out_channels": list(config["block_out_channels"]),
        "layers_per_block": config["layers_per_block"],
        "norm_num_groups": config["norm_num_groups"],
        "mid_block_add_attention": config["mid_block_add_attention"],
        "attention_levels": attention_levels(config),
        "scaling_factor": config["scaling_factor"],
        "force_upcast": bool(config["force_upcast"]),
        "latent_channels": config["latent_channels"],
    }


def code_fields(config: dict[str, Any]) -> dict[str, Any]:
    """VQModel trains with beta on the codebook term, and offers no other way: `legacy_commitment`."""
    width = config["latent_channels"] if config["vq_embed_dim"] is None else config["vq_embed_dim"]
    codes = {"codebook_size": config["num_vq_embeddings"], "codebook_dim": width}
    return {**codes, "quantizer": "vq", "legacy_commitment": True}


def bare_weights(weights: Weights, image_size: ImageSize, is_vq: bool, config_fields: dict) -> Conversion:
    """What the weights alone tell; 32 groups, as in every published one."""
    if is_vq:
        return Conversion(vqgan_config(weights, image_size, **{"legacy_commitment": True, **config_fields}), weights)
    latent_channels = shape_of(weights, "post_quant_conv.weight", axes=4)[1]
    fields = {**resnet_sizes(weights), **LOSS_OF_KL, "latent_channels": latent_channels, **config_fields}
    note = "There was no config beside these weights: scaling_factor stays 1."
    return Conversion(VAEConfig(image_size=image_size, **fields), weights, notes=(note,))


def attention_levels(config: dict[str, Any]) -> list[int]:
    """Levels that attend, 0 = finest. Raises ValueError where encoder and decoder attend at different ones."""
    down = [index for index, kind in enumerate(config["down_block_types"]) if kind == BLOCKS["down_block_types"][1]]
    last = len(config["up_block_types"]) - 1
    up = [last - index for index, kind in enumerate(config["up_block_types"]) if kind == BLOCKS["up_block_types"][1]]
    if down != sorted(up):
        raise ValueError(
            f"Our encoder and decoder attend at the same levels; of this model they do at {down} and {sorted(up)} "
            "(0 = finest)."
        )
    return down


def refuse_unknown_config(config: dict[str, Any]) -> None:
    """Raises ValueError for what our `resnet` backbone is not, by name."""
    for name, ours in BLOCKS.items():
        foreign = sorted(set(config[name]) - set(ours))
        if foreign:
            raise ValueError(
                f"Our `resnet` backbone is made of {' and '.join(ours)}, this model also has {', '.join(foreign)}."
            )
    if config["act_fn"] not in ("silu", "swish"):
        raise ValueError(f"Our `resnet` backbone computes with silu, this model with {config['act_fn']!r}.")
    if config.get("norm_type", "group") != "group":
        raise ValueError(f"Our decoder has group norms, this VQModel has `norm_type` {config['norm_type']!r} (MoVQ).")
    if config["in_channels"] != config["out_channels"]:
        raise ValueError(
            f"Our models give as many channels as they take; this one {config['in_channels']} and "
            f"{config['out_channels']}."
        )


def diffusers_source(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    return diffusers_net(weights, image_size, settings)


DIFFUSERS_SOURCES = (
    Source(
        "diffusers",
        Origin("An autoencoder of diffusers", "https://github.com/huggingface/diffusers", "unknown"),
        anchor="encoder.down_blocks.0.resnets.0.norm1.weight",
        to_ours=diffusers_source,
        size_settings=("sample_size",),
        leaves=r"$^",
    ),
)
