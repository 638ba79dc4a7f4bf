# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Our models in the files of the tools that they came from: exact, or refused by name with the reason::

    | to          | holds                                                | written                              |
    |-------------|------------------------------------------------------|--------------------------------------|
    | `diffusers` | vae, vqvae, dvae of `resnet`                         | a folder of AutoencoderKL or VQModel |
    | `taming`    | vqvae (VQModel), dvae (GumbelVQ) of `resnet`         | `last.ckpt`, `config.yaml`           |
    | `ldm`       | vae (AutoencoderKL), vqvae (VQModel) of `resnet`     | `model.ckpt`, `config.yaml`          |
    | `llamagen`  | vqvae of `resnet` that attends at the coarsest level | `model.pt`, `config.yaml`            |
    | `flava`     | the encoder of a dvae of `dalle` with four groups    | a folder of FlavaImageCodebook       |
    | `onnx`      | any                                                  | `encode.onnx`, `decode.onnx`         |

Where the file is named ``*.safetensors``, taming's, LDM's and LlamaGen's weights go into it alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from .source_openai import to_flava
from .source_vqgan import CONVOLUTIONS, GUMBEL_RENAMES, has_identities, to_llamagen, to_taming
from .torch_files import Weights
from .weight_names import rename_back


NET = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "logits_conv.")
LLAMAGEN_CODES = 65_536  # length of the record of used codes in LlamaGen's quantizer, whatever its codebook's size


class CannotHold(ValueError):
    """A format that is not this net."""


@dataclass(frozen=True)
class Exported:
    """Weights under their names, the configuration of their code, and lines that a user should read."""

    weights: Weights
    config: dict[str, Any]
    notes: tuple[str, ...] = ()


# -- what a format can hold --------------------------------------------------------------------------------------------


def require(holds: bool, whose: str, reason: str) -> None:
    if not holds:
        raise CannotHold(f"{whose} cannot hold this model: {reason}.")


def require_resnet(config: Any, whose: str, kinds: tuple[str, ...]) -> None:
    """The net of taming's family with a decoder that gives the picture itself, and 32 groups in every norm."""
    require(config.model_type in kinds, whose, f"it is a {config.model_type}; {' and '.join(kinds)} can be held")
    require(config.backbone == "resnet", whose, f"its backbone is `{config.backbone}`, theirs is our `resnet`")
    require(not config.encoder_only, whose, "it is an encoder alone (`encoder_only`)")
    require(config.norm_num_groups == 32, whose, f"its norms have {config.norm_num_groups} groups, theirs 32")
    loss = config.reconstruction_loss
    require(loss in ("mse", "l1"), whose, f"their decoder gives the picture itself, which with `{loss}` ours does not")
    ratios = [width % config.block_out_channels[0] for width in config.block_out_channels]
    widths = list(config.block_out_channels)
    require(not any(ratios), whose, f"their widths are multiples of the first one, its are {widths}")


def require_one_code(config: Any, whose: str) -> None:
    kind = config.quantizer
    require(kind not in ("fsq", "residual"), whose, f"they look one vector up for a code, its quantizer is `{kind}`")
    require(not config.normalize_look_up, whose, "it decodes other vectors than it compares (`normalize_look_up`)")


def require_middle_attention(config: Any, whose: str) -> None:
    require(config.mid_block_add_attention, whose, "their net attends in the middle, it does not")


# -- taming's family ---------------------------------------------------------------------------------------------------


