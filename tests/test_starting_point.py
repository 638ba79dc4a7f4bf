# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training on from a saved model: better than anew, only what was asked for, and nothing in silence."""

import json

import pytest
import torch
from safetensors.torch import load_file
from training_runs import assert_same_run, log_of, tiny, train_here
from transformers import AutoConfig, AutoModel

from hf_autoencoders import to_diffusers
from hf_autoencoders.hub.cards import build_card, read_run
from hf_autoencoders.perception.weights import weights_fingerprint
from hf_autoencoders.training.channels import change_channels, how_channels_change


SHORT = ("--max_eval_samples", "32", "--logging_steps", "1", "--max_train_steps", "4")
LONGER = ("--max_train_steps", "60", "--learning_rate", "0.01")
KINDS = {
    "ema": ("vqvae",), "vq": ("vqvae", "--quantizer", "vq"), "l2": ("vqvae", "--quantizer", "l2"),
    "residual": ("vqvae", "--quantizer", "residual", "--num_quantizers", "2"), "dvae": ("dvae",), "vae": ("vae",),
}  # fmt: skip


@pytest.fixture(scope="module")
def parents(tmp_path_factory):
    place, made = tmp_path_factory.mktemp("parents"), {}

    def parent(kind: str):
        if kind not in made:
            model_type, *flags = KINDS[kind]
            made[kind] = place / kind
            assert train_here(tiny(model_type, made[kind], *SHORT, *LONGER, *flags)) == 0
        return made[kind]

    return parent


def on_from(parent, folder, kind: str, *flags) -> list[str]:
    """Flags of a run that goes on from `parent`: nothing of the net is said again."""
    run = ("--num_threads", "1", "--train_batch_size", "16", *SHORT, "--output_dir", folder, "--init_from", parent)
    return [str(flag) for flag in ("--model_type", KINDS[kind][0], *run, *flags)]


def test_it_goes_on_where_the_parent_stood(parents, tmp_path):
    parent = parents("ema")
    assert train_here(on_from(parent, tmp_path / "run", "ema", "--seed", "1")) == 0
    before, after = (
        [line["loss"] for line in log_of(folder) if "loss" in line] for folder in (parent, tmp_path / "run")
    )
    assert after[0] < 0.5 * before[0]  # nowhere near the loss of random weights
    record = json.loads((tmp_path / "run/metrics.json").read_text())
    fingerprint = weights_fingerprint(AutoModel.from_pretrained(parent))
    assert record["parent"] == {
        "name": parent.name, "revision": None, "fingerprint": fingerprint, "keeps_tokens": False
    }  # fmt: skip
    assert weights_fingerprint(AutoModel.from_pretrained(tmp_path / "run")) != fingerprint


@pytest.mark.parametrize(
    "name, base_model, said",
    [
        (
            "someone/vae",
            "someone/vae",
            "from [someone/vae](https://huggingface.co/someone/vae) at revision v2, not from",
        ),
        ("/no/such/folder", None, "from /no/such/folder at revision v2, not from random weights. It is not on the Hub"),
    ],
)
def test_the_card_names_a_parent_of_the_hub_and_its_fingerprint(parents, name, base_model, said):
    run = read_run(parents("vae"))
    run.record["parent"] = {"name": name, "revision": "v2", "fingerprint": "0123abc", "keeps_tokens": False}
    card = build_card(run, "me/mine")
    assert card.data.base_model == base_model and said in card.text
    assert "The SHA-256 fingerprint of those weights is `0123abc`." in card.text and "keeps its tokens" not in card.text
    assert f"name {name}, revision v2, fingerprint 0123abc" in card.text
    run.record["parent"]["keeps_tokens"] = True
    assert "Only the decoder was trained: every picture keeps its tokens." in build_card(run, "me/mine").text
    del run.record["parent"]
    assert "random weights" not in build_card(run, "me/mine").text  # of a run without a parent


@pytest.mark.parametrize("kind", ["ema", "vq", "l2", "residual", "dvae"])
def test_a_run_of_the_decoder_alone_keeps_every_token_of_every_picture(parents, tmp_path, kind, capsys):
    parent, folder = parents(kind), tmp_path / "run"
    assert train_here(on_from(parent, folder, kind, "--train_only", "decoder", "--learning_rate", "0.01")) == 0
    assert "every picture keeps its tokens" in capsys.readouterr().out
    models = [AutoModel.from_pretrained(place).eval() for place in (parent, folder)]
    pixels = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = [model.get_image_tokens(pixels) for model in models]
    assert torch.equal(*tokens)
    weights = [load_file(place / "model.safetensors") for place in (parent, folder)]
    changed = {name.split(".")[0] for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])}
    assert changed <= {"decoder", "post_quant_conv", "log_variance"} and "decoder" in changed
    assert json.loads((folder / "metrics.json").read_text())["parent"]["keeps_tokens"] is True


