# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Discriminators, which tell pictures from reconstructions, and the losses of discriminator and model.

They have no batch statistics: the output for a picture does not depend on the other pictures of the batch. So two
processes with half the batch each equal one process with all of it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .feature_nets import FeatureNet, Features


def discriminator_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with the most groups up to 32 of at least four channels each.

    A group of one channel cancels the bias before it. The gradient of this bias is then rounding error only, and Adam
    makes steps of full size from it.
    """
    fitting = [groups for groups in range(1, 33) if channels % groups == 0 and channels // groups >= 4]
    return nn.GroupNorm(max(fitting, default=1), channels)


class Blur(nn.Module):
    """Halves a map after the binomial filter (1, 3, 3, 1) / 8 both ways, to avoid aliased grids. Zhang 2019."""

    def __init__(self):
        super().__init__()
        row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", (row[:, None] * row)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)"""
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, groups=x.shape[1])


class PooledDiscriminator(nn.Module):
    """Convolutions, blur before each down-sampling, GroupNorm, and a max-pool to a fixed map of logits.

    VQGAN+ (Weber et al. 2024). A picture of any size gets at most `pool` x `pool` logits.

    >>> PooledDiscriminator(3, width=8)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, num_channels: int = 3, width: int = 64, levels: int = 3, pool: int = 16):
        super().__init__()
        self.pool = pool
        layers: list[nn.Module] = [nn.Conv2d(num_channels, width, 3, padding=1), nn.LeakyReLU(0.1)]
        channels = width
        for level in range(levels):
            wider = width * min(2 ** (level + 1), 8)
            layers += [nn.Conv2d(channels, wider, 3, padding=1), Blur(), discriminator_norm(wider), nn.LeakyReLU(0.1)]
            channels = wider
        self.body = nn.Sequential(
            *layers, nn.Conv2d(channels, channels, 3, padding=1), discriminator_norm(channels), nn.LeakyReLU(0.1)
        )
        self.head = nn.Conv2d(channels, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> logits (B, 1, h, w): positive where a place looks real; h, w <= `pool`."""
        hidden = self.body(pixels)
        size = [min(self.pool, side) for side in hidden.shape[2:]]
        return self.head(F.adaptive_max_pool2d(hidden, size))


class PatchDiscriminator(nn.Module):
    """pix2pix's PatchGAN in taming's shape (4x4 convolutions, stride 2), with GroupNorm in place of BatchNorm.

    >>> PatchDiscriminator(3, width=8)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1, 6, 6])
    """

    def __init__(self, num_channels: int = 3, width: int = 64, levels: int = 3):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(num_channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        channels = width
        for level in range(1, levels + 1):
            wider, stride = width * min(2**level, 8), 2 if level < levels else 1
            layers += [
                nn.Conv2d(channels, wider, 4, stride=stride, padding=1, bias=False),
                discriminator_norm(wider),
                nn.LeakyReLU(0.2),
            ]
            channels = wider
        self.net = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, padding=1))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> logits (B, 1, h, w), each of a patch of 70 pixels a side (three levels)."""
        return self.net(pixels)


class FeatureDiscriminator(nn.Module):
    """Small heads on the maps of a frozen feature net, as in Projected GANs (Sauer et al. 2021).

    It begins with what the net knows of pictures, so it learns in fewer steps than a discriminator of its own does.
    It holds the heads alone: who has the net computes the features, for this and for other losses.

    Args:
        net: whose features it judges, see `load_feature_net`; only the shapes of its maps are read here.
        levels: how many of its maps to judge, from the second finest on.

    >>> from hf_autoencoders.perception.feature_nets import load_feature_net
    >>> net = load_feature_net("digits")
    >>> FeatureDiscriminator(net, width=8, levels=1)(net(torch.zeros(2, 1, 28, 28))).shape
    torch.Size([2, 1, 7, 7])
    """

    def __init__(self, net: FeatureNet, width: int = 64, levels: int = 3):
        super().__init__()
        self.levels = slice(1, levels + 1)
        with torch.no_grad():
            maps = net(torch.zeros(1, 3, net.size, net.size, device=net.mean.device)).maps
        if levels >= len(maps):
            raise ValueError(
                f"{net.name} has {len(maps)} feature maps, so --discriminator_levels may be 1 to {len(maps) - 1}, got "
                f"{levels}."
            )
        self.heads = nn.ModuleList(self.head(seen.shape[1], width) for seen in maps[self.levels])

    @staticmethod
    def head(channels: int, width: int) -> nn.Sequential:
        """(B, channels, h, w) -> (B, 1, h, w); the maps of a net differ in scale, so each picture's is normalised."""
        return nn.Sequential(
            nn.GroupNorm(1, channels, affine=False),
            nn.Conv2d(channels, width, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, width, 3, padding=1),
            discriminator_norm(width),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 1, 1),
        )

    def forward(self, features: Features) -> Tensor:
        """Features of B pictures -> logits (B, levels, h, w) on the grid of the finest map; coarser ones repeat."""
        maps = features.maps[self.levels]
        logits = [head(seen) for head, seen in zip(self.heads, maps, strict=True)]
        return torch.cat([F.interpolate(each, maps[0].shape[2:], mode="nearest") for each in logits], dim=1)


