# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A trained model with the pictures that it is measured on, and results that many metrics share."""

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..perception.digits_classifier import in_batches
from .codes import squared_error
from .latent_space import Plane, PlaneWindow, central_window, fit_plane, plane_latents
from .photo_metrics import Reconstructed


BATCH = 250  # pictures that are computed together, at most
BATCH_VALUES = 2**21  # of pixels at a time, at most: 42 RGB pictures of 128x128; activations take 50 times as much
KEPT_VALUES = 2**28  # at most so many pixel values are kept in memory: 1 GiB of float32


class Subject:
    """The model and data of a report. Pixels are in [-1, 1] and on the CPU; only batches go to the model's device.

    Args:
        name: for titles.
        model: is set to eval mode.
        train, held_out: data sets with `batch(indices) -> {"pixel_values": (B, C, H, W)}`, `labels`, `names`,
            `data_variance`, as `training.data.load_images` gives.
        setting: the data setting, see `likelihood.data_setting`.
        folder: of the run, with its training log.
        seed: of all random draws.
        reading: how pictures were brought to the model's size, see `protocol.describe_processor`.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        train: Any,
        held_out: Any,
        setting: str = "grey levels",
        folder: Path | None = None,
        seed: int = 0,
        reading: str = "",
    ):
        self.name, self.model, self.train, self.held_out = name, model.eval(), train, held_out
        self.setting, self.folder, self.seed, self.reading = setting, folder, seed, reading
        self.batch = max(1, min(BATCH, BATCH_VALUES // held_out.batch([0])["pixel_values"].numel()))

    def batches(self, images: Any = None, limit: int | None = None) -> Iterator[Tensor]:
        """The held-out pictures (or `images`), or the first `limit` of them, on the model's device."""
        images = self.held_out if images is None else images
        count = len(images) if limit is None else min(limit, len(images))
        for start in range(0, count, self.batch):
            yield images.batch(range(start, min(start + self.batch, count)))["pixel_values"].to(self.model.device)

    @torch.no_grad()
    def reconstructed(self) -> Iterator[Reconstructed]:
        """All held-out pictures with their reconstructions; those in `reconstructions` are not computed again."""
        bits, kept = self.code_bits, len(self.pixels)
        for start in range(0, len(self.held_out), self.batch):
            numbers = torch.arange(start, min(start + self.batch, len(self.held_out)))
            if start + self.batch <= kept or kept == len(self.held_out):
                own = slice(start, start + self.batch)
                pixels, decoded = self.pixels[own].to(self.model.device), self.reconstructions[own]
            else:
                pixels = self.held_out.batch(numbers.tolist())["pixel_values"].to(self.model.device)
                decoded = self.model.reconstruct(pixels)
            yield Reconstructed(pixels, decoded.to(pixels.device), numbers, bits)

    @property
    def code_bits(self) -> float | None:
        """Bits of the codes of one picture; None for a model without codes."""
        if not self.has_codes:
            return None
        return self.image_tokens[0].numel() * math.log2(self.model.codebook_size)

    def kept(self, images: Any) -> int:
        """How many pictures fit into `KEPT_VALUES`."""
        pixels = images.batch([0])["pixel_values"].numel()
        return max(1, min(len(images), KEPT_VALUES // pixels))

    @cached_property
    def pixels(self) -> Tensor:
        """All held-out pictures (N, C, H, W), or as many as fit into 1 GiB."""
        return torch.cat([batch.cpu() for batch in self.batches(limit=self.kept(self.held_out))])

    @property
    def labels(self) -> Tensor | None:
        return None if self.held_out.labels is None else self.held_out.labels[: len(self.pixels)]

    @property
    def shows_digits(self) -> bool:
        """Whether the classes are the ten digits, which the classifier of FD-CNN knows."""
        names = self.held_out.names
        return names is not None and [str(name) for name in names] == list("0123456789")

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(N, D, h, w) -> (N, C, H, W) in [-1, 1], on the CPU."""
        return in_batches(lambda part: self._decode(part.to(self.model.device)), latents, self.batch)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents, return_dict=True).sample.cpu()

    @cached_property
    def reconstructions(self) -> Tensor:
        """Reconstructions of `pixels`, (N, C, H, W)."""
        return in_batches(
            lambda part: self.model.reconstruct(part.to(self.model.device)).cpu(), self.pixels, self.batch
        )

    @cached_property
    def errors(self) -> Tensor:
        """Squared error of each reconstruction on [0, 1] pixels, summed; (N,)."""
        return squared_error(self.pixels, self.reconstructions)

    def sample(self, number: int) -> Tensor:
        """`number` samples from the model's own prior. Raises ValueError if it has none."""
        generator = torch.Generator().manual_seed(self.seed)
        parts = [min(self.batch, number - start) for start in range(0, number, self.batch)]
        return torch.cat([self.model.sample(part, generator=generator).cpu() for part in parts])

    @torch.no_grad()
    def encoded(self, images: Any, limit: int | None = None) -> Tensor:
        """Latents of the first `limit` pictures, as `plane_latents` gives them; (N, D, h, w)."""
        return torch.cat([plane_latents(self.model, batch).cpu() for batch in self.batches(images, limit)])

    @cached_property
    def held_out_latents(self) -> Tensor:
        return self.encoded(self.held_out, len(self.pixels))

    @cached_property
    def plane(self) -> Plane:
        return fit_plane(self.held_out_latents)

    @cached_property
    def points(self) -> Tensor:
        """Held-out codes in the plane, (N, 2)."""
        return self.plane.coordinates(self.held_out_latents)

    @cached_property
    def train_points(self) -> Tensor:
        """Codes of all training pictures in the plane, (M, 2)."""
        with torch.no_grad():
            batches = self.batches(self.train)
            return torch.cat([self.plane.coordinates(plane_latents(self.model, batch).cpu()) for batch in batches])

    @property
    def window(self) -> PlaneWindow:
        return central_window(self.points)

    @cached_property
    def gives_posterior(self) -> bool:
        """Whether `encode` gives a `latent_dist`."""
        with torch.no_grad():
            encoded = self.model.encode(next(self.batches(limit=1)), return_dict=True)
        return getattr(encoded, "latent_dist", None) is not None

    @property
    def has_codes(self) -> bool:
        return hasattr(self.model, "codebook_size")

    @cached_property
    def image_tokens(self) -> Tensor:
        """Image tokens of `pixels`, (N, h, w) or (N, h, w, depth)."""
        return in_batches(
            lambda part: self.model.get_image_tokens(part.to(self.model.device)).cpu(), self.pixels, self.batch
        )
