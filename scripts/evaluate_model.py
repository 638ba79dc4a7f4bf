# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Starts hf_autoencoders/commands/evaluate_model.py:  python scripts/evaluate_model.py --help"""

import sys

from hf_autoencoders.commands.evaluate_model import main


if __name__ == "__main__":
    sys.exit(main())
