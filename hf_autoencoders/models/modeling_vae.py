# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The variational autoencoder: x -> q(z|x) = N(mean, std^2) -> z -> p(x|z). Kingma & Welling 2014."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .configuration_vae import VAEConfig
from .forward_outputs import returns_what_is_asked
from .losses import gaussian_log_density, kl_to_standard_normal, standard_normal_log_density
from .modeling_base import AutoencoderPreTrainedModel
from .noise import draw_noise, draw_normal
from .precision import at_least_float32


MIN_LOGVAR, MAX_LOGVAR = -30.0, 20.0  # exp stays finite in float16's range of gradients; diffusers' bounds


class DiagonalGaussian:
    """The posterior q(z|x) = N(mean, diag(std^2)).

    Args:
        parameters: (B, 2 z, h, w): mean in the first half of the channels, log-variance in the second.
    """

    def __init__(self, parameters: Tensor):
        self.parameters = parameters
        self.mean, logvar = parameters.chunk(2, dim=1)  # (B, z, h, w) each
        self.logvar = logvar.clamp(MIN_LOGVAR, MAX_LOGVAR)

    @property
    def std(self) -> Tensor:
        return (0.5 * self.logvar).exp()

    def sample(self, generator: torch.Generator | list[torch.Generator] | None = None) -> Tensor:
        """mean + std * noise, the reparametrisation trick; (B, z, h, w). A list: one generator for each picture."""
        mean = self.mean
        return mean + self.std * draw_noise(torch.randn, mean.shape, generator, mean.dtype, mean.device)

    def mode(self) -> Tensor:
        return self.mean

    def repeat(self, times: int) -> "DiagonalGaussian":
        """Each row `times` times in a row: (B * times, z, h, w)."""
        return DiagonalGaussian(self.parameters.repeat_interleave(times, 0))

    def kl(self) -> Tensor:
        """KL(q(z|x) || N(0, I)) in nats per image, (B,)."""
        return kl_to_standard_normal(self.mean, self.logvar)

    def log_prob(self, z: Tensor) -> Tensor:
        """ln q(z|x) in nats, (B,)."""
        return gaussian_log_density(z, self.mean, self.logvar)


@dataclass
class VAEEncoderOutput(ModelOutput):
    """`latent_dist`: the posterior. `latents`: its mean (B, latent_channels, h, w)."""

    latent_dist: DiagonalGaussian | None = None
    latents: Tensor | None = None


@dataclass
class VAEOutput(ModelOutput):
    """What a forward pass of the VAE gives.

    Args:
        loss: negative_log_likelihood + kl_weight * kl, or minus the importance weighted bound; nats per image.
        reconstruction: (B, C, H, W) on the [-1, 1] scale.
        negative_log_likelihood: -ln p(x|z), batch mean in nats per image.
        kl: KL(q(z|x) || N(0, I)), batch mean in nats per image.
        latents: the z that was decoded, (B, latent_channels, h, w).
        mean, logvar: of the posterior, (B, latent_channels, h, w).
        hidden_states: what enters the encoder's first block and what each block gives, if `output_hidden_states`.
    """

    loss: Tensor | None = None
    reconstruction: Tensor | None = None
    negative_log_likelihood: Tensor | None = None
    kl: Tensor | None = None
    latents: Tensor | None = None
    mean: Tensor | None = None
    logvar: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None


def log_importance_weights(posterior: DiagonalGaussian, z: Tensor, nll: Tensor) -> Tensor:
    """ln p(x|z) + ln p(z) - ln q(z|x) in nats per image, (B,), from z (B, ...) and nll = -ln p(x|z), (B,)."""
    z = at_least_float32(z)
    return standard_normal_log_density(z) - nll - posterior.log_prob(z)


def importance_bound(log_weights: Tensor, k: int) -> Tensor:
    """ln 1/k sum_i w_i of the k weights of each image, (B * k,) -> (B,). Burda et al. 2016, equation 8."""
    return log_weights.view(-1, k).logsumexp(1) - math.log(k)


