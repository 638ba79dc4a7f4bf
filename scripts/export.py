# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Door to hf_autoencoders/commands/export.py:  python scripts/export.py --help"""

import os
import sys


os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin slow others down; read with torch

from hf_autoencoders.commands.export import main


if __name__ == "__main__":
    sys.exit(main())
