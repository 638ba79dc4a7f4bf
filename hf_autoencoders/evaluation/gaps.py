# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a model decodes between its codes and from new draws: is it a digit, and is it near a real picture?

A classifier can be confident of a picture that is no digit. So the distance to real pictures is measured, too.
"""

import contextlib

import torch
from torch import Tensor

from ..perception.digits_classifier import DigitsClassifier, in_batches
from .features import RealBalls, acceptance, accepted_share
from .latent_space import Gaps, find_gaps
from .subject import Subject


DRAWS = 2000  # pictures of each kind that are judged


class Judges:
    """A classifier's confidence, and k-nearest-neighbour precision in the features of a net.

    Args:
        classifier: gives the probability of each digit.
        net: gives the features.
        real: held-out pictures (M, C, H, W) in [-1, 1].
    """

    def __init__(self, classifier: DigitsClassifier, net: DigitsClassifier, real: Tensor):
        self.classifier, self.net = classifier, net
        self.balls = RealBalls(in_batches(net, real))

    def confidence(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) -> probability of the most likely digit, (N,)."""
        return acceptance(self.classifier, pixels)

    def plausible(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) -> whether each is as near to a real picture as real ones are to each other, (N,) bool."""
        return self.balls.contain(in_batches(self.net, pixels))

    def metrics(self, pixels: Tensor, name: str) -> dict[str, float]:
        """Shares of pictures (N, C, H, W) that are accepted as a digit, and that are plausible."""
        return {
            f"accepted_{name}": accepted_share(self.classifier, pixels),
            f"plausible_{name}": self.plausible(pixels).double().mean().item(),
        }

    def covered_by(self, pixels: Tensor) -> float:
        """Share of real pictures that have one of `pixels` near: low if a model draws the same picture each time."""
        return self.balls.reached_share(in_batches(self.net, pixels))


def gaps_of(subject: Subject, judges: Judges) -> Gaps:
    return find_gaps(
        subject.plane,
        subject.train_points,
        subject.points,
        subject.decode,
        judges.confidence,
        judges.plausible,
        seed=subject.seed,
    )


def gap_metrics(subject: Subject, found: Gaps, judges: Judges) -> dict[str, float]:
    """Gaps beside the rest of the hull, midpoints of two codes, new draws, and what the two judges say of real ones."""
    metrics = {"share_of_hull": found.share, "radius": found.radius}
    if len(found.points):
        metrics |= {"accepted": found.accepted, "plausible": found.plausible_share}
    for name, pixels in painted(subject, found).items():
        metrics |= judges.metrics(pixels, name)
        if name.endswith("samples"):
            metrics[f"covered_by_{name}"] = judges.covered_by(pixels)
    return {f"gaps_{subject.name}_{name}": value for name, value in metrics.items()}


def painted(subject: Subject, found: Gaps) -> dict[str, Tensor]:
    """Pictures by what they come from; `samples` are of the model's own prior, which only some have."""
    generator = torch.Generator().manual_seed(subject.seed)
    latents = subject.held_out_latents
    a, b = (latents[torch.randint(len(latents), (DRAWS,), generator=generator)] for _ in "ab")
    noise = torch.randn(DRAWS, *latents.shape[1:], generator=generator)
    sets = {"midpoints_of_two_codes": subject.decode((a + b) / 2), "normal_samples": subject.decode(noise)}
    if len(found.anywhere):
        sets["anywhere_in_hull"] = subject.decode(subject.plane.latents(found.anywhere))
    with contextlib.suppress(ValueError):  # the page of the samples says why
        sets["samples"] = subject.sample(DRAWS)
    real = [batch.cpu() for batch in subject.batches(subject.train, min(DRAWS, subject.kept(subject.train)))]
    return sets | {"reconstructions": subject.reconstructions, "training_pictures": torch.cat(real)}
