# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Amused: diffusers' UVit2DModel learns our codes and draws them, in a pipeline that diffusers opens alone."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import AmusedPipeline
from documents import commands, run_snippets

from hf_autoencoders import AutoencoderImageProcessorPil, DVAEConfig, DVAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.hub.diffusers_export import to_diffusers
from hf_autoencoders.hub.pipelines import amused_pipeline, in_unit_range
from hf_autoencoders.priors.amused import build_amused, build_tokenizer, masked_token_loss
from hf_autoencoders.priors.diffusion_knobs import parse_diffusion_arguments
from hf_autoencoders.training.data import load_images
from hf_autoencoders.training.knobs import parse_arguments


ROOT = Path(__file__).resolve().parents[1]
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
NET = {
    "image_size": 8, "num_channels": 1, "backbone": "resnet", "block_out_channels": [8, 8], "layers_per_block": 1,
    "norm_num_groups": 4, "mid_block_add_attention": False, "codebook_size": 16,
}  # fmt: skip


@cache
def digits(count):
    processor = AutoencoderImageProcessorPil(num_channels=1, size={"height": 8, "width": 8})
    images = load_images("digits", to_uint8=processor.to_uint8).train
    return images.batch(range(count))["pixel_values"], images.labels[:count]


def make_vqvae(**fields):
    """Its codes lie among the latents of digits, so that many are used."""
    torch.manual_seed(0)
    model = VQVAEModel(VQVAEConfig(**{**NET, "codebook_dim": 4, "quantizer": "vq", **fields})).eval()
    with torch.no_grad():
        z = model.encode(digits(64)[0]).latents.permute(0, 2, 3, 1).flatten(0, 2)
        model.quantize.embedding.weight.copy_(z[torch.randperm(len(z))[:16]])
    return model


@pytest.fixture(scope="module")
def vqvae():
    return make_vqvae()


