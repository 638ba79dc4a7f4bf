# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the pages in docs/ and CONTRIBUTING.md say is true: snippets and commands run, files exist."""

import ast
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from documents import check_flags_of_train_py, commands, named_files, python_snippets, run_snippets
from training_runs import alone, run_script_here

from hf_autoencoders.models.configuration_vqvae import QUANTIZER_FIELDS
from hf_autoencoders.models.quantizers import QUANTIZERS


ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("tutorial/*.md")), ROOT / "CONTRIBUTING.md"]
OF_TRANSFORMERS = {"tests/test_modeling_common.py"}  # named as theirs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_are_named_exist(page):
    for path in set(named_files(page.read_text())) - OF_TRANSFORMERS:
        assert (ROOT / path).exists(), f"{page.name} names {path}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_a_link_to_a_part_of_a_page_leads_to_a_heading(page):
    for target, anchor in re.findall(r"\]\(([\w./-]+\.md)#([\w-]+)\)", page.read_text()):
        headings = re.findall(r"^#+ (.+)$", (page.parent / target).read_text(), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_flags_of_train_py_exist(page):
    check_flags_of_train_py(page.read_text())


def test_transformers_own_models_take_our_tokens():
    _, said = run_snippets((ROOT / "docs" / "transformers.md").read_text(), "transformers.md")
    assert {"words", "answer", "drawn", "pictures", "hidden"} <= set(said)


# What makes a command of a page short, and nothing else of it.
SHORT = {
    "train.py": ("--max_train_steps", "10", "--num_threads", "1"),
    "train_prior.py": ("--max_train_steps", "5", "--num_threads", "1"),
    "encode_dataset.py": ("--num_threads", "1"),
}


def test_from_tokens_to_new_pictures(tmp_path, monkeypatch):
    """docs/priors.md, command by command, then snippet by snippet."""
    page = (ROOT / "docs" / "priors.md").read_text()
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    monkeypatch.chdir(tmp_path)
    for words in commands(page):
        assert words[:2] == ["accelerate", "launch"] or words[0] == "python", words
        script = next(word for word in words if word.startswith("scripts/"))
        flags = words[words.index(script) + 1 :]
        assert run_script_here(script, [*flags, *SHORT.get(Path(script).name, ())]) == 0, words
    trained = json.loads(Path("runs/prior-tokens/metrics.json").read_text())["metrics"]
    assert trained["images"] == 360 and json.loads(Path("samples.json").read_text())["measure"]["samples"] == 200
    names, said = run_snippets(page, "priors.md")
    assert {"pictures", "tokens", "ids", "grids", "free", "pixels"} <= set(said)
    assert names["report"].prior == "learned codes"


@pytest.fixture
def own_quantizers():
    """Names that a page registers are gone after it."""
    before = set(QUANTIZERS)
    yield
    for name in set(QUANTIZERS) - before:
        del QUANTIZERS[name], QUANTIZER_FIELDS[name]


def test_the_quantizer_of_the_contributors_page_trains_and_agrees_with_its_own_affinities(own_quantizers):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    names, said = run_snippets(text.partition("`mine.py`")[0], "CONTRIBUTING.md")
    assert {"pixels", "tokens", "again"} <= set(said)
    model, pixels, tokens = (names[name] for name in ("model", "pixels", "tokens"))
    assert all(weight.grad is not None for weight in model.encoder.parameters())
    assert torch.equal(model.get_codebook_probs(pixels).argmax(2), tokens.flatten(1))


def test_a_file_that_imports_the_quantizer_gives_it_to_the_commands(own_quantizers, tmp_path, monkeypatch):
    """CONTRIBUTING.md's `mine.py`, in this process."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    quantizer, mine = python_snippets(page)
    (tmp_path / "sign.py").write_text(quantizer)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    lines = [words[words.index("mine.py") :] for words in commands(page) if "mine.py" in words]
    for words in lines:
        monkeypatch.setattr("sys.argv", [*words, *SHORT["train.py"]] if "train" in words else words)
        with alone(), pytest.raises(SystemExit, match="^0$"):
            exec(compile(mine, "mine.py", "exec"), {})
    monkeypatch.delitem(sys.modules, "sign")
    assert [words[1] for words in lines] == ["train", "evaluate_model"]
    assert json.loads((tmp_path / "runs/sign/report/metrics.json").read_text())


MEASURED_PAGES = [*sorted(DOCS.glob("tutorial/*.md")), DOCS / "which-model.md"]


def measured_cells(text: str) -> list[str]:
    """Cells of the columns that are headed "measured here" or belong to the table of quantizers."""
    cells, chosen = [], []
    for line in text.splitlines():
        row = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
        if not row:
            chosen = []
        elif not chosen and {"measured here", "mean squared error"} & {cell.strip() for cell in row}:
            first = next(i for i, cell in enumerate(row) if cell in ("measured here", "mean squared error"))
            chosen = [first] if row[first] == "measured here" else list(range(first, len(row)))
        elif chosen and not set(line) <= set("|-: "):
            cells += [row[i] for i in chosen]
    return cells


@pytest.mark.parametrize("page", MEASURED_PAGES, ids=lambda page: page.name)
def test_what_a_page_says_was_measured_is_in_the_results(page):
    """Numbers with decimals: they must stand in RESULTS.md, a card, or the page that holds the table of their run."""
    sources = [DOCS / name for name in ("RESULTS.md", "priors.md", "diffusers.md")]
    results = "".join(path.read_text() for path in [*sources, ROOT / "model_cards" / "vqvae-mnist.md"])
    cells = measured_cells(page.read_text())
    assert cells
    for number in re.findall(r"\d*\.\d+", " ".join(cells)):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", results), f"{page.name}: nobody measured {number}"


def test_no_property_begins_like_a_type():
    """The reference would show "Width of the output: that of a code" as a text "that of a code" of another type."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "hf_autoencoders").rglob("*.py")]
    functions = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    properties = [node for node in functions if "property" in str(list(map(ast.unparse, node.decorator_list)))]
    first_lines = [(ast.get_docstring(node) or "").partition("\n")[0] for node in properties]
    assert len(first_lines) > 50 and not [line for line in first_lines if ": " in line]


def test_the_contents_list_every_page():
    listed = set(re.findall(r"^[\w/-]+$", (DOCS / "index.md").read_text(), re.MULTILINE))
    pages = {
        path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md") if "_build" not in path.parts
    }
    assert pages - {"index"} == {name for name in listed if name not in ("maxdepth", "caption")}
