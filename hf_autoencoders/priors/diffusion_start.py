# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Training on from the UNet of a saved pipeline: on latents of the same encoder, with the pipeline's own noise."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, UNet2DModel, VQModel
from torch import nn

from ..training.arguments import Arguments
from ..training.saved_models import UnusableModel, load_model, reading
from ..training.starting_point import Parent, load_parent, settle_knobs
from .diffusion_knobs import check_diffusion_knobs
from .latent_diffusion import knows_null_class


PIPELINE = "pipeline"  # the folder of what a run leaves, inside that of the run
MAY_CHANGE_OF_A_UNET = {"dropout"}
OF_LATENTS = ("encoder.", "quant_conv.", "quantize.")  # weights that decide a picture's latents


@dataclass(frozen=True)
class SavedPipeline:
    """A pipeline of diffusers: the folder of one, a run that left one, or a Hub id.

    Attributes:
        place: folder or Hub id.
        parts: name of each part, by its class.
    """

    place: str
    revision: str | None
    parts: dict[str, str]

    @classmethod
    def open(cls, name: str, revision: str | None) -> "SavedPipeline":
        place = str(Path(name) / PIPELINE) if (Path(name) / PIPELINE).is_dir() else name
        with reading(name, "pipeline"):
            index = DiffusionPipeline.load_config(place, revision=revision)
        named = {part: entry for part, entry in index.items() if isinstance(entry, (list, tuple)) and len(entry) == 2}
        return cls(place, revision, {entry[1]: part for part, entry in named.items()})

    def part(self, *classes: type[nn.Module]) -> nn.Module:
        """The part of one of these classes, whole and in float32. Raises UnusableModel where the pipeline has none."""
        for kind in classes:
            if kind.__name__ in self.parts:
                where = {"subfolder": self.parts[kind.__name__], "torch_dtype": torch.float32}
                return load_model(self.place, self.revision or "main", kind, **where)
        raise UnusableModel(f"{self.place} is a pipeline without {' or '.join(kind.__name__ for kind in classes)}.")

    @cached_property
    def scheduler(self) -> DDIMScheduler:
        """The noise that its UNet was trained with."""
        with reading(self.place, "scheduler"):
            return DDIMScheduler.from_pretrained(self.place, subfolder="scheduler", revision=self.revision)


def pipeline_of(arguments: Arguments) -> SavedPipeline | None:
    """The pipeline that --init_from names; None without it."""
    name = arguments.run.init_from
    return None if name is None else SavedPipeline.open(name, arguments.run.init_revision)


def load_saved_unet(arguments: Arguments, pipeline: SavedPipeline | None) -> Parent | None:
    """The UNet of the pipeline, None without one; its knobs become those of the run.

    Raises:
        ValueError: nothing is there, it predicts something else than the noise, or a knob would change its net.
    """
    parent = load_parent(arguments, lambda name, revision: pipeline.part(UNet2DModel))
    if parent is None:
        return None
    scheduler, name = pipeline.scheduler, arguments.run.init_from
    if scheduler.config.prediction_type != "epsilon":
        raise ValueError(f"--init_from {name} predicts {scheduler.config.prediction_type}; this training is of noise.")
    own = knobs_of_unet(parent.model, scheduler)
    arguments.model.update(settle_knobs(arguments, own, MAY_CHANGE_OF_A_UNET))
    check_diffusion_knobs(arguments)  # again: classes without a null class draw no guided pictures
    return parent


def knobs_of_unet(unet: UNet2DModel, scheduler: DDIMScheduler) -> dict[str, Any]:
    """What --block_out_channels, --layers_per_block, ... made this UNet."""
    config = unet.config
    knobs = {"block_out_channels": list(config.block_out_channels), "layers_per_block": config.layers_per_block}
    without_null = {} if knows_null_class(unet) or not config.num_class_embeds else {"class_dropout": 0.0}
    return {**knobs, "dropout": config.dropout, "beta_schedule": scheduler.config.beta_schedule, **without_null}


def check_same_latents(parent: Parent, pipeline: SavedPipeline, arguments: Arguments, exported: nn.Module) -> None:
    """Raises ValueError unless the pipeline's own image model gives the same latents; notes another scale of them.

    Args:
        exported: the run's image model, as diffusers' class. Its decoder may be another one.
    """
    name, model = arguments.run.init_from, arguments.model["image_model"]
    theirs = pipeline.part(AutoencoderKL, VQModel)
    one, two = (
        {key: tensor.float() for key, tensor in net.state_dict().items() if key.startswith(OF_LATENTS)}
        for net in (theirs, exported)
    )
    if one.keys() != two.keys() or not all(torch.equal(one[key], two[key]) for key in one):
        raise ValueError(
            f"--init_from {name} does not fit --image_model {model}: the encoder in that pipeline has other weights, "
            "so its latents mean other pictures."
        )
    before, now = theirs.config.scaling_factor, exported.config.scaling_factor
    if before != now:
        parent.notes.append(f"latents are multiplied by {now:.4g} (--image_model), in the parent by {before:.4g}")


def train_unet_on(parent: UNet2DModel, side: int, dropout: float) -> UNet2DModel:
    """A UNet with the parent's weights, for latents of `side` by `side`."""
    unet = UNet2DModel.from_config({**parent.config, "sample_size": side, "dropout": dropout})
    unet.load_state_dict(parent.state_dict())
    return unet
