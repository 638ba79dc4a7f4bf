# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A plane in the latent space, and the gaps in it: places to which no picture was encoded.

Latents are (N, D, h, w); a point of the plane is (x, y). If a model has a codebook, the latents are its code vectors,
and a point is decoded by `model.decode`, which quantizes it first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import ConvexHull, QhullError
from sklearn.decomposition import PCA
from sklearn.neighbors import KDTree
from torch import Tensor, nn

from .features import CONFIDENT


CENTRAL = 0.98  # share of the codes along an axis that the window on the plane shows
FAR = 0.99  # a gap is farther from every training code than this share of the held-out codes
CANDIDATES = 100_000  # points around the codes that are tested for gaps


def plane_latents(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """(B, C, H, W) -> latents (B, D, h, w), in whose space the plane lies, and which `model.decode` takes.

    These are code vectors if the model has codes. If D equals K, `decode` would read them as logits: then the logits.
    """
    encoded = model.encode(pixel_values, return_dict=True)
    quantized = getattr(encoded, "quantized", None)
    if quantized is None or quantized.shape[1] == getattr(model, "codebook_size", None):
        return encoded.latents
    return quantized


@dataclass
class Plane:
    """A plane in the latent space: `latents = mean + x * axes[0] + y * axes[1]`.

    Args:
        mean: (D h w,)
        axes: (2, D h w), orthonormal.
        variance_share: share of the latents' variance along each axis, 0..1.
        shape: (D, h, w)
        whole: True: the latent space has two dimensions, and the plane is all of it. False: principal components.
    """

    mean: Tensor
    axes: Tensor
    variance_share: tuple[float, float]
    shape: tuple[int, int, int]
    whole: bool

    def coordinates(self, latents: Tensor) -> Tensor:
        """(N, D, h, w) -> (N, 2)"""
        return (latents.flatten(1).float() - self.mean) @ self.axes.T

    def latents(self, points: Tensor) -> Tensor:
        """(N, 2) -> (N, D, h, w)"""
        return (self.mean + points.float() @ self.axes).unflatten(1, self.shape)

    def axis_labels(self) -> tuple[str, str]:
        if self.whole:
            return "latent z$_1$", "latent z$_2$"
        return tuple(
            f"principal component {number} ({share:.0%} of variance)"
            for number, share in enumerate(self.variance_share, start=1)
        )


def fit_plane(latents: Tensor) -> Plane:
    """Of 2-d latents the whole plane, else the first two principal components of (N, D, h, w)."""
    flat, shape = latents.flatten(1).float(), tuple(latents.shape[1:])
    if flat.shape[1] < 2 or len(flat) < 3:
        raise ValueError(f"A plane needs 2 latent dimensions and 3 pictures, got {flat.shape[1]} and {len(flat)}.")
    if flat.shape[1] == 2:
        variance = flat.double().var(0)
        return Plane(torch.zeros(2), torch.eye(2), tuple((variance / variance.sum()).tolist()), shape, whole=True)
    pca = PCA(2, random_state=0).fit(flat.numpy())
    axes, mean = torch.from_numpy(pca.components_), torch.from_numpy(pca.mean_)
    return Plane(mean.float(), axes.float(), tuple(pca.explained_variance_ratio_.tolist()), shape, whole=False)


@dataclass
class PlaneWindow:
    """The rectangle of the plane that is shown."""

    left: float
    right: float
    bottom: float
    top: float

    def grid(self, side: int) -> Tensor:
        """Centres of side x side cells, row by row from the top left, (side * side, 2)."""
        x = self.left + (torch.arange(side) + 0.5) / side * (self.right - self.left)
        y = self.top - (torch.arange(side) + 0.5) / side * (self.top - self.bottom)
        return torch.stack([x.repeat(side), y.repeat_interleave(side)], 1)

    def uniform(self, number: int, generator: torch.Generator) -> Tensor:
        """Points drawn from the whole window, (number, 2)."""
        low, high = torch.tensor([self.left, self.bottom]), torch.tensor([self.right, self.top])
        return low + (high - low) * torch.rand(number, 2, generator=generator)


def central_window(coordinates: Tensor) -> PlaneWindow:
    """The window with the central 98 % of the points (N, 2) along each axis; one unit wide if all points coincide."""
    tail = (1 - CENTRAL) / 2
    low, high = np.quantile(coordinates.numpy(), [tail, 1 - tail], axis=0)
    low, high = np.where(high > low, [low, high], [low - 0.5, low + 0.5]).tolist()
    return PlaneWindow(low[0], high[0], low[1], high[1])


# -- gaps --------------------------------------------------------------------------------------------------------------


@dataclass
class Gaps:
    """Points between codes: inside the hull of the training codes, and farther from them than 99 % of held-out codes.

    Args:
        window: the part of the plane that a plot shows; it holds all codes.
        radius: that distance, in units of the latents.
        share: share of the hull's area that is gap.
        anywhere: random points of the whole hull, (n, 2).
        points: random points of the gaps, (n, 2).
        pixels: what gap points decode to, (n, C, H, W) in [-1, 1].
        confidence: the classifier's probability of the most likely digit, for each gap point, (n,).
        plausible: whether each decoding is as near to a real picture as real ones are to each other, (n,) bool.
    """

    window: PlaneWindow
    radius: float
    share: float
    anywhere: Tensor
    points: Tensor
    pixels: Tensor
    confidence: Tensor
    plausible: Tensor

    @property
    def accepted(self) -> float | None:
        """Share of the gap points whose decoding the judge accepts as a digit (above 0.9); None without gaps."""
        return (self.confidence > CONFIDENT).double().mean().item() if len(self.points) else None

    @property
    def plausible_share(self) -> float | None:
        """Share of the gap points whose decoding is plausible; None without gaps."""
        return self.plausible.double().mean().item() if len(self.points) else None


def find_gaps(
    plane: Plane,
    train_points: Tensor,
    held_out_points: Tensor,
    decode: Callable[[Tensor], Tensor],
    confidence: Callable[[Tensor], Tensor],
    plausible: Callable[[Tensor], Tensor],
    number: int = 2000,
    seed: int = 0,
) -> Gaps:
    """Looks for gaps among 100,000 points around the codes.

    Corners that no code surrounds are not counted: nobody would draw there.

    Args:
        train_points, held_out_points: coordinates of codes, (N, 2).
        decode: latents (n, D, h, w) -> pixels (n, C, H, W).
        confidence: pixels -> probability of the most likely class, (n,).
        plausible: pixels -> whether they are near real pictures, (n,) bool.
        number: at most so many points are kept, of the hull and of the gaps.
    """
    tree = KDTree(train_points.numpy())
    radius = float(np.quantile(distance_to(tree, held_out_points), FAR))
    window = whole_window(train_points)
    candidates = window.uniform(CANDIDATES, torch.Generator().manual_seed(seed))
    candidates = candidates[in_hull(candidates, train_points)]
    in_gap = torch.from_numpy(distance_to(tree, candidates) > radius) if len(candidates) else torch.zeros(0).bool()
    points = candidates[in_gap][:number]
    pixels = decode(plane.latents(points)) if len(points) else torch.zeros(0, 1, 1, 1)
    return Gaps(
        window=window,
        radius=radius,
        share=len(candidates[in_gap]) / max(1, len(candidates)),
        anywhere=candidates[:number],
        points=points,
        pixels=pixels,
        confidence=confidence(pixels) if len(points) else torch.zeros(0),
        plausible=plausible(pixels) if len(points) else torch.zeros(0, dtype=torch.bool),
    )


def whole_window(coordinates: Tensor) -> PlaneWindow:
    """The smallest window that holds all points (N, 2)."""
    (left, bottom), (right, top) = coordinates.amin(0).tolist(), coordinates.amax(0).tolist()
    return PlaneWindow(left, right, bottom, top)


def in_hull(points: Tensor, codes: Tensor) -> Tensor:
    """Which of the points (N, 2) lie in the convex hull of the codes (M, 2), (N,) bool; codes on a line have none."""
    try:
        sides = torch.from_numpy(ConvexHull(codes.double().numpy()).equations)  # (S, 3): a x + b y + c <= 0 inside
    except QhullError:
        return torch.zeros(len(points), dtype=torch.bool)
    return (points.double() @ sides[:, :2].T + sides[:, 2] <= 0).all(1)


def distance_to(tree: KDTree, points: Tensor) -> np.ndarray:
    """Distance of each point (N, 2) to the nearest point in the tree, (N,)."""
    return tree.query(points.numpy(), k=1)[0][:, 0]
