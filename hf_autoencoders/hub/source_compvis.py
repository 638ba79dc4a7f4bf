# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The published nets of the VQGAN family, one line each: who made them, and how their files are told apart."""

from functools import partial

from .source import Origin, Settings, Source
from .source_vqgan import (
    chameleon_vq,
    janus_vq,
    kl_first_stage,
    llamagen_vq,
    taming_gumbel,
    taming_vqgan,
    video_net,
)
from .torch_files import Weights


TAMING_CITATION = """@inproceedings{esser2021taming,
  title     = {Taming Transformers for High-Resolution Image Synthesis},
  author    = {Esser, Patrick and Rombach, Robin and Ommer, Bj{\\"o}rn},
  booktitle = {Conference on Computer Vision and Pattern Recognition},
  year      = {2021}
}"""
LDM_CITATION = """@inproceedings{rombach2022high,
  title     = {High-Resolution Image Synthesis with Latent Diffusion Models},
  author    = {Rombach, Robin and Blattmann, Andreas and Lorenz, Dominik and Esser, Patrick and Ommer, Bj{\\"o}rn},
  booktitle = {Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}"""
SDXL_CITATION = """@article{podell2023sdxl,
  title   = {{SDXL}: Improving Latent Diffusion Models for High-Resolution Image Synthesis},
  author  = {Podell, Dustin and English, Zion and Lacey, Kyle and Blattmann, Andreas and Dockhorn, Tim and
             M{\\"u}ller, Jonas and Penna, Joe and Rombach, Robin},
  journal = {arXiv:2307.01952},
  year    = {2023}
}"""
SD3_CITATION = """@inproceedings{esser2024scaling,
  title     = {Scaling Rectified Flow Transformers for High-Resolution Image Synthesis},
  author    = {Esser, Patrick and others},
  booktitle = {International Conference on Machine Learning},
  year      = {2024}
}"""
LLAMAGEN_CITATION = """@article{sun2024autoregressive,
  title   = {Autoregressive Model Beats Diffusion: {Llama} for Scalable Image Generation},
  author  = {Sun, Peize and Jiang, Yi and Chen, Shoufa and Zhang, Shilong and Peng, Bingyue and Luo, Ping and
             Yuan, Zehuan},
  journal = {arXiv:2406.06525},
  year    = {2024}
}"""

TAMING = "https://github.com/CompVis/taming-transformers"
LDM = "https://github.com/CompVis/latent-diffusion"
TAMING_ANCHOR = "encoder.down.0.block.0.norm1.weight"
LLAMAGEN_ANCHOR = "encoder.conv_blocks.0.res.0.norm1.weight"
# Where taming's and LDM's yaml, and transformers' config.json, hold the size of the pictures.
YAML_SIZES = ("model.params.ddconfig.resolution", "model.params.first_stage_config.params.ddconfig.resolution")
CONFIG_SIZES = ("resolution", "vq_config.resolution")


def has(*names: str):
    return lambda weights, settings: all(name in weights for name in names)


def is_kl(weights: Weights, settings: Settings) -> bool:
    return "quantize.embedding.weight" not in weights and "decoder.conv_in.weight" in weights


def is_kl_of(neighbour: str):
    """A KL autoencoder in a file that also holds a weight with `neighbour` in its name: which net was trained on it."""

    def fits(weights: Weights, settings: Settings) -> bool:
        return is_kl(weights, settings) and any(neighbour in name for name in settings.get("neighbours", ()))

    return fits


def of_type(settings: Settings, *names: str) -> bool:
    """Whether the config of transformers, if there is one, is of these models: others have such names, too."""
    return settings.get("model_type") in (None, *names)


def is_chameleon(weights: Weights, settings: Settings) -> bool:
    if not of_type(settings, "chameleon", "chameleon_vqgan"):
        return False
    return "quantize.embedding.weight" in weights and "decoder.conv_in.weight" not in weights


def is_janus(weights: Weights, settings: Settings) -> bool:
    """The coarsest level comes first in its decoder: that one is followed by an up-sampling, taming's first is not."""
    named = "quantize.embedding.weight" in weights and "decoder.up.0.upsample.conv.weight" in weights
    return named and of_type(settings, "janus", "janus_vqgan")


def is_taming(weights: Weights, settings: Settings) -> bool:
    return {"quantize.embedding.weight", "decoder.conv_in.weight"} <= weights.keys() and of_type(settings)


