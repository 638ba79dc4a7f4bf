# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""taming-transformers' VQGAN and the nets under its names: latent diffusion, Stable Diffusion, FLUX, Chameleon, Janus.

All are the `resnet` backbone. taming's names become ours (diffusers') by renaming, by counting the decoder's levels
from the other end, and by taking attention's 1x1 convolutions for the matrices that they are.
"""

import re

import torch

from hf_autoencoders.models.configuration_dvae import DVAEConfig
from hf_autoencoders.models.configuration_vae import VAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig

from .source import Conversion, ImageSize, Settings, number_setting
from .torch_files import Weights
from .weight_names import Renames, count_indices, rename, rename_back, shape_of


ATTENTION_RENAMES: Renames = (
    (".attentions.{}.norm.", ".attentions.{}.group_norm."),
    (".attentions.{}.q.", ".attentions.{}.to_q."),
    (".attentions.{}.k.", ".attentions.{}.to_k."),
    (".attentions.{}.v.", ".attentions.{}.to_v."),
    (".attentions.{}.proj_out.", ".attentions.{}.to_out.0."),
)

SHARED_RENAMES: Renames = (
    (".downsample.conv.", ".downsamplers.0.conv."),
    (".upsample.conv.", ".upsamplers.0.conv."),
    (".nin_shortcut.", ".conv_shortcut."),
    (".norm_out.", ".conv_norm_out."),
    *ATTENTION_RENAMES,
)

TAMING_RENAMES: Renames = (
    ("^encoder.down.{}.", "encoder.down_blocks.{}."),
    ("^decoder.up.{}.", "decoder.up_blocks.{}."),
    (".block.{}.", ".resnets.{}."),
    (".attn.{}.", ".attentions.{}."),
    (".mid.block_1.", ".mid_block.resnets.0."),
    (".mid.attn_1.", ".mid_block.attentions.0."),
    (".mid.block_2.", ".mid_block.resnets.1."),
    *SHARED_RENAMES,
)

LLAMAGEN_RENAMES: Renames = (
    ("^encoder.conv_blocks.{}.", "encoder.down_blocks.{}."),
    ("^decoder.conv_blocks.{}.", "decoder.up_blocks.{}."),
    (".res.{}.", ".resnets.{}."),
    (".attn.{}.", ".attentions.{}."),
    (".mid.0.", ".mid_block.resnets.0."),
    (".mid.1.", ".mid_block.attentions.0."),
    (".mid.2.", ".mid_block.resnets.1."),
    *SHARED_RENAMES,
)

MATRICES = re.compile(r".*\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight")


def flatten_attention(weights: Weights) -> Weights:
    """1x1 convolutions (C, C, 1, 1) of the attention become matrices (C, C)."""
    return {n: w[:, :, 0, 0] if MATRICES.fullmatch(n) and w.dim() == 4 else w for n, w in weights.items()}


def unflatten_attention(weights: Weights) -> Weights:
    return {n: w[:, :, None, None] if MATRICES.fullmatch(n) else w for n, w in weights.items()}


def reverse_up_blocks(weights: Weights) -> Weights:
    """taming counts the decoder's levels from the finest, diffusers (and we) in the order they run. Its own inverse."""
    last = count_indices(weights, r"decoder\.up_blocks\.(\d+)\.") - 1
    prefix = r"^decoder\.up_blocks\.(\d+)\."
    return {re.sub(prefix, lambda m: f"decoder.up_blocks.{last - int(m[1])}.", name): w for name, w in weights.items()}


def from_taming(weights: Weights) -> Weights:
    return flatten_attention(reverse_up_blocks(rename(weights, TAMING_RENAMES)))


def to_taming(weights: Weights) -> Weights:
    return rename_back(reverse_up_blocks(unflatten_attention(weights)), TAMING_RENAMES)


def from_llamagen(weights: Weights) -> Weights:
    return flatten_attention(rename(weights, LLAMAGEN_RENAMES))


