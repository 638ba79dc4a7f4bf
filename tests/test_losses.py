# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Likelihoods and KLs against torch.distributions, against integrals, and against numbers worked by hand."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import distributions, tensor

from hf_autoencoders.models.losses import (
    LIKELIHOODS,
    LOGIT_LAPLACE_EPS,
    Bernoulli,
    Gaussian,
    Laplace,
    LogitLaplace,
    kl_to_standard_normal,
    kl_to_uniform,
)


CONFIG = SimpleNamespace(learned_variance=False)


def test_kl_to_standard_normal_agrees_with_torch_distributions():
    mean, logvar = torch.randn(5, 3, 2, 2, dtype=torch.float64), torch.randn(5, 3, 2, 2, dtype=torch.float64)
    posterior = distributions.Normal(mean, (logvar / 2).exp())
    expected = distributions.kl_divergence(posterior, distributions.Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(kl_to_standard_normal(mean, logvar), expected)


def test_kl_to_uniform_agrees_with_torch_distributions():
    logits = 3 * torch.randn(5, 8, 2, 3, dtype=torch.float64)
    q = distributions.Categorical(logits=logits.movedim(1, -1))
    uniform = distributions.Categorical(logits=torch.zeros_like(logits).movedim(1, -1))
    torch.testing.assert_close(kl_to_uniform(logits), distributions.kl_divergence(q, uniform).sum((1, 2)))


def test_kl_of_a_uniform_posterior_is_zero_and_of_a_sure_one_log_k():
    assert kl_to_uniform(torch.zeros(1, 4, 2, 2)).item() == pytest.approx(0, abs=1e-6)
    sure = torch.full((1, 4, 2, 2), -1e4)
    sure[:, 2] = 1e4
    assert kl_to_uniform(sure).item() == pytest.approx(4 * math.log(4), rel=1e-6)  # four positions


@pytest.mark.parametrize(
    "name, distribution",
    [
        ("bce", lambda logits: distributions.Bernoulli(logits=logits)),
        ("mse", lambda logits: distributions.Normal((logits + 1) / 2, 1.0)),
        ("l1", lambda logits: distributions.Laplace((logits + 1) / 2, 1.0)),
    ],
)
def test_likelihoods_agree_with_torch_distributions(name, distribution):
    logits = torch.randn(4, 1, 3, 3, dtype=torch.float64)
    x = torch.randint(2, (4, 1, 3, 3)).double() if name == "bce" else torch.rand(4, 1, 3, 3, dtype=torch.float64)
    expected = -distribution(logits).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(LIKELIHOODS[name](CONFIG).negative_log_likelihood(logits, x), expected)


@pytest.mark.parametrize("mu, log_b", [(0.0, 0.0), (1.5, -1.0), (-0.7, 0.5)])
def test_the_logit_laplace_density_integrates_to_one(mu, log_b):
    # y = 0.8 x + 0.1 runs over (0, 1), so x over (-1/8, 9/8).
    y = (torch.arange(2_000_000, dtype=torch.float64) + 0.5) / 2_000_000
    x = ((y - LOGIT_LAPLACE_EPS) / (1 - 2 * LOGIT_LAPLACE_EPS)).view(-1, 1, 1, 1)
    logits = tensor([mu, log_b], dtype=torch.float64).view(1, 2, 1, 1).expand(len(x), -1, -1, -1)
    density = (-LogitLaplace(CONFIG).negative_log_likelihood(logits, x)).exp()
    dx = 1 / (2_000_000 * (1 - 2 * LOGIT_LAPLACE_EPS))
    assert (density.sum() * dx).item() == pytest.approx(1, abs=1e-4)


def test_losses_worked_by_hand():
    # x = 1/2: y = 0.8 / 2 + 0.1 = 1/2, logit(y) = 0, y (1 - y) = 1/4. With mu = 1, b = 1: |0 - 1| + ln(2 / 4) - ln 0.8
    logits = tensor([1.0, 0.0]).view(1, 2, 1, 1)
    nll = LogitLaplace(CONFIG).negative_log_likelihood(logits, tensor(0.5).view(1, 1, 1, 1))
    assert nll.item() == pytest.approx(1 + math.log(0.5) - math.log(0.8), abs=1e-6)
    # A fair coin costs ln 2, whatever comes.
    assert Bernoulli(CONFIG).negative_log_likelihood(torch.zeros(1, 1, 1, 2), tensor([[[[0.0, 1.0]]]])).item() == (
        pytest.approx(2 * math.log(2))
    )
    # The picture -1 (black) where 1/2 (grey) was: error 1/2 in [0, 1].
    logits, x = tensor(-1.0).view(1, 1, 1, 1), tensor(0.5).view(1, 1, 1, 1)
    assert Gaussian(CONFIG).training_error(logits, x).item() == 0.25
    assert Laplace(CONFIG).training_error(logits, x).item() == 0.5
    assert Gaussian(CONFIG).negative_log_likelihood(logits, x).item() == pytest.approx(
        0.125 + 0.5 * math.log(2 * math.pi)
    )


def test_a_learned_variance_finds_the_mean_squared_error():
    gaussian = Gaussian(SimpleNamespace(learned_variance=True))
    logits, x = torch.zeros(1, 1, 100, 100), 0.5 + 0.1 * torch.randn(1, 1, 100, 100)
    optimizer = torch.optim.Adam(gaussian.parameters(), lr=0.1)
    for _ in range(300):
        gaussian.negative_log_likelihood(logits, x).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert gaussian.log_variance.exp().item() == pytest.approx((x - 0.5).square().mean().item(), rel=1e-2)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_output_bias_paints_the_mean_image(name):
    likelihood = LIKELIHOODS[name](CONFIG)
    mean_image = torch.linspace(0.1, 0.9, 9).view(1, 3, 3)
    painted = likelihood.mean(likelihood.logits_from_mean(mean_image)[None])
    torch.testing.assert_close((painted[0] + 1) / 2, mean_image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_sums_run_in_at_least_float32(name):
    channels = 2 if name == "logit_laplace" else 1
    logits = torch.randn(2, channels, 64, 64, dtype=torch.bfloat16)
    x = torch.rand(2, 1, 64, 64)
    nll = LIKELIHOODS[name](CONFIG).negative_log_likelihood(logits, x)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, LIKELIHOODS[name](CONFIG).negative_log_likelihood(logits.float(), x))


def test_a_constant_background_does_not_make_the_density_infinite():
    logits = tensor([math.log(0.1 / 0.9), -100.0]).view(1, 2, 1, 1)  # mu at black, b = e^-100
    nll = LogitLaplace(CONFIG).negative_log_likelihood(logits, torch.zeros(1, 1, 1, 1))
    assert nll.isfinite() and nll > -10
