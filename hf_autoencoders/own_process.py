# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Was this process started for a command of ours? Only then may we choose its settings."""

import re
import sys
from pathlib import Path


CONSOLE_COMMAND = re.compile(r"(^|[/\\])hf-autoencoders(\.exe|-script\.pyw?)?$")


def runs_a_command(argv: list[str] | None = None) -> bool:
    """True for `hf-autoencoders ...`, `python -m hf_autoencoders.commands. ...` and a script of our checkout.

    Args:
        argv: words of the command line; default: those of this process.

    >>> runs_a_command(["python", "-m", "hf_autoencoders.commands.train", "--cpu"])
    True
    >>> runs_a_command(["/usr/bin/python3", "/usr/bin/hf-autoencoders", "train"])
    True
    >>> runs_a_command(["python", "mine.py", "-m", "hf-autoencoders"])
    False
    """
    words = (sys.orig_argv if argv is None else argv)[1:]
    while words and words[0].startswith("-") and words[0] != "-m":  # options of the interpreter itself
        words = words[2:] if words[0] in ("-W", "-X") else words[1:]
    if words[:1] == ["-m"]:
        return len(words) > 1 and words[1].startswith("hf_autoencoders.commands.")
    return bool(words) and (bool(CONSOLE_COMMAND.search(words[0])) or is_our_script(Path(words[0])))


def is_our_script(path: Path) -> bool:
    """Whether `path` lies in the folder scripts/ beside this package, or beside another copy of it."""
    folder = path.absolute().parent
    return folder.name == "scripts" and (folder.parent / "hf_autoencoders" / Path(__file__).name).is_file()
