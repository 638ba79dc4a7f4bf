# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train an autoencoder:  accelerate launch scripts/train.py --recipe scripts/recipes/vqvae-mnist.yaml

Any knob of the recipe is a flag, too, and overrides it: --learning_rate 3e-4 --dataset_name ./my_images. All knobs:
python scripts/train.py --model_type vae --help
"""

import os
import sys
from pathlib import Path


# Idle OpenMP threads spin while they wait. Where other programs want the cores, that made a step 8 times as slow
# (320 ms, now 40 ms, two threads on two busy cores). Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hf_autoencoders  # noqa: F401  (registers the four models with the Auto classes)

from ..hub.publish import fetch_checkpoint, push_checkpoint, push_run
from ..training.arguments import Arguments
from ..training.autoencoder_task import AutoencoderTask
from ..training.engine import Run
from ..training.knobs import parse_arguments
from ..training.results import save_results
from .carry_out import Publisher, carry_out


SCRIPT = Path(__file__).name


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `carry_out`."""
    return carry_out(SCRIPT, lambda: parse_arguments(argv), make_task, RunPublisher)


def make_task(arguments: Arguments) -> AutoencoderTask:
    continue_from_hub(arguments)
    return AutoencoderTask(arguments)


def continue_from_hub(arguments: Arguments):
    """--resume org/name: the checkpoint that --hub_strategy checkpoint left there."""
    wanted = arguments.run.resume
    if wanted and wanted != "latest" and not Path(wanted).exists() and wanted.count("/") == 1:
        arguments.run.resume = str(fetch_checkpoint(wanted))


class RunPublisher(Publisher):
    """The run with its card: at the end, or at each checkpoint in the background, by --hub_strategy."""

    def __init__(self, arguments: Arguments):
        super().__init__(arguments)
        self.uploads = []

    @property
    def repo_id(self) -> str:
        return self.hub.hub_model_id or Path(self.arguments.run.output_dir).resolve().name

    def after_checkpoint(self, run: Run, checkpoint: Path) -> None:
        if not self.hub.push_to_hub or self.hub.hub_strategy == "end":
            return
        save_results(run)
        if run.accelerator.is_main_process:
            self.uploads.append(self._push(f"Step {run.step}", blocking=False))
            if self.hub.hub_strategy == "checkpoint":
                model_type, private = self.arguments.model_type, self.hub.hub_private
                upload = push_checkpoint(
                    checkpoint, self.repo_id, private=private, model_type=model_type, blocking=False
                )
                self.uploads.append(upload)

    def at_end(self, run: Run) -> None:
        if self.hub.push_to_hub and run.accelerator.is_main_process:
            published = self._push("End of training", blocking=True)
            for upload in self.uploads:
                upload.result()
            print(f"published {published.url}")

    def _push(self, message: str, blocking: bool):
        folder, private = self.arguments.run.output_dir, self.hub.hub_private
        return push_run(folder, self.repo_id, private=private, blocking=blocking, commit_message=message)


if __name__ == "__main__":
    sys.exit(main())
