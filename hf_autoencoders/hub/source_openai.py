# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""OpenAI's dVAE: the two pickled modules of DALL-E, and its encoder as FlavaImageCodebook of transformers.

encoder.pkl   blocks.input.w (7x7)                  decoder.pkl   blocks.input.w (1x1: the codebook)
Flava         blocks.group_1.group.block_1.res_path.path.conv_1.weight
"""

from torch import Tensor

from hf_autoencoders.models.configuration_dvae import DVAEConfig

from .source import Conversion, ImageSize, Origin, Settings, Source
from .torch_files import Weights
from .weight_names import Renames, count_indices, rename, rename_back, shape_of


OPENAI_RENAMES: Renames = ((".w$", ".weight"), (".b$", ".bias"))
FLAVA_RENAMES: Renames = (("^blocks.", "encoder.blocks."), (".group.block_{}.", ".block_{}."), (".path.", "."))

CITATION = """@inproceedings{ramesh2021zero,
  title     = {Zero-Shot Text-to-Image Generation},
  author    = {Ramesh, Aditya and Pavlov, Mikhail and Goh, Gabriel and Gray, Scott and Voss, Chelsea and Radford, Alec
               and Chen, Mark and Sutskever, Ilya},
  booktitle = {International Conference on Machine Learning},
  year      = {2021}
}"""
FLAVA_CITATION = """@inproceedings{singh2022flava,
  title     = {{FLAVA}: A Foundational Language And Vision Alignment Model},
  author    = {Singh, Amanpreet and Hu, Ronghang and Goswami, Vedanuj and Couairon, Guillaume and Galuba, Wojciech and
               Rohrbach, Marcus and Kiela, Douwe},
  booktitle = {Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}"""


def named_parts(weights: Weights) -> Weights:
    """`blocks.*` of one file under the name of its part, which the size of its first convolution tells."""
    first = weights.get("blocks.input.w")
    if not isinstance(first, Tensor) or first.dim() != 4:
        return weights
    part = "decoder" if first.shape[-1] == 1 else "encoder"
    return {f"{part}.{name}": tensor for name, tensor in weights.items()}


def codebook_from_input_convolution(weights: Weights) -> Weights:
    """Makes the decoder's 1x1 input convolution (D, K, 1, 1) the codebook (K, D).

    One-hot codes, or probabilities, go into it and sum to 1: w p + b = (w^T + b)^T p, exact with `b` on every row.
    """
    weights = dict(weights)
    shape, width = (shape_of(weights, f"decoder.blocks.input.{name}") for name in ("weight", "bias"))
    if len(shape) != 4 or width != shape[:1] or shape[2:] != (1, 1):
        raise ValueError(f"The decoder begins with a 1x1 convolution, got shapes {tuple(shape)} and {tuple(width)}.")
    weight, bias = weights.pop("decoder.blocks.input.weight"), weights.pop("decoder.blocks.input.bias")
    weights["quantize.embedding.weight"] = weight[:, :, 0, 0].T + bias
    return weights


def dalle_sizes(weights: Weights) -> dict:
    """Sizes of the `dalle` backbone, read off an encoder under our names."""
    groups = count_indices(weights, r"encoder\.blocks\.group_(\d+)\.")
    last = "encoder.blocks.group_{}.block_1.res_path.conv_4.weight"
    return {
        "backbone": "dalle",
        "num_channels": shape_of(weights, "encoder.blocks.input.weight", axes=4)[1],
        "block_out_channels": [shape_of(weights, last.format(group), axes=4)[0] for group in range(1, groups + 1)],
        "layers_per_block": count_indices(weights, r"encoder\.blocks\.group_1\.block_(\d+)\."),
        "codebook_size": shape_of(weights, "encoder.blocks.output.conv.weight", axes=4)[0],
        "reconstruction_loss": "logit_laplace",
        "kl_weight": 6.6,
    }


def openai_dvae(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From `encoder.blocks.*.{w,b}` and `decoder.blocks.*.{w,b}` (dall_e/encoder.py, decoder.py), or the first alone.

    Its loss had beta = 6.6 beside the negative log-likelihood, both in the same unit (appendix A.2).
    """
    weights = rename(weights, OPENAI_RENAMES)
    if not any(name.startswith("decoder.") for name in weights):
        return encoder_alone(weights, image_size, "There is no decoder.pkl beside this encoder.")
    weights = codebook_from_input_convolution(weights)
    width = shape_of(weights, "quantize.embedding.weight")[1]
    return Conversion(DVAEConfig(image_size=image_size, codebook_dim=width, **dalle_sizes(weights)), weights)


def encoder_alone(weights: Weights, image_size: ImageSize, why: str) -> Conversion:
    config = DVAEConfig(image_size=image_size, encoder_only=True, **dalle_sizes(weights))
    return Conversion(config, weights, notes=(f"{why} This model encodes to tokens and cannot decode.",))


def flava_codebook(weights: Weights, image_size: ImageSize, settings: Settings) -> Conversion:
    """From transformers' FlavaImageCodebook, OpenAI's encoder. It takes pixels squeezed to 0.8 x + 0.1."""
    weights = rename(weights, FLAVA_RENAMES)
    return encoder_alone(weights, image_size, "FlavaImageCodebook has no decoder.")


def to_flava(weights: Weights) -> Weights:
    """A `dalle` encoder under FlavaImageCodebook's names."""
    encoder = {name: tensor for name, tensor in weights.items() if name.startswith("encoder.")}
    return {
        name.replace(".block_", ".group.block_").replace(".res_path.", ".res_path.path."): tensor
        for name, tensor in rename_back(encoder, FLAVA_RENAMES[:1]).items()
    }


OPENAI_SOURCES = (
    Source(
        "openai-dvae",
        Origin("DALL-E's discrete VAE", "https://github.com/openai/DALL-E", "mit", CITATION),
        anchor="encoder.blocks.input.w",
        to_ours=openai_dvae,
        fixture="openai_dvae",
        range=(0.0, 1.0),
        output_range=(0.0, 1.0),
    ),
    Source(
        "flava-codebook",
        Origin(
            "FLAVA's image codebook", "https://huggingface.co/facebook/flava-image-codebook", "bsd-3-clause",
            FLAVA_CITATION,
        ),
        anchor="blocks.group_1.group.block_1.res_path.path.conv_1.weight",
        to_ours=flava_codebook,
        image_size=112,
        range=(0.0, 1.0),
    ),
)  # fmt: skip
