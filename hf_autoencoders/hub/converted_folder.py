# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The folder of a converted model: weights, config, image processor, and a card that names the original."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers import PreTrainedModel

from hf_autoencoders.models.image_processing_autoencoder import AutoencoderImageProcessorPil

from ..models.model_card import PIN_THE_CODE
from ..training.checkpoint_folders import sha256
from ..training.text import plain_text, python_string
from .converters import left_in_words
from .source import Conversion, Source


CONVERTED_TEMPLATE = Path(__file__).parent / "templates" / "converted.md"


def write_converted(
    folder: str | Path,
    model: PreTrainedModel,
    source: Source,
    conversion: Conversion,
    place: str,
    files: list[Path],
    verified: str | None = None,
) -> None:
    """Writes an ordinary model folder: AutoModel and AutoImageProcessor open it.

    Args:
        place: names of the files, and of their entries that held the weights.
        files: what was converted; of a single file the SHA-256 stands on the card.
        verified: the largest differences from the authors' code, if they were measured.
    """
    folder, config = Path(folder), model.config
    model.save_pretrained(folder)
    size = {"height": config.height, "width": config.width}
    AutoencoderImageProcessorPil(size=size, num_channels=config.num_channels).save_pretrained(folder)
    card = ModelCard.from_template(
        converted_card_data(source, model),
        template_path=str(CONVERTED_TEMPLATE),
        name=folder.name,
        origin=source.origin,
        kind=source.name,
        plain_text=plain_text,
        python_string=python_string,
        pin_the_code=PIN_THE_CODE,
        model_class=type(model).__name__,
        place=place,
        sha256=sha256(files[0]) if len(files) == 1 and files[0].is_file() else None,
        facts=facts_of_model(model),
        notes=conversion.notes,
        left_behind=left_in_words(conversion.left_behind),
        verified=verified,
        has_tokens=hasattr(config, "codebook_size"),
        encoder_only=config.encoder_only,
        pixel_shape=(1, config.num_channels, config.height, config.width),
    )
    card.save(folder / "README.md")


def converted_card_data(source: Source, model: PreTrainedModel) -> ModelCardData:
    licence = source.origin.licence
    return ModelCardData(
        license=licence if licence not in ("other", "unknown") else "other",
        license_name=None if licence not in ("other", "unknown") else "see-original",
        license_link=None if licence not in ("other", "unknown") else source.origin.url,
        library_name="transformers",
        pipeline_tag="image-feature-extraction",
        tags=["hf_autoencoders", "autoencoder", model.config.model_type, f"converted-from-{source.name}"],
    )


def facts_of_model(model: PreTrainedModel) -> str:
    """Sizes in one sentence."""
    config = model.config
    number = sum(parameter.numel() for parameter in model.parameters())
    grid = f"{config.grid_size[0]}x{config.grid_size[1]}"
    picture = f"for a picture of {config.height}x{config.width}"
    if hasattr(config, "codebook_size"):
        return f"{type(model).__name__}, {number:,} weights, {config.codebook_size} codes, {grid} tokens {picture}."
    return f"{type(model).__name__}, {number:,} weights, {grid} latents of {config.latent_channels} numbers {picture}."
