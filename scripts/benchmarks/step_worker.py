# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Bare training steps in a process of its own, for the package that PYTHONPATH names; rows_training.py starts it.

Each line of the standard input asks for a block of steps; the answer is its CPU and wall time in milliseconds a step.
"""

import sys
import time

import torch

from hf_autoencoders import VQVAEConfig, VQVAEModel
from hf_autoencoders.training.launch import keep_freed_memory


NETS = {
    "paper": ({"backbone": "conv", "block_out_channels": [128, 256, 256]}, 32, 64),  # van den Oord et al. 2017
    "resnet": ({"backbone": "resnet", "block_out_channels": [64, 128, 128, 256], "codebook_dim": 8}, 64, 16),
    "tiny": ({"backbone": "conv", "block_out_channels": [8, 8]}, 8, 2),
}


def main() -> None:
    net, precision, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
    torch.set_num_threads(1)
    keep_freed_memory()  # as a run of training does
    torch.manual_seed(0)
    fields, side, batch = NETS[net]
    model = VQVAEModel(VQVAEConfig(image_size=side, **fields)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    pixels = torch.rand(batch, 3, side, side) * 2 - 1

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model(pixels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    print("ready", flush=True)
    for _ in sys.stdin:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(steps):
            step()
        print(1e3 * (time.process_time() - cpu) / steps, 1e3 * (time.perf_counter() - wall) / steps, flush=True)


if __name__ == "__main__":
    main()
