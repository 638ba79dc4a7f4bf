# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Whole pipelines of diffusers around our image models: folders that open where this package is not installed.

latent_diffusion_pipeline(image_model, unet, scheduler)                    LDMPipeline: pictures without a class
latent_diffusion_pipeline(image_model, unet, scheduler, class_names)       DiTPipeline: pictures of classes
amused_pipeline(image_model, transformer, text_encoder, tokenizer)         AmusedPipeline: tokens, from words

pipeline.save_pretrained("folder"); diffusers.DiffusionPipeline.from_pretrained("folder")
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import (
    AmusedPipeline,
    AmusedScheduler,
    DDIMScheduler,
    DiTPipeline,
    LDMPipeline,
    UNet2DModel,
    UVit2DModel,
    VQModel,
)
from torch import nn

from hf_autoencoders.priors.diffusion_start import PIPELINE
from hf_autoencoders.priors.diffusion_task import DiffusionTask
from hf_autoencoders.priors.latent_diffusion import classes_of, knows_null_class

from ..priors.sheets import SAMPLES_PICTURE
from ..training.engine import Run
from ..training.run_files import CARD
from ..training.starting_point import base_model_of, parent_on_card
from ..training.text import render
from .diffusers_export import to_diffusers
from .publish import publish_files
from .publishers import Publisher


PIPELINE_TEMPLATE = Path(__file__).parent / "templates" / "pipeline.md"


def latent_diffusion_pipeline(
    image_model: nn.Module, unet: UNet2DModel, scheduler: DDIMScheduler, class_names: Sequence[str] = ()
) -> LDMPipeline | DiTPipeline:
    """The pipeline that fits the UNet: DiTPipeline if it knows classes, else LDMPipeline.

    DiTPipeline asks of its `transformer` what UNet2DModel answers: `transformer(latents, timestep=, class_labels=)`.
    With a null class it guides by 4 unless `guidance_scale` says otherwise; without one it must say 1.

    Args:
        image_model: what `to_diffusers` takes; its `scaling_factor` is the one that the UNet was trained with.
        class_names: of the UNet's classes, by number; the pipeline's `get_label_ids` reads them.

    Raises:
        ValueError: an image model that diffusers cannot hold, by name; names for other classes than the UNet's.
    """
    classes, exported = classes_of(unet), to_diffusers(image_model)
    if classes != len(class_names):
        raise ValueError(f"The UNet knows {classes} classes, got {len(class_names)} names.")
    if not classes:
        return LDMPipeline(vqvae=exported, unet=unet, scheduler=scheduler)
    names = dict(enumerate(class_names))
    pipeline = DiTPipeline(transformer=unet, vae=exported, scheduler=scheduler, id2label=names)
    pipeline.register_to_config(id2label=names)  # else it is not saved
    return pipeline


def save_pipeline(task: DiffusionTask, model: nn.Module, folder: Path) -> None:
    """Writes the trained UNet and its image model as a pipeline into `folder`, in place of what lies there."""
    shutil.rmtree(folder, ignore_errors=True)
    pipeline = latent_diffusion_pipeline(task.image_model, model.unet, model.scheduler, task.class_names)
    pipeline.save_pretrained(folder)


def save_card(task: DiffusionTask, model: nn.Module, folder: Path, record: dict) -> None:
    """README.md of the pipeline in `folder`. `record`: what metrics.json says of the run."""
    (folder / "README.md").write_text(pipeline_card(model.unet, record), encoding="utf-8")


def pipeline_card(unet: UNet2DModel, record: dict) -> str:
    """README.md of a pipeline, from measured numbers and templates/pipeline.md."""
    return render(
        PIPELINE_TEMPLATE,
        record=record,
        base_model=base_model_of(record),
        origin=parent_on_card(record),
        metrics=[(name, f"{value:.4g}") for name, value in record["metrics"].items()],
        classes=classes_of(unet),
        guidance=2.0 if knows_null_class(unet) else 1.0,
    )


FILES_OF_A_PIPELINE = ("model_index.json", CARD, SAMPLES_PICTURE, "*/*.json", "*/*.safetensors", "*/*.py", "*.py")


class PipelinePublisher(Publisher):
    """The pipeline with its card in one commit."""

    def at_end(self, run: Run) -> None:
        if not self.hub.push_to_hub or not run.accelerator.is_main_process:
            return
        folder = Path(self.arguments.run.output_dir)
        name, private = self.hub.hub_model_id or folder.resolve().name, self.hub.hub_private
        url = publish_files(
            folder / PIPELINE,
            name,
            FILES_OF_A_PIPELINE,
            "Publish the pipeline",
            mark="model_index.json",
            private=private,
        )
        print(f"published {url}")


# -- Amused ------------------------------------------------------------------------------------------------------------


def amused_pipeline(image_model: nn.Module, transformer: UVit2DModel, text_encoder, tokenizer) -> AmusedPipeline:
    """The pipeline that draws all codes in a few passes, led by words. Patil et al. 2024.

    diffusers deprecated its class (last supported in 0.33.1); it runs in 0.42.

    Args:
        image_model: a VQ-VAE that `to_diffusers` takes, or a dVAE with `latent_channels` = `codebook_size`.
        transformer, text_encoder, tokenizer: of `priors.amused.build_amused`, trained.

    Raises:
        ValueError: another codebook than the transformer's, or what diffusers cannot hold, by name.
    """
    vqmodel = in_unit_range(to_diffusers(image_model, lookup_from_codebook=True))
    config = vqmodel.config
    if config.num_vq_embeddings != transformer.config.codebook_size:
        raise ValueError(
            f"The transformer draws {transformer.config.codebook_size} codes, the image model has "
            f"{config.num_vq_embeddings}."
        )
    if config.latent_channels != config.vq_embed_dim:
        raise ValueError(
            f"AmusedPipeline takes `latent_channels` for the width of a code; this model has {config.latent_channels} "
            f"and {config.vq_embed_dim}: train it with `latent_channels` {config.vq_embed_dim}."
        )
    scheduler = AmusedScheduler(mask_token_id=transformer.config.vocab_size - 1)
    return AmusedPipeline(vqmodel, tokenizer, text_encoder, transformer, scheduler)


@torch.no_grad()
def in_unit_range(vqmodel: VQModel) -> VQModel:
    """The same model with a decoder that speaks on the [0, 1] scale, as AmusedPipeline expects.

    (x + 1) / 2 is done by the last layer, which is linear. The encoder still hears [-1, 1].
    """
    last = vqmodel.decoder.conv_out
    last.weight.mul_(0.5)
    last.bias.mul_(0.5).add_(0.5)
    return vqmodel
