# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Encoders and decoders: shapes, the published nets computed a second way, starting values, compile and export."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, VQModel
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.utils.checkpoint import checkpoint

from hf_autoencoders.models.blocks import BACKBONES, INITIALIZERS, initialize
from hf_autoencoders.models.configuration_ae import AEConfig
from hf_autoencoders.models.configuration_dvae import DVAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig


CONFIGS = {"mlp": AEConfig, "conv": AEConfig, "resnet": AEConfig, "dalle": DVAEConfig}
LATENTS = 6  # channels of the latents in these tests


def small_config(backbone, **fields):
    sizes = {"block_out_channels": (8, 16, 16), "residual_channels": 4, "norm_num_groups": 4, "hidden_sizes": (20, 10)}
    return CONFIGS[backbone](backbone=backbone, **{**sizes, **fields})


def build(config, out_channels=None):
    torch.manual_seed(0)
    encoder, decoder = BACKBONES[config.backbone]
    return encoder(config, LATENTS), decoder(config, LATENTS, out_channels or config.num_channels)


def own_tensors(*modules):
    """Every submodule that holds tensors itself."""
    return [m for module in modules for m in module.modules() if any(True for _ in m.parameters(recurse=False))]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("channels, height, width", [(1, 28, 28), (3, 32, 32), (2, 8, 20)])
def test_shapes_of_latents_and_pictures(backbone, channels, height, width):
    config = small_config(backbone, num_channels=channels, image_size=(height, width))
    encoder, decoder = build(config, out_channels=2 * channels)
    latents = encoder(torch.rand(3, channels, height, width))
    assert latents.shape == (3, LATENTS, *config.grid_size)
    assert decoder(latents).shape == (3, 2 * channels, height, width)


@pytest.mark.parametrize("backbone", ["conv", "resnet", "dalle"])
def test_convolutional_backbones_take_other_sizes_than_configured(backbone):
    encoder, decoder = build(small_config(backbone, image_size=32))
    latents = encoder(torch.rand(1, 3, 12, 44))
    assert latents.shape == (1, LATENTS, 3, 11)
    assert decoder(latents).shape == (1, 3, 12, 44)


@pytest.mark.parametrize("backbone", ["conv", "resnet", "dalle"])
def test_stride_follows_the_number_of_levels(backbone):
    encoder, decoder = build(small_config(backbone, block_out_channels=(8, 8, 16, 16)))
    latents = encoder(torch.rand(1, 3, 16, 16))
    assert latents.shape == (1, LATENTS, 2, 2)
    assert decoder(latents).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_output_layer_bias_shifts_every_pixel(backbone):
    _, decoder = build(small_config(backbone, image_size=8))
    latents = torch.randn(2, LATENTS, 1, 1) if backbone == "mlp" else torch.randn(2, LATENTS, 2, 2)
    before = decoder(latents)
    decoder.output_layer.bias.data += 0.5
    torch.testing.assert_close(decoder(latents), before + 0.5)


# -- resnet: diffusers' nets -------------------------------------------------------------------------------------------


def diffusers_vq_model(attention_levels=(), mid_block_add_attention=True):
    attends = [level in attention_levels for level in range(3)]
    model = VQModel(
        block_out_channels=(8, 16, 16),
        layers_per_block=2,
        latent_channels=LATENTS,
        norm_num_groups=4,
        mid_block_add_attention=mid_block_add_attention,
        down_block_types=["AttnDownEncoderBlock2D" if attend else "DownEncoderBlock2D" for attend in attends],
        up_block_types=["AttnUpDecoderBlock2D" if attend else "UpDecoderBlock2D" for attend in reversed(attends)],
    )
    return randomized(model.eval())


