# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pictures in, `pixel_values` in [-1, 1] out, and back.

    PIL, array, tensor, path
      | upright, alpha laid on the background, 1 or 3 channels, levels 0..255    one code for both classes
      | resize                                                                   PIL or torchvision
      | centre crop, pad, x 1/255, (x - 0.5) / 0.5                               one code for both classes
    pixel_values (N, C, H, W)
      | `postprocess`: back to [0, 1], clamped
    PIL, array, tensor

Only the resize differs, so without one the two classes give equal values. A checkpoint saved by either names both, and
each machine loads the one that it can run. What they take, and how they read it:

Values  Integers in 0..255 are 8-bit levels, uint16 and mode "I;16" 16-bit levels, booleans black and white. Floats are
        judged once a call, all pictures together: all in [0, 1] means rescaled already, else all must lie in [0, 255];
        anything else is a ValueError. With `do_rescale=False` floats pass as they are.
Shapes  (H, W); (H, W, C) or (C, H, W); grey (N, H, W); (N, C, H, W) or (N, H, W, C); lists of them. An array (A, H, W)
        on its own is one picture where A is a channel count (1, 3, 4), else A grey ones; for a processor of one channel
        (4, H, W) is four grey ones. `input_data_format` settles it.
Order   Resize (antialiased), centre crop (a smaller picture is padded first), pad (centred).
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from torch import Tensor
from transformers.image_processing_backends import PilBackend, TorchvisionBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_transforms import get_size_with_aspect_ratio
from transformers.image_utils import (
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
    get_image_size_for_max_height_width,
    load_image,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import TensorType, logging, requires_backends


logger = logging.get_logger(__name__)

EXIF_ORIENTATION = 0x0112
# What a picture can die of; PIL calls a broken PNG a SyntaxError.
BAD_PICTURE = (OSError, SyntaxError, EOFError, ValueError, PIL.Image.DecompressionBombError)
ROUNDING = 1e-3  # how far floats may leave [0, 1] or [0, 255] (relative to the range) and still count as rounding


class AutoencoderImageProcessorKwargs(ImagesKwargs, total=False):
    """What these processors know beyond transformers' own arguments.

    num_channels (`int`, *optional*):
        Channels of `pixel_values`. 1 and 3 convert (grey from colour, three equal channels from grey); any other count
        takes arrays that have it already. None means 1 with `do_grayscale`, else 3.
    do_grayscale (`bool`, *optional*, defaults to False):
        Drop the colour (ITU-R 601 luma, the integers of PIL's "L"); with `num_channels=3`, three equal channels.
    background_color (`int`, *optional*, defaults to 255):
        Grey level 0..255 on which transparent pictures are laid: white, as a browser shows them.
    fill_value (`int`, *optional*, defaults to 0):
        Grey level 0..255 of what padding adds, before rescaling: 0 is black, -1 in `pixel_values`.
    max_pixels (`int`, *optional*, defaults to 89478485):
        Larger pictures are refused before they are decoded (the bound at which PIL warns). None: no bound.
    """

    num_channels: int | None
    do_grayscale: bool | None
    background_color: int | None
    fill_value: int | None
    max_pixels: int | None


class _AutoencoderImageProcessing:
    """All but the resize: the two classes at the end of the file add a backend each."""

    valid_kwargs = AutoencoderImageProcessorKwargs
    model_input_names = ["pixel_values"]

    num_channels = None
    do_grayscale = False
    do_convert_rgb = None  # None and True: `num_channels` decides; False: channels stay as they come
    background_color = 255
    max_pixels = 89_478_485
    do_resize = True
    size = {"height": 32, "width": 32}
    resample = PILImageResampling.BICUBIC
    do_center_crop = False
    crop_size = None
    do_pad = False
    pad_size = None
    fill_value = 0
    do_rescale = True
    rescale_factor = 1 / 255
    do_normalize = True
    image_mean = 0.5  # one number serves any channel count
    image_std = 0.5

    def to_uint8(self, images: ImageInput, **kwargs: Unpack[AutoencoderImageProcessorKwargs]) -> Tensor:
        """Channels, resize, crop and pad only: uint8 (N, C, H, W), a quarter of the memory of `pixel_values`.

        >>> AutoencoderImageProcessorPil(num_channels=1, do_resize=False).to_uint8(np.eye(28, dtype=np.uint8)).shape
        torch.Size([1, 1, 28, 28])
        """
        levels = {"do_rescale": True, "rescale_factor": 1.0, "do_normalize": False}  # stays on 0..255
        return _to_byte(self.preprocess(images, **{**kwargs, **levels}, return_tensors="pt")["pixel_values"])

    def postprocess(self, pixel_values: Tensor | np.ndarray | list, output_type: str = "pil") -> Any:
        """The way back from `pixel_values` (N, C, H, W) or (C, H, W), clamped to the pixel range.

        `output_type`: "pil" list of N pictures (mode L, RGB or RGBA) | "pt" float32 (N, C, H, W) in [0, 1] |
        "np" float32 (N, H, W, C) in [0, 1] (as diffusers' VaeImageProcessor).
        """
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f'`output_type` must be "pil", "np" or "pt", got {output_type!r}.')
        unit = self._to_unit_range(_as_pixel_batch(pixel_values))  # (N, C, H, W) in [0, 1]
        if output_type == "pt":
            return unit
        if output_type == "np":
            return unit.permute(0, 2, 3, 1).cpu().numpy()
        return [_to_pil(picture) for picture in _to_byte(unit * 255).cpu()]

    def to_dict(self) -> dict[str, Any]:
        """Names both classes for remote loading: `save_pretrained` alone names the saved one, useless elsewhere."""
        processor_dict = super().to_dict()
        if self._auto_class is not None and "auto_map" in processor_dict:
            file = type(self).__module__.split(".")[-1]
            both = {"pil": f"{file}.AutoencoderImageProcessorPil", "torchvision": f"{file}.AutoencoderImageProcessor"}
            processor_dict["auto_map"] = {**processor_dict["auto_map"], self._auto_class: both}
        return processor_dict

    # The steps, in the order in which `preprocess` of transformers calls them.

    def _validate_preprocess_kwargs(self, **kwargs):
        super()._validate_preprocess_kwargs(**kwargs)
        num_channels, max_pixels = kwargs["num_channels"], kwargs["max_pixels"]
        if num_channels is not None and num_channels < 1:
            raise ValueError(f"`num_channels` must be at least 1, got {num_channels}.")
        if kwargs["do_convert_rgb"] and num_channels not in (None, 3):
            raise ValueError(f"`do_convert_rgb=True` gives 3 channels, but `num_channels` is {num_channels}.")
        if max_pixels is not None and max_pixels < 1:
            raise ValueError(f"`max_pixels` must be at least 1 (or None for no bound), got {max_pixels}.")
        for name in ("background_color", "fill_value"):
            if not 0 <= kwargs[name] <= 255:
                raise ValueError(f"`{name}` is a grey level in 0..255, got {kwargs[name]}.")
        if kwargs["do_pad"] and kwargs["pad_size"] is None:
            raise ValueError("`do_pad=True` needs a `pad_size`, such as 32.")
        if kwargs["data_format"] not in (None, "channels_first", ChannelDimension.FIRST):
            raise ValueError(f"`pixel_values` are channels first, got `data_format={kwargs['data_format']!r}`.")

    def _prepare_image_like_inputs(
        self,
        images: ImageInput,
        *,
        num_channels: int | None,
        do_grayscale: bool | None,
        do_convert_rgb: bool | None,
        do_rescale: bool | None,
        background_color: int,
        max_pixels: int | None,
        input_data_format: str | ChannelDimension | None,
        device: Any,
        **unused,
    ) -> list[Tensor]:
        """Pictures (C, H, W): uint8, or float32 on 0..255 (floats as given, with `do_rescale=False`)."""
        if do_convert_rgb:
            num_channels = 3
        elif num_channels is None:
            num_channels = 1 if do_grayscale else 3
        elements = list(_flatten(images))
        if not elements:
            raise ValueError("No pictures: got an empty list.")
        reading = {
            "num_channels": num_channels,
            "is_alone": not isinstance(images, (list, tuple)),
            "input_data_format": input_data_format,
            "max_pixels": max_pixels,
        }
        batches = []  # one an element, each (n, C, H, W)
        for index, element in enumerate(elements):
            with _naming(index, len(elements)):
                batch = _read(element, **reading)
                batches.append(batch if device is None else batch.to(device))

        float_scale = _float_scale(batches) if do_rescale else None
        pictures = []
        for index, batch in enumerate(batches):
            with _naming(index, len(elements)):
                batch = _to_levels(batch, float_scale)
                if do_convert_rgb is not False:
                    white = 255 if do_rescale or batch.dtype == torch.uint8 else 1
                    batch = _lay_on_background(batch, num_channels, background_color / 255 * white, white)
                    batch = _to_channels(batch, num_channels, do_grayscale)
                pictures.extend(batch.unbind())
        return pictures

    def _preprocess(self, images: list[Tensor], *, return_tensors: str | TensorType | None, **steps) -> BatchFeature:
        """Pictures of one shape go through the steps together."""
        by_kind: dict[tuple, list[int]] = {}
        for index, picture in enumerate(images):
            by_kind.setdefault((picture.shape, picture.dtype), []).append(index)

        done: list[Tensor] = [images[0]] * len(images)
        for indices in by_kind.values():
            stack = torch.stack([images[index] for index in indices])  # (n, C, H, W)
            stack = self._normalize_stack(self._shape_stack(stack, **steps), **steps)
            if len(by_kind) == 1 and return_tensors is not None:
                return BatchFeature({"pixel_values": _as_type(stack, return_tensors)})
            for index, picture in zip(indices, stack, strict=True):
                done[index] = picture
        if return_tensors is not None:
            return BatchFeature({"pixel_values": _as_type(_stack_equal(done), return_tensors)})
        return BatchFeature({"pixel_values": [p.cpu().numpy() for p in done] if self.backend == "pil" else done})

    def _shape_stack(
        self,
        stack: Tensor,
        *,
        do_resize: bool | None,
        size: SizeDict | None,
        resample: Any,
        do_center_crop: bool | None,
        crop_size: SizeDict | None,
        do_pad: bool | None,
        pad_size: SizeDict | None,
        fill_value: int,
        do_rescale: bool | None,
        **unused,
    ) -> Tensor:
        """Resize, centre crop, pad: (n, C, H, W) -> (n, C, h, w) of the same type."""
        _warn_of_masks(stack)
        on_levels = do_rescale or stack.dtype == torch.uint8  # else floats on a range that only the caller knows
        fill = fill_value if on_levels else fill_value / 255
        came = tuple(stack.shape[-2:])
        if do_resize and (target := _output_size(came, size)) != came:
            stack = self._resize_stack(stack, *target, resample)
            if on_levels and stack.is_floating_point():
                stack = stack.clamp(0, 255)  # bicubic overshoots; integers are clamped by the resize itself
        if do_center_crop:
            stack = _centre(stack, _height_width(crop_size, "crop_size"), fill)
        if do_pad:
            height, width = _height_width(pad_size, "pad_size")
            came = tuple(stack.shape[-2:])
            if came[0] > height or came[1] > width:
                raise ValueError(f"`pad_size` {(height, width)} is smaller than a picture of (height, width) {came}.")
            stack = _centre(stack, (height, width), fill)
        return stack

    def _normalize_stack(
        self,
        stack: Tensor,
        *,
        do_rescale: bool | None,
        rescale_factor: float | None,
        do_normalize: bool | None,
        image_mean: float | tuple | None,
        image_std: float | tuple | None,
        **unused,
    ) -> Tensor:
        """x rescale_factor, - mean, / std in float32; nothing asked for leaves uint8 as it is."""
        if do_rescale and rescale_factor != 1:
            stack = stack.float() * rescale_factor
        if do_normalize:
            mean, std = _per_channel(image_mean, "image_mean", stack), _per_channel(image_std, "image_std", stack)
            stack = (stack.float() - mean) / std
        return stack

    def _to_unit_range(self, pixels: Tensor) -> Tensor:
        """Undoes `image_mean`, `image_std` and `rescale_factor`: clamped (N, C, H, W) in [0, 1]."""
        if self.do_normalize:
            pixels = pixels * _per_channel(self.image_std, "image_std", pixels)
            pixels = pixels + _per_channel(self.image_mean, "image_mean", pixels)
        if self.do_rescale:
            pixels = pixels / (self.rescale_factor * 255)
        return pixels.clamp(0, 1)


