# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Schedules are pure functions of the step, with closed forms that a reader can check."""

import math

import pytest

from hf_autoencoders import AEConfig, AEModel, DVAEConfig, DVAEModel, VAEConfig, VAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.training.schedules import SCHEDULED_FIELDS, SHAPES, Schedule, Schedules, schedule_names


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "constant"])
def test_a_schedule_goes_from_start_to_end_and_stays_there(shape):
    schedule = Schedule(shape, start=1.0, end=1 / 16, over=100)
    assert schedule(0) == 1.0
    assert schedule(100) == pytest.approx(1 / 16, abs=1e-15)
    assert schedule(100_000) == schedule(100)
    values = [schedule(step) for step in range(101)]
    assert values == sorted(values, reverse=True)


def test_the_three_waves_at_half_time():
    at_half = {
        shape: Schedule(shape, start=0.0, end=6.6, over=10)(5) for shape in ("linear", "cosine", "quarter_cosine")
    }
    assert at_half["linear"] == pytest.approx(3.3)
    assert at_half["cosine"] == pytest.approx(3.3)
    assert at_half["quarter_cosine"] == pytest.approx(6.6 * (1 - math.cos(math.pi / 4)))


def test_cosine_is_the_closed_form_at_every_step():
    schedule = Schedule("cosine", start=1e-4, end=1.25e-6, over=1_200_000)  # DALL-E's learning rate
    for step in (0, 1, 300_000, 999_999, 1_200_000):
        closed = 1.25e-6 + (1e-4 - 1.25e-6) * (1 + math.cos(math.pi * step / 1_200_000)) / 2
        assert schedule(step) == pytest.approx(closed, rel=1e-12)


def test_the_warm_up_climbs_in_equal_steps_and_never_starts_at_zero():
    schedule = Schedule("constant", start=1.0, end=1.0, over=1, warmup=4)
    assert [schedule(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_a_schedule_after_its_warm_up_still_ends_on_time():
    schedule = Schedule("linear", start=1.0, end=0.0, over=10, warmup=5)
    assert schedule(5) == 1.0
    assert schedule(10) == 0.0


def test_the_same_step_gives_the_same_number_in_any_order():
    schedules = Schedules(
        {"kl_weight": Schedule("cosine", 0.0, 1.0, 10), "temperature": Schedule("linear", 1.0, 0.1, 20)}
    )
    forward = [schedules(step) for step in range(20)]
    assert [schedules(step) for step in reversed(range(20))] == forward[::-1]


@pytest.mark.parametrize("fault", [{"shape": "cubic"}, {"over": 0}, {"warmup": -1}])
def test_impossible_schedules_are_refused(fault):
    with pytest.raises(ValueError, match="schedule"):
        Schedule(**{"shape": "linear", "start": 0.0, "end": 1.0, "over": 10, **fault})


SMALL = {"image_size": 8, "num_channels": 1, "block_out_channels": (8, 8), "layers_per_block": 1}


@pytest.mark.parametrize(
    "model_class, config_class, names",
    [
        (AEModel, AEConfig, []),
        (VAEModel, VAEConfig, ["kl_weight"]),
        (VQVAEModel, VQVAEConfig, ["commitment_cost"]),
        (DVAEModel, DVAEConfig, ["temperature", "kl_weight"]),
    ],
)
def test_schedules_are_learnt_from_the_signature_and_end_at_a_config_field(model_class, config_class, names):
    model = model_class(config_class(**SMALL))
    assert schedule_names(model) == names
    assert all(hasattr(model.config, SCHEDULED_FIELDS[name]) for name in names)
