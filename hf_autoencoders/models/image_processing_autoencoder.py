# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pictures in, `pixel_values` in [-1, 1] out, and back::

    PIL, array, tensor, path
      | upright, alpha laid on the background, 1 or 3 channels, levels 0..255    one code for both classes
      | resize                                                                   PIL or torchvision
      | centre crop, pad, x 1/255, (x - 0.5) / 0.5                               one code for both classes
    pixel_values (N, C, H, W)
      | `postprocess`: back to [0, 1], clamped
    PIL, array, tensor

Only the resize differs, so without one the two classes give equal values. A checkpoint saved by either names both, and
each machine loads the one that it can run. What they take, and how they read it, stands in image_reading.py.
Order: resize (antialiased), centre crop (a smaller picture is padded first), pad (centred).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import PIL.Image
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
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import TensorType, is_torchvision_available

from .image_reading import (
    flatten_pictures,
    float_scale,
    lay_on_background,
    naming_the_picture,
    read_picture,
    to_channels,
    to_levels,
    warn_of_masks,
)
from .pixels import round_levels


class AutoencoderImageProcessorKwargs(ImagesKwargs, total=False):
    """What these processors know beyond transformers' own arguments.

    num_channels (`int`, *optional*):
        Channels of `pixel_values`. 1 and 3 convert (grey from colour, three equal channels from grey); any other count
        takes arrays that have it already. None means 1 with `do_grayscale`, else 3.
    do_grayscale (`bool`, *optional*, defaults to False):
        Drop the colour (ITU-R 601 luma, the integers of PIL's "L"); with `num_channels=3`, three equal channels.
    keep_proportions (`bool`, *optional*, defaults to False):
        With height and width in `size`: resize until the picture just covers them, for a centre crop to follow, in
        place of stretching it.
    background_color (`int`, *optional*, defaults to 255):
        Grey level 0..255 on which transparent pictures are laid: white, as a browser shows them.
    fill_value (`int`, *optional*, defaults to 0):
        Grey level 0..255 of what padding adds, before rescaling: 0 is black, -1 in `pixel_values`.
    max_pixels (`int`, *optional*, defaults to 89478485):
        Larger pictures are refused before they are decoded (the bound at which PIL warns), and so is a resize to more.
        None: no bound.
    """

    num_channels: int | None
    do_grayscale: bool | None
    keep_proportions: bool | None
    background_color: int | None
    fill_value: int | None
    max_pixels: int | None


class _AutoencoderImageProcessing:
    """All but the resize: the two classes at the end of the file add a backend each."""

    valid_kwargs = AutoencoderImageProcessorKwargs
    model_input_names = ["pixel_values"]

    num_channels = None
    do_grayscale = False
    keep_proportions = False
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
        return round_levels(self.preprocess(images, **{**kwargs, **levels}, return_tensors="pt")["pixel_values"])

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
        return [_to_pil(picture) for picture in round_levels(unit * 255).cpu()]

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
        elements = list(flatten_pictures(images))
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
            with naming_the_picture(index, len(elements)):
                batch = read_picture(element, **reading)
                batches.append(batch if device is None else batch.to(device))

        scale = float_scale(batches) if do_rescale else None
        pictures = []
        for index, batch in enumerate(batches):
            with naming_the_picture(index, len(elements)):
                batch = to_levels(batch, scale)
                if do_convert_rgb is not False:
                    white = 255 if do_rescale or batch.dtype == torch.uint8 else 1
                    batch = lay_on_background(batch, num_channels, background_color / 255 * white, white)
                    batch = to_channels(batch, num_channels, do_grayscale)
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
        keep_proportions: bool | None,
        do_rescale: bool | None,
        max_pixels: int | None,
        **unused,
    ) -> Tensor:
        """Resize, centre crop, pad: (n, C, H, W) -> (n, C, h, w) of the same type."""
        warn_of_masks(stack)
        on_levels = do_rescale or stack.dtype == torch.uint8  # else floats on a range that only the caller knows
        fill = fill_value if on_levels else fill_value / 255
        if do_resize and do_center_crop:
            crop = _height_width(crop_size, "crop_size")
            stack = _near_the_centre(stack, size, crop, keep_proportions, max_pixels)
        came = tuple(stack.shape[-2:])
        if do_resize and (target := _output_size(came, size, keep_proportions)) != came:
            _check_target(came, target, max_pixels)
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


def _output_size(height_width: tuple[int, int], size: SizeDict, keep_proportions: bool | None) -> tuple[int, int]:
    """(height, width) after a resize to `size`."""
    if size.height and size.width and keep_proportions:
        scale = max(size.height / height_width[0], size.width / height_width[1])
        height, width = (round(length * scale) for length in height_width)
        return max(size.height, height), max(size.width, width)
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


def _check_target(came: tuple[int, int], target: tuple[int, int], max_pixels: int | None) -> None:
    if max_pixels is not None and target[0] * target[1] > max_pixels:
        raise ValueError(
            f"a picture of (height, width) {came} would be resized to {target}: more than `max_pixels` = "
            f"{max_pixels:,}. Set `do_center_crop` with a `crop_size`, or height and width in `size`."
        )


def _near_the_centre(
    stack: Tensor, size: SizeDict, crop: tuple[int, int], keep_proportions: bool | None, max_pixels: int | None
) -> Tensor:
    """A long thin picture whose resize is too large, cut around its centre to more than the centre crop will show."""
    came = tuple(stack.shape[-2:])
    target = _output_size(came, size, keep_proportions)
    if max_pixels is None or target[0] * target[1] <= max_pixels:
        return stack
    for dim, length, resized, shown in zip((-2, -1), came, target, crop, strict=True):
        kept = 2 * shown * length // resized + 8  # the kernel reads a few pixels beyond what is shown
        if kept < length:
            kept += (length - kept) % 2  # the centre stays where it is
            stack = stack.narrow(dim, (length - kept) // 2, kept)
    return stack


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


def _to_pil(picture: Tensor) -> PIL.Image.Image:
    """uint8 (C, H, W) -> mode L, RGB or RGBA."""
    if picture.shape[0] not in (1, 3, 4):
        raise ValueError(f'PIL pictures have 1, 3 or 4 channels, got {picture.shape[0]}. Use `output_type="np"`.')
    array = picture.permute(1, 2, 0).numpy()
    return PIL.Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


class AutoencoderImageProcessor(_AutoencoderImageProcessing, TorchvisionBackend):
    """Resizes whole batches with torchvision, on any device. Same arguments and values as the PIL one."""

    def __init__(self, **kwargs: Unpack[AutoencoderImageProcessorKwargs]):
        if not is_torchvision_available():
            raise ImportError(
                "AutoencoderImageProcessor resizes with torchvision, which is not installed here. "
                "AutoencoderImageProcessorPil gives the same pixels without it; AutoImageProcessor.from_pretrained "
                "chooses between the two by itself."
            )
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
