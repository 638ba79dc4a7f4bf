# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Nets that look at pictures: feature nets, perceptual distances, discriminators."""
