# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Reads saved models and records. A damaged one is refused in one line that names what is wrong.

A model with missing weights would run with random numbers in their place, and a NaN spreads into every result. So every
command that uses a saved model reads it here.
"""

import json
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel

from .text import asked_of_hub, one_line


# Errors that libraries raise when they read a damaged or foreign file.
OF_BAD_FILES = (
    OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError, EOFError,
    RecursionError, MemoryError, ImportError, SafetensorError, StrictDataclassError, pickle.UnpicklingError,
)  # fmt: skip
NAMED = 3  # a message names at most so many tensors


class UnusableModel(ValueError):
    """A saved model or record that cannot be read, or must not be used."""


@contextmanager
def reading(name: str | Path, what: str = "model") -> Iterator[None]:
    """Within the block libraries read the `what` in `name`: their errors become one line."""
    try:
        yield
    except UnusableModel:
        raise
    except OF_BAD_FILES as error:
        asked = asked_of_hub(name)
        raise UnusableModel(f"{name} holds no {what} that can be loaded{asked}: {one_line(error)[:500]}") from error


def load_model(name: str, revision: str = "main", auto_class: Any = AutoModel, **overrides: Any) -> PreTrainedModel:
    """The saved model, in eval mode, with all of its weights.

    Args:
        name: a folder or a Hub id. revision: branch, tag or commit on the Hub.
        auto_class: the class that loads it.
        overrides: further arguments of `from_pretrained`: fields of the config that shall differ, `dtype`.

    Raises:
        UnusableModel: nothing is there, files are damaged, tensors are missing, have another shape, or hold NaN.
    """
    with reading(name):
        model, found = auto_class.from_pretrained(name, revision=revision, output_loading_info=True, **overrides)
    for what in ("missing_keys", "mismatched_keys"):
        if keys := sorted(str(key) for key in found.get(what) or ()):
            kind = "do not hold" if what == "missing_keys" else "hold in another shape"
            raise UnusableModel(f"{name} cannot be used: its weights {kind} {_names(keys)}.")
    check_finite(model, name)
    return model.eval()


def load_processor(name: str, revision: str = "main") -> Any:
    """The image processor beside a model. Raises UnusableModel where there is none or it cannot be read."""
    with reading(name, "image processor"):
        return AutoImageProcessor.from_pretrained(name, revision=revision)


def check_finite(model: torch.nn.Module, name: str | Path) -> None:
    """Raises UnusableModel where a parameter or buffer holds NaN or infinity."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    wrong = [
        key
        for key, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.is_meta and not tensor.isfinite().all()
    ]
    if wrong:
        raise UnusableModel(f"{name} cannot be used: NaN or infinity in {_names(wrong)}.")


def read_json_object(path: Path, problem: Callable[[str], Exception] = UnusableModel) -> dict[str, Any]:
    """The object in a JSON file. Raises `problem`, an error class, if there is none or it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise problem(f"{path} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise problem(f"{path} must hold a JSON object ({{...}}), got {type(content).__name__}.")
    return content


def _names(keys: list[str]) -> str:
    return ", ".join(keys[:NAMED]) + (f" and {len(keys) - NAMED} more" if len(keys) > NAMED else "")
