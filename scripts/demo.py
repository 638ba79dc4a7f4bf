# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Starts hf_autoencoders/commands/demo.py:  python scripts/demo.py --help"""

import sys

from hf_autoencoders.commands.demo import main


if __name__ == "__main__":
    sys.exit(main())
