# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""How similar pictures are to real ones: FD-CNN, precision / recall / density / coverage, class accuracy; offline.

FD-CNN is the Frechet distance (Heusel et al. 2017, without Inception) in the features of the small pinned classifier
of `perception.digits_classifier`. It is not FID and cannot be compared with FID. It depends on the number of pictures
(on MNIST: 6.5 between 2,000 and 2,000 other real pictures, 4.5 between 5,000). So every metric is also given for the
same number of real pictures.

    net, judge = load_digits_classifier(), load_judge("judge.safetensors")
    metrics = measure_samples(samples, test_pixels, train_pixels, net, judge=judge)
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..perception.digits_classifier import DigitsClassifier, check_pinned, in_batches


NEIGHBOURS = 5  # k of precision, recall, density and coverage
CONFIDENT = 0.9  # a picture is accepted as a digit if the judge's probability is above
ROWS = 1000  # rows of a distance matrix that are computed together


# -- distances between sets of features --------------------------------------------------------------------------------


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """``|mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2))`` of features (N, D), (M, D), in float64. Heusel et al. 2017, (6).

    The trace of the root is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"A covariance needs at least 2 pictures, got {len(a)} and {len(b)}.")
    a, b = a.double(), b.double()
    covariance_a, covariance_b = torch.atleast_2d(a.T.cov()), torch.atleast_2d(b.T.cov())
    values, vectors = torch.linalg.eigh(covariance_a)
    root_a = vectors * values.clamp(min=0).sqrt() @ vectors.T
    root_trace = torch.linalg.eigvalsh(root_a @ covariance_b @ root_a).clamp(min=0).sqrt().sum()
    means = (a.mean(0) - b.mean(0)).square().sum()
    return max(0.0, (means + covariance_a.trace() + covariance_b.trace() - 2 * root_trace).item())


@dataclass
class Coverage:
    """Shares between 0 and 1; only `density` may exceed 1.

    Args:
        precision: share of samples that lie in the ball of a real picture. The radius of a ball is the distance to the
            k-th nearest neighbour of the same set. Kynkaanniemi et al. 2019.
        recall: share of real pictures that lie in the ball of a sample.
        density: mean number of balls of real pictures in which a sample lies, divided by k. Naeem et al. 2020.
        coverage: share of real pictures whose ball holds a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def measure_coverage(samples: Tensor, real: Tensor, k: int = NEIGHBOURS) -> Coverage:
    """Compares features (N, D) with real ones (M, D). Memory: 1,000 rows of the distance matrix."""
    if min(len(samples), len(real)) <= k:
        raise ValueError(f"A {k}-th neighbour needs more than {k} pictures, got {len(samples)} and {len(real)}.")
    samples, real = samples.double(), real.double()
    real_radius, sample_radius = nearest_radius(real, k), nearest_radius(samples, k)
    in_real, recalled, covered = [], [], []
    for rows, radius in zip(real.split(ROWS), real_radius.split(ROWS), strict=True):
        distance = torch.cdist(rows, samples)  # (rows, N)
        inside = distance <= radius[:, None]
        in_real.append(inside.sum(0))
        covered.append(inside.any(1))
        recalled.append((distance <= sample_radius).any(1))
    balls = torch.stack(in_real).sum(0)  # (N,) balls of real pictures around each sample
    return Coverage(
        precision=(balls > 0).double().mean().item(),
        recall=torch.cat(recalled).double().mean().item(),
        density=balls.double().mean().item() / k,
        coverage=torch.cat(covered).double().mean().item(),
    )


def nearest_radius(features: Tensor, k: int) -> Tensor:
    """Distance of each row of (N, D) to its k-th nearest other row, (N,)."""
    radii = []
    for block, rows in enumerate(features.split(ROWS)):
        distance = torch.cdist(rows, features)
        distance[torch.arange(len(rows)), block * ROWS + torch.arange(len(rows))] = torch.inf  # not itself
        radii.append(distance.kthvalue(k, dim=1).values)
    return torch.cat(radii)


