# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Two processes with half the batch each do exactly what one does with all of it, for every quantizer.

As a script (`torchrun tests/test_quantizers_distributed.py OUT.pt`) this file is one of those processes.
"""

import functools
import os
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor


GLOBAL_BATCH = 64
QUANTIZERS = {
    "vq": {"quantizer": "vq"},
    "vq-data": {"quantizer": "vq", "codebook_init": "data", "revive_dead_codes": True},
    "l2": {"quantizer": "l2", "codebook_init": "data", "revive_dead_codes": True, "gradient": "rotation"},
    "ema": {"quantizer": "ema"},
    "ema-l2": {"quantizer": "ema", "normalize_codes": True},
    "simvq": {"quantizer": "simvq"},
    "fsq": {"quantizer": "fsq"},
    "residual": {"quantizer": "residual"},
    "gumbel": {"quantizer": "gumbel"},
}


def make_model(name: str):
    from hf_autoencoders.models.configuration_dvae import DVAEConfig
    from hf_autoencoders.models.configuration_vqvae import VQVAEConfig
    from hf_autoencoders.models.modeling_dvae import DVAEModel
    from hf_autoencoders.models.modeling_vqvae import VQVAEModel

    torch.manual_seed(0)
    fields = {"image_size": 8, "num_channels": 1, "codebook_size": 32, "codebook_dim": 4, **QUANTIZERS[name]}
    fields |= {"block_out_channels": (8, 8), "layers_per_block": 1, "backbone": "conv"}
    if name == "gumbel":
        return DVAEModel(DVAEConfig(**fields))
    # Half of the codes die within a few steps, so that revival has work to do.
    fields |= {"residual_channels": 4, "dead_code_threshold": 0.5, "ema_decay": 0.8}
    return VQVAEModel(VQVAEConfig(**fields))


@functools.cache
def digits() -> torch.Tensor:
    return torch.from_numpy(load_digits().images)[:, None] / 8 - 1


def batch_of(step: int, dtype: torch.dtype) -> torch.Tensor:
    """The global batch of one step, real handwritten digits: (64, 1, 8, 8) in [-1, 1]."""
    rows = torch.randperm(1797, generator=torch.Generator().manual_seed(step))[:GLOBAL_BATCH]
    return digits()[rows].to(dtype)


def schedules(name: str, step: int, micro_batch: int) -> dict:
    """The dVAE's noise: both halves of the batch draw their own."""
    return {"generator": torch.Generator().manual_seed(2 * step + micro_batch)} if name == "gumbel" else {}


def train(name: str, dtype: torch.dtype, wrap, steps: int) -> dict:
    """Trains and gives losses, last gradients and all state. One process takes the halves as micro-batches of one step
    only where they draw noise, else the whole batch at once."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    model = WRAPPED.pop(name) if name in WRAPPED else make_model(name).to(dtype)
    parts = 2 if name == "gumbel" else world
    mine = range(parts) if world == 1 else [rank]
    wrapped = wrap(model.train())
    kind, rate = (torch.optim.Adam, 1e-3) if dtype == torch.float64 else (torch.optim.SGD, 0.01)
    optimizer = kind(model.parameters(), rate)
    losses = []
    for step in range(steps):
        total = 0.0
        for i in mine:
            pixels = batch_of(step, dtype).chunk(parts)[i]
            loss = wrapped(pixels, **schedules(name, step, i)).loss / len(mine)
            loss.backward()
            total += loss.detach()
        optimizer.step()
        gradients = {key: p.grad.clone() for key, p in model.named_parameters()}
        optimizer.zero_grad()
        losses.append(mean_over_processes(total))
    found = {"loss": torch.stack(losses), **{f"grad.{k}": v for k, v in gradients.items()}, **model.state_dict()}
    return {key: value.full_tensor() if isinstance(value, DTensor) else value for key, value in found.items()}


def follow_broken_batches(name: str) -> dict:
    """State of a codebook after three batches, the first of which sets it; one process has a broken picture in each."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    model = make_model(name).double().train()
    for step, broken in enumerate((torch.nan, torch.inf, -torch.inf)):
        pixels = batch_of(step, torch.float64)
        pixels[40, :, 3] = broken  # in the second process's half
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pixels out of range
            model.quantize(model.encode_pixels(pixels.chunk(world)[rank]))
    return model.quantize.state_dict()


