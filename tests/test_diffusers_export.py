# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Exports to diffusers: the same codes, pictures within 1e-5, saved pipelines that open without our package."""

import json
import os
import subprocess
import sys

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, LDMPipeline, UNet2DModel, VQModel
from safetensors.torch import save_file

from hf_autoencoders import AEConfig, AEModel, DVAEConfig, DVAEModel, VAEConfig, VAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.hub.diffusers_export import from_diffusers, to_diffusers
from hf_autoencoders.hub.parents import load_for_training


NET = {
    "image_size": 16,
    "backbone": "resnet",
    "block_out_channels": [16, 24, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
CODES = {"codebook_size": 32, "codebook_dim": 6}


@pytest.fixture
def pixels():
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def spread_codes(model, pixels):
    """Codes among the latents, so that many are used."""
    with torch.no_grad():
        z = model.encode(pixels).latents.permute(0, 2, 3, 1).flatten(0, 2)
        weight = model.quantize.embedding.weight
        weight.copy_(
            z[torch.randperm(len(z), generator=torch.Generator().manual_seed(0))[: len(weight)], : weight.shape[1]]
        )
    return model.eval()


def vqvae(pixels, **fields):
    torch.manual_seed(0)
    model = VQVAEModel(VQVAEConfig(**{**NET, **CODES, "quantizer": "vq", **fields}))
    return spread_codes(model, pixels)


def dvae(**fields):
    torch.manual_seed(0)
    return DVAEModel(DVAEConfig(**{**NET, **CODES, "reconstruction_loss": "l1", **fields})).eval()


def vae(**fields):
    torch.manual_seed(0)
    # diffusers' classes hold no loss, so a learned variance would not come back.
    return VAEModel(VAEConfig(**{**NET, "learned_variance": False, **fields})).eval()


def diffusers_codes(exported, pixels):
    latents = exported.encode(pixels).latents
    return exported.quantize(latents)[2][2].view(len(pixels), *latents.shape[2:])


def assert_close(a, b):
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(
    "fields", [{}, {"mid_block_add_attention": False}, {"reconstruction_loss": "l1", "image_size": (16, 24)}]
)
def test_a_vae_is_an_autoencoder_kl(pixels, fields):
    model = vae(**fields, scaling_factor=0.7)
    exported = to_diffusers(model)
    ours, theirs = model.encode(pixels).latent_dist, exported.encode(pixels).latent_dist
    assert_close(ours.mean, theirs.mean)
    assert_close(ours.logvar, theirs.logvar)
    assert_close(model.decode(ours.mean).sample, exported.decode(ours.mean).sample)
    assert exported.config.scaling_factor == 0.7 and exported.config.force_upcast is False


@torch.no_grad()
@pytest.mark.parametrize("quantizer", ["vq", "l2", "ema", "simvq"])
def test_a_vqvae_is_a_vqmodel(pixels, quantizer):
    fields = {"codebook_init": "uniform", "revive_dead_codes": False} if quantizer == "ema" else {}
    model = vqvae(pixels, quantizer=quantizer, latent_channels=8, **fields)
    exported = to_diffusers(model)
    codes = model.get_image_tokens(pixels)
    assert len(codes.unique()) > 4
    assert torch.equal(diffusers_codes(exported, pixels), codes)
    assert_close(exported(pixels).sample, model.reconstruct(pixels))
    latents = model.encode(pixels).latents
    assert_close(exported.decode(latents).sample, model.decode(latents).sample)


@torch.no_grad()
def test_a_dvae_is_a_vqmodel_of_one_hot_codes(pixels):
    model = dvae(latent_channels=8)
    exported = to_diffusers(model)
    codes = model.get_image_tokens(pixels)
    assert len(codes.unique()) > 4
    assert torch.equal(diffusers_codes(exported, pixels), codes)
    assert_close(exported(pixels).sample, model.reconstruct(pixels))
    assert exported.config.vq_embed_dim == 32


@torch.no_grad()
@pytest.mark.parametrize("make", [vqvae, lambda pixels: dvae()])
def test_codes_are_looked_up_where_a_pipeline_asks_for_it(pixels, make):
    """As AmusedPipeline decodes: flat codes with the shape of their vectors."""
    model = make(pixels)
    exported = to_diffusers(model, lookup_from_codebook=True)
    codes = model.get_image_tokens(pixels)
    shape = (3, 4, 4, exported.config.vq_embed_dim)
    pictures = exported.decode(codes.flatten(1), force_not_quantize=True, shape=shape).sample
    assert_close(pictures, model.decode_image_tokens(codes))


@torch.no_grad()
@pytest.mark.parametrize("likelihood", ["bce", "logit_laplace"])
def test_codes_alone_are_exact_for_every_likelihood(pixels, likelihood):
    for model in (vqvae(pixels, reconstruction_loss=likelihood), dvae(reconstruction_loss=likelihood)):
        with pytest.raises(ValueError, match=f"which `{likelihood}` is not .* codes_only=True"):
            to_diffusers(model)
        exported = to_diffusers(model, codes_only=True)
        assert torch.equal(diffusers_codes(exported, pixels), model.get_image_tokens(pixels))
        assert exported.decode(exported.encode(pixels).latents).sample.shape == pixels.shape


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: AEModel(AEConfig(**NET)), "no class for a ae; vae, vqvae and dvae"),
        (lambda: VAEModel(VAEConfig(image_size=16)), "`resnet` backbone only, this model has `conv`"),
        (lambda: vae(encoder_channels=6), "one width of latents, this model has 4 and, .* `encoder_channels` 6"),
        (lambda: dvae(encoder_only=True), "this model is an encoder alone"),
        (lambda: VQVAEModel(VQVAEConfig(**NET, **CODES, quantizer="vq", normalize_look_up=True)), "scales them first"),
        (lambda: VQVAEModel(VQVAEConfig(**NET, **CODES, quantizer="fsq")), "the quantizer `fsq` rounds numbers"),
        (lambda: VQVAEModel(VQVAEConfig(**NET, **CODES, quantizer="residual")), "`residual` has 2 codes a position"),
        (lambda: dvae(codebook_size=20_000), "20000 x 20000 numbers; at most 16384"),
    ],
)
def test_what_diffusers_cannot_hold_is_refused_by_name(make, says):
    with pytest.raises(ValueError, match=says):
        to_diffusers(make())


