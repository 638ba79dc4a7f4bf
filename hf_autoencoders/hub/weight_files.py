# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Weights out of the files that others publish, without running anything that a file names.

    safetensors | torch.save of a state dict, of a whole training (Lightning), of a whole module | a model folder

Torch files are read in torch_files.py. Memory is bounded by the size of the file: it may not unpack to more, and no
tensor may be larger than its data.
"""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors import safe_open

from ..training.text import asked_of_hub
from .torch_files import Checkpoint, Weights, first_line, read_torch_file


# The part of a large model that is the image tokenizer; the rest of its shards is not read.
IMAGE_PARTS = ("vqmodel.", "gen_vision_model.", "image_codebook.")
WEIGHT_FILES = ("model", "diffusion_pytorch_model", "pytorch_model")
PIPELINE_PARTS = ("vae", "vqvae", "movq")


def read_weights(path: str | Path) -> Weights:
    """The state dict in a file or folder. Raises ValueError, in one line, for what cannot be read."""
    return read_checkpoint(path).weights


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Weights and settings from a safetensors file, a torch file, or the folder of a saved model.

    Checkpoints of whole trainings are opened at the first of `ema`, `model`, `state_dict`, `weights` that is there.

    Raises:
        ValueError: it is not there, is damaged, would take more memory than its size says, or holds no state dict.
    """
    path = Path(path)
    if path.is_dir():
        return read_folder(path)
    if not path.is_file():
        raise ValueError(f"There is no file or folder {path}.")
    if path.suffix == ".safetensors":
        return Checkpoint(read_safetensors(path), {}, path.name)
    return read_torch_file(path)


def read_settings(path: str | Path) -> dict[str, Any]:
    """A configuration in YAML or JSON, such as taming's and LDM's. Raises ValueError if it is none."""
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {first_line(error)}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold names and values, got {type(settings).__name__}.")
    return settings


# -- safetensors and folders -------------------------------------------------------------------------------------------


def read_safetensors(path: Path, names: list[str] | None = None) -> Weights:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}
    except Exception as error:  # the library's own errors are several, none of them a ValueError
        raise ValueError(f"{path} is damaged, or no safetensors file: {first_line(error)}") from error


def read_folder(folder: Path) -> Checkpoint:
    """The model that transformers or diffusers saved there; of a pipeline its `vae`, `vqvae` or `movq`."""
    if (folder / "model_index.json").is_file():
        parts = [folder / part for part in PIPELINE_PARTS if (folder / part).is_dir()]
        if not parts:
            raise ValueError(f"{folder} is a pipeline without an autoencoder ({', '.join(PIPELINE_PARTS)}).")
        return read_folder(parts[0])
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(f"{folder} has no config.json, so it is no folder of a saved model.")
    settings = read_settings(config)
    for name in WEIGHT_FILES:
        index = folder / f"{name}.safetensors.index.json"
        if index.is_file():
            return Checkpoint(read_shards(index), settings, folder.name)
        if (folder / f"{name}.safetensors").is_file():
            return Checkpoint(read_part(folder / f"{name}.safetensors"), settings, folder.name)
        if (folder / f"{name}.bin").is_file():
            return Checkpoint(read_torch_file(folder / f"{name}.bin").weights, settings, folder.name)
    raise ValueError(f"{folder} has none of the files {', '.join(WEIGHT_FILES)} (.safetensors or .bin).")


def image_part(names: list[str]) -> list[str]:
    """The names that belong to an image tokenizer within a larger model; all of them if there is none."""
    return [name for name in names if any(part in name for part in IMAGE_PARTS)] or names


def read_part(path: Path) -> Weights:
    try:
        with safe_open(path, "pt") as file:
            names = image_part(list(file.keys()))
    except Exception as error:  # as above
        raise ValueError(f"{path} is damaged, or no safetensors file: {first_line(error)}") from error
    return read_safetensors(path, names)


def read_shards(index: Path) -> Weights:
    place = read_settings(index).get("weight_map")
    if not isinstance(place, dict) or not all(isinstance(file, str) for file in place.values()):
        raise ValueError(f"{index} has no `weight_map` of names and files.")
    weights = {}
    for file in sorted({place[name] for name in image_part(list(place))}):
        if Path(file).name != file:
            raise ValueError(f"{index} names a file of another folder: {file}.")
        weights |= read_safetensors(index.parent / file, [n for n in image_part(list(place)) if place[n] == file])
    return weights


# -- the Hub -----------------------------------------------------------------------------------------------------------


def file_of(name: str | Path, file: str, revision: str | None) -> Path | None:
    """A file of a folder, or of a Hub repository; None if it has no such file."""
    if Path(name).is_dir():
        return Path(name) / file if (Path(name) / file).is_file() else None
    try:
        return Path(hf_hub_download(str(name), file, revision=revision))
    except EntryNotFoundError:  # also where the Hub cannot be asked, and nothing lies in the cache
        return None
    except HFValidationError as error:
        raise ValueError(f"There is no file or folder {name}, and it is no Hub id.") from error


def folder_of(name: str | Path, revision: str | None = None, subfolder: str | None = None) -> Path:
    """The folder of a saved model, on this machine; of a Hub id, with its config and one file of weights brought here.

    Raises:
        ValueError: it has no config, or no weights.
    """
    if Path(name).is_dir():
        return Path(name) / (subfolder or "")
    prefix = f"{subfolder}/" if subfolder else ""
    config = file_of(name, f"{prefix}config.json", revision)
    if config is None:
        raise ValueError(f"{name} has no {prefix}config.json{asked_of_hub(name)}.")
    for file in (f"{prefix}{stem}.{end}" for end in ("safetensors", "bin") for stem in WEIGHT_FILES):
        if file_of(name, file, revision) is not None:
            return config.parent
    raise ValueError(f"{name} has none of the files {', '.join(WEIGHT_FILES)} (.safetensors or .bin).")
