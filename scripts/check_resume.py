# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Kill training at random moments, resume, compare bit by bit with a run that nobody disturbed:

    python scripts/check_resume.py --moments 20 [--processes 2] [-- FLAGS OF train.py]

A run is killed with SIGKILL (its whole process group) at a moment drawn uniformly from its expected duration, start-up
included, and resumed with --resume latest; a resumed run is killed again while moments are left. Each run that was
brought to its end must equal the undisturbed one: model, optimizer, codebook, averages, random states, logged losses.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


SCRIPT = Path(__file__).resolve().parent / "train.py"
FLAGS = [
    *("--block_out_channels", "16", "16", "--codebook_size", "32", "--codebook_dim", "8", "--train_batch_size", "32"),
    *(
        "--max_train_steps",
        "400",
        "--checkpointing_steps",
        "25",
        "--checkpoints_total_limit",
        "3",
        "--eval_steps",
        "150",
    ),
    *("--logging_steps", "10", "--num_threads", "1", "--random_crop", "1", "--ema_weights", "0.99"),
    *("--lr_scheduler", "cosine"),
]
CLOCKS = ("images_per_second",)  # in the log, beside what the training decides


def command(flags: list[str], processes: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), str(SCRIPT), *flags]


def start(flags: list[str], processes: int) -> subprocess.Popen:
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(flags, processes),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen):
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"check_resume.py: train.py ended with {process.returncode}: {errors.decode()[-2000:]}")


def kill_at_random(process: subprocess.Popen, duration: float, rng: random.Random) -> float | None:
    """Seconds after which the group was killed; None if the run was done before."""
    moment = rng.uniform(0, duration)
    try:
        process.communicate(timeout=moment)
        return None
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return moment


def steps_saved(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("checkpoints/checkpoint-*"))


def log_of(folder: Path) -> list[dict]:
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name not in CLOCKS} for line in lines]


def differences(folder: Path, whole: Path) -> list[str]:
    """Names of what is not equal to the last bit."""
    last = f"checkpoint-{steps_saved(whole)[-1]:08d}"
    files = [path.relative_to(whole) for path in (whole / "checkpoints" / last).iterdir()]
    files = [path for path in files if path.name not in ("manifest.json", "state.json")]  # hold seconds
    files.append(Path("model.safetensors"))
    unequal = [str(path) for path in files if (folder / path).read_bytes() != (whole / path).read_bytes()]
    return unequal + ([] if log_of(folder) == log_of(whole) else ["metrics.jsonl"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="how often to kill")
    parser.add_argument("--processes", type=int, default=1, help="that train together (gloo)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("flags", nargs="*", help="of train.py, in place of the built-in small run")
    arguments = parser.parse_args()
    rng, killed = random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as place:
        whole = Path(place) / "whole"
        flags = list(arguments.flags or FLAGS)
        began = time.monotonic()
        finish(start([*flags, "--output_dir", str(whole)], arguments.processes))
        duration = time.monotonic() - began
        print(f"undisturbed: {duration:.0f} s, checkpoints {steps_saved(whole)}", flush=True)
        for number in range(arguments.moments):
            folder, mine = Path(place) / f"run-{number}", [*flags, "--resume", "latest"]
            while killed < arguments.moments:
                moment = kill_at_random(start([*mine, "--output_dir", str(folder)], arguments.processes), duration, rng)
                if moment is None:
                    break
                killed += 1
                print(f"  kill {killed:2d} after {moment:5.1f} s: checkpoints {steps_saved(folder)}", flush=True)
            finish(start([*mine, "--output_dir", str(folder)], arguments.processes))
            unequal = differences(folder, whole)
            print(
                f"run {number}: {'NOT EQUAL: ' + ', '.join(unequal) if unequal else 'equal to the last bit'}",
                flush=True,
            )
            if unequal:
                sys.exit(1)
            if killed >= arguments.moments:
                break
    print(f"{killed} kills, all resumed bit for bit on {arguments.processes} process(es)")


if __name__ == "__main__":
    main()
