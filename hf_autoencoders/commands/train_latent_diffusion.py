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
from ..hub.pipelines import save_card, save_pipeline
from ..hub.publish import publish_files
from ..priors.diffusion_knobs import parse_diffusion_arguments
from ..priors.diffusion_task import PIPELINE, DiffusionTask
from ..training.engine import Run
from .carry_out import Publisher, carry_out


SCRIPT = Path(__file__).name


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `carry_out`."""
    task = partial(DiffusionTask, accept=to_diffusers, save_pipeline=save_pipeline, save_card=save_card)
    return carry_out(SCRIPT, lambda: parse_diffusion_arguments(argv), task, PipelinePublisher)


class PipelinePublisher(Publisher):
    """The pipeline with its card in one commit."""

    def at_end(self, run: Run) -> None:
        if not self.hub.push_to_hub or not run.accelerator.is_main_process:
            return
        folder = Path(self.arguments.run.output_dir)
        name, private = self.hub.hub_model_id or folder.resolve().name, self.hub.hub_private
        print(f"published {publish_files(folder / PIPELINE, name, ['**/*'], 'Publish the pipeline', private=private)}")


if __name__ == "__main__":
    sys.exit(main())
