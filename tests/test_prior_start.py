# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training on from a saved prior: better than anew, of the same codes and classes, or refused in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file
from small_nets import save_image_model
from training_runs import ROOT, assert_same_run, finish, log_of, run_script_here, start
from transformers import AutoModel

from hf_autoencoders import VQVAEConfig, VQVAEModel
from hf_autoencoders.priors.autoregressive import load_prior, sequencer_of
from hf_autoencoders.priors.cards import prior_card
from hf_autoencoders.training.starting_point import weights_fingerprint


NET = {"image_size": 8, "num_channels": 1, "block_out_channels": [8, 8, 8], "codebook_size": 16, "codebook_dim": 4}
SIZES = {"llama": (16, 1, 2), "gpt2": (16, 1, 2), "pixelcnn": (16, 2, None), "masked": (16, 1, 2)}


def build_tokenizer() -> VQVAEModel:
    model = VQVAEModel(VQVAEConfig(**NET, residual_channels=8, quantizer="vq"))
    with torch.no_grad():  # codes of the size of latents, so that several are used
        model.quantize.embedding.weight.copy_(torch.randn(16, 4) * 0.1)
    return model


def save_tokenizer(folder, seed=0, decoder_seed=None):
    return save_image_model(folder, build_tokenizer, seed, decoder_seed)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory.mktemp("vqvae-digits"))


def run(tokenizer, folder, *flags) -> int:
    return run_script_here("scripts/train_prior.py", words(tokenizer, folder, *flags))


def words(tokenizer, folder, *flags) -> list[str]:
    usual = ("--cpu", "--num_threads", 1, "--max_eval_samples", 32, "--max_train_samples", 256, "--logging_steps", 1)
    sizes = ("--train_batch_size", 32, "--max_train_steps", 2)
    flags = ("--image_tokenizer", tokenizer, "--output_dir", folder, *usual, *sizes, *flags)
    return [str(flag) for flag in flags]


@pytest.fixture(scope="module")
def parents(tokenizer, tmp_path_factory):
    place, made = tmp_path_factory.mktemp("parents"), {}

    def parent(architecture: str):
        if architecture not in made:
            hidden, layers, heads = SIZES[architecture]
            sizes = ["--hidden_size", hidden, "--num_layers", layers, *(["--num_heads", heads] if heads else [])]
            flags = ("--architecture", architecture, *sizes, "--max_train_steps", 30, "--learning_rate", 1e-2)
            made[architecture] = place / architecture
            assert run(tokenizer, made[architecture], *flags) == 0
        return made[architecture]

    return parent


def losses(folder) -> list[float]:
    return [line["loss"] for line in log_of(folder) if "loss" in line]


@pytest.mark.parametrize("architecture", SIZES)
def test_a_prior_goes_on_where_the_parent_stood(parents, tokenizer, tmp_path, architecture):
    parent, folder = parents(architecture), tmp_path / "run"
    assert run(tokenizer, folder, "--init_from", parent, "--learning_rate", 0) == 0
    one, two = load_file(parent / "model.safetensors"), load_file(folder / "model.safetensors")
    assert one.keys() == two.keys() and all(torch.equal(tensor, two[name]) for name, tensor in one.items())
    assert losses(folder)[0] < losses(parent)[0] - 0.3  # nats per code; random weights know nothing of them
    record, prior = json.loads((folder / "metrics.json").read_text()), load_prior(str(parent))
    assert record["architecture"] == architecture and record["parameters"] == sum(p.numel() for p in prior.parameters())
    assert record["parent"] == {"name": architecture, "revision": None, "fingerprint": weights_fingerprint(prior)}


