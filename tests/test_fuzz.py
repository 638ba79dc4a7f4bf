# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Malformed input at every command: seeded draws of knobs, recipes, model folders, weights, pictures, checkpoints.

Whatever comes, a command ends by itself: with 0 and what it promises, or with 1 or 2 and one line on stderr. Nothing in
a file is executed, and no file of others is touched. A minute here; by hand: HF_AUTOENCODERS_FUZZ=2000 pytest -s FILE
"""

import contextlib
import io
import json
import os
import pickle
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from training_runs import TINY_MODELS, run_script_here, tiny

from hf_autoencoders.training.config_knobs import config_fields
from hf_autoencoders.training.knobs import AUTOENCODER_KNOBS


CASES = int(os.environ.get("HF_AUTOENCODERS_FUZZ", "110"))
COUNTS: Counter = Counter()

STRANGE = [
    "nan", "inf", "-inf", "-1", "0", "1e400", str(10**12), str(10**30), "", " ", "nope", "null", "[]", "[", "{", "{}",
    "*a", "true", "--push_to_hub", "../../etc/passwd", "/etc/passwd", "/dev/null", "a" * 300, "ü", "0x10", "1,2", "[8]",
    "[8, 8, 8]", "[[1]]", "None", "!!python/object/apply:os.system ['touch pwned']", "%s%n", "\x1b[31m", "'", '"',
    "1e-320", "${7*7}",
]  # fmt: skip


class Executed:
    """Creates a file when it is unpickled by a reader that runs what it reads."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


def call(family: str, script: str, flags: list, place: Path) -> int:
    """Runs a command in this process; asserts how it ends."""
    out, err = io.StringIO(), io.StringIO()
    before = os.getcwd()
    os.chdir(place)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = run_script_here(f"scripts/{script}.py", [str(flag) for flag in flags])
        except SystemExit as ended:  # --help
            code = ended.code or 0
        finally:
            os.chdir(before)
    text = err.getvalue()
    said = [line for line in text.splitlines() if line.startswith(f"hf-autoencoders {script}: ")]
    assert code in (0, 1, 2), (script, flags, code)
    assert "Traceback" not in text, (script, flags, text)
    assert len(said) == (code != 0), (script, flags, text)
    assert not list(place.rglob("pwned*")), (script, flags)
    COUNTS[family, ("done", "diverged", "refused")[code]] += 1
    return code


@pytest.fixture
def rng(request):
    return random.Random(request.node.name)


@pytest.fixture
def place(tmp_path):
    """A folder of its own for each test, with files of others beside it that must stay as they are."""
    other = tmp_path / "others"
    other.mkdir()
    for name in ("README.md", "config.json", "model.safetensors", "notes.txt"):
        (other / name).write_text("mine")
    yield tmp_path
    assert {path.name: path.read_text() for path in other.iterdir()} == dict.fromkeys(
        ("README.md", "config.json", "model.safetensors", "notes.txt"), "mine"
    )


def share(part: float) -> int:
    return max(4, round(CASES * part))


# -- what people type --------------------------------------------------------------------------------------------------


def test_strange_values_of_every_kind_of_knob(place, rng):
    for number in range(share(0.35)):
        model_type = rng.choice(list(TINY_MODELS))
        knobs = sorted({action.dest for action in AUTOENCODER_KNOBS.parser(model_type)._actions} - {"help", "recipe"})
        name = rng.choice([*knobs, *config_fields(model_type)])
        values = [rng.choice(STRANGE) for _ in range(rng.choice([1, 1, 1, 2]))]
        folder = place / f"run-{number}"
        run = tiny(model_type, folder, "--max_train_steps", 1, "--max_eval_samples", 8, "--checkpointing_steps", 0)
        # What it would write to is not drawn here: a folder by a strange name is a folder.
        if name in ("output_dir", "num_threads", "max_train_steps", "num_train_epochs", "cpu"):
            continue
        call("knobs of train", "train", [*run, f"--{name}", *values], place)


