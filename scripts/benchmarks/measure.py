# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Time of several ways to do one thing, in turn, so that a busy machine slows all of them alike."""

import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Timing:
    """Milliseconds of each round: CPU time of the process and of those it started, and wall time."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of CPU time, which other programs disturb less than wall time."""
        return statistics.median(self.cpu)


@dataclass
class Claim:
    """`measured` against `wanted`, of which it is to be `>=` or `<=`."""

    text: str
    measured: float
    relation: str
    wanted: float
    unit: str = "x"

    @property
    def passed(self) -> bool:
        return self.measured >= self.wanted if self.relation == ">=" else self.measured <= self.wanted


@dataclass
class Case:
    """One comparison of a row: its ways by name, the first of which is ours; a way that is not installed is None."""

    title: str
    timings: dict[str, Timing | None]
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def ratio(self, other: str, to: str = "ours") -> float | None:
        """How often `to` goes into `other`: medians of CPU time. None where one of them is absent."""
        if self.timings.get(other) is None or self.timings.get(to) is None:
            return None
        return self.timings[other].median / self.timings[to].median

    def claim(self, text: str, measured: float | None, relation: str, wanted: float, unit: str = "x") -> None:
        if measured is not None:
            self.claims.append(Claim(text, float(measured), relation, wanted, unit))

    def to_dict(self) -> dict:
        return asdict(self)


def cpu_seconds() -> float:
    """Of this process, all threads, and of its children that ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def interleaved(ways: dict[str, Callable | None], rounds: int, warm_up: int = 1) -> dict[str, Timing | None]:
    """Times of each way in each round. A way that is None is not installed."""
    timings = {name: None if way is None else Timing() for name, way in ways.items()}
    for number in range(rounds + warm_up):
        for name, way in ways.items():
            if way is None:
                continue
            wall, cpu = time.perf_counter(), cpu_seconds()
            way()
            if number >= warm_up:
                timings[name].cpu.append(1e3 * (cpu_seconds() - cpu))
                timings[name].wall.append(1e3 * (time.perf_counter() - wall))
    return timings


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def in_fresh_process(code: str, *arguments: object, tree: Path = ROOT) -> tuple[str, int]:
    """Runs Python `code` in a process of its own that imports the package of `tree`: (what it prints, peak KiB)."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    said, complained = process.communicate()
    if process.returncode:
        raise RuntimeError(f"a process of a benchmark ended with {process.returncode}: {complained[-2000:]}")
    *lines, peak = said.splitlines() or ["0"]
    return "\n".join(lines), int(peak) if peak.isdigit() else 0
