# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A training step does not wait for an accelerator: what would copy a number to the host is counted, on a CPU."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import tiny

from hf_autoencoders.models import nearest_codes
from hf_autoencoders.training import logs
from hf_autoencoders.training.assembly import build_run
from hf_autoencoders.training.autoencoder_task import AutoencoderTask
from hf_autoencoders.training.data import CachedImages, collate, collate_bytes, scaled
from hf_autoencoders.training.engine import train
from hf_autoencoders.training.knobs import parse_arguments


# Each of these waits until the accelerator has computed what it asks for: a number, or a shape that depends on one.
WAITS = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "unique", "repeat_interleave", "equal")
STEPS = 4


class Waits(TorchDispatchMode):
    """Counts the calls of WAITS."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.__name__.split(".")[0].lstrip("_")
        if name in {wait.lstrip("_") for wait in WAITS}:
            self.found[name] += 1
        return function(*args, **(kwargs or {}))


QUANTIZERS = ("vq", "ema", "simvq", "residual", "fsq")
KINDS = ["ae", "vae", "dvae", *(f"vqvae {quantizer}" for quantizer in QUANTIZERS)]


def waits_of_a_run(kind: str, folder, monkeypatch, *flags: str) -> Counter:
    """Of STEPS steps of a real run whose window keeps its values, as it does on an accelerator."""
    model_type, *quantizer = kind.split()
    extra = ("--quantizer", *quantizer) if quantizer else ()
    if quantizer == ["fsq"]:
        extra = (*extra, "--fsq_levels", "4", "4")
    arguments = parse_arguments(
        tiny(model_type, folder, *extra, "--logging_steps", "1000", "--checkpointing_steps", "0", *flags)
    )
    run = build_run(arguments, AutoencoderTask(arguments), say=lambda text: None)
    run.total_steps = 1
    assert train(run)  # the first step sets codebooks from data
    run.window.on_device, run.core._range_checks_left = True, 0  # the range is looked at in the first batches only
    run.total_steps = 1 + STEPS
    flushed = []
    monkeypatch.setattr(type(run.window), "flush", lambda window, step: flushed.append(step) or ({"loss": 1.0}, None))
    # The data set is looked at on the host, where nothing waits.
    batches = [batch for batch, _ in zip(run.batches(1), range(STEPS), strict=False)]
    run.batches = lambda step: iter(batches)
    with Waits() as waits:
        assert train(run)
    assert flushed == [1 + STEPS]  # the last line of a run is always written
    return waits.found


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_step_asks_an_accelerator_for_nothing(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(nearest_codes, "reads_are_free", lambda tensor: False)  # a CPU may look up otherwise
    flags = ("--max_grad_norm", "1", "--ema_weights", "0.9")
    assert waits_of_a_run(kind, tmp_path / "run", monkeypatch, *flags) == Counter()


def test_the_count_finds_what_it_looks_for():
    with Waits() as waits:
        torch.ones(3).sum().item()
        torch.ones(3).nonzero()
    assert waits.found == {"local_scalar_dense": 1, "nonzero": 1}


def test_a_line_of_the_log_waits_once_for_all_of_its_values():
    from accelerate import Accelerator

    window = logs.LogWindow(Accelerator(cpu=True), codebook_size=4)
    window.on_device = True
    for loss in (1.0, 2.0, 6.0):
        window.add({"loss": torch.tensor(loss), "kl": torch.tensor(1.0)}, grad_norm=torch.tensor(0.5))
    assert all(isinstance(value, torch.Tensor) for column in window.own.values() for value in column)
    means, _ = window.flush(step=3)
    assert means == {"loss": 3.0, "kl": 1.0, "grad_norm": 0.5}


def test_batches_cross_the_bus_as_bytes_and_become_the_same_floats():
    images = CachedImages(torch.arange(256, dtype=torch.uint8).view(4, 1, 8, 8))
    carried = collate_bytes(images.__getitems__([0, 1, 2, 3]))["pixel_values"]
    assert carried.dtype == torch.uint8
    assert torch.equal(scaled(carried), collate(images.pixels)["pixel_values"])
    assert torch.equal(scaled(carried), images.pixels.float() / 127.5 - 1)
