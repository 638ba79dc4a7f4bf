# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Builds a run from knobs and a task: folder, data, model, optimizer, checkpoint, in this order."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from torch import Tensor, nn

from .adversary import Adversary
from .arguments import FIXED, Arguments, TrainingArguments
from .batches import BatchPlan, training_batches
from .checkpoints import Checkpoints
from .compilation import compile_step
from .ema import AveragedWeights
from .engine import Run, changed_knobs, check_data, load_checkpoint
from .folder import FolderLock, check_folder, claim_folder
from .launch import describe_launch, set_threads, start_accelerator
from .logs import LogWindow, MetricsLog
from .optimizers import build_optimizer
from .run_files import CHECKPOINTS, LOG
from .schedules import Schedule
from .sharding import register_methods
from .starting_point import describe_start
from .task import Task


EVALUATIONS = 10  # of a run, unless the user says how many
SHORT_STEPS = 100  # a run of fewer is evaluated at its end only
PASSES_OF_A_STEP = 3  # what forward and backward of one image cost, in forward passes
SHARDS = (DistributedType.FSDP, DistributedType.DEEPSPEED)


def build_run(
    arguments: Arguments,
    task: Task,
    say: Callable[[str], None] = print,
    after_checkpoint: Callable[[Run, Path], None] = lambda run, path: None,
) -> Run:
    """A run that is ready to train, resumed where that was asked for.

    Args:
        task: what is trained; its `read` and `build` were not called yet.
        say: prints a line; called on the main process only.
        after_checkpoint: is called on every process with the run and the folder of each new checkpoint.

    Raises:
        ValueError: knobs, folder, data or checkpoint do not fit; no result was deleted.
    """
    folder = Path(arguments.run.output_dir or task.default_folder())
    arguments.run.output_dir = str(folder)
    accelerator = start_accelerator(arguments)
    check_whole(accelerator, task)
    say = say if accelerator.is_main_process else _silent
    say(describe_launch(accelerator, set_threads(accelerator, arguments.run.num_threads)))
    check_folder(accelerator, folder, arguments)
    task.read(accelerator, say)
    set_seed(arguments.run.seed)  # the same weights on every process
    model = task.build(accelerator)
    run = assemble(arguments, accelerator, task, model, task.build_adversary(model), folder)
    run.after_checkpoint = partial(after_checkpoint, run)
    say(describe_start(arguments, task.parent) + task.describe(run))
    if arguments.logging.checkpointing_steps == 0:
        say("--checkpointing_steps 0: no checkpoint is kept, so the run cannot be continued once it is finished.")
    set_seed(arguments.run.seed + accelerator.process_index)  # other noise on every process
    run.lock = FolderLock(accelerator, folder).acquire()
    try:
        resume(run, say)
        claim_folder(accelerator, folder, arguments)
        begin_branch(run, say)
        config = _flat(arguments.as_dict())
        accelerator.init_trackers("logs", config=config, init_kwargs={"wandb": {"dir": str(folder)}})
    except BaseException:
        run.lock.release()
        raise
    return run


def check_whole(accelerator: Accelerator, task: Task) -> None:
    """Raises ValueError where a model that each process must hold whole would be sharded."""
    if not task.shards and accelerator.distributed_type in SHARDS:
        raise ValueError(
            f"Each process must hold this model whole, and {accelerator.distributed_type.value} would shard it: use "
            "DDP (scripts/accelerate_configs/multi_gpu.yaml)."
        )


def assemble(
    arguments: Arguments,
    accelerator: Accelerator,
    task: Task,
    model: nn.Module,
    adversary: Adversary | None,
    folder: Path,
) -> Run:
    """Prepares `model`, and puts everything that the loop needs together."""
    training = arguments.training
    steps_per_epoch, batches = plan_batches(arguments, accelerator, task)
    total = training.max_train_steps or max(1, round(training.num_train_epochs * steps_per_epoch))
    if training.compile:
        compile_step(accelerator, model)
    if accelerator.num_processes > 1 and accelerator.distributed_type not in SHARDS:
        keep_strides_of_gradients(model)
    model, optimizer = accelerator.prepare(model, build_optimizer(accelerator, model, training))
    register_methods(model)
    if adversary is not None:
        adversary.attach(accelerator)
    return Run(
        arguments=arguments,
        accelerator=accelerator,
        task=task,
        model=model,
        optimizer=optimizer,
        adversary=adversary,
        averages=AveragedWeights(model, training.ema_weights) if training.ema_weights is not None else None,
        batches=lambda step: map(task.receive, on_device(batches(step), accelerator.device)),
        learning_rate=learning_rate(training, total),
        checkpoints=Checkpoints(accelerator, folder / CHECKPOINTS, arguments.logging.checkpoints_total_limit),
        log=MetricsLog(folder / LOG, accelerator.is_main_process),
        window=LogWindow(accelerator, task.codebook_size, training.gradient_accumulation_steps),
        total_steps=total,
        steps_per_epoch=steps_per_epoch,
        eval_steps=evaluation_steps(arguments, total, task.evaluation_passes(), accelerator.num_processes),
    )


