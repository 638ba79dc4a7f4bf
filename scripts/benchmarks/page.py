# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""docs/BENCHMARKS.md from docs/benchmarks.json, which holds each row as it was measured last."""

import json
import os
import platform
import subprocess
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from measure import ROOT, Case


PACKAGES = ("torch", "transformers", "diffusers", "vector-quantize-pytorch", "pythae", "onnxruntime", "numpy")
HEAD = """# Benchmarks

<!-- Written by scripts/benchmarks/run.py from docs/benchmarks.json; edits are lost. -->

Ours beside the code that people use: both in one run, in turn, the same threads and the same weights or shapes. Figures
are CPU milliseconds of all threads, since other programs disturb wall time more: the median and the fastest of the
rounds, and the median of wall time beside them. `x` says how often our median goes into another's. Each row names the
commit and the versions it was measured with; a figure that misses its target says so.

```
pip install -e .[bench,onnx]
python scripts/benchmarks/run.py                        # everything
python scripts/benchmarks/run.py --rows lookup,encode   # these rows; the others stay
```
"""


def environment(threads: int) -> dict[str, str]:
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    versions = []
    for package in PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            versions.append(f"{package} absent")
    return {
        "commit": commit.stdout.strip() or "unknown",
        "date": date.today().isoformat(),
        "machine": f"{processor()}, {threads} of {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": ", ".join(versions),
    }


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def store(record: Path, name: str, title: str, cases: list[Case], where: dict[str, str], rounds: int) -> None:
    rows = json.loads(record.read_text()) if record.exists() else {}
    passed = [case.to_dict() | {"passed": [claim.passed for claim in case.claims]} for case in cases]
    rows[name] = {"title": title, "cases": passed, "rounds": rounds, **where}
    record.write_text(json.dumps(rows, indent=1) + "\n")


def write_page(record: Path, page: Path, order: list[str]) -> None:
    rows = json.loads(record.read_text())
    present = [name for name in order if name in rows]
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join([HEAD, *summary(rows, present), *(section(name, rows[name]) for name in present)]))


def summary(rows: dict, present: list[str]) -> list[str]:
    lines = ["| row | what | measured | to reach | |", "|---|---|---:|---:|---|"]
    for name in present:
        for case in rows[name]["cases"]:
            for claim, passed in zip(case["claims"], case["passed"], strict=True):
                measured, wanted = (figure(claim[key]) + claim["unit"] for key in ("measured", "wanted"))
                verdict = "passed" if passed else "**missed**"
                what = f"{case['title']}: {claim['text']}"
                lines.append(f"| [{name}](#{name}) | {what} | {measured} | {claim['relation']} {wanted} | {verdict} |")
    return [*lines, ""]


def section(name: str, row: dict) -> str:
    lines = [f"## {name}", "", row["title"], ""]
    lines.append(f"Commit {row['commit']}, {row['date']}, {row['rounds']} rounds. {row['machine']}; {row['versions']}.")
    for case in row["cases"]:
        lines += ["", f"**{case['title']}**"]
        if case["timings"]:
            lines += ["", "| | CPU ms, median | fastest | wall ms, median | |", "|---|---:|---:|---:|---|"]
            lines += [timing_line(way, timing, case["timings"]) for way, timing in case["timings"].items()]
        lines += [line for note in case["notes"] for line in ("", note)]
    return "\n".join([*lines, ""])


def timing_line(way: str, timing: dict | None, every: dict) -> str:
    if timing is None:
        return f"| {way} | not installed | | | |"
    first = next(iter(every.values()))
    ratio = median(timing["cpu"]) / median(first["cpu"])
    times = f"{figure(median(timing['cpu']))} | {figure(min(timing['cpu']))} | {figure(median(timing['wall']))}"
    return f"| {way} | {times} | {'' if timing is first else f'{ratio:.2f} x'} |"


def figure(value: float) -> str:
    """
    >>> figure(1234.5), figure(0.123456), figure(3.0)
    ('1,234', '0.123', '3')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
