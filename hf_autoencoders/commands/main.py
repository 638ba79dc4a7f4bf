# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The console command:  hf-autoencoders COMMAND ..."""

import ast
import difflib
import importlib
import sys
from pathlib import Path

from .. import __version__
from ..own_process import complain


COMMANDS = (
    "train", "train_prior", "train_latent_diffusion", "evaluate_model", "demo", "encode_dataset", "sample", "publish",
    "compare", "convert", "export", "configs",
)  # fmt: skip

USAGE = """usage: hf-autoencoders COMMAND ...

{commands}

hf-autoencoders COMMAND --help      what a command takes
hf-autoencoders train --recipe list the recipes that come with this package
hf-autoencoders --version

On several GPUs a command that trains or encodes is started by Accelerate (hf-autoencoders configs):
accelerate launch -m hf_autoencoders.commands.train --recipe vqvae-mnist"""


def main(argv: list[str] | None = None) -> int:
    """Exit codes: those of the command; 2 if there is no command of this name."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
    elif name == "--version":
        print(f"hf-autoencoders {__version__}")
    elif name.replace("-", "_") in COMMANDS:
        return importlib.import_module(f".{name.replace('-', '_')}", __package__).main(rest)
    else:
        nearest = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.0)[0]
        error = ValueError(f"There is no command {name!r}; the nearest is {nearest!r}, and --help lists all.")
        return complain("", error, everywhere=False)
    return 0


def usage() -> str:
    width = max(map(len, COMMANDS))
    return USAGE.format(commands="\n".join(f"  {name:{width}}  {about_command(name)}" for name in COMMANDS))


def about_command(name: str) -> str:
    """The first sentence of its module, which is not imported for it."""
    text = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")))
    return text.splitlines()[0].split(":  ")[0].rstrip(":.")


if __name__ == "__main__":
    sys.exit(main())
