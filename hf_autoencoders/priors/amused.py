# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Amused: diffusers' UVit2DModel fills in image tokens, from a prompt of words. Patil et al. 2024.

    transformer, text_encoder, tokenizer = build_amused(image_model, words=["zero", "one", "two"])
    masked_token_loss(transformer, text_encoder, tokenizer, image_tokens, prompts).backward()

A small CLIP text model reads the prompt. It starts with random weights and is trained together with the transformer, so
it knows only the words that it was made for. `hub.pipelines.amused_pipeline` puts the parts together.
"""

from collections.abc import Sequence

import torch
from diffusers import UVit2DModel
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, PreTrainedTokenizerFast

from .masked import hide, training_counts
from .sequences import IGNORED


SPECIAL = ("<pad>", "<begin>", "<unknown>", "<end>")  # ids 0..3; CLIP reads an end of 2 as "the largest id"
AESTHETIC_SCORE = 6  # what AmusedPipeline says of a picture unless told otherwise
MICRO_WIDTH = 16  # numbers in which each of five such facts is told


def build_amused(
    image_model, words: Sequence[str], hidden_size: int = 64, num_layers: int = 2, num_heads: int = 4
) -> tuple[UVit2DModel, CLIPTextModelWithProjection, PreTrainedTokenizerFast]:
    """Transformer, text encoder and tokenizer with fresh weights, for an image model's codes and prompts of `words`.

    Raises:
        ValueError: a grid that is not square, several codes a position, no words, or a width that does not fit.
    """
    height, width = image_model.grid_size
    if height != width or getattr(image_model.config, "codes_per_position", 1) != 1:
        raise ValueError("AmusedPipeline draws square grids of one code a position; this model has others.")
    if hidden_size < 1 or hidden_size % num_heads or hidden_size % 2:
        raise ValueError(f"`hidden_size` must be even and a multiple of {num_heads} heads, got {hidden_size}.")
    tokenizer = build_tokenizer(words)
    text_encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden_size,
            intermediate_size=2 * hidden_size,
            projection_dim=hidden_size,
            num_hidden_layers=2,
            num_attention_heads=num_heads,
            max_position_embeddings=tokenizer.model_max_length,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    transformer = UVit2DModel(
        hidden_size=hidden_size,
        cond_embed_dim=hidden_size,
        encoder_hidden_size=hidden_size,
        micro_cond_encode_dim=MICRO_WIDTH,
        micro_cond_embed_dim=5 * MICRO_WIDTH,
        vocab_size=image_model.codebook_size + 1,  # the last one hides a code
        codebook_size=image_model.codebook_size,
        in_channels=hidden_size,
        block_out_channels=hidden_size,
        num_res_blocks=1,
        block_num_heads=num_heads,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=2 * hidden_size,
        sample_size=height,
    )
    return transformer, text_encoder, tokenizer


def build_tokenizer(words: Sequence[str], max_length: int = 8) -> PreTrainedTokenizerFast:
    """One id for each word; other words become <unknown>. Upper and lower case are the same.

    >>> tokenizer = build_tokenizer(["a", "three"])
    >>> tokenizer("A three").input_ids, tokenizer("").input_ids
    ([1, 4, 5, 3], [1, 3])
    """
    known = list(dict.fromkeys(word.lower() for text in words for word in text.split()))
    if not known:
        raise ValueError("A prompt needs words: `words` is empty.")
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *known))}
    pad, begin, unknown, end = SPECIAL
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    around = [(begin, vocabulary[begin]), (end, vocabulary[end])]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=around)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        pad_token=pad,
        bos_token=begin,
        unk_token=unknown,
        eos_token=end,
    )


def masked_token_loss(
    transformer: UVit2DModel,
    text_encoder: CLIPTextModelWithProjection,
    tokenizer: PreTrainedTokenizerFast,
    image_tokens: Tensor,
    prompts: Sequence[str],
    downsample_factor: int,
) -> Tensor:
    """Cross-entropy of hidden codes in nats per code, a scalar; hides as many as MaskGIT (`priors.masked`).

    Args:
        image_tokens: (B, h, w) int64.
        prompts: one for each picture; "" for a picture without words, which guidance compares with.
        downsample_factor: of the image model; a picture's size is among the facts that the transformer is told.
    """
    batch, height, width = image_tokens.shape
    flat = torch.cat([image_tokens.new_zeros(batch, 1), image_tokens.flatten(1)], dim=1)  # `hide` spares the first
    counts = training_counts(batch, height * width).to(flat.device)
    hidden, targets = hide(flat, counts, transformer.config.vocab_size - 1)
    pooled, states = read_prompts(text_encoder, tokenizer, prompts)
    facts = [width * downsample_factor, height * downsample_factor, 0, 0, AESTHETIC_SCORE]
    logits = transformer(
        hidden[:, 1:].view(batch, height, width),
        encoder_hidden_states=states,
        pooled_text_emb=pooled,
        micro_conds=torch.tensor([facts] * batch, dtype=states.dtype, device=states.device),
    )  # (B, K, h, w)
    targets = targets[:, 1:].view(batch, height, width)
    return nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED)


def read_prompts(text_encoder, tokenizer, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """What AmusedPipeline takes from a prompt: its projected embedding (B, width), and the hidden states before the
    last layer (B, L, width)."""
    ids = tokenizer(
        list(prompts), return_tensors="pt", padding="max_length", truncation=True, max_length=tokenizer.model_max_length
    ).input_ids.to(text_encoder.device)
    output = text_encoder(ids, output_hidden_states=True)
    return output.text_embeds, output.hidden_states[-2]
