# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Recipes of published nets, too large to be run here: their shapes at full size, and steps of small nets like them."""

import json

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from PIL import Image
from test_full_size import F16, KL, KL_NETS, numbers, taming_net
from training_runs import train_here
from transformers import AutoModel

from hf_autoencoders import to_diffusers
from hf_autoencoders.hub.source_vqgan import to_llamagen, to_taming
from hf_autoencoders.training.config_knobs import build_config
from hf_autoencoders.training.knobs import parse_arguments
from hf_autoencoders.training.recipes import about, shipped_recipes


LARGE = ("vqgan-imagenet-256-f16", "vqgan-f8", "kl-f8", "dvae-256")


def full_size(recipe):
    arguments = parse_arguments(["--recipe", recipe])
    with torch.device("meta"):
        model = AutoModel.from_config(build_config(arguments, {"num_channels": 3}))
    assert all(tensor.is_meta for tensor in model.parameters())
    return model


def shapes_of(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def test_the_f16_recipe_is_llamagens_vq_16():
    model = full_size("vqgan-imagenet-256-f16")
    assert numbers(model) == 71_883_403 and model.grid_size == (16, 16)
    theirs = {**taming_net(F16, [4], 256, 8), "quantize.embedding.weight": (16384, 8)}
    assert shapes_of(to_taming(model.state_dict())) == theirs
    assert "encoder.conv_blocks.4.attn.1.proj_out.weight" in to_llamagen(model.state_dict())


def test_the_f8_recipe_is_latent_diffusions_vq_f8():
    model = full_size("vqgan-f8")
    theirs = {**taming_net([128, 256, 256, 512], [3], 4, 4), "quantize.embedding.weight": (16384, 4)}
    assert shapes_of(to_taming(model.state_dict())) == theirs and model.grid_size == (32, 32)


def test_the_kl_recipe_is_the_autoencoder_of_stable_diffusion():
    model = full_size("kl-f8")
    with torch.device("meta"):
        net = AutoencoderKL(**KL, **KL_NETS["kl-f8"])
    ours, theirs = shapes_of(model.state_dict()), shapes_of(net.state_dict())
    assert {name: ours[name] for name in theirs} == theirs and numbers(model) == 83_653_863
    assert model.grid_size == (32, 32)


def test_the_dvae_recipe_is_dall_es():
    model = full_size("dvae-256")
    assert numbers(model) == 53_786_240 + 43_829_766 - 128  # the input's bias is part of each code vector
    assert model.grid_size == (32, 32) and model.codebook_size == 8192


@pytest.mark.parametrize("recipe", LARGE)
def test_a_recipe_that_nobody_ran_says_so_first(recipe):
    assert about(shipped_recipes()[recipe]).startswith("Not run here: ")


SMALL_NETS = {
    "vqgan-imagenet-256-f16": {"block_out_channels": "8 8 8 8 16", "latent_channels": "8", "codebook_size": "32"},
    "vqgan-f8": {"block_out_channels": "8 8 8 16", "codebook_size": "32"},
    "kl-f8": {"block_out_channels": "8 8 8 16"},
    "dvae-256": {"block_out_channels": "8 8 8 16", "codebook_size": "32", "codebook_dim": "8", "layers_per_block": "1"},
}
GAME = {
    "perceptual_model": "digits", "discriminator_start": "0", "adversarial_start": "1", "adversarial_ramp_steps": "1",
    "discriminator_width": "4", "discriminator_levels": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for number in range(12):
        levels = torch.randint(0, 256, (44, 60, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8)
        Image.fromarray(levels.numpy()).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("recipe", LARGE)
def test_a_small_net_of_a_large_recipe_takes_steps_with_all_of_its_losses(recipe, photographs, tmp_path):
    small = {
        **SMALL_NETS[recipe], "image_size": "32", "dataset_name": str(photographs), "train_batch_size": "4",
        "max_train_steps": "2", "logging_steps": "1", "dataloader_num_workers": "0", "checkpointing_steps": "0",
        "mixed_precision": "no", "num_threads": "1", "cpu": "true", "output_dir": str(tmp_path / "run"),
        **({} if recipe == "dvae-256" else {"norm_num_groups": "4", **GAME}),
    }  # fmt: skip
    flags = [word for name, value in small.items() for word in (f"--{name}", *value.split())]
    assert train_here(["--recipe", recipe, *flags]) == 0
    log = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for line in log for name, value in line.items()}
    assert torch.tensor(last["loss"]).isfinite()
    if recipe != "dvae-256":
        assert last["perceptual_distance"] > 0 and 0 < last["adversarial_share"] < 1


def test_what_the_kl_and_f8_recipes_train_diffusers_can_hold():
    for recipe, held_by in (("kl-f8", AutoencoderKL), ("vqgan-f8", VQModel)):
        knobs = ["--recipe", recipe, "--norm_num_groups", "4"]
        for name in ("block_out_channels", "codebook_size"):
            knobs += [f"--{name}", *SMALL_NETS[recipe][name].split()] if name in SMALL_NETS[recipe] else []
        model = AutoModel.from_config(build_config(parse_arguments(knobs), {"num_channels": 3}))
        assert isinstance(to_diffusers(model), held_by)


def small_run(recipe, photographs, folder, **knobs):
    """A run of `recipe` on small pictures, and the held-out ones as its model sees them."""
    small = {
        "image_size": "32", "dataset_name": str(photographs), "max_train_steps": "3", "logging_steps": "1",
        "mixed_precision": "no", "num_threads": "1", "cpu": "true", "output_dir": str(folder), "feature_model": "null",
        "feature_size": "null", **GAME, **knobs,
    }  # fmt: skip
    flags = [word for name, value in small.items() for word in (f"--{name}", *value.split())]
    assert train_here(["--recipe", recipe, *flags]) == 0
    return AutoModel.from_pretrained(folder).eval()


def test_the_decoder_recipe_sharpens_a_run_of_the_whole_recipe_and_keeps_its_tokens(photographs, tmp_path):
    net = {"block_out_channels": "8 8 16", "norm_num_groups": "4", "codebook_size": "32"}
    parent = small_run("vqgan-photos128", photographs, tmp_path / "parent", **net)
    child = small_run("vqgan-photos128-decoder", photographs, tmp_path / "child", init_from=str(tmp_path / "parent"))
    pixels = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = parent.get_image_tokens(pixels)
    assert torch.equal(tokens, child.get_image_tokens(pixels)) and len(tokens.unique()) > 1
    assert not torch.equal(parent.decode_image_tokens(tokens), child.decode_image_tokens(tokens))
    log = [json.loads(line) for line in (tmp_path / "child" / "metrics.jsonl").read_text().splitlines()]
    last = {name: value for line in log for name, value in line.items()}
    assert last["perceptual_distance"] > 0 and 0 < last["adversarial_share"] < 1
    assert json.loads((tmp_path / "child" / "metrics.json").read_text())["parent"]["keeps_tokens"]
