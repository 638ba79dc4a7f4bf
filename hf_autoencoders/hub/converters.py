# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Published weights of image tokenizers, as models of ours.

    model = convert("taming-vqgan", weights, image_size=256)      # weights: a state dict under its authors' names

| kind           | whose                                                       | becomes                          |
|----------------|-------------------------------------------------------------|----------------------------------|
| `openai-dvae`  | DALL-E's dVAE (openai/DALL-E), `encoder.*` and `decoder.*`  | `DVAEModel`, backbone `dalle`    |
| `taming-vqgan` | VQGAN (CompVis/taming-transformers, `VQModel`)              | `VQVAEModel`, backbone `resnet`  |
| `llamagen-vq`  | LlamaGen (FoundationVision/LlamaGen, `VQModel`)             | the same, with codes of length 1 |

Every size of the net is read off the weights; only the picture size they were trained on must be said.  Names go
through tables of (regular expression, replacement); then every name and every shape must fit our model exactly.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from hf_autoencoders.models.configuration_dvae import DVAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig
from hf_autoencoders.models.modeling_dvae import DVAEModel
from hf_autoencoders.models.modeling_vqvae import VQVAEModel


Weights = dict[str, Tensor]
Renames = tuple[tuple[str, str], ...]  # applied in order with re.sub


@dataclass(frozen=True)
class Conversion:
    """A configuration, and weights under the names of the model that it makes."""

    config: DVAEConfig | VQVAEConfig
    weights: Weights


# -- names -------------------------------------------------------------------------------------------------------------

OPENAI_RENAMES: Renames = ((r"\.w$", ".weight"), (r"\.b$", ".bias"))

