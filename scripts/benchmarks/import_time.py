# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What `import hf_autoencoders` costs beside transformers itself:  python scripts/benchmarks/import_time.py [--runs 15]

Fresh processes, the two imports in turn, so that a busy machine slows both alike.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
TRANSFORMERS = """
from transformers import AutoConfig, AutoImageProcessor, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.image_processing_backends import PilBackend
"""
OURS = "import hf_autoencoders"
LIMIT = 0.3  # seconds


def seconds_to_run(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    return time.perf_counter() - start


def measure(runs: int) -> tuple[float, float]:
    """Medians in seconds: (transformers alone, our package)."""
    seconds_to_run(OURS)  # writes the byte code
    pairs = [(seconds_to_run(TRANSFORMERS), seconds_to_run(OURS)) for _ in range(runs)]
    theirs, ours = zip(*pairs, strict=True)
    return statistics.median(theirs), statistics.median(ours)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="processes for each of the two imports")
    theirs, ours = measure(parser.parse_args().runs)
    print(f"transformers {theirs:.3f} s, hf_autoencoders {ours:.3f} s: {ours - theirs:+.3f} s (limit {LIMIT} s)")
    sys.exit(ours - theirs > LIMIT)


if __name__ == "__main__":
    main()
