# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Row on tokenising a data set: `encode_dataset.py`, from files to parquet, against encoding pictures in memory."""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path

import torch
from measure import Case, Timing
from rows_training import mnist_like, write_parquet

from hf_autoencoders import AutoencoderImageProcessorPil, VQVAEConfig, VQVAEModel
from hf_autoencoders.commands import encode_dataset
from hf_autoencoders.priors.token_encoding import ShardWriter


# Small nets; MNIST's is that of the recipe vqvae-mnist. The smaller the net, the harder is it to feed.
NETS = {
    "MNIST": {"image_size": 28, "num_channels": 1, "backbone": "conv", "block_out_channels": [64, 128, 128]},
    "photographs": {
        "image_size": 128, "num_channels": 3, "backbone": "resnet", "block_out_channels": [32, 64, 96, 128],
        "layers_per_block": 1, "norm_num_groups": 16, "codebook_dim": 8, "codebook_size": 1024,
    },
}  # fmt: skip
WORKERS = 2


class Clock(ShardWriter):
    """Counts the CPU time of encoding alone: of the thread that encodes, which computes with one thread."""

    cpu = wall = 0.0

    def encode(self, pixel_values):
        cpu, wall = time.thread_time(), time.perf_counter()
        tokens = super().encode(pixel_values)
        Clock.cpu += time.thread_time() - cpu
        Clock.wall += time.perf_counter() - wall
        return tokens


def data_sets(given: argparse.Namespace, place: Path) -> dict[str, tuple[str, Path]]:
    """Name of the data set -> its net and its folder."""
    count = 300 if given.tiny else 10_000
    write_parquet(mnist_like(count), place / "mnist")
    sets = {"parquet of MNIST's size": ("MNIST", place / "mnist")}
    if given.photographs:
        sets["files of photographs"] = ("photographs", given.photographs)
    return sets


def tokenising(given: argparse.Namespace) -> list[Case]:
    """One thread encodes, others decode, resize and write. On a machine with a core for them, the speed is that of the
    busiest: `share` = CPU time of encoding / the larger of the encoding thread's whole time and that of the others."""
    cases, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    writer, encode_dataset.ShardWriter = encode_dataset.ShardWriter, Clock
    try:
        with tempfile.TemporaryDirectory() as place:
            for name, (net, folder) in data_sets(given, Path(place)).items():
                model = Path(place) / net
                save(net, model)
                cases.append(encoding_of(name, model, folder, Path(place) / f"tokens-{net}", given))
    finally:
        encode_dataset.ShardWriter = writer
        torch.set_num_threads(threads)
    if len(cases) == 1:
        cases[0].notes.append("No --photographs FOLDER: files of photographs were not measured.")
    return cases


def save(net: str, folder: Path) -> None:
    torch.manual_seed(0)
    config = VQVAEConfig(**NETS[net])
    VQVAEModel(config).save_pretrained(folder)
    height, width = config.height, config.width
    AutoencoderImageProcessorPil(
        num_channels=config.num_channels, size={"height": height, "width": width}, do_center_crop=False
    ).save_pretrained(folder)


def encoding_of(name: str, model: Path, folder: Path, out: Path, given: argparse.Namespace) -> Case:
    flags = [
        "--model",
        model,
        "--dataset_name",
        folder,
        "--splits",
        "train",
        "--num_workers",
        WORKERS,
        "--num_threads",
        1,
    ]
    if given.max_pictures and not given.tiny:
        flags += ["--max_samples", given.max_pictures]
    timings, shares = {"encode_dataset.py": Timing(), "encoding alone": Timing()}, []
    for number in range(min(given.rounds, 3)):
        Clock.cpu = Clock.wall = 0.0
        wall = time.perf_counter()
        every, mine = time.process_time(), time.thread_time()
        with contextlib.redirect_stdout(io.StringIO()):
            code = encode_dataset.main([str(flag) for flag in (*flags, "--output_dir", f"{out}-{number}")])
        if code:
            raise RuntimeError(f"encode_dataset.py ended with {code}")
        mine = time.thread_time() - mine
        every = time.process_time() - every
        shares.append(Clock.cpu / max(mine, every - mine))
        timings["encode_dataset.py"].cpu.append(1e3 * every)
        timings["encode_dataset.py"].wall.append(1e3 * (time.perf_counter() - wall))
        timings["encoding alone"].cpu.append(1e3 * Clock.cpu)
        timings["encoding alone"].wall.append(1e3 * Clock.wall)
    case = Case(f"{name}, {WORKERS} workers", timings)
    case.claim(
        "of the bare speed of encoding, given a core for the workers", sorted(shares)[len(shares) // 2], ">=", 0.85
    )
    return case
