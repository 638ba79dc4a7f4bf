# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Commands: each builds objects and calls one function. `scripts/` has a script that starts each of them."""
