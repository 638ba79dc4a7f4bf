# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train a prior over image tokens:

    accelerate launch -m hf_autoencoders.commands.train_prior --recipe prior-digits --image_tokenizer runs/vqvae

Any knob of the recipe is a flag, too, and overrides it (--knob null takes it out); all of them: --help
"""

import sys

import hf_autoencoders.models  # noqa: F401  (registers the models with the Auto classes)

from ..hub.prior_publisher import PriorPublisher
from ..priors.autoregressive import load_prior
from ..priors.prior_knobs import parse_prior_arguments
from ..priors.prior_task import PriorTask
from .carry_out import Trainer, carry_out


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `carry_out`."""
    return carry_out(TRAINER, argv)


TRAINER = Trainer("train_prior", parse_prior_arguments, PriorTask, PriorPublisher, load_prior)


if __name__ == "__main__":
    sys.exit(main())
