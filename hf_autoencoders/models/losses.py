# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Every likelihood and every KL of the package, once: equation, reduction, unit.

`x` are pixels in [0, 1], (B, C, H, W); `logits` the decoder's output. Every likelihood and KL is in nats per image,
shape (B,): summed over all its elements, to be averaged over the batch. All sums run in float32 (float64 stays).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init

from .memory_format import is_on_cpu
from .old_checkpoints import gains_a_dimension
from .precision import at_least_float32


LOGIT_LAPLACE_EPS = 0.1  # DALL-E appendix A.3: pixels are squeezed into [eps, 1 - eps]
# Below this log-scale a density is narrower than a hundredth of a grey level: it would measure the 8-bit grid and run
# to minus infinity on constant pixels (MNIST's background), not model pictures.
MIN_LOG_SCALE = -7.0
START_LOG_VARIANCE = -5.0  # of a learned variance of pixels in [0, 1]: 22 dB


EXACT_SOFTPLUS = 40.0  # beyond it ln(1 + e^l) = l in float64, too


def sum_per_image(values: Tensor) -> Tensor:
    """(B, ...) -> (B,)"""
    return values.flatten(1).sum(1)


def kl_to_standard_normal(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL(q(z|x) || N(0, I)) in nats per image, shape (B,). Kingma & Welling 2014, appendix B."""
    mean, logvar = at_least_float32(mean), at_least_float32(logvar)
    return 0.5 * sum_per_image(mean.square() + logvar.exp() - 1 - logvar)


def kl_to_uniform(code_logits: Tensor) -> Tensor:
    """KL(q || U(K)) of the categoricals `code_logits` (B, K, h, w), in nats per image, shape (B,).

    sum_k q_k ln q_k + ln K, summed over the grid. Ramesh et al. 2021, section 2.1.
    """
    log_q = at_least_float32(code_logits).log_softmax(1)
    negative_entropy = (log_q.exp() * log_q).sum(1)  # (B, h, w)
    return sum_per_image(negative_entropy + math.log(code_logits.shape[1]))


def gaussian_log_density(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """ln N(z; mean, exp(logvar)) in nats, summed over everything but the first axis, shape (B,)."""
    return -0.5 * sum_per_image((z - mean).square() * (-logvar).exp() + logvar + math.log(2 * math.pi))


def standard_normal_log_density(z: Tensor) -> Tensor:
    """ln N(z; 0, I) in nats, summed over everything but the first axis, shape (B,)."""
    return -0.5 * sum_per_image(z.square() + math.log(2 * math.pi))


class Likelihood(nn.Module):
    """What the decoder's output says of a picture. A subclass gives `mean`, `elementwise` and `logits_from_mean`.

    One picture x (1, C, H, W) can stand beside the logits (B, C, H, W) of many draws.
    """

    def __init__(self, config):
        super().__init__()

    def negative_log_likelihood(self, logits: Tensor, x: Tensor) -> Tensor:
        """-ln p(x|z) in nats per image, shape (B,)."""
        return sum_per_image(self.elementwise(at_least_float32(logits), at_least_float32(x)))

    def training_error(self, logits: Tensor, x: Tensor) -> Tensor:
        """A mean over all elements, the scale of the VQ-VAE's loss. A scalar."""
        return self.elementwise(at_least_float32(logits), at_least_float32(x)).mean()


class Bernoulli(Likelihood):
    """`bce`: -[x ln p + (1 - x) ln(1 - p)], p = sigmoid(logits). For grey x a cross-entropy, not a likelihood."""

    def mean(self, logits: Tensor) -> Tensor:
        """The mean picture in [-1, 1]."""
        return 2 * logits.sigmoid() - 1

    def negative_log_likelihood(self, logits: Tensor, x: Tensor) -> Tensor:
        logits, x = at_least_float32(logits), at_least_float32(x)
        if len(x) == 1 < len(logits) and not torch.is_grad_enabled() and is_on_cpu(logits):
            rows = logits.flatten(1).split(ROWS_IN_CACHE)
            return torch.cat([bernoulli_nats_of_draws(few, x.flatten()) for few in rows])
        return super().negative_log_likelihood(logits, x)

    def elementwise(self, logits: Tensor, x: Tensor) -> Tensor:
        # ln(1 + e^l) - x l. torch's own binary cross-entropy takes 2.5 times as long, and one x for each row of logits.
        return torch.addcmul(F.softplus(logits, threshold=EXACT_SOFTPLUS), x, logits, value=-1)

    def logits_from_mean(self, x: Tensor) -> Tensor:
        """The decoder output (C, ...) whose mean is `x` in [0, 1]; for the output bias."""
        return x.clamp(1e-3, 1 - 1e-3).logit()


ROWS_IN_CACHE = 500  # of MNIST's logits, 1.6 MB: a quarter less time than 5,000 of them


def bernoulli_nats_of_draws(logits: Tensor, x: Tensor) -> Tensor:
    """sum_n ln(1 + e^l_n) - x_n l_n, (B, N), (N,) -> (B,), in less time than `elementwise`.

    ``ln(1 + e^l) = (l + |l|) / 2 - ln sigmoid(|l|)``; sigmoids of ``|l|`` lie in 1/2..1, and one logarithm for eight.
    """
    size = logits.abs()
    linear = logits @ (0.5 - x) + 0.5 * size.sum(1)
    likely = size.sigmoid_()
    for _ in range(3):
        if likely.shape[1] % 2 == 0:
            likely = torch.mul(*likely.chunk(2, 1))
    return linear - likely.log_().sum(1)


class Gaussian(Likelihood):
    """`mse`: (x - m)^2 / (2 s^2) + ln(2 pi s^2) / 2 with m = (logits + 1) / 2, and s = 1 or one learned number.

    It starts at the error of a fair reconstruction of photographs, 22 dB: from s = 1 Adam needs thousands of steps.
    """

    def __init__(self, config):
        super().__init__(config)
        # One number with one dimension: FSDP cannot shard a tensor without any.
        self.log_variance = nn.Parameter(torch.zeros(1)) if config.learned_variance else None

    def mean(self, logits: Tensor) -> Tensor:
        return logits

    def elementwise(self, logits: Tensor, x: Tensor) -> Tensor:
        squared_error = (x - (logits + 1) / 2).square()
        if self.log_variance is None:
            return 0.5 * (squared_error + math.log(2 * math.pi))
        log_variance = at_least_float32(self.log_variance)
        return 0.5 * (squared_error * (-log_variance).exp() + log_variance + math.log(2 * math.pi))

    def training_error(self, logits: Tensor, x: Tensor) -> Tensor:
        """The bare mean squared error on [0, 1] pixels."""
        return F.mse_loss((at_least_float32(logits) + 1) / 2, at_least_float32(x))

    def logits_from_mean(self, x: Tensor) -> Tensor:
        return 2 * x - 1

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        name = f"{prefix}log_variance"
        if name in state_dict:
            state_dict[name] = state_dict[name].reshape(-1)  # older files have no dimension here
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Laplace(Likelihood):
    """`l1`: ``|x - m| + ln 2`` with m = (logits + 1) / 2, scale 1."""

    def mean(self, logits: Tensor) -> Tensor:
        return logits

    def elementwise(self, logits: Tensor, x: Tensor) -> Tensor:
        return (x - (logits + 1) / 2).abs() + math.log(2)

    def training_error(self, logits: Tensor, x: Tensor) -> Tensor:
        """The bare mean absolute error on [0, 1] pixels."""
        return F.l1_loss((at_least_float32(logits) + 1) / 2, at_least_float32(x))

    def logits_from_mean(self, x: Tensor) -> Tensor:
        return 2 * x - 1


class LogitLaplace(Likelihood):
    """`logit_laplace`: a Laplace density of logit(y), y = (1 - 2 eps) x + eps. DALL-E, appendix A.3, equation 2.

    ``f(y) = exp(-|logit(y) - mu| / b) / (2 b y (1 - y))``; the density of x is f(y) (1 - 2 eps), so that bits per
    dimension compare with other continuous likelihoods. `logits` holds mu in its first C channels, ln b in the others.
    """

    def mean(self, logits: Tensor) -> Tensor:
        mu = logits.chunk(2, dim=1)[0]
        x = (mu.sigmoid() - LOGIT_LAPLACE_EPS) / (1 - 2 * LOGIT_LAPLACE_EPS)
        return 2 * x.clamp(0, 1) - 1

    def elementwise(self, logits: Tensor, x: Tensor) -> Tensor:
        mu, log_b = logits.chunk(2, dim=1)
        log_b = log_b.clamp(min=MIN_LOG_SCALE)
        y = (1 - 2 * LOGIT_LAPLACE_EPS) * x + LOGIT_LAPLACE_EPS
        change_of_variables = (y * (1 - y)).log() - math.log(1 - 2 * LOGIT_LAPLACE_EPS)
        return (y.logit() - mu).abs() * (-log_b).exp() + log_b + math.log(2) + change_of_variables

    def logits_from_mean(self, x: Tensor) -> Tensor:
        mu = ((1 - 2 * LOGIT_LAPLACE_EPS) * x + LOGIT_LAPLACE_EPS).logit()
        return torch.cat([mu, torch.zeros_like(mu)])


for each in ("AEModel", "VAEModel"):  # those that can learn a variance
    gains_a_dimension(each, "likelihood.log_variance")

LIKELIHOODS = {"bce": Bernoulli, "mse": Gaussian, "l1": Laplace, "logit_laplace": LogitLaplace}


def initialize(module: nn.Module) -> bool:
    """Initialises `module` if it is a likelihood with a parameter. Returns whether it was."""
    if isinstance(module, Gaussian) and module.log_variance is not None:
        init.constant_(module.log_variance, START_LOG_VARIANCE)
        return True
    return False
