# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train from Python, in a notebook for instance:

from hf_autoencoders import train

run = train(recipe="vae-digits", max_train_steps=200)
run.model, run.metrics, run.pictures["reconstructions"]
"""

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from PIL import Image

from ..training.recipes import TRAINED_BY, find_recipe, is_knob_value, read_recipe, recipe_flags
from .carry_out import Trainer, train_and_save


@dataclass
class TrainedRun:
    """A finished run.

    Attributes:
        folder: with the model, metrics.json, pictures and checkpoints.
        record: the content of metrics.json.
    """

    folder: Path
    record: dict[str, Any]
    trainer: Trainer

    @cached_property
    def model(self) -> Any:
        """What was trained, in eval mode: a model, a prior, or a diffusers pipeline."""
        return self.trainer.open_result(str(self.folder))

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the held-out split."""
        return self.record["metrics"]

    @cached_property
    def pictures(self) -> dict[str, Image.Image]:
        """The run's pictures, by the names of their files."""
        return {path.stem: Image.open(path).convert("RGB") for path in sorted(self.folder.glob("*.png"))}

    def __repr__(self) -> str:
        return f"TrainedRun(folder={str(self.folder)!r}, steps={self.record['steps']}, metrics={self.metrics})"


def train(recipe: str | None = None, **knobs: Any) -> TrainedRun:
    """Trains by a recipe, by knobs, or both, in this process. Returns the run, with model, metrics and pictures.

    Args:
        recipe: name of a shipped recipe (`hf-autoencoders train --recipe list` shows them), or a file.
        knobs: named like the flags, such as `max_train_steps=200`. They override the recipe; None removes a knob of it.

    Raises:
        ValueError: knobs, data or folder do not fit.
        TrainingDiverged: the loss or a weight became NaN or infinite.
        KeyboardInterrupt: the run was stopped, after a checkpoint; `resume="latest"` continues it.
    """
    knobs = {**({"recipe": recipe} if recipe else {}), **knobs}
    trainer, flags = trainer_and_flags(**knobs)
    arguments = trainer.parse(flags)
    arguments.command = f"train({', '.join(f'{name}={knobs[name]!r}' for name in knobs)})"
    threads = torch.get_num_threads()
    forget_accelerator()
    try:
        record = train_and_save(arguments, trainer.make_task(arguments), trainer.make_publisher(arguments))
        if record is None:
            raise KeyboardInterrupt('the run was stopped; train(..., resume="latest") continues it')
        return TrainedRun(Path(arguments.run.output_dir), record, trainer)
    finally:
        torch.set_num_threads(threads)
        forget_accelerator()


def trainer_and_flags(recipe: str | None = None, **knobs: Any) -> tuple[Trainer, list[str]]:
    """Returns (the trainer of this kind of run, the flags with the same meaning as the knobs)."""
    from_recipe = read_recipe(find_recipe(recipe)) if recipe else {}
    model_type = knobs.get("model_type") or from_recipe.get("model_type")
    if model_type in TRAINED_BY:
        knobs.pop("model_type", None)
    flags = ["--recipe", recipe] if recipe else []
    for name, value in knobs.items():
        flags += ["--" + name, "null"] if value is None else recipe_flags({name: as_knob_value(name, value)})
    return importlib.import_module(f".{TRAINED_BY.get(model_type, 'train')}", __package__).TRAINER, flags


def as_knob_value(name: str, value: Any) -> Any:
    value = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    if not is_knob_value(value):
        raise ValueError(f"{name} must be a number, text, True, False, None or a list of them, got {value!r}.")
    return value


def forget_accelerator() -> None:
    """Resets the state that Accelerate keeps for the whole process: a second run may need another one."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
