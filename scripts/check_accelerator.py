# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Is everything right on this machine's accelerators?  python scripts/check_accelerator.py [--output docs/table.md]

It trains each model in each precision, eager and compiled, and compares with the CPU. It resumes a run and compares it
bit by bit, compares two devices with one, and tries FSDP2 and DeepSpeed. It measures look-up and encoding, also of
diffusers. It prints a Markdown table: pass, fail, or skipped with the reason. The exit code is 1 if anything failed.
Without an accelerator the rows run on the CPU, and the table says so.
"""

import argparse
import importlib.util
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

import hf_autoencoders  # registers the four models with the Auto classes
from hf_autoencoders.models.nearest_codes import nearest_codes
from hf_autoencoders.training.results import describe_device


ROOT = Path(__file__).resolve().parents[1]
SMALL = {"image_size": 32, "num_channels": 3, "block_out_channels": [32, 32], "layers_per_block": 1}
CODES = {"codebook_size": 64, "codebook_dim": 16}
MODELS = {
    "ae": {},
    "vae": {"kl_weight": 0.01},
    "vqvae": CODES,
    "dvae": {**CODES, "backbone": "conv", "reconstruction_loss": "mse", "kl_weight": 0.01, "gumbel_temperature": 0.3},
}
DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
STEPS = 30
# Allowed relative difference of the first loss from the CPU's in float32: sums in another order, TF32, 16 bits.
TOLERANCE = {"fp32": 2e-3, "bf16": 3e-2, "fp16": 1e-2}


@dataclass
class Row:
    """One line of the table. `result`: pass, fail, skipped."""

    check: str
    result: str
    detail: str


class Skipped(Exception):
    """A check that does not apply here; the message says why."""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 nothing failed, 1 something did, 2 a mistake in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda, mps, xpu or cpu (default: the accelerator that torch finds)")
    parser.add_argument("--output", type=Path, help="write the table there, too")
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device or (torch.accelerator.current_accelerator() or "cpu"))
    rows = []
    for name, check in checks(device):
        rows.append(run_check(name, check))
        print(f"{rows[-1].result:8} {name}: {rows[-1].detail}", file=sys.stderr, flush=True)
    table = as_markdown(rows, device)
    print(table)
    if arguments.output:
        arguments.output.write_text(table + "\n", encoding="utf-8")
    return int(any(row.result == "fail" for row in rows))


def run_check(name: str, check: Callable[[], str]) -> Row:
    try:
        return Row(name, "pass", check())
    except Skipped as why:
        return Row(name, "skipped", str(why))
    except Exception as error:  # every failure becomes a line of the table
        traceback.print_exc()
        return Row(name, "fail", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def as_markdown(rows: list[Row], device: torch.device) -> str:
    versions = (
        f"torch {torch.__version__}, hf_autoencoders {hf_autoencoders.__version__}, Python {platform.python_version()}"
    )
    count = getattr(torch, device.type).device_count() if device.type != "cpu" else 1
    note = " (no accelerator here: the rows ran on the CPU)" if device.type == "cpu" else ""
    lines = [f"{count} x {describe_device(device)}{note}; {versions}; {time.strftime('%Y-%m-%d')}", ""]
    lines += ["| check | result | |", "|---|---|---|"]
    lines += [f"| {row.check} | {row.result} | {row.detail.replace('|', '/')} |" for row in rows]
    return "\n".join(lines)


# -- the rows ----------------------------------------------------------------------------------------------------------


def checks(device: torch.device) -> Iterator[tuple[str, Callable[[], str]]]:
    for model_type in MODELS:
        for precision in DTYPES:
            yield f"{model_type}, {precision}", lambda m=model_type, p=precision: check_training(m, p, device)
        yield f"{model_type}, compiled", lambda m=model_type: check_compiled(m, device)
    for model_type in MODELS:
        yield f"{model_type} as on the CPU", lambda m=model_type: check_against_cpu(m, device)
    yield "codes under autocast are nearest", lambda: check_codes(device)
    yield "resume, bit for bit", lambda: check_resume(device)
    yield "two processes as one", lambda: check_two_processes(device)
    yield "FSDP2", lambda: check_launch_config("fsdp2.yaml", device)
    yield "DeepSpeed", lambda: check_launch_config("deepspeed.yaml", device)
    yield "look-up beside a bare product", lambda: time_look_up(device)
    yield "encoding beside diffusers", lambda: time_encoding(device)


def build(model_type: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModel.from_config(AutoConfig.for_model(model_type, **SMALL, **MODELS[model_type]))


def pictures(count: int = 16, side: int = 32) -> Tensor:
    """Smooth random pictures (B, 3, H, W) in [-1, 1], the same on every machine."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(-1, 1)


