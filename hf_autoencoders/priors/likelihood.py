# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""-ln p(codes) under a learned prior, in nats: the prior's part of the likelihood of prior and decoder together.

nats = code_nats(prior, image_model, labels)
measure_likelihood(image_model, batches, setting, code_nats=nats).bits_per_dim
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from ..evaluation.draws import picture_generators
from .autoregressive import check_fits, sequencer_of
from .masked import is_masked, nats_bound
from .sequences import ImageTokenSequencer


@torch.no_grad()
def sequence_nats(
    prior: PreTrainedModel,
    sequencer: ImageTokenSequencer,
    input_ids: Tensor,
    index: Tensor | None = None,
    seed: int = 0,
) -> Tensor:
    """-ln p(codes | prompt) of sequences (B, 1 + N), in nats, (B,) float32.

    Of a masked prior one draw of a bound from above, see `nats_bound`.

    Args:
        index: (B,) number of each picture in its set; 0, 1, 2, ... if None. With `seed` it decides what is drawn of a
            picture, so that batch sizes and processes do not.
    """
    if is_masked(prior):
        numbers = range(len(input_ids)) if index is None else index
        return nats_bound(prior, sequencer.ids, input_ids, picture_generators(numbers, seed))
    count = sequencer.ids.num_tokens
    logits = prior(input_ids=input_ids, use_cache=False).logits[:, :count]  # (B, N, ...): code i from all before it
    return cross_entropy(logits.float().transpose(1, 2), input_ids[:, 1:], reduction="none").sum(1)


def code_nats(
    prior: PreTrainedModel,
    image_model=None,
    labels: Sequence[int] | Tensor | None = None,
    sequencer: ImageTokenSequencer | None = None,
) -> Callable[[Tensor], Tensor]:
    """What `evaluation.likelihood.measure_likelihood` takes as `code_nats`: image tokens (B, h, w) -> nats (B,).

    Args:
        image_model: must be the one whose tokens the prior learned.
        labels: class of every picture, in the order in which their tokens come; the batches take them one after the
            other, and begin again at the end. Without them the pictures have no class: a prior that knows classes must
            then know the null class, too. Pictures are numbered in the same order, from 0, for the draws of a masked
            prior: make a new function for each measurement.
        sequencer: the prior's own, if None.
    """
    sequencer = sequencer_of(prior) if sequencer is None else sequencer
    if image_model is not None:
        check_fits(sequencer, image_model)
    if labels is None and sequencer.num_classes and not sequencer.class_dropout:
        raise ValueError(
            "This prior was trained with a class for every picture (`class_dropout` 0): give `labels`, or the nats of "
            "pictures without a class mean nothing."
        )
    prior.eval()
    begun = 0

    def nats(image_tokens: Tensor) -> Tensor:
        nonlocal begun
        classes, index = None, torch.arange(begun, begun + len(image_tokens))
        if labels is not None:
            classes = torch.as_tensor(labels)[begun : begun + len(image_tokens)]
            if len(classes) != len(image_tokens):
                raise ValueError(f"There are {len(labels)} labels, but more pictures than that.")
        begun = (begun + len(image_tokens)) % (len(labels) if labels is not None else 2**62)
        batch = sequencer(image_tokens, classes)
        return sequence_nats(prior, sequencer, batch["input_ids"].to(prior.device), index)

    return nats
