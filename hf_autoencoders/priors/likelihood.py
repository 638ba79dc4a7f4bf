# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What a picture's codes cost under a learned prior, in nats: its part of the likelihood of prior and decoder together.

nats = code_nats(prior, image_model, labels)
measure_likelihood(image_model, batches, setting, code_nats=nats).bits_per_dim
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from .autoregressive import check_fits, sequencer_of
from .masked import bound_counts, hide, is_masked
from .sequences import IGNORED, ImageTokenSequencer


@torch.no_grad()
def sequence_nats(prior: PreTrainedModel, sequencer: ImageTokenSequencer, input_ids: Tensor) -> Tensor:
    """-ln p(codes | prompt) of sequences (B, 1 + N), in nats, (B,) float32.

    Of a masked prior one draw of a bound from above, the same draw each time; see `bound_counts`.
    """
    count = sequencer.ids.num_tokens
    if is_masked(prior):
        generator = torch.Generator().manual_seed(0)
        counts = bound_counts(len(input_ids), count, generator).to(input_ids.device)
        hidden, targets = hide(input_ids, counts, sequencer.ids.mask, generator)
        losses = losses_of(prior(input_ids=hidden).logits, targets)  # (B, 1 + N), 0 where nothing is hidden
        return count * losses.sum(1) / counts
    logits = prior(input_ids=input_ids, use_cache=False).logits[:, :count]  # (B, N, ...): code i from all before it
    return losses_of(logits, input_ids[:, 1:]).sum(1)


def losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of each target (B, N) in nats, 0 for those that are `IGNORED`."""
    return cross_entropy(logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")


def code_nats(
    prior: PreTrainedModel,
    image_model=None,
    labels: Sequence[int] | Tensor | None = None,
    sequencer: ImageTokenSequencer | None = None,
) -> Callable[[Tensor], Tensor]:
    """What `evaluation.likelihood.measure_likelihood` takes as `code_nats`: image tokens (B, h, w) -> nats (B,).

    Args:
        image_model: refused unless the prior is of its tokens.
        labels: class of every picture, in the order in which their tokens come; the batches take them one after the
            other, and begin again at the end. Without them the pictures have no class: a prior that knows classes must
            then know the null class, too.
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
        classes = None
        if labels is not None:
            classes = torch.as_tensor(labels)[begun : begun + len(image_tokens)]
            if len(classes) != len(image_tokens):
                raise ValueError(f"There are {len(labels)} labels, but more pictures than that.")
            begun = (begun + len(image_tokens)) % len(labels)
        batch = sequencer(image_tokens, classes)
        return sequence_nats(prior, sequencer, batch["input_ids"].to(prior.device))

    return nats