LARGEST_TRIED = 1024  # pixels a side of the pictures on which a discriminator that fails is tried


def check_discriminator_fits(net: nn.Module, image_shape: Sequence[int]) -> None:
    """Raises ValueError where pictures (C, H, W) are too small for all levels of the discriminator.

    The sizes of its maps tell nothing of a net that is not known; that it takes larger pictures does.
    """
    channels, height, width = image_shape
    try:
        judge_grey(net, channels, height, width)
    except RuntimeError:  # if of its sizes: a convolution or a padding is larger than its map
        if not takes_larger(net, channels, max(height, width)):
            raise
        raise ValueError(
            f"Pictures of {height}x{width} pixels are too small for this discriminator: give it fewer "
            "--discriminator_levels, or take another --discriminator."
        ) from None


def takes_larger(net: nn.Module, channels: int, side: int) -> bool:
    """Whether a net that fails on pictures of `side` pixels works on larger ones, of at most 1,024."""
    while (side := 2 * side) <= LARGEST_TRIED:
        try:
            judge_grey(net, channels, side, side)
            return True
        except RuntimeError:
            continue
    return False


@torch.no_grad()
def judge_grey(net: nn.Module, channels: int, height: int, width: int) -> Tensor:
    """The logits of one grey picture, which is 0 in [-1, 1]."""
    return net(torch.zeros(1, channels, height, width))


# Those of pixels, and one of the features of a net.
DISCRIMINATORS = {"pooled": PooledDiscriminator, "patch": PatchDiscriminator, "features": FeatureDiscriminator}


# -- the losses --------------------------------------------------------------------------------------------------------


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 (mean relu(1 - D(x)) + mean relu(1 + D(x'))), a scalar. Lim & Ye 2017."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def softplus_loss(real: Tensor, fake: Tensor) -> Tensor:
    """1/2 (mean softplus(-D(x)) + mean softplus(D(x'))), a scalar: the cross-entropy of Goodfellow et al. 2014."""
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


DISCRIMINATOR_LOSSES = {"hinge": hinge_loss, "softplus": softplus_loss}
GENERATOR_LOSSES = {"hinge": lambda fake: -fake.mean(), "softplus": lambda fake: F.softplus(-fake).mean()}


def lecam_penalty(real: Tensor, fake: Tensor, mean_real: Tensor, mean_fake: Tensor) -> Tensor:
    """mean relu(D(x) - mean_fake)^2 + mean relu(mean_real - D(x'))^2, a scalar. Tseng et al. 2021, eq. 6.

    Args:
        mean_real, mean_fake: moving averages of the logits of pictures and of reconstructions.
    """
    return F.relu(real - mean_fake).square().mean() + F.relu(mean_real - fake).square().mean()


def gradient_penalty(logits: Tensor, pixels: Tensor) -> Tensor:
    """R1: the mean over pictures of ``|d D(x) / d x|^2``, a scalar. Mescheder et al. 2018, eq. 9.

    Args:
        logits: D(pixels), where `pixels` (B, C, H, W) requires a gradient.
    """
    (gradient,) = torch.autograd.grad(logits.flatten(1).mean(1).sum(), pixels, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
