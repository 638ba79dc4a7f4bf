# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""A masked prior: a stock BERT that fills in image tokens, and draws a picture in a few passes. Chang et al. 2022.

Training hides a share cos(pi/2 r) of the codes, r uniform, and predicts them. Drawing begins with all codes hidden;
each pass draws all hidden codes and keeps the most probable ones, so that a share cos(pi/2 t/T) is still hidden after
pass t of T.
"""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import BertConfig, PreTrainedModel

from ..models.image_token_ids import ImageTokenIds, check_sampling, is_finite
from ..models.noise import draw_noise, gumbel_noise
from .drawing import draw_codes, guided
from .sequences import IGNORED, ImageTokenSequencer


def masked(sequencer: ImageTokenSequencer, hidden_size: int, num_layers: int, num_heads: int, dropout: float):
    """A BERT without token types. No padding id: its embedding would stay at zero, and BERT's default 0 is a code."""
    return BertConfig(
        vocab_size=sequencer.vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=4 * hidden_size,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        max_position_embeddings=sequencer.sequence_length,
        type_vocab_size=1,
        pad_token_id=None,
    )


def is_masked(prior: PreTrainedModel) -> bool:
    """Whether a prior predicts hidden codes from all others."""
    return prior.config.model_type == "bert" and not prior.config.is_decoder


def hide(
    input_ids: Tensor, counts: Tensor, mask: int, generator: torch.Generator | list[torch.Generator] | None = None
) -> tuple[Tensor, Tensor]:
    """Hides `counts` (B,) image tokens of each sequence (B, 1 + N), chosen at random.

    Args:
        generator: one for all draws, or a list with one for each sequence.

    Returns: the sequences with `mask` in their place, and targets that are `IGNORED` everywhere else.
    """
    noise = draw_noise(torch.rand, input_ids[:, 1:].shape, generator, torch.float32, input_ids.device)
    hidden = noise.argsort(1).argsort(1) < counts[:, None]  # (B, N)
    hidden = torch.cat([torch.zeros_like(hidden[:, :1]), hidden], dim=1)  # never the prompt
    return input_ids.masked_fill(hidden, mask), input_ids.masked_fill(~hidden, IGNORED)


def training_counts(batch: int, num_tokens: int) -> Tensor:
    """How many codes training hides: ceil(N cos(pi/2 r)), r uniform; (B,) int64, at least 1."""
    return (num_tokens * torch.cos(math.pi / 2 * torch.rand(batch))).ceil().clamp(1, num_tokens).long()


def bound_counts(
    batch: int, num_tokens: int, generator: torch.Generator | list[torch.Generator] | None = None
) -> Tensor:
    """How many codes the likelihood bound hides: uniform in 1..N, (B,) int64."""
    uniform = draw_noise(torch.rand, (batch,), generator, torch.float64, torch.device("cpu"))
    return 1 + (num_tokens * uniform).long()


@torch.no_grad()
def nats_bound(
    prior: PreTrainedModel, ids: ImageTokenIds, input_ids: Tensor, generator: list[torch.Generator] | None = None
) -> Tensor:
    """One unbiased draw, for each sequence (B, 1 + N), of a bound from above on -ln p(codes | prompt), in nats, (B,).

    The prior fills in the N codes one by one in a random order, and the codes cost what that costs on average over all
    orders; by Jensen's inequality this is at least -ln of the average probability. With m codes hidden, the next one
    costs the mean over the m hidden ones. So the bound is N times the mean, over m uniform in 1..N and over the hidden
    places, of that mean; one m and one choice of places are drawn for each sequence. A single draw may lie below
    -ln p: only the mean over many sequences is a bound. Uria et al. 2014; Hoogeboom et al. 2022 (2110.02037), eq. 3.

    Args:
        generator: a list with one for each sequence; the global state if None.
    """
    counts = bound_counts(len(input_ids), ids.num_tokens, generator).to(input_ids.device)
    hidden, targets = hide(input_ids, counts, ids.mask, generator)
    logits = prior(input_ids=hidden).logits.float().transpose(1, 2)  # (B, vocabulary, 1 + N)
    losses = cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")  # 0 where nothing is hidden
    return ids.num_tokens * losses.sum(1) / counts


@torch.no_grad()
def draw_masked_ids(
    prior: PreTrainedModel,
    ids: ImageTokenIds,
    labels: Sequence[int | str] | Tensor | None = None,
    num_images: int | None = None,
    generator: torch.Generator | None = None,
    guidance_scale: float = 1.0,
    steps: int | None = None,
    choice_temperature: float = 4.5,
    **options,
) -> Tensor:
    """New pictures as image tokens (B, N).

    Args:
        steps: number of passes; 8 if None, or N where there are fewer codes. With N passes each fills in one code.
        choice_temperature: scale of the Gumbel noise that is added to the log-probabilities by which a pass chooses
            the codes it keeps; it falls to 0 at the last pass (MaskGIT: 4.5).
        options: temperature, top_k, top_p.
    """
    ids.check_guidance(guidance_scale, labels)
    check_sampling(**options)
    if not is_finite(choice_temperature) or choice_temperature < 0:
        raise ValueError(f"`choice_temperature` must be a finite number of at least 0, got {choice_temperature!r}.")
    steps = min(8, ids.num_tokens) if steps is None else steps
    if not isinstance(steps, Integral) or not 1 <= steps <= ids.num_tokens:
        raise ValueError(f"`steps` must lie in 1..{ids.num_tokens}, the number of codes of a picture, got {steps}.")
    prompt = ids.prompt(labels, num_images).to(prior.device)
    codes = torch.full((len(prompt), ids.num_tokens), ids.mask, device=prior.device)
    for step in range(1, steps + 1):
        hidden = codes == ids.mask
        logits = scores_of(prior, ids, prompt, codes, guidance_scale)  # (B, N, K)
        drawn = draw_codes(logits, generator, **options)  # (B, N)
        sureness = logits.log_softmax(-1).gather(-1, drawn[..., None])[..., 0]
        sureness = sureness + choice_temperature * (1 - step / steps) * gumbel_noise(sureness, generator)
        sureness = sureness.masked_fill(~hidden, math.inf)
        keep_hidden = min(math.floor(ids.num_tokens * math.cos(math.pi / 2 * step / steps)), int(hidden[0].sum()) - 1)
        codes = torch.where(hidden, drawn, codes)
        least_sure = sureness.argsort(1)[:, : max(keep_hidden, 0)]
        codes.scatter_(1, least_sure, ids.mask)
    return codes


def scores_of(
    prior: PreTrainedModel, ids: ImageTokenIds, prompt: Tensor, codes: Tensor, guidance_scale: float
) -> Tensor:
    """Scores of the codes at each position, (B, N, K)."""
    if guidance_scale != 1:
        prompt, codes = torch.cat([prompt, torch.full_like(prompt, ids.begin)]), codes.repeat(2, 1)
    logits = prior(input_ids=torch.cat([prompt, codes], dim=1)).logits[:, 1:, : ids.codebook_size]
    return logits if guidance_scale == 1 else guided(logits, guidance_scale)