def test_an_export_is_a_copy_with_the_models_dtype(pixels):
    model = vqvae(pixels).to(torch.float64)
    exported = to_diffusers(model, scaling_factor=2.0, force_upcast=True)
    assert exported.dtype == torch.float64 and exported.config.scaling_factor == 2.0 and exported.config.force_upcast
    with torch.no_grad():
        before = model.encoder.conv_in.weight.clone()
        exported.encoder.conv_in.weight.zero_()
    assert torch.equal(model.encoder.conv_in.weight, before)


@torch.no_grad()
def test_there_and_back_again(pixels, tmp_path):
    for model in (vae(scaling_factor=0.5), vqvae(pixels, latent_channels=8)):
        exported = to_diffusers(model)
        exported.save_pretrained(tmp_path / model.config.model_type)
        for source in (exported, str(tmp_path / model.config.model_type)):
            back = from_diffusers(source)
            assert back.config.scaling_factor == model.config.scaling_factor
            assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in model.state_dict().items())
            assert_close(back.reconstruct(pixels), model.reconstruct(pixels))


@torch.no_grad()
@pytest.mark.parametrize("levels", [[1], [2], [0, 2]])
def test_levels_that_attend_go_there_and_come_back(pixels, levels):
    for model in (vae(attention_levels=levels), vqvae(pixels, attention_levels=levels)):
        exported = to_diffusers(model)
        kinds = exported.config.down_block_types
        assert [level for level, kind in enumerate(kinds) if kind == "AttnDownEncoderBlock2D"] == levels
        assert_close(exported(pixels).sample, model.reconstruct(pixels))
        back = from_diffusers(exported)
        assert list(back.config.attention_levels) == levels
        assert all(torch.equal(tensor, back.state_dict()[name]) for name, tensor in model.state_dict().items())


@torch.no_grad()
def test_an_autoencoder_without_its_two_convolutions_comes_back_without_them(pixels):
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    net = {**blocks, "block_out_channels": [16, 32], "norm_num_groups": 8, "sample_size": 16, "latent_channels": 16}
    kl = AutoencoderKL(
        **net, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159
    ).eval()
    back = to_diffusers(from_diffusers(kl.to(torch.bfloat16)))
    assert back.dtype == torch.bfloat16 and not back.config.use_quant_conv and not back.config.use_post_quant_conv
    assert (back.config.scaling_factor, back.config.shift_factor) == (0.3611, 0.1159)
    assert {n: (w.dtype, w.tolist()) for n, w in kl.state_dict().items()} == {
        n: (w.dtype, w.tolist()) for n, w in back.state_dict().items()
    }


@torch.no_grad()
def test_a_dvae_with_two_convolutions_before_its_logits_is_exported_with_one(pixels):
    model = dvae(latent_channels=8, logits_channels=10)
    exported = to_diffusers(model)
    assert_close(exported.encode(pixels).latents, model.encode(pixels).latents)
    assert_close(exported(pixels).sample, model.reconstruct(pixels))


