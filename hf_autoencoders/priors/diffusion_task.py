# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The task of train_latent_diffusion.py: a UNet that learns the noise in an image model's latents.

image model + pictures -> latents (in memory) -> + noise -> UNet -> mean squared error of the noise
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler, UNet2DModel
from PIL import Image
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..models.precision import exact_dtype
from ..training.arguments import Arguments
from ..training.assembly import on_device
from ..training.batches import eval_batch_size, evaluation_batches
from ..training.data import ImageSplits
from ..training.engine import Run
from ..training.fingerprints import identity
from ..training.task import Task
from .classes import check_class_dropout, check_same_classes, settle_classes
from .diffusion_knobs import OF_SAMPLES
from .diffusion_start import PIPELINE, check_same_latents, load_saved_unet, pipeline_of, train_unet_on
from .latent_diffusion import NULL_CLASS, build_scheduler, build_unet, check_grid, classes_of, generate_images
from .latents import Latents, NoisedLatents, encode_latents, has_scale, pixel_batches
from .prior_data import load_image_model, read_pictures
from .sheets import SAMPLED, SAMPLES_PICTURE, labels_of_sheet, sheet
from .token_records import public_name


class DiffusionTask(Task):
    """A UNet on the latents that an image model gives to pictures.

    Args:
        accept: gives the image model as diffusers' class; raises ValueError for one that it cannot hold.
        save_pipeline: writes the trained UNet with its image model: (task, model, folder).
        save_card: writes what is known when the metrics are: (task, model, folder, record).

    Attributes:
        image_model: decodes the latents; lives on the device, outside of what is trained.
        pictures: the data set. train_set, held_out: what was encoded of it.
    """

    shards = False
    image_model: PreTrainedModel
    pictures: ImageSplits
    train_set: Latents
    held_out: NoisedLatents
    class_names: list[str]

    def __init__(
        self,
        arguments: Arguments,
        accept: Callable[[PreTrainedModel], nn.Module],
        save_pipeline: Callable[["DiffusionTask", nn.Module, Path], None],
        save_card: Callable[["DiffusionTask", nn.Module, Path, dict[str, Any]], None],
    ):
        super().__init__(arguments)
        self.accept, self.save_pipeline, self.save_card = accept, save_pipeline, save_card
        self.scheduler = build_scheduler(arguments.model["beta_schedule"])

    def default_folder(self) -> Path:
        return Path("runs") / f"latent-diffusion-{Path(self.arguments.model['image_model']).name}"

    def fixed_knobs(self) -> Collection[str]:
        return set(self.arguments.model) - OF_SAMPLES

    def read(self, accelerator: Accelerator, say: Callable[[str], None]) -> None:
        knobs = self.arguments.model
        with accelerator.main_process_first():
            pipeline = pipeline_of(self.arguments)
            self.parent = load_saved_unet(self.arguments, pipeline)
            self.image_model, processor = load_image_model(knobs["image_model"], knobs["image_model_revision"])
        exported, known = self.accept(self.image_model), None
        if self.parent is not None:
            check_same_latents(self.parent, pipeline, self.arguments, exported)
            self.scheduler, known = pipeline.scheduler, classes_of(self.parent.model)
        check_grid(self.image_model.grid_size, len(knobs["block_out_channels"]))
        self.pictures = read_pictures(self.arguments, processor)
        self.image_model.to(accelerator.device)
        self.train_set, held_out = encode(self.arguments, self.image_model, self.pictures, say, known)
        self.held_out = NoisedLatents(held_out, self.scheduler.config.num_train_timesteps)

    def data_identity(self) -> dict[str, Any]:
        return identity(self.pictures.train, self.train_set.labels)

    def build(self, accelerator: Accelerator) -> nn.Module:
        model = build_core(self.arguments, self.train_set, self.scheduler, self.parent and self.parent.hand_over())
        count = classes_of(model.unet)  # those that the UNet knows; numbers where the data set has no names
        self.class_names = [str(name) for name in (self.train_set.names if count else None) or range(count)]
        return model

    def describe(self, run: Run) -> str:
        latents = self.train_set
        millions = sum(parameter.numel() for parameter in run.core.parameters()) / 1e6
        return (
            f"data {self.pictures.name}: {len(latents):,} latents of {'x'.join(map(str, latents.latents.shape[1:]))}, "
            f"{len(self.held_out):,} held out, scaling factor {self.image_model.config.scaling_factor:.4g}\n"
            f"UNet {list(self.arguments.model['block_out_channels'])}: {millions:.2f} M parameters, "
            f"{latents.num_classes} classes"
        )

    def evaluate(self, run: Run, model: nn.Module) -> dict[str, float]:
        return noise_errors(run, model)

    def picture(self, run: Run, model: nn.Module) -> Image.Image:
        """Pictures drawn from noise, one class a column."""
        knobs, classes = self.arguments.model, len(self.class_names)
        labels = labels_of_sheet(classes)
        generator = torch.Generator().manual_seed(self.arguments.run.seed)
        pictures = generate_images(
            model.unet, model.scheduler, self.image_model, labels, num_images=None if labels else SAMPLED,
            generator=generator, guidance_scale=knobs["sample_guidance_scale"],
            num_inference_steps=knobs["sample_steps"],
        )  # fmt: skip
        return sheet(pictures, classes)

    def record(self, run: Run) -> dict[str, Any]:
        return {
            "image_model": public_name(self.arguments.model["image_model"]),
            "scaling_factor": self.image_model.config.scaling_factor,
            "dataset": {
                "name": public_name(self.pictures.name),
                "train_images": len(self.train_set),
                "eval_images": len(self.held_out),
            },
        }

    def save_model(self, run: Run, model: nn.Module, folder: Path) -> None:
        if run.accelerator.is_main_process:
            self.save_pipeline(self, model, folder / PIPELINE)

    def save_rest(self, run: Run, model: nn.Module, folder: Path, record: dict[str, Any]) -> None:
        picture = self.picture(run, model)
        if run.accelerator.is_main_process:
            for place in (folder, folder / PIPELINE):
                place.mkdir(exist_ok=True)
                picture.save(place / SAMPLES_PICTURE)
            self.save_card(self, model, folder / PIPELINE, record)

    def closing_lines(self, run: Run, folder: Path) -> list[str]:
        return [f"pipeline: {folder / PIPELINE}"]


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