@pytest.mark.parametrize("target", ["/etc/passwd", "/dev/null", "/proc/nothing", "a" * 300])
@pytest.mark.parametrize("script", ["train", "encode_dataset"])
def test_folders_that_cannot_be_written(place, saved, script, target):
    if os.getuid() == 0 and target == "/proc/nothing":
        target = "/proc/1/nothing"
    flags = ["--max_train_steps", 1] if script == "train" else ["--model", saved, "--cpu", "--max_samples", 4]
    assert call("folders", script, [*flags, "--output_dir", target], place) == 2


def test_recipes_of_all_shapes(place, rng):
    texts = [
        "", "[]", "a", "{", "a: b: c", "seed: &a 1\nnum_threads: *a", "seed: 1\nseed: 2", "seed: 2026-01-01",
        "report_to: [none, --push_to_hub]", "x: !!python/object/apply:os.system ['touch pwned']", "seed: " + "9" * 5000,
        "\x00", "seed:\n  - [1]", "? [1]\n: 2", "model_type: 7", "model_type: [vae]", "learning_rate: .nan",
        "image_size: {a: 1}", "- " * 3000, "learning_rate: 0o7", "? {a: 1}\n: 1",
    ]  # fmt: skip
    for number in range(share(0.1)):
        path = place / f"{number}.yaml"
        name = rng.choice(["seed", "learning_rate", "report_to", "block_out_channels", "quantizer", "nonsense"])
        path.write_text(rng.choice([*texts, f"{name}: {rng.choice(STRANGE)}"]), encoding="utf-8", errors="replace")
        run = tiny("ae", place / f"run-{number}", "--max_train_steps", 1, "--max_eval_samples", 8)
        call("recipes", "train", [*run, "--recipe", path], place)


# -- what lies in files ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "run"
    assert (
        run_script_here("scripts/train.py", tiny("vqvae", folder, "--max_train_steps", "1", "--max_eval_samples", "8"))
        == 0
    )
    return folder


