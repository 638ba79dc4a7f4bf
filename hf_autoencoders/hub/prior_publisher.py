# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""--push_to_hub of a prior."""

from pathlib import Path

from ..priors.prior_task import IMAGE_TOKEN_LM, names_of_repositories
from ..priors.sheets import SAMPLES_PICTURE
from ..training.engine import Run
from ..training.run_files import ARGUMENTS, CARD, METRICS
from .cards import read_json
from .publish import publish_files
from .publishers import Publisher
from .run_checks import FILES_OF_WEIGHTS


PUBLISHED_OF_A_PRIOR = (
    "config.json", "generation_config.json", "image_token_sequencer.json", "preprocessor_config.json",
    *FILES_OF_WEIGHTS, "model.safetensors.index.json", METRICS, ARGUMENTS, CARD, SAMPLES_PICTURE,
)  # fmt: skip
CODE = tuple(path.name for path in sorted((Path(__file__).parents[1] / "models").glob("*.py")))  # that travels


class PriorPublisher(Publisher):
    """The prior with sequencer, card and samples in one commit; prior and image model in one in another repository,
    since a repository holds one model."""

    def at_end(self, run: Run) -> None:
        if not self.hub.push_to_hub or not run.accelerator.is_main_process:
            return
        folder, names = Path(self.arguments.run.output_dir), names_of_repositories(self.arguments)
        self.upload(names[0], folder, PUBLISHED_OF_A_PRIOR)
        if run.task.has_image_token_lm():
            self.upload(names[1], folder / IMAGE_TOKEN_LM, (*PUBLISHED_OF_A_PRIOR, *CODE))

    def upload(self, name: str, folder: Path, patterns: tuple[str, ...]) -> None:
        model_type = read_json(folder / "config.json", "the prior's config")["model_type"]
        url = publish_files(
            folder, name, patterns, "Publish the prior", mark="config.json", model_type=model_type,
            private=self.hub.hub_private,
        )  # fmt: skip
        print(f"published {url}")
