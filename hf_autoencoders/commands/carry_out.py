# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the three training commands share: build the run, train it, save it, publish it; and their exit codes."""

from collections.abc import Callable
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from ..hub.publishers import Publisher
from ..training.arguments import Arguments
from ..training.assembly import build_run
from ..training.engine import Run, leave_last_checkpoint, train
from ..training.launch import Stopped, StopSignal
from ..training.logs import on_screen
from ..training.results import judge, save_model
from ..training.task import Task
from .boundary import run_command


def carry_out(
    script: str,
    parse: Callable[[], Arguments],
    make_task: Callable[[Arguments], Task],
    make_publisher: Callable[[Arguments], Publisher],
) -> int:
    """Exit codes: those of `run_command`; 0 also for a run that a signal stopped, after a checkpoint."""
    disable_progress_bar()  # of loading and saving, which take no time here
    return run_command(
        script, parse, lambda arguments: train_and_save(arguments, make_task(arguments), make_publisher(arguments))
    )


def train_and_save(arguments: Arguments, task: Task, publisher: Publisher) -> None:
    run = build_run(arguments, task, after_checkpoint=publisher.after_checkpoint)
    try:
        with StopSignal(run.accelerator) as stop:
            if train(run, stop):
                leave_last_checkpoint(run)
                save_model(run)
                stop.end_at_once()  # nothing can be lost from here on
                judge_and_publish(run, publisher)
            run.accelerator.wait_for_everyone()  # ending without a barrier aborted 3 of 24 short runs
            run.accelerator.end_training()
    except Stopped as stopped:
        if run.accelerator.is_main_process:
            print(f"Stopped by {stopped} after the training: the model is saved in {run.arguments.run.output_dir}.")
    finally:
        run.lock.release()


def judge_and_publish(run: Run, publisher: Publisher) -> None:
    folder = Path(run.arguments.run.output_dir)
    try:
        record = judge(run)
    except ValueError as error:
        raise ValueError(f"{error} (The trained model is saved in {folder}; it could not be judged.)") from error
    if run.accelerator.is_main_process:
        print(f"held out: {on_screen(record['metrics'])}")
        print(f"trained {run.step} steps in {run.seconds:.0f} s")
        print("\n".join(run.task.closing_lines(run, folder)))
    publisher.at_end(run)