def test_a_continued_prior_goes_on_bit_for_bit_from_its_own_checkpoint(parents, tokenizer, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    knobs = ("--init_from", parents("llama"), "--dropout", 0.1)  # dropout changes no weight
    assert run(tokenizer, whole, *knobs, "--max_train_steps", 4) == 0
    assert run(tokenizer, halves, *knobs) == 0
    assert run(tokenizer, halves, *knobs, "--max_train_steps", 4, "--resume", "latest") == 0
    assert_same_run(whole, halves, 4)
    assert load_prior(str(whole)).config.attention_dropout == 0.1


def test_two_processes_go_on_together(parents, tokenizer, tmp_path):
    parent, folder = parents("llama"), tmp_path / "run"
    flags = words(tokenizer, folder, "--init_from", parent, "--expected_processes", 2)
    code, _, err = finish(start(flags, script=ROOT / "scripts" / "train_prior.py", processes=2))
    assert code == 0, err
    assert losses(folder)[0] < losses(parent)[0] - 0.3  # the mean of both
    record = json.loads((folder / "metrics.json").read_text())
    assert record["parent"]["name"] == "llama" and record["processes"] == 2 and record["metrics"]["images"] == 32
    one, two = load_file(parent / "model.safetensors"), load_file(folder / "model.safetensors")
    assert one.keys() == two.keys() and not all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_prior_and_image_model_in_one_can_be_trained_on_and_the_result_draws(parents, tokenizer, tmp_path):
    whole = parents("llama") / "image_token_lm"
    assert run(tokenizer, tmp_path / "run", "--init_from", whole, "--max_train_steps", 1) == 0
    model = AutoModel.from_pretrained(tmp_path / "run/image_token_lm")
    assert model.generate_images(labels=[3, 7]).shape == (2, 1, 8, 8)
    assert sequencer_of(load_prior(str(tmp_path / "run"))).num_classes == 10


def test_an_image_model_whose_decoder_alone_changed_has_the_same_codes(parents, tmp_path):
    other = save_tokenizer(tmp_path / "sharper", decoder_seed=5)
    assert run(other, tmp_path / "run", "--init_from", parents("llama"), "--max_train_steps", 1) == 0
    assert sequencer_of(load_prior(str(tmp_path / "run"))).image_tokenizer == "sharper"


@pytest.mark.parametrize(
    "architecture, flags, message",
    [
        ("llama", ("--image_tokenizer", "OTHER"), "its codes mean other pictures"),
        ("llama", ("--architecture", "gpt2"), "--architecture: would change the net of --init_from"),
        ("gpt2", ("--hidden_size", "32", "--num_layers", "2"), "--hidden_size, --num_layers: would change the net"),
        ("llama", ("--unconditional",), "knows 10 classes, the data have 0: give data with 10 classes"),
        ("pixelcnn", ("--image_token_lm", "true"), "--image_token_lm holds a causal language model"),
        ("llama", ("--init_from", "TOKENIZER"), "is a vqvae; priors that can be trained on are llama, gpt2"),
        ("llama", ("--init_from", "/no/such/folder"), "/no/such/folder"),
        ("llama", ("--train_only", "decoder"), "train_only"),
    ],
)
def test_what_a_prior_cannot_go_on_from_is_one_line(parents, tokenizer, tmp_path, capsys, architecture, flags, message):
    places = {"OTHER": save_tokenizer(tmp_path / "other", seed=1), "TOKENIZER": tokenizer}
    flags = [places.get(flag, flag) for flag in flags]
    parent = parents(architecture)
    capsys.readouterr()
    assert run(tokenizer, tmp_path / "run", "--init_from", parent, *flags) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("hf-autoencoders train_prior: ") == 1 and "Traceback" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name, base_models", [("org/prior", ["org/prior"]), ("prior-mine", [])])
def test_the_card_of_a_prior_names_its_parent(parents, tokenizer, name, base_models):
    parent = parents("llama")
    record = json.loads((parent / "metrics.json").read_text())
    record["parent"] = {"name": name, "revision": "v2", "fingerprint": "0123abc"}
    sequencer = sequencer_of(load_prior(str(parent)))
    sequencer.image_tokenizer = "org/vqvae"
    card = prior_card(record, sequencer, "me/mine")
    head = card.split("---\n")[1]
    assert all(f"- {model}\n" in head for model in [*base_models, "org/vqvae"])
    assert "at revision v2" in card and "fingerprint of those weights is `0123abc`" in card
    assert ("It is not on the Hub under this name." in card) == (not base_models)