def randomized(module):
    """Every parameter random, norms too: ones and zeros would hide a swapped or missing affine map."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, mean=0.05, std=0.2)
    return module


@torch.no_grad()
def assert_same_function(ours, theirs, *shape):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    expected = theirs(x)
    assert expected.std() > 0.1  # a dead net agrees with everything
    torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("attention_levels", [(), (2,), (0, 2)])
@pytest.mark.parametrize("mid_block_add_attention", [True, False])
def test_resnet_is_the_net_of_vq_model(attention_levels, mid_block_add_attention):
    theirs = diffusers_vq_model(attention_levels, mid_block_add_attention)
    encoder, decoder = build(
        small_config(
            "resnet", attention_levels=attention_levels, mid_block_add_attention=mid_block_add_attention, image_size=16
        )
    )
    encoder.load_state_dict(theirs.encoder.state_dict(), strict=True)
    decoder.load_state_dict(theirs.decoder.state_dict(), strict=True)
    assert_same_function(encoder, theirs.encoder, 2, 3, 16, 24)
    assert_same_function(decoder, theirs.decoder, 2, LATENTS, 4, 6)


def test_resnet_is_the_net_of_autoencoder_kl():
    theirs = AutoencoderKL(
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        latent_channels=3,
        norm_num_groups=4,
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
    )
    randomized(theirs.eval())
    config = small_config("resnet", layers_per_block=1)
    encoder, decoder = BACKBONES["resnet"]
    encoder, decoder = encoder(config, 6), decoder(config, 3, 3)  # mean and log-variance: twice the channels
    encoder.load_state_dict(theirs.encoder.state_dict(), strict=True)
    decoder.load_state_dict(theirs.decoder.state_dict(), strict=True)
    assert_same_function(encoder, theirs.encoder, 2, 3, 16, 16)
    assert_same_function(decoder, theirs.decoder, 2, 3, 4, 4)


def test_diffusers_loads_what_resnet_saves():
    encoder, decoder = map(randomized, build(small_config("resnet", attention_levels=(2,))))
    theirs = diffusers_vq_model(attention_levels=(2,))
    theirs.encoder.load_state_dict(encoder.state_dict(), strict=True)
    theirs.decoder.load_state_dict(decoder.state_dict(), strict=True)
    assert_same_function(encoder, theirs.encoder, 1, 3, 16, 16)
    assert_same_function(decoder, theirs.decoder, 1, LATENTS, 4, 4)


# -- dalle, conv, mlp: the papers' nets --------------------------------------------------------------------------------


def test_dalle_at_openai_size_has_openai_number_of_parameters():
    config = DVAEConfig(image_size=256, block_out_channels=(256, 512, 1024, 2048), codebook_size=8192, codebook_dim=128)
    with torch.device("meta"):
        encoder, decoder = BACKBONES["dalle"]
        encoder, decoder = encoder(config, 8192), decoder(config, 128, 6)
    input_convolution = 8192 * 128 + 128  # OpenAI's decoder counts it; here it is the codebook
    assert sum(p.numel() for p in encoder.parameters()) == 53_786_240
    assert sum(p.numel() for p in decoder.parameters()) == 43_829_766 - input_convolution
    assert len(encoder.state_dict()) == 74 and len(decoder.state_dict()) == 76 - 2


def test_dalle_residuals_are_damped_by_the_square_of_the_depth():
    encoder, _ = build(small_config("dalle", layers_per_block=2))  # 3 groups x 2 blocks = 6 layers
    block = encoder.blocks.group_1.block_2  # same width in and out: no convolution on the skip
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(block(x), x + block.res_path(x) / 36)


def test_dalle_encoder_sees_pixels_squeezed_as_openai_squeezes_them():
    encoder, _ = build(small_config("dalle"))
    pixels = torch.rand(1, 3, 8, 8)  # map_pixels of dall_e/utils.py: (1 - 2 * 0.1) * x + 0.1
    torch.testing.assert_close(encoder(2 * pixels - 1), encoder.blocks(0.8 * pixels + 0.1))


def test_conv_is_the_net_of_the_vq_vae_paper():
    """Written out once more as sonnet's nets/vqvae.py has it: relu before and inside each residual layer."""
    config = small_config("conv", block_out_channels=(8, 16, 16), residual_channels=4, layers_per_block=2)
    encoder, decoder = build(config)
    weights = {**encoder.state_dict(prefix="enc."), **decoder.state_dict(prefix="dec.")}

    def conv(name, x, **options):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], **options)

    def residual_stack(name, h):
        for layer in ("layers.0", "layers.1"):
            residual = conv(f"{name}.{layer}.conv1", h.relu(), padding=1)
            h = h + conv(f"{name}.{layer}.conv2", residual.relu())
        return h.relu()

    def conv_transpose(name, x):
        return F.conv_transpose2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=2, padding=1)

    x = torch.randn(2, 3, 16, 16)
    h = conv("enc.downsamplers.0", x, stride=2, padding=1).relu()
    h = conv("enc.downsamplers.1", h, stride=2, padding=1).relu()
    h = conv("enc.conv_in", h, padding=1).relu()
    z = conv("enc.conv_out", residual_stack("enc.residual_stack", h))
    torch.testing.assert_close(encoder(x), z)
    h = residual_stack("dec.residual_stack", conv("dec.conv_in", z, padding=1))
    h = conv_transpose("dec.upsamplers.0", h).relu()
    torch.testing.assert_close(decoder(z), conv_transpose("dec.upsamplers.1", h))


