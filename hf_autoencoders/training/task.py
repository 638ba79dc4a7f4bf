# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the training loop trains. Autoencoder, prior and latent diffusion each have a subclass of `Task`."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel
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


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Transformers 5.23 renamed the method; older ones know the second name only."""
    (getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable)()


class Task:
    """What is trained, on which data, how it is evaluated, and what it saves. The loop knows nothing else of a model.

    `assembly.build_run` calls `read`, then `build`; the loop calls `begin` before step 0 and `step` for each
    micro-batch. `evaluate`, `picture`, `save_model` and `save_rest` get the model in eval mode, with the averaged
    weights if the run keeps them; every process calls them at the same time.

    Attributes:
        arguments: the knobs.
        train_set: the training data, set by `read`: map-style with `__getitems__` (a whole batch) and `set_epoch`, or
            iterable, without a length.
        collate: the collate function of the DataLoader: entries of `train_set` -> batch.
        schedules: values that change over time and that the model's forward takes; set by `build`, and logged.
        codebook_size: K if the model's output has `image_tokens`, which are counted; set by `build`.
        picture_file: file of `picture`, saved at each evaluation; None: it takes too long to draw during training.
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
        """The output folder if --output_dir is not given."""
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
        """The second player, equal on every process; None for a task without one. `model`: the result of `build`."""
        return None

    def data_identity(self) -> dict[str, Any]:
        """Facts about the data that a resumed run must find unchanged, by readable names. Part of each checkpoint."""
        return {}

    def measured(self) -> dict[str, Any]:
        """Values that were measured on the data and that a resumed run uses again. Part of each checkpoint."""
        return {}

    def keep_measured(self, core: nn.Module, values: dict[str, Any]) -> None:
        """Uses the values that `measured` returned when the run began; {} if the checkpoint has none."""

    def describe(self, run: "Run") -> str:
        """Lines on the model and its loss, printed before the first step."""
        raise NotImplementedError

    def receive(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Makes the input of `step` from a batch of `collate`, which is on the device already."""
        return batch

    def begin(self, run: "Run") -> None:
        """Called once before the first step, also in a resumed run (`run.step` > 0)."""

    def step(self, model: nn.Module, batch: dict[str, Tensor], step: int) -> ModelOutput:
        """One forward of the prepared model in training, on one micro-batch of this process.

        Returns an output with `loss` (a mean over the micro-batch). Its other scalars are logged; an adversary reads
        `reconstruction`. A task that adds terms to the loss adds them here.

        Args:
            step: optimizer steps done.
        """
        return model(**batch)

    def update_state(self, core: nn.Module) -> None:
        """Changes the model without a gradient: once an optimizer step, after the forward of the last micro-batch."""

    def evaluate(self, run: "Run", model: nn.Module) -> dict[str, float]:
        """Metrics of the whole held-out split, each image counted once."""
        raise NotImplementedError

    def evaluation_passes(self) -> int | None:
        """Cost of `evaluate` in forward passes of one image, after `build`; None: too slow to be done by default."""
        return None

    def picture(self, run: "Run", model: nn.Module) -> Image.Image:
        """A picture that shows what the model does now."""
        raise NotImplementedError

    def record(self, run: "Run") -> dict[str, Any]:
        """This task's own entries of metrics.json. `results.describe_run` adds the entries that every run has."""
        raise NotImplementedError

    def save_model(self, run: "Run", model: nn.Module, folder: Path) -> None:
        """Saves the trained model. It is called before anything else is saved: no later error can lose the model.

        `folder` is empty, here and in `save_rest`. As soon as the method has ended, the files that the main process
        wrote there replace the files of the same names in the run's folder.
        """
        raise NotImplementedError

    def save_rest(self, run: "Run", model: nn.Module, folder: Path, record: dict[str, Any]) -> None:
        """Saves pictures, cards and what is measured at the end. May add to `record`, the content of metrics.json."""

    def closing_lines(self, run: "Run", folder: Path) -> list[str]:
        """The lines that are printed when everything is saved."""
        return [str(folder)]
