# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Kill training at random moments, resume, and compare the folder byte by byte with that of an unbroken run:

    python scripts/check_resume.py --moments 20 [--processes 2] [-- FLAGS OF train.py]

A run is killed with SIGKILL, launcher and workers, and resumed with --resume latest. After one to four kills it may run
to its end. A kill waits for an event and not for a time, so that a busy machine changes nothing: the start of the run,
a line of its log, the writing of a checkpoint, the saving and evaluation at the end. Then everything in the folder
except times and commands must equal that of the unbroken run: model, config.json, checkpoints, log, metrics, pictures.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from os import environ
from pathlib import Path
from typing import Any

import psutil


SCRIPT = Path(__file__).resolve().parent / "train.py"
FLAGS = [
    *("--block_out_channels", "16", "16", "--codebook_size", "32", "--codebook_dim", "8", "--train_batch_size", "32"),
    *("--max_train_steps", "200", "--checkpointing_steps", "25", "--checkpoints_total_limit", "3"),
    *("--eval_steps", "80", "--logging_steps", "10", "--num_threads", "1", "--random_crop", "1"),
    *("--ema_weights", "0.99", "--lr_scheduler", "cosine"),
]
MOST_KILLS = 4  # of one run, before it may run to its end
POLL = 0.002  # seconds between two checks of the folder
# Entries that depend on a clock, a path or the command line.
FREE = {
    "metrics.jsonl": {"images_per_second"},
    "metrics.json": {"seconds", "date", "command"},
    "state.json": {"seconds", "output_dir", "resume"},
    "manifest.json": {"state.json"},  # its checksum
}


# -- runs --------------------------------------------------------------------------------------------------------------


def start(flags: list[str], folder: Path, processes: int) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(SCRIPT), *flags]
    errors = open(folder.with_suffix(".stderr"), "wb")  # noqa: SIM115  (a pipe that nobody reads would fill up)
    return subprocess.Popen(
        [*command, "--output_dir", str(folder), "--resume", "latest"],
        env={**environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )


def finish(process: subprocess.Popen, folder: Path) -> None:
    if process.wait():
        errors = folder.with_suffix(".stderr").read_text(errors="replace")
        sys.exit(f"check_resume.py: train.py ended with {process.returncode}: {errors[-2000:]}")


def kill_all(process: subprocess.Popen, folder: Path) -> None:
    """Kills the launcher and all that it started: torchrun gives each worker a process group of its own."""
    launcher = psutil.Process(process.pid)
    launcher.send_signal(signal.SIGSTOP)  # it starts nothing any more
    group = [*launcher.children(recursive=True), launcher]
    for one in group:
        one.kill()
    process.wait()
    _, alive = psutil.wait_procs(group, timeout=60)
    orphans = [one.pid for one in psutil.process_iter(["cmdline"]) if str(folder) in (one.info["cmdline"] or [])]
    if alive or orphans:
        sys.exit(f"check_resume.py: processes survived the kill: {[one.pid for one in alive]}, {orphans}")


# -- moments -----------------------------------------------------------------------------------------------------------


def lines_of_log(folder: Path) -> int:
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def steps_saved(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoints/checkpoint-*"))


def choose(folder: Path, whole: Path, duration: float, rng: random.Random) -> tuple[tuple, Callable]:
    """Returns ((kind, number) of the event that a kill waits for, a test for it). `duration`: seconds of a run."""
    began, last = time.monotonic(), steps_saved(whole)[-1]
    lines, wanted = lines_of_log(folder), lines_of_log(whole)
    delay = rng.uniform(0, duration / 2)
    line = rng.randint(min(lines, wanted - 1) + 1, wanted)
    step = rng.uniform(max(steps_saved(folder), default=0), last)
    late = rng.uniform(0, 1.5)

    def at_the_end() -> bool:
        nonlocal began
        if last not in steps_saved(folder) and not (folder / ".saving").exists():
            began = time.monotonic()
        return time.monotonic() - began > late

    return rng.choice(
        [
            (("seconds after the start", round(delay, 1)), lambda: time.monotonic() - began > delay),
            (("line of the log", line), lambda: lines_of_log(folder) >= line),
            (("line of the log", line), lambda: lines_of_log(folder) >= line),
            (
                ("step of a checkpoint while it is written", round(step)),
                lambda: (folder / "checkpoints/.writing").exists() and lines_of_log(folder) / wanted > step / last,
            ),
            (("seconds after the last checkpoint", round(late, 1)), at_the_end),
        ]
    )


def kill_at(process: subprocess.Popen, folder: Path, has_come: Callable[[], bool]) -> bool:
    """Kills the run at the event. False if the run ended before it."""
    while process.poll() is None:
        if has_come():
            kill_all(process, folder)
            return True
        time.sleep(POLL)
    finish(process, folder)
    return False


# -- comparison --------------------------------------------------------------------------------------------------------


def differences(folder: Path, whole: Path) -> list[str]:
    """Names of files that only one of the folders has, or that are not equal to the last bit."""
    here, there = ({path.relative_to(place) for path in place.rglob("*")} for place in (folder, whole))
    unequal = {f"{path} (only in one)" for path in here ^ there}
    unequal |= {str(path) for path in here & there if content(folder / path) != content(whole / path)}
    return sorted(unequal)


def content(path: Path) -> Any:
    """The part of a file that must be equal."""
    if path.is_dir():
        return None
    if path.name == "arguments.yaml":
        return path.read_text().splitlines()[1:]  # the first one names the folder
    if path.name not in FREE:
        return path.read_bytes()
    texts = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    return [without(json.loads(text), FREE[path.name]) for text in texts]


def without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: without(inner, names) for name, inner in value.items() if name not in names}
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="how often to kill")
    parser.add_argument("--processes", type=int, default=1, help="that train together (gloo)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("flags", nargs="*", help="flags of train.py, in place of the built-in small run")
    arguments = parser.parse_args()
    rng, kinds, compared = random.Random(arguments.seed), Counter(), 0
    with tempfile.TemporaryDirectory() as place:
        whole, flags = Path(place) / "whole", list(arguments.flags or FLAGS)
        began = time.monotonic()
        finish(start(flags, whole, arguments.processes), whole)
        duration = time.monotonic() - began
        print(f"undisturbed: {duration:.0f} s, checkpoints {steps_saved(whole)}", flush=True)
        while kinds.total() < arguments.moments:
            folder = Path(place) / f"run-{compared}"
            for _ in range(min(rng.randint(1, MOST_KILLS), arguments.moments - kinds.total())):
                what, has_come = choose(folder, whole, duration, rng)
                if not kill_at(start(flags, folder, arguments.processes), folder, has_come):
                    break
                kinds[what[0]] += 1
                print(f"  kill {kinds.total():2d}, {what[0]} {what[1]}: checkpoints {steps_saved(folder)}", flush=True)
            finish(start(flags, folder, arguments.processes), folder)
            unequal = differences(folder, whole)
            print(f"run {compared}: {'NOT EQUAL: ' + ', '.join(unequal) if unequal else 'equal'}", flush=True)
            compared += 1
            if unequal:
                sys.exit(1)
    print(
        f"{kinds.total()} kills, {compared} runs brought to their end, all folders equal to the last bit on "
        f"{arguments.processes} process(es): {dict(kinds)}"
    )


if __name__ == "__main__":
    main()
