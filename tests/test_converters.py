# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Published weights in our models: the same function as their authors' code, and nothing lost on the way.

The parity files hold weights, inputs and outputs of the authors' own code; without them those tests are skipped, and
the rest makes weights under the authors' names out of ours.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, VQModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from hf_autoencoders.hub.converters import SOURCES, conversion_of, convert
from hf_autoencoders.hub.source_openai import openai_dvae
from hf_autoencoders.hub.weight_files import read_weights
from hf_autoencoders.hub.weight_names import check_names_and_shapes, rename, rename_back
from hf_autoencoders.models.configuration_dvae import DVAEConfig
from hf_autoencoders.models.configuration_vae import VAEConfig
from hf_autoencoders.models.configuration_vqvae import VQVAEConfig
from hf_autoencoders.models.modeling_dvae import DVAEModel
from hf_autoencoders.models.modeling_vae import VAEModel
from hf_autoencoders.models.modeling_vqvae import VQVAEModel


REPOSITORY = Path(__file__).resolve().parents[1]
PARITY = Path(os.environ.get("HF_AUTOENCODERS_DATA", REPOSITORY.parent / "shared")) / "parity"
CLOSE = {"rtol": 1e-5, "atol": 1e-5}

needs_parity = [
    pytest.mark.mnist,
    pytest.mark.skipif(not PARITY.is_dir(), reason=f"no {PARITY}; HF_AUTOENCODERS_DATA names the folder above it"),
]


class Parity:
    """One parity file: `.weights` under the authors' names, `.io` of their code, `.config` of their net."""

    def __init__(self, name):
        with safe_open(PARITY / f"{name}.safetensors", "pt") as file:
            keys = file.keys()
            tensors = {key: file.get_tensor(key) for key in keys}
            self.config = json.loads(file.metadata()["config"])
        self.weights = {key.removeprefix("weights/"): t for key, t in tensors.items() if key.startswith("weights/")}
        self.io = {key.removeprefix("io/"): t for key, t in tensors.items() if key.startswith("io/")}


def randomized(model, seed=0):
    torch.manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


def vqgan(**fields):
    config = VQVAEConfig(
        backbone="resnet", image_size=16, block_out_channels=(32, 64), layers_per_block=1, attention_levels=(1,),
        latent_channels=8, codebook_size=16, codebook_dim=4, quantizer="vq", **fields,
    )  # fmt: skip
    return randomized(VQVAEModel(config))


# -- the authors' own code ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parity():
    return Parity("openai_dvae")


@pytest.fixture(scope="module")
def model(parity):
    return convert("openai-dvae", parity.weights, image_size=32)


class TestOpenAI:
    pytestmark = needs_parity

    def test_sizes_are_those_of_the_authors_config(self, model, parity):
        n_hid, config = parity.config["n_hid"], model.config
        assert list(config.block_out_channels) == [n_hid, 2 * n_hid, 4 * n_hid, 8 * n_hid]
        assert config.layers_per_block == parity.config["n_blk_per_group"]
        assert (config.codebook_size, config.codebook_dim) == (parity.config["vocab_size"], parity.config["n_init"])

    @torch.no_grad()
    def test_logits_and_codes_are_openai_s(self, model, parity):
        encoded = model.encode(2 * parity.io["pixel_values"] - 1)  # theirs in [0, 1], ours in [-1, 1]
        torch.testing.assert_close(encoded.latents, parity.io["encoder_logits"], **CLOSE)
        assert torch.equal(encoded.image_tokens, parity.io["codes"])

    @torch.no_grad()
    def test_decoded_codes_are_openai_s_statistics_and_picture(self, model, parity):
        decoded = model.decode(parity.io["codes"])
        torch.testing.assert_close(decoded.logits, parity.io["decoder_stats"], **CLOSE)
        torch.testing.assert_close((decoded.sample + 1) / 2, parity.io["reconstruction"], **CLOSE)

    @torch.no_grad()
    def test_forward_in_eval_is_encode_argmax_decode(self, model, parity):
        output = model(2 * parity.io["pixel_values"] - 1)
        torch.testing.assert_close((output.reconstruction + 1) / 2, parity.io["reconstruction"], **CLOSE)

    @torch.no_grad()
    def test_codebook_is_the_input_convolution_for_probabilities_too(self, model, parity):
        probabilities = torch.rand(1, model.config.codebook_size, 4, 4).softmax(1)
        weight, bias = (parity.weights[f"decoder.blocks.input.{name}"] for name in "wb")
        expected = torch.nn.functional.conv2d(probabilities, weight, bias)
        vectors = torch.einsum("bkhw,kd->bdhw", probabilities, model.quantize.embedding.weight)
        torch.testing.assert_close(vectors, expected)


