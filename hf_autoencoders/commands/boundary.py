# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Errors of a command: a mistake of the user is one line and an exit code; only a bug of ours is a traceback."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers.utils import logging

from ..hub.publish import PublishError
from ..own_process import as_typed, complain, typed_name
from ..training.launch import keep_freed_memory, leave_process_groups
from ..training.logs import TrainingDiverged


Typed = TypeVar("Typed")

# Errors with a cause outside of our code: in what was typed, in a file, on the disk, on the Hub.
EXPECTED = (ValueError, OSError, StrictDataclassError, PublishError)


class OneLineParser(argparse.ArgumentParser):
    """Reports a mistake as a ValueError in one line, and takes no abbreviations.

    Args:
        command: whose --help this is.
        description: of it; its command lines are shown in the user's own spelling.
    """

    def __init__(self, command: str, description: str):
        super().__init__(
            prog=typed_name(command),
            description=as_typed(description),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str):
        raise ValueError(message[0].upper() + message[1:] + ("" if message.endswith(".") else "."))


@contextmanager
def no_progress_bars(of_datasets: bool = False) -> Iterator[None]:
    """Within the block, or the function that this decorates, loading and saving draw no bars; they take no time here.

    Args:
        of_datasets: the bars of `datasets` neither.
    """
    restore = [logging.enable_progress_bar] if logging.is_progress_bar_enabled() else []
    logging.disable_progress_bar()
    if of_datasets:
        import datasets

        restore += [] if datasets.utils.are_progress_bars_disabled() else [datasets.enable_progress_bars]
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        for enable in restore:
            enable()


@dataclass
class Boundary:
    """A `with` block in which a mistake becomes one line on stderr and an exit code. A bug of ours passes through.

    The line says what came, and what fits.

    Attributes:
        command: the line begins with its name.
        everywhere: True: each process that fails writes its line. False: only the first, since all fail alike.
        exit_code: 0: done. 1: the training diverged. 2: a mistake in what was typed or in a file, or a full disk or
            memory. 130: Ctrl-C.
    """

    command: str
    everywhere: bool = False
    exit_code: int = 0

    def __enter__(self) -> "Boundary":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> bool:
        if isinstance(error, EXPECTED):
            self.exit_code = complain(self.command, error, everywhere=self.everywhere)
        elif isinstance(error, TrainingDiverged):
            self.exit_code = complain(self.command, error, code=1, everywhere=False)
        elif isinstance(error, KeyboardInterrupt):
            self.exit_code = complain(self.command, RuntimeError("stopped."), code=130, everywhere=False)
        elif is_out_of_memory(error):
            told = MemoryError(f"Out of memory: smaller batches or pictures need less ({short(error)})")
            self.exit_code = complain(self.command, told, everywhere=self.everywhere)
        return self.exit_code != 0


def run_command(command: str, read: Callable[[], Typed], work: Callable[[Typed], None]) -> int:
    """Reads what was typed, does the work, and gives the exit code of the process: that of `Boundary`.

    Args:
        command: error messages begin with its name.
        read: gives the knobs.
        work: is given the knobs.
    """
    with Boundary(command) as boundary:
        keep_freed_memory()
        knobs = read()
        boundary.everywhere = True  # from here on a single process can fail
        work(knobs)
        leave_process_groups()
    return boundary.exit_code


def is_out_of_memory(error: BaseException | None) -> bool:
    """torch has an error class for a full accelerator; for a full CPU it has only the message of its allocator."""
    words = ("can't allocate memory", "out of memory", "not enough memory")
    told = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return told or isinstance(error, (MemoryError, torch.OutOfMemoryError))


def short(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