ATTENTION_RENAMES: Renames = (
    (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(\.attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
)

TAMING_RENAMES: Renames = (
    (r"\.down\.(\d+)\.", r".down_blocks.\1."),
    (r"\.up\.(\d+)\.", r".up_blocks.\1."),
    (r"\.block\.(\d+)\.", r".resnets.\1."),
    (r"\.attn\.(\d+)\.", r".attentions.\1."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.(down|up)sample\.conv\.", r".\1samplers.0.conv."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
    *ATTENTION_RENAMES,
)

LLAMAGEN_RENAMES: Renames = (
    (r"^encoder\.conv_blocks\.(\d+)\.", r"encoder.down_blocks.\1."),
    (r"^decoder\.conv_blocks\.(\d+)\.", r"decoder.up_blocks.\1."),
    (r"\.res\.(\d+)\.", r".resnets.\1."),
    (r"\.attn\.(\d+)\.", r".attentions.\1."),
    (r"\.mid\.0\.", ".mid_block.resnets.0."),
    (r"\.mid\.1\.", ".mid_block.attentions.0."),
    (r"\.mid\.2\.", ".mid_block.resnets.1."),
    (r"\.(down|up)sample\.conv\.", r".\1samplers.0.conv."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
    *ATTENTION_RENAMES,
)


def rename(weights: Weights, renames: Renames) -> Weights:
    """The same tensors under new names. Raises ValueError if two names become one."""
    renamed = {}
    for name, tensor in weights.items():
        new_name = name
        for pattern, replacement in renames:
            new_name = re.sub(pattern, replacement, new_name)
        if new_name in renamed:
            raise ValueError(f"Two weights would be named `{new_name}` in our model; one of them is `{name}`.")
        renamed[new_name] = tensor
    return renamed


def without(weights: Weights, pattern: str) -> Weights:
    """The weights whose names do not begin with `pattern`."""
    return {name: tensor for name, tensor in weights.items() if not re.match(pattern, name)}


def count_indices(weights: Weights, pattern: str) -> int:
    """How many different indices the group of `pattern` takes among the names: levels, blocks, layers."""
    return len({match.group(1) for name in weights if (match := re.match(pattern, name))})


def shape_of(weights: Weights, name: str) -> torch.Size:
    if name not in weights:
        raise ValueError(
            f"No weight becomes `{name}`: these are not the weights that this conversion is for. They begin with "
            f"{sorted(weights)[:3]}."
        )
    return weights[name].shape


# -- OpenAI's dVAE -----------------------------------------------------------------------------------------------------


def codebook_from_input_convolution(weights: Weights) -> Weights:
    """Makes the decoder's 1x1 input convolution (D, K, 1, 1) the codebook (K, D).

    One-hot codes, or probabilities, go into it and sum to 1: w p + b = (w^T + b)^T p, exact with `b` on every row.
    """
    weights = dict(weights)
    shape_of(weights, "decoder.blocks.input.weight")
    weight, bias = weights.pop("decoder.blocks.input.weight"), weights.pop("decoder.blocks.input.bias")
    weights["quantize.embedding.weight"] = weight[:, :, 0, 0].T + bias
    return weights


def openai_dvae(weights: Weights, image_size: int | tuple[int, int]) -> Conversion:
    """From `encoder.blocks.*.{w,b}` and `decoder.blocks.*.{w,b}` (dall_e/encoder.py, decoder.py)."""
    weights = codebook_from_input_convolution(rename(weights, OPENAI_RENAMES))
    groups = count_indices(weights, r"encoder\.blocks\.group_(\d+)\.")
    last = "encoder.blocks.group_{}.block_1.res_path.conv_4.weight"
    codebook_size, codebook_dim = shape_of(weights, "quantize.embedding.weight")
    config = DVAEConfig(
        backbone="dalle",
        image_size=image_size,
        num_channels=shape_of(weights, "encoder.blocks.input.weight")[1],
        block_out_channels=[shape_of(weights, last.format(group))[0] for group in range(1, groups + 1)],
        layers_per_block=count_indices(weights, r"encoder\.blocks\.group_1\.block_(\d+)\."),
        codebook_size=codebook_size,
        codebook_dim=codebook_dim,
        reconstruction_loss="logit_laplace",
    )
    return Conversion(config, weights)


# -- taming's VQGAN and its family -------------------------------------------------------------------------------------


def flatten_attention(weights: Weights) -> Weights:
    """1x1 convolutions (C, C, 1, 1) of the attention become matrices (C, C)."""
    matrices = re.compile(r".*\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight")
    return {name: w[:, :, 0, 0] if matrices.fullmatch(name) else w for name, w in weights.items()}


def reverse_up_blocks(weights: Weights) -> Weights:
    """taming counts the decoder's levels from the finest, diffusers (and we) in the order they run."""
    last = count_indices(weights, r"decoder\.up_blocks\.(\d+)\.") - 1
    prefix = r"^decoder\.up_blocks\.(\d+)\."
    return {re.sub(prefix, lambda m: f"decoder.up_blocks.{last - int(m[1])}.", name): w for name, w in weights.items()}


def vqgan_config(weights: Weights, image_size: int | tuple[int, int], **fields) -> VQVAEConfig:
    """The sizes of a VQGAN, read off weights that already carry our names."""
    levels = range(count_indices(weights, r"encoder\.down_blocks\.(\d+)\."))
    width = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    codebook_size, codebook_dim = shape_of(weights, "quantize.embedding.weight")
    return VQVAEConfig(
        backbone="resnet",
        image_size=image_size,
        num_channels=shape_of(weights, "encoder.conv_in.weight")[1],
        block_out_channels=[shape_of(weights, width.format(level))[0] for level in levels],
        layers_per_block=count_indices(weights, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
        norm_num_groups=32,  # fixed in taming's and LlamaGen's code; no weight tells it
        mid_block_add_attention="encoder.mid_block.attentions.0.to_q.weight" in weights,
        attention_levels=[i for i in levels if f"encoder.down_blocks.{i}.attentions.0.to_q.weight" in weights],
        latent_channels=shape_of(weights, "encoder.conv_out.weight")[0],
        codebook_size=codebook_size,
        codebook_dim=codebook_dim,
        quantizer="vq",
        commitment_cost=0.25,
        **fields,
    )


def taming_vqgan(weights: Weights, image_size: int | tuple[int, int]) -> Conversion:
    """From taming's `VQModel`; `loss.*` (discriminator, LPIPS) is left behind.

    Its training had beta on the codebook term (`legacy_commitment`), and |x - xr| beside the perceptual loss.
    """
    weights = rename(without(weights, r"loss\."), TAMING_RENAMES)
    weights = flatten_attention(reverse_up_blocks(weights))
    return Conversion(vqgan_config(weights, image_size, legacy_commitment=True, reconstruction_loss="l1"), weights)


def llamagen_vq(weights: Weights, image_size: int | tuple[int, int]) -> Conversion:
    """From LlamaGen's `VQModel`, whose codes have length 1; its record of used codes is left behind."""
    weights = rename(without(weights, r"quantize\.codebook_used$"), LLAMAGEN_RENAMES)
    weights = flatten_attention(weights)
    return Conversion(vqgan_config(weights, image_size, normalize_codes=True, reconstruction_loss="mse"), weights)


# -- the whole way -----------------------------------------------------------------------------------------------------

CONVERSIONS = {
    "openai-dvae": (openai_dvae, DVAEModel),
    "taming-vqgan": (taming_vqgan, VQVAEModel),
    "llamagen-vq": (llamagen_vq, VQVAEModel),
}


def check_weights(weights: Weights, expected: Weights) -> None:
    """Raises ValueError unless both have the same names and, under each, the same shape."""
    complaints = {
        "missing": sorted(expected.keys() - weights.keys()),
        "of no use": sorted(weights.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} for {tuple(expected[name].shape)}"
            for name in sorted(weights.keys() & expected.keys())
            if weights[name].shape != expected[name].shape
        ],
    }
    text = "; ".join(f"{len(names)} {what}: {', '.join(names[:5])}" for what, names in complaints.items() if names)
    if text:
        raise ValueError(f"The weights do not fit the model that their sizes describe: {text} (at most 5 shown each).")


def convert(kind: str, weights: Weights, image_size: int | tuple[int, int] = 256) -> PreTrainedModel:
    """A model of ours, in eval mode, with somebody else's weights.

    Args:
        kind: a key of CONVERSIONS.
        weights: state dict under its authors' names.
        image_size: pixels (side, or height and width) of the pictures it was trained on; no weight tells it.

    Raises:
        ValueError: unknown `kind`, or any weight that is missing, left over or of another shape.
    """
    if kind not in CONVERSIONS:
        raise ValueError(f"`kind` must be one of {', '.join(CONVERSIONS)}, got {kind!r}.")
    to_ours, model_class = CONVERSIONS[kind]
    conversion = to_ours(weights, image_size)
    model = model_class(conversion.config)
    check_weights(conversion.weights, model.state_dict())
    model.load_state_dict(conversion.weights)
    return model.eval()


def read_weights(path: str | Path) -> Weights:
    """A state dict from a safetensors file, or from a torch file without running any code that it may hold.

    Checkpoints of whole trainings are opened at the first of `ema`, `model`, `state_dict` that is there.

    Raises:
        ValueError: the file is damaged, is a pickled module, or holds no state dict.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"`{path}` is damaged, or no plain state dict: a pickled module is not read, since that runs the code in "
            f"it. Where you trust it, save its `state_dict()` with safetensors first. ({str(error).splitlines()[0]})"
        ) from error
    if isinstance(content, dict):
        content = next((content[key] for key in ("ema", "model", "state_dict") if key in content), content)
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"`{path}` holds no state dict (names and tensors), neither at its top nor in `ema`, `model`, `state_dict`."
        )
    return content
