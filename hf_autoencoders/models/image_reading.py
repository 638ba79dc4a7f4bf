# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""How a picture is read: a path, an address, a PIL picture, an array or a tensor becomes (n, C, H, W) on 0..255.

Values  Integers in 0..255 are 8-bit levels, uint16 and mode "I;16" 16-bit levels, booleans black and white. Floats are
        judged once a call, all pictures together: all in [0, 1] means rescaled already, else all must lie in [0, 255];
        anything else is a ValueError. With `do_rescale=False` floats pass as they are.
Shapes  (H, W); (H, W, C) or (C, H, W); grey (N, H, W); (N, C, H, W) or (N, H, W, C); lists of them. An array (A, H, W)
        on its own is one picture where A is a channel count (1, 3, 4), else A grey ones; for a processor of one channel
        (4, H, W) is four grey ones. `input_data_format` settles it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor
from transformers.image_utils import ChannelDimension, load_image
from transformers.utils import logging


logger = logging.get_logger(__name__)

EXIF_ORIENTATION = 0x0112
# What a picture can die of; PIL calls a broken PNG a SyntaxError.
BAD_PICTURE = (OSError, SyntaxError, EOFError, ValueError, PIL.Image.DecompressionBombError)
ROUNDING = 1e-3  # how far floats may leave [0, 1] or [0, 255] (relative to the range) and still count as rounding


def flatten_pictures(images: Any) -> Iterator[Any]:
    if isinstance(images, (list, tuple)):
        for element in images:
            yield from flatten_pictures(element)
    else:
        yield images


@contextmanager
def naming_the_picture(index: int, count: int) -> Iterator[None]:
    """Whatever is wrong with a picture becomes one ValueError that says which."""
    try:
        yield
    except BAD_PICTURE as error:
        place = f"Picture {index} of {count}" if count > 1 else "The picture"
        raise ValueError(f"{place} cannot be used: {error or type(error).__name__}") from error


def read_picture(
    element: Any,
    *,
    num_channels: int,
    is_alone: bool,
    input_data_format: str | ChannelDimension | None,
    max_pixels: int | None,
) -> Tensor:
    """Path, address, PIL picture, array or tensor -> (n, C, H, W), values untouched."""
    if isinstance(element, (str, os.PathLike)):
        # A local file is opened here, so that its size is known before it is decoded and its alpha survives.
        element = PIL.Image.open(element) if os.path.isfile(element) else load_image(os.fspath(element))
    if isinstance(element, PIL.Image.Image):
        _check_pixels(element.height, element.width, max_pixels)
        array = _pil_to_array(element)
        return _array_to_tensor(array[:, :, None] if array.ndim == 2 else array).permute(2, 0, 1)[None]
    if isinstance(element, np.ndarray):
        element = _array_to_tensor(element)
    if not isinstance(element, Tensor):
        raise ValueError(
            f"a picture is a PIL image, a numpy array, a torch tensor or a path, got {type(element).__name__}."
        )
    if element.numel() == 0:
        raise ValueError(f"a picture of shape {tuple(element.shape)} has no pixels.")
    batch = _split(element.detach(), num_channels, is_alone, input_data_format)
    _check_pixels(batch.shape[-2], batch.shape[-1], max_pixels)
    return batch


def _check_pixels(height: int, width: int, max_pixels: int | None) -> None:
    if max_pixels is not None and height * width > max_pixels:
        raise ValueError(
            f"its {width} x {height} = {width * height:,} pixels exceed `max_pixels` = {max_pixels:,}. "
            "Make it smaller first, or raise `max_pixels` if you trust its source."
        )


def _pil_to_array(image: PIL.Image.Image) -> np.ndarray:
    """Upright; (H, W) bool, uint8, uint16, int32 or float32, or (H, W, 3 or 4) uint8."""
    if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
        image = PIL.ImageOps.exif_transpose(image)
    if image.mode == "La":
        image = image.convert("LA")  # PIL knows no direct way from La to RGBA
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        if image.has_transparency_data:
            image = image.convert("RGBA")
        elif image.mode not in ("1", "L", "RGB"):
            image = image.convert("RGB")
    return np.array(image)


