# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Token data sets: the same tokens as the model's, whole after a kill, refused for another model."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from datasets import Dataset, List, Value, load_dataset
from PIL import Image
from torch.utils.data import DataLoader
from training_runs import load_script

from hf_autoencoders import AutoencoderImageProcessorPil, VQVAEConfig, VQVAEModel
from hf_autoencoders.priors.ahead import ahead
from hf_autoencoders.priors.prior_data import read_token_splits
from hf_autoencoders.priors.token_datasets import TokenDataset, TokenDatasetError, load_token_dataset
from hf_autoencoders.priors.token_encoding import encode_in_memory, token_type
from hf_autoencoders.training.data import load_images
from hf_autoencoders.training.image_sources import read_tables


ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


encode_dataset = load_script(ROOT / "scripts/encode_dataset.py")
train_prior = load_script(ROOT / "scripts/train_prior.py")


def make_model(seed=0, **fields):
    torch.manual_seed(seed)
    small = {"image_size": 8, "num_channels": 1, "block_out_channels": [8, 8, 8], "residual_channels": 8}
    config = VQVAEConfig(**small, **{"codebook_size": 32, "codebook_dim": 8, "quantizer": "vq", **fields})
    model = VQVAEModel(config).eval()
    images = load_images("digits", to_uint8=processor().to_uint8).train
    with torch.no_grad():  # codes among the latents, so that many are used
        z = model.encode(images.batch(range(64))["pixel_values"]).latents.permute(0, 2, 3, 1).flatten(0, 2)
        if config.quantizer == "vq":
            model.quantize.embedding.weight.copy_(z[torch.randperm(len(z))[:32]])
    return model


def processor():
    return AutoencoderImageProcessorPil(num_channels=1, size={"height": 8, "width": 8})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqvae-digits")
    make_model().save_pretrained(folder)
    processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def expected(model):
    """By split: what the model says of each picture, computed at once."""
    images = load_images("digits", to_uint8=processor().to_uint8)
    return {
        split: model.get_image_tokens(part.batch(range(len(part)))["pixel_values"])
        for split, part in (("train", images.train), ("test", images.eval))
    }


def run(saved, folder, *flags):
    return encode_dataset.main(["--model", str(saved), "--output_dir", str(folder), "--cpu", *map(str, flags)])


