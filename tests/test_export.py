# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Models that leave the process: compiled, exported by torch, as ONNX, and as a folder without the package."""

import json
import os
import subprocess
import sys

import pytest
import torch
from small_nets import CLASSES, images, trained
from torch import nn
from torch.export import Dim
from transformers import AutoModel

from hf_autoencoders import AutoencoderImageProcessorPil, VQVAEModel


# ---- one graph -------------------------------------------------------------------------------------------------------


def compiled(function):
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("kind", CLASSES)
def test_forward_compiles_to_one_graph(kind):
    model, pixels = trained(kind), images()
    with torch.no_grad():
        for name, value in compiled(model)(pixels).items():
            torch.testing.assert_close(value, model(pixels)[name], msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("kind, quantizer", [("vqvae", "ema"), ("vqvae", "fsq"), ("dvae", "gumbel")])
def test_encoding_to_and_decoding_from_codes_compile_to_one_graph_each(kind, quantizer):
    model, pixels = trained(kind, quantizer=quantizer), images()
    tokens = compiled(model.get_image_tokens)(pixels)
    assert torch.equal(tokens, model.get_image_tokens(pixels))
    torch.testing.assert_close(compiled(model.decode_image_tokens)(tokens), model.decode_image_tokens(tokens))


# ---- torch.export and ONNX -------------------------------------------------------------------------------------------


class ToCodes(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model.get_image_tokens(pixel_values)


class FromCodes(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image_tokens):
        return self.model.decode_image_tokens(image_tokens)


BATCH, HEIGHT, WIDTH = Dim("batch", max=64), Dim("height", max=64), Dim("width", max=64)  # of the code grid
TO_CODES, FROM_CODES = {0: BATCH, 2: 2 * HEIGHT, 3: 2 * WIDTH}, {0: BATCH, 1: HEIGHT, 2: WIDTH}


@pytest.mark.parametrize(
    "kind, quantizer", [("vqvae", "ema"), ("vqvae", "simvq"), ("vqvae", "fsq"), ("dvae", "gumbel")]
)
def test_an_exported_tokenizer_takes_any_batch_and_size(kind, quantizer):
    model = trained(kind, quantizer=quantizer)
    example, other = images(3, 8, 6), images(5, 4, 12, seed=1)
    to_codes = torch.export.export(ToCodes(model), (example,), dynamic_shapes=[TO_CODES]).module()
    tokens = to_codes(other)
    assert tokens.shape == (5, 2, 6) and torch.equal(tokens, model.get_image_tokens(other))
    example = model.get_image_tokens(example)
    from_codes = torch.export.export(FromCodes(model), (example,), dynamic_shapes=[FROM_CODES]).module()
    torch.testing.assert_close(from_codes(tokens), model.decode_image_tokens(tokens))


@pytest.mark.parametrize("kind", ["vqvae", "dvae"])
@pytest.mark.filterwarnings("ignore")  # of torch's exporter, about itself
def test_onnx_runtime_gives_the_same_codes_and_pictures(kind, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")

    def run(module, example, dynamic_shapes, given):
        file = str(tmp_path / f"{type(module).__name__}.onnx")
        torch.onnx.export(module, (example,), file, dynamo=True, dynamic_shapes=[dynamic_shapes], verbose=False)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0])

    model, example, other = trained(kind), images(3, 8, 6), images(5, 4, 12, seed=1)
    tokens = run(ToCodes(model), example, TO_CODES, other)
    assert torch.equal(tokens, model.get_image_tokens(other))
    pictures = run(FromCodes(model), model.get_image_tokens(example), FROM_CODES, tokens)
    torch.testing.assert_close(pictures, model.decode_image_tokens(tokens), rtol=1e-4, atol=1e-5)


# ---- a folder without the package ------------------------------------------------------------------------------------

ELSEWHERE = """
import json, sys
import numpy, torch
from transformers import AutoConfig, AutoImageProcessor, AutoModel

sys.modules["hf_autoencoders"] = None  # as if it were not installed
for folder, copy in zip(sys.argv[1::2], sys.argv[2::2]):
    for again in (folder, copy):
        assert AutoConfig.from_pretrained(again, trust_remote_code=True).image_size == 8
        model = AutoModel.from_pretrained(again, trust_remote_code=True)
        processor = AutoImageProcessor.from_pretrained(again, trust_remote_code=True)
        if again is folder:
            model.save_pretrained(copy)
            processor.save_pretrained(copy)
    pixels = processor(numpy.arange(64, dtype=numpy.uint8).reshape(8, 8), return_tensors="pt")["pixel_values"]
    said = dict(model(pixels))
    if hasattr(model, "get_image_tokens"):
        said["decoded"] = model.decode_image_tokens(model.get_image_tokens(pixels))
    torch.save(said, folder + "/said.pt")
"""


def run_elsewhere(script: str, *arguments, cwd, cache):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_a_process_without_the_package_loads_all_four_and_saves_them_again(tmp_path):
    import numpy

    processor = AutoencoderImageProcessorPil(num_channels=1, do_resize=False)
    models = {kind: trained(kind) for kind in CLASSES}
    folders = []
    for kind, model in models.items():
        folder = tmp_path / f"{kind}-mnist.v1"  # dots and dashes, as on the Hub
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        folders += [folder, tmp_path / f"{kind}.copy-2"]
    done = run_elsewhere(ELSEWHERE, *folders, cwd=tmp_path, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    pixels = processor(numpy.arange(64, dtype=numpy.uint8).reshape(8, 8), return_tensors="pt")["pixel_values"]
    for (kind, model), folder in zip(models.items(), folders[::2], strict=True):
        said = torch.load(folder / "said.pt")
        assert all(torch.equal(value, said[name]) for name, value in model(pixels).items()), kind
        if "decoded" in said:
            assert torch.equal(said["decoded"], model.decode_image_tokens(model.get_image_tokens(pixels)))


def test_a_folder_that_lost_its_code_says_which_file(tmp_path):
    trained("vqvae").save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "modeling_vqvae.py").unlink()
    assert type(AutoModel.from_pretrained(tmp_path / "model")) is VQVAEModel  # the package is here: its own code serves
    script = "import sys, transformers; transformers.AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)"
    done = run_elsewhere(script, tmp_path / "model", cwd=tmp_path, cache=tmp_path / "cache")
    assert done.returncode and "modeling_vqvae.py" in done.stderr.strip().splitlines()[-1]


def test_the_saved_config_names_its_code(tmp_path):
    for kind, (config_class, _) in CLASSES.items():
        trained(kind).save_pretrained(tmp_path / kind)
        auto_map = json.loads((tmp_path / kind / "config.json").read_text())["auto_map"]
        assert auto_map == {
            "AutoConfig": f"configuration_{kind}.{config_class.__name__}",
            "AutoModel": f"modeling_{kind}.{CLASSES[kind][1].__name__}",
        }
