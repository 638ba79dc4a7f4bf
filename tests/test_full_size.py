# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Published nets at their full size, on the meta device: every name and every shape, without a single number."""

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import FlavaImageCodebook
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE, ChameleonVQVAEConfig
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.janus.modeling_janus import JanusVQVAE, JanusVQVAEConfig

from hf_autoencoders.hub.converters import build, conversion_of
from hf_autoencoders.hub.source_vqgan import to_llamagen, to_taming


def on_meta(shapes):
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def converted(shapes, **settings):
    """Recognised and built: no name is missing, left over or of another shape."""
    source, conversion = conversion_of(None, on_meta(shapes), settings=settings)
    assert not [
        name for name in conversion.left_behind if not name.startswith(("post_quant_conv", "quantize.codebook"))
    ]
    model = build(conversion)
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    return source.name, model


def numbers(model):
    return sum(parameter.numel() for parameter in model.parameters())


# -- OpenAI's dVAE -----------------------------------------------------------------------------------------------------


def dalle_block(name, width_in, width_out, kernels):
    hidden = width_out // 4
    widths = [width_in, hidden, hidden, hidden, width_out]
    shapes = {}
    for index, kernel in enumerate(kernels):
        shapes[f"{name}.res_path.conv_{index + 1}.w"] = (widths[index + 1], widths[index], kernel, kernel)
        shapes[f"{name}.res_path.conv_{index + 1}.b"] = (widths[index + 1],)
    if width_in != width_out:
        shapes |= {f"{name}.id_path.w": (width_out, width_in, 1, 1), f"{name}.id_path.b": (width_out,)}
    return shapes


def dalle_half(part, first, widths, kernels, kernel_in, outputs):
    """encoder.pkl, or decoder.pkl, of DALL-E: 256 wide, 8192 codes, two blocks a group."""
    width = first[0]
    shapes = {f"{part}.blocks.input.w": (*first, kernel_in, kernel_in), f"{part}.blocks.input.b": (width,)}
    for group, next_width in enumerate(widths, start=1):
        for block in (1, 2):
            shapes |= dalle_block(f"{part}.blocks.group_{group}.block_{block}", width, next_width, kernels)
            width = next_width
    return shapes | {f"{part}.blocks.output.conv.w": (outputs, width, 1, 1), f"{part}.blocks.output.conv.b": (outputs,)}


def test_openai_s_dvae():
    encoder = dalle_half("encoder", (256, 3), [256, 512, 1024, 2048], (3, 3, 3, 1), 7, 8192)
    decoder = dalle_half("decoder", (128, 8192), [2048, 1024, 512, 256], (1, 3, 3, 3), 1, 6)
    assert (len(encoder), len(decoder)) == (74, 76)
    kind, model = converted({**encoder, **decoder})
    assert kind == "openai-dvae" and model.grid_size == (32, 32) and model.codebook_size == 8192
    assert numbers(model) == 53_786_240 + 43_829_766 - 128  # the input's bias is part of each code vector


def test_flava_s_codebook():
    with torch.device("meta"):
        net = FlavaImageCodebook(FlavaImageCodebookConfig())
    kind, model = converted({name: tensor.shape for name, tensor in net.state_dict().items()})
    assert kind == "flava-codebook" and numbers(model) == 53_786_240 and model.grid_size == (14, 14)


# -- the VQGAN family --------------------------------------------------------------------------------------------------


def convolution(name, inputs, outputs, kernel=3):
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def resnet_block(name, inputs, outputs):
    shapes = norm(f"{name}.norm1", inputs) | convolution(f"{name}.conv1", inputs, outputs)
    shapes |= norm(f"{name}.norm2", outputs) | convolution(f"{name}.conv2", outputs, outputs)
    return shapes | (convolution(f"{name}.nin_shortcut", inputs, outputs, 1) if inputs != outputs else {})


