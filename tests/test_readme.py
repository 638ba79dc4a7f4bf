# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the README says is true: its snippets run, its files and flags exist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMMANDS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with runs/NAME-digits of all four models, trained for a few steps by the recipes."""
    folder = tmp_path_factory.mktemp("readme")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    for name in ("ae", "vae", "vqvae", "dvae"):
        command = [sys.executable, ROOT / "scripts/train.py", "--recipe", ROOT / f"scripts/recipes/{name}-digits.yaml"]
        short = ["--output_dir", f"runs/{name}-digits", "--max_train_steps", "10", "--max_eval_samples", "64"]
        subprocess.run([*command, *short], cwd=folder, env=environment, check=True, capture_output=True)
    return folder


def test_the_snippets_run_one_after_the_other(trained, monkeypatch):
    monkeypatch.chdir(trained)
    assert len(SNIPPETS) >= 5
    names = {}
    for snippet in SNIPPETS:
        exec(compile(snippet, "README.md", "exec"), names)
    shapes = re.findall(r"^(\w+) = .*# \((\d[\d, ]*)\)", "\n".join(SNIPPETS), re.MULTILINE)
    assert len(shapes) >= 3
    for name, shape in shapes:
        assert names[name].dim() == len(shape.split(",")), f"{name} is said to have shape ({shape})"


def test_the_shapes_in_the_comments_are_those_of_the_values(trained, monkeypatch):
    monkeypatch.chdir(trained)
    names = {}
    for snippet in SNIPPETS:
        for line in snippet.splitlines():
            exec(line, names)
            said = re.search(r"^(\w+) = .*# \(([\d, ]+)\)", line)
            if said:
                assert tuple(names[said[1]].shape) == tuple(int(n) for n in said[2].split(",")), line


def test_the_files_that_are_named_exist():
    for path in re.findall(r"\b((?:scripts|docs|model_cards|hf_autoencoders|tests)/[\w./-]+\.\w+)", README):
        assert (ROOT / path).exists(), f"README names {path}"


def test_the_flags_that_are_named_exist():
    from hf_autoencoders.training.arguments import parse_arguments

    for command in "\n".join(COMMANDS).splitlines():
        words = command.split("#")[0].split()
        if "scripts/train.py" not in words or "--help" in words:
            continue
        arguments = words[words.index("scripts/train.py") + 1 :]
        arguments = [str(ROOT / word) if word.startswith("scripts/") else word for word in arguments]
        parse_arguments(arguments)


def test_the_test_command_is_the_one_that_ci_calls():
    assert "make test" in README and "make test" in (ROOT / ".ci/run").read_text()