def test_conv_has_the_widths_of_the_paper():
    """Table of shapes worked out by hand: 64 and 128 wide strided layers, 32 inside the residual layers."""
    config = VQVAEConfig(block_out_channels=(64, 128, 128), residual_channels=32, layers_per_block=2)
    encoder, decoder = BACKBONES["conv"]
    shapes = [tuple(p.shape) for p in encoder(config, 64).parameters() if p.dim() == 4]
    residual = [(32, 128, 3, 3), (128, 32, 1, 1)]
    assert shapes == [(64, 3, 4, 4), (128, 64, 4, 4), (128, 128, 3, 3), *residual, *residual, (64, 128, 1, 1)]
    shapes = [tuple(p.shape) for p in decoder(config, 64, 3).parameters() if p.dim() == 4]
    assert shapes == [(128, 64, 3, 3), *residual, *residual, (128, 64, 4, 4), (64, 3, 4, 4)]


def test_mlp_is_a_chain_of_matrices():
    encoder, decoder = build(small_config("mlp", image_size=(4, 6), hidden_act="tanh"))
    x = torch.randn(5, 3, 4, 6)
    first, second, last = (m for m in encoder.modules() if isinstance(m, nn.Linear))
    h = torch.tanh((x.reshape(5, 72) + 1) / 2 @ first.weight.T + first.bias)
    h = torch.tanh(h @ second.weight.T + second.bias)
    z = h @ last.weight.T + last.bias
    torch.testing.assert_close(encoder(x), z.reshape(5, LATENTS, 1, 1))
    assert [m.out_features for m in decoder.modules() if isinstance(m, nn.Linear)] == [10, 20, 72]


def test_mlp_without_hidden_layers_is_linear():
    encoder, decoder = build(small_config("mlp", image_size=4, hidden_sizes=()))
    a, b = torch.randn(2, 1, 3, 4, 4)
    middle = decoder(encoder((a + b) / 2))
    torch.testing.assert_close(middle, (decoder(encoder(a)) + decoder(encoder(b))) / 2)


# -- starting values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_tensor_of_a_backbone_gets_a_starting_value(backbone):
    modules = own_tensors(*build(small_config(backbone)))
    for module in modules:
        for parameter in module.parameters(recurse=False):
            nn.init.constant_(parameter, math.nan)
        assert initialize(module)
        assert all(parameter.isfinite().all() for parameter in module.parameters(recurse=False))


def test_dalle_starts_normal_with_fan_in_variance_and_zero_bias():
    config = small_config("dalle", block_out_channels=(64, 64))
    convolution = BACKBONES["dalle"][0](config, LATENTS).blocks.input  # 64 x 3 x 7 x 7
    initialize(convolution)
    assert convolution.bias.abs().max() == 0
    assert convolution.weight.std().item() == pytest.approx((3 * 7 * 7) ** -0.5, rel=0.05)
    assert convolution.weight.abs().max() > 3 * (3 * 7 * 7) ** -0.5  # normal, not uniform: it has tails


