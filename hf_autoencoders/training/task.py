# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a run trains: the one object that an autoencoder, a prior over its codes and latent diffusion each write."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers.utils import ModelOutput

from .adversary import Adversary
from .schedules import Schedules
from .starting_point import Parent


if TYPE_CHECKING:
    from accelerate import Accelerator

    from .arguments import Arguments
    from .engine import Run


def as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return batch


class Task:
    """What is trained, on what, how it is judged, and what it leaves. The loop knows nothing else of a model.

    `assembly.build_run` calls `read`, then `build`; the loop calls `begin` before step 0 and `step` for each
    micro-batch; `evaluate`, `picture` and `save` get the model in eval mode with the weights that count (the averaged
    ones where the run keeps them), and every process calls them at the same time.

    Attributes:
        arguments: the knobs.
        train_set: what it is trained on, after `read`: map-style with `__getitems__` (a whole batch) and `set_epoch`,
            or an iterable one, which has no length.
        collate: what a DataLoader makes of the entries of `train_set`.
        schedules: numbers over time that the model's forward takes, after `build`; they are logged.
        codebook_size: K where the output has `image_tokens` to be counted, after `build`.
        picture_file: what `picture` is saved as with each evaluation; None: it takes too long to be drawn on the way.
        shards: False for a model that each process must hold whole.
        parent: the saved model that --init_from names, after `read`; a task that takes one reads it there.
    """

    train_set: Dataset
    collate: Callable[[Any], dict[str, Tensor]] = staticmethod(as_it_is)
    schedules: Schedules = Schedules({})
    codebook_size: int | None = None
    picture_file: str | None = None
    shards: bool = True
    parent: Parent | None = None

    def __init__(self, arguments: "Arguments"):
        self.arguments = arguments

    def default_folder(self) -> Path:
        """Where the run goes if --output_dir does not say."""
        raise NotImplementedError

    def fixed_knobs(self) -> Collection[str]:
        """Knobs of the model that a resumed run must keep."""
        return set(self.arguments.model)

    def read(self, accelerator: "Accelerator", say: Callable[[str], None]) -> None:
        """Reads the data, and sets `train_set`. `say` prints a line once, whatever the number of processes.

        Raises:
            ValueError: knobs or data that do not fit.
        """
        raise NotImplementedError

    def build(self, accelerator: "Accelerator") -> nn.Module:
        """The model to train, equal on every process, before it is prepared. Raises ValueError as `read` does."""
        raise NotImplementedError

    def build_adversary(self, model: nn.Module) -> Adversary | None:
        """The second player, equal on every process; None for a task without one. `model`: as `build` gave it."""
        return None

    def data_identity(self) -> dict[str, Any]:
        """What a resumed run must find again of its data, by names for people; it is part of each checkpoint."""
        return {}

    def measured(self) -> dict[str, Any]:
        """What was measured on the data and stays in force when the run goes on; it is part of each checkpoint."""
        return {}

    def keep_measured(self, core: nn.Module, values: dict[str, Any]) -> None:
        """Takes over what `measured` gave when the run began; {} of a checkpoint that does not say."""

    def describe(self, run: "Run") -> str:
        """Lines on the model and its loss, printed before the first step."""
        raise NotImplementedError

    def receive(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `step` takes, from what `collate` made and the loop has brought to the device."""
        return batch

    def begin(self, run: "Run") -> None:
        """Called once before the first step, of a resumed run, too (`run.step` > 0)."""

    def step(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> ModelOutput:
        """One forward of the prepared model in training, on one micro-batch of this process.

        Returns an output with `loss` (a mean over the micro-batch). Its other scalars are logged; an adversary reads
        `reconstruction`. What a task adds to the loss it adds here.

        Args:
            step: optimizer steps done.
        """
        return model(**batch)

    def update_state(self, core: nn.Module) -> None:
        """Once an optimizer step, after the last micro-batch's forward: what changes the model without a gradient."""

    def evaluate(self, run: "Run", model: nn.Module) -> dict[str, float]:
        """Metrics of the whole held-out split, each image counted once."""
        raise NotImplementedError

    def evaluation_passes(self) -> int | None:
        """What `evaluate` costs, in forward passes of one image, after `build`; None: too dear to be done unasked."""
        return None

    def picture(self, run: "Run", model: nn.Module) -> Image.Image:
        """What the model paints now."""
        raise NotImplementedError

    def record(self, run: "Run") -> dict[str, Any]:
        """What metrics.json says beside metrics and what every run says (`results.describe_run`)."""
        raise NotImplementedError

    def save_model(self, run: "Run", model: nn.Module, folder: Path) -> None:
        """The trained model, first of all: nothing that happens later may lose it.

        `folder` is empty, here and in `save_rest`: what the main process writes there goes to the run's folder, in
        place of files of the same names, as soon as everything is written.
        """
        raise NotImplementedError

    def save_rest(self, run: "Run", model: nn.Module, folder: Path, record: dict[str, Any]) -> None:
        """Pictures, cards and what is measured at the end. May add to `record`, which becomes metrics.json."""

    def closing_lines(self, run: "Run", folder: Path) -> list[str]:
        """What is printed when everything is saved."""
        return [str(folder)]