@pytest.mark.parametrize("name, kind", [("taming_vqgan", "taming-vqgan"), ("llamagen_vq", "llamagen-vq")])
class TestVQGANFamily:
    pytestmark = needs_parity

    @torch.no_grad()
    def test_latents_codes_and_picture_are_the_authors(self, name, kind):
        parity = Parity(name)
        model = convert(kind, parity.weights, image_size=32)
        encoded = model.encode(parity.io["pixel_values"])
        torch.testing.assert_close(encoded.latents, parity.io["pre_quant"], **CLOSE)
        assert torch.equal(encoded.image_tokens, parity.io["codes"])
        torch.testing.assert_close(model.decode(parity.io["codes"]).sample, parity.io["reconstruction"], **CLOSE)
        torch.testing.assert_close(
            model(parity.io["pixel_values"]).reconstruction, parity.io["reconstruction"], **CLOSE
        )

    def test_sizes_are_those_of_the_authors_config(self, name, kind):
        parity = Parity(name)
        theirs = parity.config.get("ddconfig", parity.config)
        config = conversion_of(kind, parity.weights, 32)[1].config
        assert list(config.block_out_channels) == [theirs["ch"] * factor for factor in theirs["ch_mult"]]
        assert config.layers_per_block == theirs.get("num_res_blocks", 2)  # 2 is LlamaGen's default
        assert config.latent_channels == theirs["z_channels"]
        assert config.codebook_size == parity.config.get("n_embed", parity.config.get("codebook_size"))
        assert config.codebook_dim == parity.config.get("embed_dim", parity.config.get("codebook_embed_dim"))
        assert list(config.attention_levels) == [2]  # 8x8 of 32x32: taming's attn_resolutions, LlamaGen's lowest
        assert config.normalize_codes is parity.config.get("codebook_l2_norm", False)

    def test_a_weight_too_many_or_too_few_is_refused_by_name(self, name, kind):
        weights = Parity(name).weights
        with pytest.raises(ValueError, match=r"1 of no use: encoder\.extra\.weight"):
            convert(kind, {**weights, "encoder.extra.weight": torch.zeros(1)}, image_size=32)
        with pytest.raises(ValueError, match=r"1 missing: decoder\.conv_norm_out\.bias"):
            convert(kind, {key: w for key, w in weights.items() if key != "decoder.norm_out.bias"}, image_size=32)


# -- diffusers: no conversion at all -----------------------------------------------------------------------------------


@torch.no_grad()
def test_vq_model_loads_strictly_both_ways_and_agrees():
    theirs = VQModel(
        block_out_channels=(32, 64), layers_per_block=1, latent_channels=8, num_vq_embeddings=16, vq_embed_dim=4,
        down_block_types=["DownEncoderBlock2D", "AttnDownEncoderBlock2D"],
        up_block_types=["AttnUpDecoderBlock2D", "UpDecoderBlock2D"],
    )  # fmt: skip
    theirs, ours = randomized(theirs), vqgan()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours.encode(x).latents, theirs.encode(x).latents, **CLOSE)
    torch.testing.assert_close(ours(x).reconstruction, theirs(x).sample, **CLOSE)
    theirs.load_state_dict(randomized(ours, seed=1).state_dict(), strict=True)
    torch.testing.assert_close(ours(x).reconstruction, theirs(x).sample, **CLOSE)


@torch.no_grad()
def test_autoencoder_kl_loads_strictly_both_ways_and_agrees():
    blocks = {"block_out_channels": (32, 64), "layers_per_block": 2, "latent_channels": 3}
    theirs = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, **blocks
    )
    config = VAEConfig(backbone="resnet", image_size=16, learned_variance=False, **blocks)
    theirs, ours = randomized(theirs), VAEModel(config).eval()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    ours.load_state_dict(theirs.state_dict(), strict=True)
    torch.testing.assert_close(ours.encode(x).latent_dist.mean, theirs.encode(x).latent_dist.mean, **CLOSE)
    torch.testing.assert_close(ours.encode(x).latent_dist.std, theirs.encode(x).latent_dist.std, **CLOSE)
    torch.testing.assert_close(ours(x).reconstruction, theirs(x).sample, **CLOSE)
    theirs.load_state_dict(randomized(ours, seed=1).state_dict(), strict=True)
    torch.testing.assert_close(ours(x).reconstruction, theirs(x).sample, **CLOSE)


# -- without the parity files: our weights under the authors' names, and back ------------------------------------------


