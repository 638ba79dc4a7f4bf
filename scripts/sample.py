# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Starts hf_autoencoders/commands/sample.py:  python scripts/sample.py --help"""

import sys

from hf_autoencoders.commands.sample import main


if __name__ == "__main__":
    sys.exit(main())
