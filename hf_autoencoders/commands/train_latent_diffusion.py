# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train latent diffusion, and leave a diffusers pipeline:

    accelerate launch -m hf_autoencoders.commands.train_latent_diffusion --recipe latent-diffusion-digits \
        --image_model runs/vae-digits-4x4

Any knob of the recipe is a flag, too, and overrides it. All knobs: hf-autoencoders train_latent_diffusion --help
The pipeline, OUTPUT_DIR/pipeline, opens with diffusers alone: DiffusionPipeline.from_pretrained.
"""

import sys
from functools import partial
from pathlib import Path

from diffusers import DiffusionPipeline

import hf_autoencoders.models  # noqa: F401  (registers the models with the Auto classes)

from ..hub.diffusers_export import to_diffusers
from ..hub.pipelines import PipelinePublisher, save_card, save_pipeline
from ..priors.diffusion_knobs import parse_diffusion_arguments
from ..priors.diffusion_start import PIPELINE
from ..priors.diffusion_task import DiffusionTask
from .carry_out import Trainer, carry_out


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `carry_out`."""
    return carry_out(TRAINER, argv)


def open_pipeline(folder: str) -> DiffusionPipeline:
    return DiffusionPipeline.from_pretrained(Path(folder) / PIPELINE)


TRAINER = Trainer(
    "train_latent_diffusion",
    parse_diffusion_arguments,
    partial(DiffusionTask, accept=to_diffusers, save_pipeline=save_pipeline, save_card=save_card),
    PipelinePublisher,
    open_pipeline,
)


if __name__ == "__main__":
    sys.exit(main())
