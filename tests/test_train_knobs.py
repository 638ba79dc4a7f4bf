# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Every flag of train.py changes something that can be seen, or is refused. None is read and forgotten."""

import importlib
import json

import datasets
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from training_runs import tiny, train_here
from transformers import AutoConfig, AutoModel
from transformers.utils import logging

from hf_autoencoders.training.arguments import MODEL_TYPES
from hf_autoencoders.training.config_knobs import config_fields
from hf_autoencoders.training.knobs import AUTOENCODER_KNOBS


# What each knob is set to, beside which others, and what it must change: 'weights' of the last step (seen in the last
# checkpoint), 'metrics', 'files', 'out' (the screen) or 'folder'; 'refused' where it can have no effect in this run.
WARM = ("--gumbel_temperature_start", "3", "--gumbel_temperature_steps", "9")
PLAYING = (
    "--adversarial_weight", "0.5", "--discriminator_start", "0", "--adversarial_start", "0", "--adversarial_ramp_steps",
    "9", "--discriminator_width", "4", "--discriminator_levels", "1",
)  # fmt: skip
KNOBS = {
    "output_dir": ("elsewhere", (), "folder"),
    "overwrite": ("true", (), "overwrites"),
    "resume": ("latest", (), "out"),
    "seed": ("1", (), "weights"),
    "init_from": ("/no/such/folder", (), "refused"),
    "init_revision": ("main", (), "refused"),
    "train_only": ("decoder", (), "weights"),
    "cpu": ("true", (), "accepted"),  # the same device, on a machine without a GPU
    "num_threads": ("2", (), "out"),
    "expected_processes": ("2", (), "refused"),
    "report_to": ("tensorboard", (), "files"),
    "dataset_name": ("FOLDER", (), "weights"),
    "dataset_config": ("other", ("--dataset_name", "FOLDER"), "refused"),
    "image_column": ("nothing", (), "refused"),
    "label_column": ("nothing", (), "refused"),
    "train_split": ("test", (), "weights"),
    "eval_split": ("train", (), "metrics"),
    "max_train_samples": ("100", (), "weights"),
    "max_eval_samples": ("8", (), "metrics"),
    "random_flip": ("true", (), "weights"),
    "random_crop": ("1", (), "weights"),
    "random_resized_crop": ("0.5", ("--image_size", "12"), "weights"),
    "pixel_range": ("0", (), "refused"),  # two numbers; tests/test_photographs.py gives them
    "skip_corrupt": ("true", (), "accepted"),  # no picture of this set is; tests/test_photographs.py has some
    "unknown_labels": ("ignore", (), "accepted"),  # no class of this set is; tests/test_image_folders.py has some
    "binarize": ("fixed", (), "weights"),
    "image_fit": ("pad", ("--image_size", "12"), "weights"),
    "streaming": ("true", ("--dataset_name", "FOLDER"), "weights"),
    "stream_shuffle": ("0", ("--dataset_name", "FOLDER", "--streaming", "true"), "weights"),
    "cache_limit_gib": ("0", (), "notes"),
    "dataloader_num_workers": ("1", (), "workers"),
    "train_batch_size": ("8", (), "weights"),
    "eval_batch_size": ("0", (), "refused"),
    "gradient_accumulation_steps": ("2", (), "weights"),
    "num_train_epochs": ("0.02", ("--max_train_steps", "DROP"), "metrics"),
    "max_train_steps": ("1", (), "metrics"),
    "optimizer": ("sgd", (), "weights"),
    "learning_rate": ("0.01", (), "weights"),
    "lr_scheduler": ("linear", (), "weights"),
    "lr_warmup_steps": ("2", (), "weights"),
    "lr_end": ("0.0005", ("--lr_scheduler", "linear"), "weights"),
    "lr_steps": ("1", ("--lr_scheduler", "linear"), "weights"),
    "adam_beta1": ("0.5", (), "weights"),
    "adam_beta2": ("0.5", (), "weights"),
    "adam_epsilon": ("0.1", (), "weights"),
    "weight_decay": ("0.1", (), "weights"),
    "momentum": ("0.9", ("--optimizer", "sgd"), "weights"),
    "max_grad_norm": ("0.001", ("--optimizer", "sgd"), "weights"),
    "mixed_precision": ("bf16", (), "weights"),
    "gradient_checkpointing": ("true", (), "recomputes"),
    "compile": ("true", (), "compiles"),  # with a real compiler: tests/test_compilation.py
    "ema_weights": ("0.5", (), "metrics"),
    "init_output_bias": ("true", (), "weights"),
    "exact_resume": ("true", (), "refused"),
    "logging_steps": ("1", (), "log"),
    "eval_steps": ("1", (), "log"),
    "image_steps": ("1", (), "refused"),
    "checkpointing_steps": ("1", (), "checkpoints"),
    "checkpoints_total_limit": ("1", ("--checkpointing_steps", "1"), "checkpoints"),
    "push_to_hub": ("true", (), "refused"),  # offline; tests/test_hub.py has a Hub to publish to
    "hub_model_id": ("org/name", (), "refused"),
    "hub_strategy": ("every_save", (), "refused"),
    "hub_private": ("true", (), "refused"),
    "kl_weight_start": ("0", ("--kl_weight_start", "0.5", "--kl_weight_steps", "9"), "weights", "vae"),
    "kl_weight_steps": ("5", ("--kl_weight_start", "0", "--kl_weight_steps", "9"), "weights", "vae"),
    "kl_weight_schedule": ("linear", ("--kl_weight_start", "0", "--kl_weight_steps", "9"), "weights", "vae"),
    "commitment_cost_start": ("3", ("--commitment_cost_start", "1", "--commitment_cost_steps", "9"), "weights"),
    "commitment_cost_steps": ("5", ("--commitment_cost_start", "3", "--commitment_cost_steps", "9"), "weights"),
    "commitment_cost_schedule": ("linear", ("--commitment_cost_start", "3", "--commitment_cost_steps", "9"), "weights"),
    "gumbel_temperature_start": ("2", WARM, "weights", "dvae"),
    "gumbel_temperature_steps": ("5", WARM, "weights", "dvae"),
    "gumbel_temperature_schedule": ("linear", WARM, "weights", "dvae"),
    "perceptual_model": ("digits", (), "weights"),
    "perceptual_weight": ("1", ("--perceptual_model", "digits"), "weights"),
    "perceptual_logits_weight": ("1", ("--perceptual_model", "digits"), "weights"),
    "perceptual_layers": ("1", ("--perceptual_model", "digits"), "weights"),
    "perceptual_size": ("16", ("--perceptual_model", "digits"), "weights"),
    "adversarial_weight": ("0.1", PLAYING, "weights"),
    "adversarial_loss": ("softplus", PLAYING, "weights"),
    "adversarial_start": ("1", PLAYING, "weights"),
    "adversarial_ramp_steps": ("1", PLAYING, "weights"),
    "adversarial_adaptive": ("true", PLAYING, "weights"),
    "discriminator": ("patch", PLAYING, "weights"),
    "discriminator_start": ("1", (*PLAYING, "--adversarial_start", "1"), "weights"),
    "discriminator_width": ("8", PLAYING, "weights"),
    "discriminator_levels": ("2", PLAYING, "weights"),
    "discriminator_learning_rate": ("0.1", PLAYING, "weights"),
    "lecam_weight": ("9", PLAYING, "weights"),
    "r1_weight": ("9", PLAYING, "weights"),
    "feature_model": ("digits", (), "metrics"),
    "feature_size": ("16", ("--feature_model", "digits"), "metrics"),
    "recipe": ("RECIPE", (), "weights"),
    "model_type": ("ae", (), "weights"),
}  # fmt: skip


