# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Models of image tokens: what a picture's codes look like, so that new pictures can be drawn."""
