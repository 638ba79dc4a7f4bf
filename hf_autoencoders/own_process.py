# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Was this process started for a command of ours? Only then are its settings ours to choose."""

import re
import sys


CONSOLE_COMMAND = re.compile(r"(^|[/\\])hf-autoencoders(\.exe|-script\.pyw?)?$")


def runs_a_command(argv: list[str] | None = None) -> bool:
    """`hf-autoencoders ...`, or `python -m hf_autoencoders.commands. ...`. `argv`: default: of this process.

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
    return bool(words) and bool(CONSOLE_COMMAND.search(words[0]))
