# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Is a run whole? What publishing asks before anything is sent: its code, and names, shapes and values of weights."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModel

from ..training.text import one_line
from .cards import RunError, SavedRun, read_json


FILES_OF_WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors")


def check_run(run: SavedRun) -> set[str]:
    """Names of the code files that the model needs. Raises RunError of a run that nobody could load or should use."""
    modules = check_code(run.folder)
    check_weights_of_run(run)
    return {f"{module}.py" for module in modules}


def check_code(folder: Path) -> set[str]:
    """Modules: every file of code that config and processor name, and those that they import, must be there."""
    maps = [read_json(folder / "config.json", "the model's config").get("auto_map")]
    if not maps[0]:
        raise RunError(f"{folder / 'config.json'} names no code (`auto_map`): save the model with save_pretrained.")
    processor = folder / "preprocessor_config.json"
    maps.append(read_json(processor, "the image processor; save it beside the model").get("auto_map"))
    seen: set[str] = set()
    for module in sorted({name.split(".")[0] for name in strings_in(maps)}):
        check_module(folder, module, "`auto_map`", seen)
    return seen


def strings_in(value: Any) -> Iterator[str]:
    """All strings in nested lists and dictionaries' values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_in(item)


def check_module(folder: Path, module: str, named_by: str, seen: set[str]) -> None:
    if module in seen:
        return
    seen.add(module)
    path = folder / f"{module}.py"
    if not module.isidentifier():
        raise RunError(f"{named_by} in {folder} names {module!r}, which is no file of code beside it.")
    if not path.is_file():
        raise RunError(f"{path} is missing, but {named_by} needs it: save the model again with save_pretrained.")
    for sibling in re.findall(r"^\s*from \.(\w+) import", path.read_text(encoding="utf-8"), re.MULTILINE):
        check_module(folder, sibling, path.name, seen)


def check_weights_of_run(run: SavedRun) -> None:
    """The weights must be those of the config: the same names, the same shapes."""
    with torch.device("meta"):
        model = AutoModel.from_config(run.config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found, wrong = saved_tensors(run.folder)
    for problem, names in (
        ("are missing", expected.keys() - found.keys()),
        ("belong to another model", found.keys() - expected.keys()),
        ("have another shape", {name for name in expected.keys() & found.keys() if expected[name] != found[name]}),
    ):
        if names:
            raise RunError(
                f"The weights in {run.folder} are not those of config.json ({run.config.model_type}): "
                f"{len(names)} of {len(expected)} tensors {problem}, such as {min(names)}."
            )
    if wrong:
        raise RunError(
            f"The weights in {run.folder} hold NaN or infinity in {len(wrong)} of {len(expected)} "
            f"tensors, such as {min(wrong)}: the run diverged."
        )


def saved_tensors(folder: Path) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """(name -> shape of every tensor in the folder's .safetensors files, names of those with NaN or infinity)"""
    shapes: dict[str, tuple[int, ...]] = {}
    wrong = []
    files = sorted(path for pattern in FILES_OF_WEIGHTS for path in folder.glob(pattern))
    if not files:
        raise RunError(f"{folder} has no weights (model.safetensors): save the model with save_pretrained.")
    for path in files:
        try:
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    tensor = tensors.get_tensor(name)
                    shapes[name] = tuple(tensor.shape)
                    if tensor.is_floating_point() and not tensor.float().isfinite().all():
                        wrong.append(name)
        except (OSError, SafetensorError) as error:
            raise RunError(f"{path} cannot be read: {one_line(error)}") from error
    return shapes, wrong
