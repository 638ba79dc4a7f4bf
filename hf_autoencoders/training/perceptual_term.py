# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The perceptual term of an autoencoder's loss, and a metric of blur and grid artefacts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from ..evaluation.metrics import roughness
from ..perception.distances import LPIPS, PerceptualDistance, PerceptualLoss
from ..perception.feature_nets import is_lpips, load_feature_net
from .arguments import LossArguments


class Compared(NamedTuple):
    """Reconstructions and pictures of a micro-batch, as a frozen net sees them.

    term: of the loss, a scalar in the unit of the model's loss.
    distance: a mean over the pictures, for the log.
    seen: of reconstructions (in the graph) and of pictures (without): `Features` of each, or pixels with LPIPS.
    """

    term: Tensor
    distance: Tensor
    seen: tuple[Any, Any]


class PerceptualTerm:
    """The distance of pictures in the features of a frozen net, times its weights.

    Args:
        knobs: see `LossArguments`; `perceptual_model` is set.
        per_element: whether the model's loss is a mean over pixel values (VQ-VAE); else it is a sum, in nats, and the
            distance is multiplied by the number of pixel values, as in latent diffusion's autoencoders.

    Raises:
        ValueError: no such net, or a layer that it does not have.
    """

    def __init__(self, knobs: LossArguments, per_element: bool, accelerator: Accelerator):
        self.per_element, self.accelerator = per_element, accelerator
        with accelerator.main_process_first():
            self.distance = build_distance(knobs).to(accelerator.device)
        if accelerator.device.type != "mps":
            self.distance.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def check(self, image_shape: Sequence[int]) -> None:
        """Raises ValueError where the net does not take pictures (C, H, W)."""
        pixels = torch.zeros(1, *image_shape, device=self.accelerator.device)
        self.distance(pixels, pixels)

    def __call__(self, reconstruction: Tensor, pixels: Tensor) -> Compared:
        with self.accelerator.autocast():
            seen = self.distance.look_at_both(reconstruction, pixels)
            distance = self.distance.between(*seen).mean()
        term = distance if self.per_element else distance * pixels[0].numel()
        return Compared(term, distance.detach(), seen)


def build_distance(knobs: LossArguments) -> PerceptualDistance:
    """With the weights of the knobs."""
    name = knobs.perceptual_model
    if is_lpips(name):
        return LPIPS(name.removeprefix("lpips").removeprefix("-") or "vgg", knobs.perceptual_weight)
    net = load_feature_net(name)
    return PerceptualLoss(
        net, knobs.perceptual_weight, knobs.perceptual_logits_weight, knobs.perceptual_layers or None,
        knobs.perceptual_size,
    )  # fmt: skip


@torch.no_grad()
def gradient_energy(reconstruction: Tensor, pixels: Tensor) -> Tensor:
    """Mean ``|difference of neighbours|`` of reconstructions over that of pictures, a scalar; both (B, C, H, W).

    1: equal pictures. Well below 1: reconstructions are blurred. Above 1: they have grids or noise.
    """
    return roughness(reconstruction).mean() / roughness(pixels).mean().clamp_min(1e-6)
