# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The image processor of a run: the pictures decide its size and number of channels, unless the user does."""

from typing import Any

import numpy as np
from torch import Tensor

from ..models.image_processing_autoencoder import AutoencoderImageProcessorPil


class FittedProcessor:
    """An image processor that fits the first pictures, if the user gave no size or number of channels.

    It is used while the data set is read (`load_images(to_uint8=...)`). Grey pictures among coloured ones become three
    equal channels. If the first pictures are all grey, a later coloured one is a ValueError. Without --image_size,
    pictures keep their size, and the reader refuses a picture of another size; the saved processor resizes to the
    model's size.
    """

    def __init__(self, image_size: int | list[int] | None, num_channels: int | None, fit: str):
        self.image_size, self.num_channels, self.fit = image_size, num_channels, fit
        self.processor: AutoencoderImageProcessorPil | None = None

    def look_at(self, images: list[Any]) -> str | None:
        """Chooses the number of channels by some training pictures, decoded or not. Returns a note if they differ."""
        counts = [_channels_of(image) for image in images] or [3]
        channels = max(counts) if self.num_channels is None else self.num_channels
        self.processor = AutoencoderImageProcessorPil(num_channels=channels, **self._steps())
        grey = counts.count(1)
        if self.num_channels is not None or grey in (0, len(counts)):
            return None
        return f"{grey} of the {len(counts)} pictures looked at are grey, others are not: all get {channels} channels."

    def __call__(self, images: list[Any]) -> Tensor:
        """PIL pictures or arrays -> uint8 (B, C, H, W)."""
        if self.processor is None:
            self.look_at(images)
        if self.num_channels is None and self.processor.num_channels == 1 and max(map(_channels_of, images)) > 1:
            raise ValueError(
                "it has colours, and those looked at first are grey: --num_channels 3 keeps colours, 1 drops them."
            )
        return self.processor.to_uint8(images)

    def for_saving(self, height: int, width: int) -> AutoencoderImageProcessorPil:
        """The processor that is saved with the model: it brings any picture to the model's size."""
        steps = self._steps() if self.image_size is not None else _shaping("crop", height, width)
        return AutoencoderImageProcessorPil(num_channels=self.processor.num_channels, **steps)

    def _steps(self) -> dict[str, Any]:
        if self.image_size is None:
            return {"do_resize": False}
        size = self.image_size
        height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
        return _shaping(self.fit, height, width)


def _shaping(fit: str, height: int, width: int) -> dict[str, Any]:
    target = {"height": height, "width": width}
    if fit == "pad":
        return {"do_resize": False, "do_pad": True, "pad_size": target}
    if fit == "stretch":
        return {"do_resize": True, "size": target}
    size = {"shortest_edge": height} if height == width else target
    steps = {"do_resize": True, "size": size, "do_center_crop": True, "crop_size": target}
    return steps if height == width else {**steps, "keep_proportions": True}


def _channels_of(image: Any) -> int:
    if isinstance(image, np.ndarray):
        return 1 if image.ndim == 2 else min(image.shape[0], image.shape[-1])
    return 1 if image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16") else 3
