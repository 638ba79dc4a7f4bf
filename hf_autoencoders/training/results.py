# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The results of a run: evaluates the model, and saves the model, a picture and metrics.json."""

import datetime
import json
import math
import platform
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from .checkpoint_folders import versions
from .logs import CURES_OF_DIVERGENCE, TrainingDiverged
from .run_files import METRICS, saving
from .starting_point import record_of_start


if TYPE_CHECKING:
    from .engine import Run

# PSNR of exact reconstructions, NMSE of pictures without variance.
MAY_BE_INFINITE = ("psnr", "nmse")


@contextmanager
def weights_to_judge(run: "Run") -> Iterator[torch.nn.Module]:
    """The model in eval mode, with the averaged weights if the run keeps them."""
    run.model.eval()
    try:
        if run.averages is None:
            yield run.core
        else:
            with run.averages.swapped_into(run.core):
                yield run.core
    finally:
        run.model.train()


@torch.no_grad()
def evaluate_run(run: "Run") -> dict[str, float]:
    """Metrics of the whole held-out split; measured at most once for each step. A collective call."""
    if run.metrics is None or run.metrics[0] != run.step:
        with weights_to_judge(run) as model:
            run.metrics = (run.step, run.task.evaluate(run, model))
    return run.metrics[1]


@torch.no_grad()
def picture_of_run(run: "Run") -> Image.Image:
    """The current picture of the task. A collective call."""
    with weights_to_judge(run) as model:
        return run.task.picture(run, model)


@torch.no_grad()
def check_weights_finite(run: "Run") -> None:
    """Raises TrainingDiverged on every process if a weight is NaN or infinite: it is not saved. A collective call.

    The loss does not show it: the last loss was computed before the last update.
    """
    wrong = torch.zeros((), device=run.accelerator.device)
    for tensor in (*run.core.parameters(), *run.core.buffers()):  # a codebook may be a buffer
        if tensor.is_floating_point():
            own = tensor.to_local() if hasattr(tensor, "to_local") else tensor  # this process's shard
            wrong += (~own.isfinite()).sum()
    if run.accelerator.reduce(wrong, reduction="sum").item():
        raise TrainingDiverged(
            f"Weights are NaN or infinite after step {run.step}: not saved, and the last checkpoint was kept. "
            f"{CURES_OF_DIVERGENCE}"
        )


def check_metrics_finite(metrics: dict[str, float], step: int) -> None:
    """Raises TrainingDiverged if a held-out metric is NaN or infinite, except where a perfect model's may be."""
    wrong = [name for name, value in metrics.items() if name not in MAY_BE_INFINITE and not math.isfinite(value)]
    if wrong:
        raise TrainingDiverged(
            f"Held-out {wrong[0]} is {metrics[wrong[0]]} after step {step}; the last checkpoint was kept. "
            f"{CURES_OF_DIVERGENCE}"
        )


@torch.no_grad()
def save_model(run: "Run") -> None:
    """Saves the trained model; an earlier one stays until the new one is complete. A collective call."""
    check_weights_finite(run)
    folder = Path(run.arguments.run.output_dir)
    with weights_to_judge(run) as model, saving(folder, run.accelerator.is_main_process) as place:
        run.task.save_model(run, model, place)
    run.accelerator.wait_for_everyone()


@torch.no_grad()
def judge(run: "Run") -> dict[str, Any]:
    """Evaluates the saved model; saves pictures, cards and metrics.json, and returns its content. A collective call."""
    folder, writes = Path(run.arguments.run.output_dir), run.accelerator.is_main_process
    own = {**run.task.record(run), **record_of_start(run.task.parent)}
    record = {"metrics": evaluate_run(run), **own, **describe_run(run)}
    with weights_to_judge(run) as model, saving(folder, writes) as place:
        run.task.save_rest(run, model, place, record)
        if writes:
            (place / METRICS).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    run.accelerator.wait_for_everyone()
    return record


def save_results(run: "Run") -> dict[str, Any]:
    """Saves the model, then calls `judge`: a mistake in the held-out split cannot lose the model. A collective call."""
    save_model(run)
    return judge(run)


def describe_run(run: "Run") -> dict[str, Any]:
    """The entries of metrics.json that every task has: how the run was made."""
    arguments, training = run.arguments, run.arguments.training
    processes = run.accelerator.num_processes
    return {
        "parameters": sum(parameter.numel() for parameter in run.core.parameters()),
        "weights": "averaged" if run.averages is not None else "last step",
        "seed": arguments.run.seed,
        "steps": run.step,
        "epochs": round(run.step / run.steps_per_epoch, 2) if run.steps_per_epoch else None,
        "global_batch_size": training.train_batch_size * training.gradient_accumulation_steps * processes,
        "settings": arguments.as_recipe(),
        **({"changed_on_resume": run.changes} if run.changes else {}),
        "command": arguments.command or shlex.join(sys.argv),
        "seconds": round(run.seconds, 3),
        "processes": processes,
        "device": describe_device(run.accelerator.device),
        "mixed_precision": run.accelerator.mixed_precision,
        "date": datetime.date.today().isoformat(),
        "versions": {"python": platform.python_version(), **versions()},
    }


def describe_device(device: torch.device) -> str:
    """ "cpu", or the kind of accelerator with its name: "cuda (NVIDIA H100 80GB HBM3)"."""
    backend = getattr(torch, device.type, None)
    if device.type == "cpu" or not hasattr(backend, "get_device_name"):
        return device.type
    return f"{device.type} ({backend.get_device_name(device)})"
