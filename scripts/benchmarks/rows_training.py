# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Rows on training: a step against another commit's, an epoch against pythae's, two processes, a start."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from measure import ROOT, Case, Timing, in_fresh_process, installed, interleaved


WORKER = Path(__file__).with_name("step_worker.py")


@contextmanager
def step_worker(tree: Path, net: str, precision: str, steps: int) -> Iterator[Callable[[Timing], None]]:
    """A process that trains with the package of `tree`; called, it trains a block and adds its times."""
    command = [sys.executable, str(WORKER), net, precision, str(steps)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def block(timing: Timing) -> None:
        process.stdin.write("\n")
        process.stdin.flush()
        cpu, wall = map(float, process.stdout.readline().split())
        timing.cpu.append(cpu)
        timing.wall.append(wall)

    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{' '.join(command)} in {tree} ended with {process.wait()}.")
        yield block
    finally:
        process.stdin.close()
        process.wait()


def step(given: argparse.Namespace) -> list[Case]:
    """The bare step: forward, backward, codebook, Adam. `--baseline` names a checkout of another commit."""
    nets = (
        {"tiny": "tiny"}
        if given.tiny
        else {"paper": "paper VQ-VAE, 32 px, batch 64", "resnet": "f8 resnet, 64 px, batch 16"}
    )
    cases = []
    for net, title in nets.items():
        steps = 1 if given.tiny or net == "resnet" else 3
        with (
            step_worker(ROOT, net, "fp32", steps) as ours,
            step_worker(ROOT, net, "bf16", steps) as half,
            step_worker(given.baseline or ROOT, net, "fp32", steps) as before,
        ):
            ways = {"ours, fp32": ours, "ours, bf16": half}
            if given.baseline:
                ways[f"bare step of {commit_of(given.baseline)}, fp32"] = before
            timings = {name: Timing() for name in ways}
            for _ in range(given.rounds):
                for name, block in ways.items():
                    block(timings[name])
        case = Case(title, timings)
        case.claim("as fast as fp32, in bf16", case.ratio("ours, fp32", to="ours, bf16"), ">=", 1.6)
        if given.baseline:
            case.claim("as fast as before, fp32", case.ratio(list(ways)[2], to="ours, fp32"), ">=", 1.3)
        else:
            case.notes.append("No --baseline: the step of another commit was not measured.")
        case.notes.append(
            "Convolutions and their gradients took 94 % (paper) and 92 % (f8 resnet) of the fp32 step on a core of an "
            "AMD EPYC, at 190 to 240 of the 250 GFLOP/s that it reaches: all else together is the rest."
        )
        cases.append(case)
    return cases


def commit_of(tree: Path) -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=tree, capture_output=True, text=True, check=True
    ).stdout.strip()


# -- an epoch ----------------------------------------------------------------------------------------------------------


def mnist_like(count: int) -> np.ndarray:
    """(N, 1, 28, 28) uint8, three quarters black, as MNIST's; arithmetic does not depend on the values."""
    random = np.random.default_rng(0)
    return np.where(random.random((count, 1, 28, 28)) < 0.25, random.integers(1, 256, (count, 1, 28, 28)), 0).astype(
        np.uint8
    )


def write_parquet(pictures: np.ndarray, folder: Path) -> None:
    from datasets import Dataset, Features, Image
    from PIL import Image as Pictures

    rows = [Pictures.fromarray(picture[0]) for picture in pictures]
    data = Dataset.from_dict({"image": rows}, features=Features({"image": Image()}))
    (folder / "data").mkdir(parents=True)
    data.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    data.select(range(100)).to_parquet(folder / "data" / "test-00000-of-00001.parquet")


def epoch(given: argparse.Namespace) -> list[Case]:
    """A VAE 784-512-16 (pythae's own nets), batch 100, data from memory included, against pythae's trainer."""
    if not installed("pythae"):
        return [Case("pythae is not installed", {})]
    count = 400 if given.tiny else given.epoch_pictures
    with tempfile.TemporaryDirectory() as place:
        pictures = mnist_like(count)
        write_parquet(pictures, Path(place) / "mnist")
        ways = {"ours": our_epoch(Path(place), count), "pythae": pythae_epoch(Path(place), pictures)}
        case = Case(f"{count} pictures", interleaved(ways, min(given.rounds, 3)))
    case.claim("as fast as pythae", case.ratio("pythae"), ">=", 1.5)
    return [case]


def our_epoch(place: Path, count: int) -> Callable:
    from hf_autoencoders.training.assembly import build_run
    from hf_autoencoders.training.autoencoder_task import AutoencoderTask
    from hf_autoencoders.training.engine import train
    from hf_autoencoders.training.knobs import parse_arguments

    steps = count // 100
    flags = {
        "model_type": "vae", "backbone": "mlp", "hidden_sizes": 512, "latent_channels": 16,
        "reconstruction_loss": "bce",
        "dataset_name": place / "mnist", "train_batch_size": 100, "learning_rate": 1e-3, "optimizer": "adam",
        "max_train_steps": steps, "logging_steps": steps, "eval_steps": 0, "checkpointing_steps": 0, "num_threads": 1,
        "output_dir": place / "run",
    }  # fmt: skip
    arguments = parse_arguments([word for name, value in flags.items() for word in (f"--{name}", str(value))])
    run = build_run(arguments, AutoencoderTask(arguments))

    def one() -> None:
        run.total_steps = run.step + steps
        train(run)

    return one


