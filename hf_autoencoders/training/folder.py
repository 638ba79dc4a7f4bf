# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The output folder of a run: whose it is, and what lies in it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from .arguments import Arguments


ARGUMENTS, LOG, METRICS, CHECKPOINTS = "arguments.yaml", "metrics.jsonl", "metrics.json", "checkpoints"
PICTURE, EXAMPLE = "reconstructions.png", "example.png"
# What a run writes; --overwrite deletes these and nothing else.
OURS = (
    ARGUMENTS, LOG, METRICS, CHECKPOINTS, PICTURE, EXAMPLE, "logs", "config.json", "model.safetensors",
    "model.safetensors.index.json", "preprocessor_config.json", "README.md", "code_usage.png",
    "samples.png", "pipeline",
)  # fmt: skip


def output_folder(arguments: Arguments) -> Path:
    """--output_dir, or runs/<recipe>, or runs/<model>-<data set>."""
    if arguments.run.output_dir:
        return Path(arguments.run.output_dir)
    dataset = Path(arguments.data.dataset_name).name
    return Path("runs") / (Path(arguments.recipe).stem if arguments.recipe else f"{arguments.model_type}-{dataset}")


def check_folder(accelerator: Accelerator, folder: Path, arguments: Arguments):
    """Is the folder free for this run? Nothing is changed yet, so a mistake found later costs nothing.

    Raises:
        ValueError: it holds another run, or files that no run wrote.
    """
    _on_main_process(accelerator, lambda: _what_is_wrong(folder, arguments))


def claim_folder(accelerator: Accelerator, folder: Path, arguments: Arguments):
    """Makes the folder this run's: --overwrite deletes what the last one wrote, arguments.yaml repeats this one."""
    _on_main_process(accelerator, lambda: _claim(folder, arguments))


def holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in (ARGUMENTS, LOG, METRICS, CHECKPOINTS))


def _on_main_process(accelerator: Accelerator, action: Callable[[], str | None]):
    """Every process hears of the problem that the main one found."""
    problem = [action() if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(problem)
    if problem[0]:
        raise ValueError(problem[0])


def _what_is_wrong(folder: Path, arguments: Arguments) -> str | None:
    if folder.exists() and not folder.is_dir():
        return f"--output_dir {folder} is a file."
    found = sorted(path.name for path in folder.glob("*")) if folder.exists() else []
    if not found or arguments.run.resume or arguments.run.overwrite:
        return None
    what = "another run" if holds_run(folder) else f"other files ({', '.join(found[:3])}, ...)"
    return f"{folder} holds {what}: give --resume latest to continue, --overwrite to replace, or another --output_dir."


def _claim(folder: Path, arguments: Arguments) -> str | None:
    try:
        if arguments.run.overwrite:
            remove_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(arguments.as_recipe(), sort_keys=False)
        (folder / ARGUMENTS).write_text(
            f"# Repeats this run: train.py --recipe {folder / ARGUMENTS}\n{text}", encoding="utf-8"
        )
    except OSError as error:
        return f"--output_dir {folder} cannot be written: {error.strerror}."
    return None


def remove_run(folder: Path):
    """Deletes what a run writes; other files stay."""
    for path in (*(folder / name for name in OURS), *folder.glob("model-*-of-*.safetensors")):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
