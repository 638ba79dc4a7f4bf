# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The discrete VAE: x -> q(code|x) at each position -> relaxed one-hot -> x'. Ramesh et al. 2021 (DALL-E)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .configuration_dvae import DVAEConfig
from .forward_outputs import returns_what_is_asked
from .losses import kl_to_uniform
from .modeling_discrete import DiscreteAutoencoder, WithImageTokens
from .pointwise import PointwiseConv2d
from .precision import at_least_float32
from .quantizers import QUANTIZERS


@dataclass
class DVAEEncoderOutput(WithImageTokens, ModelOutput):
    """What `encode` gives.

    Args:
        latents: logits of q(code|x), (B, K, h, w).
        quantized: the mean code vector, probabilities times codebook, (B, D, h, w).
        image_tokens: the likeliest codes (B, h, w), int64.
    """

    latents: Tensor | None = None
    quantized: Tensor | None = None
    image_tokens: Tensor | None = None


@dataclass
class DVAEOutput(WithImageTokens, ModelOutput):
    """What a forward pass of the dVAE gives. Scalars are means over the batch.

    Args:
        loss: negative_log_likelihood + kl_weight * kl, in nats per image.
        reconstruction: (B, C, H, W) on the [-1, 1] scale.
        negative_log_likelihood: -ln p(x|codes), in nats per image.
        kl: KL(q(codes|x) || uniform), summed over the grid, in nats per image.
        perplexity: exp of the entropy of the likeliest codes in this batch, 1..K.
        codebook_usage: share of the K codes that are the likeliest somewhere in this batch, 0..1.
        latents: logits of the codes (B, K, h, w).
        image_tokens: the likeliest codes (B, h, w).
        hidden_states: what enters the encoder's first block and what each block gives, if `output_hidden_states`.
    """

    loss: Tensor | None = None
    reconstruction: Tensor | None = None
    negative_log_likelihood: Tensor | None = None
    kl: Tensor | None = None
    perplexity: Tensor | None = None
    codebook_usage: Tensor | None = None
    latents: Tensor | None = None
    image_tokens: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class DVAEModel(DiscreteAutoencoder):
    """A dVAE; the vectors that stand for its codes are `model.quantize.embedding.weight`, (K, D).

    >>> model = DVAEModel(DVAEConfig(image_size=28, num_channels=1, codebook_size=32))
    >>> model(torch.zeros(2, 1, 28, 28), temperature=0.5, kl_weight=6.6).image_tokens.shape
    torch.Size([2, 7, 7])
    """

    config: DVAEConfig
    config_class = DVAEConfig
    interpolates_unquantized = True  # the path lies in probabilities

    def __init__(self, config: DVAEConfig):
        width = config.encoder_channels
        latent_width = config.codebook_size if config.logits_channels is None else config.logits_channels
        super().__init__(config, width, latent_width, config.codebook_dim, decoder_width=width)
        has_own_width = config.logits_channels is not None
        self.logits_conv = PointwiseConv2d(latent_width, config.codebook_size, 1) if has_own_width else None
        self.quantize = QUANTIZERS[config.quantizer](config)
        self.post_init()

    def encode_pixels(self, pixel_values: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> logits of codes (B, K, h, w)."""
        latents = super().encode_pixels(pixel_values)
        return latents if self.logits_conv is None else self.logits_conv(latents)

    def encode(self, pixel_values: Tensor, return_dict: bool | None = None) -> DVAEEncoderOutput | tuple:
        """(B, C, H, W) in [-1, 1] -> `latents` (logits of codes), `quantized` (mean code vector), `image_tokens`."""
        code_logits = self.encode_pixels(pixel_values)  # (B, K, h, w)
        output = DVAEEncoderOutput(latents=code_logits, image_tokens=code_logits.argmax(1))
        if not self.config.encoder_only:  # an encoder alone has no code vectors
            quantized = self.quantize.mix(at_least_float32(code_logits).softmax(1))  # (B, D, h, w)
            output.quantized = quantized.to(code_logits.dtype)
        return self.as_return_type(output, return_dict)

    @returns_what_is_asked
    def forward(
        self,
        pixel_values: Tensor,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        return_dict: bool | None = None,
        output_hidden_states: bool | None = None,
        *,
        temperature: float | None = None,
        kl_weight: float | None = None,
        hard: bool | None = None,
    ) -> DVAEOutput | tuple:
        """Reconstructs `pixel_values` (B, C, H, W) in [-1, 1] and weighs the ELBO.

        Args:
            generator: draws the Gumbel noise; a list has one for each picture; the global state if None.
            temperature: tau of the relaxation; the config's `gumbel_temperature` if None.
            kl_weight: beta of this step; the config's value if None.
            hard: True decodes one-hot samples of q (gradient of the relaxation), False relaxed ones. None is the
                config's value in training, and the likeliest code, without any noise, in eval.
        """
        config = self.config
        if hard is None and self.training:
            hard = config.hard
        code_logits = self.encode_pixels(pixel_values)  # (B, K, h, w)
        temperature = config.gumbel_temperature if temperature is None else temperature
        quantized = self.quantize(code_logits, temperature, hard, generator)  # .latents (B, D, h, w)   .codes (B, h, w)
        logits = self.decode_latents(quantized.latents)  # (B, decoder_out_channels, H, W)
        return DVAEOutput(
            **(self.losses(code_logits, logits, pixel_values, kl_weight) if return_loss else {}),
            reconstruction=self.likelihood.mean(logits),
            perplexity=quantized.perplexity,
            codebook_usage=quantized.codebook_usage,
            latents=code_logits,
            image_tokens=quantized.codes,
        )

    def losses(self, code_logits, logits, pixel_values, kl_weight: float | None) -> dict[str, Tensor]:
        """The negative ELBO with beta on the KL to uniform codes, and its terms, in nats per image."""
        kl_weight = self.config.kl_weight if kl_weight is None else kl_weight
        nll, kl = self.negative_log_likelihood(logits, pixel_values).mean(), kl_to_uniform(code_logits).mean()
        return {"loss": nll + kl_weight * kl, "negative_log_likelihood": nll, "kl": kl}

    def loss_terms(self) -> dict[str, float]:
        return {**super().loss_terms(), "kl to uniform codes [nats per image]": self.config.kl_weight}

    def float_latents_to_decode(self, latents: Tensor, force_not_quantize: bool) -> Tensor:
        """K channels: logits, or probabilities if `force_not_quantize`. D channels: code vectors. K wins over D."""
        channels, config = latents.shape[1], self.config
        if channels == config.codebook_size:
            if force_not_quantize:
                return self.quantize.mix(latents)
            return self.quantize.get_codebook_entry(latents.argmax(1))
        if channels == config.codebook_dim:
            return latents
        raise ValueError(
            f"Float latents of this dvae have {config.codebook_size} channels (logits or probabilities of codes) or "
            f"{config.codebook_dim} (code vectors), got shape {tuple(latents.shape)}."
        )

    def latents_to_interpolate(self, pixel_values: Tensor) -> Tensor:
        """Probabilities of the codes (B, K, h, w)."""
        return at_least_float32(self.encode_pixels(pixel_values)).softmax(1)

    @torch.no_grad()
    def get_codebook_probs(self, pixel_values: Tensor, temperature: float = 1.0) -> Tensor:
        """q(code|x) of each position at a temperature: (B, h*w, K), float32."""
        code_logits = at_least_float32(self.encode_pixels(pixel_values))
        return (code_logits / temperature).softmax(1).flatten(2).transpose(1, 2)

    def store_latent_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Logits are no space for a diffusion model; `scaling_factor` stays 1."""
