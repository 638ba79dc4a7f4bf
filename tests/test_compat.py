# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Each wrapper answers the calls that its project makes: names, shapes, ranges as in the project's own code."""

import importlib
import sys

import pytest
import torch
from torch import nn
from transformers import (
    BeitConfig,
    BeitForMaskedImageModeling,
    ChameleonConfig,
    ChameleonModel,
    ChameleonVQVAEConfig,
    JanusConfig,
    JanusForConditionalGeneration,
)

from hf_autoencoders import DVAEConfig, DVAEModel, VAEConfig, VAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.hub.compat import (
    as_chameleon,
    as_dalle,
    as_janus,
    as_mar,
    as_maskgit,
    as_muse,
    as_taming,
    beit_labels,
    chameleon_vocabulary,
)


SMALL = {"image_size": 16, "block_out_channels": [16, 16, 16], "layers_per_block": 1, "norm_num_groups": 8}
CODES = {**SMALL, "codebook_size": 32, "codebook_dim": 6}
MODELS = {
    "vqvae": lambda: VQVAEModel(VQVAEConfig(**CODES, residual_channels=8, quantizer="vq")),
    "l2": lambda: VQVAEModel(VQVAEConfig(**CODES, backbone="resnet", quantizer="l2")),
    "dvae": lambda: DVAEModel(DVAEConfig(**CODES)),
}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


@pytest.fixture
def pixels():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_taming_as_its_transformer_calls_it(model, pixels):
    wrapped = as_taming(model)
    quant, loss, info = wrapped.encode(pixels)  # Net2NetTransformer.encode_to_z
    indices = info[2].view(quant.shape[0], -1)
    assert torch.equal(indices, model.get_image_tokens(pixels).flatten(1)) and loss == 0
    bhwc = (quant.shape[0], quant.shape[2], quant.shape[3], quant.shape[1])
    entry = wrapped.quantize.get_codebook_entry(indices.reshape(-1), shape=bhwc)  # decode_to_img
    assert torch.equal(entry, quant)
    torch.testing.assert_close(wrapped.decode(entry), model.reconstruct(pixels))
    torch.testing.assert_close(wrapped(pixels)[0], model.reconstruct(pixels))


@torch.no_grad()
def test_llamagen_as_its_scripts_call_it(model, pixels):
    wrapped = as_taming(model)
    _, _, [_, _, indices] = wrapped.encode(pixels)  # extract_codes_c2i.py
    codes = indices.reshape(pixels.shape[0], -1)
    samples = wrapped.decode_code(codes, [3, 6, 4, 4])  # sample_c2i.py: (B, C, h, w)
    torch.testing.assert_close(samples, model.reconstruct(pixels))
    torch.testing.assert_close(wrapped.decode_code(codes), samples)
    assert wrapped.quantize.get_codebook_entry(codes).shape == (48, 6)


@torch.no_grad()
def test_a_wide_grid_is_told_from_channels_by_the_flag():
    vqvae = VQVAEModel(VQVAEConfig(**{**CODES, "image_size": (16, 24)}, quantizer="vq"))
    codes = torch.arange(24).repeat(2, 1)
    entry = as_taming(vqvae).quantize.get_codebook_entry
    expected = vqvae.quantize.get_codebook_entry(codes.view(2, 4, 6))
    assert torch.equal(entry(codes, (2, 6, 4, 6), channel_first=True), expected)
    assert torch.equal(entry(codes.flatten(), shape=(2, 4, 6, 6)), expected)


@torch.no_grad()
def test_open_muse_as_its_training_calls_it(model, pixels):
    wrapped, unit = as_muse(model), (pixels + 1) / 2
    codes = wrapped.encode(unit)[1]
    assert torch.equal(codes, model.get_image_tokens(pixels).flatten(1)) and torch.equal(codes, wrapped.get_code(unit))
    soft, hard = wrapped.get_soft_code(unit, temp=0.5, stochastic=False)
    assert soft.shape == (3, 16, 32) and torch.equal(hard, codes)
    torch.testing.assert_close(soft.sum(-1), torch.ones(3, 16))
    assert wrapped.get_soft_code(unit, stochastic=True)[1].shape == (3, 16)
    pictures = wrapped.decode_code(codes)
    torch.testing.assert_close(pictures, ((model.reconstruct(pixels) + 1) / 2).clamp(0, 1))
    torch.testing.assert_close(wrapped(unit)[0], pictures)
    assert wrapped.num_embeddings == 32 and len(wrapped.encode(unit, return_loss=True)) == 3


