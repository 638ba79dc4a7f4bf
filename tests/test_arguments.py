# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Knobs: a flag beats the recipe, a typing mistake is named, and nothing is read in silence."""

import argparse
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hf_autoencoders.training.arguments import MODEL_TYPES
from hf_autoencoders.training.autoencoder_task import takes_resnet
from hf_autoencoders.training.config_knobs import build_config, config_fields
from hf_autoencoders.training.knobs import AUTOENCODER_KNOBS, NAMES_ELSEWHERE, parse_arguments
from hf_autoencoders.training.recipes import recipe_flags


SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
RECIPES = sorted(
    path for path in (SCRIPTS / "recipes").glob("*.yaml") if not path.stem.startswith(("prior-", "latent-diffusion-"))
)


@pytest.fixture
def recipe(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_flags_override_the_recipe_and_the_recipe_overrides_defaults(recipe):
    path = recipe("model_type: vae\nlearning_rate: 3e-4\ntrain_batch_size: 100\nlatent_channels: 2")
    arguments = parse_arguments(["--recipe", path, "--train_batch_size", "20"])
    assert arguments.model_type == "vae"
    assert arguments.training.learning_rate == 3e-4  # YAML 1.1 reads 3e-4 as text
    assert arguments.training.train_batch_size == 20
    assert arguments.training.weight_decay == 0.0
    assert arguments.model == {"latent_channels": 2}
    assert arguments.given == {"learning_rate", "train_batch_size", "latent_channels"}


def test_the_model_type_on_the_command_line_decides_which_knobs_there_are(recipe):
    path = recipe("model_type: vae\nlearning_rate: 1e-3")
    assert parse_arguments(["--recipe", path, "--model_type", "dvae", "--hard"]).model == {"hard": True}


def test_null_takes_a_knob_out_of_the_recipe(recipe):
    path = recipe("model_type: vqvae\ncommitment_cost: 0.5\nfsq_levels: [8, 5]\nquantizer: fsq")
    arguments = parse_arguments(
        ["--recipe", path, "--commitment_cost", "null", "--quantizer=null", "--fsq_levels=null"]
    )
    assert arguments.model == {}


def test_steps_on_the_command_line_replace_the_epochs_of_the_recipe(recipe):
    path = recipe("num_train_epochs: 5")
    assert parse_arguments(["--recipe", path, "--max_train_steps", "7"]).training.max_train_steps == 7
    with pytest.raises(ValueError, match="num_train_epochs: has no effect beside --max_train_steps"):
        parse_arguments(["--num_train_epochs", "2", "--max_train_steps", "7"])


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--lerning_rate", "1"], "nearest known name is 'learning_rate'"),
        (["--train-batchsize=3"], "nearest known name is 'train_batch_size'"),
        (["--learning_rat", "1"], "learning_rate"),  # no abbreviations
        (["--kl_weight", "2"], "a vqvae does not read it, only vae and dvae"),
        (["--model_type", "vqgan"], "must be one of ae, vae, vqvae, dvae, got 'vqgan'"),
        (["--learning_rate", "fast"], "invalid float value: 'fast'"),
        (["--optimizer", "lion"], "adam"),
        (["--learning_rate", "-1"], "--learning_rate must be at least 0, got -1.0"),
        (["--learning_rate", "inf"], "--learning_rate must be a finite number, got inf"),
        (["--perceptual_weight", "nan"], "--perceptual_weight must be a finite number, got nan"),
        (["--pixel_range", "0", "nan"], "--pixel_range must be a finite number, got nan"),
        (["--num_train_epochs", "inf"], "--num_train_epochs must be a finite number, got inf"),
        (["--train_batch_size", "0"], "--train_batch_size must be at least 1, got 0"),
        (["--num_train_epochs", "0"], "must be positive"),
        (["--logging_steps", "0"], "--logging_steps must be at least 1"),
        (["--overwrite", "--resume", "latest"], "give one of them"),
        (["--recipe", "/nowhere.yaml"], "There is no recipe"),
        (["--recipe", "vae-digitz"], "the nearest is 'vae-digits'"),
        (["--adam_beta1", "0.5", "--optimizer", "sgd"], "--adam_beta1: has no effect with --optimizer sgd"),
        (["--momentum", "0.5"], "--momentum: has no effect with --optimizer adam"),
        (["--lr_end", "0.5"], "--lr_end: has no effect with a constant --lr_scheduler"),
        (["--hub_private"], "--hub_private: has no effect without --push_to_hub"),
        (["--image_steps", "5"], "--image_steps: has no effect without a tracker"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_fits(flags, message):
    with pytest.raises(ValueError) as caught:
        parse_arguments(flags)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("lerning_rate: 1", "nearest known name is 'learning_rate'"),
        ("training:\n  learning_rate: 1", "flat list"),
        ("- learning_rate", "flat list"),
        ("a: [1", "cannot be read"),
        ("learning_rate: fast", "invalid float"),
    ],
)
def test_a_mistake_in_a_recipe_is_named_too(recipe, text, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(["--recipe", recipe(text)])


@pytest.mark.parametrize(
    "text, message",
    [
        ("learning_rate: &a 1e-3\nadam_beta1: *a", r"references .* have no place"),
        ("report_to: &a [x, x]\nsplits: [*a, *a]", r"references .* have no place"),
        ("seed: 1\nseed: 2", "'seed' is there twice"),
        ("report_to: ['none', '--push_to_hub']", "'--push_to_hub', which would be read as a flag"),
        ("report_to: [[none]]", "flat list"),
        ("seed: " + "1" * 1_000_001, "more than any recipe needs"),
        ("report_to: " + "[" * 5000, "cannot be read"),
    ],
)
def test_a_recipe_can_neither_grow_in_memory_nor_smuggle_in_a_flag(recipe, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_arguments(["--recipe", recipe(text)])
    assert "\n" not in str(caught.value)


def test_a_shipped_recipe_is_found_by_its_name_and_by_its_old_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("vae-digits", "vae-digits.yaml", "scripts/recipes/vae-digits.yaml"):
        assert parse_arguments(["--recipe", name]).model_type == "vae"
    with pytest.raises(ValueError, match="There is no recipe 'elsewhere/vae-digits.yaml'"):
        parse_arguments(["--recipe", "elsewhere/vae-digits.yaml"])


def test_recipe_list_shows_each_shipped_recipe_with_a_line_on_it(capsys):
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--recipe", "list"])
    lines = capsys.readouterr().out.splitlines()
    assert ended.value.code == 0 and len(lines) == len(list((SCRIPTS / "recipes").glob("*.yaml")))
    assert all(len(line.split(maxsplit=1)[1]) > 20 for line in lines)


@pytest.mark.parametrize("name", NAMES_ELSEWHERE)
def test_the_name_that_other_projects_use_is_answered_with_ours(name):
    known = {action.dest for kind in MODEL_TYPES for action in AUTOENCODER_KNOBS.parser(kind)._actions}
    assert NAMES_ELSEWHERE[name] in known and name not in known


def test_what_trainer_users_type_first_is_understood():
    with pytest.raises(ValueError, match="Unknown argument '--lr': its name here is --learning_rate"):
        parse_arguments(["--lr", "1e-3"])


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_field_of_a_config_is_explained_in_help_and_shown_once(model_type):
    parser = AUTOENCODER_KNOBS.parser(model_type)
    text = parser.format_help()
    for name in config_fields(model_type):
        action = next(action for action in parser._actions if action.dest == name)
        assert action.help and len(action.help) > 15 and ">>>" not in action.help, name
        assert text.count(f"  --{name} ") == 1, name
    assert "2 ** (number of block_out_channels - 1)" in " ".join(text.split())


@pytest.mark.parametrize(
    "flags, names",
    [
        (["--norm_num_groups", "4"], ["norm_num_groups"]),
        (["--quantizer", "fsq", "--ema_decay", "0.9"], ["ema_decay"]),
        (["--model_type", "ae", "--hidden_act", "tanh"], ["hidden_act"]),
        (["--reconstruction_loss", "bce", "--data_variance", "0.1"], ["data_variance"]),
    ],
)
def test_a_config_field_that_this_choice_never_reads_is_refused(flags, names):
    with pytest.raises(ValueError, match=f"--{names[0]}: never read by this"):
        build_config(parse_arguments(flags), {"image_size": 8, "num_channels": 1})


def test_values_measured_on_the_data_give_way_to_the_users():
    measured = {"image_size": 8, "num_channels": 1}
    assert build_config(parse_arguments([]), measured).image_size == 8
    assert build_config(parse_arguments(["--image_size", "16"]), measured).image_size == 16
    assert build_config(parse_arguments(["--image_size", "16", "32"]), measured).image_size == [16, 32]


def test_large_pictures_get_the_resnet_where_conv_would_be_the_default():
    takes = {(kind, side): takes_resnet(parse_arguments(["--model_type", kind]), side)
             for kind in MODEL_TYPES for side in (64, 128)}  # fmt: skip
    assert [key for key, taken in takes.items() if taken] == [("ae", 128), ("vae", 128), ("vqvae", 128)]
    assert not takes_resnet(parse_arguments(["--backbone", "conv"]), 256)


def test_schedules_need_start_and_steps_and_a_model_that_reads_them():
    def schedules(*flags):
        arguments = parse_arguments(list(flags))
        config = build_config(arguments, {"image_size": 8, "num_channels": 1})
        names = {"vae": ["kl_weight"], "ae": []}[arguments.model_type]
        return arguments.scheduled(config, names)

    given = ("--kl_weight_start", "0", "--kl_weight_steps", "10")
    schedule = schedules("--model_type", "vae", *given, "--kl_weight", "6.6")["kl_weight"]
    assert (schedule.shape, schedule.start, schedule.end, schedule.over) == ("cosine", 0.0, 6.6, 10)
    assert schedules("--model_type", "vae") == {}
    with pytest.raises(ValueError, match="needs both"):
        schedules("--model_type", "vae", *given[:2])
    with pytest.raises(ValueError, match="a ae reads no kl_weight|A ae reads no kl_weight"):
        schedules("--model_type", "ae", *given)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_config_field_is_a_flag_and_its_default_survives_it(model_type):
    config = build_config(parse_arguments(["--model_type", model_type]), {})
    for name in config_fields(model_type):
        value = getattr(config, name)
        if value is not None:
            flags = recipe_flags({name: list(value) if isinstance(value, tuple) else value})
            parsed = parse_arguments(["--model_type", model_type, *flags]).model[name]
            assert parsed == (list(value) if isinstance(value, tuple) else value), name


def test_arguments_written_as_a_recipe_read_back_equal(recipe):
    flags = [
        "--model_type",
        "dvae",
        "--learning_rate",
        "1e-4",
        "--block_out_channels",
        "8",
        "8",
        "--hard",
        "--report_to",
        "all",
    ]
    arguments = parse_arguments(flags)
    again = parse_arguments(["--recipe", recipe(yaml.safe_dump(arguments.as_recipe()))])
    assert again.as_dict() == arguments.as_dict()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_gives_a_config_without_idle_knobs(path):
    arguments = parse_arguments(["--recipe", str(path)])
    config = build_config(arguments, {"image_size": 8 if "digits" in path.stem else 28, "num_channels": 1})
    family = path.stem.split("-")[0]
    assert config.model_type == {"vqgan": "vqvae", "kl": "vae"}.get(family, family)
    small = ("digits", "ylecun/mnist", "zalando-datasets/fashion_mnist")
    assert arguments.data.dataset_name in (*small, "ILSVRC/imagenet-1k", "./photos")


def test_there_are_recipes_of_all_models_on_all_three_data_sets():
    names = {path.stem for path in RECIPES}
    assert {f"{m}-{d}" for m in MODEL_TYPES for d in ("digits", "mnist", "fashion-mnist")} <= names


def test_no_option_is_a_prefix_of_one_of_torchruns():
    """torchrun completes abbreviations among the script's options too: `--log` would be its `--log-dir`."""
    from torch.distributed.run import get_args_parser

    theirs = {option for action in get_args_parser()._actions for option in action.option_strings}
    for model_type in MODEL_TYPES:
        for action in AUTOENCODER_KNOBS.parser(model_type)._actions:
            if not isinstance(action, argparse._HelpAction):
                clashes = [o for o in action.option_strings for t in theirs if t.startswith(o)]
                assert not clashes


def test_help_lists_the_fields_of_the_chosen_model():
    script = SCRIPTS / "train.py"
    done = subprocess.run([sys.executable, script, "--model_type", "dvae", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--gumbel_temperature" in done.stdout and "--learning_rate" in done.stdout