def damage_bytes(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    kind = rng.choice(["truncate", "flip", "empty", "text", "pickle", "zeros"])
    if kind == "flip":
        for _ in range(rng.choice([1, 20])):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    new = {
        "truncate": content[: rng.randrange(len(content))],
        "flip": content,
        "empty": b"",
        "text": b"these are no weights",
        "pickle": pickle.dumps(Executed("pwned")),
        "zeros": bytes(len(content)),
    }
    path.write_bytes(bytes(new[kind]))


def damage_json(path: Path, rng: random.Random) -> None:
    content = json.loads(path.read_text())
    kind = rng.choice(["value", "value", "value", "missing", "added", "other"])
    names = sorted(content)
    strange = rng.choice([None, -1, 0, 7, 1e400, float("nan"), [], {}, "x", 10**12, [[]], True, "../../x", {"a": 1}])
    if kind == "other":
        content = rng.choice([[], 7, None, "x", {}, [content]])
    elif kind == "missing":
        del content[rng.choice(names)]
    else:
        content[rng.choice(names) if kind == "value" else rng.choice(["quantization_config", "auto_map", "dtype"])] = (
            strange
        )
    path.write_text(json.dumps(content))


def damage_tensors(path: Path, rng: random.Random) -> None:
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    kind = rng.choice(["missing", "nan", "shape", "surplus", "dtype"])
    if kind == "missing":
        del tensors[name]
    elif kind == "nan" and tensors[name].is_floating_point():
        tensors[name].view(-1)[0] = rng.choice([float("nan"), float("inf")])
    elif kind == "shape":
        tensors[name] = torch.zeros(3, 5)
    elif kind == "surplus":
        tensors["surplus"] = torch.zeros(2)
    else:
        tensors[name] = tensors[name].to(torch.int64)
    save_file(tensors, path, {"format": "pt"})


USES = {
    "encode_dataset": lambda model, out: ["--model", model, "--output_dir", out, "--max_samples", 4, "--cpu"],
    "sample": lambda model, out: [
        "--image_tokenizer", model, "--num_images", 2, "--output", out / "x.png", "--device", "cpu",
    ],
    "train_prior": lambda model, out: [
        "--image_tokenizer", model, "--output_dir", out, "--max_train_steps", 1, "--hidden_size", 8, "--num_heads", 1,
        "--num_layers", 1, "--max_train_samples", 8, "--max_eval_samples", 4, "--image_token_lm", "false", "--cpu",
        "--num_threads", 1, "--train_batch_size", 4,
    ],
    "train_latent_diffusion": lambda model, out: [
        "--image_model", model, "--output_dir", out, "--max_train_steps", 1, "--cpu", "--max_train_samples", 8,
        "--max_eval_samples", 4, "--num_threads", 1,
    ],
    "publish": lambda model, out: [model, "--repo_id", "nobody/nothing"],
}  # fmt: skip


def test_damaged_model_folders_at_every_command_that_reads_one(place, saved, rng):
    for number in range(share(0.35)):
        model, script = place / f"model-{number}", rng.choice(sorted(USES))
        shutil.copytree(saved, model)
        shutil.rmtree(model / "checkpoints")
        name = rng.choice(
            ["config.json", "model.safetensors", "model.safetensors", "preprocessor_config.json", "metrics.json"]
        )
        if rng.random() < 0.1:
            (model / name).unlink()
            rng.choice([lambda: None, (model / name).mkdir])()
        elif name == "model.safetensors":
            rng.choice([damage_bytes, damage_tensors])(model / name, rng)
        else:
            rng.choice([damage_bytes, damage_json, damage_json])(model / name, rng)
        os.environ["HF_HUB_OFFLINE"] = "1"
        try:
            call("model folders", script, USES[script](model, place / f"out-{number}"), place)
        finally:
            del os.environ["HF_HUB_OFFLINE"]


def test_weights_of_nobody_at_the_converter(place, rng):
    path = place / "weights.pt"
    contents = [
        {}, {1: torch.zeros(1)}, {None: torch.zeros(1)}, [], None, {"a": 7}, {"state_dict": {}}, {"state_dict": 7},
        {"encoder.conv_in.weight": torch.zeros(1)}, {"quantize.embedding.weight": torch.zeros(4, 2, 2)},
        {"model": {"a": torch.zeros(2)}}, {"hparams": {}, "weights": {}}, torch.zeros(3), {"a": torch.zeros(0)},
    ]  # fmt: skip
    for number in range(share(0.1)):
        if rng.random() < 0.4:
            path.write_bytes(
                rng.choice([b"", b"text", b"PK\x03\x04", pickle.dumps(Executed("pwned")), b"\x80\x05", os.urandom(9)])
            )
        else:
            torch.save(rng.choice(contents), path)
        source = rng.choice([[], [], ["taming-vqgan"], ["openai-dvae"], ["llamagen-vq"]])
        assert call("weights", "convert", [*source, path, "--output_dir", place / f"c-{number}"], place) == 2


def test_broken_pictures(place, rng):
    for number in range(share(0.05)):
        folder = place / f"pictures-{number}"
        for index in range(12):
            for split in ("train", "test"):
                path = folder / split / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new(rng.choice(["L", "RGB", "RGBA", "I;16", "1", "P"]), (8, 8)).save(path)
        victim = folder / rng.choice(["train", "test"]) / f"{rng.randrange(12)}.png"
        damage_bytes(victim, rng)
        run = tiny("ae", place / f"run-{number}", "--max_train_steps", 1, "--train_batch_size", 4)
        call("pictures", "train", [*run, "--dataset_name", folder, "--image_size", 8], place)


def test_damaged_checkpoints(place, saved, rng):
    for number in range(share(0.05)):
        folder = place / f"run-{number}"
        shutil.copytree(saved, folder)
        (checkpoint,) = (folder / "checkpoints").iterdir()
        damage_bytes(rng.choice([path for path in checkpoint.iterdir() if path.stat().st_size]), rng)
        flags = tiny("vqvae", folder, "--max_train_steps", 2, "--max_eval_samples", 8, "--resume", "latest")
        assert call("checkpoints", "train", flags, place) in (0, 2)


def test_every_family_was_tried():
    """Runs last; `-s` shows the counts."""
    families = sorted({family for family, _ in COUNTS})
    for family in families:
        print(family, {ended: COUNTS[family, ended] for ended in ("done", "diverged", "refused")})
    if len(families) > 1:  # not when one test is run by itself
        assert len(families) == 7 and all(COUNTS[family, "refused"] for family in families)