def to_llamagen(weights: Weights) -> Weights:
    return rename_back(unflatten_attention(weights), LLAMAGEN_RENAMES)


def resnet_sizes(weights: Weights) -> dict:
    """The sizes of a `resnet` backbone, read off weights that already carry our names."""
    levels = range(count_indices(weights, r"encoder\.down_blocks\.(\d+)\."))
    width = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    return {
        "backbone": "resnet",
        "num_channels": shape_of(weights, "encoder.conv_in.weight", axes=4)[1],
        "block_out_channels": [shape_of(weights, width.format(level), axes=4)[0] for level in levels],
        "layers_per_block": count_indices(weights, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        "norm_num_groups": 32,  # fixed in the code of taming, LDM and LlamaGen; no weight tells it
        "mid_block_add_attention": "encoder.mid_block.attentions.0.to_q.weight" in weights,
        "attention_levels": [i for i in levels if f"encoder.down_blocks.{i}.attentions.0.to_q.weight" in weights],
    }


def vqgan_config(weights: Weights, image_size: ImageSize, **fields) -> VQVAEConfig:
    """The sizes of a VQGAN, read off weights that already carry our names."""
    codebook_size, codebook_dim = shape_of(weights, "quantize.embedding.weight", axes=2)
    codes = {"codebook_size": codebook_size, "codebook_dim": codebook_dim, "quantizer": "vq", "commitment_cost": 0.25}
    latent_channels = shape_of(weights, "encoder.conv_out.weight", axes=4)[0]
    return VQVAEConfig(
        image_size=image_size, latent_channels=latent_channels, **{**resnet_sizes(weights), **codes, **fields}
    )


def taming_vqgan(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From taming's `VQModel`; `loss.*` (discriminator, LPIPS) is left behind.

    Its training had beta on the codebook term (`legacy_commitment`), and |x - xr| beside the perceptual loss.
    """
    weights = from_taming(weights)
    return Conversion(vqgan_config(weights, image_size, legacy_commitment=True, reconstruction_loss="l1"), weights)


GUMBEL_RENAMES: Renames = (("^quantize.embed.", "quantize.embedding."), ("^quantize.proj.", "logits_conv."))


def taming_gumbel(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From taming's `GumbelVQ`: quant_conv, then a 1x1 convolution to the logits.

    It draws Gumbel noise even when it encodes; our tokens are the likeliest codes, the ones it draws most often.
    Its loss is the mean of |x - xr| over elements in [-1, 1], plus 1e-8 times the mean KL over positions: in sums of
    nats per image that weight is C f^2 / 2 times as large.
    """
    weights = rename(from_taming(weights), GUMBEL_RENAMES)
    codebook_size, codebook_dim = shape_of(weights, "quantize.embedding.weight", axes=2)
    sizes = resnet_sizes(weights)
    elements_per_position = sizes["num_channels"] * 4 ** (len(sizes["block_out_channels"]) - 1)
    config = DVAEConfig(
        image_size=image_size,
        latent_channels=shape_of(weights, "encoder.conv_out.weight", axes=4)[0],
        logits_channels=shape_of(weights, "quant_conv.weight", axes=4)[0],
        codebook_size=codebook_size,
        codebook_dim=codebook_dim,
        reconstruction_loss="l1",
        kl_weight=(number_setting(settings, "model.params.kl_weight") or 1e-8) * elements_per_position / 2,
        hard=True,  # taming's straight-through estimator
        **sizes,
    )
    return Conversion(config, weights)


def kl_first_stage(
    weights: Weights,
    image_size: ImageSize,
    settings: Settings,
    scaling_factor: float = 1.0,
    shift_factor: float | None = None,
    force_upcast: bool = False,
) -> Conversion:
    """From LDM's `AutoencoderKL`, with or without its two 1x1 convolutions; without, they are identities of ours.

    Its loss sums |x - xr| over an image of pixels in [-1, 1], twice ours, and adds 1e-6 KL (or what the yaml says):
    half of that is our `kl_weight`. The yaml of a diffusion model names the scaling factor, too.
    """
    kl_weight = number_setting(settings, "model.params.lossconfig.params.kl_weight") or 1e-6
    said = number_setting(settings, "model.params.scale_factor")
    weights = with_identities(from_taming(weights))
    latent_channels = shape_of(weights, "post_quant_conv.weight", axes=4)[1]
    encoder_channels = shape_of(weights, "encoder.conv_out.weight", axes=4)[0] // 2
    config = VAEConfig(
        image_size=image_size,
        latent_channels=latent_channels,
        encoder_channels=None if encoder_channels == latent_channels else encoder_channels,
        reconstruction_loss="l1",
        kl_weight=kl_weight / 2,
        learned_variance=False,
        scaling_factor=scaling_factor if said is None else said,
        shift_factor=shift_factor,
        force_upcast=force_upcast,
        **resnet_sizes(weights),
    )
    return Conversion(config, weights)


def with_identities(weights: Weights) -> Weights:
    """Identities for the 1x1 convolutions that newer autoencoders leave out, as wide as what goes through them."""
    weights = dict(weights)
    widths = {
        "quant_conv": shape_of(weights, "encoder.conv_out.weight", axes=4)[0],
        "post_quant_conv": shape_of(weights, "decoder.conv_in.weight", axes=4)[1],
    }
    for name, width in widths.items():
        if f"{name}.weight" not in weights:
            like = weights["encoder.conv_out.weight"]
            eye = torch.eye(width, dtype=like.dtype, device=like.device)[:, :, None, None]
            weights |= {f"{name}.weight": eye, f"{name}.bias": torch.zeros_like(eye[:, 0, 0, 0])}
    return weights


def has_identities(weights: Weights) -> bool:
    """Whether both 1x1 convolutions do nothing, so that a net without them is the same."""
    return all(is_identity(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in CONVOLUTIONS)


CONVOLUTIONS = ("quant_conv", "post_quant_conv")


def is_identity(weight: torch.Tensor, bias: torch.Tensor) -> bool:
    out_channels, in_channels = weight.shape[:2]
    if out_channels != in_channels or weight.is_meta or bias.any():
        return False
    return torch.equal(weight[:, :, 0, 0], torch.eye(out_channels, dtype=weight.dtype, device=weight.device))


def llamagen_vq(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From LlamaGen's `VQModel`, whose codes have length 1; its record of used codes is left behind."""
    weights = from_llamagen(weights)
    unit = settings.get("codebook_l2_norm", True) is not False
    return Conversion(vqgan_config(weights, image_size, normalize_codes=unit, reconstruction_loss="mse"), weights)


def chameleon_vq(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From transformers' ChameleonVQVAE: taming's encoder and codebook, no decoder."""
    weights = from_taming(weights)
    left = tuple(name for name in weights if name.startswith("post_quant_conv."))
    weights = {name: tensor for name, tensor in weights.items() if name not in left}
    config = vqgan_config(weights, image_size, encoder_only=True, legacy_commitment=True, reconstruction_loss="l1")
    note = "transformers' ChameleonVQVAE has no decoder. This model encodes to tokens and cannot decode."
    return Conversion(config, weights, left, (note,))


def janus_vq(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From transformers' JanusVQVAE, whose decoder's levels already stand in the order they run.

    It encodes by plain distances and decodes code vectors scaled to length 1 (`normalize_look_up`).
    """
    weights = flatten_attention(rename(weights, TAMING_RENAMES))
    config = vqgan_config(
        weights, image_size, normalize_look_up=True, legacy_commitment=True, reconstruction_loss="mse"
    )
    return Conversion(config, weights)


def video_net(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    raise ValueError(
        "Emu3's VQ-VAE is a net for video: 3-D convolutions over time surround its codebook, also for one picture. "
        "None of our backbones is that net, so its weights are not converted; use transformers' Emu3VQVAE."
    )