def is_ldm_vq(weights: Weights, settings: Settings) -> bool:
    model = settings.get("model")
    target = str(model.get("target", "")) if isinstance(model, dict) else ""
    from_ldm = settings.get("prefix", "").endswith("first_stage_model.") or target.startswith("ldm.")
    return from_ldm and "quantize.embedding.weight" in weights


def family(name: str, origin: Origin, to_ours, fits, **fields) -> Source:
    fields = {"leaves": r"(loss|model_ema)\.|colorize$", "size_settings": YAML_SIZES, **fields}
    return Source(name, origin, fields.pop("anchor", TAMING_ANCHOR), to_ours, fits, **fields)


def kl(name: str, title: str, url: str, licence: str, citation: str, fits, scaling: dict, image_size: int) -> Source:
    origin = Origin(title, url, licence, citation)
    return family(name, origin, partial(kl_first_stage, **scaling), fits, image_size=image_size, fixture="ldm_kl")


# The factors are those of the configs that these models were published with; no weight tells them.
KL_SOURCES = (
    kl(
        "sdxl-vae", "The VAE of Stable Diffusion XL", "https://huggingface.co/stabilityai/sdxl-vae", "mit",
        SDXL_CITATION, is_kl_of("conditioner.embedders."), {"scaling_factor": 0.13025, "force_upcast": True}, 1024,
    ),
    kl(
        "sd3-vae", "The VAE of Stable Diffusion 3", "https://huggingface.co/stabilityai/stable-diffusion-3-medium",
        "other", SD3_CITATION, is_kl_of("joint_blocks."), {"scaling_factor": 1.5305, "shift_factor": 0.0609}, 1024,
    ),
    kl(
        "flux-vae", "The VAE of FLUX.1", "https://huggingface.co/black-forest-labs/FLUX.1-schnell", "apache-2.0", "",
        is_kl_of("double_blocks."), {"scaling_factor": 0.3611, "shift_factor": 0.1159}, 1024,
    ),
    kl(
        "sd-vae", "The VAE of Stable Diffusion 1 and 2", "https://huggingface.co/stabilityai/sd-vae-ft-mse", "mit",
        LDM_CITATION, is_kl_of("cond_stage_model."), {"scaling_factor": 0.18215}, 512,
    ),
    kl("ldm-kl", "A KL autoencoder of latent diffusion", LDM, "mit", LDM_CITATION, is_kl, {}, 256),
)  # fmt: skip

VQGAN_SOURCES = (
    family(
        "taming-gumbel", Origin("VQGAN with Gumbel codes", TAMING, "mit", TAMING_CITATION), taming_gumbel,
        has("quantize.embed.weight", "quantize.proj.weight"), fixture="taming_gumbel",
    ),
    family(
        "chameleon-vq", Origin("Chameleon's image tokenizer", "https://huggingface.co/facebook/chameleon-7b", "other"),
        chameleon_vq, is_chameleon, size_settings=CONFIG_SIZES, image_size=512,
    ),
    family(
        "janus-vq", Origin("Janus' image tokenizer", "https://huggingface.co/deepseek-community/Janus-Pro-1B", "other"),
        janus_vq, is_janus, image_size=384,
    ),
    family(
        "ldm-vq", Origin("A VQ autoencoder of latent diffusion", LDM, "mit", LDM_CITATION), taming_vqgan, is_ldm_vq,
        fixture="taming_vqgan",
    ),
    family(
        "taming-vqgan", Origin("VQGAN", TAMING, "mit", TAMING_CITATION), taming_vqgan,
        is_taming, fixture="taming_vqgan",
    ),
    *KL_SOURCES,
    family(
        "llamagen-vq",
        Origin("LlamaGen's image tokenizer", "https://github.com/FoundationVision/LlamaGen", "mit", LLAMAGEN_CITATION),
        llamagen_vq, has("quantize.embedding.weight"), anchor=LLAMAGEN_ANCHOR, size_settings=("image_size",),
        leaves=r"quantize\.codebook_used$", fixture="llamagen_vq",
    ),
    family(
        "emu3-vq", Origin("Emu3's image tokenizer", "https://huggingface.co/BAAI/Emu3-Chat-hf", "apache-2.0"),
        video_net, has(), anchor="encoder.time_res_stack.0.norm1.weight",
    ),
)  # fmt: skip
