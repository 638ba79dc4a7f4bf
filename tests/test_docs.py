# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What the pages in docs/ say is true: their snippets run, their files exist."""

from pathlib import Path

import pytest
from documents import named_files, run_snippets


ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
OF_TRANSFORMERS = {"tests/test_modeling_common.py"}  # named as theirs


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_that_are_named_exist(page):
    for path in set(named_files(page.read_text())) - OF_TRANSFORMERS:
        assert (ROOT / path).exists(), f"{page.name} names {path}"


def test_transformers_own_models_take_our_tokens():
    _, said = run_snippets((ROOT / "docs" / "transformers.md").read_text(), "transformers.md")
    assert {"words", "answer", "drawn", "pictures", "hidden"} <= set(said)
