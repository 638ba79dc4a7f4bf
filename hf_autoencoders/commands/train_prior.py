# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train a prior over image tokens:

    accelerate launch scripts/train_prior.py --recipe scripts/recipes/prior-digits.yaml --image_tokenizer runs/vqvae

Any knob of the recipe is a flag, too, and overrides it (--knob null takes it out); all of them: --help
"""

import os
import sys
from pathlib import Path


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin slow others down; read with torch

import hf_autoencoders  # noqa: F401  (registers the models with the Auto classes)

from ..hub.publish import publish_files
from ..priors.prior_knobs import parse_prior_arguments
from ..priors.prior_task import CARD, IMAGE_TOKEN_LM, PriorTask, names_of_repositories
from ..priors.sheets import SAMPLES_PICTURE
from ..training.engine import Run
from .carry_out import Publisher, carry_out


SCRIPT = Path(__file__).name


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `carry_out`."""
    return carry_out(SCRIPT, lambda: parse_prior_arguments(argv), PriorTask, PriorPublisher)


class PriorPublisher(Publisher):
    """The prior with sequencer, card and samples in one commit; prior and image model in one in another repository,
    since a repository holds one model."""

    def at_end(self, run: Run) -> None:
        if not self.hub.push_to_hub or not run.accelerator.is_main_process:
            return
        folder, names = Path(self.arguments.run.output_dir), names_of_repositories(self.arguments)
        self.upload(names[0], folder, ["*.json", "*.safetensors", CARD, SAMPLES_PICTURE, "arguments.yaml"])
        if run.task.has_image_token_lm():
            self.upload(names[1], folder / IMAGE_TOKEN_LM, ["*"])

    def upload(self, name: str, folder: Path, patterns: list[str]) -> None:
        url = publish_files(folder, name, patterns, "Publish the prior", private=self.hub.hub_private)
        print(f"published {url}")


if __name__ == "__main__":
    sys.exit(main())
