# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Old place of `hf_autoencoders.hub.compat`; goes in 0.4."""

import warnings

from .hub.compat import *  # noqa: F403


warnings.warn("hf_autoencoders.compat is now hf_autoencoders.hub.compat.", DeprecationWarning, stacklevel=2)