def net_weights(model: nn.Module) -> Weights:
    """Encoder, decoder and the 1x1 convolutions, under our names."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(NET)}


def codebook(model: nn.Module, normalizes: bool) -> Tensor:
    """(K, D): the vectors that are looked up; as they are stored, where their code scales them to length 1 itself."""
    return model.quantize.embedding.weight if normalizes else model.quantize.code_vectors().detach()


def ddconfig(config: Any, double_z: bool, z_channels: int) -> dict[str, Any]:
    """taming's and LDM's configuration of encoder and decoder."""
    first = config.block_out_channels[0]
    return {
        "double_z": double_z,
        "z_channels": z_channels,
        "resolution": config.height,
        "in_channels": config.num_channels,
        "out_ch": config.num_channels,
        "ch": first,
        "ch_mult": [width // first for width in config.block_out_channels],
        "num_res_blocks": config.layers_per_block,
        "attn_resolutions": [config.height // 2**level for level in config.attention_levels],
        "dropout": 0.0,
    }


def model_yaml(target: str, **params: Any) -> dict[str, Any]:
    loss = {"target": "torch.nn.Identity"}  # for use; to train on, name a loss of theirs
    return {"model": {"target": target, "params": {**params, "lossconfig": loss}}}


def to_taming_files(model: nn.Module) -> Exported:
    config, whose = model.config, "taming-transformers"
    require_resnet(config, whose, ("vqvae", "dvae"))
    require_middle_attention(config, whose)
    if config.model_type == "dvae":
        return gumbel_files(model)
    require_one_code(config, whose)
    weights = to_taming({**net_weights(model), "quantize.embedding.weight": codebook(model, normalizes=False)})
    sizes = {"n_embed": config.codebook_size, "embed_dim": config.codebook_dim}
    net = ddconfig(config, False, config.encoder_channels)
    return Exported(weights, model_yaml("taming.models.vqgan.VQModel", ddconfig=net, **sizes))


def gumbel_files(model: nn.Module) -> Exported:
    """taming's GumbelVQ: every width around the codes is one and the same."""
    config, width = model.config, model.config.codebook_dim
    same = {width, config.encoder_channels, width if config.logits_channels is None else config.logits_channels}
    require(len(same) == 1, "taming's GumbelVQ", f"its widths around the codes are {sorted(same)}, theirs are equal")
    ours = {**net_weights(model), "quantize.embedding.weight": codebook(model, normalizes=False)}
    if config.logits_channels is None:  # our one convolution is their second, behind an identity
        ours |= {f"logits_conv.{name}": ours[f"quant_conv.{name}"] for name in ("weight", "bias")}
        eye = torch.eye(width).to(ours["quant_conv.weight"])
        ours |= {"quant_conv.weight": eye[:, :, None, None], "quant_conv.bias": torch.zeros_like(eye[0])}
    weights = to_taming(rename_back(ours, GUMBEL_RENAMES))
    scheduler = {"target": "taming.lr_scheduler.LambdaWarmUpCosineScheduler", "params": {}}
    params = {"ddconfig": ddconfig(config, False, width), "n_embed": config.codebook_size, "embed_dim": width}
    return Exported(
        weights, model_yaml("taming.models.vqgan.GumbelVQ", **params, temperature_scheduler_config=scheduler)
    )


def to_ldm_files(model: nn.Module) -> Exported:
    config, whose = model.config, "latent-diffusion"
    require_resnet(config, whose, ("vae", "vqvae"))
    attends = config.mid_block_add_attention
    require(attends or not config.attention_levels, whose, "it attends at levels and not in the middle")
    if config.model_type == "vqvae":
        require_one_code(config, whose)
        weights = {**net_weights(model), "quantize.embedding.weight": codebook(model, normalizes=False)}
        net = ddconfig(config, False, config.encoder_channels)
        params = {"embed_dim": config.codebook_dim, "n_embed": config.codebook_size}
        target, notes = "ldm.models.autoencoder.VQModel", ()
    else:
        weights, notes = net_weights(model), (f"Latents are used times scale_factor {config.scaling_factor:.6g}.",)
        width = config.latent_channels if config.encoder_channels is None else config.encoder_channels
        net, params = ddconfig(config, True, width), {"embed_dim": config.latent_channels}
        target = "ldm.models.autoencoder.AutoencoderKL"
        if has_identities(weights):
            weights = {name: tensor for name, tensor in weights.items() if not name.startswith(CONVOLUTIONS)}
            notes += ("Both 1x1 convolutions were identities and are left out, as in the files of SD3 and FLUX.",)
    net |= {} if attends else {"attn_type": "none"}
    return Exported(to_taming(weights), model_yaml(target, ddconfig=net, **params), notes)


def to_llamagen_files(model: nn.Module) -> Exported:
    config, whose = model.config, "LlamaGen"
    require_resnet(config, whose, ("vqvae",))
    require_middle_attention(config, whose)
    require_one_code(config, whose)
    last, levels = len(config.block_out_channels) - 1, list(config.attention_levels)
    require(levels == [last], whose, f"theirs attends at the coarsest level [{last}] alone, it at {levels}")
    normalizes = config.normalize_codes or config.quantizer == "l2"
    ours = {**net_weights(model), "quantize.embedding.weight": codebook(model, normalizes)}
    weights = {**to_llamagen(ours), "quantize.codebook_used": torch.zeros(LLAMAGEN_CODES)}
    first, multiples = config.block_out_channels[0], ddconfig(config, False, 0)["ch_mult"]
    arguments = {
        "codebook_size": config.codebook_size,
        "codebook_embed_dim": config.codebook_dim,
        "codebook_l2_norm": bool(normalizes),
        "encoder_ch_mult": multiples,
        "decoder_ch_mult": multiples,
        "z_channels": config.encoder_channels,
    }
    notes = ()
    if (first, config.layers_per_block) != (128, 2):
        notes = (
            f"LlamaGen's VQModel has ch=128 and num_res_blocks=2; this net {first} and {config.layers_per_block}.",
        )
    return Exported(weights, arguments, notes)


