# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train from Python, in a notebook for instance:

from hf_autoencoders import train

run = train(recipe="vae-digits", max_train_steps=200)
run.model, run.metrics, run.pictures["reconstructions"]
"""

import base64
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from huggingface_hub.errors import StrictDataclassError
from PIL import Image

from ..own_process import in_one_line
from ..training.launch import leave_process_groups
from ..training.logs import TrainingDiverged
from ..training.progress import worth_telling
from ..training.recipes import TRAINED_BY, find_recipe, is_knob_value, read_recipe, recipe_flags
from .boundary import EXPECTED, no_progress_bars
from .carry_out import Trainer, train_and_save


STYLE_OF_PICTURES = "min-width: 4em; max-width: 100%; image-rendering: pixelated"  # CSS


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
        """The model, the prior or the diffusers pipeline that was trained, in eval mode."""
        return self.trainer.open_result(str(self.folder))

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the held-out split."""
        return self.record["metrics"]

    @cached_property
    def pictures(self) -> dict[str, Image.Image]:
        """The run's pictures, by the names of their files."""
        return {path.stem: Image.open(path).convert("RGB") for path in self.files_of_pictures()}

    def files_of_pictures(self) -> list[Path]:
        return sorted(self.folder.glob("*.png"))

    def __repr__(self) -> str:
        metrics = ", ".join(f"{name} {value}" for name, value in worth_telling(self.metrics).items())
        return f"TrainedRun({str(self.folder)!r}, {self.record['steps']:,} steps: {metrics})"

    def _repr_html_(self) -> str:
        """What a notebook shows of the run: its metrics and its pictures."""
        told = worth_telling(self.metrics).items()
        rows = "".join(f"<tr><td>{escape(name)}</td><td>{value}</td></tr>" for name, value in told)
        pictures = "".join(map(as_html_figure, self.files_of_pictures()))
        head = f"<b>{escape(str(self.folder))}</b>, {self.record['steps']:,} steps; held out:"
        return f"<p>{head}</p><table>{rows}</table>{pictures}"


def as_html_figure(picture: Path) -> str:
    """A PNG file with its name below it. Not larger than the page; each pixel of a small one stays sharp."""
    data = base64.b64encode(picture.read_bytes()).decode()
    image = f'<img src="data:image/png;base64,{data}" style="{STYLE_OF_PICTURES}">'
    return f"<figure>{image}<figcaption>{escape(picture.stem)}</figcaption></figure>"


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
    try:
        with borrowed_process():
            return run_here({**({"recipe": recipe} if recipe else {}), **knobs})
    except (*EXPECTED, TrainingDiverged) as error:  # one line, as of a command, without the way through our code
        told = ValueError(in_one_line(error)) if isinstance(error, StrictDataclassError) else error
        raise told.with_traceback(None) from None


def run_here(knobs: dict[str, Any]) -> TrainedRun:
    trainer, flags = trainer_and_flags(**knobs)
    arguments = trainer.parse(flags)
    arguments.command = f"train({', '.join(f'{name}={knobs[name]!r}' for name in knobs)})"
    record = train_and_save(arguments, trainer.make_task(arguments), trainer.make_publisher(arguments))
    leave_process_groups()
    if record is None:
        raise KeyboardInterrupt('the run was stopped; train(..., resume="latest") continues it')
    return TrainedRun(Path(arguments.run.output_dir), record, trainer)


def trainer_and_flags(recipe: str | None = None, **knobs: Any) -> tuple[Trainer, list[str]]:
    """Returns (the trainer of this kind of run, the flags with the same meaning as the knobs)."""
    if "help" in knobs:
        raise ValueError("`hf-autoencoders train --help` shows the knobs; the parameters of train() have their names.")
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


@contextmanager
def borrowed_process() -> Iterator[None]:
    """A run of ours inside of a longer program: afterwards threads and progress bars are as they were before."""
    threads = torch.get_num_threads()
    forget_accelerator()
    try:
        with no_progress_bars():
            yield
    finally:
        forget_accelerator()
        torch.set_num_threads(threads)


def forget_accelerator() -> None:
    """Resets the state that Accelerate keeps for the whole process: a second run may need another one."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