def _flatten(images: Any) -> Iterator[Any]:
    if isinstance(images, (list, tuple)):
        for element in images:
            yield from _flatten(element)
    else:
        yield images


@contextmanager
def _naming(index: int, count: int) -> Iterator[None]:
    """Whatever is wrong with a picture becomes one ValueError that says which."""
    try:
        yield
    except BAD_PICTURE as error:
        place = f"Picture {index} of {count}" if count > 1 else "The picture"
        raise ValueError(f"{place} cannot be used: {error or type(error).__name__}") from error


def _read(
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


def _float_scale(batches: list[Tensor]) -> float:
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


def _to_levels(batch: Tensor, float_scale: float | None) -> Tensor:
    """uint8, or float32 on 0..255; with `float_scale=None` floats stay as given and 16-bit integers come on [0, 1]."""
    if batch.dtype == torch.uint8:
        return batch
    if batch.dtype == torch.bool:
        return batch.to(torch.uint8) * 255
    if batch.dtype == torch.uint16:
        return batch.float() / (65535 if float_scale is None else 257)  # 65535 = 257 x 255
    if batch.is_floating_point():
        batch = batch.float()
        return batch if float_scale is None else (batch * float_scale).clamp(0, 255)
    low, high = batch.to(torch.int64).aminmax()
    if low < 0 or high > 255:
        raise ValueError(
            f"integers ({batch.dtype}) must lie in 0..255, got {low} to {high}. "
            "16-bit pictures are read from uint16 (PIL mode I;16)."
        )
    return batch.to(torch.uint8)


def _warn_of_masks(stack: Tensor) -> None:
    if stack.dtype == torch.uint8 and stack.max() == 1:
        logger.warning_once(
            "No pixel of these 8-bit pictures exceeds 1 of 255, so they come out all but black. "
            "Pass masks of 0 and 1 as booleans or floats."
        )


def _lay_on_background(batch: Tensor, num_channels: int, background: float, white: float) -> Tensor:
    """RGBA (n, 4, H, W) -> RGB over an even background; anything else as it is. `white` is the value of full alpha."""
    if batch.shape[1] != 4 or num_channels == 4:
        return batch
    if batch.dtype != torch.uint8:
        color, alpha = batch[:, :3], batch[:, 3:] / white
        return color * alpha + background * (1 - alpha)
    color, alpha = batch[:, :3].int(), batch[:, 3:].int()
    return ((color * alpha + round(background) * (255 - alpha) + 127) // 255).to(torch.uint8)


def _to_channels(batch: Tensor, num_channels: int, do_grayscale: bool | None) -> Tensor:
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


def _output_size(height_width: tuple[int, int], size: SizeDict) -> tuple[int, int]:
    """(height, width) after a resize to `size`."""
    if size.height and size.width:
        return size.height, size.width
    if size.shortest_edge:
        return get_size_with_aspect_ratio(tuple(height_width), size.shortest_edge, size.longest_edge)
    if size.max_height and size.max_width:
        return get_image_size_for_max_height_width(tuple(height_width), size.max_height, size.max_width)
    raise ValueError(
        f"`size` takes height and width, shortest_edge (with or without longest_edge), or max_height and max_width, "
        f"got {dict(size)}."
    )


def _height_width(size: SizeDict, name: str) -> tuple[int, int]:
    if not (size.height and size.width):
        raise ValueError(f"`{name}` takes height and width, got {dict(size)}.")
    return size.height, size.width


def _centre(stack: Tensor, height_width: tuple[int, int], fill: float) -> Tensor:
    """Cuts what is too large and pads what is too small, around the centre; an odd rest goes right and below."""
    for dim, target in zip((-2, -1), height_width, strict=True):
        length = stack.shape[dim]
        if length > target:
            stack = stack.narrow(dim, (length - target) // 2, target)
        elif length < target:
            before = (target - length) // 2
            pads = [before, target - length - before]
            stack = torch.nn.functional.pad(stack, pads if dim == -1 else [0, 0, *pads], value=fill)
    return stack


def _per_channel(value: float | Iterable[float], name: str, stack: Tensor) -> Tensor:
    """A number, or one a channel, to stand beside (n, C, H, W)."""
    tensor = torch.as_tensor(value, dtype=torch.float32, device=stack.device).reshape(-1, 1, 1)
    if len(tensor) not in (1, stack.shape[1]):
        raise ValueError(f"`{name}` has {len(tensor)} values, but the pictures have {stack.shape[1]} channels.")
    return tensor


def _stack_equal(pictures: list[Tensor]) -> Tensor:
    shapes = sorted({tuple(picture.shape) for picture in pictures})
    if len(shapes) > 1:
        raise ValueError(
            f"pictures of different shapes make no batch: {', '.join(map(str, shapes))}. "
            "Set `do_resize` or `do_center_crop`, or take a list with `return_tensors=None`."
        )
    return torch.stack(pictures)


def _as_type(stack: Tensor, return_tensors: str | TensorType) -> Tensor | np.ndarray:
    return stack if TensorType(return_tensors) == TensorType.PYTORCH else stack.cpu().numpy()


def _as_pixel_batch(pixels: Tensor | np.ndarray | list) -> Tensor:
    """What a model gave -> float32 (N, C, H, W)."""
    if isinstance(pixels, (list, tuple)):
        pixels = torch.stack([torch.as_tensor(picture) for picture in pixels])
    pixels = torch.as_tensor(pixels).detach().float()
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4:
        raise ValueError(f"`pixel_values` have shape (N, C, H, W) or (C, H, W), got {tuple(pixels.shape)}.")
    if pixels.isnan().any():
        raise ValueError("`pixel_values` contain NaN.")
    return pixels


def _to_byte(levels: Tensor) -> Tensor:
    return levels if levels.dtype == torch.uint8 else levels.round().clamp(0, 255).to(torch.uint8)


def _to_pil(picture: Tensor) -> PIL.Image.Image:
    """uint8 (C, H, W) -> mode L, RGB or RGBA."""
    if picture.shape[0] not in (1, 3, 4):
        raise ValueError(f'PIL pictures have 1, 3 or 4 channels, got {picture.shape[0]}. Use `output_type="np"`.')
    array = picture.permute(1, 2, 0).numpy()
    return PIL.Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


class AutoencoderImageProcessor(_AutoencoderImageProcessing, TorchvisionBackend):
    """Resizes whole batches with torchvision, on any device. Same arguments and values as the PIL one."""

    def __init__(self, **kwargs: Unpack[AutoencoderImageProcessorKwargs]):
        requires_backends(self, ["torchvision"])  # else the first call dies with "NoneType is not subscriptable"
        super().__init__(**kwargs)

    def _resize_stack(self, stack: Tensor, height: int, width: int, resample: Any) -> Tensor:
        return self.resize(stack, SizeDict(height=height, width=width), resample=resample)


class AutoencoderImageProcessorPil(_AutoencoderImageProcessing, PilBackend):
    """Resizes with PIL alone: what a machine without torchvision loads.

    >>> AutoencoderImageProcessorPil(size=28)(PIL.Image.new("RGB", (40, 30)), return_tensors="pt").pixel_values.shape
    torch.Size([1, 3, 28, 28])
    """

    def _resize_stack(self, stack: Tensor, height: int, width: int, resample: Any) -> Tensor:
        """Channel by channel, integers as mode L and floats as mode F: any channel count, floats not cut to 8 bits."""
        planes = stack.flatten(0, 1).cpu().numpy()  # (n C, H, W)
        resized = np.stack([np.array(PIL.Image.fromarray(plane).resize((width, height), resample)) for plane in planes])
        return torch.from_numpy(resized).unflatten(0, stack.shape[:2]).to(stack.device)


__all__ = ["AutoencoderImageProcessor", "AutoencoderImageProcessorKwargs", "AutoencoderImageProcessorPil"]
