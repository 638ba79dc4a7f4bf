# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""How metrics were measured: two records can be compared if their protocols are equal."""

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from PIL import Image

from .. import __version__


MEASURING_PACKAGES = ("numpy", "pillow", "torch", "torchmetrics", "transformers")


def library_versions() -> dict[str, str]:
    """Installed versions of the packages that compute the metrics of photographs."""
    return {"hf_autoencoders": __version__, **{name: importlib.metadata.version(name) for name in MEASURING_PACKAGES}}


def describe_processor(processor: Any) -> str:
    """How pictures are brought to the model's size, by its image processor.

    >>> from hf_autoencoders import AutoencoderImageProcessorPil
    >>> describe_processor(AutoencoderImageProcessorPil(size={"height": 64, "width": 64}))
    'resize 64x64 (bicubic)'
    """
    steps = []
    if getattr(processor, "do_resize", False):
        resample = Image.Resampling(processor.resample).name.lower()  # a saved processor has the number
        steps.append(f"resize {size_in_words(processor.size)} ({resample})")
    if getattr(processor, "do_center_crop", False):
        steps.append(f"centre crop {size_in_words(processor.crop_size)}")
    if getattr(processor, "do_pad", False):
        steps.append(f"pad to {size_in_words(processor.pad_size)}")
    return ", ".join(steps) or "as stored"


def size_in_words(size: Any) -> str:
    """
    >>> size_in_words({"shortest_edge": 128}), size_in_words({"height": 64, "width": 32})
    ('shortest edge 128', '64x32')
    """
    size = {name: value for name, value in dict(size).items() if value is not None}
    if set(size) == {"height", "width"}:
        return f"{size['height']}x{size['width']}"
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in size.items())


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """One line for people.

    >>> protocol_line({"net": "digits", "pictures": 440, "versions": {"torch": "2.13.0"}})
    'protocol: net digits; pictures 440; versions torch 2.13.0'
    """
    parts = [f"{name.replace('_', ' ')} {value_in_words(value)}" for name, value in protocol.items()]
    return "protocol: " + "; ".join(parts)


def protocol_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The differences of two protocols, as texts; []: their metrics can be compared.

    >>> protocol_differences({"net": "digits", "pictures": 440}, {"net": "digits", "pictures": 300})
    ['pictures: 440 and 300']
    """
    names = dict.fromkeys([*a, *b])
    return [
        f"{name.replace('_', ' ')}: {value_in_words(a.get(name))} and {value_in_words(b.get(name))}"
        for name in names
        if a.get(name) != b.get(name)
    ]


def value_in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {value_in_words(part)}" for name, part in value.items())
    return "unsaid" if value is None else str(value)
