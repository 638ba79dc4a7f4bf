# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The start and the stop of a process: the accelerator and its checks, CPU threads, signals."""

import atexit
import ctypes
import dataclasses
import functools
import gc
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Any

import accelerate.accelerator
import accelerate.optimizer
import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, GradientAccumulationPlugin

from .arguments import Arguments


TRACKERS = ("tensorboard", "wandb", "trackio")


def start_accelerator(arguments: Arguments) -> Accelerator:
    """The accelerator of this run, after checking that the launcher started what was asked for.

    Raises:
        ValueError: processes that do not train together, or a precision or tracker that cannot work here.
    """
    run, training = arguments.run, arguments.training
    # torch 2.13 calls it forward_sync_buffers; accelerate 1.15 and older torch know the first name only.
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
    look_once_for_lomo()
    accelerator = Accelerator(
        cpu=run.cpu,
        mixed_precision=training.mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(
            num_steps=training.gradient_accumulation_steps, sync_with_dataloader=False
        ),
        log_with=_trackers(run.report_to),
        project_dir=run.output_dir,
        kwargs_handlers=[
            # The quantizer itself sums its statistics over processes; a broadcast of buffers would hide a missing sum.
            # DDP rebuilds its buckets after the first step: with 3 or more processes, a restart sums in another order.
            DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=training.exact_resume)
        ],
    )
    check_launch(accelerator, run.expected_processes, training.exact_resume)
    if accelerator.distributed_type is DistributedType.DEEPSPEED:
        prepare_for_deepspeed(accelerator, arguments)
    if accelerator.distributed_type is DistributedType.FSDP:
        keep_losses_in_float32(accelerator)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    return accelerator


def look_once_for_lomo():
    """Accelerate 1.15 searches the import path for the package lomo-optim twice a step: 2 % of a small step's time."""
    for module in (accelerate.accelerator, accelerate.optimizer):
        if hasattr(module, "is_lomo_available"):
            module.is_lomo_available = functools.cache(module.is_lomo_available)


def check_launch(accelerator: Accelerator, expected: int | None, exact_resume: bool):
    """Raises ValueError where N processes would train apart, or fewer than were expected."""
    world, joined = int(os.environ.get("WORLD_SIZE", "1")), accelerator.num_processes
    if world != joined:
        raise ValueError(
            f"The launcher started {world} processes but they do not train together (each sees {joined}): {world} "
            "independent runs would write into one folder. On a CPU set ACCELERATE_USE_CPU=true, or give --cpu."
        )
    if expected is not None and expected != joined:
        raise ValueError(
            f"--expected_processes {expected}, but {joined} train here. `accelerate launch --cpu --num_processes 2` "
            "silently starts one: use ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2."
        )
    if exact_resume and joined < 3:
        raise ValueError(f"--exact_resume has no effect with {joined} processes: their resume is exact already.")
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise ValueError("--mixed_precision fp16 needs a GPU (no loss scaling on the CPU); bf16 works here.")


def set_threads(accelerator: Accelerator, wanted: int | None) -> int:
    """CPU threads of this process: `wanted`, or its share of the machine's cores (launchers set 1)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    local = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    threads = wanted or max(1, cores // local)
    torch.set_num_threads(threads)
    return threads


def describe_launch(accelerator: Accelerator, threads: int) -> str:
    """
    The first line of a run: "2 processes (MULTI_CPU), device cpu, 1 thread each, precision no".
    """
    count, kind = accelerator.num_processes, accelerator.distributed_type.value
    return (
        f"{count} process{'es' if count > 1 else ''} ({kind}), device {accelerator.device}, "
        f"{threads} thread{'s' if threads > 1 else ''} each, mixed precision {accelerator.mixed_precision}"
    )


class Stopped(BaseException):
    """A signal arrived after everything was saved, so the process ends at once. The text is the signal's name."""


