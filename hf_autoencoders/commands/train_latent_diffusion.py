# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train latent diffusion, and leave a diffusers pipeline:

    accelerate launch scripts/train_latent_diffusion.py --recipe scripts/recipes/latent-diffusion-digits.yaml \
        --image_model runs/vae-digits-4x4

Any knob of the recipe is a flag, too, and overrides it. All knobs: python scripts/train_latent_diffusion.py --help
The pipeline, OUTPUT_DIR/pipeline, opens with diffusers alone: DiffusionPipeline.from_pretrained.
"""

import os
import sys
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin slow others down; read with torch

from huggingface_hub.errors import StrictDataclassError
from transformers.utils.logging import disable_progress_bar

import hf_autoencoders  # noqa: F401  (registers the models with the Auto classes)

from ..hub.diffusers_export import to_diffusers
from ..hub.pipelines import save_pipeline
from ..hub.publish import PublishError, publish_files
from ..priors.diffusion_training import (
    DiffusionRun,
    build_diffusion_run,
    parse_diffusion_arguments,
    save_figures,
)
from ..training.engine import train
from ..training.launch import complain
from ..training.logs import TrainingDiverged, on_screen


SCRIPT = Path(__file__).name


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 trained, or stopped by a signal with a checkpoint; 1 the loss diverged; 2 a wrong knob."""
    disable_progress_bar()  # of loading and saving, which take no time here
    try:
        run = build_diffusion_run(parse_diffusion_arguments(argv), accept=to_diffusers)
        return carry_out(run)
    except (ValueError, StrictDataclassError, PublishError) as error:
        return complain(SCRIPT, error)
    except TrainingDiverged as error:
        return complain(SCRIPT, error, code=1, everywhere=False)


def carry_out(run: DiffusionRun) -> int:
    if train(run):
        record = save_figures(run)
        pipeline = save_pipeline(run, record)
        if run.accelerator.is_main_process:
            print(f"held out: {on_screen(record['metrics'])}")
            print(f"trained {run.step} steps in {run.seconds:.0f} s: {pipeline}")
            publish(run, pipeline)
    run.accelerator.wait_for_everyone()  # ending without a barrier aborted 3 of 24 short runs
    run.accelerator.end_training()
    return 0


def publish(run: DiffusionRun, pipeline: Path) -> None:
    """--push_to_hub: the pipeline with its card in one commit."""
    hub = run.arguments.hub
    if not hub.push_to_hub:
        return
    name = hub.hub_model_id or pipeline.resolve().parent.name
    print(f"published {publish_files(pipeline, name, ['**/*'], 'Publish the pipeline', private=hub.hub_private)}")


if __name__ == "__main__":
    sys.exit(main())