@torch.no_grad()
def test_training_starts_from_a_folder_of_ours_of_diffusers_or_of_a_pipeline(pixels, tmp_path):
    model = vqvae(pixels, latent_channels=8)
    model.save_pretrained(tmp_path / "ours")
    to_diffusers(model.half()).save_pretrained(tmp_path / "diffusers")
    to_diffusers(model).save_pretrained(tmp_path / "pipeline" / "vqvae")
    (tmp_path / "pipeline" / "model_index.json").write_text('{"vqvae": ["diffusers", "VQModel"]}')
    for folder in ("ours", "diffusers", "pipeline"):
        parent = load_for_training(tmp_path / folder)
        assert parent.dtype == torch.float32 and type(parent) is VQVAEModel
        assert torch.equal(parent.get_image_tokens(pixels), model.float().get_image_tokens(pixels))
    assert load_for_training(tmp_path / "ours", image_size=32).config.image_size == 32
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="has no config.json"):
        load_for_training(tmp_path / "other")
    (tmp_path / "other" / "config.json").write_text('{"_class_name": "AutoencoderTiny"}')
    with pytest.raises(ValueError, match="has none of the files model, diffusion_pytorch_model"):
        load_for_training(tmp_path / "other")
    save_file(dict(model.state_dict()), tmp_path / "other" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ValueError, match="is one of a AutoencoderTiny; AutoencoderKL and VQModel can be read"):
        load_for_training(tmp_path / "other")


@torch.no_grad()
def test_models_of_diffusers_become_ours(pixels):
    torch.manual_seed(0)
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    net = {**blocks, "block_out_channels": [16, 32], "norm_num_groups": 8, "sample_size": 16}
    kl = AutoencoderKL(**net, use_quant_conv=False, use_post_quant_conv=False).eval()
    assert_close(from_diffusers(kl).encode(pixels).latent_dist.mean, kl.encode(pixels).latent_dist.mean)
    assert_close(from_diffusers(kl).reconstruct(pixels), kl(pixels).sample)
    vq = VQModel(**net, num_vq_embeddings=64).eval()
    assert torch.equal(from_diffusers(vq).get_image_tokens(pixels), diffusers_codes(vq, pixels))
    assert_close(from_diffusers(vq).reconstruct(pixels), vq(pixels).sample)
    with pytest.raises(ValueError, match="has `norm_type` 'spatial'"):
        from_diffusers(VQModel(**{**net, "block_out_channels": [32, 32], "norm_num_groups": 32}, norm_type="spatial"))
    with pytest.raises(ValueError, match=r"attend at the same levels; of this model they do at \[1\] and \[\]"):
        from_diffusers(VQModel(**{**net, "down_block_types": ["DownEncoderBlock2D", "AttnDownEncoderBlock2D"]}))
    with pytest.raises(ValueError, match="AttnDownEncoderBlock2D, this model also has SkipDownBlock2D"):
        from_diffusers(VQModel(**{**net, "down_block_types": ["DownEncoderBlock2D", "SkipDownBlock2D"]}))


def test_a_saved_pipeline_opens_in_a_process_without_our_package(pixels, tmp_path):
    model = vqvae(pixels, codebook_dim=3)
    model.measure_latents([pixels])
    unet = UNet2DModel(
        sample_size=4, in_channels=3, out_channels=3, block_out_channels=[16, 16], layers_per_block=1,
        norm_num_groups=8, down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2,
    )  # fmt: skip
    pipeline = LDMPipeline(vqvae=to_diffusers(model), unet=unet, scheduler=DDIMScheduler())
    pipeline.save_pretrained(tmp_path / "pipeline")
    assert json.loads((tmp_path / "pipeline" / "model_index.json").read_text())["vqvae"] == ["diffusers", "VQModel"]
    torch.save({"pixels": pixels, "codes": model.get_image_tokens(pixels)}, tmp_path / "expected.pt")
    code = f"""
import sys, torch
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained({str(tmp_path / "pipeline")!r})
picture = pipeline(batch_size=1, num_inference_steps=2, generator=torch.Generator().manual_seed(0)).images[0]
assert picture.size == (16, 16)
expected = torch.load({str(tmp_path / "expected.pt")!r})
with torch.no_grad():
    codes = pipeline.vqvae.quantize(pipeline.vqvae.encode(expected["pixels"]).latents)[2][2]
assert torch.equal(codes.view_as(expected["codes"]), expected["codes"])
assert not any(name.startswith("hf_autoencoders") for name in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_vae_in_a_pipeline_keeps_its_scale(tmp_path):
    model = vae(scaling_factor=0.25)
    unet = UNet2DModel(
        sample_size=4, in_channels=4, out_channels=4, block_out_channels=[16, 16], layers_per_block=1,
        norm_num_groups=8, down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2,
    )  # fmt: skip
    LDMPipeline(vqvae=to_diffusers(model), unet=unet, scheduler=DDIMScheduler()).save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded.vqvae) is AutoencoderKL and loaded.vqvae.config.scaling_factor == 0.25
