# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Nets whose input are pictures: feature nets, perceptual distances, discriminators."""
