# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""How a picture is read: a path, an address, a PIL picture, an array or a tensor becomes (n, C, H, W) on 0..255.

Files   A path, an http or https address, a data URL and base64 text are the same file, so they give the same pixels as
        the PIL picture that it opens to. Its size is checked before it is decoded.
Values  Integers in 0..255 are 8-bit levels, uint16 and mode "I;16" 16-bit levels, booleans black and white. Floats are
        judged once a call, all pictures together: all in [0, 1] means rescaled already, else all must lie in [0, 255];
        anything else is a ValueError. With `do_rescale=False` floats pass as they are.
Shapes  (H, W); (H, W, C) or (C, H, W); grey (N, H, W); (N, C, H, W) or (N, H, W, C); lists of them. An array (A, H, W)
        on its own is one picture where A is a channel count (1, 3, 4), else A grey ones; for a processor of one channel
        (4, H, W) is four grey ones. `input_data_format` settles it.
"""

import base64
import io
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from transformers.image_utils import ChannelDimension
from transformers.utils import logging


logger = logging.get_logger(__name__)

EXIF_ORIENTATION = 0x0112
# EXIF orientation -> what turns the picture upright
TURNS = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
SAYS_ORIENTATION = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")  # where PIL looks for it
DOWNLOAD_SECONDS, DOWNLOAD_BYTES = 60, 2**28  # bounds of a picture that is read from an address
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
        element = open_file(os.fspath(element))
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


def open_file(source: str) -> PIL.Image.Image:
    """A path, an http or https address, a data URL or base64 text, opened but not decoded.

    Raises:
        OSError, ValueError: there is no such file, it cannot be fetched, or it is no picture.
    """
    if os.path.isfile(source):
        return PIL.Image.open(source)
    if source.startswith(("http://", "https://")):
        request = urllib.request.Request(source, headers={"User-Agent": "hf_autoencoders"})
        with urllib.request.urlopen(request, timeout=DOWNLOAD_SECONDS) as answer:
            data = answer.read(DOWNLOAD_BYTES + 1)
        if len(data) > DOWNLOAD_BYTES:
            raise ValueError(f"{source} holds more than {DOWNLOAD_BYTES / 2**20:.0f} MiB.")
        return PIL.Image.open(io.BytesIO(data))
    text = source.partition(",")[2] if source.startswith("data:image/") else source
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise ValueError(
            f"there is no file {_shortened(source)!r}, and it is no http or https address, data URL or base64 text."
        ) from None
    return PIL.Image.open(io.BytesIO(data))


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """The picture as its EXIF orientation wants it shown, without that tag.

    PIL's own `exif_transpose` writes all other tags anew, so that one malformed tag of a readable picture raises.
    """
    try:
        orientation = image.getexif().get(EXIF_ORIENTATION)
    except Exception as error:  # PIL raises struct.error, SyntaxError, TypeError and more, depending on the tag
        logger.warning_once(f"EXIF data cannot be read ({type(error).__name__}): such pictures are taken as upright.")
        return image
    if orientation not in TURNS:
        return image
    turned = image.transpose(TURNS[orientation])
    turned.info = {name: value for name, value in image.info.items() if name not in SAYS_ORIENTATION}
    return turned


def _check_pixels(height: int, width: int, max_pixels: int | None) -> None:
    if max_pixels is not None and height * width > max_pixels:
        raise ValueError(
            f"its {width} x {height} = {width * height:,} pixels exceed `max_pixels` = {max_pixels:,}. "
            "Make it smaller first, or raise `max_pixels` if you trust its source."
        )


def _pil_to_array(image: PIL.Image.Image) -> np.ndarray:
    """Upright; (H, W) bool, uint8, uint16, int32 or float32, or (H, W, 3 or 4) uint8."""
    sixteen_bit = image.mode == "I" and image.format in ("PNG", "PPM")  # what PIL makes of their 16-bit levels
    image = upright(image)
    if sixteen_bit:
        return np.array(image).astype(np.uint16)
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
