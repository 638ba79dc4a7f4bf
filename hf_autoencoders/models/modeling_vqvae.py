# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The VQ-VAE: x -> z_e -> nearest codes -> z_q -> x'. Van den Oord, Vinyals & Kavukcuoglu 2017."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .configuration_vqvae import VQVAEConfig
from .forward_outputs import returns_what_is_asked
from .modeling_discrete import DiscreteAutoencoder, WithImageTokens
from .precision import float32_island
from .quantizers import QUANTIZERS


@dataclass
class VQVAEEncoderOutput(WithImageTokens, ModelOutput):
    """What `encode` gives.

    Args:
        latents: z_e, the encoder's output, (B, D, h, w).
        quantized: z_q, the chosen code vectors, (B, D, h, w).
        image_tokens: their indices (B, h, w), int64; (B, h, w, depth) for `residual`.
    """

    latents: Tensor | None = None
    quantized: Tensor | None = None
    image_tokens: Tensor | None = None


@dataclass
class VQVAEOutput(WithImageTokens, ModelOutput):
    """What a forward pass of the VQ-VAE gives. Scalars are means over the batch (codebook statistics: over all
    processes' batches while training).

    Args:
        loss: reconstruction_loss + codebook_loss + commitment_cost * commitment_loss.
        reconstruction: (B, C, H, W) on the [-1, 1] scale.
        negative_log_likelihood: -ln p(x|z_q) in nats per image.
        kl: KL to the uniform prior: the number of codes times ln K, in nats per image.
        reconstruction_loss: per-element mean of the error on [0, 1] pixels, divided by `data_variance` for `mse`.
        codebook_loss: mean of (sg[z_e] - e)^2 over elements; 0 where the codebook is no parameter.
        commitment_loss: mean of (z_e - sg[e])^2 over elements, not yet weighted.
        perplexity: exp of the entropy of the codes used in this batch, 1..K.
        codebook_usage: share of the K codes used in this batch, 0..1.
        norm_ratio: mean length of z_e over mean length of the chosen codes; far from 1 it is a warning.
        latents: z_e (B, D, h, w).
        image_tokens: (B, h, w), or (B, h, w, depth).
        hidden_states: what enters the encoder's first block and what each block gives, if `output_hidden_states`.
    """

    loss: Tensor | None = None
    reconstruction: Tensor | None = None
    negative_log_likelihood: Tensor | None = None
    kl: Tensor | None = None
    reconstruction_loss: Tensor | None = None
    codebook_loss: Tensor | None = None
    commitment_loss: Tensor | None = None
    perplexity: Tensor | None = None
    codebook_usage: Tensor | None = None
    norm_ratio: Tensor | None = None
    latents: Tensor | None = None
    image_tokens: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


