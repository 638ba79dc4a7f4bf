# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""docs/converting.md: every command of its tables runs, on small nets under the authors' names."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from documents import run_snippets
from peer_nets import CHAMELEON, JANUS, drawn
from safetensors.torch import save_file
from transformers import AutoModel, FlavaImageCodebook
from transformers.models.chameleon.modeling_chameleon import ChameleonVQVAE, ChameleonVQVAEConfig
from transformers.models.flava.configuration_flava import FlavaImageCodebookConfig
from transformers.models.janus.modeling_janus import JanusVQVAE, JanusVQVAEConfig

from hf_autoencoders.commands import convert, export
from hf_autoencoders.hub.converters import SOURCES
from hf_autoencoders.hub.exporters import EXPORTS
from hf_autoencoders.hub.verification import FIXTURES, read_fixture


PAGE = (Path(__file__).resolve().parents[1] / "docs" / "converting.md").read_text()
COMMANDS = [line.split() for line in re.findall(r"`python scripts/((?:convert|export)\.py [^`]+)`", PAGE)]


def weights_of(name):
    return read_fixture(FIXTURES / f"{name}.safetensors").weights


def half_of_dalle(part):
    weights = weights_of("openai_dvae")
    return {name.removeprefix(f"{part}."): tensor for name, tensor in weights.items() if name.startswith(part)}


def write_what_people_have():
    """The files that the page names, in the working folder."""
    torch.save(half_of_dalle("encoder"), "encoder.pkl")
    torch.save(half_of_dalle("decoder"), "decoder.pkl")
    for name, file in (("taming_vqgan", "last.ckpt"), ("taming_gumbel", "gumbel.ckpt"), ("ldm_kl", "model.ckpt")):
        torch.save({"state_dict": weights_of(name)}, file)
    for name, file in (("taming_vqgan", "model.yaml"), ("ldm_kl", "config.yaml")):
        Path(file).write_text(yaml.safe_dump(read_fixture(FIXTURES / f"{name}.safetensors").settings))
    first_stage = {f"first_stage_model.{name}": tensor for name, tensor in weights_of("ldm_kl").items()}
    save_file({**first_stage, "cond_stage_model.w": torch.ones(1)}, "v1-5-pruned.safetensors")
    save_file({n: w for n, w in weights_of("ldm_kl").items() if n.startswith(("encoder", "decoder"))}, "ae.safetensors")
    torch.save({"model": weights_of("llamagen_vq"), "steps": 3}, "vq_ds16_c2i.pt")
    fixture = read_fixture(FIXTURES / "lucidrains_dvae.safetensors")
    torch.save({"hparams": fixture.settings, "weights": fixture.weights}, "vae.pt")
    torch.save(weights_of("zalando_vqvae"), "vqvae.pt")
    AutoencoderKL(sample_size=16).save_pretrained("sd-vae-ft-mse")
    sizes = {"hidden_size": 8, "num_blocks_per_group": 1, "vocab_size": 32}
    drawn(FlavaImageCodebook(FlavaImageCodebookConfig(**sizes))).save_pretrained("flava-image-codebook")
    drawn(ChameleonVQVAE(ChameleonVQVAEConfig(**CHAMELEON))).save_pretrained("chameleon-7b")
    drawn(JanusVQVAE(JanusVQVAEConfig(**JANUS))).save_pretrained("Janus-Pro-1B")


@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_every_command_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_what_people_have()
    for script, *words in COMMANDS:
        command = convert if script == "convert.py" else export
        assert command.main(words) == 0, (words, capsys.readouterr().err)
        if command is convert:
            AutoModel.from_pretrained(words[words.index("--output_dir") + 1])
    names, _ = run_snippets(PAGE, "converting.md")
    assert names["constants"]["image_mean"] == 0.5
    assert {words[words.index("--to") + 1] for script, *words in COMMANDS if script == "export.py"} == set(EXPORTS)


def test_every_kind_is_named_on_the_page():
    words = {"emu3-vq": "Emu3", "ldm-vq": "latent diffusion", "chameleon-vq": "Chameleon", "janus-vq": "Janus"}
    for kind in SOURCES:
        assert words.get(kind, kind) in PAGE or kind == "diffusers", kind
