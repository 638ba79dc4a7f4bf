# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train a prior over image tokens:

    accelerate launch scripts/train_prior.py --recipe scripts/recipes/prior-digits.yaml --image_tokenizer runs/vqvae

Any knob of the recipe is a flag, too, and overrides it (--knob null takes it out); all of them: --help
"""

import os
import sys
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin slow others down; read with torch

from huggingface_hub.errors import StrictDataclassError
from transformers.utils.logging import disable_progress_bar

import hf_autoencoders  # noqa: F401  (registers the models with the Auto classes)

from ..hub.publish import PublishError, publish_files
from ..priors.training import (
    CARD,
    IMAGE_TOKEN_LM,
    SAMPLES,
    PriorRun,
    build_prior_run,
    has_image_token_lm,
    names_of_repositories,
    parse_prior_arguments,
    save_prior,
)
from ..training.engine import train
from ..training.launch import complain
from ..training.logs import TrainingDiverged, on_screen


SCRIPT = Path(__file__).name


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 trained, or stopped by a signal with a checkpoint; 1 the loss diverged; 2 a wrong knob."""
    disable_progress_bar()  # of loading and saving, which take no time here
    try:
        run = build_prior_run(parse_prior_arguments(argv))
        return carry_out(run)
    except (ValueError, StrictDataclassError, PublishError) as error:
        return complain(SCRIPT, error)
    except TrainingDiverged as error:
        return complain(SCRIPT, error, code=1, everywhere=False)


def carry_out(run: PriorRun) -> int:
    if train(run):
        record = save_prior(run)
        if run.accelerator.is_main_process:
            print(f"held out: {on_screen(record['metrics'])}")
            folder = Path(run.arguments.run.output_dir)
            print(f"trained {run.step} steps in {run.seconds:.0f} s: {folder}")
            if has_image_token_lm(run):
                print(f"prior and image model in one: {folder / IMAGE_TOKEN_LM}")
            publish(run)
    run.accelerator.wait_for_everyone()  # ending without a barrier aborted 3 of 24 short runs
    run.accelerator.end_training()
    return 0


def publish(run: PriorRun) -> None:
    """--push_to_hub: the prior with sequencer, card and samples in one commit; prior and image model in one in another
    repository, since a repository holds one model."""
    if not run.arguments.hub.push_to_hub:
        return
    folder, names = Path(run.arguments.run.output_dir), names_of_repositories(run)
    upload(run, names[0], folder, ["*.json", "*.safetensors", CARD, SAMPLES, "arguments.yaml"])
    if has_image_token_lm(run):
        upload(run, names[1], folder / IMAGE_TOKEN_LM, ["*"])


def upload(run: PriorRun, name: str, folder: Path, patterns: list[str]) -> None:
    url = publish_files(folder, name, patterns, "Publish the prior", private=run.arguments.hub.hub_private)
    print(f"published {url}")


if __name__ == "__main__":
    sys.exit(main())
