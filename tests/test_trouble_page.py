# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""docs/trouble.md: each of its lines is one that the code prints, and each warning and diagnosis is on it."""

import ast
import re
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
GAP = "\0"  # what differs from case to case
WARN = {"warning", "warning_once", "warn"}
# Warnings whose text is made elsewhere, and one for programmers.
NOT_FOR_THE_PAGE = (
    GAP,
    "hf_autoencoders.compat is now hf_autoencoders.hub.compat.",
    "`broadcast_buffers` is deprecated",
)


def template(node: ast.expr) -> str | None:
    """The text of a message, with a mark for each value in it."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sd]", GAP, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)
    return None


def messages() -> tuple[set[str], set[str]]:
    """(all texts of the package, those that warn or diagnose)."""
    everything, must = set(), set()
    for path in (ROOT / "hf_autoencoders").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            everything |= {text} if (text := template(node)) else set()
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WARN:
                must |= {text for argument in node.args[:1] if (text := template(argument))}
            if isinstance(node, ast.FunctionDef) and node.name == "cures":
                calls = (call for call in ast.walk(node) if isinstance(call, ast.Call))
                added = (call for call in calls if getattr(call.func, "attr", "") == "append")
                must |= {text for call in added if (text := template(call.args[0]))}
            if isinstance(node, ast.Raise) and getattr(getattr(node.exc, "func", None), "id", "") == "TrainingDiverged":
                must.add(template(node.exc.args[0]))
    return everything, must - set(NOT_FOR_THE_PAGE)


EVERYTHING, MUST = messages()
ROWS = re.findall(r"^\| (`+)\s?(.+?)\s?\1 \|", (ROOT / "docs" / "trouble.md").read_text(), re.MULTILINE)
LINES = [line for _, line in ROWS if line != "line"]


def says(text: str, line: str) -> bool:
    """Whether a line of the page stands for a message: its words in their order, `...` for anything."""
    return re.fullmatch(".*".join(map(re.escape, re.split(r"\s*\.\.\.\s*", line))), text, re.DOTALL) is not None


@pytest.mark.parametrize("line", LINES)
def test_a_line_of_the_page_is_one_that_the_code_prints(line):
    assert any(says(text, line) for text in EVERYTHING)


@pytest.mark.parametrize("text", sorted(MUST), ids=lambda text: text[:40])
def test_every_warning_and_every_diagnosis_is_on_the_page(text):
    assert any(says(text, line) for line in LINES), text


def test_there_is_something_to_compare():
    assert len(MUST) >= 18 and len(LINES) >= 45
