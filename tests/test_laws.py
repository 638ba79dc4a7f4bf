# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The laws of the house: what may import what, and what may be named where."""

import ast
import re
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "hf_autoencoders"
MODEL_FILES = sorted((PACKAGE / "models").glob("*.py"))
IN_THE_SUITCASE = {"torch", "transformers", "huggingface_hub", "numpy", "PIL"} | set(sys.stdlib_module_names)
OPTIONAL_IN_THE_SUITCASE = {"torchvision"}  # behind `if is_torchvision_available():`
MODEL_CLASSES = re.compile(r"\b(AE|VAE|VQVAE|DVAE)(Model|Config)\b")
# An import goes only to the right.
ROOMS = ["scripts", "commands", "demo", "hub", "priors", "training", "evaluation", "perception", "models"]


def imports(path: Path):
    """(level, module, names, line) of each import statement in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, [], node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names], node.lineno


def rooms_that_a_file_enters(path: Path, room: str):
    """Rooms of the package that a file imports from, with the line."""
    for level, module, names, line in imports(path):
        if level == 0 and module.split(".")[0] == "hf_autoencoders":
            parts = module.split(".")[1:]
        elif level == 2:
            parts = module.split(".") if module else []
        else:
            continue
        for part in parts[:1] or names:
            yield part, line


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.name)
def test_the_suitcase_imports_only_what_travels(path):
    for level, module, _, line in imports(path):
        top = module.split(".")[0]
        if level:
            assert level == 1 and module and "." not in module, f"{path.name}:{line}: only `from .sibling import name`"
            assert (path.parent / f"{module}.py").exists(), f"{path.name}:{line}: no sibling {module}"
        else:
            assert top in IN_THE_SUITCASE | OPTIONAL_IN_THE_SUITCASE, f"{path.name}:{line}: {top} stays at home"


@pytest.mark.parametrize("path", MODEL_FILES, ids=lambda path: path.name)
def test_no_line_of_the_suitcase_looks_like_an_import_to_the_exporter(path):
    # transformers copies files by regular expressions over the text, docstrings included.
    text = path.read_text()
    assert not re.search(r"^\s*from\s+\.\.", text, re.MULTILINE)
    assert not re.search(r"^\s*from\s+\.\s+import|^\s*import\s+\.", text, re.MULTILINE)
    for sibling in re.findall(r"^\s*from\s+\.(\S+)\s+import", text, re.MULTILINE):
        assert (path.parent / f"{sibling}.py").exists(), f"{path.name} seems to import {sibling}"
    if path.name.startswith("configuration"):
        assert "from __future__" not in text  # would switch the type checks of the configs off


def test_no_class_of_the_suitcase_is_called_a_tokenizer():
    for path in MODEL_FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ClassDef) and "Tokenizer" in node.name), f"{path.name}:{node.lineno}"


@pytest.mark.parametrize("room", ["training", "priors", "perception", "evaluation"])
def test_a_room_that_uses_models_names_none_of_their_classes(room):
    for path in sorted((PACKAGE / room).glob("*.py")):
        code = ast.unparse(without_docstrings(ast.parse(path.read_text())))
        assert not MODEL_CLASSES.search(code), f"{path.name} names {MODEL_CLASSES.search(code)[0]}"


def without_docstrings(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            body[0].value.value = ""
    return tree


def test_an_import_goes_only_to_the_right():
    for index, room in enumerate(ROOMS[1:], start=1):
        for path in sorted((PACKAGE / room).glob("*.py")):
            for entered, line in rooms_that_a_file_enters(path, room):
                if entered in ROOMS:
                    assert ROOMS.index(entered) >= index, f"{room}/{path.name}:{line} imports {entered}"


def test_nothing_imports_scripts_and_no_script_hides_a_standard_module():
    for path in sorted((ROOT / "scripts").glob("*.py")):
        assert path.stem not in sys.stdlib_module_names, f"{path.name} would hide the module {path.stem}"
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").glob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for level, module, _, line in imports(path):
            assert level or module.split(".")[0] != "scripts", f"{path.name}:{line} imports a script"


# Top-level names that two files define, and why each of them may.
ONE_WORD_IN_MANY_FILES = {
    "main": "each command's entry",
    "run": "what a command does with what was typed",
    "parse_arguments": "what each command reads from the command line",
    "read": "the same, of a command with more than one reader",
    "logger": "one a file, as everywhere in Python",
    "__all__": "Python's own",
    "TRAINER": "what each command that trains is made of",
    "train": "the loop, and for users the whole of a run",
    "initialize": "an `_init_weights` of the modules of that file",
    "importance_bound": "the model computes it of a batch, the evaluation of a data set",
    "generate_images": "each kind of prior has one",
}


def names_defined_in(path: Path):
    """Names that a file defines at its top level: functions, classes, assigned names."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def test_a_top_level_name_means_one_thing_in_the_whole_package():
    files_of = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in set(names_defined_in(path)):
            files_of.setdefault(name, []).append(path.relative_to(PACKAGE).as_posix())
    several = {name: files for name, files in files_of.items() if len(files) > 1}
    new = {name: several[name] for name in several.keys() - ONE_WORD_IN_MANY_FILES.keys()}
    assert not new, f"rename one, or share it: {new}"
    gone = ONE_WORD_IN_MANY_FILES.keys() - several.keys()
    assert not gone, f"defined once by now, so take it off the list: {sorted(gone)}"


def test_every_file_says_whose_it_is():
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").glob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        assert path.read_text().startswith("# Copyright 2026 The hf_autoencoders team."), path
