# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Measures of a trained model. Whatever keeps the contract of a model can be measured; no class is named here."""
