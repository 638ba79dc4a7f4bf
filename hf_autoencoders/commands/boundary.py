# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Where a command meets whoever typed it: a mistake is one line and an exit code; only a bug of ours is a traceback."""

import argparse
from collections.abc import Callable
from typing import TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError

from ..hub.cards import RunError
from ..hub.publish import PublishError
from ..priors.token_records import TokenDatasetError
from ..training.launch import complain
from ..training.logs import TrainingDiverged


Typed = TypeVar("Typed")

# What is wrong lies outside of our code: in what was typed, in a file, on the disk, on the Hub.
EXPECTED = (ValueError, OSError, StrictDataclassError, RunError, PublishError, TokenDatasetError)


class OneLineParser(argparse.ArgumentParser):
    """Reports a mistake as a ValueError in one line, and takes no abbreviations."""

    def __init__(self, **kwargs):
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **kwargs})

    def error(self, message: str):
        raise ValueError(message[0].upper() + message[1:] + ("" if message.endswith(".") else "."))


def run_command(script: str, read: Callable[[], Typed], work: Callable[[Typed], None]) -> int:
    """Reads what was typed, does the work, and gives the exit code of the process.

    0: done. 1: the training diverged. 2: a mistake in what was typed or in a file, or a full disk or memory; one line
    on stderr says what came, and what fits. 130: Ctrl-C.

    Args:
        script: whose name the line begins with.
        read: gives the knobs; all processes notice its mistakes alike, so the first of them speaks.
        work: is given the knobs.
    """
    try:
        knobs = read()
    except EXPECTED as error:
        return complain(script, error, everywhere=False)
    try:
        work(knobs)
    except EXPECTED as error:
        return complain(script, error)
    except TrainingDiverged as error:
        return complain(script, error, code=1, everywhere=False)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return complain(script, MemoryError(f"Out of memory: smaller batches or pictures need less ({short(error)})"))
    except KeyboardInterrupt:
        return complain(script, RuntimeError("stopped."), code=130, everywhere=False)
    return 0


def is_out_of_memory(error: Exception) -> bool:
    """torch reports it by an error of its own on an accelerator, and by its allocator's words on a CPU."""
    words = ("can't allocate memory", "out of memory", "not enough memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(word in str(error) for word in words)


def short(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