class VQVAEModel(DiscreteAutoencoder):
    """A VQ-VAE; its codebook is `model.quantize.embedding.weight`, (K, D).

    >>> VQVAEModel(VQVAEConfig(image_size=32)).get_image_tokens(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 8, 8])
    """

    config: VQVAEConfig
    config_class = VQVAEConfig
    loss_per_element = True

    def __init__(self, config: VQVAEConfig):
        width, code_width = config.encoder_channels, config.codebook_dim
        super().__init__(config, width, code_width, code_width, decoder_width=width)
        self.quantize = QUANTIZERS[config.quantizer](config)
        self.post_init()

    def encode(self, pixel_values: Tensor, return_dict: bool | None = None) -> VQVAEEncoderOutput | tuple:
        """(B, C, H, W) in [-1, 1] -> `latents` z_e, `quantized` z_q and `image_tokens`; never moves the codebook."""
        z_e = self.encode_pixels(pixel_values)  # (B, D, h, w)
        codes = self.quantize.encode(z_e)  # (B, h, w)
        quantized = self.quantize.get_codebook_entry(codes)  # (B, D, h, w)
        output = VQVAEEncoderOutput(latents=z_e, quantized=quantized.to(z_e.dtype), image_tokens=codes)
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
        commitment_cost: float | None = None,
    ) -> VQVAEOutput | tuple:
        """Reconstructs `pixel_values` (B, C, H, W) in [-1, 1]; in training the codebook follows.

        Args:
            generator: not used: nothing is drawn.
            commitment_cost: beta of this step; the config's value if None.
        """
        z_e = self.encode_pixels(pixel_values)  # (B, D, h, w)
        self.quantize.hold_still(self.codebook_holds_still)
        quantized = self.quantize(z_e)  # .latents (B, D, h, w)   .codes (B, h, w)
        logits = self.decode_latents(quantized.latents)  # (B, decoder_out_channels, H, W)
        return VQVAEOutput(
            **(self.losses(quantized, logits, pixel_values, commitment_cost) if return_loss else {}),
            reconstruction=self.likelihood.mean(logits),
            perplexity=quantized.perplexity,
            codebook_usage=quantized.codebook_usage,
            norm_ratio=quantized.norm_ratio,
            latents=z_e,
            image_tokens=quantized.codes,
        )

    def losses(self, quantized, logits, pixel_values, commitment_cost: float | None) -> dict[str, Tensor]:
        """reconstruction + codebook + beta * commitment (equation 3), and the likelihood in nats beside it."""
        beta = self.config.commitment_cost if commitment_cost is None else commitment_cost
        codebook_weight, commitment_weight = (beta, 1.0) if self.config.legacy_commitment else (1.0, beta)
        reconstruction_loss = self.training_error(logits, pixel_values)
        codebook_loss, commitment_loss = quantized.codebook_loss, quantized.commitment_loss
        return {
            "loss": reconstruction_loss + codebook_weight * codebook_loss + commitment_weight * commitment_loss,
            "negative_log_likelihood": self.negative_log_likelihood(logits, pixel_values).mean(),
            "kl": self.kl_to_uniform_prior(quantized.codes),
            "reconstruction_loss": reconstruction_loss,
            "codebook_loss": codebook_loss,
            "commitment_loss": commitment_loss,
        }

    def training_error(self, logits: Tensor, pixel_values: Tensor) -> Tensor:
        """The reconstruction term on its published scale, a scalar: per element, `mse` over the data's variance."""
        with float32_island(logits):
            error = self.likelihood.training_error(logits, (pixel_values + 1) / 2)
        return error / self.config.data_variance if self.config.reconstruction_loss == "mse" else error

    def kl_to_uniform_prior(self, codes: Tensor) -> Tensor:
        """ln K for each code: q(z|x) is one-hot, the prior uniform. A scalar in nats per image."""
        nats = codes[0].numel() * math.log(self.codebook_size)
        return torch.full((), nats, device=codes.device)

    def loss_terms(self) -> dict[str, float]:
        config = self.config
        scale = 1 / config.data_variance if config.reconstruction_loss == "mse" else 1.0
        beta = config.commitment_cost
        codebook, commitment = (beta, 1.0) if config.legacy_commitment else (1.0, beta)
        return {
            f"{config.reconstruction_loss} [mean over elements]": scale,
            "codebook_loss [mean over elements]": codebook,
            "commitment_loss [mean over elements]": commitment,
        }

    def float_latents_to_decode(self, latents: Tensor, force_not_quantize: bool) -> Tensor:
        """z_e (B, D, h, w) -> its nearest code vectors, or itself."""
        if latents.shape[1] != self.config.codebook_dim:
            raise ValueError(
                f"Latents of this vqvae have shape (B, {self.config.codebook_dim}, h, w), got {tuple(latents.shape)}."
            )
        return latents if force_not_quantize else self.quantize.get_codebook_entry(self.quantize.encode(latents))

    @torch.no_grad()
    def get_codebook_probs(self, pixel_values: Tensor, temperature: float = 1.0) -> Tensor:
        """softmax(-||z_e - e_k||^2 / temperature) over the codes: (B, h*w, K), float32."""
        z_e = self.encode_pixels(pixel_values)
        return self.quantize.log_affinities(z_e).div(temperature).softmax(-1)

    @torch.no_grad()
    def initialize_from_data(self, pixel_values: Tensor) -> None:
        """Sets the codebook by k-means on the latents of `pixel_values` (B, C, H, W), over all processes.

        The same on every process. Does nothing where the codebook starts uniform or is set already.
        """
        self.quantize.hold_still(self.codebook_holds_still)
        if self.quantize.wants_data and not self.codebook_holds_still:
            latents = [self.encode_pixels(part) for part in pixel_values.split(64)]
            self.quantize.initialize_from_data(torch.cat(latents))
