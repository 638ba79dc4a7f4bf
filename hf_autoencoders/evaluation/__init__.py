# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Metrics and plots of a trained model. They use the contract of a model only, and name no model class."""