# diffusers' and our names -> the authors'; the inverse of the converters' tables, for two levels
TO_TAMING = (
    (r"\.to_out\.0\.", ".proj_out."), (r"\.to_([qkv])\.", r".\1."), (r"\.group_norm\.", ".norm."),
    (r"mid_block\.resnets\.0", "mid.block_1"), (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"mid_block\.attentions\.0", "mid.attn_1"), (r"conv_norm_out", "norm_out"), (r"conv_shortcut", "nin_shortcut"),
    (r"(down|up)samplers\.0", r"\1sample"), (r"resnets", "block"), (r"attentions", "attn"), (r"down_blocks", "down"),
    (r"up_blocks\.0", "up.one"), (r"up_blocks\.1", "up.0"), (r"up\.one", "up.1"),
)  # fmt: skip
TO_LLAMAGEN = (
    (r"\.to_out\.0\.", ".proj_out."), (r"\.to_([qkv])\.", r".\1."), (r"\.group_norm\.", ".norm."),
    (r"mid_block\.resnets\.0", "mid.0"), (r"mid_block\.resnets\.1", "mid.2"), (r"mid_block\.attentions\.0", "mid.1"),
    (r"conv_norm_out", "norm_out"), (r"conv_shortcut", "nin_shortcut"), (r"(down|up)samplers\.0", r"\1sample"),
    (r"resnets", "res"), (r"attentions", "attn"), (r"(down|up)_blocks", "conv_blocks"),
)  # fmt: skip


def by_regex(weights, renames):
    """The same weights under names that regular expressions make, one after the other."""
    for pattern, replacement in renames:
        weights = {re.sub(pattern, replacement, name): tensor for name, tensor in weights.items()}
    return weights


def under_authors_names(model, renames):
    matrix = re.compile(r".*\.to_(q|k|v|out\.0)\.weight")
    weights = {n: w[:, :, None, None] if matrix.fullmatch(n) else w for n, w in model.state_dict().items()}
    return by_regex({name: w.clone() for name, w in weights.items()}, renames)


@pytest.mark.parametrize("kind, renames", [("taming-vqgan", TO_TAMING), ("llamagen-vq", TO_LLAMAGEN)])
@torch.no_grad()
def test_vqgan_comes_back_from_the_authors_names(kind, renames):
    model = vqgan(normalize_codes=kind == "llamagen-vq")
    weights = under_authors_names(model, renames)
    assert not any("resnets" in name or "attentions" in name for name in weights)
    weights |= {"loss.logvar": torch.zeros(1)} if kind == "taming-vqgan" else {"quantize.codebook_used": torch.zeros(9)}
    converted = convert(kind, weights, image_size=16)
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(converted(x).reconstruction, model(x).reconstruction)


@torch.no_grad()
def test_openai_weights_come_back_with_the_bias_of_the_input_convolution_in_every_code():
    config = DVAEConfig(image_size=16, block_out_channels=(8, 16), layers_per_block=2, codebook_size=12, codebook_dim=5)
    model = randomized(DVAEModel(config))
    weights = rename(model.state_dict(), ((".weight$", ".w"), (".bias$", ".b")))
    codebook, bias = weights.pop("quantize.embedding.w"), torch.arange(5.0)
    weights["decoder.blocks.input.w"] = (codebook - bias).T[:, :, None, None]
    weights["decoder.blocks.input.b"] = bias
    converted = convert("openai-dvae", weights, image_size=16)
    for field in ("block_out_channels", "layers_per_block", "codebook_size", "codebook_dim", "num_channels"):
        ours, expected = getattr(converted.config, field), getattr(config, field)
        assert list(ours) == list(expected) if field == "block_out_channels" else ours == expected
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(converted(x).reconstruction, model(x).reconstruction)


def test_one_hot_through_a_1x1_convolution_is_a_row_of_the_codebook():
    """By hand: two codes of three numbers, and a bias of (10, 20, 30)."""
    columns = torch.tensor([[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]])  # (D, K)
    weights = {
        "decoder.blocks.input.w": columns[:, :, None, None],
        "decoder.blocks.input.b": torch.tensor([10.0, 20, 30]),
    }
    weights["encoder.blocks.input.w"] = torch.zeros(8, 1, 7, 7)
    codebook = openai_dvae_codebook(weights)
    assert codebook.tolist() == [[11, 22, 33], [14, 25, 36]]


def openai_dvae_codebook(weights):
    weights = {**weights, "encoder.blocks.group_1.block_1.res_path.conv_4.w": torch.zeros(8, 2, 1, 1)}
    weights["encoder.blocks.output.conv.w"] = torch.zeros(2, 8, 1, 1)
    return openai_dvae(weights, 8, {}).weights["quantize.embedding.weight"]


