# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""encode_dataset.py that is killed (SIGKILL) at a chosen moment:  encode_and_die.py POINT NUMBER FLAGS ...

POINT half: the NUMBER-th shard is written beside its place, and not renamed yet.
POINT whole: it has just been renamed.
"""

import os
import signal
import sys

from training_runs import ROOT, load_script


def prepare_to_die(point: str, number: int):
    rename, shards = os.replace, []

    def counted(source: str, target: str):
        shards.extend([target] * str(target).endswith(".parquet"))
        its_turn = len(shards) == number
        if point == "half" and its_turn:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)
        if its_turn:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counted


if __name__ == "__main__":
    prepare_to_die(sys.argv[1], int(sys.argv[2]))
    sys.exit(load_script(ROOT / "scripts" / "encode_dataset.py").main(sys.argv[3:]))
