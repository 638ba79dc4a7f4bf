# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training on from the UNet of a saved pipeline: on latents of the same encoder, or refused in one line."""

import json

import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DModel
from small_nets import save_image_model
from training_runs import ROOT, finish, log_of, run_script_here, start

from hf_autoencoders import AutoencoderImageProcessorPil, VAEConfig, VAEModel
from hf_autoencoders.hub.pipelines import pipeline_card
from hf_autoencoders.training.starting_point import weights_fingerprint


NET = {
    "image_size": 8, "num_channels": 1, "backbone": "resnet", "block_out_channels": [8, 8], "layers_per_block": 1,
    "norm_num_groups": 4, "mid_block_add_attention": False, "latent_channels": 3, "scaling_factor": 2.0,
}  # fmt: skip


def save_vae(folder, seed=0, decoder_seed=None, **fields):
    return save_image_model(folder, lambda: VAEModel(VAEConfig(**{**NET, **fields})), seed, decoder_seed)


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return save_vae(tmp_path_factory.mktemp("vae-digits"))


def run(image_model, folder, *flags) -> int:
    return run_script_here("scripts/train_latent_diffusion.py", words(image_model, folder, *flags))


def words(image_model, folder, *flags) -> list[str]:
    usual = ("--cpu", "--num_threads", 1, "--max_eval_samples", 32, "--max_train_samples", 256, "--logging_steps", 1)
    sizes = ("--train_batch_size", 16, "--max_train_steps", 2, "--sample_steps", 2)
    flags = ("--image_model", image_model, "--output_dir", folder, *usual, *sizes, *flags)
    return [str(flag) for flag in flags]


@pytest.fixture(scope="module")
def parent(vae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "diffusion"
    net = ("--block_out_channels", 8, 16, "--layers_per_block", 1, "--beta_schedule", "scaled_linear")
    assert run(vae, folder, *net, "--max_train_steps", 60, "--learning_rate", 1e-2) == 0
    return folder


def unet_of(folder) -> UNet2DModel:
    return UNet2DModel.from_pretrained(folder / "pipeline/transformer")


def losses(folder) -> list[float]:
    return [line["loss"] for line in log_of(folder) if "loss" in line]


@pytest.mark.parametrize("place", ["", "pipeline"])
def test_a_unet_goes_on_where_the_parent_stood(parent, vae, tmp_path, place, monkeypatch):
    folder, read = tmp_path / "run", []
    load_config = DiffusionPipeline.load_config
    monkeypatch.setattr(DiffusionPipeline, "load_config", lambda *a, **k: read.append(a[0]) or load_config(*a, **k))
    assert run(vae, folder, "--init_from", parent / place, "--learning_rate", 0) == 0  # no word of the net
    assert read == [str(parent / "pipeline")]  # its index, once
    one, two = unet_of(parent), unet_of(folder)
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert sum(losses(folder)) / 2 < 0.9 * losses(parent)[0]  # 1: nothing is predicted, as by random weights
    assert DiffusionPipeline.from_pretrained(folder / "pipeline").scheduler.config.beta_schedule == "scaled_linear"
    record = json.loads((folder / "metrics.json").read_text())["parent"]
    assert record == {"name": place or "diffusion", "revision": None, "fingerprint": weights_fingerprint(one)}


def test_a_continued_unet_goes_on_bit_for_bit_from_its_own_checkpoint(parent, vae, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    knobs = ("--init_from", parent, "--dropout", 0.1)
    assert run(vae, whole, *knobs, "--max_train_steps", 4) == 0
    assert run(vae, halves, *knobs) == 0
    assert run(vae, halves, *knobs, "--max_train_steps", 4, "--resume", "latest") == 0
    one, two = unet_of(whole), unet_of(halves)
    assert all(torch.equal(tensor, two.state_dict()[name]) for name, tensor in one.state_dict().items())
    assert log_of(whole) == log_of(halves) and one.config.dropout == 0.1


def test_two_processes_go_on_together(parent, vae, tmp_path):
    folder = tmp_path / "run"
    flags = words(vae, folder, "--init_from", parent, "--expected_processes", 2)
    code, _, err = finish(start(flags, script=ROOT / "scripts" / "train_latent_diffusion.py", processes=2))
    assert code == 0, err
    assert sum(losses(folder)) / 2 < 0.9 * losses(parent)[0]  # means of both
    record = json.loads((folder / "metrics.json").read_text())
    assert record["parent"]["name"] == "diffusion" and record["processes"] == 2 and record["metrics"]["images"] == 32
    one, two = unet_of(parent).state_dict(), unet_of(folder).state_dict()
    assert one.keys() == two.keys() and not all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_sharper_decoder_and_larger_pictures_are_no_obstacle(parent, tmp_path, capsys):
    larger = save_vae(tmp_path / "larger", decoder_seed=3, image_size=16, scaling_factor=2.5)
    AutoencoderImageProcessorPil(num_channels=1, size={"height": 16, "width": 16}).save_pretrained(larger)
    assert run(larger, tmp_path / "run", "--init_from", parent, "--max_train_steps", 1) == 0
    assert unet_of(tmp_path / "run").config.sample_size == 8
    assert "latents are multiplied by 2.5 (--image_model), in the parent by 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--image_model", "OTHER"), "the encoder in that pipeline has other weights"),
        (("--block_out_channels", "8"), "--block_out_channels: would change the net of --init_from"),
        (("--beta_schedule", "linear"), "--beta_schedule: would change the net of --init_from"),
        (("--unconditional",), "knows 10 classes, the data have 0: give data with 10 classes"),
        (("--init_from", "VAE"), "holds no pipeline that can be loaded"),
        (("--init_from", "/no/such/folder"), "/no/such/folder"),
        (("--train_only", "decoder"), "train_only"),
    ],
)
def test_what_a_unet_cannot_go_on_from_is_one_line(parent, vae, tmp_path, capsys, flags, message):
    places = {"OTHER": save_vae(tmp_path / "other", seed=1), "VAE": vae}
    capsys.readouterr()
    flags = [places.get(flag, flag) for flag in flags]
    assert run(vae, tmp_path / "run", "--init_from", parent, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert error.count("hf-autoencoders train_latent_diffusion: ") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name, base_model", [("org/diffusion", "base_model: org/diffusion\n"), ("mine", None)])
def test_the_card_of_a_pipeline_names_its_parent(parent, name, base_model):
    record = json.loads((parent / "metrics.json").read_text())
    record["parent"] = {"name": name, "revision": None, "fingerprint": "0123abc"}
    card = pipeline_card(unet_of(parent), record)
    head = card.split("---\n")[1]
    assert base_model in head if base_model else "base_model" not in head
    assert "fingerprint of those weights is `0123abc`" in card
    assert ("It is not on the Hub under this name." in card) == (base_model is None)
