# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Whole runs of models that FSDP2 shards over two processes, over gloo: they finish and equal runs without sharding."""

import ast
import json

import pytest
import torch
from safetensors.torch import load_file
from test_laws import PACKAGE, without_docstrings
from training_runs import ROOT, checkpoint, finish, log_of, start, tiny, train_here
from transformers import AutoModel

from hf_autoencoders import AEModel, DVAEModel, VAEModel, VQVAEModel
from hf_autoencoders.models.quantizers import QUANTIZERS


# SGD, since Adam turns the rounding of gradients near zero into whole steps.
FLAGS = (
    "--max_train_steps", "4", "--checkpointing_steps", "2", "--optimizer", "sgd", "--learning_rate", "0.01",
    "--max_eval_samples", "41", "--eval_batch_size", "8", "--train_batch_size", "8",
)  # fmt: skip
CONV = ("--backbone", "conv", "--hidden_sizes", "null", "--block_out_channels", "8", "8", "--layers_per_block", "1")
RESNET = ("--backbone", "resnet", "--norm_num_groups", "4")
FIXED_CODEBOOK = ("--quantizer", "vq", "--codebook_init", "uniform", "--revive_dead_codes", "false")
# name: (model type, flags). Averages are swapped in and out on the way, which must not leave gathered weights behind.
KINDS = {
    "mlp": ("ae", ()),
    "ema": ("vqvae", ("--ema_weights", "0.5", "--eval_steps", "2")),
    "vq": ("vqvae", FIXED_CODEBOOK),
    "residual": ("vqvae", ("--quantizer", "residual", *RESNET)),
    "vae": ("vae", (*CONV, "--momentum", "0.9")),
    "bf16": ("vae", (*CONV, "--mixed_precision", "bf16")),
    "dvae": ("dvae", ("--max_grad_norm", "100", "--ema_weights", "0.5", "--eval_steps", "2")),
}
RESUMED = ("ema", "vae")  # also run in two parts: with buffers and averages; with noise and the optimizer's momentum
DRAWS = ("vae", "dvae", "bf16")  # each process draws its own noise: compared with two processes, the others with one


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of all runs, by kind: sharded, and not."""
    place = tmp_path_factory.mktemp("sharding")

    def flags(name: str, folder: str) -> list[str]:
        model_type, extra = KINDS[name]
        return without_null(tiny(model_type, place / folder, *FLAGS, *extra))

    words = []
    for name in KINDS:
        words += ["fsdp", *flags(name, f"{name}-sharded"), "--"]
    for name in RESUMED:
        words += ["fsdp", *flags(name, f"{name}-resumed"), "--max_train_steps", "2", "--"]
        words += ["fsdp", *flags(name, f"{name}-resumed"), "--resume", "latest", "--"]
    for name in DRAWS:
        words += ["ddp", *flags(name, f"{name}-whole"), "--"]
    code, out, err = finish(start(words[:-1], ROOT / "tests" / "train_sharded.py", processes=2))
    assert code == 0, out + err
    assert out.count("2 processes (FSDP)") == len(KINDS) + 2 * len(RESUMED)
    assert out.count("2 processes (MULTI_CPU)") == len(DRAWS)
    for name in set(KINDS) - set(DRAWS):
        assert train_here([*flags(name, f"{name}-whole"), "--train_batch_size", "16"]) == 0
    return {name: (place / f"{name}-sharded", place / f"{name}-whole") for name in KINDS}


def without_null(flags: list[str]) -> list[str]:
    """`--hidden_sizes null` takes the flag of a tiny run out again."""
    while "null" in flags:
        name = flags[flags.index("null") - 1]
        first = flags.index(name)
        end = next(i for i in range(first + 1, len(flags)) if flags[i].startswith("--"))
        flags = flags[:first] + flags[end:]
    return flags


@pytest.mark.parametrize("name", sorted(set(KINDS) - {"bf16"}))
def test_a_sharded_run_finishes_and_leaves_the_model_of_an_unsharded_one(name, runs):
    """Weights within 1e-5 of the largest, metrics within 1e-4 of their value: sums in another order."""
    sharded, whole = runs[name]
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, sharded))
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        assert (tensor.double() - two[key].double()).abs().max() <= 1e-5 * tensor.double().abs().max(), key
    metrics = [json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (whole, sharded)]
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-4, abs=1e-6)
    for line, expected in zip(log_of(sharded), log_of(whole), strict=True):
        per_batch = {"perplexity", "codebook_usage", "norm_ratio"}  # of a micro-batch of 8, or of 16
        assert line.keys() == expected.keys()
        for key in line.keys() - per_batch:
            assert line[key] == pytest.approx(expected[key], rel=1e-4, abs=1e-6), key


def test_in_16_bits_losses_are_not_rounded(runs):
    """Autocast and sharding round activations at other places: within 2 %. In bfloat16 a loss near 64 has steps of a
    quarter or a half, and a mean over 4 steps of 2 processes steps of 1/32 at least."""
    sharded, whole = ([line for line in log_of(folder) if "loss" in line] for folder in runs["bf16"])
    for line, expected in zip(sharded, whole, strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], rel=0.02)
        assert line["negative_log_likelihood"] * 32 % 1


@pytest.mark.parametrize("name", RESUMED)
def test_a_sharded_run_that_is_resumed_equals_an_unbroken_one(name, runs):
    unbroken = runs[name][0]
    resumed = unbroken.with_name(f"{name}-resumed")
    one, two = (load_file(folder / "model.safetensors") for folder in (unbroken, resumed))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    metrics = [json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (unbroken, resumed)]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("name", KINDS)
def test_what_a_sharded_run_leaves_loads_and_reconstructs(name, runs):
    model = AutoModel.from_pretrained(runs[name][0]).eval()
    assert model.reconstruct(torch.zeros(2, 1, 8, 8)).shape == (2, 1, 8, 8)
    near = 0.02 if name == "bf16" else 1e-4
    scales = [AutoModel.from_pretrained(folder).config.scaling_factor for folder in runs[name]]
    assert scales[0] == pytest.approx(scales[1], rel=near)
    assert (checkpoint(runs[name][0], 4) / "manifest.json").exists()


# -- law 7: a model that may be sharded is used through its forward, or through methods that FSDP was told of ----------

# They read and write no weights (codebook statistics are buffers), or are called before a model is sharded, or get the
# gathered `state_dict`.
NEED_NO_WEIGHTS = {
    "loss_terms", "defer_state_updates", "apply_state_updates", "initialize_output_bias", "save_pretrained",
    "from_pretrained", "get_input_embeddings", "activation_checkpointing_enable", "gradient_checkpointing_enable",
    "parameters", "named_parameters", "modules", "train", "eval", "to", "requires_grad_", "state_dict",
}  # fmt: skip
MODELS = (AEModel, VAEModel, VQVAEModel, DVAEModel)


def methods_of_models() -> set[str]:
    own = {
        name for cls in MODELS for base in cls.__mro__ if "hf_autoencoders" in base.__module__ for name in vars(base)
    }
    return {
        name for name in own if not name.startswith("_") and any(callable(getattr(cls, name, None)) for cls in MODELS)
    }


def calls(path):
    """(name of the object, of its method, line) of each call such as `model.encode(...)` or `run.core.encode(...)`."""
    for node in ast.walk(without_docstrings(ast.parse(path.read_text()))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            yield getattr(owner, "attr", getattr(owner, "id", "")), node.func.attr, node.lineno


def test_training_calls_only_methods_that_fsdp_was_told_of():
    methods = methods_of_models()
    assert {"encode", "reconstruct", "initialize_from_data", "measure_latents"} <= methods
    used = set()
    for path in sorted((PACKAGE / "training").glob("*.py")):
        for owner, method, line in calls(path):
            if owner in ("model", "core") and method in methods - NEED_NO_WEIGHTS:
                used.add(method)
                assert method in AEModel.fsdp_forward_methods, f"{path.name}:{line}: {owner}.{method}"
    assert {"reconstruct", "measure_latents", "get_image_tokens", "initialize_from_data"} <= used


def test_every_registered_method_exists_in_a_model_or_a_quantizer():
    for kinds in (MODELS, QUANTIZERS.values()):
        for name in {name for cls in kinds for name in cls.fsdp_forward_methods}:
            assert any(hasattr(cls, name) for cls in kinds), name
