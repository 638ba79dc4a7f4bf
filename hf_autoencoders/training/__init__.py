# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training: `parse_arguments` -> `build_run` -> `train` -> `save_results`."""