def pythae_epoch(place: Path, pictures: np.ndarray) -> Callable:
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce"))
    pixels = torch.from_numpy(pictures).float() / 255
    data = BaseDataset(pixels, torch.ones(len(pixels)))
    config = BaseTrainerConfig(
        output_dir=str(place / "pythae"),
        per_device_train_batch_size=100,
        num_epochs=1,
        learning_rate=1e-3,
        no_cuda=True,
    )

    def one() -> None:
        BaseTrainer(model=model, train_dataset=data, training_config=config).train()

    return one


# -- two processes, and a start ----------------------------------------------------------------------------------------


def processes(given: argparse.Namespace) -> list[Case]:
    """Pictures a second of two processes on two cores against one on one core: wall time, for a quiet machine."""
    if (os.cpu_count() or 1) < 2:
        return [Case("this machine has one core", {})]
    steps = 4 if given.tiny else 60
    rates = {count: max(rate_of_training(count, steps) for _ in range(1 if given.tiny else 3)) for count in (1, 2)}
    case = Case(f"VQ-VAE of vqvae-digits.yaml on 64 px, {steps} steps, batch 64 a process", {})
    case.claim("as many pictures a second as one process", rates[2] / rates[1], ">=", 1.8)
    case.notes.append(f"Pictures a second: {rates[1]:.0f} and {rates[2]:.0f}, the best of three runs each.")
    return [case]


def rate_of_training(count: int, steps: int) -> float:
    """Pictures a second in the second half of a run."""
    with tempfile.TemporaryDirectory() as place:
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(count)]
        launch += ["--config_file", str(ROOT / "scripts/accelerate_configs/cpu.yaml")] if count > 1 else ["--cpu"]
        flags = ["--model_type", "vqvae", "--image_size", "64", "--train_batch_size", "64", "--eval_steps", "0"]
        flags += ["--max_train_steps", steps, "--logging_steps", steps // 2, "--checkpointing_steps", "0"]
        flags += ["--num_threads", "1", "--expected_processes", count, "--output_dir", f"{place}/run"]
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
        command = [*launch, str(ROOT / "scripts" / "train.py"), *map(str, flags)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if "images/s" in line and line.startswith("step")]
    return float(lines[-1].split(" images/s")[0].split()[-1].replace(",", ""))


IMPORTS = {
    "transformers": "from transformers import AutoConfig, AutoModel, PreTrainedModel",
    "ours": "import hf_autoencoders",
}
OUR_STEP = """
import resource, sys, torch
from hf_autoencoders import train
torch.set_num_threads(1)
train(model_type="vae", backbone="mlp", hidden_sizes=[512], latent_channels=16, reconstruction_loss="bce",
      dataset_name=sys.argv[1], train_batch_size=100, max_train_steps=int(sys.argv[3]), eval_steps=0, num_threads=1,
      checkpointing_steps=0, output_dir=sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
PYTHAE_STEP = """
import resource, sys, torch
import numpy as np
from datasets import load_dataset
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.trainers import BaseTrainer, BaseTrainerConfig
torch.set_num_threads(1)
data = load_dataset(sys.argv[1], split="train")
pixels = torch.from_numpy(np.stack([np.asarray(row["image"]) for row in data]))[:, None].float() / 255
model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=16, reconstruction_loss="bce"))
config = BaseTrainerConfig(output_dir=sys.argv[2], per_device_train_batch_size=100, num_epochs=1, no_cuda=True)
BaseTrainer(model=model, train_dataset=BaseDataset(pixels, torch.ones(len(pixels))), training_config=config).train()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def start(given: argparse.Namespace) -> list[Case]:
    """Fresh processes: imports, `train.py --help`, and a short run from parquet to saved model with its memory."""
    rounds = 1 if given.tiny else min(given.rounds, 3)
    ways = {name: lambda code=code: in_fresh_process(code) for name, code in (*reversed(IMPORTS.items()),)}
    imports = Case("import", interleaved(ways, rounds))
    more = (imports.timings["ours"].median - imports.timings["transformers"].median) / 1e3
    imports.claim("CPU seconds more than transformers' Auto classes", more, "<=", 0.3, " s")
    help_way = {"train.py --help": lambda: subprocess.run([sys.executable, ROOT / "scripts" / "train.py", "--help"],
                                                          stdout=subprocess.DEVNULL, check=True)}  # fmt: skip
    cases = [imports, Case("help", interleaved(help_way, rounds))]
    if not installed("pythae"):
        return [*cases, Case("pythae is not installed", {})]
    count = 400 if given.tiny else 20_000
    with tempfile.TemporaryDirectory() as place:
        write_parquet(mnist_like(count), Path(place) / "mnist")
        peaks, runs = {}, {"ours": OUR_STEP, "pythae": PYTHAE_STEP}

        def whole(name: str) -> None:
            folder = Path(place, f"{name}-{time.time_ns()}")
            peaks[name] = in_fresh_process(runs[name], Path(place) / "mnist", folder, count // 100)[1] / 1024

        case = Case(
            f"process of one epoch of the VAE above on {count} pictures",
            interleaved({name: lambda name=name: whole(name) for name in runs}, rounds),
        )
    case.claim("of pythae's CPU time, from start to saved model", 1 / case.ratio("pythae"), "<=", 1.0)
    case.claim("of pythae's memory at the peak", peaks["ours"] / peaks["pythae"], "<=", 1.0)
    case.notes.append("MiB at the peak: " + ", ".join(f"{name} {peak:.0f}" for name, peak in peaks.items()) + ".")
    return [*cases, case]
