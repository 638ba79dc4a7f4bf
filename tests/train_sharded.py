# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Runs of train.py one after the other, of processes that stay the same:  train_sharded.py KIND FLAGS -- KIND FLAGS ...

KIND fsdp: the model is sharded by FSDP2, which accelerate itself offers on GPUs only. What happens then is accelerate's
own, `fsdp2_prepare_model` and all, after it was told that these processes are of that kind. KIND ddp: as on any CPU.
"""

import sys

from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import PartialState
from accelerate.utils import DistributedType
from training_runs import train_here

from hf_autoencoders.commands import carry_out
from hf_autoencoders.training import assembly
from hf_autoencoders.training.launch import keep_losses_in_float32, leave_process_groups


start_accelerator = assembly.start_accelerator


def start_sharding(arguments) -> Accelerator:
    """As scripts/accelerate_configs/fsdp2.yaml."""
    accelerator = start_accelerator(arguments)
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        state_dict_type="FULL_STATE_DICT",
        cpu_ram_efficient_loading=False,
    )
    if accelerator.mixed_precision != "no":
        accelerator.state.fsdp_plugin.set_mixed_precision(accelerator.mixed_precision)
    keep_losses_in_float32(accelerator)
    for state in (accelerator.state, PartialState()):
        state.distributed_type = DistributedType.FSDP
    return accelerator


def main(words: list[str]) -> int:
    carry_out.leave_process_groups = lambda: None  # it would take the processes apart, which no run can undo
    while words:
        end = words.index("--") if "--" in words else len(words)
        kind, *flags = words[:end]
        assembly.start_accelerator = {"fsdp": start_sharding, "ddp": start_accelerator}[kind]
        if code := train_here(flags):
            return code
        words = words[end + 1 :]
    leave_process_groups()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