def _array_to_tensor(array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "buif":
        raise ValueError(f"pixels are booleans, integers or floats, got an array of dtype {array.dtype}.")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch refuses a mirrored view and warns of a read-only one
    return torch.from_numpy(array)


def _split(
    array: Tensor, num_channels: int, is_alone: bool, input_data_format: str | ChannelDimension | None
) -> Tensor:
    """Any layout -> (n, C, H, W); the rules stand at the top of this file."""
    if array.ndim not in (2, 3, 4):
        raise ValueError(f"a picture has 2 or 3 axes and a batch 3 or 4, got shape {tuple(array.shape)}.")
    if array.ndim == 2:
        return array[None, None]
    if array.ndim == 3:
        if is_alone and input_data_format is None and _is_grey_batch(array.shape, num_channels):
            return array[:, None]
        array = array[None]
    if input_data_format is None:
        input_data_format = _layout(array.shape, num_channels)
    return array if ChannelDimension(input_data_format) == ChannelDimension.FIRST else array.movedim(-1, 1)


def _is_grey_batch(shape: torch.Size, num_channels: int) -> bool:
    """Whether (A, H, W) means A grey pictures. A last axis below 8 is taken for a channel count, not for a width."""
    counts = {1, 3, 4, num_channels}
    if shape[-1] in counts or shape[-1] < 8:
        return False
    if num_channels == 1 and shape[0] == 3:
        logger.warning_once(
            f"Read an array of shape {tuple(shape)} as one colour picture. Pass three grey ones as (3, 1, H, W)."
        )
    return shape[0] not in counts or (num_channels == 1 and shape[0] == 4)


def _layout(shape: torch.Size, num_channels: int) -> ChannelDimension:
    counts = sorted({1, 3, 4, num_channels})
    first, last = shape[1] in counts, shape[3] in counts
    if first and last:
        logger.warning_once(
            f"Pictures of shape {tuple(shape[1:])} fit channels first and last; read as channels first. "
            "`input_data_format` settles it."
        )
    if not first and not last:
        raise ValueError(
            f"a picture of shape {tuple(shape[1:])} has neither first nor last a number of channels that fits "
            f"`num_channels={num_channels}`: {', '.join(map(str, counts))}. Pass grey batches as one array (N, H, W)."
        )
    return ChannelDimension.FIRST if first else ChannelDimension.LAST


def float_scale(batches: list[Tensor]) -> float:
    """What takes the floats of this call to 0..255: 255 if all lie in [0, 1], 1 if all lie in [0, 255]."""
    floats = [batch for batch in batches if batch.is_floating_point()]
    if not floats:
        return 1.0
    low = min(batch.min().item() for batch in floats)
    high = max(batch.max().item() for batch in floats)
    if any(batch.isnan().any() for batch in floats):
        raise ValueError("Some pixels are NaN.")
    for top in (1, 255):
        if -ROUNDING * top <= low and high <= top * (1 + ROUNDING):
            return 255 / top
    raise ValueError(
        f"Floats must lie in [0, 1] or in [0, 255], got {low:.4g} to {high:.4g}. "
        "Where they are processed already, pass `do_rescale=False, do_normalize=False`."
    )


def to_levels(batch: Tensor, scale: float | None) -> Tensor:
    """uint8, or float32 on 0..255; with `scale=None` floats stay as given and 16-bit integers come on [0, 1]."""
    if batch.dtype == torch.uint8:
        return batch
    if batch.dtype == torch.bool:
        return batch.to(torch.uint8) * 255
    if batch.dtype == torch.uint16:
        return batch.float() / (65535 if scale is None else 257)  # 65535 = 257 x 255
    if batch.is_floating_point():
        batch = batch.float()
        return batch if scale is None else (batch * scale).clamp(0, 255)
    low, high = batch.to(torch.int64).aminmax()
    if low < 0 or high > 255:
        raise ValueError(
            f"integers ({batch.dtype}) must lie in 0..255, got {low} to {high}. "
            "16-bit pictures are read from uint16 (PIL mode I;16)."
        )
    return batch.to(torch.uint8)


def warn_of_masks(stack: Tensor) -> None:
    if stack.dtype == torch.uint8 and stack.max() == 1:
        logger.warning_once(
            "No pixel of these 8-bit pictures exceeds 1 of 255, so they come out all but black. "
            "Pass masks of 0 and 1 as booleans or floats."
        )


def lay_on_background(batch: Tensor, num_channels: int, background: float, white: float) -> Tensor:
    """RGBA (n, 4, H, W) -> RGB over an even background; anything else as it is. `white` is the value of full alpha."""
    if batch.shape[1] != 4 or num_channels == 4:
        return batch
    if batch.dtype != torch.uint8:
        color, alpha = batch[:, :3], batch[:, 3:] / white
        return color * alpha + background * (1 - alpha)
    color, alpha = batch[:, :3].int(), batch[:, 3:].int()
    return ((color * alpha + round(background) * (255 - alpha) + 127) // 255).to(torch.uint8)


def to_channels(batch: Tensor, num_channels: int, do_grayscale: bool | None) -> Tensor:
    """(n, C, H, W) -> (n, num_channels, H, W): grey from colour, three equal channels from grey, or a clear error."""
    came = batch.shape[1]
    if came == 3 and (num_channels == 1 or do_grayscale):
        batch = _luma(batch)
    if batch.shape[1] == 1 and num_channels == 3:
        batch = batch.expand(-1, 3, -1, -1)
    if batch.shape[1] != num_channels:
        fits = "1 (grey), 3 (RGB) or 4 (RGBA)" if num_channels in (1, 3) else str(num_channels)
        raise ValueError(f"`num_channels={num_channels}` takes pictures of {fits} channels, got {came}.")
    return batch


def _luma(batch: Tensor) -> Tensor:
    """ITU-R 601, (n, 3, H, W) -> (n, 1, H, W); for uint8 with the integers of PIL's "L", so that both agree exactly."""
    if batch.dtype != torch.uint8:
        red, green, blue = batch.split(1, dim=1)
        return 0.299 * red + 0.587 * green + 0.114 * blue
    red, green, blue = batch.int().split(1, dim=1)
    return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).to(torch.uint8)