def test_mlp_starts_glorot_uniform_with_zero_bias():
    linear = build(small_config("mlp", image_size=8))[0].layers[0].linear  # 192 -> 20
    initialize(linear)
    bound = math.sqrt(6 / (192 + 20))
    assert linear.bias.abs().max() == 0
    assert 0.98 * bound < linear.weight.abs().max() <= bound
    assert linear.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.parametrize("backbone", ["conv", "resnet"])
def test_convolutions_start_as_torch_starts_them(backbone):
    """The same random numbers give the same values: reset_parameters is torch's own, initialize is ours."""
    for module in own_tensors(*build(small_config(backbone))):
        torch.manual_seed(3)
        module.reset_parameters()
        expected = [parameter.clone() for parameter in module.parameters(recurse=False)]
        torch.manual_seed(3)
        initialize(module)
        for ours, theirs in zip(module.parameters(recurse=False), expected, strict=True):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_loaded_tensors_keep_their_values(backbone):
    for module in own_tensors(*build(small_config(backbone))):
        before = [parameter.clone() for parameter in module.parameters(recurse=False)]
        for parameter in module.parameters(recurse=False):
            parameter._is_hf_initialized = True
        initialize(module)
        assert all(torch.equal(a, b) for a, b in zip(module.parameters(recurse=False), before, strict=True))


def test_modules_of_others_are_left_alone():
    class Projection(nn.Linear):
        pass

    for module in (nn.Embedding(3, 2), Projection(2, 2), nn.LayerNorm(2)):
        assert not initialize(module)
    assert all(issubclass(kind, nn.Module) for kind in INITIALIZERS)


# -- gradient checkpointing, compile, export ---------------------------------------------------------------------------


class RoundTrip(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.encoder, self.decoder = build(config)

    def forward(self, pixel_values):
        return self.decoder(self.encoder(pixel_values))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradient_checkpointing_gives_the_same_gradients(backbone):
    model = RoundTrip(small_config(backbone, image_size=8, attention_levels=(2,))).train()
    x = torch.randn(2, 3, 8, 8)

    def gradients():
        model.zero_grad()
        model(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    expected, recomputed = gradients(), []

    def counting_checkpoint(function, *inputs):
        recomputed.append(function)
        return checkpoint(function, *inputs, use_reentrant=False)

    blocks = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    for block in blocks:
        block.gradient_checkpointing, block._gradient_checkpointing_func = True, counting_checkpoint
    torch.testing.assert_close(gradients(), expected)
    assert len(recomputed) == len(blocks) > 0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_compile_without_a_graph_break(backbone):
    model = RoundTrip(small_config(backbone, image_size=8, attention_levels=(2,), layers_per_block=1)).eval()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_export_with_dynamic_batch_and_size(backbone):
    model = RoundTrip(small_config(backbone, image_size=8, attention_levels=(2,), layers_per_block=1)).eval()
    dynamic = {0: torch.export.Dim("batch")}
    shape = (5, 3, 8, 8)
    if backbone != "mlp":  # a matrix has one size of picture
        dimension = partial(torch.export.Dim, min=1, max=64)
        dynamic |= {2: 4 * dimension("height"), 3: 4 * dimension("width")}
        shape = (5, 3, 20, 12)
    exported = torch.export.export(model, (torch.randn(2, 3, 8, 8),), dynamic_shapes={"pixel_values": dynamic})
    x = torch.randn(shape)
    torch.testing.assert_close(exported.module()(x), model(x))


# -- what fits not is refused by name ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backbone, fields, complaint",
    [
        ("dalle", {"block_out_channels": (6, 8)}, "multiples of 4"),
        ("conv", {"block_out_channels": (8,)}, "at least two entries"),
        ("dalle", {"layers_per_block": 0}, "`layers_per_block` must be >= 1"),
        ("resnet", {"layers_per_block": 0}, "`layers_per_block` must be >= 1"),
        ("resnet", {"attention_levels": (3,)}, "`attention_levels` must lie in 0..2"),
        ("resnet", {"norm_num_groups": 3, "block_out_channels": (8, 16)}, "`norm_num_groups`"),
    ],
)
def test_impossible_widths_are_refused(backbone, fields, complaint):
    with pytest.raises((ValueError, StrictDataclassError), match=complaint):  # by the net, or by the config already
        build(small_config(backbone, **fields))
