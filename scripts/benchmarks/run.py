# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Ours beside the code that people use, measured in one run and written into docs/BENCHMARKS.md:

    python scripts/benchmarks/run.py [--rows lookup,encode] [--threads 1] [--rounds 7]
        [--baseline CHECKOUT_OF_ANOTHER_COMMIT] [--photographs FOLDER_OF_JPEG_FILES]

Peers come with `pip install -e .[bench]`; a way whose package is absent says so. Rows that are not asked for stay as
they were measured last.
"""

import argparse
import contextlib
import io
from pathlib import Path

import rows_data
import rows_drawing
import rows_encoding
import rows_lookup
import rows_photos
import rows_training
import torch
from measure import ROOT
from page import environment, store, write_page

from hf_autoencoders.training.launch import keep_freed_memory


ROWS = {
    "lookup": rows_lookup.lookup,
    "growth": rows_lookup.growth,
    "quantizer": rows_lookup.quantizer,
    "encode": rows_encoding.encode,
    "encode_bf16": rows_encoding.encode_bf16,
    "dvae": rows_encoding.dvae,
    "exported": rows_encoding.exported,
    "large": rows_encoding.large,
    "step": rows_training.step,
    "adversarial": rows_photos.adversarial,
    "epoch": rows_training.epoch,
    "sampling": rows_drawing.sampling,
    "likelihood": rows_drawing.likelihood,
    "processes": rows_training.processes,
    "tokenising": rows_data.tokenising,
    "start": rows_training.start,
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"of: {', '.join(ROWS)}")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in all ways alike")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts")
    parser.add_argument("--baseline", type=Path, help="checkout (git worktree add) whose training step is compared")
    parser.add_argument("--photographs", type=Path, help="folder of photographs for the row tokenising")
    parser.add_argument("--max_pictures", type=int, help="of each data set of the row tokenising")
    parser.add_argument("--epoch_pictures", type=int, default=60_000, help="pictures of the row epoch")
    parser.add_argument("--likelihood_pictures", type=int, default=8, help="pictures of the row likelihood")
    parser.add_argument("--prior_steps", type=int, default=400, help="training steps of each prior of the row sampling")
    parser.add_argument("--large_side", type=int, default=4096, help="pixels of the row large")
    parser.add_argument("--large_memory_gib", type=float, default=1.5, help="`memory_gib` of the row large")
    parser.add_argument("--tiny", action="store_true", help="shapes of no meaning, to see that the rows run")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "BENCHMARKS.md")
    parser.add_argument("--record", type=Path, default=ROOT / "docs" / "benchmarks.json")
    given = parser.parse_args(argv)
    unknown = [name for name in given.rows.split(",") if name not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]!r}; the rows: {', '.join(ROWS)}")
    if given.rounds < 1 or given.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    return given


def main(argv: list[str] | None = None) -> None:
    given = parse_arguments(argv)
    torch.set_num_threads(given.threads)
    keep_freed_memory()  # as our commands do; for all ways alike
    where = environment(given.threads)
    for name in given.rows.split(","):
        print(f"{name} ...", flush=True)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            cases = ROWS[name](given)
        store(given.record, name, " ".join((ROWS[name].__doc__ or "").split()), cases, where, given.rounds)
        for case in cases:
            for claim in case.claims:
                word = "passed" if claim.passed else "MISSED"
                print(f"  {word}  {case.title}: {claim.text} {claim.measured:.3g} ({claim.relation} {claim.wanted:g})")
        write_page(given.record, given.page, list(ROWS))


if __name__ == "__main__":
    main()