@torch.no_grad()
def test_maskgit_and_rar_as_they_call_it(model, pixels):
    wrapped, unit = as_maskgit(model), (pixels + 1) / 2
    codes = wrapped.encode(unit)
    assert codes.dtype == torch.int64 and codes.shape == (3, 16)
    assert torch.equal(wrapped.encode_to_indices(unit), codes)
    pictures = wrapped.decode_tokens(codes)
    assert torch.equal(wrapped.decode(codes), pictures)
    assert torch.equal(wrapped.decode_from_indices({"indices": codes}), pictures)
    assert pictures.min() >= 0 and pictures.max() <= 1


@torch.no_grad()
def test_mar_as_its_training_calls_it(pixels):
    torch.manual_seed(0)
    vae = VAEModel(VAEConfig(**SMALL, backbone="resnet")).eval()
    vae.measure_latents([pixels], generator=torch.Generator().manual_seed(0))
    wrapped = as_mar(vae)
    x = wrapped.encode(pixels).sample().mul_(0.2325)
    assert x.std() == pytest.approx(1, abs=0.1)  # what the constant is there for
    mode = wrapped.encode(pixels).mode().mul_(0.2325)
    torch.testing.assert_close(wrapped.decode(mode / 0.2325), vae.reconstruct(pixels), atol=1e-5, rtol=1e-5)
    mean, logvar = wrapped.encode(pixels).parameters.chunk(2, 1)  # main_cache.py keeps these
    posterior = vae.encode(pixels).latent_dist
    torch.testing.assert_close(mean * 0.2325, posterior.mean * vae.config.scaling_factor)
    torch.testing.assert_close((0.5 * logvar).exp() * 0.2325, posterior.std * vae.config.scaling_factor)


class TheirVAE(nn.Module):
    """Like DALLE-pytorch's `OpenAIDiscreteVAE`: the constructor would download weights."""

    def __init__(self):
        raise AssertionError("downloads")


