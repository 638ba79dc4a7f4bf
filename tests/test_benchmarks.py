# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""scripts/benchmarks/run.py measures, judges by its targets, and writes the page."""

import json
import sys
from itertools import islice
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder of the benchmarks, as if `run.py` had been started there."""
    monkeypatch.syspath_prepend(ROOT / "scripts" / "benchmarks")
    before = set(sys.modules)
    import run

    yield run
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "scripts" / "benchmarks")):
            del sys.modules[name]


def test_two_rows_are_measured_and_written(benchmarks, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks.rows_lookup, "installed", lambda package: package == "diffusers")
    to = ["--page", str(tmp_path / "page.md"), "--record", str(tmp_path / "record.json"), "--threads", "1"]
    benchmarks.main(["--tiny", "--rounds", "2", "--rows", "lookup", *to])
    first = json.loads((tmp_path / "record.json").read_text())
    benchmarks.main(["--tiny", "--rounds", "2", "--rows", "quantizer", *to])
    record, page = json.loads((tmp_path / "record.json").read_text()), (tmp_path / "page.md").read_text()
    assert record["lookup"] == first["lookup"]  # a row that is not asked for stays
    case = record["lookup"]["cases"][0]
    assert len(case["timings"]["ours"]["cpu"]) == len(case["timings"]["diffusers VectorQuantizer"]["wall"]) == 2
    assert case["claims"][-1]["measured"] == 0  # vectors with a nearer code
    assert "## lookup" in page and "## quantizer" in page
    assert "| pythae QuantizerEMA | not installed |" in page
    assert record["lookup"]["commit"] in page and "torch 2" in page


def test_a_claim_is_judged_by_its_target(benchmarks, tmp_path):
    from measure import Case, Timing
    from page import store, write_page

    case = Case("made up", {"ours": Timing([2.0, 1.0, 3.0], [9.0] * 3), "theirs": Timing([8.0, 4.0, 6.0], [9.0] * 3)})
    assert case.ratio("theirs") == 3.0 and case.ratio("absent") is None
    case.claim("as fast as theirs", case.ratio("theirs"), ">=", 2.5)
    case.claim("as fast as theirs", case.ratio("theirs"), ">=", 3.5)
    case.claim("of theirs", 1 / case.ratio("theirs"), "<=", 0.5)
    case.claim("as fast as what is absent", case.ratio("absent"), ">=", 2.0)
    assert [claim.passed for claim in case.claims] == [True, False, True]
    where = {"commit": "abc", "date": "2026-01-01", "machine": "a machine", "versions": "torch 2"}
    store(tmp_path / "record.json", "lookup", "A title.", [case], where, 3)
    write_page(tmp_path / "record.json", tmp_path / "page.md", ["lookup"])
    page = (tmp_path / "page.md").read_text()
    assert "| [lookup](#lookup) | made up: as fast as theirs | 3x | >= 3.5x | **missed** |" in page
    assert "| theirs | 6 | 4 | 9 | 3.00 x |" in page


def test_an_unknown_row_is_refused(benchmarks, capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["--rows", "look"])
    assert "no row 'look'; the rows: lookup," in capsys.readouterr().err


def test_the_page_is_the_one_that_its_record_gives(benchmarks, tmp_path):
    from page import write_page

    write_page(ROOT / "docs" / "benchmarks.json", tmp_path / "page.md", list(benchmarks.ROWS))
    assert (tmp_path / "page.md").read_text() == (ROOT / "docs" / "BENCHMARKS.md").read_text()


@pytest.mark.parametrize("discriminator", ["features", "pooled"])
def test_the_plain_step_of_the_row_adversarial_trains_as_the_loop_does(benchmarks, tmp_path, discriminator):
    """So that its time is that of the same work."""
    photos = benchmarks.rows_photos
    photos.write_pictures(tmp_path / "pictures", 8)
    exact = ("--codebook_init", "uniform", "--mixed_precision", "no", "--cpu")
    run = photos.build(tmp_path, 3, ["--discriminator", discriminator, *photos.TINY, *exact])
    before = [weight.detach().clone() for weight in run.core.parameters()]
    plain, batches = photos.PlainTraining(run), [batch["pixel_values"] for batch in islice(run.batches(0), 3)]
    photos.loop(run, 3)
    photos.each(plain.step, batches)
    pairs = zip(before, run.core.parameters(), plain.model.parameters(), strict=True)
    for start, ours, theirs in pairs:
        assert (ours - theirs).abs().max() < 1e-6 < (ours - start).abs().max()
    for ours, theirs in zip(run.adversary.net.net.parameters(), plain.judge.parameters(), strict=True):
        assert (ours - theirs).abs().max() < 1e-6
