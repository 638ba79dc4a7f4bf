# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The model that a training starts from: one of ours, one of diffusers', or a published checkpoint.

model = load_for_training("runs/vae-mnist")                        # a folder, or a Hub id, of this package
model = load_for_training("stabilityai/sd-vae-ft-mse", revision)   # AutoencoderKL or VQModel of diffusers
model = load_for_training("last.ckpt")                             # any file that scripts/convert.py reads
"""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from hf_autoencoders.training.saved_models import load_model
from hf_autoencoders.training.text import asked_of_hub

from .converters import MODEL_CLASSES, convert
from .weight_files import PIPELINE_PARTS, file_of, read_checkpoint, read_settings


OUR_TYPES = ("ae", *MODEL_CLASSES)


def load_for_training(
    name: str | Path, revision: str | None = None, dtype: torch.dtype | None = torch.float32, **config_fields: Any
) -> PreTrainedModel:
    """The model under a folder, a file or a Hub id, as one of ours, in float32 unless `dtype` says otherwise.

    Args:
        name: a folder or Hub id of ours, of diffusers' AutoencoderKL or VQModel, or of a pipeline that holds one; or a
            file or folder of published weights, whose kind is recognised.
        revision: branch, tag or commit of a Hub id.
        config_fields: fields of the config that shall differ, such as `image_size`.

    Raises:
        ValueError: nothing is there, or what is there is none of these, by name.
        OSError: the Hub does not answer, or has no such repository.
    """
    settings, subfolder = settings_of(name, revision)
    kind = settings.get("_class_name") or settings.get("model_type")
    if kind in OUR_TYPES:
        model = load_model(str(name), revision or "main", dtype=dtype or "auto", **config_fields)
    elif "_class_name" in settings:
        from .diffusers_export import from_diffusers  # seconds: diffusers' models

        model = from_diffusers(name, revision=revision, subfolder=subfolder, **config_fields)
    elif Path(name).exists():
        checkpoint = read_checkpoint(name)
        model = convert(None, checkpoint.weights, config_fields.get("image_size"), checkpoint.settings)
    else:
        raise ValueError(
            f"{name} holds a {kind or 'model without a name'}; {', '.join(OUR_TYPES)}, AutoencoderKL and VQModel can "
            "be trained on."
        )
    return model if dtype is None else model.to(dtype)


def settings_of(name: str | Path, revision: str | None) -> tuple[dict[str, Any], str | None]:
    """The config.json of a folder or Hub id, {} of a file; and the subfolder that it lies in, for a pipeline."""
    if Path(name).is_file():
        return {}, None
    index = file_of(name, "model_index.json", revision)
    if index is None:
        config = file_of(name, "config.json", revision)
        if config is None:
            raise ValueError(f"{name} has no config.json, so it holds no saved model{asked_of_hub(name)}.")
        return read_settings(config), None
    parts = [part for part in PIPELINE_PARTS if part in read_settings(index)]
    config = file_of(name, f"{parts[0]}/config.json", revision) if parts else None
    if config is None:
        raise ValueError(f"{name} is a pipeline without an autoencoder ({', '.join(PIPELINE_PARTS)}).")
    return read_settings(config), parts[0]
