# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Our models as diffusers' own classes, and back.

    to_diffusers(vae)      AutoencoderKL
    to_diffusers(vqvae)    VQModel             quantizers vq, l2, ema, simvq: any codebook of vectors that are looked up
    to_diffusers(dvae)     VQModel             its code vectors are one-hot (K x K numbers); the decoder looks them up

An exported object is exact: the same latents and codes, pictures equal to rounding. It is what a saved pipeline must
hold, since diffusers downloads no component from a package that it does not know. What diffusers' nets cannot hold is
refused by name: other backbones than `resnet`, likelihoods whose mean is not the decoder's own output, several codes a
position.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn

from hf_autoencoders.models.modeling_vae import VAEModel
from hf_autoencoders.models.modeling_vqvae import VQVAEModel

from .converters import build
from .source_diffusers import BLOCKS, diffusers_net
from .source_vqgan import CONVOLUTIONS, has_identities
from .weight_files import folder_of, read_folder


EXACT_LIKELIHOODS = ("mse", "l1")
MOST_ONE_HOT = 16_384  # codes of a dVAE; their identity matrix then takes 1 GiB


def to_diffusers(
    model: nn.Module,
    *,
    codes_only: bool = False,
    lookup_from_codebook: bool = False,
    scaling_factor: float | None = None,
    force_upcast: bool | None = None,
) -> AutoencoderKL | VQModel:
    """The same model as AutoencoderKL (VAE) or VQModel (VQ-VAE, dVAE), in eval mode, with its own copy of the weights.

    Args:
        codes_only: also take models whose decoder diffusers cannot hold: encoder, latents and codes are exact, pictures
            are not.
        lookup_from_codebook: of VQModel: `decode(codes, force_not_quantize=True, shape=...)` looks codes up, as
            AmusedPipeline asks; VQDiffusion and Kandinsky need False, and pass vectors.
        scaling_factor: that of the config if None: 1 / standard deviation of the latents (`measure_latents`).
        force_upcast: that of the config if None.

    Raises:
        ValueError: what diffusers' classes cannot hold, by name.
    """
    config = model.config
    refuse(config, codes_only)
    common = {
        "in_channels": config.num_channels,
        "out_channels": config.num_channels,
        "block_out_channels": list(config.block_out_channels),
        **block_types(config),
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "mid_block_add_attention": config.mid_block_add_attention,
        "sample_size": config.height if config.height == config.width else [config.height, config.width],
        "scaling_factor": config.scaling_factor if scaling_factor is None else scaling_factor,
        "force_upcast": config.force_upcast if force_upcast is None else force_upcast,
    }
    if config.model_type == "vae":
        if lookup_from_codebook:
            raise ValueError("`lookup_from_codebook` belongs to models with a codebook; this is a vae.")
        statistics = {name: getattr(config, name) for name in ("shift_factor", "latents_mean", "latents_std")}
        weights = parts(model, codes_only)
        convolutions = not has_identities(weights)  # newer autoencoders have none
        if not convolutions:
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(CONVOLUTIONS)}
        exported = AutoencoderKL(
            latent_channels=config.latent_channels,
            use_quant_conv=convolutions,
            use_post_quant_conv=convolutions,
            **statistics,
            **common,
        )
        return filled(exported, weights)
    codebook = code_vectors(model)
    exported = VQModel(
        latent_channels=config.encoder_channels,
        num_vq_embeddings=config.codebook_size,
        vq_embed_dim=codebook.shape[1],
        lookup_from_codebook=lookup_from_codebook,
        **common,
    )
    return filled(exported, {**parts(model, codes_only), "quantize.embedding.weight": codebook, **dvae_look_up(model)})


def block_types(config: Any) -> dict[str, list[str]]:
    """diffusers' name of each level, in the order that they run; with attention where ours have it."""
    attends = [level in config.attention_levels for level in range(len(config.block_out_channels))]
    orders = {"down_block_types": attends, "up_block_types": attends[::-1]}
    return {name: [BLOCKS[name][attend] for attend in order] for name, order in orders.items()}


