# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train latent diffusion, and leave a diffusers pipeline:

    accelerate launch scripts/train_latent_diffusion.py --recipe scripts/recipes/latent-diffusion-digits.yaml \
        --image_model runs/vae-digits-4x4

Any knob of the recipe is a flag, too, and overrides it. All knobs: python scripts/train_latent_diffusion.py --help
The pipeline, OUTPUT_DIR/pipeline, opens with diffusers alone: DiffusionPipeline.from_pretrained.
"""

import os
import sys
from functools import partial
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin slow others down; read with torch

import hf_autoencoders  # noqa: F401  (registers the models with the Auto classes)

from ..hub.diffusers_export import to_diffusers
from ..hub.pipelines import PipelinePublisher, save_card, save_pipeline
from ..priors.diffusion_knobs import parse_diffusion_arguments
from ..priors.diffusion_task import DiffusionTask
from .carry_out import carry_out


SCRIPT = Path(__file__).name


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `carry_out`."""
    task = partial(DiffusionTask, accept=to_diffusers, save_pipeline=save_pipeline, save_card=save_card)
    return carry_out(SCRIPT, lambda: parse_diffusion_arguments(argv), task, PipelinePublisher)


if __name__ == "__main__":
    sys.exit(main())
