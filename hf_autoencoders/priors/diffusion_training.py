# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A run of the one training loop for latent diffusion: knobs, latents, UNet, figures, and what it leaves.

image model + pictures -> latents (in memory) -> + noise -> UNet -> mean squared error of the noise
"""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate.utils import set_seed
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..training.arguments import Arguments, HubArguments, LoggingArguments, RunArguments, TrainingArguments, knob
from ..training.batches import evaluation_batches
from ..training.checkpoints import versions, write_atomically
from ..training.data import ImageSplits
from ..training.engine import Run
from ..training.folder import METRICS, check_folder
from ..training.results import weights_to_judge
from ..training.setup import on_device
from .latent_diffusion import (
    NULL_CLASS,
    TIMESTEPS,
    build_scheduler,
    build_unet,
    check_grid,
    classes_of,
    generate_images,
)
from .latents import Latents, NoisedLatents, encode_latents, has_scale, pixel_batches
from .token_datasets import public_name
from .training import (
    SAMPLED,
    SAMPLES,
    PictureArguments,
    as_arguments,
    as_it_is,
    assemble,
    begin_or_resume,
    check_shared,
    load_image_model,
    picture_grid,
    read_knobs,
    read_pictures,
    start,
)


# -- knobs -------------------------------------------------------------------------------------------------------------


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


GROUPS = (DiffusionArguments, RunArguments, PictureArguments, TrainingArguments, LoggingArguments, HubArguments)
OF_SAMPLES = {"sample_guidance_scale", "sample_steps"}  # may change when a run goes on


def parse_diffusion_arguments(argv: list[str] | None = None) -> Arguments:
    """Reads flags and recipe, as train.py does.

    Raises:
        ValueError: an unknown name (with the nearest known one), a value of the wrong type, or a knob without effect.
    """
    script = "train_latent_diffusion.py"
    given, recipe = read_knobs(argv, GROUPS, "latent-diffusion", script, "Train a UNet on an image model's latents.")
    arguments = as_arguments(given, recipe, GROUPS, "latent-diffusion")
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
    return arguments


# -- the model in training ---------------------------------------------------------------------------------------------


@dataclass
class DenoisingOutput(ModelOutput):
    """`loss`: mean squared error of the predicted noise, per number; 1 for a UNet that predicts nothing."""

    loss: Tensor | None = None


class DiffusionInTraining(nn.Module):
    """A UNet as the loop sees it. In training posterior, timesteps, noise and dropped classes are drawn anew."""

    def __init__(self, unet: UNet2DModel, scheduler: DDIMScheduler, class_dropout: float):
        super().__init__()
        self.unet, self.scheduler, self.class_dropout = unet, scheduler, class_dropout

    def forward(
        self,
        latents: Tensor,
        spread: Tensor | None = None,
        labels: Tensor | None = None,
        noise: Tensor | None = None,
        timesteps: Tensor | None = None,
    ) -> DenoisingOutput:
        """latents, spread, noise: (B, D, h, w), at unit spread; labels, timesteps: (B,). What is missing is drawn."""
        if spread is not None:
            latents = latents + spread * torch.randn_like(latents)
        if noise is None:
            noise = torch.randn_like(latents)
        if timesteps is None:
            count = self.scheduler.config.num_train_timesteps
            timesteps = torch.randint(count, latents.shape[:1], device=latents.device)
        if self.training and labels is not None and self.class_dropout:
            labels = labels.masked_fill(torch.rand(labels.shape, device=labels.device) < self.class_dropout, NULL_CLASS)
        noised = self.scheduler.add_noise(latents, noise, timesteps)
        predicted = self.unet(noised, timesteps, class_labels=labels).sample
        return DenoisingOutput(loss=nn.functional.mse_loss(predicted.float(), noise))

    def defer_state_updates(self, defer: bool = True) -> None:
        """A UNet has no codebook."""

    def apply_state_updates(self) -> None:
        """A UNet has no codebook."""


# -- the run -----------------------------------------------------------------------------------------------------------


@dataclass
class DiffusionRun(Run):
    """`Run` of the loop, and what latent diffusion has besides.

    Attributes:
        image_model: decodes the latents; lives on the device, outside of what is trained.
        pictures: the data set. train_latents, held_out: what was encoded of it.
    """

    image_model: PreTrainedModel | None = None
    pictures: ImageSplits | None = None
    train_latents: Latents | None = None
    held_out: NoisedLatents | None = None

    @property
    def class_names(self) -> list[str]:
        """Of the classes that the UNet knows; numbers where the data set has no names."""
        count = classes_of(self.core.unet)
        names = self.train_latents.names if count else None
        return [str(name) for name in names or range(count)]


def build_diffusion_run(
    arguments: Arguments,
    say: Callable[[str], None] = print,
    accept: Callable[[PreTrainedModel], Any] = lambda image_model: None,
) -> DiffusionRun:
    """A run that is ready to train, resumed where that was asked for.

    Args:
        accept: is called with the image model before anything is encoded; raises ValueError for one that is no use.

    Raises:
        ValueError: whatever in the knobs, the folder, the data or the checkpoint does not fit.
    """
    knobs = arguments.model
    accelerator, folder, say = start(arguments, f"latent-diffusion-{Path(knobs['image_model']).name}", say)
    with accelerator.main_process_first():
        image_model, processor = load_image_model(knobs["image_model"], knobs["image_model_revision"])
    accept(image_model)
    check_grid(image_model.grid_size, len(knobs["block_out_channels"]))
    check_folder(accelerator, folder, arguments)
    pictures = read_pictures(arguments, processor)
    image_model.to(accelerator.device)
    train, held_out = encode(arguments, image_model, pictures, say)
    scheduler = build_scheduler(knobs["beta_schedule"])
    set_seed(arguments.run.seed)  # the same weights on every process
    core = build_core(arguments, train, scheduler)
    run = assemble(DiffusionRun, arguments, accelerator, core, train, folder)
    run.image_model, run.processor, run.pictures = image_model, processor, pictures
    run.train_latents, run.held_out = train, NoisedLatents(held_out, scheduler.config.num_train_timesteps)
    run.evaluate, run.picture = partial(evaluate_diffusion, run), partial(sheet_of_samples, run)
    say(describe(run))
    begin_or_resume(run, folder, set(knobs) - OF_SAMPLES, say)
    return run


def encode(arguments: Arguments, image_model, pictures: ImageSplits, say) -> tuple[Latents, Latents]:
    """Latents of both splits at unit spread; measures the spread where nobody did."""
    batch_size = arguments.training.eval_batch_size
    if not has_scale(image_model):
        generator = torch.Generator(image_model.device).manual_seed(arguments.run.seed)
        image_model.measure_latents(pixel_batches(image_model, pictures.train, batch_size), generator)
        say(f"the image model does not know its scaling_factor; measured {image_model.config.scaling_factor:.4g}")
    say(f"encoding {len(pictures.train):,} + {len(pictures.eval):,} images of {pictures.name}")
    train, held_out = (encode_latents(image_model, part, batch_size) for part in (pictures.train, pictures.eval))
    if arguments.model["unconditional"]:
        return train.without_labels(), held_out.without_labels()
    return train, held_out


def build_core(arguments: Arguments, train: Latents, scheduler: DDIMScheduler) -> DiffusionInTraining:
    knobs = arguments.model
    if not train.num_classes and knobs["class_dropout"] and "class_dropout" in arguments.given:
        raise ValueError(f"--class_dropout {knobs['class_dropout']}: the data set has no classes to drop.")
    if not train.num_classes and knobs["sample_guidance_scale"] != 1:  # else it would end the run at samples.png
        raise ValueError(f"--sample_guidance_scale {knobs['sample_guidance_scale']}: the data set has no classes.")
    sizes = {name: knobs[name] for name in ("block_out_channels", "layers_per_block", "dropout", "class_dropout")}
    channels, height, width = train.latents.shape[1:]
    unet = build_unet(channels, (height, width), train.num_classes, **sizes)
    if arguments.training.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return DiffusionInTraining(unet, scheduler, knobs["class_dropout"])


def describe(run: DiffusionRun) -> str:
    latents = run.train_latents
    millions = sum(parameter.numel() for parameter in run.core.parameters()) / 1e6
    return (
        f"data {run.pictures.name}: {len(latents):,} latents of {'x'.join(map(str, latents.latents.shape[1:]))}, "
        f"{len(run.held_out):,} held out, scaling factor {run.image_model.config.scaling_factor:.4g}\n"
        f"UNet {list(run.arguments.model['block_out_channels'])}: {millions:.2f} M parameters, "
        f"{latents.num_classes} classes"
    )


# -- figures -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate_diffusion(run: DiffusionRun) -> dict[str, float]:
    """Figures of the held-out split, each latent once with a timestep and noise of its own. A collective call.

    noise_mse: mean squared error of the noise, per number, given the class where the UNet has classes.
    noise_mse_unconditional: without the class.
    """
    if run.figures is None or run.figures[0] != run.step:
        with weights_to_judge(run) as model:
            run.figures = (run.step, noise_errors(run, model))
    return run.figures[1]


def noise_errors(run: DiffusionRun, model: DiffusionInTraining) -> dict[str, float]:
    accelerator, batch_size = run.accelerator, run.arguments.training.eval_batch_size
    loader = evaluation_batches(
        run.held_out, batch_size, accelerator.process_index, accelerator.num_processes, collate_fn=as_it_is
    )
    sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    drops_classes = model.class_dropout > 0 and run.held_out.labels is not None
    for batch in on_device(loader, accelerator.device):
        count = len(batch["latents"])
        sums[0] += count
        sums[1] += model(**batch).loss.double() * count
        if drops_classes:
            batch["labels"] = torch.full_like(batch["labels"], NULL_CLASS)
            sums[2] += model(**batch).loss.double() * count
    count, given, free = accelerator.reduce(sums, reduction="sum").tolist()
    figures = {"images": count, "noise_mse": given / count}
    return {**figures, "noise_mse_unconditional": free / count} if drops_classes else figures


# -- what a run leaves -------------------------------------------------------------------------------------------------


def sheet_of_samples(run: DiffusionRun) -> Image.Image:
    """Pictures drawn from noise, one class a column."""
    knobs, classes = run.arguments.model, len(run.class_names)
    labels = [number % classes for number in range(SAMPLED)] if classes else None
    generator = torch.Generator().manual_seed(run.arguments.run.seed)
    with weights_to_judge(run) as model:
        pictures = generate_images(
            model.unet, model.scheduler, run.image_model, labels, num_images=None if labels else SAMPLED,
            generator=generator, guidance_scale=knobs["sample_guidance_scale"],
            num_inference_steps=knobs["sample_steps"],
        )  # fmt: skip
    return picture_grid(pictures, columns=min(classes, 20) or 10)


def save_figures(run: DiffusionRun) -> dict[str, Any]:
    """metrics.json and samples.png in the output folder; gives what metrics.json says. A collective call."""
    folder = Path(run.arguments.run.output_dir)
    record = {"metrics": evaluate_diffusion(run), **record_of(run)}
    sheet = sheet_of_samples(run)
    if run.accelerator.is_main_process:
        sheet.save(folder / SAMPLES)
        write_atomically(folder / METRICS, json.dumps(record, indent=1) + "\n")
    run.accelerator.wait_for_everyone()
    return record


def record_of(run: DiffusionRun) -> dict[str, Any]:
    """How the figures came about."""
    return {
        "parameters": sum(parameter.numel() for parameter in run.core.parameters()),
        "image_model": public_name(run.arguments.model["image_model"]),
        "scaling_factor": run.image_model.config.scaling_factor,
        "weights": "averaged" if run.averages is not None else "last step",
        "dataset": {
            "name": public_name(run.pictures.name),
            "train_images": len(run.train_latents),
            "eval_images": len(run.held_out),
        },
        "steps": run.step,
        "seconds": round(run.seconds, 1),
        "seed": run.arguments.run.seed,
        "settings": run.arguments.as_recipe(),
        "command": shlex.join(sys.argv),
        "processes": run.accelerator.num_processes,
        "versions": versions(),
    }
