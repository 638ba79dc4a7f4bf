# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Structural similarity of two pictures (SSIM). Wang, Bovik, Sheikh & Simoncelli 2004, section III.B.

torchmetrics has it, too, with the same numbers. To import torchmetrics takes as long as to train for 100 steps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


# c1, c2 of equation 13 for pixels in [0, 1]: they keep quotients of dark and of flat windows finite.
OF_MEANS, OF_VARIANCES = 0.01**2, 0.03**2
WIDTHS_BESIDE = 3.5  # of the Gaussian on each side of a window's centre


def ssim_sigma(height: int, width: int) -> float | None:
    """Width of SSIM's Gaussian window: the usual 1.5 (11 x 11 pixels) from 16 pixels a side; 0.5 (5 x 5) from 6; None
    (no SSIM) for smaller sides."""
    side = min(height, width)
    return 1.5 if side >= 16 else 0.5 if side >= 6 else None


def ssim_per_image(reconstruction: Tensor, target: Tensor) -> Tensor | None:
    """Structural similarity of each pair (B, C, H, W) on the [0, 1] scale, (B,); None for pictures too small.

    The mean over a window at each pixel of each channel; beyond the edge the picture is reflected.
    """
    sigma = ssim_sigma(*target.shape[-2:])
    if sigma is None:
        return None
    x, y = reconstruction, target.to(reconstruction.dtype)
    of_x, of_y, of_xx, of_yy, of_xy = local_means(torch.cat([x, y, x * x, y * y, x * y]), sigma).chunk(5)
    variances = (of_xx - of_x.square()).clamp(min=0) + (of_yy - of_y.square()).clamp(min=0)
    means = (2 * of_x * of_y + OF_MEANS) / (of_x.square() + of_y.square() + OF_MEANS)
    return (means * (2 * (of_xy - of_x * of_y) + OF_VARIANCES) / (variances + OF_VARIANCES)).flatten(1).mean(1)


def local_means(maps: Tensor, sigma: float) -> Tensor:
    """(B, C, H, W), each value the mean of its neighbours under a Gaussian of width `sigma`."""
    beside = int(WIDTHS_BESIDE * sigma + 0.5)
    distances = torch.arange(-beside, beside + 1, dtype=maps.dtype, device=maps.device)
    weights = (-0.5 * (distances / sigma).square()).exp()
    weights = weights / weights.sum()
    single = F.pad(maps, [beside] * 4, mode="reflect").flatten(0, 1)[:, None]  # (B * C, 1, H + 2 beside, ...)
    return F.conv2d(F.conv2d(single, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1)).view(maps.shape)