def test_the_walk_below_knows_every_knob_that_is_no_config_field():
    for model_type in MODEL_TYPES:
        actions = AUTOENCODER_KNOBS.parser(model_type)._actions
        names = {action.dest for action in actions} - {"help"} - set(config_fields(model_type))
        assert names == set(KNOBS)


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    """40 grey pictures of 8x8 pixels in a parquet folder."""
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    folder = tmp_path_factory.mktemp("images")
    for split, count, seed in (("train", 40, 0), ("test", 16, 1)):
        pixels = torch.randint(
            256, (count, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8
        ).numpy()
        rows = {"image": [Image.fromarray(picture) for picture in pixels]}
        Dataset.from_dict(rows, Features({"image": ImageFeature()})).to_parquet(
            folder / f"{split}-00000-of-00001.parquet"
        )
    return folder


class Trial:
    """A run of two steps and what can be seen of it."""

    def __init__(self, folder, capsys, flags):
        capsys.readouterr()
        self.code = train_here(flags)
        captured = capsys.readouterr()
        self.out, self.err = captured.out.replace(str(folder), ""), captured.err
        self.folder = folder
        if self.code == 0:
            record = json.loads((folder / "metrics.json").read_text())
            self.metrics = {"figures": record["metrics"], "steps": record["steps"]}
            newest = sorted((folder / "checkpoints").glob("check*"))[-1:]
            self.weights = {} if not newest else load_file(newest[0] / "model.safetensors")
            self.log = (folder / "metrics.jsonl").read_text().count("\n")
            self.checkpoints = sorted(path.name for path in (folder / "checkpoints").glob("*"))
            self.files = sorted(path.name for path in folder.rglob("*") if "checkpoints" not in path.parts)
            self.config = json.loads((folder / "config.json").read_text())

    def differs(self, other, what):
        if what == "weights":
            same = self.weights.keys() == other.weights.keys() and all(
                torch.equal(tensor, other.weights[name]) for name, tensor in self.weights.items()
            )
            return not same
        return getattr(self, what) != getattr(other, what)


# No evaluation of a second image, no second checkpoint: what a step costs here is Python.
BASE = ("--max_train_steps", "2", "--checkpointing_steps", "2", "--max_eval_samples", "16", "--max_train_samples", "64")


@pytest.fixture(scope="module")
def bases():
    return {}


def try_knob(tmp_path, capsys, bases, image_folder, name, value, beside, model_type="vqvae"):
    """The trial with the knob, and the one without it."""

    def flags(folder, *extra):
        base = [flag for pair in zip(BASE[::2], BASE[1::2], strict=True) for flag in pair if pair[0] != f"--{name}"]
        given = tiny(model_type, folder, *base, *extra)
        if "DROP" in given:
            at = given.index("DROP")
            del given[at - 1 : at + 1]
            at = given.index("--max_train_steps")
            del given[at : at + 2]
        return [str(image_folder) if flag == "FOLDER" else flag for flag in given]

    key = (model_type, beside, name if name in {flag[2:] for flag in BASE} or name == "num_train_epochs" else None)
    if key not in bases:
        folder = tmp_path / "base"
        extra = (
            ()
            if key[2] is None
            else ("--" + name, dict(zip(BASE[::2], BASE[1::2], strict=True)).get("--" + name, "0.5"))
        )
        bases[key] = Trial(folder, capsys, flags(folder, *beside, *extra))
        assert bases[key].code == 0, bases[key].err
    folder = tmp_path / "trial"
    return Trial(folder, capsys, flags(folder, *beside, f"--{name}={value}")), bases[key]


@pytest.mark.parametrize("name", sorted(KNOBS))
def test_every_knob_changes_something_or_is_refused(name, tmp_path, capsys, caplog, bases, image_folder, monkeypatch):
    value, beside, effect, *model_type = KNOBS[name]
    monkeypatch.chdir(tmp_path)
    if name == "recipe":
        (tmp_path / "recipe.yaml").write_text("weight_decay: 0.1\n")
        value = tmp_path / "recipe.yaml"
    if name in ("dataset_name", "dataset_config"):
        value = image_folder if value == "FOLDER" else value
    beside = tuple(str(image_folder) if flag == "FOLDER" else flag for flag in beside)
    if name in ("output_dir", "resume", "overwrite", "model_type"):
        return follow_up(name, tmp_path, capsys)
    if effect == "refused":
        trial = Trial(
            tmp_path / "trial", capsys, tiny("vqvae", tmp_path / "trial", *BASE, *beside, f"--{name}={value}")
        )
        assert trial.code == 2 and trial.err.count("\n") == 1, trial.err
        return None
    watched = watch(effect, monkeypatch)
    trial, base = try_knob(tmp_path, capsys, bases, image_folder, name, value, beside, *model_type)
    assert trial.code == 0, trial.err
    if effect == "notes":
        assert "cache_limit_gib" in caplog.text
    elif effect in ("recomputes", "workers", "compiles"):
        assert watched
    elif effect != "accepted":
        assert trial.differs(base, effect)
    return None


def watch(effect, monkeypatch):
    """Calls of what gradient checkpointing and loader processes use; they change no number, by design."""
    calls = []
    if effect == "recomputes":
        import transformers.modeling_layers as layers

        original = layers.GradientCheckpointingLayer.__call__

        def call(layer, *args, **kwargs):
            if layer.gradient_checkpointing and layer.training:
                calls.append(layer)
            return original(layer, *args, **kwargs)

        monkeypatch.setattr(layers.GradientCheckpointingLayer, "__call__", call)
    if effect == "compiles":
        monkeypatch.setattr(torch.nn.Module, "compile", lambda module: calls.append(module))
        monkeypatch.setattr("hf_autoencoders.training.compilation.check_compiler", lambda device: None)
    if effect == "workers":
        from torch.utils.data import dataloader

        original_init = dataloader._MultiProcessingDataLoaderIter.__init__

        def init(iterator, loader):
            calls.append(loader)
            original_init(iterator, loader)

        monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "__init__", init)
    return calls


