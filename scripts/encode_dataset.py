# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Starts hf_autoencoders/commands/encode_dataset.py:  python scripts/encode_dataset.py --help"""

import sys

from hf_autoencoders.commands.encode_dataset import main


if __name__ == "__main__":
    sys.exit(main())
