# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The one training loop. It knows a task and, if there is one, an adversary."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .adversary import Adversary
from .arguments import Arguments
from .checkpoints import Checkpoints
from .ema import AveragedWeights
from .folder import FolderLock
from .health import CodebookHealth
from .launch import StopSignal
from .logs import LogWindow, MetricsLog, log_pictures
from .progress import Progress
from .results import check_metrics_finite, check_weights_finite, evaluate_run, picture_of_run
from .run_files import saving
from .schedules import Schedule
from .task import Task


YOUNG_STEPS = 1000  # a stream has no epochs: there a codebook is not judged before this step


@dataclass
class Run:
    """Everything that the loop needs, and how far the run has come. `assembly.build_run` makes it.

    Attributes:
        task: what is trained.
        adversary: the second player, if there is one.
        model: the *prepared* model: gradients synchronise only through it.
        batches: optimizer step -> the micro-batches from that step on, without end.
        after_checkpoint: is called on every process with the new checkpoint's folder.
        total_steps: optimizer steps.
        steps_per_epoch: optimizer steps; None of a stream, which has no epochs.
        eval_steps: optimizer steps between evaluations; 0: only at the end.
        step: optimizer steps done.
        evaluated: the step of the last evaluation.
        seconds: of training, over all resumes.
        metrics: (step, metrics) of the last evaluation.
        named_cures: kinds of advice that were printed already.
        lock: keeps other runs out of the folder, until it is released or the process ends.
        saved: the step of the newest checkpoint.
        changes: knobs that resumes changed, each with its step.
    """

    arguments: Arguments
    accelerator: Accelerator
    task: Task
    model: nn.Module
    optimizer: torch.optim.Optimizer
    adversary: Adversary | None
    averages: AveragedWeights | None
    batches: Callable[[int], Iterator[dict[str, Tensor]]]
    learning_rate: Schedule
    checkpoints: Checkpoints
    log: MetricsLog
    window: LogWindow
    total_steps: int
    steps_per_epoch: int | None
    eval_steps: int
    after_checkpoint: Callable[[Path], None] = lambda path: None
    step: int = 0
    evaluated: int = 0
    seconds: float = 0.0
    metrics: tuple[int, dict[str, float]] | None = None
    lock: FolderLock | None = None
    saved: int = 0
    changes: list[dict[str, Any]] = field(default_factory=list)
    named_cures: set[str] = field(default_factory=set)

    @cached_property
    def core(self) -> nn.Module:
        """The model without the wrappers that synchronise gradients. Use it only where no gradient is computed."""
        return self.accelerator.unwrap_model(self.model)

    @cached_property
    def data_identity(self) -> dict[str, Any]:
        return self.task.data_identity()


def train(run: Run, stop: StopSignal | None = None) -> bool:
    """Trains to `run.total_steps`. False if a signal stopped it before, after a checkpoint.

    Args:
        stop: a signal handler that is active already; None: a handler for the training only.
    """
    task, adversary, accelerator = run.task, run.adversary, run.accelerator
    model, optimizer = run.model.train(), run.optimizer
    task.begin(run)
    guard = StopSignal(accelerator) if stop is None else nullcontext(stop)
    with guard as stop, Progress(run) as progress:
        catch_up(run, progress)
        micro_batches = (run.total_steps - run.step) * run.arguments.training.gradient_accumulation_steps
        for batch in islice(run.batches(run.step), max(micro_batches, 0)):
            set_learning_rate(optimizer, run.learning_rate(run.step))
            with accelerator.accumulate(model):
                output = task.step(model, batch, run.step)
                loss, scalars = with_adversary(adversary, output, batch, run.step)
                if accelerator.sync_gradients:
                    task.update_state(run.core)  # before the step, which DeepSpeed makes part of the backward
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    scalars |= clip_gradient(run)
                optimizer.step()
                optimizer.zero_grad()
                if adversary is not None:
                    scalars |= adversary.update(output, batch, run.step)
            run.window.add(output, **scalars)
            if accelerator.sync_gradients:
                if run.averages is not None:
                    run.averages.update(run.step)
                run.step += 1
                if not finish_step(run, progress, stop):
                    return False
    return True


