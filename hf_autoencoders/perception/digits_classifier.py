# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The small digit classifier of FD-CNN, whose weights are part of this package, and judges trained in the same way.

`scripts/train_digits_classifier.py` trained it on MNIST's training split; the seed and the test accuracy are in the
file's metadata (99.37 %). The same script with another seed makes the judge of class accuracy, which is not shipped.
"""

import hashlib
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..models.precision import at_least_float32


WEIGHTS = Path(__file__).with_name("mnist_features.safetensors")
CHECKSUM = "52054e3d7b39f188a7a06be7d0ce581c4c97ee126aa915427a0939c96a443fb2"
SIDE = 28  # pixels; other pictures are resized to it


class DigitsClassifier(nn.Module):
    """Grey 28x28 pictures in [-1, 1] -> 64 features (`forward`) or 10 logits (`classify`).

    Other sizes are resized (bilinear, antialiased) and channels averaged. Metrics of such pictures can be compared
    only with each other.

    >>> DigitsClassifier()(torch.zeros(5, 3, 32, 32)).shape
    torch.Size([5, 64])
    """

    num_features = 64

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(24, 48, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(48, 64, 3, stride=2, padding=1)
        self.features = nn.Linear(64 * 4 * 4, self.num_features)
        self.classes = nn.Linear(self.num_features, 10)
        self.checksum = ""  # of the file that the weights came from

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> (B, 64)"""
        return self.embed(self.maps(as_grey_28(pixels))[-1])

    def maps(self, grey: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1 or more, 28, 28) -> maps of 24, 48 and 64 channels, (B, 24, 14, 14), (B, 48, 7, 7), (B, 64, 4, 4)"""
        fine = F.relu(self.conv1(grey[:, :1]))
        middle = F.relu(self.conv2(fine))
        return fine, middle, F.relu(self.conv3(middle))

    def embed(self, coarse: Tensor) -> Tensor:
        """The last map (B, 64, 4, 4) -> (B, 64)"""
        return F.relu(self.features(coarse.flatten(1)))

    def classify(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> logits of the ten digits (B, 10)"""
        return self.classes(self(pixels))


def as_grey_28(pixels: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, 28, 28), at least float32, clamped to [-1, 1]"""
    grey = at_least_float32(pixels).clamp(-1, 1).mean(1, keepdim=True)
    if grey.shape[2:] == (SIDE, SIDE):
        return grey
    return F.interpolate(grey, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)


def checksum_of(path: str | Path) -> str:
    """SHA-256 of the file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def save_digits_classifier(net: DigitsClassifier, path: str | Path, **metadata: object) -> None:
    """Saves half-precision weights (208 kB) with `metadata`."""
    weights = {name: tensor.half().contiguous() for name, tensor in net.state_dict().items()}
    save_file(weights, path, metadata={name: str(value) for name, value in metadata.items()})


def read_digits_classifier(path: str | Path) -> DigitsClassifier:
    """The net in this file, in eval mode and float32, whatever its checksum."""
    path, net = Path(path), DigitsClassifier()
    if not path.is_file():
        raise ValueError(f"There is no classifier {path}: scripts/train_digits_classifier.py makes one.")
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} holds no classifier of scripts/train_digits_classifier.py: {error}") from None
    net.checksum = checksum_of(path)
    return net.eval().requires_grad_(False)


def read_weights_metadata(path: str | Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def load_digits_classifier(path: str | Path = WEIGHTS) -> DigitsClassifier:
    """The pinned net. Another file is refused: distances in the features of another net cannot be compared."""
    net = read_digits_classifier(path)
    check_pinned(net)
    return net


def check_pinned(net: DigitsClassifier) -> None:
    """Raises ValueError unless these are the pinned weights."""
    if net.checksum != CHECKSUM:
        raise ValueError(
            f"FD-CNN is defined by the weights of checksum {CHECKSUM[:12]}..., but these have "
            f"{net.checksum[:12] + '...' if net.checksum else 'none'}: the distances could not be compared."
        )


def load_judge(path: str | Path) -> DigitsClassifier:
    """A classifier for class accuracy, independent of the one that FD-CNN measures with."""
    judge = read_digits_classifier(path)
    if judge.checksum == CHECKSUM:
        raise ValueError(f"The judge {path} is the net of FD-CNN itself; train one with another seed.")
    return judge


@torch.no_grad()
def in_batches(function, pixels: Tensor, batch_size: int = 500) -> Tensor:
    """`function` of (B, C, H, W) over all of `pixels`, concatenated."""
    return torch.cat([function(part) for part in pixels.split(batch_size)])
