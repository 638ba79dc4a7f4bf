# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The image processor of a run whose pictures decide what it is: their size and their number of channels."""

from typing import Any

import numpy as np
from torch import Tensor

from ..models.image_processing_autoencoder import AutoencoderImageProcessorPil


class FittedProcessor:
    """An image processor for pictures like the first one it is given, where the user gave no size or channel count.

    Used while the data set is read (`load_images(to_uint8=...)`). Pictures keep their size unless --image_size was
    given, and a picture of another size is then refused by the reader; the saved processor resizes to the model's size.
    """

    def __init__(self, image_size: int | list[int] | None, num_channels: int | None, fit: str):
        self.image_size, self.num_channels, self.fit = image_size, num_channels, fit
        self.processor: AutoencoderImageProcessorPil | None = None

    def __call__(self, images: list[Any]) -> Tensor:
        """PIL pictures or arrays -> uint8 (B, C, H, W)."""
        if self.processor is None:
            channels = _channels_of(images[0]) if self.num_channels is None else self.num_channels
            self.processor = AutoencoderImageProcessorPil(num_channels=channels, **self._steps())
        return self.processor.to_uint8(images)

    def for_saving(self, height: int, width: int) -> AutoencoderImageProcessorPil:
        """The processor that goes with the model: it brings any picture to the model's size."""
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
    if fit == "stretch" or height != width:
        return {"do_resize": True, "size": target}
    return {"do_resize": True, "size": {"shortest_edge": height}, "do_center_crop": True, "crop_size": target}


def _channels_of(image: Any) -> int:
    if isinstance(image, np.ndarray):
        return 1 if image.ndim == 2 else image.shape[-1]
    return 1 if image.mode in ("1", "L", "I;16", "I", "F") else 3
