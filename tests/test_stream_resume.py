# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A run on a stream, decoded by workers, that is continued twice ends as one that nobody stopped."""

import io

import numpy as np
import pytest
from PIL import Image
from training_runs import checkpoint, tiny, train_here


@pytest.fixture
def shards(tmp_path):
    """Three parquet files of 40 small photographs each."""
    from datasets import Dataset, Features
    from datasets import Image as ImageFeature

    random, folder = np.random.default_rng(0), tmp_path / "shards"
    folder.mkdir()
    for shard in range(3):
        cells = []
        for _ in range(40):
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (12, 20, 3), dtype=np.uint8)).save(buffer, "PNG")
            cells.append({"bytes": buffer.getvalue(), "path": None})
        rows = Dataset.from_dict({"image": cells}, Features({"image": ImageFeature()}))
        rows.to_parquet(folder / f"train-{shard:05d}-of-00003.parquet", batch_size=10)
    return folder


def test_a_streaming_run_with_two_workers_resumes_bit_for_bit(shards, tmp_path):
    def run(folder, steps, *more):
        flags = (
            *("--dataset_name", shards, "--streaming", "--stream_shuffle", 30, "--dataloader_num_workers", 2),
            *("--image_size", 8, "--random_resized_crop", 0.5, "--random_flip", "--train_batch_size", 8),
            *("--gradient_accumulation_steps", 2, "--checkpointing_steps", 3, "--max_train_steps", steps),
        )
        assert train_here(tiny("vqvae", folder, *flags, *more)) == 0

    run(tmp_path / "whole", 12)
    for steps, more in ((3, ()), (6, ("--resume", "latest")), (12, ("--resume", "latest"))):  # an epoch is 6.8 steps
        run(tmp_path / "parts", steps, *more)
    one, two = (checkpoint(tmp_path / name, 12) for name in ("whole", "parts"))
    names = {path.name for path in one.iterdir()} - {
        "manifest.json",
        "state.json",
    }  # these hold seconds, and their hash
    assert {"model.safetensors", "optimizer.bin", "stream_0.json", "random_states_0.pkl"} <= names
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