def leave_last_checkpoint(run: Run) -> None:
    """Saves the last step, so that a longer training can continue there; not if the run keeps no checkpoints."""
    if run.arguments.logging.checkpointing_steps != 0 and run.saved != run.step:
        save_checkpoint(run)
    elif run.accelerator.is_main_process:
        run.checkpoints.prune()  # a run that was killed before it pruned left one checkpoint too many


def with_adversary(adversary: Adversary | None, output: Any, batch: dict[str, Tensor], step: int):
    """Returns (the model's loss plus the adversary's term, that term for the log)."""
    term = adversary.generator_term(output, batch, step) if adversary is not None else None
    return (output.loss, {}) if term is None else (output.loss + term, {"adversarial_term": term})


def finish_step(run: Run, progress: Progress, stop: StopSignal) -> bool:
    """Does what is due after an optimizer step, in this order. False if a signal ends the run here."""
    logging = run.arguments.logging
    progress.advance()
    if due(run, logging.logging_steps) or run.step == run.total_steps:
        write_log(run, progress)
    if stop.agreed():
        path = save_checkpoint(run)
        progress.say(
            f"Stopped by {stop.received or 'a signal to another process'} after step {run.step}; saved {path}."
        )
        return False
    if due(run, run.eval_steps):
        write_evaluation(run, progress)
    if due(run, logging.image_steps):
        write_picture(run)
    if due(run, logging.checkpointing_steps):
        save_checkpoint(run)
    return True


def catch_up(run: Run, progress: Progress):
    """In a resumed run: does the evaluation that was due when a signal stopped the run before it."""
    if run.step and due(run, run.eval_steps) and run.evaluated < run.step:
        write_evaluation(run, progress)


def due(run: Run, every: int | None) -> bool:
    return bool(every) and run.step % every == 0


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float):
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def clip_gradient(run: Run) -> dict[str, Tensor]:
    """Clips the gradient if --max_grad_norm is set. Returns its norm before clipping, for the log."""
    limit = run.arguments.training.max_grad_norm
    if not limit:
        return {}
    norm = run.accelerator.clip_grad_norm_(run.model.parameters(), limit)
    return {} if norm is None else {"grad_norm": torch.as_tensor(norm)}


def write_log(run: Run, progress: Progress):
    """Writes one line to metrics.jsonl and to the screen: means since the last line, and the codebook's health."""
    means, health = run.window.flush(run.step)
    record = {
        "step": run.step,
        **({"epoch": round(run.step / run.steps_per_epoch, 4)} if run.steps_per_epoch else {}),
        **means,
    }
    record |= {"learning_rate": run.learning_rate(run.step - 1), **run.task.schedules(run.step - 1)}
    if health is not None:
        record |= {
            "codes_used": health.used,
            "codes_total": health.codebook_size,
            "window_perplexity": health.perplexity,
        }
    run.accelerator.log({name: value for name, value in record.items() if name != "step"}, step=run.step)
    speed = progress.images_per_second()
    run.log.append({**record, "images_per_second": round(speed, 1)})
    progress.show_log(means, record["learning_rate"], speed, health.line() if health is not None else "")
    name_cures(run, means, health, progress)


def name_cures(run: Run, means: dict[str, float], health: CodebookHealth | None, progress: Progress):
    """Prints what is wrong with the codebook and the adversary, and which knob helps; each kind once."""
    # In the first epoch many codes are unused. That is normal, so nothing is reported before its end.
    young = run.step < (run.steps_per_epoch or YOUNG_STEPS)
    found = health.cures(run.core.config) if health is not None and not young else []
    found += run.adversary.cures(means) if run.adversary is not None else []
    for cure in found:
        kind = re.sub(r"[\d.]+", "", cure)  # numbers in it change from line to line
        if kind not in run.named_cures:
            run.named_cures.add(kind)
            progress.say(f"  ! {cure}")


