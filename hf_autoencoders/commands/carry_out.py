# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The steps that the three training commands share: build the run, train it, save it, publish it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..hub.publishers import Publisher
from ..own_process import as_typed
from ..training.arguments import Arguments
from ..training.assembly import build_run
from ..training.engine import Run, leave_last_checkpoint, train
from ..training.launch import Stopped, StopSignal, finish_trackers, leave_process_groups
from ..training.progress import on_screen
from ..training.results import judge, save_model
from ..training.saved_models import load_model
from ..training.task import Task
from .boundary import Boundary, no_progress_bars


@dataclass(frozen=True)
class Trainer:
    """The parts in which the training commands differ.

    Args:
        command: error messages begin with its name.
        parse: reads the knobs from these flags (None: from the flags of the process).
        make_task, make_publisher: make the task and the publisher from the knobs.
        open_result: loads the trained model from the folder of a finished run.
    """

    command: str
    parse: Callable[[list[str] | None], Arguments]
    make_task: Callable[[Arguments], Task]
    make_publisher: Callable[[Arguments], Publisher] = Publisher
    open_result: Callable[[str], Any] = load_model


@no_progress_bars()
def carry_out(trainer: Trainer, argv: list[str] | None) -> int:
    """Exit codes: those of `Boundary`; 0 also for a run that a signal stopped, after a checkpoint."""
    with Boundary(trainer.command) as boundary:
        arguments = trainer.parse(argv)
        boundary.everywhere = True  # from here on a single process can fail
        train_and_save(arguments, trainer.make_task(arguments), trainer.make_publisher(arguments))
        leave_process_groups()
    return boundary.exit_code


def train_and_save(arguments: Arguments, task: Task, publisher: Publisher) -> dict[str, Any] | None:
    """The content of metrics.json; None if a signal stopped the run before its end.

    Process groups stay: the caller ends them (`leave_process_groups`) when nothing of the run is left.
    """
    record = None
    run = build_run(arguments, task, after_checkpoint=publisher.after_checkpoint)
    try:
        with StopSignal(run.accelerator) as stop:
            if train(run, stop):
                leave_last_checkpoint(run)
                save_model(run)
                stop.end_at_once()  # nothing can be lost from here on
                record = judge_and_publish(run, publisher)
            run.accelerator.wait_for_everyone()  # nobody leaves while others still need it
            finish_trackers(run.accelerator)
    except Stopped as stopped:
        if run.accelerator.is_main_process:
            print(f"Stopped by {stopped} after the training: the model is saved in {run.arguments.run.output_dir}.")
    finally:
        run.lock.release()
    return record


def judge_and_publish(run: Run, publisher: Publisher) -> dict[str, Any]:
    """Measures the saved model on the held-out split, prints the metrics, and publishes if that was asked for."""
    folder = Path(run.arguments.run.output_dir)
    try:
        record = judge(run)
    except ValueError as error:
        raise ValueError(f"{error} (The trained model is saved in {folder}; it could not be judged.)") from error
    if run.accelerator.is_main_process:
        print(f"held out: {on_screen(record['metrics'], run.window.constants)}")
        print(f"trained {run.step:,} steps in {run.seconds:.0f} s")
        print(as_typed("\n".join(run.task.closing_lines(run, folder))))
    publisher.at_end(run)
    return record
