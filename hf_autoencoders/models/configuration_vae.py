# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Configuration of the variational autoencoder."""

from huggingface_hub.dataclasses import strict

from .configuration_base import AutoencoderConfig


@strict
class VAEConfig(AutoencoderConfig):
    """A VAE with a diagonal Gaussian posterior and the prior N(0, I).

    Args:
        latent_channels (`int`): latents a position; all of them for the `mlp` backbone.
        encoder_channels (`int`, *optional*): `resnet` only: what the encoder gives for mean and for log-variance before
            `quant_conv`, and what `post_quant_conv` gives the decoder; `latent_channels` when not given.
        kl_weight (`float`): beta, the weight of the KL in nats per image; 1 makes the loss the negative ELBO.
        learned_variance (`bool`): `mse` only: learn the Gaussian's variance, one number. With the variance 1 (False), a
            picture's error weighs so little beside the KL in nats that photographs come out as smears.
        num_importance_samples (`int`): k of the importance weighted bound (Burda et al. 2016) to train; 1 = ELBO.

    >>> VAEConfig(image_size=32).grid_size
    (8, 8)
    """

    model_type = "vae"

    latent_channels: int = 4
    encoder_channels: int | None = None
    kl_weight: float | int = 1.0
    learned_variance: bool = True
    num_importance_samples: int = 1

    @property
    def ignored_fields(self) -> frozenset[str]:
        return super().ignored_fields | (frozenset() if self.backbone == "resnet" else {"encoder_channels"})

    def validate_latents(self):
        if self.encoder_channels is not None and self.encoder_channels < 1:
            raise ValueError(f"`encoder_channels` must be at least 1, got {self.encoder_channels}.")
        if self.latent_channels < 1:
            raise ValueError(f"`latent_channels` must be at least 1, got {self.latent_channels}.")
        if self.kl_weight < 0:
            raise ValueError(f"`kl_weight` must be >= 0, got {self.kl_weight}.")
        if self.num_importance_samples < 1:
            raise ValueError(f"`num_importance_samples` must be at least 1, got {self.num_importance_samples}.")
        if self.num_importance_samples > 1 and self.kl_weight != 1:
            raise ValueError(
                f"The importance weighted bound has no KL term to weigh: `num_importance_samples`="
                f"{self.num_importance_samples} needs `kl_weight`=1, got {self.kl_weight}."
            )