def test_a_decoder_of_latents_without_a_codebook_keeps_latents_and_speaks_of_no_tokens(parents, tmp_path, capsys):
    parent = parents("vae")
    capsys.readouterr()
    assert train_here(on_from(parent, tmp_path / "run", "vae", "--train_only", "decoder")) == 0
    said = capsys.readouterr().out
    assert "every picture keeps its latents" in said and "tokens" not in said
    assert json.loads((tmp_path / "run/metrics.json").read_text())["parent"]["keeps_tokens"] is False


def test_the_encoder_alone_learns_from_a_discriminator_too(parents, tmp_path):
    game = "--perceptual_model digits --adversarial_weight 0.1 --adversarial_start 0 --discriminator_start 0"
    heads = "--discriminator features --discriminator_levels 2"
    flags = (*game.split(), *heads.split(), "--train_only", "encoder")
    assert train_here(on_from(parents("ema"), tmp_path / "run", "ema", *flags)) == 0
    lines = [line for line in log_of(tmp_path / "run") if "adversary_loss" in line]
    assert lines and not any("adversarial_share" in line for line in lines)  # of the decoder, which is not trained


def test_the_encoder_alone_leaves_the_decoder(parents, tmp_path):
    assert train_here(on_from(parents("vae"), tmp_path / "run", "vae", "--train_only", "encoder")) == 0
    one, two = (load_file(place / "model.safetensors") for place in (parents("vae"), tmp_path / "run"))
    changed = {name.split(".")[0] for name in one if not torch.equal(one[name], two[name])}
    assert "encoder" in changed and "decoder" not in changed


def test_a_continued_run_goes_on_bit_for_bit_from_its_own_checkpoint(parents, tmp_path):
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    knobs = ("--lr_scheduler", "cosine", "--lr_steps", "4", "--train_only", "decoder", "codebook")
    assert train_here(on_from(parents("ema"), whole, "ema", *knobs)) == 0
    assert train_here(on_from(parents("ema"), halves, "ema", *knobs, "--max_train_steps", "2")) == 0
    assert train_here(on_from(parents("ema"), halves, "ema", *knobs, "--resume", "latest")) == 0
    assert_same_run(whole, halves, 4)


