# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Markdown whose code is true: snippets that run, shapes that the values have, commands that scripts understand."""

import ast
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]


def python_snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """Words of each command line of the bash snippets, without comments."""
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := line.split("#")[0].split())]


def run_snippets(text: str, name: str) -> tuple[dict, list[str]]:
    """Runs the Python snippets one after the other, statement by statement, in one set of names.

    Where the last line of an assignment ends in a shape, `pixels = ...  # (2, 3, 16, 16)`, the value must have it.

    Returns: the names at the end, and those whose shape was said.
    """
    names, said = {}, []
    for snippet in python_snippets(text):
        lines = snippet.splitlines()
        for statement in ast.parse(snippet).body:
            exec(compile(ast.Module([statement], []), name, "exec"), names)
            shape = re.search(r"# \((\d[\d, ]*)\)", lines[statement.end_lineno - 1])
            if shape and isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                said.append(statement.targets[0].id)
                expected = tuple(int(number) for number in shape[1].split(",") if number.strip())
                found = tuple(names[said[-1]].shape)
                assert found == expected, f"{name}: {said[-1]} is said to have shape {expected}, it has {found}"
    return names, said


def named_files(text: str) -> list[str]:
    return re.findall(r"\b((?:scripts|docs|model_cards|hf_autoencoders|tests)/[\w./-]+\.\w+)", text)


def check_flags_of_train_py(text: str) -> None:
    """Each command of train.py in the bash snippets is one that it understands."""
    from hf_autoencoders.training.knobs import parse_arguments

    for words in commands(text):
        if "scripts/train.py" not in words or "..." in words:
            continue
        flags = [
            str(ROOT / word) if word.startswith("scripts/") else word
            for word in words[words.index("scripts/train.py") + 1 :]
        ]
        if "--help" in flags or flags[-2:] == ["--recipe", "list"]:
            with pytest.raises(SystemExit, match="^0$"):
                parse_arguments(flags)
        else:
            parse_arguments(flags)
