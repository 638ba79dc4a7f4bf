# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the screen shows of a run: a bar on a terminal or in a notebook, and one line for each line of the log."""

import math
import sys
import time
from collections.abc import Collection
from typing import TYPE_CHECKING

from tqdm.auto import tqdm


if TYPE_CHECKING:
    from .engine import Run

BAR = "{percentage:3.0f}%|{bar}| step {n_fmt}/{total_fmt}, {remaining} left{postfix}"

# Left out beside the line on the codebook's health, which says the same of the whole window.
OF_CODES = ("perplexity", "codebook_usage", "norm_ratio")
# Of held-out metrics: the error of the pixels once more in another unit, and what depends on the data alone.
RESTATED = {"images", "squared_error", "nmse", "bernoulli_floor", "codes_total"}


class Progress:
    """The bar, lines above it (main process only), and the training time. Without a terminal there are lines only."""

    def __init__(self, run: "Run"):
        self.run = run
        self.main = run.accelerator.is_main_process
        shown = None if "ipykernel" not in sys.modules else False  # None: a bar on a terminal only
        self.bar = tqdm(
            total=run.total_steps, initial=run.step, disable=shown if self.main else True, unit="step", bar_format=BAR
        )

    def __enter__(self) -> "Progress":
        self.seconds_before, self.started = self.run.seconds, time.perf_counter()
        self.last = (self.run.step, self.started)
        return self

    def __exit__(self, *exception):
        self.tick()
        self.bar.close()

    def advance(self):
        self.bar.update(1)
        self.tick()

    def tick(self):
        self.run.seconds = self.seconds_before + time.perf_counter() - self.started

    def images_per_second(self) -> float:
        """Over all processes, since the last call."""
        (step, then), now = self.last, time.perf_counter()
        self.last = (self.run.step, now)
        training = self.run.arguments.training
        images = training.train_batch_size * training.gradient_accumulation_steps * self.run.accelerator.num_processes
        return (self.run.step - step) * images / max(now - then, 1e-9)

    def show_log(self, metrics: dict[str, float], learning_rate: float, speed: float, codes: str = ""):
        """One line, and the bar's text. `metrics`: means over the window. `codes`: line on the codebook's health."""
        run = self.run
        epoch = f"epoch {run.step / run.steps_per_epoch:.2f}  " if run.steps_per_epoch else ""
        told = self.metrics({name: value for name, value in metrics.items() if not (codes and name in OF_CODES)})
        line = f"step {run.step}/{run.total_steps}  {epoch}{told}  lr {learning_rate:.3g}  {speed:,.0f} images/s"
        self.say(f"{line}  {codes}" if codes else line)
        loss = f", loss {metrics['loss']:.4g}" if "loss" in metrics else ""
        self.bar.set_postfix_str(f"{epoch.strip()}{', ' if epoch else ''}{speed:,.0f} images/s{loss}", refresh=False)

    def metrics(self, values: dict[str, float]) -> str:
        """Metrics as text, without those that never change, such as the KL of a uniform posterior."""
        return on_screen(values, self.run.window.constants)

    def say(self, text: str):
        if self.main:
            self.bar.write(text)


def on_screen(values: dict[str, float], constants: Collection[str] = ()) -> str:
    """The metrics that are `worth_telling`, as text.

    >>> on_screen({"images": 360, "loss": 12.34567, "negative_log_likelihood": 12.34567, "kl": 0.5})
    'loss 12.35  kl 0.5'
    """
    return "  ".join(f"{name} {value}" for name, value in worth_telling(values, constants).items())


def worth_telling(values: dict[str, float], constants: Collection[str] = ()) -> dict[str, str]:
    """Metrics in four digits. Left out are `constants`, `RESTATED`, and values shown under another name."""
    told: dict[str, float] = {}
    for name, value in values.items():
        if not isinstance(value, (int, float)) or name in RESTATED | set(constants) - {"loss"}:
            continue
        if not any(math.isclose(value, other) for other in told.values() if other):
            told[name] = value
    return {name: f"{value:.4g}" for name, value in told.items()}
