# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Token data sets, priors and the combined artefact on the Hub and back, through a Hub on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub


ROOT = Path(__file__).resolve().parents[1]

PUBLISH = """
import importlib.util, json, sys
from pathlib import Path
import torch
from hf_autoencoders import AutoencoderImageProcessorPil, VQVAEConfig, VQVAEModel

def script(name):
    spec = importlib.util.spec_from_file_location(name, f"scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

torch.manual_seed(0)
config = VQVAEConfig(image_size=8, num_channels=1, block_out_channels=[8, 8, 8], codebook_size=16, quantizer="vq")
vqvae = VQVAEModel(config).eval()
vqvae.push_to_hub("org/vqvae-digits")
AutoencoderImageProcessorPil(num_channels=1, size={"height": 8, "width": 8}).push_to_hub("org/vqvae-digits")

arguments = ["--model", "org/vqvae-digits", "--output_dir", "tokens", "--cpu", "--push_to_hub"]
assert script("encode_dataset").main([*arguments, "--hub_dataset_id", "org/digits-tokens"]) == 0

arguments = ["--image_tokenizer", "org/vqvae-digits", "--token_dataset", "org/digits-tokens", "--output_dir", "prior"]
arguments += ["--cpu", "--max_train_steps", "2", "--hidden_size", "16"]
arguments += ["--push_to_hub", "--hub_model_id", "org/prior-digits"]
assert script("train_prior").main(arguments) == 0

arguments = ["--image_tokenizer", "org/vqvae-digits", "--token_dataset", "org/digits-tokens", "--output_dir", "on"]
arguments += ["--cpu", "--max_train_steps", "1", "--init_from", "org/prior-digits", "--init_revision", "main"]
assert script("train_prior").main(arguments) == 0
parent = json.loads(Path("on/metrics.json").read_text())["parent"]
assert (parent["name"], parent["revision"]) == ("org/prior-digits", "main")
assert "base_model:\\n- org/prior-digits\\n- org/vqvae-digits\\n" in Path("on/README.md").read_text()

from hf_autoencoders.priors.autoregressive import generate_images, load_prior
from hf_autoencoders.priors.token_datasets import TokenDatasetError, load_token_dataset

tokens = load_token_dataset("org/digits-tokens", expect=vqvae, split="test")
assert len(tokens) == 360 and tokens.grid_size == (2, 2) and tokens.record["image_tokenizer"] == "org/vqvae-digits"
assert len(tokens.record["revision"]) == 40
try:
    load_token_dataset("org/vqvae-digits")
except TokenDatasetError as error:
    assert "no data set of image tokens" in str(error)
else:
    raise AssertionError("a model is no data set")

prior = load_prior("org/prior-digits")
assert prior.config.image_token_sequencer["image_tokenizer"] == "org/vqvae-digits"
assert prior.config.image_token_sequencer["image_tokenizer_revision"] == tokens.record["revision"]
torch.set_num_threads(1)  # training took all cores, and sums in another order round differently
pictures = generate_images(prior, vqvae, [3, 7], generator=torch.Generator().manual_seed(0))
torch.save(pictures, "pictures.pt")
"""

LOAD = """
import sys
import torch
from transformers import AutoImageProcessor, AutoModel

model = AutoModel.from_pretrained("org/prior-digits-image-token-lm", trust_remote_code=True)
pictures = model.generate_images(labels=[3, 7], generator=torch.Generator().manual_seed(0))
torch.testing.assert_close(pictures, torch.load("pictures.pt"))
processor = AutoImageProcessor.from_pretrained("org/prior-digits-image-token-lm", trust_remote_code=True)
assert processor.postprocess(pictures)[0].size == (8, 8)
assert not any(name.startswith("hf_autoencoders") for name in sys.modules)
"""


def run(code, folder, environment):
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_tokens_a_prior_and_both_models_in_one_go_to_the_hub_and_back(tmp_path):
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    with LoopbackHub() as hub:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {**hub.environment(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        run(PUBLISH, tmp_path, {**environment, "PYTHONPATH": str(ROOT)})
        run(LOAD, tmp_path, {**environment, "HF_HOME": str(tmp_path / "another home")})