@pytest.fixture(scope="module")
def encoded(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens") / "digits"
    assert run(saved, folder, "--rows_per_shard", 500, "--batch_size", 64) == 0
    return folder


def test_a_data_set_holds_the_models_tokens_with_their_labels(encoded, model, expected):
    for split in ("train", "test"):
        tokens = load_token_dataset(encoded, expect=model, split=split)
        batch = tokens.__getitems__(range(len(tokens)))
        assert torch.equal(batch["image_tokens"], expected[split])
        assert batch["labels"].tolist() == read_tables("digits", None, False)[split]["label"][:]
        assert tokens.num_classes == 10 and tokens.names == [str(digit) for digit in range(10)]


def test_batches_of_a_loader_are_grids(encoded):
    loader = DataLoader(load_token_dataset(encoded), batch_size=5, collate_fn=lambda batch: batch)
    batch = next(iter(loader))
    assert batch["image_tokens"].shape == (5, 2, 2) and batch["image_tokens"].dtype == torch.int64


def test_a_loader_needs_no_help(encoded, expected):
    loader = DataLoader(load_token_dataset(encoded), batch_size=8)
    batches = list(loader)
    assert set(batches[0]) == {"image_tokens", "labels"} and batches[0]["labels"].shape == (8,)
    assert torch.equal(torch.cat([batch["image_tokens"] for batch in batches]), expected["train"])
    assert len(next(iter(DataLoader(load_token_dataset(encoded), batch_size=8, shuffle=True)))["labels"]) == 8


def test_the_files_are_what_every_reader_of_parquet_expects(encoded):
    table = load_dataset(str(encoded), split="train")
    assert table.column_names == ["image_tokens", "label", "index"]
    assert table.features["image_tokens"].length == 4 and table.features["image_tokens"].feature.dtype == "uint16"
    assert table.with_format("torch")[0]["image_tokens"].dtype == torch.int64
    assert table["index"][:] == list(range(1437))
    record = json.loads((encoded / "image_tokenizer.json").read_text())
    assert record["splits"]["train"]["rows"] == 1437 and len(record["splits"]["train"]["shards"]) == 3
    card = (encoded / "README.md").read_text()
    assert "vqvae-digits" in card and str(encoded.parent) not in card
    assert not (encoded / ".encoding").exists()


def test_usage_and_perplexity_are_those_of_the_histogram(encoded, expected):
    counts = torch.bincount(expected["train"].flatten(), minlength=32).double()
    record = json.loads((encoded / "image_tokenizer.json").read_text())["splits"]["train"]
    assert record["codes_used"] == (counts > 0).sum()
    entropy = torch.distributions.Categorical(probs=counts).entropy()
    assert record["perplexity"] == pytest.approx(entropy.exp().item())


def test_encoding_in_memory_gives_the_same(model, expected):
    images = load_images("digits", to_uint8=processor().to_uint8).train
    tokens = encode_in_memory(model, images, batch_size=100)
    assert torch.equal(tokens.__getitems__(range(len(images)))["image_tokens"], expected["train"])
    assert tokens.tokens.dtype == np.uint16 and tokens.num_classes == 10


def test_an_interrupted_run_continues_and_makes_no_shard_twice(saved, encoded, tmp_path, monkeypatch):
    seen, write = [], encode_dataset.ShardWriter._write

    def stop_before_the_third(self, name, flat, others):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(name)
        write(self, name, flat, others)

    flags = ("--rows_per_shard", 500, "--batch_size", 64)
    monkeypatch.setattr(encode_dataset.ShardWriter, "_write", stop_before_the_third)
    assert run(saved, tmp_path, *flags) == 130  # as a shell says of Ctrl-C
    with pytest.raises(TokenDatasetError, match="is not finished: run `hf-autoencoders encode_dataset` again"):
        load_token_dataset(tmp_path)
    first = {name: (tmp_path / name).stat().st_mtime_ns for name in seen}
    monkeypatch.undo()
    assert run(saved, tmp_path, *flags) == 0
    assert all((tmp_path / name).stat().st_mtime_ns == stamp for name, stamp in first.items())
    for path in sorted(encoded.glob("*.parquet")):
        assert parquet.read_table(tmp_path / path.name).equals(parquet.read_table(path))


def test_a_finished_run_is_left_alone(saved, encoded, capsys):
    assert run(saved, encoded, "--rows_per_shard", 500) == 0
    assert "holds all tokens already" in capsys.readouterr().out


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    read_tables("digits", None, False)["test"].to_parquet(folder / "train-00000-of-00001.parquet")
    return folder


def test_a_stream_gives_the_same_and_continues_where_it_stopped(saved, expected, digits_folder, tmp_path, monkeypatch):
    flags = ("--dataset_name", digits_folder, "--streaming", "--rows_per_shard", 100)
    write, seen = encode_dataset.ShardWriter._write, []

    def stop_before_the_third(self, name, flat, others):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(name)
        write(self, name, flat, others)

    monkeypatch.setattr(encode_dataset.ShardWriter, "_write", stop_before_the_third)
    assert run(saved, tmp_path, *flags) == 130  # as a shell says of Ctrl-C
    monkeypatch.undo()
    assert run(saved, tmp_path, *flags) == 0
    tokens = load_token_dataset(tmp_path, expect=make_model())
    batch = tokens.__getitems__(range(len(tokens)))
    assert torch.equal(batch["image_tokens"], expected["test"])
    assert batch["labels"].tolist() == read_tables("digits", None, False)["test"]["label"][:]


@pytest.mark.parametrize("workers", [0, 3])
def test_threads_that_decode_ahead_change_nothing(saved, encoded, digits_folder, tmp_path, workers):
    flags = ("--rows_per_shard", 500, "--batch_size", 64, "--num_workers", workers)
    assert run(saved, tmp_path / "table", *flags) == 0
    for path in sorted(encoded.glob("*.parquet")):
        assert (tmp_path / "table" / path.name).read_bytes() == path.read_bytes()
    stream = ("--dataset_name", digits_folder, "--streaming")
    assert run(saved, tmp_path / "stream", *stream, *flags) == 0
    tokens = (load_token_dataset(folder, split=split).tokens for folder, split in (
        (tmp_path / "stream", "train"), (encoded, "test"),
    ))  # fmt: skip
    assert np.array_equal(*tokens)


def test_an_error_ahead_is_raised_where_its_result_would_come():
    seen = []
    with pytest.raises(ZeroDivisionError):
        for result in ahead(lambda number: 6 // number, [1, 2, 0, 3], threads=2):
            seen.append(result)
    assert seen == [6, 3]


def test_mixed_precision_says_how_many_tokens_it_changes(saved, encoded, tmp_path, capsys):
    assert run(saved, tmp_path / "tokens", "--mixed_precision", "bf16") == 0
    said = re.search(r"bf16 changes (\d+) of (4,000) tokens \((.*)%\) of the first 1,000", capsys.readouterr().out)
    exact, cast = (load_token_dataset(folder).tokens[:1000] for folder in (encoded, tmp_path / "tokens"))
    assert int(said[1]) == (exact != cast).sum() > 0
    assert run(saved, tmp_path / "tokens") == 2
    assert "encoded with another mixed_precision" in capsys.readouterr().err


def test_two_processes_share_the_shards(saved, encoded, tmp_path):
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        "scripts/encode_dataset.py", "--model", saved, "--output_dir", tmp_path, "--cpu",
        "--rows_per_shard", "500", "--expected_processes", "2",
    ]  # fmt: skip
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "encoded 1797 images" in done.stdout and "held" not in done.stdout and "holds" not in done.stdout
    for path in sorted(encoded.glob("*.parquet")):
        assert parquet.read_table(tmp_path / path.name).equals(parquet.read_table(path))


def test_a_run_that_is_killed_at_a_shard_continues(saved, encoded, tmp_path):
    """SIGKILL before and after the second of four shards gets its name: none is half there, none is made twice."""
    flags = ("--rows_per_shard", "500", "--batch_size", "64")
    processes = {}
    for point in ("half", "whole"):
        command = [sys.executable, "tests/encode_and_die.py", point, "2", "--model", saved, "--output_dir"]
        command = [*map(str, command), str(tmp_path / point), "--cpu", "--num_threads", "1", *flags]
        processes[point] = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ENVIRONMENT})
    for point, shards in (("half", 1), ("whole", 2)):
        assert processes[point].wait(timeout=240) == -signal.SIGKILL
        folder = tmp_path / point
        made = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
        assert len(made) == shards
        with pytest.raises(TokenDatasetError, match="is not finished"):
            load_token_dataset(folder)
        assert run(saved, folder, *flags) == 0
        assert all(path.stat().st_mtime_ns == stamp for path, stamp in made.items())
        assert not (folder / ".encoding").exists()
        for path in sorted(encoded.glob("*.parquet")):
            assert parquet.read_table(folder / path.name).equals(parquet.read_table(path))


