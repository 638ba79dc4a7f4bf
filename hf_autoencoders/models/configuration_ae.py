# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Configuration of the plain autoencoder."""

from huggingface_hub.dataclasses import strict

from .configuration_base import AutoencoderConfig


@strict
class AEConfig(AutoencoderConfig):
    """An autoencoder without a prior.

    Args:
        latent_channels (`int`): numbers a position; all of them for the `mlp` backbone.

    >>> AEConfig(image_size=28, num_channels=1, backbone="mlp", latent_channels=2).grid_size
    (1, 1)
    """

    model_type = "ae"

    latent_channels: int = 4

    def validate_latents(self):
        if self.latent_channels < 1:
            raise ValueError(f"`latent_channels` must be at least 1, got {self.latent_channels}.")