def attention(name, width):
    shapes = norm(f"{name}.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        shapes |= convolution(f"{name}.{part}", width, width, 1)
    return shapes


def taming_half(part, widths, blocks, attends, channels_in, channels_out):
    """Encoder or decoder under taming's names; `attends`: levels with attention, 0 = finest."""
    decodes = part == "decoder"
    levels = list(enumerate(widths))[:: -1 if decodes else 1]
    width = widths[-1] if decodes else widths[0]
    shapes = convolution(f"{part}.conv_in", channels_in, width)
    for level, next_width in levels:
        name = f"{part}.{'up' if decodes else 'down'}.{level}"
        for block in range(blocks + decodes):
            shapes |= resnet_block(f"{name}.block.{block}", width, next_width)
            width = next_width
            shapes |= attention(f"{name}.attn.{block}", width) if level in attends else {}
        if level != levels[-1][0]:
            shapes |= convolution(f"{name}.{'upsample' if decodes else 'downsample'}.conv", width, width)
    middle = widths[-1]
    for block in ("block_1", "block_2"):
        shapes |= resnet_block(f"{part}.mid.{block}", middle, middle)
    shapes |= attention(f"{part}.mid.attn_1", middle) | norm(f"{part}.norm_out", width)
    return shapes | convolution(f"{part}.conv_out", width, channels_out)


def taming_net(widths, attends, z, code, double=1):
    shapes = taming_half("encoder", widths, 2, attends, 3, z * double)
    shapes |= taming_half("decoder", widths, 2, attends, z, 3)
    shapes |= convolution("quant_conv", z * double, code * double, 1)
    return shapes | convolution("post_quant_conv", code, z, 1)


F16 = [128, 128, 256, 256, 512]


@pytest.mark.parametrize("codes", [1024, 16384])
def test_vqgan_f16(codes):
    shapes = {**taming_net(F16, [4], 256, 256), "quantize.embedding.weight": (codes, 256)}
    assert len(shapes) == 343
    kind, model = converted(shapes)
    assert kind == "taming-vqgan" and model.grid_size == (16, 16) and model.config.attention_levels == [4]
    assert {name: tuple(w.shape) for name, w in to_taming(model.state_dict()).items()} == shapes


def test_llamagen_vq_16():
    shapes = {**taming_net(F16, [4], 256, 8), "quantize.embedding.weight": (16384, 8)}
    kind, model = converted(shapes)
    theirs = {name: tensor.shape for name, tensor in to_llamagen(model.state_dict()).items()}
    assert (
        "encoder.conv_blocks.4.attn.1.proj_out.weight" in theirs and "decoder.conv_blocks.0.res.2.conv1.bias" in theirs
    )
    kind, again = converted({**theirs, "quantize.codebook_used": (65536,)})
    assert kind == "llamagen-vq" and numbers(again) == 71_883_403 and again.grid_size == (16, 16)


KL = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
KL_NETS = {
    "kl-f8": {"latent_channels": 4, "sample_size": 256},
    "sdxl": {"latent_channels": 4, "sample_size": 1024, "scaling_factor": 0.13025},
    "flux": {
        "latent_channels": 16, "sample_size": 1024, "scaling_factor": 0.3611, "shift_factor": 0.1159,
        "use_quant_conv": False, "use_post_quant_conv": False,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", KL_NETS)
def test_autoencoders_of_stable_diffusion_and_flux(name):
    config = {**KL, **KL_NETS[name]}
    with torch.device("meta"):
        net = AutoencoderKL(**config)
    shapes = {key: tuple(tensor.shape) for key, tensor in net.state_dict().items()}
    kind, model = converted(shapes, **net.config)
    ours = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert kind == "diffusers" and {key: ours[key] for key in shapes} == shapes
    assert {key.split(".")[0] for key in ours.keys() - shapes.keys()} <= {"quant_conv", "post_quant_conv"}
    assert model.config.scaling_factor == net.config.scaling_factor and model.config.height == config["sample_size"]
    under_ldm_s_names = taming_net([128, 256, 512, 512], [], config["latent_channels"], config["latent_channels"], 2)
    published = {key: shape for key, shape in under_ldm_s_names.items() if name != "flux" or "quant_conv" not in key}
    kind, same = converted({f"first_stage_model.{key}": shape for key, shape in published.items()})
    assert kind == "ldm-kl" and {key: tuple(w.shape) for key, w in same.state_dict().items()} == ours


@pytest.mark.parametrize(
    "kind, net_class, config_class, tokens",
    [
        ("chameleon-vq", ChameleonVQVAE, ChameleonVQVAEConfig, 32 * 32),
        ("janus-vq", JanusVQVAE, JanusVQVAEConfig, 24 * 24),
    ],
)
def test_tokenizers_of_transformers(kind, net_class, config_class, tokens):
    config = config_class()
    with torch.device("meta"):
        net = net_class(config)
    found, model = converted({name: tensor.shape for name, tensor in net.state_dict().items()}, **config.to_dict())
    assert found == kind and model.num_image_tokens == tokens and model.codebook_size == config.num_embeddings
