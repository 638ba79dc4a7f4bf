# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Show the configurations of Accelerate that come with this package:  hf-autoencoders configs

With the name of one, only its path is printed:
    accelerate launch --config_file $(hf-autoencoders configs multi_gpu) -m hf_autoencoders.commands.train ...
"""

import sys
from pathlib import Path

from ..training.recipes import about
from .boundary import OneLineParser, run_command


FOLDER = Path(__file__).with_name("accelerate_configs")


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of `run_command`."""
    return run_command("configs", lambda: parse_name(argv), print_configs)


def parse_name(argv: list[str] | None) -> str | None:
    parser = OneLineParser("configs", __doc__)
    parser.add_argument("name", nargs="?", choices=sorted(configs()), help="print only the path of this one")
    return parser.parse_args(argv).name


def configs() -> dict[str, Path]:
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def print_configs(name: str | None) -> None:
    if name is not None:
        print(configs()[name])
        return
    for name, path in configs().items():
        print(f"{name}: {about(path)}\n    {path}")


if __name__ == "__main__":
    sys.exit(main())
