# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Encode images as a data set of tokens:

    accelerate launch -m hf_autoencoders.commands.encode_dataset --model runs/vqvae-mnist \\
        --dataset_name ylecun/mnist --output_dir tokens

A killed run continues with the same command; shards that are there are not made again.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from tqdm.auto import tqdm

import hf_autoencoders.models  # registers the models with the Auto classes

from ..hub.publish import publish_files
from ..priors.token_encoding import (
    ShardWriter,
    finish_token_folder,
    identity_of,
    open_token_folder,
    tokens_changed,
    with_numbered_words,
)
from ..priors.token_records import TokenDatasetError, describe_image_tokenizer, public_name
from ..training.arguments import knob
from ..training.data import DecodedImages
from ..training.image_columns import find_image_column, find_label_column
from ..training.image_rows import Rows
from ..training.image_sources import EVAL_SPLITS, read_tables, usual_held_out_split
from ..training.knobs import Parser
from ..training.launch import check_launch, set_threads
from ..training.saved_models import load_model, load_processor
from .boundary import no_progress_bars, run_command


MOST_WORKERS = 256
COMPARED = 1000  # images on which --mixed_precision is compared


@dataclass
class EncodeArguments:
    """What to encode, with what, and where to."""

    model: str = knob(None, "folder or Hub id of a model with image tokens")
    output_dir: str = knob(None, "folder of the token data set")
    revision: str | None = knob(None, "commit, branch or tag of a model on the Hub")
    dataset_name: str = knob("digits", "'digits' (embedded), a Hub id, or a folder of parquet files or images")
    dataset_config: str | None = knob(None, "configuration of a Hub data set that has several")
    splits: list[str] = knob(
        [],
        "splits to encode, whole (default: all); also the pictures that hf-autoencoders train held out of its split, "
        "for want of a split to evaluate on",
    )
    image_column: str | None = knob(None, "column of the images (default: the only one of type Image)")
    label_column: str | None = knob(None, "column of the classes, numbers or words (default: found by its type)")
    max_samples: int | None = knob(None, "encode only the first so many images of each split")
    skip_corrupt: bool = knob(False, "leave out and count pictures that cannot be decoded (default: stop at the first)")
    streaming: bool = knob(False, "read images as they arrive, without downloading them first")
    rows_per_shard: int = knob(10_000, "images in one file; a killed run continues with the first missing file")
    batch_size: int = knob(256, "images that one process encodes together")
    num_workers: int = knob(2, "threads that decode and resize images ahead, beside each encoding process; 0: none")
    mixed_precision: Literal["no", "bf16"] = knob(
        "no", "bf16: faster on most GPUs, says how many tokens it changes on the first 1,000 images"
    )
    cpu: bool = knob(False, "encode on the CPU even where there is a GPU")
    num_threads: int | None = knob(None, "CPU threads of each process (default: cores / processes of this machine)")
    expected_processes: int | None = knob(None, "stop unless exactly this many processes work together")
    overwrite: bool = knob(False, "replace other tokens in the output folder")
    push_to_hub: bool = knob(False, "publish the data set")
    hub_dataset_id: str | None = knob(None, "repository, 'name' or 'organisation/name' (default: the folder's name)")
    hub_private: bool = knob(False, "create the repository as a private one")


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`."""
    return run_command("encode_dataset", lambda: read(argv), encode_splits)


def read(argv: list[str] | None) -> EncodeArguments:
    parser = Parser(EncodeArguments, command="encode_dataset", description="Encode images as tokens.")
    arguments, unknown = parser.parse_args_into_dataclasses(argv, return_remaining_strings=True)
    if unknown:
        raise ValueError(f"Unknown argument {unknown[0]!r}; --help lists all.")
    check_encoding(arguments)
    return arguments


def check_encoding(arguments: EncodeArguments) -> None:
    for name in ("model", "output_dir"):
        if getattr(arguments, name) is None:
            raise ValueError(f"--{name} is needed.")
    for name in ("rows_per_shard", "batch_size", "max_samples", "num_threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}.")
    if not 0 <= arguments.num_workers <= MOST_WORKERS:
        raise ValueError(f"--num_workers must lie in 0..{MOST_WORKERS}, got {arguments.num_workers}.")


@no_progress_bars(of_datasets=True)
def encode_splits(arguments: EncodeArguments) -> None:
    accelerator = Accelerator(cpu=arguments.cpu)
    check_launch(accelerator, arguments.expected_processes, exact_resume=False)
    set_threads(accelerator, arguments.num_threads)
    folder = Path(arguments.output_dir)
    with accelerator.main_process_first():
        model, processor = load(arguments)
        tables = read_splits(arguments)
    model.to(accelerator.device)
    if open_on_main_process(arguments, accelerator, folder, model, processor, tables):
        say(accelerator, f"{folder} holds all tokens already.")
    else:
        write_shards(arguments, accelerator, model, processor, tables, folder)
    if arguments.push_to_hub and accelerator.is_main_process:
        publish(arguments, folder)
    accelerator.wait_for_everyone()


def load(arguments: EncodeArguments):
    """The image model and its processor."""
    model, processor = (read(arguments.model, arguments.revision or "main") for read in (load_model, load_processor))
    if not hasattr(model, "get_image_tokens"):
        raise ValueError(f"--model {arguments.model} is a {model.config.model_type}, which has no image tokens.")
    return model, processor


def read_splits(arguments: EncodeArguments) -> dict:
    """The wanted splits, `datasets.Dataset` or `IterableDataset` each."""
    tables = read_tables(arguments.dataset_name, arguments.dataset_config, arguments.streaming)
    wanted = arguments.splits or list(tables)
    missing = [split for split in wanted if split not in tables]
    if missing:
        raise ValueError(f"No split {missing[0]!r} in {arguments.dataset_name}; its splits: {', '.join(tables)}.")
    tables = {split: tables[split] for split in wanted}
    if arguments.max_samples is not None:
        tables = {split: first(table, arguments.max_samples) for split, table in tables.items()}
    return with_classes(arguments, tables)


def first(table, count: int):
    """The first `count` rows, or all rows if there are fewer."""
    return table.take(count) if not hasattr(table, "__len__") else table.select(range(min(count, len(table))))


def with_classes(arguments: EncodeArguments, tables: dict) -> dict:
    """Words in --label_column become classes, so that a prior can draw pictures of them."""
    kinds = {split: features_of(table).get(arguments.label_column) for split, table in tables.items()}
    if arguments.label_column is None or not any(getattr(kind, "dtype", None) == "string" for kind in kinds.values()):
        return tables
    if arguments.streaming:
        raise ValueError(f"--label_column {arguments.label_column} holds words, which a stream cannot number.")
    return with_numbered_words(tables, arguments.label_column)


def features_of(table):
    """Columns of a table with their types; if a stream does not know them, from its first row."""
    return table.features or table._resolve_features().features


def describe(arguments: EncodeArguments, model, processor, tables: dict, processes: int) -> dict:
    """The record of a data set that is not finished yet. A continued run must have the same."""
    source = {name: getattr(arguments, name) for name in ("dataset_config", "image_column", "max_samples", "splits")}
    layout = {"streaming": arguments.streaming, "rows_per_shard": arguments.rows_per_shard}
    if arguments.streaming:
        layout["processes"] = processes  # each has its own share of the stream
    names = {split: class_names(arguments, table) for split, table in tables.items()}
    return {
        **describe_image_tokenizer(model, processor, arguments.revision),
        "source": {
            "dataset_name": public_name(arguments.dataset_name),
            **source,
            "identity": {split: identify(arguments, table, split) for split, table in tables.items()},
        },
        "layout": layout,
        "mixed_precision": arguments.mixed_precision,
        "label_column": find_label_column(features_of(next(iter(tables.values()))), arguments.label_column),
        "class_names": {split: known for split, known in names.items() if known},
        "hf_autoencoders": hf_autoencoders.__version__,
    }


def identify(arguments: EncodeArguments, table, split: str) -> dict:
    features = features_of(table)
    labels = find_label_column(features, arguments.label_column)
    return identity_of(table, split, find_image_column(features, arguments.image_column), labels, arguments.streaming)


def class_names(arguments: EncodeArguments, table) -> list[str] | None:
    features = features_of(table)
    return getattr(features.get(find_label_column(features, arguments.label_column)), "names", None)


def open_on_main_process(
    arguments: EncodeArguments, accelerator: Accelerator, folder: Path, model, processor, tables: dict
) -> bool:
    """Whether the folder holds all tokens already; the same answer, or the same error, on every process."""
    answer = [None, None]
    if accelerator.is_main_process:
        try:
            record = describe(arguments, model, processor, tables, accelerator.num_processes)
            answer[0] = open_token_folder(folder, record, arguments.overwrite)
        except ValueError as error:
            answer[1] = str(error)
    if accelerator.num_processes > 1:
        broadcast_object_list(answer)
    if answer[1]:
        raise TokenDatasetError(answer[1])
    return answer[0]


def write_shards(
    arguments: EncodeArguments, accelerator: Accelerator, model, processor, tables: dict, folder: Path
) -> None:
    started, images = time.perf_counter(), 0
    with tqdm(unit="img", disable=None if accelerator.is_main_process else True) as bar:

        def tell(count: int) -> None:
            nonlocal images
            images += count
            bar.update(count)

        writer = ShardWriter(
            model, processor.to_uint8, folder, arguments.rows_per_shard, arguments.batch_size, arguments.num_workers,
            accelerator.process_index, accelerator.num_processes, tell,
            autocast=torch.bfloat16 if arguments.mixed_precision == "bf16" else None,
            skip_corrupt=arguments.skip_corrupt,
        )  # fmt: skip
        if writer.autocast is not None and accelerator.is_main_process:
            say_what_changes(arguments, writer, tables)
        encode_split = writer.encode_stream if arguments.streaming else writer.encode_table
        shards = {}
        for split, table in tables.items():
            shards[split] = encode_split(table, split, find_image_column(features_of(table), arguments.image_column))
    every = gather_object([(shards, images)]) if accelerator.num_processes > 1 else [(shards, images)]
    seconds = time.perf_counter() - started
    if accelerator.is_main_process:
        names = {split: sorted({name for share, _ in every for name in share[split]}) for split in tables}
        record = finish_token_folder(folder, names)
        total = sum(count for _, count in every)
        say(accelerator, f"encoded {total} images in {seconds:.1f} s, {total / seconds:.0f} images/s")
        for split, metrics in record["splits"].items():
            used, size, rows = metrics["codes_used"], record["codebook_size"], metrics["rows"]
            print(f"  {split}: {rows} rows, {used} of {size} codes, perplexity {metrics['perplexity']:.1f}")
            if hasattr(tables[split], "__len__") and rows < len(tables[split]):
                print(f"  {split}: {len(tables[split]) - rows} corrupt pictures are left out")
        if not arguments.splits and usual_held_out_split(tables, train="train") is None:
            print(
                f"  There is no split to evaluate on ({', '.join(EVAL_SPLITS)}), so training holds pictures of its "
                "training split out for its metrics; their tokens are here, too."
            )


def say_what_changes(arguments: EncodeArguments, writer: ShardWriter, tables: dict) -> None:
    """How many tokens --mixed_precision changes on the first pictures of the first split."""
    split, table = next(iter(tables.items()))
    column = find_image_column(features_of(table), arguments.image_column)
    if arguments.streaming:
        table = Dataset.from_list(list(table.take(COMPARED)), features=table.features)
    images = DecodedImages(Rows(table, split, column, None), writer.to_uint8, skip_corrupt=arguments.skip_corrupt)
    changed, total = tokens_changed(writer, images, COMPARED)
    images = min(COMPARED, len(images))
    print(f"bf16 changes {changed:,} of {total:,} tokens ({changed / total:.2%}) of the first {images:,} images")


def publish(arguments: EncodeArguments, folder: Path) -> None:
    """The folder in one commit."""
    url = publish_files(
        folder, arguments.hub_dataset_id or folder.resolve().name, ["*.parquet", "*.json", "README.md"],
        "Publish the image tokens", private=arguments.hub_private, repo_type="dataset", replaced=["*.parquet"],
        mark="image_tokenizer.json",
    )  # fmt: skip
    print(f"published {url}")


def say(accelerator: Accelerator, text: str) -> None:
    if accelerator.is_main_process:
        print(text)


if __name__ == "__main__":
    sys.exit(main())
