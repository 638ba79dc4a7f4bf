# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Perceptual distance of two pictures: the distance of their features in a frozen net."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .feature_nets import FeatureNet, Features


def unit_normalised(features: Tensor) -> Tensor:
    """Scales each position's channels to length 1: (B, C, h, w) -> the same. Zhang et al. 2018, section 3.1."""
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def map_distance(a: Tensor, b: Tensor) -> Tensor:
    """Squared distance of unit-normalised maps (B, C, h, w), mean over positions: (B,), 0..4. LPIPS without heads."""
    return (unit_normalised(a) - unit_normalised(b)).square().sum(1).mean((1, 2))


def logit_distance(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of logits (B, classes): (B,). VQGAN+ (Weber et al. 2024) uses it in place of LPIPS."""
    return (a - b).square().mean(1)


class PerceptualDistance(nn.Module):
    """A distance of pictures. A subclass writes `look` and `between`."""

    def forward(self, reconstruction: Tensor, pixels: Tensor) -> Tensor:
        """Two times (B, C, H, W) in [-1, 1] -> (B,), 0 for equal pictures; gradients for the reconstruction."""
        return self.between(*self.look_at_both(reconstruction, pixels))

    def look_at_both(self, reconstruction: Tensor, pixels: Tensor) -> tuple[Any, Any]:
        """`look` of reconstructions and, without gradients, of pictures."""
        with torch.no_grad():
            of_pixels = self.look(pixels)
        return self.look(reconstruction), of_pixels

    def look(self, pixels: Tensor) -> Any:
        """What is compared of pictures (B, C, H, W) in [-1, 1]."""
        raise NotImplementedError

    def between(self, a: Any, b: Any) -> Tensor:
        """The distance of what was seen of two batches, (B,)."""
        raise NotImplementedError


class PerceptualLoss(PerceptualDistance):
    """Weighted distance of reconstructions and pictures in the features of a frozen net, with gradients for the former.

    Args:
        net: see `load_feature_net`.
        maps_weight: weight of the sum of `map_distance` over `layers`.
        logits_weight: weight of `logit_distance`. Logits need pictures of the size that the net was trained with.
        layers: indices of the net's maps, finest first; None: all.
        size: resize pictures to so many pixels a side first; None: as they are.

    Raises:
        ValueError: a layer that the net does not have, logits of a net without classes, or both weights 0.
    """

    def __init__(
        self,
        net: FeatureNet,
        maps_weight: float = 1.0,
        logits_weight: float = 0.0,
        layers: Sequence[int] | None = None,
        size: int | None = None,
    ):
        super().__init__()
        if not (maps_weight or logits_weight):
            raise ValueError("A perceptual loss needs a weight for feature maps or for logits; both are 0.")
        self.net, self.size, self.layers = net, size, layers
        self.maps_weight, self.logits_weight = maps_weight, logits_weight
        self._check_what_the_net_has()

    @torch.no_grad()
    def _check_what_the_net_has(self) -> None:
        weight = next(self.net.parameters())
        side = self.size or self.net.size
        seen = self.net(torch.zeros(1, 3, side, side, device=weight.device), side)
        levels = len(seen.maps)
        if wrong := [layer for layer in self.layers or () if not -levels <= layer < levels]:
            raise ValueError(f"{self.net.name} has the maps 0..{levels - 1}, finest first; got layer {wrong[0]}.")
        if self.logits_weight and seen.logits is None:
            raise ValueError(f"{self.net.name} has no classes, so it gives no logits to compare: use its feature maps.")

    def look(self, pixels: Tensor) -> Features:
        return self.net(pixels, self.size)

    def between(self, a: Features, b: Features) -> Tensor:
        layers = range(len(a.maps)) if self.layers is None else self.layers
        distance = a.embedding.new_zeros(len(a.embedding))
        if self.maps_weight:
            distance = distance + self.maps_weight * sum(map_distance(a.maps[i], b.maps[i]) for i in layers)
        if self.logits_weight:
            distance = distance + self.logits_weight * logit_distance(a.logits, b.logits)
        return distance


LPIPS_TRUNKS = ("alex", "vgg", "squeeze")


class LPIPS(PerceptualDistance):
    """LPIPS with its learned heads (Zhang et al. 2018), by torchmetrics; its trunk network comes from torchvision.

    Args:
        trunk: `alex`, `vgg` or `squeeze`.
        weight: the distance is multiplied by it.

    Raises:
        ValueError: another trunk, or torchvision is not installed.
    """

    def __init__(self, trunk: str = "vgg", weight: float = 1.0):
        super().__init__()
        self.weight = weight
        if trunk not in LPIPS_TRUNKS:
            raise ValueError(f"LPIPS has the trunks {', '.join(LPIPS_TRUNKS)}, as in lpips-vgg; got {trunk!r}.")
        from torchmetrics.functional.image.lpips import _LPIPS
        from torchmetrics.utilities.imports import _TORCHVISION_AVAILABLE

        if not _TORCHVISION_AVAILABLE:
            raise ValueError(
                "LPIPS needs torchvision for its trunk; without it, take a feature net such as efficientnet-lite0."
            )
        self.net = _LPIPS(pretrained=True, net=trunk).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "LPIPS":
        return super().train(False)

    def look(self, pixels: Tensor) -> Tensor:
        return pixels

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        return self.weight * self.net(a, b).flatten()