def autocast(precision: str, device: torch.device):
    dtype = DTYPES[precision]
    if dtype is torch.float16 and device.type == "cpu":
        raise Skipped("fp16 is for accelerators")
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def train_steps(model: PreTrainedModel, forward: Callable, precision: str, device: torch.device) -> list[float]:
    """The losses of a few steps on one batch, minus the loss of perfect pictures under a Gaussian of variance 1."""
    pixels = pictures().to(device)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    losses = []
    for _ in range(STEPS):
        with autocast(precision, device):
            loss = forward(pixels).loss
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.detach())
    floor = 0.0 if model.loss_per_element else 0.5 * math.log(2 * math.pi) * pixels[0].numel()
    return [loss.item() - floor for loss in losses]


def assert_falls(losses: list[float]) -> str:
    first, last = losses[0], min(losses[-5:])
    assert last < 0.9 * first, f"the loss went from {first:.4g} to {last:.4g} in {len(losses)} steps"
    return f"loss {first:.4g} -> {last:.4g} in {len(losses)} steps"


def check_training(model_type: str, precision: str, device: torch.device) -> str:
    model = build(model_type).to(device).train()
    return assert_falls(train_steps(model, model, precision, device))


def check_compiled(model_type: str, device: torch.device) -> str:
    if device.type == "cpu" and model_type != "vqvae":
        raise Skipped("on a CPU one model is compiled")
    if device.type == "cpu" and shutil.which("g++") is None:
        raise Skipped("torch.compile needs a C++ compiler on a CPU")
    model = build(model_type).to(device).train()
    losses = train_steps(model, torch.compile(model), "fp32", device)
    eager = build(model_type).to(device).train()
    expected = train_steps(eager, eager, "fp32", device)
    assert abs(losses[0] - expected[0]) <= 1e-3 * abs(expected[0]), (
        f"first loss {losses[0]} compiled, {expected[0]} eager"
    )
    return assert_falls(losses)


@torch.no_grad()
def check_against_cpu(model_type: str, device: torch.device) -> str:
    model, pixels = build(model_type).eval(), pictures()
    expected, found = model(pixels).loss.item(), []
    model.to(device)
    for precision in DTYPES:
        if precision == "fp16" and device.type == "cpu":
            continue
        with autocast(precision, device):
            difference = abs(model(pixels.to(device)).loss.item() - expected) / abs(expected)
        assert difference <= TOLERANCE[precision], f"{precision}: {difference:.1e} > {TOLERANCE[precision]}"
        found.append(f"{precision} {difference:.1e}")
    return f"relative difference of the loss: {', '.join(found)}"


@torch.no_grad()
def check_codes(device: torch.device) -> str:
    generator, count = torch.Generator().manual_seed(0), 0
    for size, width in ((512, 64), (8192, 64), (1024, 256)):
        vectors, codebook = (torch.randn(n, width, generator=generator).to(device) for n in (4096, size))
        for dtype in (torch.bfloat16, torch.float16):
            if device.type == "cpu" and dtype is torch.float16:
                continue
            with torch.autocast(device.type, dtype):
                codes = nearest_codes(vectors, codebook).cpu()
            distances = torch.cdist(vectors.cpu().double(), codebook.cpu().double())
            chosen = distances.gather(1, codes[:, None]).squeeze(1)
            wrong = int((chosen > distances.amin(1) * (1 + 1e-7)).sum())
            assert not wrong, f"{wrong} of {len(codes)} codes are not the nearest (K = {size}, D = {width}, {dtype})"
            count += len(codes)
    return f"{count:,} of {count:,}, beside brute force in float64"


# -- rows that launch train.py -----------------------------------------------------------------------------------------


FLAGS = [
    *("--block_out_channels", "16", "16", "--layers_per_block", "1", "--codebook_size", "32", "--codebook_dim", "8"),
    *("--max_eval_samples", "64", "--num_threads", "1", "--logging_steps", "1"),
]


