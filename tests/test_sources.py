# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Every kind of published weights: recognised by its names, the same function as its authors' code, nothing lost.

The stored fixtures hold what the authors' own code gave for weights that a seed draws; transformers and diffusers run
here beside ours.
"""

import json

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, VQModel
from peer_nets import CHAMELEON, JANUS, drawn, pictures
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoImageProcessor, AutoModel, Emu3VQVAE, Emu3VQVAEConfig, FlavaImageCodebook
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE, ChameleonVQVAEConfig
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.janus.modeling_janus import JanusVQVAE, JanusVQVAEConfig

from hf_autoencoders.commands.convert import main
from hf_autoencoders.hub.converters import SOURCES, build, conversion_of, convert, recognise
from hf_autoencoders.hub.source_vqgan import to_taming
from hf_autoencoders.hub.verification import (
    FIXTURES,
    compare_with_fixture,
    read_fixture,
    seeded_weights,
    verify,
)
from hf_autoencoders.hub.weight_files import read_checkpoint


STORED = {
    "openai_dvae": "openai-dvae",
    "taming_vqgan": "taming-vqgan",
    "taming_gumbel": "taming-gumbel",
    "ldm_kl": "ldm-kl",
    "ldm_vq": "ldm-vq",
    "llamagen_vq": "llamagen-vq",
    "lucidrains_dvae": "lucidrains-dvae",
    "lucidrains_plain": "lucidrains-dvae",
    "zalando_vqvae": "zalando-vqvae",
    "zalando_plain": "zalando-vqvae",
}


def test_every_stored_fixture_is_tried_below():
    assert {path.stem for path in FIXTURES.glob("*.safetensors")} == set(STORED)
    assert {source.fixture for source in SOURCES.values()} - {""} <= set(STORED)


@pytest.mark.parametrize("name, kind", STORED.items())
def test_latents_codes_and_pixels_are_those_of_the_authors_code(name, kind):
    fixture = read_fixture(FIXTURES / f"{name}.safetensors")
    assert recognise(fixture.weights, fixture.settings).name == kind
    stages = compare_with_fixture(SOURCES[kind], FIXTURES / f"{name}.safetensors").stages
    assert stages.pop("codes that differ", 0) == 0
    assert {"latents", "pixels"} <= stages.keys() and max(stages.values()) <= 1e-5
    if "codes" in fixture.io:
        assert len(fixture.io["codes"].unique()) >= 3


def test_seeded_weights_are_the_same_on_every_machine():
    weights = seeded_weights({"b.weight": [2, 2], "a.bias": [2], "norm.weight": [1]}, seed=7)
    assert list(weights) == ["a.bias", "b.weight", "norm.weight"]
    drawn = [tensor.flatten().tolist() for tensor in weights.values()]
    assert drawn[0] == pytest.approx([0.0069845, -0.0602394], abs=1e-6)
    assert drawn[1] == pytest.approx([0.5515255, 0.5434839, -0.9257411, -0.2595949], abs=1e-6)
    assert drawn[2] == pytest.approx([0.9414172], abs=1e-6)


# -- what a kind carries beside its weights ----------------------------------------------------------------------------


def config_of(name, **settings):
    fixture = read_fixture(FIXTURES / f"{name}.safetensors")
    return conversion_of(None, fixture.weights, settings={**fixture.settings, **settings})[1].config


def test_the_config_carries_how_the_original_was_trained_and_how_large_its_pictures_were():
    taming = config_of("taming_vqgan")
    assert taming.legacy_commitment and taming.attention_levels == [1, 2] and taming.image_size == 16
    gumbel = config_of("taming_gumbel")
    assert gumbel.hard and gumbel.logits_channels == 8 and gumbel.kl_weight == pytest.approx(1e-8 * 3 * 16 / 2)
    kl = config_of("ldm_kl")
    assert (kl.latent_channels, kl.encoder_channels, kl.kl_weight) == (3, 5, 5e-7)
    without = config_of("ldm_vq")
    assert not without.mid_block_add_attention and without.attention_levels == []
    assert config_of("llamagen_vq").normalize_codes and not config_of("llamagen_vq").legacy_commitment
    lucidrains = config_of("lucidrains_dvae", straight_through=True)
    assert lucidrains.hard and lucidrains.kl_weight == 0 and lucidrains.image_size == 16
    assert config_of("zalando_vqvae").quantizer == "ema" and config_of("zalando_plain").quantizer == "vq"
    assert config_of("openai_dvae").kl_weight == 6.6


def test_moving_averages_go_on_from_their_counts():
    fixture = read_fixture(FIXTURES / "zalando_vqvae.safetensors")
    source, conversion = conversion_of(None, fixture.weights, 16)
    state = build(conversion).quantize.state
    assert torch.equal(state.counts, fixture.weights["_vq_vae._ema_cluster_size"]) and state.is_initialized
    assert conversion.left_behind == ("_vq_vae._ema_w",)  # the sums are counts times vectors


def test_another_normalisation_is_refused():
    with pytest.raises(ValueError, match="only 0.5 and 0.5 can be converted"):
        config_of("lucidrains_dvae", normalization=[[0.4] * 3, [0.5] * 3])


@pytest.mark.parametrize(
    "neighbour, kind, factors",
    [
        ("cond_stage_model.transformer.weight", "sd-vae", (0.18215, None)),
        ("conditioner.embedders.0.weight", "sdxl-vae", (0.13025, None)),
        ("model.diffusion_model.joint_blocks.0.weight", "sd3-vae", (1.5305, 0.0609)),
        ("model.diffusion_model.double_blocks.0.weight", "flux-vae", (0.3611, 0.1159)),
        ("model.diffusion_model.out.weight", "ldm-kl", (1.0, None)),
    ],
)
def test_a_first_stage_is_told_by_what_was_trained_on_it(neighbour, kind, factors):
    fixture = read_fixture(FIXTURES / "ldm_kl.safetensors")
    weights = {f"first_stage_model.{name}": tensor for name, tensor in fixture.weights.items()}
    source, conversion = conversion_of(None, {**weights, neighbour: torch.zeros(1)}, 16)
    assert source.name == kind and conversion.left_behind == (neighbour,)
    assert (conversion.config.scaling_factor, conversion.config.shift_factor) == factors


# -- nets of diffusers under LDM's names -------------------------------------------------------------------------------

BLOCKS = {
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [32, 64],
    "sample_size": 16,
}


@torch.no_grad()
@pytest.mark.parametrize("prefix, convolutions", [("first_stage_model.", True), ("", True), ("", False)])
def test_one_file_under_ldm_s_names_is_diffusers_autoencoder(tmp_path, prefix, convolutions):
    kl = drawn(AutoencoderKL(**BLOCKS, use_quant_conv=convolutions, use_post_quant_conv=convolutions))
    theirs = {f"{prefix}{name}": w.contiguous() for name, w in to_taming(kl.state_dict()).items()}
    assert any(name.startswith(f"{prefix}decoder.up.1.block.0") for name in theirs)
    save_file({name: w.half() for name, w in theirs.items()}, tmp_path / "vae.safetensors")
    checkpoint = read_checkpoint(tmp_path / "vae.safetensors")
    model = convert("flux-vae", checkpoint.weights, 16)
    assert model.dtype == torch.float16 and model.config.scaling_factor == 0.3611
    model, kl = model.float(), kl.half().float()
    torch.testing.assert_close(
        model.encode(pictures()).latents, kl.encode(pictures()).latent_dist.mean, atol=1e-5, rtol=0
    )
    torch.testing.assert_close(model.reconstruct(pictures()), kl(pictures()).sample, atol=1e-5, rtol=0)


@torch.no_grad()
def test_attention_under_its_old_names_and_as_convolutions(tmp_path):
    vq = drawn(VQModel(**BLOCKS, num_vq_embeddings=32))
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, tensor in vq.state_dict().items():
        for new, old in names.items():
            name = name.replace(f".{new}.", f".{old}.")
        weights[name] = tensor[:, :, None, None] if "proj_attn.weight" in name else tensor
    assert any(".query." in name for name in weights)
    model = convert(None, weights, 16)
    torch.testing.assert_close(model.reconstruct(pictures()), vq(pictures()).sample, atol=1e-5, rtol=0)


# -- transformers ------------------------------------------------------------------------------------------------------


def saved(net, folder):
    net.save_pretrained(folder)
    return folder


def verified(folder):
    checkpoint = read_checkpoint(folder)
    source, conversion = conversion_of(None, checkpoint.weights, settings=checkpoint.settings)
    model = build(conversion)
    return source.name, verify(source, model, checkpoint.weights, checkpoint.settings), model, conversion


def test_flava_s_codebook_encodes_and_refuses_to_decode(tmp_path):
    net = drawn(FlavaImageCodebook(FlavaImageCodebookConfig(hidden_size=8, num_blocks_per_group=1, vocab_size=32)))
    kind, compared, model, conversion = verified(saved(net, tmp_path))
    assert kind == "flava-codebook" and compared.stages["codes that differ"] == 0
    assert compared.stages["latents"] <= 1e-6 and "FlavaImageCodebook" in compared.against
    tokens = model.get_image_tokens(pictures())
    for ask in (model.decode_image_tokens, model.decode):
        with pytest.raises(ValueError, match="an encoder alone .* can neither decode nor be trained"):
            ask(tokens)
    for ask in (model, model.reconstruct):
        with pytest.raises(ValueError, match="an encoder alone"):
            ask(pictures())
    with pytest.raises(ValueError, match="an encoder alone"):
        model.sample(1)
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(AutoModel.from_pretrained(tmp_path / "ours").get_image_tokens(pictures()), tokens)


def test_chameleon_s_tokenizer_is_taming_s_encoder(tmp_path):
    net = drawn(ChameleonVQVAE(ChameleonVQVAEConfig(**CHAMELEON)))
    kind, compared, model, conversion = verified(saved(net, tmp_path))
    assert kind == "chameleon-vq" and compared.stages["codes that differ"] == 0
    assert compared.stages["latents"] <= 1e-5 and model.config.attention_levels == [1]
    assert conversion.left_behind == ("post_quant_conv.bias", "post_quant_conv.weight")
    assert model.config.legacy_commitment and model.config.encoder_only and model.config.image_size == 16


def test_janus_tokenizer_decodes_vectors_of_length_one_and_compares_them_as_they_are(tmp_path):
    net = drawn(JanusVQVAE(JanusVQVAEConfig(**JANUS, num_patches=8)))
    kind, compared, model, conversion = verified(saved(net, tmp_path))
    assert kind == "janus-vq" and compared.stages["codes that differ"] == 0
    assert compared.stages["latents"] <= 1e-5 and compared.stages["pixels"] <= 1e-5
    assert model.config.normalize_look_up and not model.config.normalize_codes


def test_the_image_part_of_a_whole_model_is_found_and_the_rest_not_even_read(tmp_path):
    net = drawn(ChameleonVQVAE(ChameleonVQVAEConfig(**CHAMELEON)))
    parts = {f"model.vqmodel.{name}": tensor for name, tensor in net.state_dict().items()}
    save_file(parts, tmp_path / "model-00002-of-00002.safetensors")
    place = dict.fromkeys(parts, "model-00002-of-00002.safetensors") | {
        "lm_head.weight": "model-00001-of-00002.safetensors"
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "chameleon", "vq_config": CHAMELEON}))
    kind, compared, model, conversion = verified(tmp_path)
    assert kind == "chameleon-vq" and compared.stages["codes that differ"] == 0 and model.config.image_size == 16


def test_another_model_of_transformers_is_not_taken_for_one_of_these():
    weights = dict(drawn(ChameleonVQVAE(ChameleonVQVAEConfig(**CHAMELEON))).state_dict())
    assert recognise(weights).name == "chameleon-vq"
    with pytest.raises(ValueError, match="of no kind that can be converted"):
        recognise(weights, {"model_type": "glm_image_vqmodel"})


def test_emu3_s_net_for_video_is_refused_by_name():
    with torch.device("meta"):
        net = Emu3VQVAE(Emu3VQVAEConfig(base_channels=32, channel_multiplier=[1, 1], num_res_blocks=1))
    with pytest.raises(ValueError, match="Emu3's VQ-VAE is a net for video: 3-D convolutions"):
        conversion_of(None, dict(net.state_dict()))


# -- the command -------------------------------------------------------------------------------------------------------


def write_weights(name, file, **beside):
    fixture = read_fixture(FIXTURES / f"{name}.safetensors")
    torch.save({"state_dict": fixture.weights, **beside}, file)
    return fixture


@torch.no_grad()
def test_a_converted_folder_is_an_ordinary_one_with_the_original_s_card(tmp_path, capsys):
    fixture = write_weights("taming_vqgan", tmp_path / "last.ckpt", global_step=3)
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(fixture.settings))
    command = [
        tmp_path / "last.ckpt",
        "--config",
        tmp_path / "model.yaml",
        "--output_dir",
        tmp_path / "out",
        "--verify",
    ]
    assert main([str(word) for word in command]) == 0
    out = capsys.readouterr().out
    assert "taming-vqgan (recognised by the names of the weights): VQGAN" in out
    assert "codes that differ 0" in out and "24 codes, 4x4 tokens for a picture of 16x16" in out
    model, processor = (auto.from_pretrained(tmp_path / "out") for auto in (AutoModel, AutoImageProcessor))
    assert torch.equal(model.get_image_tokens(fixture.io["pixel_values"]), fixture.io["codes"])
    assert processor.size["height"] == 16
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: mit" in card and "esser2021taming" in card and "github.com/CompVis/taming-transformers" in card


def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys):
    write_weights("taming_vqgan", tmp_path / "last.ckpt")
    for command, says in (
        ([tmp_path / "none.pt"], "There is no file or folder"),
        (["llamagen-vq", tmp_path / "last.ckpt"], "not the weights that this conversion is for"),
        ([tmp_path / "last.ckpt", "--image_size", "18"], "`image_size` must be a multiple of 4"),
        ([tmp_path / "last.ckpt", "--image_size", "0"], "--image_size takes a side"),
        ([tmp_path / "last.ckpt", "--config", tmp_path / "last.ckpt"], "cannot be read as YAML"),
        (["sd-vae", tmp_path / "last.ckpt", "--verify", tmp_path / "last.ckpt"], "2 of no use|of no use"),
    ):
        assert main([str(word) for word in [*command, "--output_dir", tmp_path / "out"]]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and any(part in err for part in says.split("|")), err
    assert not (tmp_path / "out").exists()


def test_a_fixture_that_disagrees_shows_it(tmp_path):
    with safe_open(FIXTURES / "zalando_plain.safetensors", "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors["io/reconstruction"] = tensors["io/reconstruction"] + 0.25
    tensors["io/codes"] = tensors["io/codes"].roll(1, -1)
    save_file(tensors, tmp_path / "other.safetensors", metadata=metadata)
    stages = compare_with_fixture(SOURCES["zalando-vqvae"], tmp_path / "other.safetensors").stages
    assert stages["codes that differ"] > 0 and stages["pixels"] > 0.1
