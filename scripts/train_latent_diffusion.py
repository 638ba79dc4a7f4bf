# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Starts hf_autoencoders/commands/train_latent_diffusion.py:  python scripts/train_latent_diffusion.py --help"""

import sys

from hf_autoencoders.commands.train_latent_diffusion import main


if __name__ == "__main__":
    sys.exit(main())