class VAEModel(AutoencoderPreTrainedModel):
    """A VAE. In eval mode it decodes the mean, unless a `generator` is given to draw z.

    >>> model = VAEModel(VAEConfig(image_size=28, num_channels=1, backbone="mlp", latent_channels=2))
    >>> model.sample(4, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([4, 1, 28, 28])
    """

    config: VAEConfig
    config_class = VAEConfig

    def __init__(self, config: VAEConfig):
        z = config.latent_channels
        width = z if config.encoder_channels is None else config.encoder_channels
        super().__init__(config, encoder_width=2 * width, latent_width=2 * z, code_width=z, decoder_width=width)
        self.post_init()

    def encode(self, pixel_values: Tensor, return_dict: bool | None = None) -> VAEEncoderOutput | tuple:
        """(B, C, H, W) in [-1, 1] -> the posterior `latent_dist`, and its mean as `latents`."""
        posterior = DiagonalGaussian(self.encode_pixels(pixel_values))
        return self.as_return_type(VAEEncoderOutput(latent_dist=posterior, latents=posterior.mean), return_dict)

    @returns_what_is_asked
    def forward(
        self,
        pixel_values: Tensor,
        generator: torch.Generator | None = None,
        return_loss: bool = True,
        return_dict: bool | None = None,
        output_hidden_states: bool | None = None,
        *,
        kl_weight: float | None = None,
    ) -> VAEOutput | tuple:
        """Reconstructs `pixel_values` (B, C, H, W) in [-1, 1] and weighs the ELBO.

        Args:
            generator: draws z; a list has one for each picture. Without any, training draws from the global state and
                eval decodes the mean.
            kl_weight: beta of this step; the config's value if None.
        """
        posterior = DiagonalGaussian(self.encode_pixels(pixel_values))
        draws = self.training or generator is not None
        k = self.samples_per_image
        repeated = posterior.repeat(k) if k > 1 else posterior
        latents = repeated.sample(generator) if draws else repeated.mode()  # (B * k, z, h, w)
        logits = self.decode_latents(latents)  # (B * k, decoder_out_channels, H, W)
        return VAEOutput(
            **(self.losses(repeated, latents, logits, pixel_values, kl_weight) if return_loss else {}),
            reconstruction=self.likelihood.mean(logits[::k]),  # the first of an image's k samples
            latents=latents[::k],
            mean=posterior.mean,
            logvar=posterior.logvar,
        )

    @property
    def samples_per_image(self) -> int:
        """k of the importance weighted bound, which is for training; 1 in eval."""
        return self.config.num_importance_samples if self.training else 1

    def losses(self, posterior, latents, logits, pixel_values, kl_weight: float | None) -> dict[str, Tensor]:
        """The negative ELBO and its terms; of k > 1 samples an image (k rows each of the first three), their bound."""
        k = self.samples_per_image
        pixel_values = pixel_values.repeat_interleave(k, 0) if k > 1 else pixel_values
        nll, kl = self.negative_log_likelihood(logits, pixel_values), posterior.kl().mean()
        if k > 1:
            loss = -importance_bound(log_importance_weights(posterior, latents, nll), k).mean()
        else:
            loss = nll.mean() + (self.config.kl_weight if kl_weight is None else kl_weight) * kl
        return {"loss": loss, "negative_log_likelihood": nll.mean(), "kl": kl}

    def log_importance_weights(self, posterior: DiagonalGaussian, pixel_values: Tensor, generator=None) -> Tensor:
        """ln p(x|z) + ln p(z) - ln q(z|x) at one z ~ q(z|x) for each row of `posterior`, in nats per image, (B,).

        `pixel_values`: as many rows, or one picture for all of them.
        """
        z = posterior.sample(generator)
        nll = self.negative_log_likelihood(self.decode_latents(z), pixel_values)
        return log_importance_weights(posterior, z, nll)

    def loss_terms(self) -> dict[str, float]:
        if self.config.num_importance_samples > 1:
            return {f"importance weighted bound, k={self.config.num_importance_samples} [nats per image]": 1.0}
        return {**super().loss_terms(), "kl to N(0, I) [nats per image]": self.config.kl_weight}

    def draw_latents(self, num_images: int, generator: torch.Generator | None) -> Tensor:
        """From the prior N(0, I)."""
        like = next(self.decoder.parameters())
        return draw_normal((num_images, self.config.latent_channels, *self.grid_size), like, generator)

    def latents_for_statistics(self, pixel_values: Tensor, generator: torch.Generator | None) -> Tensor:
        return self.encode(pixel_values, return_dict=True).latent_dist.sample(generator)
