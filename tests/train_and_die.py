# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""train.py that is killed (SIGKILL) at a chosen moment:  train_and_die.py POINT NUMBER FLAGS ...

POINT step: in the NUMBER-th backward pass, after gradients exist and before they are applied.
POINT checkpoint: while the NUMBER-th checkpoint is being written, half its files there.
POINT epoch: between the last step of epoch NUMBER - 1 and the first of epoch NUMBER.
Of several processes the last one dies at a step or an epoch's edge, the first one in writing.
"""

import os
import signal
import sys

from accelerate import Accelerator
from training_runs import load_script

from hf_autoencoders.training import checkpoints
from hf_autoencoders.training.batches import BatchPlan


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_call(owner: object, name: str, number: int):
    """Replaces a function by one that dies after its `number`-th call."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        result = original(*args, **kwargs)
        calls.append(None)
        if len(calls) == number:
            die()
        return result

    setattr(owner, name, counted)


def die_at_epoch(number: int):
    original = BatchPlan.permutation

    def permutation(plan: BatchPlan, epoch: int):
        if epoch == number:
            die()
        return original(plan, epoch)

    BatchPlan.permutation = permutation


def prepare_to_die(point: str, number: int):
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if point == "checkpoint":
        die_at_call(checkpoints, "save_state_file", number)  # model and optimizer are written, no manifest yet
    elif rank == world - 1:
        die_at_epoch(number) if point == "epoch" else die_at_call(Accelerator, "backward", number)


if __name__ == "__main__":
    prepare_to_die(sys.argv[1], int(sys.argv[2]))
    sys.exit(load_script().main(sys.argv[3:]))