@torch.no_grad()
def test_dalle_pytorch_as_its_constructor_and_sampling_call_it(model, pixels):
    wrapped, unit = as_dalle(model, TheirVAE), (pixels + 1) / 2
    assert isinstance(wrapped, TheirVAE)  # DALLE asserts it
    fmap = wrapped.image_size // 2**wrapped.num_layers
    codes = wrapped.get_codebook_indices(unit)
    assert codes.shape == (3, fmap**2) and wrapped.num_tokens == 32 and wrapped.channels == 3
    torch.testing.assert_close(wrapped.decode(codes), ((model.reconstruct(pixels) + 1) / 2).clamp(0, 1))
    for parameter in wrapped.parameters():  # set_requires_grad(self.vae, False)
        parameter.requires_grad = False
    assert not any(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_chameleon_takes_its_image_tokens_from_our_model(model, pixels):
    vocabulary = chameleon_vocabulary(codebook_size=32, first_id=40, image_id=39)
    config = ChameleonConfig(
        vocab_size=80, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, vocabulary_map=vocabulary,
        vq_config=ChameleonVQVAEConfig(base_channels=32, num_embeddings=32, embed_dim=4),
    )  # fmt: skip
    chameleon = ChameleonModel(config).eval()
    chameleon.vqmodel = as_chameleon(model)
    tokens = chameleon.get_image_tokens(pixels)
    assert torch.equal(tokens, 40 + model.get_image_tokens(pixels).flatten(1))
    input_ids = torch.full((3, 18), 1)
    input_ids[:, 1:17] = 39  # places of the image
    with_pixels = chameleon(input_ids=input_ids, pixel_values=pixels).last_hidden_state
    input_ids[:, 1:17] = tokens
    torch.testing.assert_close(with_pixels, chameleon(input_ids=input_ids).last_hidden_state)


@torch.no_grad()
def test_janus_generates_pictures_through_our_model(model):
    config = JanusConfig(
        text_config={
            "model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 20, "pad_token_id": 0,
        },
        vision_config={
            "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16, "patch_size": 4,
            "projection_dim": 16, "num_image_tokens": 16, "depth": 1,
        },
        vq_config={
            "base_channels": 32, "num_embeddings": 32, "embed_dim": 8, "latent_channels": 8, "projection_dim": 16,
            "image_token_embed_dim": 16, "num_patches": 4, "channel_multiplier": [1, 1, 1], "num_res_blocks": 1,
        },
    )  # fmt: skip
    janus = JanusForConditionalGeneration(config).eval()
    janus.model.vqmodel = as_janus(model)
    janus.generation_config.generation_kwargs = {"boi_token_id": 2}
    janus.generation_config.bos_token_id, janus.generation_config.pad_token_id = 1, 0
    prompt = torch.tensor([[1, 5, 2]] * 2)
    tokens = janus.generate(prompt, torch.ones_like(prompt), generation_mode="image", do_sample=True, guidance_scale=2)
    assert tokens.shape == (2, 16) and tokens.max() < 32
    pictures = janus.decode_image_tokens(tokens)  # (B, H, W, C)
    torch.testing.assert_close(pictures, model.decode_image_tokens(tokens).permute(0, 2, 3, 1))


def test_beit_learns_the_codes_of_hidden_patches():
    """Its loss is the cross-entropy at the hidden places, and one step on it lowers it."""
    torch.manual_seed(0)
    dvae = MODELS["dvae"]().eval()
    pixels = torch.rand(4, 3, 16, 16) * 2 - 1
    beit = BeitForMaskedImageModeling(
        BeitConfig(
            vocab_size=32,
            image_size=16,
            patch_size=4,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            use_mask_token=True,
        )  # fmt: skip
    ).eval()
    hidden = torch.rand(4, 16) < 0.4
    labels = beit_labels(dvae, pixels, hidden)
    output = beit(pixels, bool_masked_pos=hidden, labels=labels)
    codes, scores = dvae.get_image_tokens(pixels).flatten(1), output.logits.log_softmax(-1)
    by_hand = [-scores[b, n, codes[b, n]] for b in range(4) for n in range(16) if hidden[b, n]]
    torch.testing.assert_close(output.loss, torch.stack(by_hand).mean())
    output.loss.backward()
    torch.optim.SGD(beit.parameters(), lr=0.1).step()
    assert beit(pixels, bool_masked_pos=hidden, labels=labels).loss < output.loss
    with pytest.raises(ValueError, match=r"must be \(4, 16\), a place for each of the 4x4 codes .* got \(4, 64\)"):
        beit_labels(dvae, pixels, torch.ones(4, 64, dtype=torch.bool))


@pytest.mark.parametrize("wrap", [as_taming, as_muse, as_maskgit, as_dalle, as_janus, as_chameleon])
def test_models_that_do_not_fit_are_named(wrap):
    residual = VQVAEModel(VQVAEConfig(**SMALL, codebook_size=8, codebook_dim=4, quantizer="residual"))
    with pytest.raises(ValueError, match="one code at each position, but the model has 2 codes a position"):
        wrap(residual)
    with pytest.raises(ValueError, match=r"has no codebook \(it is a vae\)"):
        wrap(VAEModel(VAEConfig(**SMALL)))


def test_codes_of_no_grid_and_a_model_without_a_posterior_are_named():
    torch.manual_seed(0)
    vqvae = MODELS["vqvae"]().eval()
    for codes in (torch.zeros(2, 15, dtype=torch.int64), torch.zeros(33, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"of square pictures or of this model's grid \(4, 4\), got shape \(\d+"):
            as_maskgit(vqvae).decode(codes)
    assert as_maskgit(vqvae).decode(torch.zeros(2, 9, dtype=torch.int64)).shape == (2, 3, 12, 12)
    with pytest.raises(ValueError, match="MAR learns the posterior of a vae, this model is a vqvae"):
        as_mar(vqvae)


def test_vectors_of_a_square_codebook_are_no_logits():
    dvae = DVAEModel(DVAEConfig(**SMALL, codebook_size=8, codebook_dim=8))
    with pytest.raises(ValueError, match="reads float latents as logits"):
        as_taming(dvae).decode(torch.zeros(1, 8, 4, 4))


def test_the_old_place_of_the_wrappers_works_and_names_the_new_one(monkeypatch):
    monkeypatch.delitem(sys.modules, "hf_autoencoders.compat", raising=False)
    with pytest.warns(DeprecationWarning, match="hf_autoencoders.compat is now hf_autoencoders.hub.compat"):
        old = importlib.import_module("hf_autoencoders.compat")
    assert old.as_taming is as_taming
