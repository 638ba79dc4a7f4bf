# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The second player of the loop: its gradient and the model's stay apart, and every split of the work is the same."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from train_with_adversary import RATE, START, ScalarAdversary, Scale, main
from training_runs import ROOT, assert_same_run, checkpoint, finish, log_of, start, tiny, train_here
from transformers.utils import ModelOutput

from hf_autoencoders.training.adversary import Adversary


SCRIPT = ROOT / "tests" / "train_with_adversary.py"
# SGD, since Adam turns the rounding of gradients near zero into whole steps.
FLAGS = (
    "--max_train_steps", "8", "--checkpointing_steps", "4", "--optimizer", "sgd", "--learning_rate", "0.01",
    "--max_eval_samples", "8", "--logging_steps", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def one_process(tmp_path_factory) -> Path:
    """A run of one process with 16 pictures a step."""
    folder = tmp_path_factory.mktemp("one") / "run"
    assert main(tiny("ae", folder, *FLAGS)) == 0
    return folder


def adversary_of(folder: Path, step: int = 8) -> dict:
    return torch.load(checkpoint(folder, step) / "adversary.bin", weights_only=True)


def assert_trained_alike(folder: Path, other: Path):
    one, two = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    for name, tensor in one.items():
        assert (tensor.double() - two[name].double()).abs().max() <= 1e-6 * tensor.double().abs().max(), name
    nets = adversary_of(folder)["net"], adversary_of(other)["net"]
    assert nets[0]["weight"].item() == pytest.approx(nets[1]["weight"].item(), rel=1e-6)
    assert nets[0]["last_step"] == nets[1]["last_step"] == 7
    for line, expected in zip(log_of(other), log_of(folder), strict=True):
        assert line == pytest.approx(expected, rel=1e-4, abs=1e-6)


def attached(**options) -> Adversary:
    net = Scale()
    adversary = ScalarAdversary(net, torch.optim.SGD(net.parameters()), RATE, **options)
    adversary.attach(Accelerator(cpu=True))
    return adversary


def test_four_micro_batches_of_4_train_it_like_one_of_16(one_process, tmp_path):
    split = ("--train_batch_size", "4", "--gradient_accumulation_steps", "4")
    assert main(tiny("ae", tmp_path / "run", *FLAGS, *split)) == 0
    assert_trained_alike(one_process, tmp_path / "run")


def test_two_processes_of_8_train_it_like_one_of_16(one_process, tmp_path):
    two = ("--train_batch_size", "8", "--expected_processes", "2")
    code, _, err = finish(start(["never", "0", *tiny("ae", tmp_path / "run", *FLAGS, *two)], SCRIPT, processes=2))
    assert code == 0, err
    assert_trained_alike(one_process, tmp_path / "run")


def test_a_killed_run_goes_on_bit_for_bit(one_process, tmp_path):
    flags = tiny("ae", tmp_path / "run", *FLAGS)
    code, _, err = finish(start(["step", "6", *flags], SCRIPT))
    assert code == -9, err
    assert main([*flags, "--resume", "latest"]) == 0
    assert_same_run(one_process, tmp_path / "run", 8)


def test_it_changes_the_model_from_its_start_on_and_not_before(one_process, tmp_path):
    assert train_here(tiny("ae", tmp_path / "alone", *FLAGS)) == 0
    alone, played = log_of(tmp_path / "alone"), log_of(one_process)
    losses = [[line["loss"] for line in log if "loss" in line] for log in (alone, played)]
    assert losses[0][: START + 1] == losses[1][: START + 1]  # the first loss that a changed step left
    assert losses[0][START + 1 :] != losses[1][START + 1 :]
    assert [("adversary_loss" in line) for line in played if "loss" in line] == [step > START for step in range(1, 9)]


def test_its_learning_rate_is_that_of_the_last_step(one_process):
    assert adversary_of(one_process)["optimizer"]["param_groups"][0]["lr"] == RATE(7)


def test_the_models_term_gives_the_net_no_gradient_and_the_nets_loss_gives_the_model_none():
    adversary, painted = attached(), torch.full((2, 1, 2, 2), 0.25, requires_grad=True)
    output = ModelOutput(reconstruction=painted)
    adversary.generator_term(output, {}, 0).backward()
    assert painted.grad.unique().tolist() == [-0.5 * 0.5 / 8]  # the weight 0.5, a mean of 8 pixels
    assert adversary.net.weight.grad is None and adversary.net.weight.requires_grad
    before = painted.grad.clone()
    adversary.update(output, {"pixel_values": torch.ones(2, 1, 2, 2)}, 0)
    assert adversary.net.weight.item() != 0.5 and torch.equal(painted.grad, before)


def test_it_is_trained_on_every_so_many_steps_from_its_start_on():
    adversary = attached(start=3, every=2)
    assert [step for step in range(9) if adversary.due(step)] == [3, 5, 7]
    assert adversary.generator_term(ModelOutput(), {}, 2) is None
    assert adversary.update(ModelOutput(reconstruction=torch.zeros(1, 1, 2, 2)), {}, 4) == {}
    with pytest.raises(ValueError, match="`every` >= 1, got 0 and 0"):
        attached(every=0)