def follow_up(name, tmp_path, capsys):
    """Knobs that are about a run that is there already, or about where it is."""
    folder = tmp_path / "elsewhere"
    assert train_here(tiny("ae" if name == "model_type" else "vqvae", folder, *BASE)) == 0
    assert (folder / "model.safetensors").exists()
    if name == "model_type":
        assert AutoModel.from_pretrained(folder).config.model_type == "ae"
    if name in ("resume", "overwrite"):
        flag = {"resume": ("--resume", "latest"), "overwrite": ("--overwrite",)}[name]
        assert train_here(tiny("vqvae", folder, *BASE)) == 2
        capsys.readouterr()
        assert train_here(tiny("vqvae", folder, *BASE, *flag)) == 0
        assert ("Resumed" in capsys.readouterr().out) == (name == "resume")


# -- fields of the configs ---------------------------------------------------------------------------------------------

# Another value for each field, beside which others it is tried (where the base does not read it).
SMALL = {
    "image_size": 8,
    "num_channels": 1,
    "block_out_channels": [4, 8],
    "layers_per_block": 1,
    "residual_channels": 4,
}
CODES = {"codebook_size": 12, "codebook_dim": 4}
RESNET = {"backbone": "resnet", "norm_num_groups": 2}
MLP = {"backbone": "mlp", "hidden_sizes": [8]}
RESIDUAL = {"quantizer": "residual", "num_quantizers": 2}
FIELDS = {
    "image_size": (16, {}),
    "num_channels": (3, {}),
    "backbone": ("resnet", {"norm_num_groups": 2}),
    "block_out_channels": ([4, 4], {}),
    "layers_per_block": (2, {}),
    "residual_channels": (6, {"backbone": "conv"}),
    "conv_style": ("inplace_relu", {"backbone": "conv"}),
    "norm_num_groups": (4, RESNET),
    "mid_block_add_attention": (False, RESNET),
    "attention_levels": ([0], RESNET),
    "hidden_sizes": ([4], MLP),
    "hidden_act": ("tanh", MLP),
    "reconstruction_loss": ("l1", {}),
    "learned_variance": (True, {"reconstruction_loss": "mse"}),
    "latent_channels": (6, RESNET),
    "encoder_channels": (6, RESNET),
    "logits_channels": (6, RESNET),
    "kl_weight": (3.0, {}),
    "num_importance_samples": (3, {}),
    "codebook_size": (15, {}),
    "codebook_dim": (5, {}),
    "quantizer": ("vq", {}),
    "commitment_cost": (2.0, {}),
    "legacy_commitment": (True, {"quantizer": "vq"}),
    "ema_decay": (0.5, {}),
    "ema_epsilon": (0.5, {}),
    "normalize_codes": (True, {}),
    "normalize_look_up": (True, {"quantizer": "vq"}),
    "gradient": ("rotation", {}),
    "codebook_init": ("uniform", {}),
    "revive_dead_codes": (False, {"dead_code_threshold": 0.9}),
    "dead_code_threshold": (0.9, {}),
    "codebook_seed": (1, {}),
    "fsq_levels": ([6, 2], {"quantizer": "fsq", "codebook_dim": 2}),
    "num_quantizers": (3, RESIDUAL),
    "level_quantizer": ("vq", RESIDUAL),
    "data_variance": (0.5, {}),
    "gumbel_temperature": (0.3, {}),
    "hard": (True, {}),
}
# Of diffusers' pipelines, which read them from config.json; our models have no use for them.
KEPT_FOR_OTHERS = {"scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast"}
OF_CONVERTED_ENCODERS = {"encoder_only"}  # no training reads it: always among `ignored_fields`


