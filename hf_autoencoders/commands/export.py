# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Save a model in the format of another tool, or for a program without Python:

    hf-autoencoders export runs/vae-mnist-32 --to diffusers autoencoder-kl
    hf-autoencoders export runs/vqgan --to taming vqgan-taming
    hf-autoencoders export flux-vae --to ldm ae.safetensors
    hf-autoencoders export runs/vqvae-mnist --to onnx vqvae-onnx

RUN is the folder of a run or a model on the Hub. What a format cannot hold exactly is refused, with the reason.
"""

import argparse
import sys

from ..hub.exporters import EXPORTS, export
from ..hub.parents import load_for_training
from .boundary import OneLineParser, no_progress_bars, run_command


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`; a format that cannot hold the model counts as a mistake."""
    return run_command("export", lambda: parse_arguments(argv), run)


@no_progress_bars()
def run(arguments: argparse.Namespace) -> None:
    model = load_for_training(arguments.run, arguments.revision, dtype=None)
    notes = export(model, arguments.to, arguments.out)
    print(f"{arguments.out}: {type(model).__name__} of {arguments.run} for {arguments.to}.")
    for note in notes:
        print(note)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("export", __doc__)
    parser.add_argument("run", metavar="RUN", help="folder of a run or of a converted model, or a Hub id")
    parser.add_argument("--to", required=True, choices=EXPORTS, help="format of the files")
    parser.add_argument("out", metavar="OUT", help="folder; for taming, ldm and llamagen also a file *.safetensors")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub id")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