@pytest.fixture(scope="module")
def trained(vqvae):
    """(pipeline, losses in nats per code)"""
    torch.manual_seed(0)
    transformer, text_encoder, tokenizer = parts = build_amused(vqvae, DIGITS, hidden_size=32)
    pixels, labels = digits(256)
    tokens = vqvae.get_image_tokens(pixels)
    optimizer = torch.optim.AdamW([*transformer.parameters(), *text_encoder.parameters()], lr=3e-3)
    losses = []
    for _ in range(60):
        rows = torch.randint(256, (32,))
        prompts = [DIGITS[label] if torch.rand(()) > 0.1 else "" for label in labels[rows]]
        loss = masked_token_loss(*parts, tokens[rows], prompts, vqvae.downsample_factor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return amused_pipeline(vqvae, transformer.eval(), text_encoder.eval(), tokenizer), losses


def draw(pipeline, prompts, seed=0, **options):
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(seed)
    return pipeline(prompts, num_inference_steps=4, guidance_scale=2.0, generator=generator, **options).images


def test_training_learns_the_codes(trained, vqvae):
    """The last losses are below the entropy of codes that are taken one by one, wherever they stand."""
    tokens = vqvae.get_image_tokens(digits(256)[0])
    counts = torch.bincount(tokens.flatten(), minlength=16).double()
    entropy = torch.distributions.Categorical(probs=counts).entropy().item()
    losses = trained[1]
    assert sum(losses[-10:]) / 10 < entropy < losses[0]


def test_an_untrained_transformer_loses_what_guessing_loses(vqvae):
    torch.manual_seed(0)
    parts = build_amused(vqvae, DIGITS, hidden_size=32)
    with torch.no_grad():
        for parameter in parts[0].mlm_layer.conv2.parameters():
            parameter.zero_()  # all codes alike
        loss = masked_token_loss(*parts, torch.randint(16, (5, 4, 4)), ["one"] * 5, 2)
    assert loss.item() == pytest.approx(torch.tensor(16.0).log().item(), rel=1e-5)


def test_pictures_are_the_decoded_codes(trained, vqvae):
    pipeline = trained[0]
    tokens = draw(pipeline, ["three", "seven"], output_type="latent")
    assert tokens.shape == (2, 4, 4) and tokens.min() >= 0 and tokens.max() < 16
    pictures = torch.as_tensor(draw(pipeline, ["three", "seven"], output_type="np")).permute(0, 3, 1, 2)
    expected = (vqvae.decode_image_tokens(tokens) + 1) / 2  # ours speaks [-1, 1], Amused [0, 1]
    torch.testing.assert_close(pictures, expected.clamp(0, 1), atol=1e-5, rtol=0)


def test_prompts_decide(trained):
    likelier = []
    for prompt in (["zero"] * 32, ["one"] * 32):
        likelier.append(draw(trained[0], prompt, output_type="latent").float().mean(0))
    assert not torch.equal(*likelier)


@torch.no_grad()
def test_a_dvae_draws_too():
    torch.manual_seed(0)
    dvae = DVAEModel(DVAEConfig(**NET, codebook_dim=4, latent_channels=16, reconstruction_loss="l1")).eval()
    pipeline = amused_pipeline(dvae, *build_amused(dvae, DIGITS, hidden_size=32))
    assert draw(pipeline, ["one"], output_type="np").shape == (1, 8, 8, 1)


@torch.no_grad()
def test_the_unit_range_is_exact(vqvae):
    latents = vqvae.encode(digits(8)[0]).latents
    pictures = to_diffusers(vqvae).decode(latents).sample
    torch.testing.assert_close(in_unit_range(to_diffusers(vqvae)).decode(latents).sample, (pictures + 1) / 2)


def test_a_saved_pipeline_opens_in_a_process_without_our_package(trained, tmp_path):
    pipeline = trained[0]
    pipeline.save_pretrained(tmp_path / "amused")
    expected = draw(pipeline, ["three", "seven"], output_type="latent").tolist()
    code = f"""
import sys, torch
sys.modules["hf_autoencoders"] = None  # an import would fail
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained({str(tmp_path / "amused")!r})
options = {{"num_inference_steps": 4, "guidance_scale": 2.0}}
draw = lambda **more: pipeline(["three", "seven"], generator=torch.Generator().manual_seed(0), **options, **more).images
print([(picture.mode, picture.size) for picture in draw()], draw(output_type="latent").tolist())
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(f"{[('L', (8, 8))] * 2} {expected}")


def test_a_tokenizer_knows_its_words():
    tokenizer = build_tokenizer(DIGITS)
    assert tokenizer(["Three", "eleven", ""]).input_ids == [[1, 7, 3], [1, 2, 3], [1, 3]]


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda m: build_amused(m, []), "`words` is empty"),
        (lambda m: build_amused(m, ["one"], hidden_size=30), "multiple of 4 heads, got 30"),
        (lambda m: build_amused(make_vqvae(image_size=[8, 16]), ["one"]), "square grids of one code a position"),
        (lambda m: build_amused(VQVAEModel(VQVAEConfig(quantizer="residual")), ["one"]), "one code a position"),
        (
            lambda m: amused_pipeline(make_vqvae(latent_channels=8), *build_amused(m, ["one"], hidden_size=8)),
            "this model has 8 and 4: train it with `latent_channels` 4",
        ),
        (
            lambda m: amused_pipeline(
                VQVAEModel(VQVAEConfig(**{**NET, "codebook_size": 8}, quantizer="vq", codebook_dim=4)),
                *build_amused(m, ["one"], hidden_size=8),
            ),
            "draws 16 codes, the image model has 8",
        ),
    ],
)
def test_mistakes_are_named(vqvae, call, says):
    with pytest.raises(ValueError, match=says):
        call(vqvae)


def test_the_page_about_diffusers_is_true(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "diffusers.md").read_text()
    parsers = {"scripts/train.py": parse_arguments, "scripts/train_latent_diffusion.py": parse_diffusion_arguments}
    for words in commands(page):
        script, *flags = [str(ROOT / word) if word.endswith(".yaml") else word for word in words[2:]]
        parsers[script](flags)
    monkeypatch.chdir(tmp_path)
    names, said = run_snippets(page, "diffusers.md")
    assert len(said) >= 3 and isinstance(names["pipeline"], AmusedPipeline)
