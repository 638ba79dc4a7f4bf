# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a run writes while it trains: metrics.jsonl always, trackers where asked for, one line on the screen."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..evaluation.metrics import count_codes
from ..models.precision import exact_dtype
from .health import CodebookHealth
from .storage import one_line_if_full, write_atomically


CURES_OF_DIVERGENCE = "A smaller --learning_rate, --max_grad_norm or a longer --lr_warmup_steps may help."


class TrainingDiverged(RuntimeError):
    """The loss or a weight is NaN or infinite."""


class LogWindow:
    """Scalars of the model's outputs since the last line of the log, and how often each code was used.

    On an accelerator, values stay there until a line is due, so that no step waits for them (`on_device`). On a CPU
    they become Python numbers at once: small tensors that stayed in memory between large ones kept gigabytes of heap
    from being used again.
    `gathered` holds the values that are averaged over all processes already. It is part of a checkpoint, so that a
    resumed run writes the same next line.
    `constants`: scalars that had one value at all steps of the last window.
    """

    def __init__(self, accelerator: Accelerator, codebook_size: int | None, micro_batches: int = 1):
        self.accelerator = accelerator
        self.codebook_size = codebook_size
        self.micro_batches = micro_batches
        self.on_device = accelerator.device.type != "cpu"
        self.own: dict[str, list[Tensor] | list[float]] = {}
        self.gathered: dict[str, list[float]] = {}
        self.own_counts: Tensor | None = None
        self.counts: Tensor | None = None
        self.constants: set[str] = set()

    def add(self, output: Any, **extra: Tensor):
        """Takes in one micro-batch: every scalar field of the output, and its image tokens."""
        for name, value in (*output.items(), *extra.items()):
            if isinstance(value, Tensor) and value.dim() == 0:
                value = value.detach()
                self.own.setdefault(name, []).append(value if self.on_device else value.item())
        tokens = getattr(output, "image_tokens", None)
        if tokens is not None and self.codebook_size is not None:
            counts = count_codes(tokens, self.codebook_size)
            self.own_counts = counts if self.own_counts is None else self.own_counts + counts

    def gather(self, step: int):
        """Averages the values since the last call over all processes. `step`: optimizer steps done so far.

        Raises:
            TrainingDiverged: a loss is NaN or infinite; the message names the step.
        """
        if self.own:
            device = self.accelerator.device
            values = torch.cat([as_column(column, device) for column in self.own.values()])
            shared = self.accelerator.reduce(values, reduction="mean").tolist()
            for name, column in self.own.items():
                taken, shared = shared[: len(column)], shared[len(column) :]
                self.gathered.setdefault(name, []).extend(taken)
            self.own = {}
        if self.own_counts is not None:
            counts = self.accelerator.reduce(self.own_counts, reduction="sum").cpu()
            self.counts = counts if self.counts is None else self.counts + counts
            self.own_counts = None
        self._stop_if_diverged(step)

    def flush(self, step: int) -> tuple[dict[str, float], CodebookHealth | None]:
        """Means over the window, and the health of the codebook in it; then the window is empty."""
        self.gather(step)
        several = {name: values for name, values in self.gathered.items() if len(values) > 1}
        self.constants = {name for name, values in several.items() if min(values) == max(values)}
        means = {name: math.fsum(values) / len(values) for name, values in self.gathered.items()}
        health = CodebookHealth.of(self.counts, means.get("norm_ratio")) if self.counts is not None else None
        self.gathered, self.counts = {}, None
        return means, health

    def state_dict(self) -> dict[str, Any]:
        return {"gathered": self.gathered, "counts": None if self.counts is None else self.counts.tolist()}

    def load_state_dict(self, state: dict[str, Any]):
        self.gathered = state["gathered"]
        self.counts = None if state["counts"] is None else torch.tensor(state["counts"], dtype=torch.int64)

    def _stop_if_diverged(self, step: int):
        losses = self.gathered.get("loss", [])
        for index, loss in enumerate(losses):
            if not math.isfinite(loss):
                first = step - (len(losses) - 1 - index) // self.micro_batches
                raise TrainingDiverged(
                    f"The loss became {loss} at step {first}; the last checkpoint was kept. {CURES_OF_DIVERGENCE}"
                )


def as_column(values: list[Tensor] | list[float], device: torch.device) -> Tensor:
    """Values as (N,) floats of the highest precision that the device has."""
    if isinstance(values[0], Tensor):
        return torch.stack(values).to(device, exact_dtype(device))
    return torch.tensor(values, dtype=exact_dtype(device), device=device)


class MetricsLog:
    """metrics.jsonl: one JSON object a line. Only the main process writes."""

    def __init__(self, path: Path, writes: bool):
        self.path, self.writes, self.lines = Path(path), writes, 0

    def append(self, record: dict[str, Any]):
        self.lines += 1
        if self.writes:
            kept = "what was saved before was kept"
            with one_line_if_full(str(self.path), kept), open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")

    def keep(self, lines: int):
        """Keeps the first `lines` lines. A resumed run writes the lines after its checkpoint again."""
        self.lines = lines
        if self.writes and self.path.exists():
            kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[:lines]
            write_atomically(self.path, "".join(kept))


def log_pictures(accelerator: Accelerator, tag: str, picture: Any, step: int):
    """Sends a PIL picture to every tracker that takes pictures, in the form that this tracker needs."""
    import numpy

    array = numpy.asarray(picture.convert("RGB"))  # (H, W, 3) uint8
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            tracker.log_images({tag: array[None]}, step=step, dataformats="NHWC")
        elif tracker.name == "wandb":
            tracker.log_images({tag: [array]}, step=step)
        elif tracker.name == "trackio":
            import trackio

            tracker.log({tag: trackio.Image(array)}, step=step)