class RealBalls:
    """Balls around the features (M, D) of real pictures; a radius is the distance to the k-th nearest other picture.

    A picture inside a ball is *plausible*: as near to a real picture as real pictures are to each other.
    """

    def __init__(self, features: Tensor, k: int = NEIGHBOURS):
        self.features = features.double()
        self.radius = nearest_radius(self.features, k)

    def contain(self, features: Tensor) -> Tensor:
        """(N, D) -> whether each lies in a ball, (N,) bool. The mean is the precision of `measure_coverage`."""
        parts = [(torch.cdist(rows, self.features) <= self.radius).any(1) for rows in features.double().split(ROWS)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.bool)

    def reached_share(self, features: Tensor) -> float:
        """Share of the balls that hold one of the features (N, D): the coverage of `measure_coverage`."""
        reached = torch.zeros(len(self.features), dtype=torch.bool)
        for rows in features.double().split(ROWS):
            reached |= (torch.cdist(rows, self.features) <= self.radius).any(0)
        return reached.double().mean().item()


# -- what a classifier sees in pictures --------------------------------------------------------------------------------


def class_accuracy(judge: DigitsClassifier, pixels: Tensor, labels: Tensor) -> float:
    """Share of pictures (N, C, H, W) in [-1, 1] that the judge classifies as the digit asked for, `labels` (N,)."""
    return (in_batches(judge.classify, pixels).argmax(1) == labels).double().mean().item()


def accepted_share(judge: DigitsClassifier, pixels: Tensor) -> float:
    """Share of pictures (N, C, H, W) that the judge classifies as any digit, with a probability above 0.9."""
    return (acceptance(judge, pixels) > CONFIDENT).double().mean().item()


def acceptance(judge: DigitsClassifier, pixels: Tensor) -> Tensor:
    """The judge's probability of the most likely digit, (N,)."""
    return in_batches(judge.classify, pixels).softmax(1).amax(1)


# -- everything beside real data ---------------------------------------------------------------------------------------


def fd_cnn(net: DigitsClassifier, a: Tensor, b: Tensor) -> float:
    """Frechet distance of pictures (N, C, H, W) and (M, C, H, W) in the features of the pinned net, and of no other."""
    check_pinned(net)
    return frechet_distance(in_batches(net, a), in_batches(net, b))


def measure_samples(
    samples: Tensor,
    reference: Tensor,
    real: Tensor,
    net: DigitsClassifier,
    *,
    judge: DigitsClassifier | None = None,
    labels: Tensor | None = None,
    real_labels: Tensor | None = None,
    k: int = NEIGHBOURS,
) -> dict[str, float]:
    """Every metric of `samples`, and of the same number of `real` pictures (names ending in `_of_real_data`).

    Args:
        samples: (N, C, H, W) in [-1, 1].
        reference: real pictures that both are compared with: usually the whole test set.
        real: other real pictures, of the training set; at least N.
        net: the pinned classifier.
        judge: another classifier; adds the share of pictures that it accepts with a probability above 0.9.
        labels, real_labels: the classes asked for; they add the class accuracy by the judge.

    Raises:
        ValueError: another feature net, the feature net as its own judge, fewer real pictures than samples.
    """
    check_pinned(net)
    if len(real) < len(samples):
        raise ValueError(
            f"The floor of {len(samples)} samples needs as many real pictures, got {len(real)}: FD depends on n."
        )
    if judge is not None and judge.checksum == net.checksum:
        raise ValueError("The judge must be another net than the one that FD-CNN measures with.")
    real, real_labels = real[: len(samples)], None if real_labels is None else real_labels[: len(samples)]
    reference_features = in_batches(net, reference)
    metrics: dict[str, float] = {"samples": len(samples), "reference_images": len(reference), "neighbours": k}
    for pixels, classes, suffix in ((samples, labels, ""), (real, real_labels, "_of_real_data")):
        of_one = _distances(in_batches(net, pixels), reference_features, k) | _judged(judge, pixels, classes)
        metrics |= {name + suffix: value for name, value in of_one.items()}
    return metrics


def _distances(features: Tensor, reference: Tensor, k: int) -> dict[str, float]:
    return {"fd_cnn": frechet_distance(features, reference), **vars(measure_coverage(features, reference, k))}


def _judged(judge: DigitsClassifier | None, pixels: Tensor, labels: Tensor | None) -> dict[str, float]:
    if judge is None:
        return {}
    metrics = {"accepted": accepted_share(judge, pixels)}
    return metrics if labels is None else metrics | {"class_accuracy": class_accuracy(judge, pixels, labels)}
