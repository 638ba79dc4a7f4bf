# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Latent diffusion: diffusers' UNet2DModel removes noise from an image model's latents. Rombach et al. 2022.

    training   z_0 = scaling_factor x latents, z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) e, |UNet(z_t, t, class) - e|^2
    drawing    noise e -> UNet and DDIM, step by step -> z_0 / scaling_factor -> the image model's decoder

    unet, scheduler = build_unet(latent_channels=4, grid_size=(8, 8), num_classes=10), build_scheduler()
    generate_images(unet, scheduler, image_model, labels=[3, 7])         # (2, C, H, W)

A UNet with classes fits diffusers' DiTPipeline, one without its LDMPipeline (`hub.pipelines` puts them together).
"""

from collections.abc import Sequence
from numbers import Integral

import torch
from diffusers import DDIMScheduler, UNet2DModel
from torch import Tensor

from ..models.image_token_ids import as_class_numbers, check_count, is_finite


NULL_CLASS = 1000  # "no class", where DiTPipeline looks for it
NORM_GROUPS = 8
TIMESTEPS = 1000  # levels of noise


def build_unet(
    latent_channels: int,
    grid_size: tuple[int, int],
    num_classes: int = 0,
    class_dropout: float = 0.1,
    block_out_channels: Sequence[int] = (32, 64),
    layers_per_block: int = 2,
    dropout: float = 0.0,
) -> UNet2DModel:
    """A UNet with fresh weights. It halves the grid between levels, and attends at all levels but the finest.

    With classes and `class_dropout` above 0 it has 1001 class embeddings. Number 1000 stands for no class. The
    embeddings of classes that do not exist are zero and stay zero; `classes_of` counts the others.

    Raises:
        ValueError: a grid that diffusers' pipelines or this many levels cannot take, more than 1000 classes, or a width
            that is no multiple of 8.

    >>> unet = build_unet(latent_channels=4, grid_size=(8, 8), num_classes=10)
    >>> unet(torch.zeros(2, 4, 8, 8), timestep=500, class_labels=torch.tensor([3, NULL_CLASS])).sample.shape
    torch.Size([2, 4, 8, 8])
    >>> classes_of(unet)
    10
    """
    levels = len(block_out_channels)
    check_grid(grid_size, levels)
    wrong = [width for width in block_out_channels if width < 1 or width % NORM_GROUPS]
    if wrong or not levels:
        raise ValueError(
            f"`block_out_channels` must be multiples of {NORM_GROUPS}, the groups of GroupNorm, "
            f"got {list(block_out_channels)}."
        )
    if num_classes > NULL_CLASS:
        raise ValueError(
            f"DiTPipeline keeps number {NULL_CLASS} for no class, so there are at most that many, got {num_classes}."
        )
    attends = [levels == 1 or level > 0 for level in range(levels)]
    unet = UNet2DModel(
        sample_size=grid_size[0],
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=tuple(block_out_channels),
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        layers_per_block=layers_per_block,
        norm_num_groups=NORM_GROUPS,
        dropout=dropout,
        num_class_embeds=(NULL_CLASS + 1 if class_dropout else num_classes) if num_classes else None,
    )
    if knows_null_class(unet):
        with torch.no_grad():
            unet.class_embedding.weight[num_classes:NULL_CLASS] = 0  # no gradient ever reaches them
    return unet


def check_grid(grid_size: tuple[int, int], levels: int) -> None:
    """Raises ValueError for a grid that is not square, or that cannot be halved `levels - 1` times."""
    height, width = grid_size
    if height != width:
        raise ValueError(f"diffusers' LDMPipeline and DiTPipeline draw square latents; these are {height}x{width}.")
    if height % 2 ** (levels - 1):
        raise ValueError(
            f"A UNet of {levels} levels halves the grid {levels - 1} times; {height}x{width} latents do not allow it: "
            "give fewer --block_out_channels, or an image model of padded pictures (--image_size 32 --image_fit pad)."
        )


def build_scheduler(beta_schedule: str = "linear", num_timesteps: int = TIMESTEPS) -> DDIMScheduler:
    """The noise of Ho et al. 2020, with the steps of Song et al. 2021 from the noisiest timestep on.

    Latents are not clipped: the scheduler's default cuts at [-1, 1], which is for pixels.
    """
    return DDIMScheduler(
        num_train_timesteps=num_timesteps,
        beta_schedule=beta_schedule,
        clip_sample=False,
        timestep_spacing="trailing",
    )


def knows_null_class(unet: UNet2DModel) -> bool:
    """Whether the UNet was also trained without a class, which guidance compares with."""
    return (unet.config.num_class_embeds or 0) > NULL_CLASS


def classes_of(unet: UNet2DModel) -> int:
    """How many classes a UNet of `build_unet` knows; 0 without."""
    if not knows_null_class(unet):
        return unet.config.num_class_embeds or 0
    return int(unet.class_embedding.weight[:NULL_CLASS].detach().count_nonzero(1).count_nonzero())


def check_labels(
    unet: UNet2DModel, labels: Sequence[int] | Tensor | None, num_images: int | None, guidance_scale: float
) -> Tensor | None:
    """The class of each picture, (B,) int64, or None of a UNet without classes."""
    classes = classes_of(unet)
    if not is_finite(guidance_scale):
        raise ValueError(f"`guidance_scale` must be a finite number, got {guidance_scale!r}.")
    if guidance_scale != 1 and (labels is None or not knows_null_class(unet)):
        why = "labels" if labels is None else "a null class: train with `class_dropout` above 0"
        raise ValueError(f"`guidance_scale` {guidance_scale} needs {why}.")
    if labels is None:
        if num_images is None:
            raise ValueError("Without labels `num_images` must say how many, got None.")
        check_count(num_images)
        if classes and not knows_null_class(unet):
            raise ValueError(f"This UNet draws no picture without a class: give `labels` in 0..{classes - 1}.")
        return torch.full((num_images,), NULL_CLASS) if classes else None
    if not classes:
        raise ValueError("This UNet knows no classes: leave `labels` out.")
    labels = as_class_numbers(labels)
    if labels.dim() != 1 or (labels.is_floating_point() and len(labels)):
        raise ValueError(f"`labels` must be a list of class numbers, got {labels.dtype} {tuple(labels.shape)}.")
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"Labels must lie in 0..{classes - 1}, at least one, got {labels.tolist()}.")
    return labels.long()


def check_steps(scheduler: DDIMScheduler, num_inference_steps: int) -> None:
    """Raises ValueError unless the scheduler has so many levels of noise."""
    levels = scheduler.config.num_train_timesteps
    if not isinstance(num_inference_steps, Integral) or not 1 <= num_inference_steps <= levels:
        raise ValueError(f"`num_inference_steps` must lie in 1..{levels}, got {num_inference_steps!r}.")


@torch.no_grad()
def sample_latents(
    unet: UNet2DModel,
    scheduler: DDIMScheduler,
    labels: Sequence[int] | Tensor | None = None,
    *,
    num_images: int | None = None,
    generator: torch.Generator | None = None,
    guidance_scale: float = 1.0,
    num_inference_steps: int = 50,
) -> Tensor:
    """Latents (B, D, h, w) drawn from noise, still at unit spread. See `generate_images`.

    Guidance as DiTPipeline has it: none + scale (class - none). Ho & Salimans 2022.
    """
    labels = check_labels(unet, labels, num_images, guidance_scale)
    check_steps(scheduler, num_inference_steps)
    count = num_images if labels is None else len(labels)
    size = unet.config.sample_size
    device = "cpu" if generator is None else generator.device
    latents = torch.randn((count, unet.config.in_channels, size, size), generator=generator, device=device)
    latents = latents.to(unet.device, unet.dtype)
    labels = None if labels is None else labels.to(unet.device)
    training = unet.training
    unet.eval()
    scheduler.set_timesteps(num_inference_steps)
    for timestep in scheduler.timesteps:
        noise = predict_noise(unet, latents, timestep, labels, guidance_scale)
        latents = scheduler.step(noise, timestep, latents).prev_sample
    unet.train(training)
    return latents


def predict_noise(
    unet: UNet2DModel, latents: Tensor, timestep: Tensor, labels: Tensor | None, guidance_scale: float
) -> Tensor:
    """The noise in `latents` (B, D, h, w): none + scale (class - none)."""
    if guidance_scale == 1:
        return unet(latents, timestep, class_labels=labels).sample
    both = torch.cat([labels, torch.full_like(labels, NULL_CLASS)])
    given, free = unet(latents.repeat(2, 1, 1, 1), timestep, class_labels=both).sample.chunk(2)
    return free + guidance_scale * (given - free)


@torch.no_grad()
def generate_images(
    unet: UNet2DModel,
    scheduler: DDIMScheduler,
    image_model,
    labels: Sequence[int] | Tensor | None = None,
    *,
    num_images: int | None = None,
    generator: torch.Generator | None = None,
    guidance_scale: float = 1.0,
    num_inference_steps: int = 50,
    batch_size: int = 256,
) -> Tensor:
    """New pictures (B, C, H, W) on the [-1, 1] scale.

    Args:
        unet, scheduler: from `build_unet` and `build_scheduler`, or of a saved pipeline.
        image_model: the model whose latents the UNet knows, ours or its export (AutoencoderKL, VQModel).
        labels: class of each picture. Without them, `num_images` pictures.
        generator: same state, same pictures.
        guidance_scale: above 1: pictures show their class more clearly; the UNet must know a null class.
        num_inference_steps: passes of the UNet.
        batch_size: pictures drawn at once.

    Raises:
        ValueError: labels that the UNet does not know, or guidance without a null class.
    """
    check_labels(unet, labels, num_images, guidance_scale)  # all mistakes before the first picture
    check_steps(scheduler, num_inference_steps)
    count = num_images if labels is None else len(labels)
    pictures = []
    for start in range(0, count, batch_size):
        end = min(start + batch_size, count)
        latents = sample_latents(
            unet, scheduler, None if labels is None else labels[start:end], num_images=end - start,
            generator=generator, guidance_scale=guidance_scale, num_inference_steps=num_inference_steps,
        )  # fmt: skip
        pictures.append(image_model.decode(latents.to(image_model.device) / image_model.config.scaling_factor).sample)
    return torch.cat(pictures)