def launch(folder: Path, device: torch.device, *flags: str, processes: int = 1, config: str | None = None) -> None:
    """Runs train.py on the digits, as a user launches it."""
    place = [*FLAGS, "--output_dir", str(folder), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    environment["ACCELERATE_USE_CPU"] = str(device.type == "cpu").lower()
    launcher = [sys.executable]
    if config:
        launcher += ["-m", "accelerate.commands.launch", "--config_file", config, "--num_processes", str(processes)]
    elif processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [*launcher, str(ROOT / "scripts/train.py"), *place],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"train.py ended with {done.returncode}: {done.stderr.strip()[-400:]}"


def check_resume(device: torch.device) -> str:
    with tempfile.TemporaryDirectory() as place:
        whole, halves = Path(place) / "whole", Path(place) / "halves"
        knobs = ("--train_batch_size", "32", "--lr_scheduler", "cosine", "--lr_steps", "8", "--random_crop", "1")
        launch(whole, device, *knobs, "--max_train_steps", "8")
        launch(halves, device, *knobs, "--max_train_steps", "4")
        launch(halves, device, *knobs, "--max_train_steps", "8", "--resume", "latest")
        one, two = (load_file(folder / "model.safetensors") for folder in (whole, halves))
        different = [name for name in one if not torch.equal(one[name], two[name])]
        assert not different, f"not equal: {', '.join(different[:5])}"
    return f"{len(one)} tensors"


def check_two_processes(device: torch.device) -> str:
    if device.type != "cpu" and getattr(torch, device.type).device_count() < 2:
        raise Skipped("one device")
    with tempfile.TemporaryDirectory() as place:
        one, two = Path(place) / "one", Path(place) / "two"
        knobs = ("--max_train_steps", "8", "--optimizer", "sgd", "--learning_rate", "0.01")
        launch(one, device, *knobs, "--train_batch_size", "32")
        launch(two, device, *knobs, "--train_batch_size", "16", "--expected_processes", "2", processes=2)
        losses = [losses_of(folder) for folder in (one, two)]
        worst = max(abs(a - b) / abs(a) for a, b in zip(*losses, strict=True))
        assert worst <= 1e-4, f"losses differ by {worst:.1e}"
    return f"losses of 8 steps differ by at most {worst:.1e} ({'NCCL' if device.type == 'cuda' else 'gloo'})"


def losses_of(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def check_launch_config(name: str, device: torch.device) -> str:
    if name.startswith("deepspeed") and importlib.util.find_spec("deepspeed") is None:
        raise Skipped("deepspeed is not installed")
    if device.type == "cpu":
        raise Skipped("needs accelerators; tests/test_sharding.py shards on CPUs")
    processes = min(2, getattr(torch, device.type).device_count())
    with tempfile.TemporaryDirectory() as place:
        config = str(ROOT / "hf_autoencoders/commands/accelerate_configs" / name)
        launch(Path(place) / "run", device, "--max_train_steps", "4", processes=processes, config=config)
        AutoModel.from_pretrained(Path(place) / "run")
    return f"trained, saved and loaded ({processes} processes)"


# -- rows that measure -------------------------------------------------------------------------------------------------


def seconds(work: Callable[[], object], device: torch.device, runs: int = 5) -> float:
    """The fastest of a few calls, after one that does not count."""
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        work()
        if device.type != "cpu":
            getattr(torch, device.type).synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


@torch.no_grad()
def time_look_up(device: torch.device) -> str:
    vectors, codebook = torch.randn(8192, 64, device=device), torch.randn(8192, 64, device=device)
    bare = seconds(lambda: vectors @ codebook.T, device)
    return f"N = K = 8192, D = 64: {seconds(lambda: nearest_codes(vectors, codebook), device) / bare:.2f} x the product"


@torch.no_grad()
def time_encoding(device: torch.device) -> str:
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "vqvae", image_size=64, num_channels=3, backbone="resnet", block_out_channels=[32, 64, 64], layers_per_block=1,
        norm_num_groups=16, mid_block_add_attention=False, codebook_size=512, codebook_dim=16,
    )  # fmt: skip
    model = AutoModel.from_config(config).eval()
    theirs = hf_autoencoders.to_diffusers(model).eval().to(device)
    model, pixels = model.to(device), pictures(16, 64).to(device)
    ours = seconds(lambda: model.get_image_tokens(pixels), device)
    peer = seconds(lambda: theirs.quantize(theirs.encode(pixels).latents), device)
    return f"{16 / ours:,.0f} images/s, {peer / ours:.2f} x diffusers' (64x64, f4 resnet, fp32)"


if __name__ == "__main__":
    sys.exit(main())