def trace(model_type: str, fields: dict) -> list:
    """What three steps of training and one evaluation make of these fields: shapes, losses and pictures."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **fields)
    model = AutoModel.from_config(config).train()
    shape = (16, config.num_channels, config.height, config.width)
    pixels = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    model.initialize_from_data(pixels)
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=1e-3), []
    for _ in range(3):
        loss = model(pixels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    seen += [(name, tuple(tensor.shape), tensor.double().sum().item()) for name, tensor in model.state_dict().items()]
    with torch.no_grad():
        seen.append(model.eval()(pixels).reconstruction.double().square().sum().item())
    return seen


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_config_field_changes_the_training_or_is_refused(model_type):
    for name in set(config_fields(model_type)) - KEPT_FOR_OTHERS - OF_CONVERTED_ENCODERS:
        value, beside = FIELDS[name]
        known = config_fields(model_type)
        if name in known and value is getattr(AutoConfig.for_model(model_type), name):
            value = not value  # a switch that one model has on, and another off
        base = {field: v for field, v in {**SMALL, **CODES, **beside}.items() if field in known}
        try:
            config = AutoConfig.for_model(model_type, **{**base, name: value})
        except Exception as error:  # this model has no such backbone or likelihood, and says so
            assert name in str(error) or any(field in str(error) for field in beside), error
            continue
        if name in config.ignored_fields:
            continue  # build_config refuses it: tests/test_arguments.py
        assert trace(model_type, base) != trace(model_type, {**base, name: value}), f"{name} of {model_type}"


def test_the_walk_above_tries_each_field_where_some_model_reads_it():
    for name, (value, beside) in FIELDS.items():
        readers = []
        for model_type in MODEL_TYPES:
            known = config_fields(model_type)
            if name not in known or not set(beside) <= set(known):
                continue
            fields = {field: v for field, v in {**SMALL, **CODES, **beside, name: value}.items() if field in known}
            try:
                config = AutoConfig.for_model(model_type, **fields)
            except Exception:  # noqa: S112 (no such backbone for this model; another reads the field)
                continue
            readers += [model_type] if name not in config.ignored_fields else []
        assert readers, name


@pytest.mark.parametrize(
    "command, flags",
    [("train", ["--sead", "1"]), ("encode_dataset", ["--model", "."]), ("export", ["nowhere", "x", "--to", "taming"])],
)
def test_a_command_leaves_the_progress_bars_of_its_caller_as_they_were(command, flags, progress_bars, tmp_path):
    flags += ["--output_dir", str(tmp_path / "out"), "--cpu"] if command == "encode_dataset" else []
    assert importlib.import_module(f"hf_autoencoders.commands.{command}").main(flags) == 2
    assert logging.is_progress_bar_enabled() and not datasets.utils.are_progress_bars_disabled()