def write_evaluation(run: Run, progress: Progress):
    """Measures the held-out split, with the averaged weights if the run keeps them, and logs the metrics.

    Raises:
        TrainingDiverged: a loss since the last line of the log, a weight or a metric is NaN or infinite.
    """
    run.window.gather(run.step)
    check_weights_finite(run)
    measured = evaluate_run(run)
    check_metrics_finite(measured, run.step)
    metrics = {f"eval_{name}": value for name, value in measured.items()}
    run.evaluated = run.step
    run.log.append({"step": run.step, **metrics})
    run.accelerator.log(
        {name: value for name, value in metrics.items() if isinstance(value, (int, float))}, step=run.step
    )
    progress.say(f"step {run.step}  held out: {progress.metrics(measured)}")
    if run.task.picture_file is not None:
        save_picture(run, run.task.picture_file)
    if not run.arguments.logging.image_steps:
        write_picture(run)


def write_picture(run: Run):
    if run.accelerator.trackers:
        log_pictures(run.accelerator, "reconstructions", picture_of_run(run), run.step)


def save_picture(run: Run, name: str):
    """Saves the current picture of the task in the run's folder. A collective call."""
    picture, writes = picture_of_run(run), run.accelerator.is_main_process
    with saving(Path(run.arguments.run.output_dir), writes) as place:
        if writes:
            picture.save(place / name)


def save_checkpoint(run: Run) -> Path:
    """Writes a checkpoint, after a check that all losses since the last one and all weights are finite."""
    run.window.gather(run.step)
    check_weights_finite(run)
    state = {
        "data": run.data_identity,
        "measured": run.task.measured(),
        "asked": due(run, run.arguments.logging.checkpointing_steps),
        "changes": run.changes,
        "step": run.step,
        "evaluated": run.evaluated,
        "seconds": run.seconds,
        "log_lines": run.log.lines,
        "window": run.window.state_dict(),
        "arguments": run.arguments.as_dict(),
    }
    averages = run.averages.state_dict() if run.averages is not None else None
    stream = run.task.train_set.state_dict() if run.arguments.data.streaming else None
    adversary = run.adversary.state_dict() if run.adversary is not None else None
    path = run.checkpoints.save(run.step, state, averages, stream, adversary)
    run.saved = run.step
    run.after_checkpoint(path)
    return path


def check_data(run: Run, path: Path) -> None:
    """Raises ValueError if `path` was trained on other data; else the values that were measured then are used again.

    A checkpoint of version 0.1 does not say which data it was trained on, so it passes.
    """
    then = run.checkpoints.state(path).get("data") or {}
    now = run.data_identity
    for name in then:
        if name in now and then[name] != now[name]:
            raise ValueError(
                f"{path} was trained on other data: its {name} was {then[name]}, now it is {now[name]}. Give the data "
                "that it was trained on, or train on the new data with --init_from."
            )
    run.task.keep_measured(run.core, run.checkpoints.state(path).get("measured") or {})


def load_checkpoint(run: Run, path: Path):
    """Gives `run` the state that it had when `path` was written. No file is changed."""
    state = run.checkpoints.state(path)
    averages, stream, adversary = run.checkpoints.load(path)
    if run.averages is not None:
        run.averages.load_state_dict(averages)
    run.window.load_state_dict(state["window"])
    run.log.lines, run.changes = state["log_lines"], state.get("changes", [])
    run.step, run.evaluated, run.seconds = state["step"], state["evaluated"], state["seconds"]
    run.saved = run.step
    if run.adversary is not None:
        run.adversary.load_state_dict(adversary)
    if stream is not None:
        run.task.train_set.load_state_dict(stream)


def changed_knobs(run: Run, path: Path) -> dict[str, tuple[Any, Any]]:
    """Knobs that differ from those that `path` was written with: name -> (then, now)."""
    state = run.checkpoints.state(path)
    then, now = state["arguments"], json.loads(json.dumps(run.arguments.as_dict()))
    names = {*then, *now} - {"resume", "overwrite", "output_dir"}
    return {name: (then.get(name), now.get(name)) for name in names if then.get(name) != now.get(name)}