def keep_strides_of_gradients(model: nn.Module) -> None:
    """Gradients of convolutions of one channel get the strides of their weights, for DDP, which warns of others.

    Channels first and channels last are then the same memory; the strides differ in the dimension of size 1 only.
    """

    def with_strides(strides: tuple[int, ...], gradient: Tensor) -> Tensor:
        return gradient.as_strided(gradient.shape, strides) if gradient.is_contiguous() else gradient

    for weight in model.parameters():
        if weight.requires_grad and 1 in weight.shape and weight.is_contiguous():
            weight.register_hook(partial(with_strides, weight.stride()))


Batches = Callable[[int], Iterator[dict[str, Tensor]]]


def plan_batches(arguments: Arguments, accelerator: Accelerator, task: Task) -> tuple[int | None, Batches]:
    """Returns (optimizer steps of an epoch, None for a stream; optimizer step -> endless micro-batches from it on)."""
    training, workers = arguments.training, arguments.data.dataloader_num_workers
    if not hasattr(task.train_set, "__len__"):
        # A stream continues at its own position, which a checkpoint holds: it does not follow from the step.
        return None, lambda step: task.train_set.batches(training.train_batch_size, workers, task.collate)
    plan = BatchPlan(
        len(task.train_set), training.train_batch_size, training.gradient_accumulation_steps, accelerator.num_processes,
        accelerator.process_index, arguments.run.seed,
    )  # fmt: skip
    pinned = accelerator.device.type == "cuda"
    return plan.steps_per_epoch, lambda step: training_batches(
        task.train_set, plan, step, workers, collate_fn=task.collate, pin_memory=pinned
    )


def evaluation_steps(arguments: Arguments, total: int, passes: int | None, processes: int = 1) -> int:
    """Steps between evaluations; 0: only at the end.

    By default there are EVALUATIONS in `total` steps, or fewer, so that they take at most 1 / EVALUATIONS of the time.

    Args:
        passes: cost of an evaluation, in forward passes of one image; None: too slow to be done by default.
    """
    if arguments.logging.eval_steps is not None:
        return arguments.logging.eval_steps
    if passes is None or total < SHORT_STEPS:
        return 0
    training = arguments.training
    images = training.train_batch_size * training.gradient_accumulation_steps * processes
    affordable = math.ceil(EVALUATIONS * passes / (PASSES_OF_A_STEP * images))
    return max(math.ceil(total / EVALUATIONS), affordable)


def learning_rate(training: TrainingArguments, total_steps: int) -> Schedule:
    end = training.learning_rate if training.lr_scheduler == "constant" else training.lr_end
    steps = training.lr_steps or total_steps
    return Schedule(training.lr_scheduler, training.learning_rate, end, steps, warmup=training.lr_warmup_steps)


def on_device(batches: Iterator[dict[str, Tensor]], device: torch.device) -> Iterator[dict[str, Tensor]]:
    for batch in batches:
        yield {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def resume(run: Run, say: Callable[[str], None]) -> None:
    """Continues from the checkpoint that was asked for. No file is changed."""
    wanted = run.arguments.run.resume
    if wanted is None:
        return
    path = run.checkpoints.find(wanted, say)
    if path is None:
        say(f"No checkpoint in {run.checkpoints.folder} yet: starting at step 0.")
        return
    check_data(run, path)
    changes = changed_knobs(run, path)
    fixed = FIXED | set(run.task.fixed_knobs())
    refused = sorted(name for name in changes if name in fixed)
    if refused:
        name = refused[0]
        raise ValueError(
            f"{path} was trained with {name} {changes[name][0]!r}, now it is {changes[name][1]!r}: a resumed run "
            "keeps its model, seed and batches."
        )
    load_checkpoint(run, path)
    if changes:
        run.changes.append({"step": run.step, **{name: list(change) for name, change in sorted(changes.items())}})
    for name, (before, now) in sorted(changes.items()):
        say(f"  changed since the checkpoint: {name} {before!r} -> {now!r}")
    say(f"Resumed {path} at step {run.step} of {run.total_steps}.")


def begin_branch(run: Run, say: Callable[[str], None]) -> None:
    """Brings the folder back to the step where this run continues. Later checkpoints are set aside, not deleted."""
    if run.arguments.run.resume:
        run.checkpoints.set_aside(run.step, run.log.path, say)
    run.log.keep(run.log.lines)


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """What trackers take: numbers and text."""
    return {name: value if isinstance(value, (int, float, str, bool)) else str(value) for name, value in values.items()}


def _silent(text: str):
    """For all processes but the main one: prints nothing."""
