# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Adds runs to docs/results.json, and writes docs/RESULTS.md and model_cards/:

    python scripts/update_results.py add runs/ae-mnist-30d --figure deep-ae [--against RUN2] [--note TEXT]
    python scripts/update_results.py bake-off runs/bake-off
    python scripts/update_results.py negative "What was tried, and what came out"
    python scripts/update_results.py write
    python scripts/update_results.py list

`add` without --figure uses the run for its card only. A run with an unchanged recipe gives the recipe's card. `write`
writes the pages again from docs/results.json; every other action does so, too, at its end.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError

import hf_autoencoders  # noqa: F401  (registers the four models with the Auto classes)
from hf_autoencoders.hub.cards import number
from hf_autoencoders.hub.results import (
    RESULTS_TO_REACH,
    load_results,
    measure,
    put_bake_off,
    put_card,
    put_entry,
    read_measured,
    write_results,
)
from hf_autoencoders.hub.results_page import verdict, write_pages


ROOT = Path(__file__).resolve().parents[1]


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Exit codes: 0 done, 2 a mistake in the arguments or a run that does not fit, as one line of text."""
    arguments = read_arguments(argv)
    try:
        results = load_results(root)
        if arguments.action == "list":
            print(*lines(results), sep="\n")
        else:
            change(results, arguments, root)
            write_results(results, root)
            write_pages(results, root)
    except (ValueError, StrictDataclassError) as error:
        print(f"update_results.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="a run of a recipe").add_argument
    add("run", type=Path, help="its folder")
    add("--figure", nargs="+", default=[], metavar="NAME", help=", ".join(RESULTS_TO_REACH))
    add("--against", type=Path, metavar="RUN2", help="the run that the figure compares with")
    add("--note", help="a sentence that stands beside the figure")
    actions.add_parser("bake-off", help="a table").add_argument("folder", type=Path, help="of scripts/bake_off.py")
    actions.add_parser("negative", help="something that did not work").add_argument("text")
    actions.add_parser("write", help="the pages anew")
    actions.add_parser("list", help="figures and their state")
    return parser.parse_args(argv)


def change(results: dict[str, Any], arguments: argparse.Namespace, root: Path) -> None:
    if arguments.action == "add":
        run = read_measured(arguments.run, root)
        other = None if arguments.against is None else read_measured(arguments.against, root)
        for name in arguments.figure:
            put_entry(results, measure(name, run, other, arguments.note))
        if run.as_recipe:
            put_card(results, run, root)
    elif arguments.action == "bake-off":
        put_bake_off(results, arguments.folder)
    elif arguments.action == "negative":
        results["negative"] = [*(text for text in results["negative"] if text != arguments.text), arguments.text]


def lines(results: dict[str, Any]) -> list[str]:
    """A line for each figure; of several entries the last."""
    stands = {entry["figure"]: f"{number(entry['measured'])}, {verdict(entry)}" for entry in results["figures"]}
    return [f"{name:20s} {stands.get(name, 'not measured')}" for name in RESULTS_TO_REACH]


if __name__ == "__main__":
    sys.exit(main())
