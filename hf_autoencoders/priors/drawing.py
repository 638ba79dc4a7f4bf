# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Draws codes from scores, for priors that transformers' `generate` does not know."""

import torch
from torch import Tensor
from transformers.generation.logits_process import TopKLogitsWarper, TopPLogitsWarper

from ..models.image_token_ids import check_sampling


def draw_codes(
    logits: Tensor,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    top_k: int | None = 0,
    top_p: float | None = 1.0,
    do_sample: bool = True,
) -> Tensor:
    """Scores (..., K) -> codes (...), drawn, or the likeliest if not `do_sample`; ranges: see `check_sampling`."""
    check_sampling(temperature, top_k, top_p)
    if not do_sample:
        return logits.argmax(-1)
    scores = logits.reshape(-1, logits.shape[-1]).float() / temperature
    if top_k:
        scores = TopKLogitsWarper(top_k)(None, scores)
    if top_p is not None and top_p < 1:
        scores = TopPLogitsWarper(top_p)(None, scores)
    device = scores.device if generator is None else generator.device
    drawn = torch.multinomial(scores.softmax(-1).to(device), 1, generator=generator)
    return drawn.to(logits.device).view(logits.shape[:-1])


def guided(logits: Tensor, guidance_scale: float) -> Tensor:
    """Scores (2 B, ...), with classes and then without -> none + scale (class - none), (B, ...). Ho & Salimans 2022."""
    given, free = logits.log_softmax(-1).chunk(2)
    return free + guidance_scale * (given - free)