WRAPPED = {}  # models built before the process group


def mean_over_processes(value: torch.Tensor) -> torch.Tensor:
    if dist.is_initialized():
        dist.all_reduce(value)
        value /= dist.get_world_size()
    return value


# precision, steps
PARTS = {"float64": (torch.float64, 50), "float32": (torch.float32, 20), "sharded": (torch.float64, 8)}
# A codebook that gradients move *and* data sets loses the latter when it is sharded: train.py refuses those under FSDP.
SHARDED = ("vq", "ema", "simvq", "fsq", "residual")
FOLLOWERS = ("vq-data", "l2", "ema", "residual")  # codebooks that averages, k-means and revival write to
CASES = [(part, name) for part in PARTS for name in (SHARDED if part == "sharded" else QUANTIZERS)]


def main(out: str):
    torch.set_num_threads(1)
    WRAPPED["ema"] = make_model("ema").double()
    wraps = dict.fromkeys(PARTS, lambda model: model)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        assert dist.get_world_size() == 2
        parallel = partial(nn.parallel.DistributedDataParallel, forward_sync_buffers=False)
        wraps = dict.fromkeys(PARTS, parallel)
        wraps["sharded"] = partial(fully_shard, mesh=init_device_mesh("cpu", (2,)))  # FSDP2
    results = {}
    for part, name in CASES:
        dtype, steps = PARTS[part]
        results[part, name] = train(name, dtype, wraps[part], steps)
    for name in FOLLOWERS:
        results["broken", name] = follow_broken_batches(name)
    if not dist.is_initialized():
        torch.save(results, out)
        return
    everyone = [None, None]
    dist.all_gather_object(everyone, results)
    if dist.get_rank() == 0:
        torch.save(everyone, out)
    dist.barrier()


def start(launcher: list[str], out: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, *launcher, __file__, str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What one process found, and what each of two found: three dictionaries by (part, quantizer)."""
    folder = tmp_path_factory.mktemp("runs")
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for launcher, out in (([], "alone.pt"), (two, "two.pt")):
        process = start(launcher, folder / out)
        try:
            printed, _ = process.communicate(timeout=300)
        finally:
            process.kill()
        assert process.returncode == 0, printed[-3000:]
    return torch.load(folder / "alone.pt"), *torch.load(folder / "two.pt")


def tolerance(part: str, name: str, key: str) -> float:
    """Largest difference allowed, relative to the tensor's largest entry.

    In float32, one process that sees the batch in another order has gradients that differ by 1.3e-6 (sums of 4096
    numbers that nearly cancel), and a second residual level's codes are averages of small differences.
    """
    if part in ("float64", "sharded"):
        return 1e-12
    return 3e-6 if key.startswith("grad.") or (name == "residual" and ".levels.1." in key) else 1e-6


@pytest.mark.parametrize("part, name", CASES)
def test_two_processes_train_like_one(runs, part, name):
    alone, first, second = (run[part, name] for run in runs)
    for key, expected in alone.items():
        assert torch.equal(first[key], second[key]), f"the processes disagree on {key}"
        error = (first[key].double() - expected.double()).abs().max()
        largest = expected.double().abs().max().clamp_min(1e-300)
        assert error <= tolerance(part, name, key) * largest, f"{key} differs by {error / largest:.2g}"


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_broken_picture_on_one_process_enters_no_codebook_on_any(runs, name):
    alone, first, second = (run["broken", name] for run in runs)
    for key, expected in alone.items():
        assert expected.isfinite().all() and torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["vq-data", "l2", "ema", "ema-l2", "residual"])
def test_the_codebooks_above_followed_every_step(runs, name):
    for part, (_, steps) in PARTS.items():
        if (part, name) in CASES:
            clocks = [value.item() for key, value in runs[0][part, name].items() if key.endswith("state.steps")]
            assert clocks and set(clocks) == {steps}


if __name__ == "__main__":
    from hf_autoencoders.training.launch import leave_process_groups

    main(*sys.argv[1:])
    leave_process_groups()
