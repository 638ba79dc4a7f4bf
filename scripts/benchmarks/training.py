# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the training loop costs over the bare PyTorch step of the same model, the same batches and the same optimizer:

    python scripts/benchmarks/training.py --recipe scripts/recipes/vqvae-mnist.yaml [FLAGS OF train.py]

Blocks of steps of both alternate, so that other load hits both; the figure is the ratio of their medians. The loop's
blocks hold everything: loading, augmentation, schedules, statistics, codebook updates, a line of the log. The bare step
has its batches ready in memory: forward, backward, the codebook's update, optimizer. The start of an
iterator and a line of the log come once in 25 steps, which is oftener than in a real run.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch

import hf_autoencoders  # noqa: F401  (registers the four models with the Auto classes)
from hf_autoencoders.training.assembly import build_run
from hf_autoencoders.training.autoencoder_task import AutoencoderTask
from hf_autoencoders.training.engine import Run, train
from hf_autoencoders.training.knobs import parse_arguments


STEPS, ROUNDS, WARM_UP = 25, 10, 1


def bare_steps(run: Run, batches: list[torch.Tensor]):
    """The same training in plain PyTorch."""
    model, optimizer = run.core, run.optimizer.optimizer
    for pixels in batches:
        loss = model(pixels, **run.task.schedules(run.step)).loss
        loss.backward()
        model.apply_state_updates()
        optimizer.step()
        optimizer.zero_grad()


def loop_steps(run: Run):
    run.total_steps = run.step + STEPS
    with contextlib.redirect_stdout(io.StringIO()):
        train(run)


def seconds(action: Callable[[], None]) -> tuple[float, float]:
    """Wall time, and CPU time of this process (which other programs disturb less)."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def main():
    with tempfile.TemporaryDirectory() as place:
        folder = str(Path(place) / "run")
        flags = ["--output_dir", folder, "--max_train_steps", str(STEPS), "--logging_steps", str(STEPS)]
        flags += ["--checkpointing_steps", "0"]  # a run writes its last step else, and here each block is one
        arguments = parse_arguments([*sys.argv[1:], *flags])
        run = build_run(arguments, AutoencoderTask(arguments))
        if run.arguments.training.gradient_accumulation_steps > 1 or run.accelerator.num_processes > 1:
            sys.exit("training.py: one process without accumulation; the bare step knows neither.")
        loop_steps(run)
        batches = [batch["pixel_values"] for batch in islice(run.batches(0), STEPS)]
        loop, bare = [], []
        for round_number in range(ROUNDS + WARM_UP):
            pair = seconds(lambda: loop_steps(run)), seconds(lambda: bare_steps(run, batches))
            if round_number >= WARM_UP:
                loop.append(pair[0])
                bare.append(pair[1])
        for kind, index in (("wall", 0), ("cpu", 1)):
            ours, theirs = (statistics.median(block[index] for block in blocks) / STEPS for blocks in (loop, bare))
            least = min(block[index] for block in loop) / min(block[index] for block in bare)
            print(
                f"{kind:4s} ms a step: loop {1e3 * ours:.2f}, bare {1e3 * theirs:.2f}; overhead "
                f"{ours / theirs - 1:+.1%} (median of {ROUNDS} blocks of {STEPS}), {least - 1:+.1%} (fastest blocks)"
            )


if __name__ == "__main__":
    main()
