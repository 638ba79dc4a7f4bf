# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Show the metrics of several runs side by side:  hf-autoencoders compare runs/l2 runs/perceptual

Each is the folder of a run or of a report, or a metrics.json. The table is Markdown. Below it stands in what their
protocols differ: numbers that were measured under another protocol than the first column's are marked with a *.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..evaluation.comparison import comparison_table
from ..training.saved_models import read_json_object
from .boundary import OneLineParser, run_command


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`."""
    return run_command("compare", lambda: parse_arguments(argv), print_comparison)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser("compare", __doc__)
    parser.add_argument("records", nargs="+", type=Path, help="folders of runs or reports, or files metrics.json")
    return parser.parse_args(argv)


def print_comparison(arguments: argparse.Namespace) -> None:
    records = {str(path): read_metrics(path) for path in arguments.records}
    print("\n".join(comparison_table(records)))


def read_metrics(path: Path) -> dict[str, Any]:
    """What a metrics.json holds. Raises ValueError where it holds no metrics."""
    file = path / "metrics.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"There is no {file}: a finished run writes it, and hf-autoencoders evaluate_model, into its report."
        )
    record = read_json_object(file)
    if not isinstance(record.get("metrics"), dict):
        raise ValueError(f"{file} holds no metrics: it is no record of a run or of a report.")
    for name in ("protocol", "dataset"):
        if not isinstance(record.get(name, {}), dict):
            raise ValueError(f"{file} is no record of a run or of a report: its {name} is no JSON object ({{...}}).")
    return record


if __name__ == "__main__":
    sys.exit(main())
