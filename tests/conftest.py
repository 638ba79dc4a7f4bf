# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A Hub on this machine, and a process that talks to it."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import datasets
import pytest
from loopback_hub import LoopbackHub
from transformers.utils.logging import disable_progress_bar, enable_progress_bar


# Else what is printed first, by a test or by a command, would depend on the order of tests.
disable_progress_bar()
datasets.disable_progress_bars()


@pytest.fixture
def progress_bars():
    """They are shown, as outside of tests."""
    enable_progress_bar()
    datasets.enable_progress_bars()
    yield
    disable_progress_bar()
    datasets.disable_progress_bars()


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub() as hub:
        yield hub


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    """Calls a function in a process whose huggingface_hub talks to `hub`: it reads its endpoint when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hub.environment(tmp_path_factory.mktemp("home")).items():
            patch.setenv(name, value)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield lambda function, *args, **kwargs: pool.submit(function, *args, **kwargs).result(timeout=120)