@pytest.mark.slow
def test_a_run_that_was_killed_anywhere_continues(saved, encoded, tmp_path):
    command = [sys.executable, "scripts/encode_dataset.py", "--model", saved, "--output_dir", tmp_path, "--cpu"]
    command += ["--rows_per_shard", "100", "--batch_size", "8"]
    environment = {**os.environ, **ENVIRONMENT}
    for _ in range(2):
        process = subprocess.Popen(list(map(str, command)), cwd=ROOT, env=environment)
        before = len(list(tmp_path.glob("*.parquet")))
        while len(list(tmp_path.glob("*.parquet"))) < before + 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list(tmp_path.glob("*.parquet"))) < 19
    assert run(saved, tmp_path, "--rows_per_shard", 100, "--batch_size", 8) == 0
    for split in ("train", "test"):
        assert (
            load_token_dataset(tmp_path, split=split).tokens == load_token_dataset(encoded, split=split).tokens
        ).all()


def test_tokens_of_another_model_are_refused_naming_both(encoded):
    other = make_model(seed=1)
    other.config._name_or_path = "org/other-vqvae"
    both = r"vqvae-digits\d* \(32 codes, grid 2x2, .* the model is org/other-vqvae \(32 codes"
    with pytest.raises(TokenDatasetError, match=both):
        load_token_dataset(encoded, expect=other)
    load_token_dataset(encoded, expect=make_model())  # the same weights under another name are the same model


def test_a_decoder_may_change_and_a_codebook_may_not(encoded, model):
    tuned = make_model()
    with torch.no_grad():
        next(tuned.decoder.parameters()).add_(1)
    load_token_dataset(encoded, expect=tuned)
    with torch.no_grad():
        tuned.quantize.embedding.weight[0].add_(1)
    with pytest.raises(TokenDatasetError, match="its codes mean other pictures"):
        load_token_dataset(encoded, expect=tuned)


