# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Latents of a whole data set of pictures, encoded once and kept in memory, at the scale that diffusion works on.

For a VAE the posterior is kept, and training draws from it each time. For a model with a codebook the encoder's output
before quantisation is kept (VQ-VAE: z_e, dVAE: logits), since decoding quantises it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset


class Latents(Dataset):
    """Latents of N pictures, times `scaling_factor`; batches {"latents", "spread", "labels"}, as far as they exist.

    Args:
        latents: (N, D, h, w).
        spread: standard deviation of a VAE's posterior, (N, D, h, w), around `latents`; None: they are exact.
        labels: classes (N,) int64, or None. names: of the classes.
    """

    def __init__(
        self,
        latents: Tensor,
        spread: Tensor | None = None,
        labels: Tensor | None = None,
        names: list[str] | None = None,
    ):
        self.latents, self.spread, self.labels, self.names = latents, spread, labels, names

    @property
    def num_classes(self) -> int:
        if self.names is not None:
            return len(self.names)
        return 0 if self.labels is None else int(self.labels.max()) + 1

    def without_labels(self) -> "Latents":
        return Latents(self.latents, self.spread)

    def __len__(self) -> int:
        return len(self.latents)

    def set_epoch(self, epoch: int) -> None:
        """Nothing here changes with the epoch: noise is drawn by the model in training."""

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        index = torch.as_tensor(indices, dtype=torch.int64)
        columns = {"latents": self.latents, "spread": self.spread, "labels": self.labels}
        return {name: column[index] for name, column in columns.items() if column is not None}


class NoisedLatents(Latents):
    """Held-out latents, each with one timestep and noise of its own: the same draw for every model and batch size.

    Args:
        latents: what to draw from; posteriors are drawn once.
        num_timesteps: of the noise schedule.
    """

    def __init__(self, latents: Latents, num_timesteps: int, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        exact, shape = latents.latents, latents.latents.shape
        if latents.spread is not None:
            exact = exact + latents.spread * torch.randn(shape, generator=generator)
        super().__init__(exact, None, latents.labels, latents.names)
        self.noise = torch.randn(shape, generator=generator)
        self.timesteps = torch.randint(num_timesteps, (len(exact),), generator=generator)

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        index = torch.as_tensor(indices, dtype=torch.int64)
        return {**super().__getitems__(index), "noise": self.noise[index], "timesteps": self.timesteps[index]}


@torch.no_grad()
def encode_latents(image_model, images, batch_size: int = 256) -> Latents:
    """The latents of a data set of pictures (`CachedImages`, `DecodedImages`) times the model's `scaling_factor`."""
    latents, spreads = [], []
    for pixel_values in pixel_batches(image_model, images, batch_size):
        encoded = image_model.encode(pixel_values, return_dict=True)
        latents.append(encoded.latents.float().cpu())
        if hasattr(encoded, "latent_dist"):
            spreads.append(encoded.latent_dist.std.float().cpu())
    scale = image_model.config.scaling_factor
    return Latents(
        scale * torch.cat(latents), scale * torch.cat(spreads) if spreads else None, images.labels, images.names
    )


def pixel_batches(image_model, images, batch_size: int):
    """All pictures in order, (B, C, H, W) on the model's device."""
    for start in range(0, len(images), batch_size):
        yield images.batch(range(start, min(start + batch_size, len(images))))["pixel_values"].to(image_model.device)


def has_scale(image_model) -> bool:
    """Whether the model's `scaling_factor` was measured, as train.py does at its end."""
    return image_model.config.scaling_factor != 1.0
