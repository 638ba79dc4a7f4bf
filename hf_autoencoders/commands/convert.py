# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Turn published weights into a model folder of ours:

    hf-autoencoders convert last.ckpt --config model.yaml --output_dir vqgan-f16
    hf-autoencoders convert encoder.pkl decoder.pkl --output_dir dalle
    hf-autoencoders convert flux-vae ae.safetensors --output_dir flux-vae --verify

SOURCE says whose weights they are; without it, they are recognised by their names, and the source is printed. FILE is a
safetensors file, a file of torch.save (no code in it is run), or the folder of a saved model. NAME=FILE puts the prefix
`NAME.` before the names of the weights, for nets that are published in parts.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..hub.converted_folder import facts_of_model, write_converted
from ..hub.converters import SOURCES, build, conversion_of, left_in_words
from ..hub.source import Conversion
from ..hub.source_openai import named_parts
from ..hub.torch_files import Weights
from ..hub.verification import Comparison, verify
from ..hub.weight_files import read_checkpoint, read_settings
from ..training.saved_models import check_finite
from .boundary import OneLineParser, no_progress_bars, run_command


def parse_args(argv: list[str] | None = None) -> tuple[str | None, argparse.Namespace]:
    """(the source that was named, everything else)"""
    parser = OneLineParser("convert", __doc__)
    parser.add_argument(
        "files", nargs="+", metavar="[SOURCE] [NAME=]FILE",
        help=f"whose weights they are (default: recognised; {', '.join(SOURCES)}); then files, or a folder",
    )  # fmt: skip
    parser.add_argument("--output_dir", required=True, help="folder for model, image processor and card")
    parser.add_argument(
        "--image_size", type=int, nargs="+", metavar="PIXELS",
        help="side, or height and width, of the pictures (default: what the files say, or the published size)",
    )  # fmt: skip
    parser.add_argument("--config", metavar="YAML", help="the authors' configuration beside the weights")
    parser.add_argument(
        "--verify", nargs="?", const="", metavar="FIXTURE",
        help="compare with the authors' package, or with stored outputs of their code (of FIXTURE, if given)",
    )  # fmt: skip
    args = parser.parse_args(argv)
    kind = args.files.pop(0) if args.files[0] in SOURCES else None
    if not args.files:
        parser.error(f"which file holds the weights of {kind}?")
    return kind, args


def read_files(files: list[str]) -> tuple[Weights, dict[str, Any], str]:
    """Returns (one state dict of all [NAME=]FILE, the settings of the net in them, where in the files the weights are).

    Raises:
        ValueError: a file cannot be read, or two hold the same name.
    """
    weights, settings, places = {}, {}, []
    for file in files:
        prefix, separator, path = file.rpartition("=")
        checkpoint = read_checkpoint(path)
        part = {f"{prefix}.{name}": w for name, w in checkpoint.weights.items()} if separator else checkpoint.weights
        part = named_parts(part)
        if weights.keys() & part.keys():
            raise ValueError(
                f"{sorted(weights.keys() & part.keys())[:3]} come from two files; name the parts: NAME=FILE."
            )
        weights |= part
        settings |= checkpoint.settings
        places.append(checkpoint.source)
    return weights, settings, "; ".join(places)


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`."""
    return run_command("convert", lambda: parse_args(argv), lambda read: run(*read))


@no_progress_bars()
def run(kind: str | None, args: argparse.Namespace) -> None:
    size = args.image_size
    if size is not None and (len(size) > 2 or min(size) < 1):
        raise ValueError(f"--image_size takes a side, or height and width, in pixels, got {size}.")
    image_size = size and (size[0] if len(size) == 1 else tuple(size))
    weights, settings, place = read_files(args.files)
    if args.config:
        settings |= read_settings(args.config)
    source, conversion = conversion_of(kind, weights, image_size, settings)
    model = build(conversion)
    check_finite(model, place)
    compared = None
    if args.verify is not None:
        dtype = model.dtype
        compared = verify(source, model, weights, settings, args.verify or None)
        model.to(dtype)
    files = [Path(file.rpartition("=")[2]) for file in args.files]
    write_converted(args.output_dir, model, source, conversion, place, files, compared and str(compared))
    print(f"{source.name}{'' if kind else ' (recognised by the names of the weights)'}: {source.origin.title}, {place}")
    report(args.output_dir, conversion, model, compared)


def report(folder: str, conversion: Conversion, model: PreTrainedModel, compared: Comparison | None) -> None:
    if model.dtype != torch.float32:
        print(f"The weights are {str(model.dtype).removeprefix('torch.')}, and stay so.")
    for note in conversion.notes:
        print(note)
    if conversion.left_behind:
        print(f"Left behind: {left_in_words(conversion.left_behind)}.")
    if compared is not None:
        print(f"Largest differences {compared}")
    print(f"{folder}: {facts_of_model(model)}")


if __name__ == "__main__":
    sys.exit(main())
