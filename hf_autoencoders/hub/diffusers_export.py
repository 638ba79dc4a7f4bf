# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Our models as diffusers' own classes, and back.

    to_diffusers(vae)      AutoencoderKL
    to_diffusers(vqvae)    VQModel             quantizers vq, l2, ema, simvq: any codebook of vectors that are looked up
    to_diffusers(dvae)     VQModel             its code vectors are one-hot (K x K numbers); the decoder looks them up

An exported object is exact: the same latents and codes, pictures equal to rounding. It is what a saved pipeline must
hold, since diffusers downloads no component from a package that it does not know. What diffusers' nets cannot hold is
refused by name: other backbones than `resnet`, attention between the residual blocks, likelihoods whose mean is not
the decoder's own output, several codes a position.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL, VQModel
from torch import Tensor, nn

from hf_autoencoders.models.configuration_vae import VAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig
from hf_autoencoders.models.modeling_vae import VAEModel
from hf_autoencoders.models.modeling_vqvae import VQVAEModel


EXACT_LIKELIHOODS = ("mse", "l1")
BLOCKS = {"down_block_types": "DownEncoderBlock2D", "up_block_types": "UpDecoderBlock2D"}
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
        **{name: [kind] * len(config.block_out_channels) for name, kind in BLOCKS.items()},
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
        exported = AutoencoderKL(latent_channels=config.latent_channels, **statistics, **common)
        return filled(exported, parts(model, codes_only))
    codebook = code_vectors(model)
    exported = VQModel(
        latent_channels=config.encoder_channels,
        num_vq_embeddings=config.codebook_size,
        vq_embed_dim=codebook.shape[1],
        lookup_from_codebook=lookup_from_codebook,
        **common,
    )
    return filled(exported, {**parts(model, codes_only), "quantize.embedding.weight": codebook, **dvae_look_up(model)})


def refuse(config: Any, codes_only: bool) -> None:
    """Raises ValueError for what diffusers' classes cannot hold."""
    if config.model_type not in ("vae", "vqvae", "dvae"):
        raise ValueError(f"diffusers has no class for a {config.model_type}; vae, vqvae and dvae can be exported.")
    if config.backbone != "resnet":
        raise ValueError(
            f"diffusers' autoencoders have the `resnet` backbone only, this model has `{config.backbone}`."
        )
    if config.attention_levels:
        raise ValueError(
            "diffusers' autoencoders attend at the middle only, this model also at `attention_levels` "
            f"{list(config.attention_levels)}."
        )
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
    return {"post_quant_conv.weight": weight[:, :, None, None]}


def filled(exported: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """The weights in, every name and shape checked; the dtype is that of the model."""
    dtype = weights["encoder.conv_in.weight"].dtype
    exported.load_state_dict({name: tensor.detach().to("cpu", dtype, copy=True) for name, tensor in weights.items()})
    return (exported if exported.dtype == dtype else exported.to(dtype)).eval()  # diffusers warns at any `to(dtype)`


# -- and back ----------------------------------------------------------------------------------------------------------


def from_diffusers(source: AutoencoderKL | VQModel | str, **config_fields) -> VAEModel | VQVAEModel:
    """An AutoencoderKL as VAE, a VQModel as VQ-VAE (quantizer `vq`), in eval mode.

    Args:
        source: the object, or the folder or Hub id of one.
        config_fields: what diffusers does not tell, such as `reconstruction_loss` (`mse` if not given) or `quantizer`.

    Raises:
        ValueError: what our classes do not hold, by name.
    """
    if isinstance(source, str):
        source = read_diffusers(source)
    config = source.config
    refuse_foreign(config)
    size = config.sample_size
    shared = {
        "backbone": "resnet",
        "image_size": size if isinstance(size, int) else list(size),
        "num_channels": config.in_channels,
        "block_out_channels": list(config.block_out_channels),
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "mid_block_add_attention": config.mid_block_add_attention,
        "scaling_factor": config.scaling_factor,
        "force_upcast": config.force_upcast,
        "latent_channels": config.latent_channels,
    }
    if "num_vq_embeddings" in config:
        width = config.latent_channels if config.vq_embed_dim is None else config.vq_embed_dim
        vq = {"codebook_size": config.num_vq_embeddings, "codebook_dim": width, "quantizer": "vq"}
        model = VQVAEModel(VQVAEConfig(**{**shared, **vq, **config_fields}))
    else:
        statistics = {name: getattr(config, name) for name in ("shift_factor", "latents_mean", "latents_std")}
        model = VAEModel(VAEConfig(**{**shared, **statistics, **config_fields}))
    weights = with_convolutions(source, model)
    model.load_state_dict(weights)
    return model.to(next(source.parameters()).dtype).eval()


def read_diffusers(name: str) -> AutoencoderKL | VQModel:
    """A saved AutoencoderKL or VQModel, told apart by its config."""
    kind = AutoencoderKL.load_config(name).get("_class_name")
    classes = {"AutoencoderKL": AutoencoderKL, "VQModel": VQModel}
    if kind not in classes:
        raise ValueError(f"{name} holds a {kind}; AutoencoderKL and VQModel can be read.")
    return classes[kind].from_pretrained(name)


def refuse_foreign(config: Any) -> None:
    if "num_vq_embeddings" not in config and "use_quant_conv" not in config:
        raise ValueError("Only AutoencoderKL and VQModel can be read.")
    for name, ours in BLOCKS.items():
        foreign = sorted(set(config[name]) - {ours})
        if foreign:
            raise ValueError(
                f"Our `resnet` backbone is made of {ours} alone, this model also has {', '.join(foreign)}."
            )
    if config.act_fn not in ("silu", "swish"):
        raise ValueError(f"Our `resnet` backbone computes with silu, this model with {config.act_fn!r}.")
    if config.get("norm_type", "group") != "group":
        raise ValueError(f"Our decoder has group norms, this VQModel has `norm_type` {config.norm_type!r} (MoVQ).")
    if config.in_channels != config.out_channels:
        raise ValueError(
            f"Our models give as many channels as they take; this one {config.in_channels} and {config.out_channels}."
        )


def with_convolutions(source: nn.Module, model: nn.Module) -> dict[str, Tensor]:
    """The source's weights; identities for the 1x1 convolutions that newer AutoencoderKLs leave out."""
    weights = dict(source.state_dict())
    for name in ("quant_conv", "post_quant_conv"):
        if f"{name}.weight" not in weights:
            width = getattr(model, name).weight.shape[0]
            weights |= {f"{name}.weight": torch.eye(width)[:, :, None, None], f"{name}.bias": torch.zeros(width)}
    return weights
