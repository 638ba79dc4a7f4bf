# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Publish a trained model with its card:  python scripts/publish.py runs/vqvae-mnist --repo_id org/vqvae-mnist"""

import argparse
import sys
from pathlib import Path

import hf_autoencoders  # noqa: F401  (registers the Auto classes)
from hf_autoencoders.hub.cards import RunError
from hf_autoencoders.hub.publish import PublishError, push_run


TEMPLATE = Path(__file__).resolve().parents[1] / "model_cards" / "TEMPLATE.md"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="the folder that train.py left")
    parser.add_argument("--repo_id", required=True, help="'organisation/name', or 'name' in your own namespace")
    parser.add_argument("--private", action="store_true", help="create the repository as a private one")
    parser.add_argument("--force", action="store_true", help="overwrite a repository that holds another kind of model")
    parser.add_argument("--commit_message", default="Publish the model")
    parser.add_argument("--template", default=TEMPLATE, help="of the card (default: model_cards/TEMPLATE.md)")
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    try:
        published = push_run(
            arguments.run,
            arguments.repo_id,
            private=arguments.private,
            commit_message=arguments.commit_message,
            force=arguments.force,
            template=arguments.template,
        )
    except (RunError, PublishError) as error:
        sys.exit(f"publish.py: {error}")
    print(f"Published {published.url} at revision {published.revision}")


if __name__ == "__main__":
    main()
