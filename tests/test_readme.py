# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the README and its longer page of the four models say is true: snippets run, files and flags exist."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import check_flags_of_train_py, named_files, python_snippets, run_snippets


ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
MODELS = (ROOT / "docs" / "models.md").read_text()


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


@pytest.mark.parametrize(
    ("name", "text", "snippets", "shapes"), [("README.md", README, 2, 3), ("models.md", MODELS, 6, 10)]
)
def test_the_snippets_run_and_their_values_have_the_shapes_in_the_comments(
    trained, monkeypatch, name, text, snippets, shapes
):
    monkeypatch.chdir(trained)
    assert len(python_snippets(text)) >= snippets
    _, said = run_snippets(text, name)
    assert len(said) >= shapes


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_the_files_that_are_named_exist():
    for path in named_files(README):
        assert (ROOT / path).exists(), f"README names {path}"


def test_the_flags_that_are_named_exist():
    check_flags_of_train_py(README)


def test_the_test_command_is_the_one_that_ci_calls():
    assert "make test" in README and "make test" in (ROOT / ".ci/run").read_text()