def test_a_folder_of_diffusers_can_be_trained_on(tmp_path):
    flags = (
        "--backbone",
        "resnet",
        "--block_out_channels",
        "8",
        "8",
        "--layers_per_block",
        "1",
        "--norm_num_groups",
        "4",
    )
    small = ("--num_threads", "1", "--train_batch_size", "16", "--latent_channels", "2", "--learned_variance", "false")
    run = ["--model_type", "vae", *flags, *small, *SHORT, "--output_dir", str(tmp_path / "vae")]
    assert train_here(run) == 0
    to_diffusers(AutoModel.from_pretrained(tmp_path / "vae")).save_pretrained(tmp_path / "theirs")
    assert train_here(on_from(tmp_path / "theirs", tmp_path / "run", "vae", "--learning_rate", "0")) == 0
    one, two = (load_file(tmp_path / place / "model.safetensors") for place in ("vae", "run"))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    "kind, flags, message",
    [
        ("ema", ("--codebook_size", "32"), "--codebook_size: would change the net"),
        ("ema", ("--model_type", "vae"), "is a vqvae, and this run trains a vae: give --model_type vqvae"),
        ("ema", ("--train_only", "head"), "--train_only takes encoder, codebook, decoder; got head"),
        ("ema", ("--train_only", "codebook"), "no weights there that gradients train"),
        ("vae", ("--image_size", "16"), "mlp backbone, made for pictures of 8, not 16"),
        ("ema", ("--init_from", "/no/such/folder"), "/no/such/folder"),
        ("ema", ("--num_channels", "0"), "--num_channels 0: the net of --init_from has 1"),
        ("ema", ("--init_revision", "v2"), "--init_revision v2: has no effect, since --init_from"),
        (
            "ema",
            ("--train_only", "encoder", "--adversarial_weight", "1", "--adversarial_adaptive", "true",
             "--discriminator_levels", "1"),
            "--adversarial_adaptive compares gradients at the decoder, which --train_only leaves out",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_one_line(parents, tmp_path, capsys, kind, flags, message):
    capsys.readouterr()
    assert train_here(on_from(parents(kind), tmp_path / "run", kind, *flags)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("hf-autoencoders train: ") == 1
    assert not (tmp_path / "run").exists()


def test_loss_weights_and_the_size_of_pictures_may_change(parents, tmp_path):
    flags = ("--commitment_cost", "0.5", "--image_size", "12", "--ema_decay", "0.9")
    assert train_here(on_from(parents("ema"), tmp_path / "run", "ema", *flags)) == 0
    config = AutoModel.from_pretrained(tmp_path / "run").config
    assert (config.commitment_cost, config.image_size, config.ema_decay) == (0.5, 12, 0.9)
    assert config.codebook_size == AutoModel.from_pretrained(parents("ema")).config.codebook_size


# -- another number of channels ----------------------------------------------------------------------------------------

SMALL_NET = {"block_out_channels": [8, 8], "layers_per_block": 1, "image_size": 8}
OF_BACKBONES = {
    "mlp": {"hidden_sizes": [16]}, "conv": {**SMALL_NET, "residual_channels": 8}, "dalle": SMALL_NET,
    "conv dalle_pytorch": {**SMALL_NET, "conv_style": "dalle_pytorch"}, "resnet": {**SMALL_NET, "norm_num_groups": 4},
}  # fmt: skip


def small_model(model_type: str, backbone: str, **fields):
    torch.manual_seed(0)
    sizes = {"latent_channels": 2} if model_type in ("ae", "vae") else {"codebook_size": 8, "codebook_dim": 4}
    net = {"image_size": 8, "backbone": backbone.split()[0], **OF_BACKBONES[backbone]}
    return AutoModel.from_config(AutoConfig.for_model(model_type, **net, **sizes, **fields)).double().eval()


@pytest.mark.parametrize("loss", ["mse", "l1", "bce", "logit_laplace"])
@pytest.mark.parametrize(
    "model_type, backbone",
    [("ae", "mlp"), ("vae", "conv"), ("vqvae", "resnet"), ("dvae", "dalle"), ("dvae", "conv dalle_pytorch")],
)
@pytest.mark.parametrize("before, after", [(1, 3), (3, 1), (4, 1)])
def test_a_grey_picture_is_the_same_to_a_net_of_other_channels(model_type, backbone, loss, before, after):
    model = small_model(model_type, backbone, num_channels=before, reconstruction_loss=loss)
    if after == 1 and loss in ("bce", "logit_laplace"):
        with pytest.raises(ValueError, match=f"reconstruction_loss {loss}, whose mean picture is not a linear map"):
            how_channels_change(model.config, after)
        return
    other = small_model(model_type, backbone, num_channels=after, reconstruction_loss=loss)
    other.load_state_dict(change_channels(model, after))
    grey = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.double) * 2 - 1
    pictures = [grey.repeat(1, net.config.num_channels, 1, 1) for net in (model, other)]
    with torch.no_grad():
        was, now = model.encode(pictures[0]), other.encode(pictures[1])
        painted, paints = model.decode(was.latents).sample, other.decode(now.latents).sample
    assert torch.allclose(was.latents, now.latents, rtol=0, atol=1e-12)
    if "image_tokens" in was:
        assert torch.equal(was.image_tokens, now.image_tokens)
    mean = painted.mean(1, keepdim=True)  # of a grey picture, which a net of several channels need not paint grey
    assert torch.allclose(paints, mean.expand_as(paints), rtol=0, atol=1e-12)
    assert how_channels_change(model.config, after).startswith(f"{before} channel")
    assert how_channels_change(model.config, before) is None


def test_a_net_of_grey_pictures_trains_on_with_colours(parents, tmp_path, capsys):
    flags = ("--num_channels", "3", "--train_only", "decoder", "--max_train_steps", "1")
    assert train_here(on_from(parents("ema"), tmp_path / "run", "ema", *flags)) == 0
    said = capsys.readouterr().out
    assert "1 channel becomes 3: the first layer's weights are repeated and divided by 3" in said
    assert "keeps its tokens" not in said  # pictures in colour had none before, and sums round otherwise
    record = json.loads((tmp_path / "run/metrics.json").read_text())["parent"]
    assert record["num_channels"] == [1, 3] and record["keeps_tokens"] is False
    models = [AutoModel.from_pretrained(place).eval() for place in (parents("ema"), tmp_path / "run")]
    grey = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one, three = (m.encode(grey.repeat(1, m.config.num_channels, 1, 1)).latents for m in models)
    assert torch.allclose(one, three, atol=1e-5)
    processor = json.loads((tmp_path / "run/preprocessor_config.json").read_text())
    assert processor["num_channels"] == 3


def test_without_num_channels_pictures_get_the_channels_of_the_parent(parents, tmp_path):
    folder = tmp_path / "colours"
    assert train_here(on_from(parents("vae"), folder, "vae", "--num_channels", "3", "--max_train_steps", "1")) == 0
    assert train_here(on_from(folder, tmp_path / "run", "vae", "--max_train_steps", "1")) == 0  # digits are grey
    assert AutoModel.from_pretrained(tmp_path / "run").config.num_channels == 3
