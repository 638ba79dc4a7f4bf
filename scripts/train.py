# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Starts hf_autoencoders/commands/train.py:  python scripts/train.py --help"""

import sys

from hf_autoencoders.commands.train import main


if __name__ == "__main__":
    sys.exit(main())