class StopSignal:
    """SIGTERM and SIGINT end the training after the step at hand; all processes agree on which step that is.

    Repeated signals are ignored until the process ends. A launcher forwards a signal that its whole process group has
    received already, and a run that ended well must exit with code 0.
    """

    def __init__(self, accelerator: Accelerator):
        self.received: str | None = None
        self.ends_at_once = False
        self.handlers = {}
        # Over the CPU: asking a GPU would make every step wait for it.
        several = accelerator.num_processes > 1
        self.group = torch.distributed.new_group(backend="gloo") if several else None

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self.handlers[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception):
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if self.group is not None and torch.distributed.is_initialized():  # else all groups are destroyed already
            torch.distributed.destroy_process_group(self.group)

    def agreed(self) -> bool:
        """True on every process if any of them was told to stop: one all-reduce of one number."""
        if self.group is None:
            return self.received is not None
        told = torch.tensor([self.received is not None], dtype=torch.int32)
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX, group=self.group)
        return bool(told.item())

    def end_at_once(self) -> None:
        """Everything is saved: from now on a signal raises Stopped, and one that came before raises it here."""
        if self.agreed():
            raise Stopped(self.received or "a signal to another process")
        self.ends_at_once = True

    def _remember(self, number: int, frame: FrameType | None):
        if self.received is None:
            atexit.register(ignore_signals)
        self.received = signal.Signals(number).name
        if self.ends_at_once:
            self.ends_at_once = False
            raise Stopped(self.received)


def ignore_signals() -> dict[int, Any]:
    """While the interpreter shuts down, a repeated signal would replace its exit code. Returns the former handlers."""
    return {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}


def finish_trackers(accelerator: Accelerator) -> None:
    """The first half of `Accelerator.end_training`; the other half is `leave_process_groups`, at the very end."""
    for tracker in accelerator.trackers:
        tracker.finish()


def leave_process_groups() -> None:
    """Ends the process groups and waits for their threads. To be called when no wrapped model is left, or none is used.

    A thread of gloo (torch 2.13) needs the interpreter once more after the last sum over processes, to let go of a
    Python object. If DistributedDataParallel is the last owner of the group, its destructor waits for that thread and
    keeps the interpreter: the process hangs. If the interpreter shuts down first, the process aborts (SIGABRT, -6).
    The Python owner of a group waits without keeping the interpreter, so it must be the last.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    handlers = ignore_signals()
    gc.collect()  # wrapped models in cycles of references
    PartialState().destroy_process_group()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _trackers(names: list[str]) -> list[str] | str | None:
    unknown = sorted(set(names) - {"none", "all", *TRACKERS})
    if unknown:
        raise ValueError(f"--report_to takes none, all, {', '.join(TRACKERS)}; got {', '.join(unknown)}.")
    if "none" in names:
        if len(names) > 1:
            raise ValueError(f"--report_to none stands alone; got {' '.join(names)}.")
        return None
    if "all" in names:
        return "all"
    missing = [name for name in names if not _installed(name)]
    if missing:
        raise ValueError(f"--report_to {' '.join(missing)}: not installed here (pip install {' '.join(missing)}).")
    return names


def _installed(tracker: str) -> bool:
    from accelerate.utils import is_tensorboard_available, is_trackio_available, is_wandb_available

    found = {"tensorboard": is_tensorboard_available, "wandb": is_wandb_available, "trackio": is_trackio_available}
    return found[tracker]()


def prepare_for_deepspeed(accelerator: Accelerator, arguments: Arguments):
    """Gives DeepSpeed the batch size and the limit of the gradient's norm. Not run yet.

    Accelerate takes the batch size from a prepared loader, and ours is not prepared. DeepSpeed clips gradients itself:
    "auto" would mean 1.0, whatever --max_grad_norm says.
    """
    if arguments.training.ema_weights is not None and accelerator.state.deepspeed_plugin.zero_stage == 3:
        raise ValueError(
            "--ema_weights does not work with DeepSpeed ZeRO-3, which shards the weights; use stage 1 or 2."
        )
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    settings["train_micro_batch_size_per_gpu"] = arguments.training.train_batch_size
    settings["gradient_clipping"] = float(arguments.training.max_grad_norm or 0)  # 0: no clipping


def keep_losses_in_float32(accelerator: Accelerator) -> None:
    """For FSDP2 in 16 bits: accelerate's policy rounds every output; nats per image would keep three digits."""
    plugin = accelerator.state.fsdp_plugin
    if hasattr(policy := plugin.mixed_precision_policy, "output_dtype"):
        plugin.mixed_precision_policy = dataclasses.replace(policy, output_dtype=None)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Lets a process on a CPU keep the memory that a step frees for the next step.

    glibc gives large blocks back to the system, and each step pays for them with page faults again: 18 % of the time of
    an IWAE's training, 6 to 12 % of a dVAE's. The process grows by a few per cent. Other C libraries are left alone.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt") and any(libc.mallopt(M_MMAP_THRESHOLD, most) for most in (1 << 30, 1 << 25)):
        libc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)  # second: it stops glibc from raising the first limit itself
