# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Configuration of the discrete VAE."""

from huggingface_hub.dataclasses import strict

from .configuration_base import AutoencoderConfig
from .configuration_vqvae import validate_codebook


@strict
class DVAEConfig(AutoencoderConfig):
    """DALL-E's discrete VAE (Ramesh et al. 2021): each position holds a categorical over `codebook_size` codes.

    Args:
        codebook_size (`int`): K, the number of codes.
        codebook_dim (`int`): D, the width of the vector that stands for a code (DALL-E: 128).
        latent_channels (`int`, *optional*): `resnet` only: width of the encoder's output before `quant_conv`, and of
            the decoder's input behind `post_quant_conv`; `codebook_dim` when not given.
        logits_channels (`int`, *optional*): `resnet` only: width between `quant_conv` and a second 1x1 convolution that
            gives the logits, as in taming's GumbelVQ; when not given, `quant_conv` gives them.
        quantizer (`str`): `gumbel`, the only one.
        gumbel_temperature (`float`): tau of the relaxation when forward is given none (DALL-E: 1 to 1/16).
        hard (`bool`): one-hot samples in the forward pass, relaxed gradient. DALL-E is soft in both passes.
        kl_weight (`float`): beta beside sums in nats per image: DALL-E's 6.6 as it stands in the paper, since both of
            its terms are divided by the same H * W * C. (A per-position mean beside a per-element mean would need
            beta * h * w / (H * W * C).)

    >>> DVAEConfig(image_size=256, block_out_channels=[256, 512, 1024, 2048], codebook_size=8192).grid_size
    (32, 32)
    """

    model_type = "dvae"
    attribute_map = {"num_vq_embeddings": "codebook_size", "vq_embed_dim": "codebook_dim"}
    backbones = ("dalle", "conv", "resnet")

    backbone: str = "dalle"
    reconstruction_loss: str = "logit_laplace"
    codebook_size: int = 512
    codebook_dim: int = 64
    latent_channels: int | None = None
    logits_channels: int | None = None
    quantizer: str = "gumbel"
    gumbel_temperature: float | int = 1.0
    hard: bool = False
    kl_weight: float | int = 1.0

    @property
    def encoder_channels(self) -> int:
        """Width of the encoder's output before `quant_conv` of `resnet`."""
        return self.codebook_dim if self.latent_channels is None else self.latent_channels

    @property
    def codes_per_position(self) -> int:
        return 1

    @property
    def ignored_fields(self) -> frozenset[str]:
        of_resnet = {"latent_channels", "logits_channels"}
        return super().ignored_fields | (frozenset() if self.backbone == "resnet" else of_resnet)

    def validate_quantizer(self):
        validate_codebook(self.codebook_size, self.codebook_dim)
        if self.quantizer != "gumbel":
            raise ValueError(f"The quantizer of a dvae is `gumbel`, got {self.quantizer!r}; others belong to a vqvae.")
        if self.gumbel_temperature <= 0:
            raise ValueError(f"`gumbel_temperature` must be positive, got {self.gumbel_temperature}.")
        if self.kl_weight < 0:
            raise ValueError(f"`kl_weight` must be >= 0, got {self.kl_weight}.")
        if self.logits_channels is not None and (self.logits_channels < 1 or self.backbone != "resnet"):
            raise ValueError(
                f"`logits_channels` belongs to the `resnet` backbone and is at least 1, got {self.logits_channels} for "
                f"`{self.backbone}`."
            )
        if self.latent_channels is not None and self.latent_channels < 1:
            raise ValueError(f"`latent_channels` must be at least 1, got {self.latent_channels}.")
