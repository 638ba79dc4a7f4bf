# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""--compile changes the speed of a run, and not its losses; without a compiler it says so in one line."""

import pytest
import torch
from safetensors.torch import load_file
from training_runs import assert_same_run, log_of, tiny, train_here

from hf_autoencoders.training import compilation


STEPS = ("--max_train_steps", 3, "--logging_steps", 1, "--eval_steps", 0, "--checkpointing_steps", 0)


def test_a_compiled_run_has_the_losses_of_an_eager_one(tmp_path):
    losses = []
    for name, flags in {"eager": (), "compiled": ("--compile",)}.items():
        assert train_here(tiny("ae", tmp_path / name, *STEPS, *flags)) == 0
        losses.append([line["loss"] for line in log_of(tmp_path / name) if "loss" in line])
    assert len(losses[0]) == 3 and losses[1] == pytest.approx(losses[0], rel=1e-4)
    eager, compiled = (load_file(tmp_path / name / "model.safetensors") for name in ("eager", "compiled"))
    assert eager.keys() == compiled.keys()  # torch.compile's own wrapper would call them `_orig_mod. ...`


def test_a_compiled_run_with_accumulated_gradients_resumes_bit_for_bit(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    knobs = ("--compile", "--gradient_accumulation_steps", 2, "--checkpointing_steps", 1)
    for folder, flags in ((whole, ()), (cut, ("--max_train_steps", 1)), (cut, ("--resume", "latest"))):
        torch.compiler.reset()  # as in a process of its own
        assert train_here(tiny("ae", folder, *STEPS, *knobs, *flags)) == 0
    assert_same_run(whole, cut, 3)


def test_without_a_compiler_the_knob_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise RuntimeError("no C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", fail)
    assert train_here(tiny("ae", tmp_path / "run", *STEPS, "--compile")) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "--compile" in line]
    assert len(said) == 1 and "no C++ compiler found" in said[0] and "long story" not in said[0]


def test_sharded_models_are_not_compiled():
    with pytest.raises(ValueError, match="--compile .* FSDP"):
        compilation.check_whole_model(compilation.DistributedType.FSDP)
