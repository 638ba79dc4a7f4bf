# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The plain autoencoder: x -> encoder -> z -> decoder -> x'. Hinton & Salakhutdinov 2006."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .configuration_ae import AEConfig
from .forward_outputs import returns_what_is_asked
from .modeling_base import AutoencoderPreTrainedModel
from .noise import draw_normal


@dataclass
class AEEncoderOutput(ModelOutput):
    """`latents`: (B, latent_channels, h, w)."""

    latents: Tensor | None = None


@dataclass
class AEOutput(ModelOutput):
    """What a forward pass of the autoencoder gives.

    Args:
        loss: the negative log-likelihood, a scalar in nats per image.
        reconstruction: (B, C, H, W) on the [-1, 1] scale.
        negative_log_likelihood: -ln p(x|z), batch mean in nats per image.
        latents: (B, latent_channels, h, w).
        hidden_states: what enters the encoder's first block and what each block gives, if `output_hidden_states`.
    """

    loss: Tensor | None = None
    reconstruction: Tensor | None = None
    negative_log_likelihood: Tensor | None = None
    latents: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class AEModel(AutoencoderPreTrainedModel):
    """An autoencoder. Its latents follow no prior: between them lie gaps that decode to nothing.

    >>> model = AEModel(AEConfig(image_size=28, num_channels=1, backbone="mlp", latent_channels=2))
    >>> model.encode(torch.zeros(3, 1, 28, 28)).latents.shape
    torch.Size([3, 2, 1, 1])
    """

    config: AEConfig
    config_class = AEConfig

    def __init__(self, config: AEConfig):
        width = config.latent_channels
        super().__init__(config, encoder_width=width, latent_width=width, code_width=width, decoder_width=width)
        self.post_init()

    def encode(self, pixel_values: Tensor, return_dict: bool | None = None) -> AEEncoderOutput | tuple:
        """(B, C, H, W) in [-1, 1] -> `latents` (B, latent_channels, h, w)."""
        return self.as_return_type(AEEncoderOutput(latents=self.encode_pixels(pixel_values)), return_dict)

    @returns_what_is_asked
    def forward(
        self,
        pixel_values: Tensor,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        return_dict: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> AEOutput | tuple:
        """Reconstructs `pixel_values` (B, C, H, W) in [-1, 1]. `generator` is not used: nothing is drawn."""
        latents = self.encode_pixels(pixel_values)  # (B, D, h, w)
        logits = self.decode_latents(latents)  # (B, decoder_out_channels, H, W)
        loss = self.negative_log_likelihood(logits, pixel_values).mean() if return_loss else None
        return AEOutput(
            loss=loss, reconstruction=self.likelihood.mean(logits), negative_log_likelihood=loss, latents=latents
        )

    def draw_latents(self, num_images: int, generator: torch.Generator | None) -> Tensor:
        """From the Gaussian that `measure_latents` fitted to each channel of the training latents."""
        config = self.config
        if config.latents_mean is None or config.latents_std is None:
            raise ValueError(
                "An autoencoder has no prior to sample from until a Gaussian is fitted to its training latents: "
                "call `model.measure_latents(batches)` (`hf-autoencoders train` does it at its end)."
            )
        like = next(self.decoder.parameters())
        noise = draw_normal((num_images, config.latent_channels, *self.grid_size), like, generator)
        mean, std = (noise.new_tensor(values).view(1, -1, 1, 1) for values in (config.latents_mean, config.latents_std))
        return mean + std * noise

    def store_latent_statistics(self, mean: Tensor, variance: Tensor) -> None:
        super().store_latent_statistics(mean, variance)
        self.config.latents_mean = mean.tolist()
        self.config.latents_std = variance.sqrt().tolist()