def to_flava_folder(model: nn.Module) -> nn.Module:
    """The encoder as FlavaImageCodebook, in eval mode; whatever the decoder is."""
    from transformers import FlavaImageCodebook, FlavaImageCodebookConfig

    config, whose = model.config, "FlavaImageCodebook"
    require(config.model_type == "dvae", whose, f"it is a {config.model_type}; dvae can be held")
    require(config.backbone == "dalle", whose, f"its backbone is `{config.backbone}`, theirs is our `dalle`")
    widths, first = list(config.block_out_channels), config.block_out_channels[0]
    require(
        widths == [first, 2 * first, 4 * first, 8 * first],
        whose,
        f"theirs has four groups, each twice as wide as the one before, its widths are {widths}",
    )
    theirs = FlavaImageCodebookConfig(
        input_channels=config.num_channels,
        num_blocks_per_group=config.layers_per_block,
        hidden_size=first,
        vocab_size=config.codebook_size,
    )
    net = FlavaImageCodebook(theirs).to(model.dtype)
    net.load_state_dict(to_flava(model.state_dict()))
    return net.eval()


# -- files -------------------------------------------------------------------------------------------------------------


def write_weights(exported: Exported, out: Path, file: str, entry: str) -> tuple[str, ...]:
    """The weights alone in OUT.safetensors, or `file` with its configuration in the folder OUT."""
    weights = {name: tensor.detach().to("cpu").contiguous().clone() for name, tensor in exported.weights.items()}
    if out.suffix == ".safetensors":
        out.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, out)
        return exported.notes
    out.mkdir(parents=True, exist_ok=True)
    torch.save({entry: weights}, out / file)
    (out / "config.yaml").write_text(yaml.safe_dump(exported.config, sort_keys=False), encoding="utf-8")
    return exported.notes


def write_taming(model: nn.Module, out: Path) -> tuple[str, ...]:
    return write_weights(to_taming_files(model), out, "last.ckpt", "state_dict")


def write_ldm(model: nn.Module, out: Path) -> tuple[str, ...]:
    return write_weights(to_ldm_files(model), out, "model.ckpt", "state_dict")


def write_llamagen(model: nn.Module, out: Path) -> tuple[str, ...]:
    return write_weights(to_llamagen_files(model), out, "model.pt", "model")


def write_flava(model: nn.Module, out: Path) -> tuple[str, ...]:
    to_flava_folder(model).save_pretrained(out)
    return ("FlavaImageCodebook takes pixels x in [0, 1] as 0.8 x + 0.1; this model took 2 x - 1.",)


def write_diffusers(model: nn.Module, out: Path) -> tuple[str, ...]:
    from .diffusers_export import to_diffusers  # seconds: diffusers' models

    to_diffusers(model).save_pretrained(out)
    return ()


def write_onnx(model: nn.Module, out: Path) -> tuple[str, ...]:
    from .onnx_export import export_onnx  # needs the packages of the extra [onnx]

    return export_onnx(model, out)


EXPORTS: dict[str, Callable[[nn.Module, Path], tuple[str, ...]]] = {
    "diffusers": write_diffusers,
    "taming": write_taming,
    "ldm": write_ldm,
    "llamagen": write_llamagen,
    "flava": write_flava,
    "onnx": write_onnx,
}


def export(model: nn.Module, to: str, out: str | Path) -> tuple[str, ...]:
    """Writes the model for another tool and gives lines that a user should read.

    Args:
        to: a key of EXPORTS.
        out: a folder; of taming, ldm and llamagen also a file ``*.safetensors``.

    Raises:
        ValueError: what the format cannot hold, by name, before anything is written.
    """
    if to not in EXPORTS:
        raise ValueError(f"`to` must be one of {', '.join(EXPORTS)}, got {to!r}.")
    out = Path(out)
    if out.suffix == ".safetensors" and to not in ("taming", "ldm", "llamagen"):
        raise ValueError(f"{to} is written to a folder, not to one file {out.name}.")
    if out.is_file() and out.suffix != ".safetensors":
        raise ValueError(f"{out} is a file; {to} is written to a folder.")
    return EXPORTS[to](model.eval(), out)
