# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Two real processes over gloo: they train like one, resume bit for bit, stop together; false launches are refused."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file
from training_runs import (
    KILLED_SCRIPT,
    ROOT,
    SCRIPT,
    assert_same_run,
    checkpoint,
    environment,
    finish,
    log_of,
    start,
    tiny,
    train_here,
)

from hf_autoencoders.training.checkpoint_folders import what_is_wrong


# SGD, since Adam turns the rounding of gradients near zero into whole steps; 22 steps an epoch.
FLAGS = (
    "--max_train_steps", "12", "--checkpointing_steps", "4", "--optimizer", "sgd", "--learning_rate", "0.01",
    "--max_eval_samples", "41", "--eval_steps", "6", "--eval_batch_size", "8", "--random_crop", "1",
)  # fmt: skip
CONFIGS = ROOT / "scripts" / "accelerate_configs"
TWO = ("--train_batch_size", "32", "--expected_processes", "2")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """A run of two processes with 32 images each, and what it printed. They end without a thread of their group."""
    folder, script = tmp_path_factory.mktemp("two") / "run", ROOT / "tests" / "train_and_leave.py"
    code, out, err = finish(start(tiny("vqvae", folder, *FLAGS, *TWO), script=script, processes=2))
    assert code == 0, err
    return folder, out


def test_two_processes_train_together_and_only_one_speaks(two_processes):
    _, out = two_processes
    assert out.splitlines()[0].startswith("2 processes (MULTI_CPU), device cpu")
    assert out.count("held out:") == 3  # twice while training, and at the end


def test_two_processes_of_32_train_like_one_of_64(two_processes, tmp_path):
    """Weights, codebook with its statistics, logged losses, and metrics over an odd number of held-out images."""
    folder, _ = two_processes
    one = tmp_path / "one"
    assert train_here(tiny("vqvae", one, *FLAGS, "--train_batch_size", "64")) == 0
    together, alone = (load_file(f / "model.safetensors") for f in (folder, one))
    for name, tensor in alone.items():
        difference = (tensor.double() - together[name].double()).abs().max()
        assert difference <= 1e-6 * tensor.double().abs().max(), name
    for line, expected in zip(log_of(folder), log_of(one), strict=True):
        assert line.keys() == expected.keys()
        for name, value in expected.items():
            assert line[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    assert [line["eval_images"] for line in log_of(folder) if "eval_images" in line] == [41, 41]


def test_two_processes_resume_bit_for_bit_after_one_was_killed(two_processes, tmp_path):
    folder = tmp_path / "run"
    flags = tiny("vqvae", folder, *FLAGS, *TWO)
    code, _, err = finish(start(["step", "11", *flags], script=KILLED_SCRIPT, processes=2))
    assert code != 0, err
    assert sorted(path.name for path in (folder / "checkpoints").glob("check*")) == [
        f"checkpoint-{step:08d}" for step in (4, 8)
    ]
    code, out, err = finish(start([*flags, "--resume", "latest"], processes=2))
    assert code == 0, err
    assert_same_run(two_processes[0], folder, 12)


def test_sigterm_to_the_group_ends_in_one_whole_checkpoint(tmp_path):
    """The training processes exit with 0; torchrun reports the signal that it was sent itself."""
    folder = tmp_path / "run"
    flags = tiny("vqvae", folder, *FLAGS, *TWO, "--max_train_steps", "100000", "--logging_steps", "1")
    process = start(flags, processes=2)
    log, deadline = folder / "metrics.jsonl", time.monotonic() + 240
    while not (log.exists() and log.read_text().count("\n") > 5):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    sent = time.time()
    os.killpg(process.pid, signal.SIGTERM)
    code, out, err = finish(process)
    assert "Traceback" not in err.replace("SignalException", "").split("torch/distributed")[0]
    # The speaking process may hear of the signal from the other one first.
    stopped = re.search(r"Stopped by (?:SIGTERM|a signal to another process) after step (\d+);", out)
    assert stopped, out[-2000:] + err[-2000:]
    step = int(stopped.group(1))
    assert what_is_wrong(checkpoint(folder, step)) is None
    assert (checkpoint(folder, step) / "manifest.json").stat().st_mtime - sent < 20  # seconds
    assert len(list((folder / "checkpoints").glob("check*"))) == step // 4 + (step % 4 > 0)
    assert not (folder / "checkpoints" / ".writing").exists()


def test_two_runs_that_do_not_train_together_are_refused(tmp_path):
    """What bare torchrun starts on a machine without GPUs."""
    if torch.cuda.is_available():
        pytest.skip("with GPUs the processes of torchrun do train together")
    code, out, err = finish(start(tiny("ae", tmp_path / "run", *FLAGS), script=SCRIPT, processes=2, use_cpu=False))
    assert code != 0
    assert "started 2 processes but they do not train together" in err
    assert not (tmp_path / "run").exists()


def test_two_machines_train_together(tmp_path):
    """Two launches of `accelerate launch --num_machines 2`, here both on 127.0.0.1, are one run of two processes.

    On pictures of 64 pixels, whose nets run channels last: torch does not warn of strides.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    short = ("--max_train_steps", "2", "--max_eval_samples", "8", "--image_size", "64")
    flags = tiny("vqvae", tmp_path / "run", *short, *TWO)
    machines = []
    for rank in range(2):
        launcher = ["--config_file", str(CONFIGS / "two_machines.yaml")]
        launcher += ["--machine_rank", str(rank), "--num_processes", "2"]
        launcher += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port), "--mixed_precision", "no"]
        command = [sys.executable, "-m", "accelerate.commands.launch", *launcher, str(SCRIPT), *flags]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        machines.append(subprocess.Popen(command, env=environment(ACCELERATE_USE_CPU="true"), **pipes))
    (first, out, error), (second, silent, its_error) = (finish(machine) for machine in machines)
    assert first == second == 0, error
    assert "Warning" not in error + its_error
    assert out.splitlines()[0].startswith("2 processes (MULTI_CPU)") and "held out:" not in silent
    assert (tmp_path / "run" / "model.safetensors").exists()
