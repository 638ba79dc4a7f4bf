# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train an autoencoder:  accelerate launch -m hf_autoencoders.commands.train --recipe vqvae-mnist

Any knob of the recipe is a flag, too, and overrides it: --learning_rate 3e-4 --dataset_name ./my_images. All knobs:
hf-autoencoders train --model_type vae --help
"""

import sys
from pathlib import Path

import hf_autoencoders.models  # noqa: F401  (registers the four models with the Auto classes)

from ..hub.parents import load_for_training
from ..hub.publish import fetch_checkpoint
from ..hub.publishers import RunPublisher
from ..training.arguments import Arguments
from ..training.autoencoder_task import AutoencoderTask
from ..training.knobs import parse_arguments
from .carry_out import Trainer, carry_out


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `carry_out`."""
    return carry_out(TRAINER, argv)


def make_task(arguments: Arguments) -> AutoencoderTask:
    continue_from_hub(arguments)
    return AutoencoderTask(arguments, load_for_training)


def continue_from_hub(arguments: Arguments):
    """--resume org/name: the checkpoint that --hub_strategy checkpoint left there."""
    wanted = arguments.run.resume
    if wanted and wanted != "latest" and not Path(wanted).exists() and wanted.count("/") == 1:
        arguments.run.resume = str(fetch_checkpoint(wanted))


TRAINER = Trainer("train", parse_arguments, make_task, RunPublisher)


if __name__ == "__main__":
    sys.exit(main())
