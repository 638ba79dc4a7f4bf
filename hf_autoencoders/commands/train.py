# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Train an autoencoder:  accelerate launch scripts/train.py --recipe scripts/recipes/vqvae-mnist.yaml

Any knob of the recipe is a flag, too, and overrides it: --learning_rate 3e-4 --dataset_name ./my_images. All knobs:
python scripts/train.py --model_type vae --help
"""

import os
import sys
from functools import partial
from pathlib import Path


# Idle OpenMP threads spin while they wait. Where other programs want the cores, that made a step 8 times as slow
# (320 ms, now 40 ms, two threads on two busy cores). Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from huggingface_hub.errors import StrictDataclassError
from transformers.utils.logging import disable_progress_bar

import hf_autoencoders  # noqa: F401  (registers the four models with the Auto classes)

from ..hub.cards import RunError
from ..hub.publish import PublishError, fetch_checkpoint, push_checkpoint, push_run
from ..training.arguments import Arguments, parse_arguments
from ..training.engine import Run, train
from ..training.launch import complain
from ..training.logs import TrainingDiverged, on_screen
from ..training.results import save_results
from ..training.setup import build_run


SCRIPT = Path(__file__).name


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 trained, or stopped by a signal with a checkpoint; 1 the loss diverged; 2 a mistake in a knob."""
    try:
        arguments = parse_arguments(argv)
    except (ValueError, StrictDataclassError) as error:
        return complain(SCRIPT, error, everywhere=False)
    try:
        return run(arguments)
    except (ValueError, StrictDataclassError, RunError, PublishError) as error:
        return complain(SCRIPT, error)
    except TrainingDiverged as error:
        return complain(SCRIPT, error, code=1, everywhere=False)


def run(arguments: Arguments) -> int:
    disable_progress_bar()  # of saving, which takes no time here
    continue_from_hub(arguments)
    run = build_run(arguments)
    say = print if run.accelerator.is_main_process else lambda text: None
    publisher = Publisher(run)
    run.after_checkpoint = publisher.after_checkpoint
    if train(run):
        record = save_results(run)
        say(f"held out: {on_screen(record['metrics'])}")
        say(f"trained {run.step} steps in {run.seconds:.0f} s")
        say(f"model, metrics.json, reconstructions.png: {arguments.run.output_dir}")
        publisher.at_end()
    run.accelerator.wait_for_everyone()  # ending without a barrier aborted 3 of 24 short runs
    run.accelerator.end_training()
    return 0


def continue_from_hub(arguments: Arguments):
    """--resume org/name: the checkpoint that --hub_strategy checkpoint left there."""
    wanted = arguments.run.resume
    if wanted and wanted != "latest" and not Path(wanted).exists() and wanted.count("/") == 1:
        arguments.run.resume = str(fetch_checkpoint(wanted))


class Publisher:
    """Carries out --push_to_hub; uploads during training run in the background."""

    def __init__(self, run: Run):
        hub = run.arguments.hub
        self.run, self.strategy, self.active = run, hub.hub_strategy, hub.push_to_hub
        self.repo_id = hub.hub_model_id or Path(run.arguments.run.output_dir).resolve().name
        self.private = hub.hub_private
        self.uploads = []

    def after_checkpoint(self, checkpoint: Path):
        if not self.active or self.strategy == "end":
            return
        save_results(self.run)
        if self.run.accelerator.is_main_process:
            self._push(f"Step {self.run.step}", blocking=False)
            if self.strategy == "checkpoint":
                model_type = self.run.core.config.model_type
                upload = partial(push_checkpoint, private=self.private, model_type=model_type)
                self.uploads.append(upload(checkpoint, self.repo_id, blocking=False))

    def at_end(self):
        if self.active and self.run.accelerator.is_main_process:
            published = self._push("End of training", blocking=True)
            for upload in self.uploads:
                upload.result()
            print(f"published {published.url}")

    def _push(self, message: str, blocking: bool):
        folder = self.run.arguments.run.output_dir
        upload = push_run(folder, self.repo_id, private=self.private, blocking=blocking, commit_message=message)
        if not blocking:
            self.uploads.append(upload)
        return upload


if __name__ == "__main__":
    sys.exit(main())
