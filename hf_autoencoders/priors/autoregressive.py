# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Priors over image tokens: stock language models of transformers, and pictures drawn from any prior::

    sequencer = ImageTokenSequencer.for_model(image_model, num_classes=10, class_dropout=0.1)
    prior = build_prior(sequencer)                                   # a LlamaForCausalLM
    prior(**sequencer(image_tokens, labels)).loss                    # nats per code
    generate_images(prior, image_model, labels=[3, 7])               # (2, C, H, W)

A prior remembers its sequencer in its config (`image_token_sequencer`), so that it can be used alone.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..models.image_token_ids import generate_ids
from ..training.saved_models import load_model, reading
from .masked import draw_masked_ids, is_masked, masked
from .pixelcnn import PixelCNNConfig
from .sequences import ImageTokenSequencer


def ids_of(sequencer: ImageTokenSequencer) -> dict[str, int | None]:
    """Vocabulary and special ids of a language model's config."""
    ids = sequencer.ids
    return {
        "vocab_size": ids.vocab_size,
        "bos_token_id": ids.begin,
        "eos_token_id": None,
        "pad_token_id": ids.mask,
    }


def llama(sequencer: ImageTokenSequencer, hidden_size: int, num_layers: int, num_heads: int, dropout: float):
    """Config of a Llama. Its feed-forward layer is 8/3 times as wide, rounded up to a multiple of 32."""
    return LlamaConfig(
        hidden_size=hidden_size,
        intermediate_size=-(-hidden_size * 8 // 3 // 32) * 32,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        attention_dropout=dropout,
        max_position_embeddings=sequencer.sequence_length,
        **ids_of(sequencer),
    )


def gpt2(sequencer: ImageTokenSequencer, hidden_size: int, num_layers: int, num_heads: int, dropout: float):
    return GPT2Config(
        n_embd=hidden_size,
        n_layer=num_layers,
        n_head=num_heads,
        n_positions=sequencer.sequence_length,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        **ids_of(sequencer),
    )


def pixelcnn(sequencer: ImageTokenSequencer, hidden_size: int, num_layers: int, num_heads: int, dropout: float):
    """Config of a PixelCNN. Convolutions have no heads, so `num_heads` has no effect."""
    return PixelCNNConfig(
        codebook_size=sequencer.codebook_size,
        grid_size=sequencer.grid_size,
        num_classes=sequencer.num_classes,
        hidden_size=hidden_size,
        num_layers=num_layers,
        dropout=dropout,
    )


ARCHITECTURES: dict[str, Callable[..., PreTrainedConfig]] = {
    "llama": llama,
    "gpt2": gpt2,
    "pixelcnn": pixelcnn,
    "masked": masked,
}


def build_prior(
    sequencer: ImageTokenSequencer,
    architecture: str = "llama",
    hidden_size: int = 128,
    num_layers: int = 3,
    num_heads: int = 4,
    dropout: float = 0.0,
) -> PreTrainedModel:
    """A prior with fresh weights: a language model of the sequencer's vocabulary (`llama`, `gpt2`), the PixelCNN of the
    paper (`pixelcnn`), or a BERT that fills in hidden codes (`masked`, see `priors.masked`).

    A language model's own `generate` draws whole pictures by default: no end token, all codes and no other id.

    >>> sequencer = ImageTokenSequencer(codebook_size=128, grid_size=(7, 7), num_classes=10)
    >>> prior = build_prior(sequencer, hidden_size=32)
    >>> prior.generate(sequencer.prompt([3, 7])).shape
    torch.Size([2, 50])
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"`architecture` must be one of {', '.join(ARCHITECTURES)}, got {architecture!r}.")
    if (architecture != "pixelcnn" and hidden_size % num_heads) or hidden_size < 1:
        raise ValueError(f"`hidden_size` must be a multiple of `num_heads`, got {hidden_size} and {num_heads}.")
    config = ARCHITECTURES[architecture](sequencer, hidden_size, num_layers, num_heads, dropout)
    config.image_token_sequencer = sequencer.to_dict()
    auto_class = AutoModelForMaskedLM if architecture == "masked" else AutoModelForCausalLM
    prior = auto_class.from_config(config)
    if prior.can_generate():
        prior.generation_config.update(**sequencer.generation_kwargs())
    return prior


def load_prior(name: str, **kwargs) -> PreTrainedModel:
    """A saved prior of any kind, in eval mode."""
    with reading(name):
        config = AutoConfig.from_pretrained(name, **kwargs)
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING:
        return load_model(name, auto_class=AutoModelForMaskedLM, **kwargs)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return load_model(name, auto_class=AutoModelForCausalLM, **kwargs)
    raise ValueError(f"{name} is no prior over image tokens: it is a {config.model_type}.")


def sequencer_of(prior: PreTrainedModel) -> ImageTokenSequencer:
    """The sequencer that a prior was made for."""
    fields = getattr(prior.config, "image_token_sequencer", None)
    if fields is None:
        raise ValueError(
            f"This {type(prior).__name__} does not say which of its ids are image tokens "
            "(`config.image_token_sequencer`): give `sequencer`."
        )
    try:
        return ImageTokenSequencer(**fields)
    except TypeError as error:  # no dict, or one that lacks what is needed
        raise ValueError(f"This prior's config is damaged: `image_token_sequencer` is {fields!r} ({error}).") from error


def check_fits(sequencer: ImageTokenSequencer, image_model) -> None:
    """Raises ValueError, naming both, unless the prior's tokens are of the model's codebook and grid."""
    if not hasattr(image_model, "decode_image_tokens"):
        raise ValueError(f"The image model is a {image_model.config.model_type}, which has no image tokens.")
    own = ImageTokenSequencer.for_model(image_model)
    both = (sequencer.image_tokenizer_codebook, own.image_tokenizer_codebook)
    same_codebook = None in both or both[0] == both[1]
    if (own.codebook_size, own.grid_size) != (sequencer.codebook_size, sequencer.grid_size) or not same_codebook:
        raise ValueError(
            f"This prior is of {describe_tokens(sequencer)}, the image model has {describe_tokens(own)}: "
            "its codes mean other pictures."
        )


def describe_tokens(sequencer: ImageTokenSequencer) -> str:
    """
    >>> describe_tokens(ImageTokenSequencer(codebook_size=128, grid_size=(7, 7), image_tokenizer="org/vqvae-mnist"))
    '128 codes on a 7x7 grid (org/vqvae-mnist)'
    """
    grid, codebook = "x".join(map(str, sequencer.grid_size)), sequencer.image_tokenizer_codebook
    name = (sequencer.image_tokenizer or "no name") + (f", codebook {codebook}" if codebook else "")
    return f"{sequencer.codebook_size} codes on a {grid} grid ({name})"


def way_of_drawing(prior: PreTrainedModel) -> Callable[..., Tensor]:
    """The function that draws from this prior: transformers' `generate` for language models, or the prior's own."""
    if hasattr(prior, "draw_ids"):
        return prior.draw_ids
    return partial(draw_masked_ids if is_masked(prior) else generate_ids, prior)


def generate_image_tokens(
    prior: PreTrainedModel,
    labels: Sequence[int | str] | Tensor | None = None,
    *,
    num_images: int | None = None,
    generator: torch.Generator | None = None,
    guidance_scale: float = 1.0,
    sequencer: ImageTokenSequencer | None = None,
    **options,
) -> Tensor:
    """Image tokens (B, h, w), or (B, h, w, depth), drawn from a prior. See `generate_images`."""
    sequencer = sequencer_of(prior) if sequencer is None else sequencer
    training = prior.training
    prior.eval()
    try:
        draw = way_of_drawing(prior)
        ids = draw(sequencer.ids, labels, num_images, generator, guidance_scale, **options)
    finally:
        prior.train(training)
    return sequencer.to_image_tokens(ids)


@torch.no_grad()
def generate_images(
    prior: PreTrainedModel,
    image_model,
    labels: Sequence[int | str] | Tensor | None = None,
    *,
    num_images: int | None = None,
    generator: torch.Generator | None = None,
    guidance_scale: float = 1.0,
    sequencer: ImageTokenSequencer | None = None,
    batch_size: int = 256,
    **options,
) -> Tensor:
    """New pictures (B, C, H, W) on the [-1, 1] scale.

    Args:
        prior: from `build_prior` or train_prior.py.
        image_model: the model whose tokens the prior knows.
        labels: class of each picture, its number or its name. Without them, `num_images` pictures.
        generator: same state, same pictures.
        guidance_scale: above 1: pictures show their class more clearly; the prior must know a null class.
        sequencer: the prior's own, if None.
        batch_size: pictures drawn at once.
        options: temperature, top_k, top_p; of a masked prior also steps and choice_temperature.
    """
    sequencer = sequencer_of(prior) if sequencer is None else sequencer
    check_fits(sequencer, image_model)
    count = num_images if labels is None else len(labels)
    sequencer.prompt(labels, num_images)  # all mistakes before the first picture
    pictures = []
    for start in range(0, count, batch_size):
        part = None if labels is None else labels[start : start + batch_size]
        tokens = generate_image_tokens(
            prior,
            part,
            num_images=min(batch_size, count - start) if labels is None else None,
            generator=generator,
            guidance_scale=guidance_scale,
            sequencer=sequencer,
            **options,
        )
        pictures.append(image_model.decode_image_tokens(tokens.to(image_model.device)))
    return torch.cat(pictures)
