# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Models back in the files of the tools they came from: the same bytes, or a refusal that names the reason."""

import json

import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from transformers import FlavaImageCodebook
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig

from hf_autoencoders import AEConfig, AEModel, DVAEConfig, DVAEModel, VAEConfig, VAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.commands.export import main
from hf_autoencoders.hub.converters import convert
from hf_autoencoders.hub.exporters import EXPORTS, export
from hf_autoencoders.hub.verification import FIXTURES, read_fixture, seeded_weights
from hf_autoencoders.hub.weight_files import read_checkpoint


def same_bytes(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype and torch.equal(ours[name], tensor), name


ROUND_TRIPS = [
    ("taming_vqgan", "taming", "last.ckpt"),
    ("taming_gumbel", "taming", "last.ckpt"),
    ("ldm_vq", "ldm", "model.ckpt"),
    ("ldm_kl", "ldm", "model.ckpt"),
    ("llamagen_vq", "llamagen", "model.pt"),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name, to, file", ROUND_TRIPS)
def test_what_was_converted_goes_back_as_it_was(tmp_path, name, to, file, dtype):
    fixture = read_fixture(FIXTURES / f"{name}.safetensors")
    weights = {key: tensor.to(dtype) for key, tensor in fixture.weights.items()}
    model = convert(None, weights, settings=fixture.settings)
    model.save_pretrained(tmp_path / "ours")
    assert main([str(tmp_path / "ours"), "--to", to, str(tmp_path / "out")]) == 0
    back = torch.load(tmp_path / "out" / file, weights_only=True)["model" if to == "llamagen" else "state_dict"]
    unused = [key for key in weights if key == "quantize.codebook_used"]
    assert all(back.pop(key).shape == weights.pop(key).shape for key in unused)
    codebook = [key for key in weights if key.startswith("quantize.embed")]
    same_bytes({key: tensor.to(dtype) if key in codebook else tensor for key, tensor in back.items()}, weights)
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    if "model" in fixture.settings:
        theirs = {"attn_type": "vanilla", **fixture.settings["model"]["params"]["ddconfig"]}
        ours = {"attn_type": "vanilla", **config["model"]["params"]["ddconfig"]}
        assert ours == theirs


def test_an_autoencoder_without_1x1_convolutions_is_one_file_without_them(tmp_path):
    kl = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2, latent_channels=16,
        block_out_channels=[32, 64], use_quant_conv=False, use_post_quant_conv=False, sample_size=16,
    ).half()  # fmt: skip
    kl.save_pretrained(tmp_path / "kl")
    file = tmp_path / "ae.safetensors"
    assert main([str(tmp_path / "kl"), "--to", "ldm", str(file)]) == 0
    weights = load_file(file)
    assert not any("quant_conv" in name for name in weights) and "decoder.up.1.upsample.conv.weight" in weights
    model = convert("flux-vae", weights, 16)
    export(model, "ldm", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    assert main([str(file), "--to", "diffusers", str(tmp_path / "diffusers")]) == 0
    assert json.loads((tmp_path / "diffusers" / "config.json").read_text())["use_quant_conv"] is False
    same_bytes(read_checkpoint(tmp_path / "diffusers").weights, kl.state_dict())


@torch.no_grad()
def test_flava_s_codebook_goes_back_as_it_was_and_takes_any_dvae_encoder(tmp_path):
    net = FlavaImageCodebook(FlavaImageCodebookConfig(hidden_size=8, num_blocks_per_group=2, vocab_size=40))
    net.load_state_dict(seeded_weights({name: list(w.shape) for name, w in net.state_dict().items()}, seed=0))
    net.save_pretrained(tmp_path / "theirs")
    checkpoint = read_checkpoint(tmp_path / "theirs")
    export(convert(None, checkpoint.weights, 16), "flava", tmp_path / "back")
    same_bytes(read_checkpoint(tmp_path / "back").weights, checkpoint.weights)
    model = DVAEModel(DVAEConfig(image_size=16, block_out_channels=[8, 16, 32, 64], codebook_size=40)).eval()
    export(model, "flava", tmp_path / "ours")
    pixels = torch.rand(2, 3, 16, 16)
    tokens = FlavaImageCodebook.from_pretrained(tmp_path / "ours").get_codebook_indices(0.8 * pixels + 0.1)
    assert torch.equal(tokens, model.get_image_tokens(2 * pixels - 1))


RESNET = {"image_size": 16, "backbone": "resnet", "block_out_channels": [32, 64], "layers_per_block": 1}
CODES = {"codebook_size": 16, "codebook_dim": 8, "quantizer": "vq"}
SOFT = {"codebook_size": 16, "codebook_dim": 8, "reconstruction_loss": "l1"}


def vqvae(**fields):
    return VQVAEModel(VQVAEConfig(**{**RESNET, **CODES, **fields}))


@torch.no_grad()
@pytest.mark.parametrize("quantizer", ["l2", "ema", "simvq"])
def test_other_codebooks_of_looked_up_vectors_are_exact(tmp_path, quantizer):
    fields = {"codebook_init": "uniform", "revive_dead_codes": False} if quantizer == "ema" else {}
    model = vqvae(quantizer=quantizer, **fields).eval()
    export(model, "taming", tmp_path / "vq.safetensors")
    back = convert("taming-vqgan", load_file(tmp_path / "vq.safetensors"), 16)
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.equal(back.get_image_tokens(pixels), model.get_image_tokens(pixels))
    torch.testing.assert_close(back.reconstruct(pixels), model.reconstruct(pixels), atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_dvae_with_one_convolution_to_its_logits_is_taming_s_gumbel_net(tmp_path):
    model = DVAEModel(DVAEConfig(**RESNET, **SOFT)).eval()
    export(model, "taming", tmp_path / "gumbel.safetensors")
    back = convert("taming-gumbel", load_file(tmp_path / "gumbel.safetensors"), 16)
    pixels = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(back.encode(pixels).latents, model.encode(pixels).latents, atol=1e-5, rtol=0)
    torch.testing.assert_close(back.reconstruct(pixels), model.reconstruct(pixels), atol=1e-5, rtol=0)


REFUSALS = [
    ("taming", lambda: VAEModel(VAEConfig(**RESNET)), "it is a vae; vqvae and dvae can be held"),
    ("taming", lambda: VQVAEModel(VQVAEConfig(**{**CODES, "image_size": 16})), "its backbone is `conv`"),
    ("taming", lambda: vqvae(norm_num_groups=16), "its norms have 16 groups, theirs 32"),
    ("taming", lambda: vqvae(reconstruction_loss="bce"), "which with `bce` ours does not"),
    ("taming", lambda: vqvae(mid_block_add_attention=False), "their net attends in the middle"),
    ("taming", lambda: vqvae(quantizer="fsq"), "its quantizer is `fsq`"),
    ("taming", lambda: vqvae(normalize_look_up=True), "normalize_look_up"),
    ("taming", lambda: vqvae(block_out_channels=[64, 96]), r"multiples of the first one, its are \[64, 96\]"),
    ("taming", lambda: DVAEModel(DVAEConfig(**RESNET, **SOFT, latent_channels=6)), r"around the codes are \[6, 8\]"),
    ("taming", lambda: vqvae(encoder_only=True), "it is an encoder alone"),
    ("ldm", lambda: DVAEModel(DVAEConfig(**RESNET, **SOFT)), "it is a dvae; vae and vqvae can be held"),
    ("ldm", lambda: AEModel(AEConfig(**RESNET)), "it is a ae"),
    ("ldm", lambda: vqvae(mid_block_add_attention=False, attention_levels=[0]), "at levels and not in the middle"),
    ("llamagen", lambda: vqvae(attention_levels=[0, 1]), r"at the coarsest level \[1\] alone, it at \[0, 1\]"),
    ("llamagen", lambda: vqvae(quantizer="residual"), "its quantizer is `residual`"),
    ("flava", vqvae, "it is a vqvae; dvae can be held"),
    ("flava", lambda: DVAEModel(DVAEConfig(image_size=16)), "four groups, each twice as wide"),
    ("diffusers", lambda: AEModel(AEConfig(**RESNET)), "no class for a ae"),
]


@pytest.mark.parametrize("to, make, says", REFUSALS)
def test_what_a_format_cannot_hold_is_refused_by_name_before_anything_is_written(tmp_path, to, make, says):
    with pytest.raises(ValueError, match=says):
        export(make(), to, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_format_is_tried_here():
    tried = {to for _, to, _ in ROUND_TRIPS} | {to for to, _, _ in REFUSALS} | {"onnx"}
    assert tried == set(EXPORTS)


def test_mistakes_in_the_command_are_one_line(tmp_path, capsys):
    vqvae().save_pretrained(tmp_path / "run")
    (tmp_path / "file").write_text("")
    capsys.readouterr()
    for run, to, out, says in (
        ("none", "taming", "out", "There is no file or folder"),
        ("run", "flava", "out", "FlavaImageCodebook cannot hold this model"),
        ("run", "onnx", "out.safetensors", "onnx is written to a folder"),
        ("run", "taming", "file", "is a file"),
    ):
        assert main([str(tmp_path / run), "--to", to, str(tmp_path / out)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("hf-autoencoders export: ") and err.count("\n") == 1 and says in err


# -- ONNX --------------------------------------------------------------------------------------------------------------

SMALL = {"image_size": 8, "num_channels": 1, "block_out_channels": [8, 16], "layers_per_block": 1}


@torch.no_grad()
@pytest.mark.parametrize("kind", ["vqvae", "dvae"])
def test_onnx_gives_the_same_tokens_for_pictures_of_any_number_and_size(tmp_path, kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    codes = {"codebook_size": 64, "codebook_dim": 8}
    if kind == "vqvae":
        model = VQVAEModel(VQVAEConfig(**SMALL, **codes, quantizer="vq")).eval()
        rows = model.encode(torch.rand(8, 1, 16, 16) * 2 - 1).latents.permute(0, 2, 3, 1).flatten(0, 2)
        model.quantize.embedding.weight.copy_(rows[torch.randperm(len(rows))[:64]])  # codes among the latents
    else:
        model = DVAEModel(DVAEConfig(**SMALL, **codes)).eval()
    (note,) = export(model, "onnx", tmp_path)
    assert note.startswith("onnxruntime gives the same tokens, and pictures within")
    encode, decode = (onnxruntime.InferenceSession(tmp_path / f"{name}.onnx") for name in ("encode", "decode"))
    for number, height, width in ((1, 2, 4), (500, 8, 8)):
        pixels = torch.rand(number, 1, height, width) * 2 - 1
        tokens = torch.from_numpy(encode.run(["image_tokens"], {"pixel_values": pixels.numpy()})[0])
        assert torch.equal(tokens, model.get_image_tokens(pixels))
        assert number == 1 or len(tokens.unique()) > 8
        pictures = torch.from_numpy(decode.run(["sample"], {"image_tokens": tokens.numpy()})[0])
        torch.testing.assert_close(pictures, model.decode_image_tokens(tokens), atol=1e-5, rtol=0)
    metadata = encode.get_modelmeta().custom_metadata_map
    said = {name: json.loads(metadata[name]) for name in ("size", "image_mean", "image_std", "rescale_factor")}
    assert said == {"size": {"height": 8, "width": 8}, "image_mean": 0.5, "image_std": 0.5, "rescale_factor": 1 / 255}
    assert json.loads(metadata["codebook_size"]) == 64 and json.loads(metadata["downsample_factor"]) == 2


def test_onnx_gives_the_latents_of_models_without_codes(tmp_path):
    pytest.importorskip("onnxruntime")
    (note,) = export(VAEModel(VAEConfig(image_size=8, num_channels=1, backbone="mlp")).eval(), "onnx", tmp_path)
    assert note.startswith("onnxruntime gives latents within")