def test_residual_codes_keep_their_depth(tmp_path):
    deep = make_model(quantizer="residual", num_quantizers=3, codebook_size=32)
    images = load_images("digits", to_uint8=processor().to_uint8).eval
    tokens = encode_in_memory(deep, images)
    pixels = images.batch([0, 5])["pixel_values"]
    assert torch.equal(tokens.__getitems__([0, 5])["image_tokens"], deep.get_image_tokens(pixels))
    assert tokens.grid_size == (2, 2, 3)


@pytest.mark.parametrize(
    "flags, says",
    [
        (("--rows_per_shard", 300), "encoded with another layout"),
        (("--rows_per_shard", 500, "--max_samples", 10), "encoded with another source"),
    ],
)
def test_other_knobs_in_a_finished_folder_are_refused(saved, encoded, capsys, flags, says):
    assert run(saved, encoded, *flags) == 2
    assert says in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_one_line_and_leaves_the_tokens(saved, encoded, tmp_path):
    folder = shutil.copytree(encoded, tmp_path / "digits")
    command = [sys.executable, "scripts/encode_dataset.py", "--model", saved, "--output_dir", folder, "--cpu"]
    command += ["--rows_per_shard", "500", "--push_to_hub", "--hub_dataset_id", "org/digits-tokens"]
    environment = {**os.environ, **ENVIRONMENT, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN": "hf_none"}
    environment.pop("HF_HUB_OFFLINE", None)  # nobody listens there
    done = subprocess.run([*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "encode_dataset.py: The connection to http://127.0.0.1:9 failed" in done.stderr.splitlines()[-1]
    assert len(load_token_dataset(folder)) == 1437


def test_a_part_of_the_tokens_is_what_a_prior_sees_and_says(saved, encoded, tmp_path):
    """--max_train_samples and --max_eval_samples; a held-out split named validation is found as that of pictures is."""
    folder = shutil.copytree(encoded, tmp_path / "digits")
    record = json.loads((folder / "image_tokenizer.json").read_text())
    record["splits"]["validation"] = record["splits"].pop("test")
    (folder / "image_tokenizer.json").write_text(json.dumps(record))
    flags = ["--image_tokenizer", saved, "--token_dataset", folder, "--output_dir", tmp_path / "prior", "--cpu"]
    flags += ["--max_train_samples", 64, "--max_eval_samples", 7, "--max_train_steps", 1, "--hidden_size", 16]
    assert train_prior.main([*map(str, flags), "--num_threads", "1", "--train_batch_size", "16"]) == 0
    record = json.loads((tmp_path / "prior" / "metrics.json").read_text())
    assert record["dataset"] == {"name": "digits", "train_images": 64, "eval_images": 7}
    assert record["metrics"]["images"] == 7


def test_where_tokens_have_one_split_those_of_the_pictures_that_training_holds_out_are_held_out(
    saved, model, tmp_path, capsys
):
    pictures, tokens = tmp_path / "mine", tmp_path / "tokens"
    pictures.mkdir()
    digits = load_images("digits", to_uint8=processor().to_uint8).train.batch(range(30))["pixel_values"]
    for number, picture in enumerate(processor().postprocess(digits)):
        picture.save(pictures / f"{number:02d}.png")
    assert run(saved, tokens, "--dataset_name", pictures) == 0
    knobs = {"train_split": "train", "eval_split": None, "max_train_samples": None, "max_eval_samples": None}
    said = []
    splits = read_token_splits(SimpleNamespace(token_dataset=str(tokens), **knobs), model, said.append)
    assert "3 of the 30 rows of 'train' are held out" in said[0]
    images = load_images(str(pictures), to_uint8=processor().to_uint8)
    for part, of_pictures in zip(splits, (images.train, images.eval), strict=True):
        expected = model.get_image_tokens(of_pictures.batch(range(len(of_pictures)))["pixel_values"])
        assert torch.equal(part.__getitems__(range(len(part)))["image_tokens"], expected)


def test_mistakes_are_one_line(saved, tmp_path, capsys):
    (tmp_path / "photo.txt").write_text("mine")
    for flags, says in (
        ((), "holds other files (photo.txt)"),
        (("--splits", "valid"), "No split 'valid' in digits; its splits: train, test."),
        (("--batch_size", 0), "--batch_size must be at least 1, got 0."),
        (("--num_workers", -1), "--num_workers must lie in 0..256, got -1"),
        (("--mixed_precision", "fp8"), "invalid choice: 'fp8'"),
        (("--streaming",), "is not streamed"),
        (("--modle", "x"), "Unknown argument '--modle'"),
    ):
        assert run(saved, tmp_path, *flags) == 2
        error = capsys.readouterr().err.strip()
        assert says.lower() in error.lower() and "\n" not in error
    assert encode_dataset.main(["--model", str(tmp_path / "nothing"), "--output_dir", str(tmp_path)]) == 2
    assert "holds no model that can be loaded" in capsys.readouterr().err
    assert (tmp_path / "photo.txt").read_text() == "mine"


def test_a_missing_shard_and_a_missing_record_are_named(encoded, tmp_path):
    with pytest.raises(TokenDatasetError, match="has no image_tokenizer.json"):
        load_token_dataset(tmp_path)
    with pytest.raises(TokenDatasetError, match="No split 'valid' in .*; its splits: train, test"):
        load_token_dataset(encoded, split="valid")
    for path in encoded.iterdir():
        if path.name != "train-00001-of-00003.parquet":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(TokenDatasetError, match="1 of 3 shards of .* are missing, such as train-00001-of-00003"):
        load_token_dataset(tmp_path)


def damaged(encoded, folder, change_record=None, change_tokens=None, renew=True):
    """A copy of the data set with another record, or other tokens in its first shard, whose hash is taken anew."""
    shutil.copytree(encoded, folder)
    record = {**json.loads((folder / "image_tokenizer.json").read_text()), **(change_record or {})}
    if change_tokens is not None:
        path = folder / record["splits"]["train"]["shards"][0]
        tokens = change_tokens(Dataset.from_parquet(str(path), cache_dir=str(folder / "cache")))
        tokens.to_parquet(path)
        if renew:
            record["splits"]["train"]["sha256"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "image_tokenizer.json").write_text(json.dumps(record))
    return folder


def other_lists(make, kind):
    """Replaces each row's tokens by `make(row)` of the type `List(Value(kind))`."""

    def change(table):
        features = table.features.copy()
        features["image_tokens"] = List(Value(kind))
        rows = [{**row, "image_tokens": make(n, row["image_tokens"])} for n, row in enumerate(table.to_list())]
        return Dataset.from_list(rows, features=features)

    return change


def test_damaged_tokens_are_one_line_where_a_prior_is_trained(saved, encoded, tmp_path, capsys):
    too_high = {"image_tokens": [32] * 4}
    out_of_range = damaged(encoded, tmp_path / "range", change_tokens=lambda t: t.map(lambda _: too_high))
    wrong_grid = damaged(encoded, tmp_path / "grid", change_record={"grid_size": [3, 2]})
    shorter = damaged(encoded, tmp_path / "shorter", change_tokens=lambda t: t.select(range(10)))
    unknown = damaged(encoded, tmp_path / "unknown", change_tokens=lambda t: t.select(range(10)), renew=False)
    ragged = damaged(
        encoded,
        tmp_path / "of equal total",
        change_tokens=other_lists(lambda n, row: row[:3] if n % 2 else [*row, 0], "uint16"),
    )
    floats = damaged(encoded, tmp_path / "float", change_tokens=other_lists(lambda n, row: row, "float32"))
    empty = damaged(encoded, tmp_path / "empty", change_tokens=other_lists(lambda n, row: [None, *row[1:]], "uint16"))
    below_0 = damaged(encoded, tmp_path / "below 0", change_tokens=other_lists(lambda n, row: [-1, *row[1:]], "int32"))
    make_model(seed=1).save_pretrained(tmp_path / "other-model")
    processor().save_pretrained(tmp_path / "other-model")
    capsys.readouterr()  # progress bars of datasets
    for image_model, tokens, says in (
        (saved, out_of_range, "train-00000-of-00003.parquet holds code 32, but"),
        (saved, wrong_grid, "(32 codes, grid 3x2"),
        (saved, shorter, "should hold 1437 rows in split 'train', found 947"),
        (saved, unknown, "train-00000-of-00003.parquet is not the file that `hf-autoencoders encode_dataset` wrote"),
        (saved, ragged, "holds rows of 5, 3 tokens; a 2x2 grid has 4"),
        (saved, floats, "not a list of whole numbers in each row"),
        (saved, empty, "holds 500 empty tokens"),
        (saved, below_0, "holds code -1, but"),
        (tmp_path / "other-model", encoded, "the model is other-model (32 codes, grid 2x2"),
    ):
        flags = ["--image_tokenizer", image_model, "--token_dataset", tokens, "--output_dir", tmp_path / "prior"]
        assert train_prior.main([*map(str, flags), "--cpu", "--num_threads", "1"]) == 2
        error = capsys.readouterr().err.strip()
        assert says in error and "\n" not in error, error
    assert not (tmp_path / "prior").exists()


def test_a_flipped_bit_and_a_shard_in_anothers_place_are_refused_by_name(encoded, tmp_path):
    flipped = shutil.copytree(encoded, tmp_path / "flipped") / "train-00001-of-00003.parquet"
    content = bytearray(flipped.read_bytes())
    content[len(content) // 3] ^= 1
    flipped.write_bytes(content)
    swapped = shutil.copytree(encoded, tmp_path / "swapped")
    one, two = (swapped / f"train-0000{n}-of-00003.parquet" for n in (0, 1))
    one.rename(swapped / "aside"), two.rename(one), (swapped / "aside").rename(two)
    for folder, name in ((tmp_path / "flipped", "train-00001"), (swapped, "train-00000")):
        with pytest.raises(TokenDatasetError, match=f"{name}-of-00003.parquet is not the file that `hf-autoencoders"):
            load_token_dataset(folder)
        assert len(load_token_dataset(folder, split="test")) == 360
    assert len(load_token_dataset(swapped, verify=False)) == 1437  # on purpose


def test_a_data_set_without_hashes_loads_with_one_line(encoded, tmp_path, caplog):
    record = json.loads((encoded / "image_tokenizer.json").read_text())
    for split in record["splits"].values():
        del split["sha256"]
    older = damaged(encoded, tmp_path / "older", change_record=record)
    assert (load_token_dataset(older).tokens == load_token_dataset(encoded).tokens).all()
    assert [line.message for line in caplog.records] == [
        f"{older} is of an older version and has no hashes: damage to its files may go unnoticed."
    ]


@pytest.mark.parametrize(
    "change, says",
    [
        ({"grid_size": "7x7"}, "is damaged: 32 codes on a grid '7x7'"),
        ({"codebook_size": None}, "is damaged: None codes"),
        ({"splits": {"train": {"rows": 3, "shards": ["../../etc/passwd"]}}}, "do not name their shards"),
        ({"splits": []}, "do not name their shards"),
        ({"splits": {"train": {"rows": 3, "shards": [], "sha256": 7}}}, "do not name their shards"),
        ({"splits": {"train": {"rows": 0, "shards": []}}}, "has no shards in split 'train'"),
        ({"revision": 7}, "'revision' is 7, no text"),
        ({"label_column": "animal"}, "No column 'animal'"),
    ],
)
def test_a_damaged_record_is_one_line(encoded, tmp_path, change, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        load_token_dataset(damaged(encoded, tmp_path / "record", change_record=change))
    (tmp_path / "record" / "image_tokenizer.json").write_text("[]")
    with pytest.raises(TokenDatasetError, match="is damaged: it does not say 'image_tokenizer'"):
        load_token_dataset(tmp_path / "record")


def test_what_random_damage_leaves_is_tokens_or_one_line(encoded, tmp_path):
    """No hash is compared: the files themselves are checked."""
    random, refused = Random(0), 0
    shard = shutil.copytree(encoded, tmp_path / "tokens") / "train-00000-of-00003.parquet"
    whole = shard.read_bytes()
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(random.randint(1, 4)):
            content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        shard.write_bytes(content[: random.choice([None, None, random.randrange(len(content))])])
        try:
            assert load_token_dataset(tmp_path / "tokens", verify=False).tokens.shape == (1437, 4)
        except TokenDatasetError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 50 < refused < 150


# -- pictures of other kinds -------------------------------------------------------------------------------------------


def write_pictures(folder, shift=0, names=("",), count=4):
    """PNG files of digits; below folders of these names, if any."""
    digits = read_tables("digits", None, False)["train"]
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for row in range(count):
            pixels = np.array(digits[shift + number * count + row]["image"], dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{row}.png")
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_pictures_without_labels_are_encoded(saved, model, tmp_path, streaming):
    pictures = write_pictures(tmp_path / "pictures")
    flags = ("--dataset_name", pictures, *(["--streaming"] if streaming else []))
    assert run(saved, tmp_path / "tokens", *flags, "--rows_per_shard", 3) == 0
    tokens = load_token_dataset(tmp_path / "tokens", expect=model)
    assert len(tokens) == 4 and tokens.labels is None and tokens.num_classes == 0
    images = load_images(str(pictures), to_uint8=processor().to_uint8, eval_split="train").eval
    assert torch.equal(
        tokens.__getitems__(range(4))["image_tokens"],
        encode_in_memory(model, images).__getitems__(range(4))["image_tokens"],
    )


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("rows_per_shard", [1, 3])  # 1: there are shards without any picture
def test_corrupt_pictures_are_left_out_and_named(saved, model, tmp_path, capsys, caplog, streaming, rows_per_shard):
    pictures = write_pictures(tmp_path / "pictures")
    flags = ("--rows_per_shard", rows_per_shard, *(["--streaming"] if streaming else []))
    assert run(saved, tmp_path / "whole", "--dataset_name", pictures, *flags) == 0
    whole = load_token_dataset(tmp_path / "whole").__getitems__(range(4))["image_tokens"]
    files = sorted(pictures.rglob("*.png"))
    for file in (files[0], files[2]):
        file.write_bytes(file.read_bytes()[:60])
    assert run(saved, tmp_path / "tokens", "--dataset_name", pictures, *flags) == 2
    said = capsys.readouterr().err
    assert "Cannot decode" in said and said.count("\n") == 1
    assert run(saved, tmp_path / "tokens", "--dataset_name", pictures, *flags, "--skip_corrupt") == 0  # goes on
    tokens = load_token_dataset(tmp_path / "tokens", expect=model)
    assert torch.equal(tokens.__getitems__(range(2))["image_tokens"], whole[[1, 3]]) and len(tokens) == 2
    assert sum("Left out: Cannot decode" in record.message for record in caplog.records) == 2
    out = capsys.readouterr().out
    assert "holds pictures of its training split out" in " ".join(out.split())  # there is no other split
    if not streaming:
        assert "2 corrupt pictures are left out" in out
        shards = [parquet.read_table(path) for path in sorted((tmp_path / "tokens").glob("*.parquet"))]
        assert [index for shard in shards for index in shard["index"].to_pylist()] == [1, 3]


def test_tokens_of_other_pictures_of_the_same_name_are_refused(saved, tmp_path, capsys):
    one, two = (write_pictures(tmp_path / place / "cats", shift) for place, shift in (("a", 0), ("b", 10)))
    copy = shutil.copytree(one, tmp_path / "c" / "cats")
    assert run(saved, tmp_path / "tokens", "--dataset_name", one) == 0
    assert run(saved, tmp_path / "tokens", "--dataset_name", copy) == 0
    assert "holds all tokens already" in capsys.readouterr().out
    assert run(saved, tmp_path / "tokens", "--dataset_name", two) == 2
    assert "encoded with another source (source.identity.train.pictures was '4-" in capsys.readouterr().err


def test_words_become_classes_with_names(saved, tmp_path):
    folder = tmp_path / "words"
    for split, words in (("train", ["eel", "cat", "eel"]), ("test", ["dog", "cat", None])):
        table = read_tables("digits", None, False)["train"].select(range(3)).remove_columns("label")
        table.add_column("animal", words).to_parquet(folder.joinpath(f"{split}-00000-of-00001.parquet"))
    assert run(saved, tmp_path / "tokens", "--dataset_name", folder, "--label_column", "animal") == 0
    for split, labels in (("train", [2, 0, 2]), ("test", [1, 0, -1])):
        tokens = load_token_dataset(tmp_path / "tokens", split=split)
        assert tokens.labels.tolist() == labels and tokens.names == ["cat", "dog", "eel"]
    record = json.loads((tmp_path / "tokens" / "image_tokenizer.json").read_text())
    assert record["class_names"]["train"] == ["cat", "dog", "eel"]


def test_integers_are_as_small_as_the_codebook_allows():
    assert [token_type(size) for size in (2, 2**16, 2**16 + 1, 2**32)] == ["uint16", "uint16", "uint32", "uint32"]
    with pytest.raises(TokenDatasetError, match="do not fit 32 bits"):
        token_type(2**32 + 1)
    with pytest.raises(TokenDatasetError, match=r"must be \(N, 4\), got \(3, 5\)"):
        TokenDataset(np.zeros((3, 5), dtype=np.uint16), (2, 2))
