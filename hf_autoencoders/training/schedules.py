# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Numbers that change with time, as pure functions of the optimizer step: a resumed run needs nothing but the step.

A run of S steps calls a schedule with step = 0 .. S-1; `over` is the number of steps until the end value is reached.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn


def constant(step: int, start: float, end: float, over: int) -> float:
    """`end` from the first step on.

    >>> constant(0, start=1.0, end=0.5, over=10)
    0.5
    """
    return end


def linear(step: int, start: float, end: float, over: int) -> float:
    """A straight line from `start` at step 0 to `end` at step `over`, `end` afterwards.

    >>> linear(5, start=1.0, end=0.5, over=10)
    0.75
    """
    return start + (end - start) * _progress(step, over)


def cosine(step: int, start: float, end: float, over: int) -> float:
    """Half a cosine wave: flat at both ends, steepest in the middle.

    >>> round(cosine(5, start=1.0, end=0.5, over=10), 12)
    0.75
    """
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * _progress(step, over)))


def quarter_cosine(step: int, start: float, end: float, over: int) -> float:
    """A quarter of a cosine wave: flat at the start, steepest at the end.

    DALL-E's paper says "cosine" and gives no formula; this is the other reading of it.

    >>> round(quarter_cosine(5, start=1.0, end=0.0, over=10), 4)
    0.7071
    """
    return end + (start - end) * math.cos(math.pi / 2 * _progress(step, over))


SHAPES: dict[str, Callable[[int, float, float, int], float]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "quarter_cosine": quarter_cosine,
}

# Name of a schedule in forward -> the config field with the value at which the schedule ends.
SCHEDULED_FIELDS = {"temperature": "gumbel_temperature", "kl_weight": "kl_weight", "commitment_cost": "commitment_cost"}


@dataclass(frozen=True)
class Schedule:
    """One number over time: `shape` of SHAPES, from `start` to `end` in `over` steps after `warmup` steps from 0.

    >>> [Schedule("linear", start=1.0, end=0.0, over=4)(step) for step in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    shape: str
    start: float
    end: float
    over: int
    warmup: int = 0  # steps in which the value climbs from 0 to `start` along a line; they count towards `over`

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise ValueError(f"A schedule's shape must be one of {', '.join(SHAPES)}, got {self.shape!r}.")
        if self.over < 1 and self.shape != "constant":
            raise ValueError(f"A {self.shape} schedule must last at least 1 step, got {self.over}.")
        if self.warmup < 0:
            raise ValueError(f"A schedule's warm-up must be at least 0 steps, got {self.warmup}.")

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.start * (step + 1) / (self.warmup + 1)
        return SHAPES[self.shape](step - self.warmup, self.start, self.end, max(self.over - self.warmup, 1))


class Schedules:
    """The schedules of a model's forward: `model(pixels, **schedules(step))`.

    >>> Schedules({"kl_weight": Schedule("linear", start=0.0, end=1.0, over=10)})(3)
    {'kl_weight': 0.3}
    """

    def __init__(self, schedules: Mapping[str, Schedule]):
        self.schedules = dict(schedules)

    def __call__(self, step: int) -> dict[str, float]:
        return {name: schedule(step) for name, schedule in self.schedules.items()}


def schedule_names(model: nn.Module) -> list[str]:
    """The schedules that this model's forward takes: those of its keyword-only parameters that have a config field."""
    parameters = inspect.signature(model.forward).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name in SCHEDULED_FIELDS]


def _progress(step: int, over: int) -> float:
    return min(max(step / over, 0.0), 1.0)
