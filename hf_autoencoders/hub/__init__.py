# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Between this package and the Hugging Face Hub: cards, publishing, and other people's published weights."""
