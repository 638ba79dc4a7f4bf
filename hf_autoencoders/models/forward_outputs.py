# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""What models give: the output of a decoder, and what is done to the output of every forward."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps

from torch import Tensor
from transformers.utils import ModelOutput
from transformers.utils.output_capturing import capture_outputs


@dataclass
class DecoderOutput(ModelOutput):
    """What `decode` gives.

    Args:
        sample: pictures (B, C, H, W) on the [-1, 1] scale: the mean of the likelihood.
        logits: the decoder's own output, before the likelihood reads it: (B, C, H, W), twice the channels for
            `logit_laplace`.
    """

    sample: Tensor | None = None
    logits: Tensor | None = None


def returns_what_is_asked(forward: Callable) -> Callable:
    """For a forward that returns its ModelOutput: adds `hidden_states` to it, and makes it a tuple, where asked to.

    `hidden_states`: what enters the first block of the encoder, then what each block says, a tuple of tensors. The
    work is done by transformers' `capture_outputs`, which knows these two arguments by name only and not as None.
    `labels` is taken and not read, since a Trainer with `remove_unused_columns=False` passes every column; it is no
    part of the visible signature, where a Trainer would wait for labels before it asks for a loss.
    """
    captured = capture_outputs(tie_last_hidden_states=False)(forward)

    @wraps(forward)
    def wrapper(
        self,
        pixel_values,
        generator=None,
        return_loss=True,
        return_dict=None,
        output_hidden_states=None,
        *,
        labels=None,
        **schedules,
    ):
        self.check_has_decoder()
        config = self.config
        hidden = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        if hidden and self.tiling is not None:
            raise ValueError("Tiles have no hidden states of the whole picture: call disable_tiling().")
        return captured(
            self,
            pixel_values,
            generator,
            return_loss,
            return_dict=config.return_dict if return_dict is None else return_dict,
            output_hidden_states=hidden,
            **schedules,
        )

    return wrapper