def refuse(config: Any, codes_only: bool) -> None:
    """Raises ValueError for what diffusers' classes cannot hold."""
    if config.model_type not in ("vae", "vqvae", "dvae"):
        raise ValueError(f"diffusers has no class for a {config.model_type}; vae, vqvae and dvae can be exported.")
    if config.backbone != "resnet":
        raise ValueError(
            f"diffusers' autoencoders have the `resnet` backbone only, this model has `{config.backbone}`."
        )
    if config.encoder_only:
        raise ValueError("diffusers' autoencoders have a decoder, this model is an encoder alone (`encoder_only`).")
    if config.model_type == "vae" and config.encoder_channels not in (None, config.latent_channels):
        raise ValueError(
            f"AutoencoderKL has one width of latents, this model has {config.latent_channels} and, before "
            f"`quant_conv`, `encoder_channels` {config.encoder_channels}."
        )
    if config.model_type == "vqvae" and config.normalize_look_up:
        raise ValueError("VQModel decodes the vectors that it compares, this model scales them first (Janus).")
    if config.model_type == "vqvae" and config.quantizer in ("fsq", "residual"):
        why = "rounds numbers" if config.quantizer == "fsq" else f"has {config.num_quantizers} codes a position"
        raise ValueError(f"VQModel looks one code up at each position; the quantizer `{config.quantizer}` {why}.")
    if config.model_type == "dvae" and config.codebook_size > MOST_ONE_HOT:
        raise ValueError(
            f"A dvae is exported with a codebook of {config.codebook_size} x {config.codebook_size} numbers; "
            f"at most {MOST_ONE_HOT} codes are."
        )
    if not codes_only and config.reconstruction_loss not in EXACT_LIKELIHOODS:
        raise ValueError(
            f"diffusers takes the decoder's output for the picture, which `{config.reconstruction_loss}` is not "
            f"({' and '.join(EXACT_LIKELIHOODS)} are): codes_only=True exports encoder and codes alone."
        )


def parts(model: nn.Module, codes_only: bool) -> dict[str, Tensor]:
    """Encoder and decoder under diffusers' names, which are ours."""
    prefixes = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    weights = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefixes)}
    if model.config.reconstruction_loss == "logit_laplace":  # its second half of maps is the scale
        channels = model.config.num_channels
        for name in ("decoder.conv_out.weight", "decoder.conv_out.bias"):
            weights[name] = weights[name][:channels]
    return weights


def code_vectors(model: nn.Module) -> Tensor:
    """(K, D) as they are looked up: of length 1 for `l2`, projected for `simvq`; one-hot for a dVAE."""
    if model.config.model_type == "dvae":
        return torch.eye(model.config.codebook_size)
    return model.quantize.code_vectors().detach()


def dvae_look_up(model: nn.Module) -> dict[str, Tensor]:
    """The dVAE's code vectors and 1x1 convolution behind them, as one convolution of one-hot codes: W E^T."""
    if model.config.model_type != "dvae":
        return {}
    convolution = model.post_quant_conv
    weight = convolution.weight[:, :, 0, 0].double() @ model.quantize.embedding.weight.T.double()  # (width, K)
    return {"post_quant_conv.weight": weight[:, :, None, None], **dvae_logits(model)}


def dvae_logits(model: nn.Module) -> dict[str, Tensor]:
    """Where two 1x1 convolutions give the logits, the one that does the same: W2 W1, W2 b1 + b2."""
    if model.logits_conv is None:
        return {}
    first, second = model.quant_conv, model.logits_conv
    outer = second.weight[:, :, 0, 0].double()
    weight, bias = outer @ first.weight[:, :, 0, 0].double(), outer @ first.bias.double() + second.bias.double()
    return {"quant_conv.weight": weight[:, :, None, None], "quant_conv.bias": bias}


def filled(exported: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The weights in, every name and shape checked; the dtype is that of the model."""
    dtype = weights["encoder.conv_in.weight"].dtype
    exported.load_state_dict({name: tensor.detach().to("cpu", dtype, copy=True) for name, tensor in weights.items()})
    return (exported if exported.dtype == dtype else exported.to(dtype)).eval()  # diffusers warns at any `to(dtype)`


# -- and back ----------------------------------------------------------------------------------------------------------


def from_diffusers(
    source: AutoencoderKL | VQModel | str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    **config_fields: Any,
) -> VAEModel | VQVAEModel:
    """An AutoencoderKL as VAE, a VQModel as VQ-VAE (quantizer `vq`), in eval mode, in its own dtype.

    Args:
        source: the object, or the folder or Hub id of one.
        revision, subfolder: of a Hub id or folder, as diffusers takes them.
        config_fields: what diffusers does not tell, such as `reconstruction_loss` (`mse` if not given).

    Raises:
        ValueError: what our classes do not hold, by name.
    """
    if isinstance(source, (str, Path)):
        checkpoint = read_folder(folder_of(source, revision, subfolder))
        weights, settings = checkpoint.weights, checkpoint.settings
    else:
        weights, settings = source.state_dict(), {**source.config, "_class_name": type(source).__name__}
    return build(diffusers_net(weights, None, settings, **config_fields))
