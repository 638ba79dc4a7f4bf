# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a report is made of, and what it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ..perception.digits_classifier import DigitsClassifier, load_digits_classifier
from ..perception.feature_nets import FeatureNet
from .subject import Subject


@dataclass
class Picture:
    """A figure, or an image that is shown pixel by pixel.

    Args:
        name: of the PNG file, without suffix. caption: what it shows.
    """

    name: str
    figure: Figure | Image.Image
    caption: str

    @property
    def exact(self) -> bool:
        """Whether a pixel of it must be a pixel of the screen."""
        return isinstance(self.figure, Image.Image)


@dataclass
class Page:
    """One part of the report.

    Args:
        metrics: name -> number.
        notes: why something is missing, or how it was measured.
        protocol: of metrics that compare only under the same one.
        columns: where metrics are shown side by side: heading -> name -> number; else they are shown one below another.
    """

    title: str
    pictures: list[Picture] = field(default_factory=list)
    metrics: dict[str, float | int | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    protocol: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass
class Knobs:
    """Options of a report.

    Args:
        judge: an independent classifier; None: the feature net itself, and the report says so.
        beside: a second model, for the comparison of the gaps.
        num_importance_samples: k of the importance weighted bound; 0: no bound (5,000 takes minutes).
        num_samples: samples from the prior on which FD-CNN is measured.
        code_nats: of a learned prior, see `measure_likelihood`; gives bits/dim of prior and decoder together.
        feature_net: net in whose features reconstructions and pictures are compared; None: no such metrics.
        feature_size: pixels of a side that pictures are resized to for it; None: as they are.
    """

    judge: DigitsClassifier | None = None
    beside: Subject | None = None
    num_importance_samples: int = 0
    num_samples: int = 5000
    code_nats: Callable[[Tensor], Tensor] | None = None
    feature_net: FeatureNet | None = None
    feature_size: int | None = None

    @property
    def classifier(self) -> DigitsClassifier:
        return self.judge or load_digits_classifier()
