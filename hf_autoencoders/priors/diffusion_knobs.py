# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The knobs of train_latent_diffusion.py."""

from dataclasses import dataclass
from typing import Literal

from ..training.arguments import Arguments, knob
from ..training.knobs import KnobTable
from .latent_diffusion import TIMESTEPS
from .prior_knobs import NEVER_READ, PictureArguments, check_shared, knobs_of_prior


@dataclass
class DiffusionArguments:
    """The UNet, and the image model whose latents it learns."""

    _argument_group_name = "latent diffusion"

    image_model: str = knob(None, "folder or Hub id of the image model: a VAE, VQ-VAE or dVAE of backbone resnet")
    image_model_revision: str = knob("main", "its commit, branch or tag on the Hub")
    block_out_channels: list[int] = knob([32, 64], "width of each level of the UNet; the grid is halved between levels")
    layers_per_block: int = knob(2, "residual blocks of a level")
    dropout: float = knob(0.0, "share of activations that a training step leaves out")
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = knob(
        "linear", "how the noise grows over 1000 timesteps, by diffusers' names"
    )
    unconditional: bool = knob(False, "leave the classes of the data set aside")
    class_dropout: float = knob(
        0.1, "share of training pictures that lose their class, for guidance; 0 where there are none"
    )
    sample_guidance_scale: float = knob(1.0, "of the pictures in samples.png")
    sample_steps: int = knob(50, "passes of the UNet for the pictures in samples.png")


OF_SAMPLES = {"sample_guidance_scale", "sample_steps"}  # may change when a run goes on


def check_diffusion_knobs(arguments: Arguments) -> None:
    knobs = arguments.model
    if knobs["image_model"] is None:
        raise ValueError("--image_model is needed: the model whose latents the UNet learns.")
    check_shared(arguments)
    if knobs["layers_per_block"] < 1:
        raise ValueError(f"--layers_per_block must be at least 1, got {knobs['layers_per_block']}.")
    if not 1 <= knobs["sample_steps"] <= TIMESTEPS:
        raise ValueError(
            f"--sample_steps must lie in 1..{TIMESTEPS}, the levels of noise, got {knobs['sample_steps']}."
        )
    if knobs["sample_guidance_scale"] != 1 and (knobs["unconditional"] or not knobs["class_dropout"]):
        raise ValueError("--sample_guidance_scale leads away from no class: it needs classes and --class_dropout.")
    arguments.data.dataset_name = arguments.data.dataset_name or "digits"


DIFFUSION_KNOBS = KnobTable(
    "train_latent_diffusion",
    "Train a UNet on an image model's latents.",
    knobs_of_prior(PictureArguments),
    ("latent-diffusion",),
    DiffusionArguments,
    check_diffusion_knobs,
    NEVER_READ,
)


def parse_diffusion_arguments(argv: list[str] | None = None) -> Arguments:
    """The knobs of train_latent_diffusion.py. Raises ValueError as `KnobTable.read` does."""
    return DIFFUSION_KNOBS.read(argv)