def encode(
    arguments: Arguments, image_model, pictures: ImageSplits, say, known_classes: int | None = None
) -> tuple[Latents, Latents]:
    """Latents of both splits at unit spread; measures the spread where nobody did. Classes are settled first.

    Args:
        known_classes: of the UNet that is trained on; None of one that starts anew, which takes those of the data.
    """
    batch_size = eval_batch_size(arguments, pictures.train.image_shape)
    classes, labels = 0, None
    if not arguments.model["unconditional"]:
        classes, labels = settle_classes(pictures.train, pictures.eval, say)
    if known_classes is not None:
        check_same_classes(known_classes, classes, arguments)
    if not has_scale(image_model):
        generator = torch.Generator(image_model.device).manual_seed(arguments.run.seed)
        image_model.measure_latents(pixel_batches(image_model, pictures.train, batch_size), generator)
        say(f"the image model does not know its scaling_factor; measured {image_model.config.scaling_factor:.4g}")
    say(f"encoding {len(pictures.train):,} + {len(pictures.eval):,} images of {pictures.name}")
    train, held_out = (encode_latents(image_model, part, batch_size) for part in (pictures.train, pictures.eval))
    if not classes:
        return train.without_labels(), held_out.without_labels()
    held_out.labels = labels
    return train, held_out


def build_core(
    arguments: Arguments, train: Latents, scheduler: DDIMScheduler, parent: UNet2DModel | None = None
) -> DiffusionInTraining:
    knobs = arguments.model
    check_class_dropout(arguments, train.num_classes)
    if not train.num_classes and knobs["sample_guidance_scale"] != 1:  # else it would end the run at samples.png
        raise ValueError(f"--sample_guidance_scale {knobs['sample_guidance_scale']}: the data set has no classes.")
    channels, height, width = train.latents.shape[1:]
    if parent is None:
        sizes = {name: knobs[name] for name in ("block_out_channels", "layers_per_block", "dropout", "class_dropout")}
        unet = build_unet(channels, (height, width), train.num_classes, **sizes)
    else:
        unet = train_unet_on(parent, height, knobs["dropout"])
    if arguments.training.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return DiffusionInTraining(unet, scheduler, knobs["class_dropout"])


def noise_errors(run: Run, model: DiffusionInTraining) -> dict[str, float]:
    """noise_mse: mean squared error of the noise, per number, given the class where the UNet has classes.
    noise_mse_unconditional: without the class. Each latent once, with a timestep and noise of its own.
    """
    accelerator, held_out = run.accelerator, run.task.held_out
    loader = evaluation_batches(
        held_out, run.arguments.training.eval_batch_size, accelerator.process_index, accelerator.num_processes,
        collate_fn=run.task.collate,
    )  # fmt: skip
    sums = torch.zeros(3, dtype=exact_dtype(accelerator.device), device=accelerator.device)
    drops_classes = model.class_dropout > 0 and held_out.labels is not None
    for batch in on_device(loader, accelerator.device):
        count = len(batch["latents"])
        sums[0] += count
        sums[1] += model(**batch).loss.to(sums) * count
        if drops_classes:
            batch["labels"] = torch.full_like(batch["labels"], NULL_CLASS)
            sums[2] += model(**batch).loss.to(sums) * count
    count, given, free = accelerator.reduce(sums, reduction="sum").tolist()
    metrics = {"images": count, "noise_mse": given / count}
    return {**metrics, "noise_mse_unconditional": free / count} if drops_classes else metrics
