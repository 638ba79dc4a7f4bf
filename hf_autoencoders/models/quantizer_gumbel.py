# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The dVAE's quantizer: a distribution over codes, relaxed by Gumbel noise while training."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.integrations.accelerate import force_accelerate_hooks

from .codebook_tensors import MixedCodebook
from .memory_format import is_on_cpu
from .noise import gumbel_noise
from .precision import at_least_float32, float32_island, may_be_read
from .quantizer_base import Quantized, Quantizer, channels_first, channels_last, straight_through


BATCH_TO_CONVOLVE = 16  # torch convolves fewer pictures on one thread by a slower library


class GumbelQuantizer(Quantizer):
    """The dVAE's: logits choose, relaxed by Gumbel noise while training. Jang et al. 2017; Ramesh et al. 2021.

    The codebook (K, D) stands for the decoder's first 1x1 convolution, whose input is a distribution over codes.
    """

    def __init__(self, config):
        super().__init__()
        self.size, self.dim = config.codebook_size, config.codebook_dim
        self.temperature, self.hard = config.gumbel_temperature, config.hard
        self.embedding = None if config.encoder_only else MixedCodebook(self.size, self.dim)

    def forward(
        self,
        logits: Tensor,
        temperature: float | None = None,
        hard: bool | None = None,
        generator: torch.Generator | None = None,
    ) -> Quantized:
        """Logits (B, K, h, w) -> latents (B, D, h, w).

        `hard` None: in eval the likeliest code's vector, no noise; in training the config's `hard`. False: a sample of
        the relaxation at `temperature` times the codebook. True: a sampled code's vector, with the relaxation's
        gradient (its one-hot sample is an exact draw from q). `generator`, or one for each picture, draws the noise.
        """
        with float32_island(logits):
            scores = at_least_float32(logits)
            codes = scores.argmax(1)
            if hard is None and not self.training:
                latents = channels_first(self.code_vectors(codes))
            else:
                temperature = self.temperature if temperature is None else temperature
                sample = gumbel_softmax(scores, temperature, self.hard if hard is None else hard, generator)
                latents = mixture(sample, self.code_vectors())
            zero = scores.new_zeros(())
            return Quantized(latents.to(logits.dtype), codes, zero, zero, *self.usage(codes), zero + 1)

    def encode(self, logits: Tensor) -> Tensor:
        """Logits (B, K, h, w) -> the likeliest codes (B, h, w)."""
        return logits.argmax(1)

    def mix(self, probabilities: Tensor) -> Tensor:
        """Weights of the codes (B, K, h, w) -> sums of their vectors (B, D, h, w)."""
        with float32_island(probabilities):
            return mixture(at_least_float32(probabilities), self.code_vectors())

    @force_accelerate_hooks("embedding")  # the weight may be offloaded, and its module is not called here
    def code_vectors(self, codes: Tensor | None = None) -> Tensor:
        """The vectors that `codes` (...) stand for, (..., D); those of all codes, (K, D), if None."""
        weight = self.embedding.weight
        return weight if codes is None else F.embedding(codes, weight)

    def log_affinities(self, logits: Tensor) -> Tensor:
        """The logits themselves: (B, K, h, w) -> (B, h*w, K)."""
        return at_least_float32(logits).flatten(2).transpose(1, 2)


def mixture(weights: Tensor, code_vectors: Tensor) -> Tensor:
    """Sums of code vectors, (B, K, h, w), (K, D) -> (B, D, h, w): the decoder's first 1x1 convolution.

    On a CPU it is computed as one, without moving channels last: in 0.4 of the time with its gradient, K = 8192.
    """
    code_vectors = code_vectors.to(weights)
    if may_be_read(weights) and is_on_cpu(weights) and len(weights) >= BATCH_TO_CONVOLVE:
        return F.conv2d(weights, code_vectors.t()[:, :, None, None])
    return channels_first(channels_last(weights) @ code_vectors)


def gumbel_softmax(
    logits: Tensor, temperature: float, hard: bool, generator: torch.Generator | list[torch.Generator] | None
) -> Tensor:
    """A draw of the Concrete distribution over dim 1, shape of `logits`. Jang et al. 2017, eq. 2; Maddison et al. 2017.

    `hard`: its argmax as one-hot, with the gradient of the soft sample.
    """
    noisy = logits + gumbel_noise(logits, generator)
    soft = noisy.div_(temperature).softmax(1)  # in place: these are the largest tensors of a dVAE
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter_(1, soft.argmax(1, keepdim=True), 1.0)
    return straight_through(soft, one_hot)