def test_weights_of_another_net_are_refused():
    with pytest.raises(ValueError, match="not the weights that this conversion is for"):
        convert("taming-vqgan", {"classifier.weight": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=f"`kind` must be one of {', '.join(SOURCES)}, got 'vqgan'"):
        convert("vqgan", {})
    with pytest.raises(ValueError, match=r"of no kind that can be converted .* begin with \['classifier.weight'\]"):
        convert(None, {"classifier.weight": torch.zeros(2, 2)})


def test_weights_must_fit_name_by_name_and_shape_by_shape():
    expected = {"a": torch.zeros(2), "b": torch.zeros(3)}
    check_names_and_shapes({"a": torch.ones(2), "b": torch.ones(3)}, expected)
    with pytest.raises(ValueError, match=r"1 missing: b; 1 of no use: c; 1 of another shape: a \(5,\) for \(2,\)"):
        check_names_and_shapes({"a": torch.ones(5), "c": torch.ones(1)}, expected)
    with pytest.raises(ValueError, match="Two weights would be named `x.` in our model"):
        rename({"x.1": torch.zeros(1), "x.2": torch.zeros(1)}, ((".1", "."), (".2", ".")))


def test_a_table_of_names_is_read_in_both_directions():
    table = (("^down.{}.block.{}.", "down_blocks.{}.resnets.{}."), (".mid.", ".middle."), (".w$", ".weight"))
    theirs = ["down.12.block.3.w", "down.1.block.0.w.b", "up.mid.w"]
    ours = ["down_blocks.12.resnets.3.weight", "down_blocks.1.resnets.0.w.b", "up.middle.weight"]
    assert list(rename(dict.fromkeys(theirs), table)) == ours
    assert list(rename_back(dict.fromkeys(ours), table)) == theirs


class Net(nn.Linear):
    """A module that somebody pickled whole."""


def test_files_are_read_without_running_code_in_them(tmp_path, monkeypatch):
    weights = {"a": torch.arange(3.0)}
    save_file(weights, tmp_path / "plain.safetensors")
    torch.save(weights, tmp_path / "plain.pt")
    torch.save({"state_dict": weights, "epoch": 3}, tmp_path / "training.ckpt")
    torch.save({"model": weights, "optimizer": {}}, tmp_path / "llamagen.pt")
    for name in ("plain.safetensors", "plain.pt", "training.ckpt", "llamagen.pt"):
        assert torch.equal(read_weights(tmp_path / name)["a"], weights["a"])
    net = Net(2, 2)
    torch.save(net, tmp_path / "module.pkl")
    monkeypatch.delattr(sys.modules[__name__], "Net")  # the class need not be there
    weights = read_weights(tmp_path / "module.pkl")
    assert weights.keys() == {"weight", "bias"} and torch.equal(weights["weight"], net.weight)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "plain.safetensors").read_bytes()[:-2])
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(tmp_path / "cut.safetensors")
    for content in ({"epoch": 3}, torch.zeros(3)):
        torch.save(content, tmp_path / "other.pt")
        with pytest.raises(ValueError, match="holds no state dict"):
            read_weights(tmp_path / "other.pt")


def run_script(*arguments):
    command = [sys.executable, str(REPOSITORY / "scripts" / "convert.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_script_writes_a_folder_that_loads_and_says_what_it_made(tmp_path):
    config = DVAEConfig(image_size=16, block_out_channels=(8, 16), layers_per_block=1, codebook_size=12, codebook_dim=5)
    weights = rename(randomized(DVAEModel(config)).state_dict(), ((".weight$", ".w"), (".bias$", ".b")))
    weights["decoder.blocks.input.w"] = weights.pop("quantize.embedding.w").T[:, :, None, None].contiguous()
    weights["decoder.blocks.input.b"] = torch.zeros(5)
    for part in ("encoder", "decoder"):
        own = {n.removeprefix(f"{part}."): w.contiguous() for n, w in weights.items() if n.startswith(part)}
        save_file(own, tmp_path / f"{part}.safetensors")
    files = [f"{part}={tmp_path / part}.safetensors" for part in ("encoder", "decoder")]
    result = run_script("openai-dvae", *files, "--image_size", 16, "--output_dir", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    assert "DVAEModel" in result.stdout and "8x8 tokens for a picture of 16x16" in result.stdout
    loaded = DVAEModel.from_pretrained(tmp_path / "out")
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded.get_image_tokens(x), convert("openai-dvae", weights, 16).get_image_tokens(x))
    assert json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())["size"] == {
        "height": 16,
        "width": 16,
    }

    result = run_script("taming-vqgan", files[0], "--output_dir", tmp_path / "other")
    assert result.returncode == 2 and "not the weights that this conversion is for" in result.stderr
    assert not (tmp_path / "other").exists()
