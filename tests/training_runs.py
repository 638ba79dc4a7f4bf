# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Short runs of scripts/train.py for the tests: in this process, in another one, or in several that train together."""

import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from safetensors.torch import load_file


ROOT = Path(__file__).resolve().parents[1]
SCRIPT, KILLED_SCRIPT = ROOT / "scripts" / "train.py", ROOT / "tests" / "train_and_die.py"

# 1,437 digits, 16 a step: 89 steps an epoch. A model of some thousand weights. One thread, so that sums have one order.
TINY = ("--num_threads", "1", "--train_batch_size", "16", "--logging_steps", "5")
TINY_WITH_CODES = (
    *("--block_out_channels", "8", "8", "--layers_per_block", "1"),
    *("--codebook_size", "16", "--codebook_dim", "4"),
)
TINY_MODELS = {
    "ae": ("--hidden_sizes", "16", "--backbone", "mlp", "--latent_channels", "2"),
    "vae": ("--hidden_sizes", "16", "--backbone", "mlp", "--latent_channels", "2"),
    "vqvae": TINY_WITH_CODES,
    "dvae": TINY_WITH_CODES,
}


def tiny(model_type: str, output_dir: Path, *flags: object) -> list[str]:
    """Flags of a tiny run; later ones override."""
    model = TINY_MODELS[model_type]
    return [str(f) for f in ("--model_type", model_type, *model, *TINY, "--output_dir", output_dir, *flags)]


def load_script(path: Path = SCRIPT):
    """The module of a script; of a command, which `scripts/` has only a door to, the command's."""
    if (ROOT / "hf_autoencoders/commands" / path.name).exists():
        return importlib.import_module(f"hf_autoencoders.commands.{path.stem}")
    spec = importlib.util.spec_from_file_location(f"{path.stem}_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def train_here(flags: list[str]) -> int:
    """`train.py FLAGS` in this process: its exit code."""
    return run_script_here("scripts/train.py", flags)


@contextmanager
def alone() -> Iterator[None]:
    """A command in this process. Accelerate's singletons are cleared: a new process has none."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def run_script_here(script: str, flags: list[str]) -> int:
    """A script of this repository in this process."""
    with alone():
        return load_script(ROOT / script).main(flags)


def environment(**extra: str) -> dict[str, str]:
    """One thread a process, no Hub, and this repository first."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **extra}


def start(flags: list[str], script: Path = SCRIPT, processes: int = 1, use_cpu: bool = True) -> subprocess.Popen:
    """`train.py FLAGS` in its own process group; under torchrun where several processes are wanted."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(script), *flags]
    cpu = {"ACCELERATE_USE_CPU": "true"} if use_cpu else {"ACCELERATE_USE_CPU": "false"}
    return subprocess.Popen(
        command,
        env=environment(**cpu),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def gloo_threads() -> list[str]:
    """Names of this process's threads that belong to a process group of gloo (on Linux)."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def make_weights_infinite(monkeypatch) -> None:
    """From now on runs in this process make steps of infinite length."""

    def infinite(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = math.inf

    monkeypatch.setattr("hf_autoencoders.training.engine.set_learning_rate", infinite)


def finish(process: subprocess.Popen, timeout: float = 300) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def log_of(folder: Path) -> list[dict]:
    """metrics.jsonl without what a clock decides."""
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def checkpoint(folder: Path, step: int) -> Path:
    return folder / "checkpoints" / f"checkpoint-{step:08d}"


def assert_same_run(folder: Path, other: Path, step: int):
    """Bit for bit: the saved model, the checkpoint's weights, optimizer, averages and random states, and the log."""
    clock = ("manifest.json", "state.json")  # seconds are in the state, and its checksum in the manifest
    names = [path.name for path in checkpoint(folder, step).iterdir() if path.name not in clock]
    assert any(name.startswith("random_states") for name in names) and "optimizer.bin" in names
    for name in names:
        assert (checkpoint(folder, step) / name).read_bytes() == (checkpoint(other, step) / name).read_bytes(), name
    one, two = load_file(folder / "model.safetensors"), load_file(other / "model.safetensors")
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name
    assert log_of(folder) == log_of(other)
