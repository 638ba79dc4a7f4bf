# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""--push_to_hub of the training commands: what is uploaded, and when."""

from pathlib import Path

from ..training.arguments import Arguments
from ..training.engine import Run
from ..training.results import save_results
from .publish import push_checkpoint, push_run


class Publisher:
    """Carries out --push_to_hub; a command writes what is uploaded, and when. Called on every process."""

    def __init__(self, arguments: Arguments):
        self.arguments, self.hub = arguments, arguments.hub

    def after_checkpoint(self, run: Run, checkpoint: Path) -> None:
        """A new checkpoint is whole."""

    def at_end(self, run: Run) -> None:
        """Everything is saved."""


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
            if published.left_out:
                print(f"left out, since no run writes them: {', '.join(published.left_out)}")
            print(f"published {published.url}")

    def _push(self, message: str, blocking: bool):
        folder, private = self.arguments.run.output_dir, self.hub.hub_private
        return push_run(folder, self.repo_id, private=private, blocking=blocking, commit_message=message)
