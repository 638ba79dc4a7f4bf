# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""How was this process started? We choose settings of our own processes only, and hints repeat the spelling typed.

Imports nothing but Python's own modules: it is read before everything else, and `hf-autoencoders --help` needs no more.
"""

import os
import re
import sys
from pathlib import Path


CONSOLE_COMMAND = re.compile(r"(^|[/\\])hf-autoencoders(\.exe|-script\.pyw?)?$")
MODULES = "hf_autoencoders.commands."
HERE = Path(__file__)


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
    program = program_of(argv)
    return is_our_module(program) or is_console_command(program) or is_our_script(program)


def program_of(argv: list[str] | None = None) -> str:
    """The program that Python was asked to run: a path, or "-m module"; "" if none.

    >>> program_of(["python", "-W", "ignore", "-u", "scripts/train.py", "--cpu"])
    'scripts/train.py'
    >>> program_of(["python", "-m", "pytest", "-q"])
    '-m pytest'
    """
    words = (sys.orig_argv if argv is None else argv)[1:]
    while words and words[0].startswith("-") and words[0] != "-m":  # options of the interpreter itself
        words = words[2:] if words[0] in ("-W", "-X") else words[1:]
    return " ".join(words[:2] if words[:1] == ["-m"] else words[:1])


def is_console_command(program: str) -> bool:
    """Whether it is `hf-autoencoders` itself, the first word of a command.

    >>> is_console_command("/usr/bin/hf-autoencoders"), is_console_command("-m hf_autoencoders.commands.train")
    (True, False)
    """
    return CONSOLE_COMMAND.search(program) is not None


def is_our_module(program: str) -> bool:
    return program.startswith(f"-m {MODULES}")


def is_our_script(program: str) -> bool:
    """Whether the program lies in the folder scripts/ beside this package, or beside another copy of it."""
    folder = Path(program).absolute().parent
    return folder.name == "scripts" and (folder.parent / "hf_autoencoders" / HERE.name).is_file()


def as_typed(text: str, argv: list[str] | None = None) -> str:
    """`text` with our command lines in the spelling by which this process was started.

    Our code writes `hf-autoencoders sample` and `accelerate launch -m hf_autoencoders.commands.train`. Who started a
    script of a checkout, or a module, reads the other command as a script or a module, too.

    >>> as_typed("to draw: hf-autoencoders sample --help", ["python", "-m", "hf_autoencoders.commands.train"])
    'to draw: python -m hf_autoencoders.commands.sample --help'
    >>> as_typed("to draw: hf-autoencoders sample --help", ["python", "notebook.py"])
    'to draw: hf-autoencoders sample --help'
    """
    program = program_of(argv)
    if is_our_module(program):
        commands, folder, line, launch = (
            HERE.parent / "commands",
            MODULES,
            "python -m {}{}",
            "accelerate launch -m {}{}",
        )
    elif is_our_script(program):
        commands = Path(program).parent
        folder, line, launch = f"{commands.as_posix()}/", "python {}{}.py", "accelerate launch {}{}.py"
    else:
        return text

    def spelled(match: re.Match) -> str:
        form = launch if match[1].startswith("accelerate") else line
        return form.format(folder, match[2]) if (commands / f"{match[2]}.py").is_file() else match[0]

    return re.sub(r"(accelerate launch -m hf_autoencoders\.commands\.|hf-autoencoders )(\w+)", spelled, text)


def typed_name(command: str = "", argv: list[str] | None = None) -> str:
    """What begins the line of a command's error.

    >>> typed_name("train", ["python", "/usr/bin/hf-autoencoders", "train"]), typed_name()
    ('hf-autoencoders train', 'hf-autoencoders')
    """
    name = as_typed(f"hf-autoencoders {command}".rstrip(), argv)
    return Path(name).name if name.endswith(".py") else name


def complain(command: str, error: Exception, code: int = 2, everywhere: bool = True) -> int:
    """One line on stderr, and `code` to exit with.

    Args:
        command: the line begins with its name, as it was typed.
        everywhere: False for an error that all processes have alike: only the first prints it.
    """
    rank = int(os.environ.get("RANK", "0"))
    if rank == 0 or everywhere:
        who = typed_name(command) + ("" if rank == 0 else f" (process {rank})")
        print(f"{who}: {as_typed(in_one_line(error))}", file=sys.stderr)
    return code


def in_one_line(error: BaseException) -> str:
    """The text of an error, without what strict configs put around theirs: "Validation error for field 'a': ..."."""
    text = re.sub(r" Errors: Field .*", "", re.sub(r"<class '(\w+)'>", r"\1", " ".join(str(error).split())))
    return re.sub(r"^(?:Class v|V)alidation error for (?:validator|field) '\w+': \w+: ", "", text)
