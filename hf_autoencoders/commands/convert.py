# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Turn published weights into a model folder of ours:

    python scripts/convert.py taming-vqgan last.ckpt --image_size 256 --output_dir vqgan-f16
    python scripts/convert.py llamagen-vq vq_ds16_c2i.pt --output_dir llamagen-f16
    python scripts/convert.py openai-dvae encoder=encoder.safetensors decoder=decoder.safetensors --output_dir dalle

A file may be given as NAME=FILE: its weights then carry the prefix `NAME.`, for nets that are published in parts.
"""

import argparse

from huggingface_hub.errors import StrictDataclassError

from ..hub.converters import SOURCES, convert
from ..hub.weight_files import read_weights
from ..models.image_processing_autoencoder import AutoencoderImageProcessorPil


def parse_args(argv: list[str] | None = None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=SOURCES, help="whose weights they are")
    parser.add_argument("files", nargs="+", metavar="[NAME=]FILE", help="safetensors, or torch files of a state dict")
    parser.add_argument("--output_dir", required=True, help="folder for model and image processor")
    parser.add_argument(
        "--image_size", type=int, nargs="+", metavar="PIXELS",
        help="side, or height and width, of the pictures that the weights were trained on",
    )  # fmt: skip
    return parser, parser.parse_args(argv)


def read_files(files: list[str]) -> dict:
    """One state dict from several [NAME=]FILE. Raises ValueError if two files hold the same name."""
    weights = {}
    for file in files:
        prefix, separator, path = file.rpartition("=")
        part = {f"{prefix}.{name}" if separator else name: w for name, w in read_weights(path).items()}
        if weights.keys() & part.keys():
            raise ValueError(
                f"{sorted(weights.keys() & part.keys())[:3]} come from two files; name the parts: NAME=FILE."
            )
        weights |= part
    return weights


def main(argv: list[str] | None = None) -> None:
    parser, args = parse_args(argv)
    size = args.image_size
    image_size = size and (size[0] if len(size) == 1 else tuple(size))
    try:
        model = convert(args.kind, read_files(args.files), image_size)
    except (ValueError, OSError, StrictDataclassError) as error:
        parser.error(str(error))
    model.save_pretrained(args.output_dir)
    config = model.config
    size = {"height": config.height, "width": config.width}
    AutoencoderImageProcessorPil(size=size, num_channels=config.num_channels).save_pretrained(args.output_dir)
    number = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{args.output_dir}: {type(model).__name__}, {number:,} weights, {config.codebook_size} codes, "
        f"{config.grid_size[0]}x{config.grid_size[1]} tokens for a picture of {config.height}x{config.width}."
    )


if __name__ == "__main__":
    main()
