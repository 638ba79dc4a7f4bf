# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""scripts/check_accelerator.py on the CPU: all rows but timed and compiled ones; what a failure looks like."""

import re

import pytest
import torch
from training_runs import ROOT, load_script


@pytest.fixture(scope="module")
def script():
    return load_script(ROOT / "scripts/check_accelerator.py")


def test_on_a_cpu_every_row_passes_or_says_why_it_is_skipped(script, monkeypatch, capsys):
    # Compiling takes a minute, and a timed row proves nothing on a busy machine.
    chosen = [row for row in script.checks(torch.device("cpu")) if not re.search("compiled$|beside", row[0])]
    monkeypatch.setattr(script, "checks", lambda device: iter(chosen))
    assert script.main(["--device", "cpu"]) == 0
    table = capsys.readouterr().out
    results = re.findall(r"^\| (.+?) \| (pass|fail|skipped) \| (.*) \|$", table, re.MULTILINE)
    assert "the rows ran on the CPU" in table and len(results) == 4 * 3 + 4 + 5
    skipped = {check: why for check, result, why in results if result == "skipped"}
    assert set(skipped) == {*(f"{kind}, fp16" for kind in script.MODELS), "FSDP2", "DeepSpeed"}
    assert all(skipped.values())


def test_a_row_that_fails_makes_the_exit_code_1(script, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        script, "checks", lambda device: iter([("it works", lambda: "well"), ("it does not", lambda: 1 / 0)])
    )
    assert script.main(["--device", "cpu", "--output", str(tmp_path / "table.md")]) == 1
    table = (tmp_path / "table.md").read_text()
    assert (
        "| it works | pass | well |" in table
        and "| it does not | fail | ZeroDivisionError: division by zero |" in table
    )


def test_a_loss_that_does_not_fall_is_a_failure(script):
    with pytest.raises(AssertionError, match="went from 1 to 1"):
        script.assert_falls([1.0] * 10)


def test_a_code_that_is_not_the_nearest_is_a_failure(script, monkeypatch):
    monkeypatch.setattr(script, "nearest_codes", lambda vectors, codebook: torch.zeros(len(vectors), dtype=torch.int64))
    with pytest.raises(AssertionError, match="codes are not the nearest"):
        script.check_codes(torch.device("cpu"))
