# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Publish a trained model with its card:  hf-autoencoders publish runs/vqvae-mnist --repo_id org/vqvae-mnist

Or a demo of one or two models as a Space:
    hf-autoencoders publish --space runs/ae-mnist runs/vae-mnist --output_dir space --repo_id org/latent-planes
"""

import argparse
import sys
import tempfile
from pathlib import Path

import hf_autoencoders.models  # noqa: F401  (registers the Auto classes)

from ..demo.space import push_space, write_space
from ..hub.publish import Published, push_run
from .boundary import OneLineParser, run_command


DEMO = Path(__file__).resolve().with_name("demo.py")


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = OneLineParser("publish", __doc__)
    parser.add_argument("run", nargs="?", metavar="RUN", help="the folder of a run")
    parser.add_argument("--space", nargs="+", metavar="RUN", help="models of the demo: folders of runs, or Hub ids")
    parser.add_argument("--output_dir", help="with --space: write its folder here; without --repo_id, only that")
    parser.add_argument("--dataset_name", help="with --space: data whose codes the plane shows (default: as the runs)")
    parser.add_argument("--repo_id", help="'organisation/name', or 'name' in your own namespace")
    parser.add_argument("--private", action="store_true", help="create the repository as a private one")
    parser.add_argument("--force", action="store_true", help="overwrite a repository that holds something else")
    parser.add_argument("--commit_message", help="default: Publish the model, or: Publish the demo")
    parser.add_argument("--template", help="Jinja template of the card (default: the one of this package)")
    arguments = parser.parse_args(argv)
    if (arguments.run is None) == (arguments.space is None):
        parser.error("give either RUN, or --space RUN [RUN2]")
    if arguments.run is not None and (arguments.output_dir or arguments.dataset_name):
        parser.error("--output_dir and --dataset_name go with --space only")
    if arguments.run is not None and arguments.repo_id is None:
        parser.error("--repo_id is needed: where to publish")
    if arguments.space is not None and arguments.repo_id is None and arguments.output_dir is None:
        parser.error("--space needs --output_dir, --repo_id, or both")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`."""
    return run_command("publish", lambda: parse_arguments(argv), run)


def run(arguments: argparse.Namespace) -> None:
    published = publish_space(arguments) if arguments.space else publish_run(arguments)
    if published is not None:
        if published.left_out:
            print(f"Left out, since no run writes them: {', '.join(published.left_out)}")
        print(f"Published {published.url} at revision {published.revision}")


def publish_run(arguments: argparse.Namespace) -> Published:
    return push_run(
        arguments.run,
        arguments.repo_id,
        private=arguments.private,
        commit_message=arguments.commit_message or "Publish the model",
        force=arguments.force,
        template=arguments.template,
    )


def publish_space(arguments: argparse.Namespace) -> Published | None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = write_space(
            arguments.space, arguments.output_dir or scratch, app=DEMO, dataset_name=arguments.dataset_name
        )
        if arguments.output_dir:
            print(f"Wrote the Space to {folder}; to try it: python {folder / 'app.py'}")
        if arguments.repo_id is None:
            return None
        return push_space(
            folder,
            arguments.repo_id,
            private=arguments.private,
            commit_message=arguments.commit_message or "Publish the demo",
            force=arguments.force,
        )


if __name__ == "__main__":
    sys.exit(main())
