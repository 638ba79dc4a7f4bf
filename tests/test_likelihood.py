# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""ELBO and importance bound against a VAE whose likelihood is known exactly, and against the words of the papers."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from hf_autoencoders import AEConfig, AEModel, DVAEConfig, DVAEModel, VAEConfig, VAEModel, VQVAEConfig, VQVAEModel
from hf_autoencoders.evaluation.draws import picture_generators
from hf_autoencoders.evaluation.likelihood import (
    LogMeanExp,
    data_setting,
    elbo,
    importance_bound,
    likelihood_kind,
    mean_importance_bound,
    measure_latent_use,
    measure_likelihood,
)
from hf_autoencoders.models.losses import Bernoulli


SIDE, UNITS = 4, 3
SMALL = {"image_size": 8, "num_channels": 1, "block_out_channels": (8, 8), "residual_channels": 4}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(number, side=SIDE, seed=1):
    return torch.rand(number, 1, side, side, generator=seeded(seed)) * 2 - 1


def linear_gaussian_vae(wrong_by=0.0):
    """z ~ N(0, I), x ~ N(W z + c, I) on the [0, 1] scale, with its exact posterior; and the exact ln p(x).

    The columns of W are orthogonal, so the posterior is diagonal: N(M^-1 W'(x - c), M^-1) with M = I + W'W.
    `wrong_by` moves the posterior's log-variance and mean away from the truth.
    """
    config = VAEConfig(
        image_size=SIDE,
        num_channels=1,
        backbone="mlp",
        hidden_sizes=(),
        latent_channels=UNITS,
        reconstruction_loss="mse",
        learned_variance=False,
    )
    model = VAEModel(config).double().eval()
    d = SIDE * SIDE
    directions = torch.linalg.qr(torch.randn(d, UNITS, generator=seeded(), dtype=torch.float64)).Q
    w = directions * torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)  # (d, z)
    c = torch.full((d,), 0.5, dtype=torch.float64)
    precision = 1 + w.square().sum(0)
    to_mean = w.T / precision[:, None]  # (z, d), of x in [0, 1] = (pixels + 1) / 2
    with torch.no_grad():
        model.decoder.out.weight.copy_(2 * w)  # the decoder's mean is on the [-1, 1] scale
        model.decoder.out.bias.copy_(2 * c - 1)
        model.encoder.out.weight.zero_()
        model.encoder.out.weight[:UNITS] = to_mean
        model.encoder.out.bias[:UNITS] = wrong_by - to_mean @ c
        model.encoder.out.bias[UNITS:] = -precision.log() + wrong_by
    exact = MultivariateNormal(c, torch.eye(d, dtype=torch.float64) + w @ w.T)
    return model, lambda pixels: exact.log_prob((pixels.flatten(1).double() + 1) / 2)


def test_every_bound_is_exact_where_the_posterior_is():
    model, log_likelihood = linear_gaussian_vae()
    pixels = pictures(8).double()
    expected = log_likelihood(pixels)
    for k in (1, 7):
        torch.testing.assert_close(importance_bound(model, pixels, k, seeded()), expected, rtol=0, atol=1e-9)
    mean_elbo = torch.stack([elbo(model, pixels, seeded(s)) for s in range(2000)]).mean(0)
    torch.testing.assert_close(mean_elbo, expected, rtol=0, atol=0.15)


def test_a_wrong_posterior_leaves_a_bound_that_tightens_with_k():
    model, log_likelihood = linear_gaussian_vae(wrong_by=0.5)
    pixels = pictures(32).double()
    expected = log_likelihood(pixels).mean()
    bounds = [
        torch.stack([importance_bound(model, pixels, k, seeded(s)) for s in range(20)]).mean()
        for k in (1, 2, 8, 64, 4000)
    ]
    assert all(lower < higher for lower, higher in zip(bounds, bounds[1:], strict=False))
    assert bounds[0] < expected - 0.3
    torch.testing.assert_close(bounds[-1], expected, rtol=0, atol=0.02)


def test_the_bound_of_one_sample_is_the_elbo_in_expectation():
    model, _ = linear_gaussian_vae(wrong_by=0.5)
    pixels = pictures(16).double()
    draws = 1500
    one = torch.stack([importance_bound(model, pixels, 1, seeded(s)) for s in range(draws)]).mean()
    evidence = torch.stack([elbo(model, pixels, seeded(draws + s)) for s in range(draws)]).mean()
    torch.testing.assert_close(one, evidence, rtol=0, atol=0.05)


@pytest.mark.parametrize("together", [1, 4, 10, 16, None])
def test_how_many_samples_are_decoded_together_changes_nothing(together):
    torch.manual_seed(0)
    config = VAEConfig(image_size=8, num_channels=1, backbone="mlp", hidden_sizes=(16,), latent_channels=4)
    model, pixels = VAEModel(config).eval(), pictures(16, 8)  # 16 * 4 numbers a draw: torch fills blocks of 16 alike
    expected = torch.stack([importance_bound(model, pixels, 1, generator) for generator in [seeded(3)] * 40])
    expected = expected.logsumexp(0) - math.log(40)
    torch.testing.assert_close(importance_bound(model, pixels, 40, seeded(3), together), expected)


@pytest.mark.parametrize("pixels", [63, 64])  # odd: the sigmoids cannot be halved
@pytest.mark.parametrize("spread", [0.1, 3.0, 300.0])
def test_bernoulli_nats_of_many_draws_of_a_picture_are_those_of_each(pixels, spread):
    logits = torch.randn(50, 1, 1, pixels, generator=seeded(), dtype=torch.float64) * spread
    x = torch.rand(1, 1, 1, pixels, generator=seeded(1), dtype=torch.float64)
    bernoulli = Bernoulli(None)
    expected = bernoulli.negative_log_likelihood(logits, x.expand_as(logits))
    with torch.no_grad():
        together = bernoulli.negative_log_likelihood(logits, x)
        in_float32 = bernoulli.negative_log_likelihood(logits.float(), x.float()).double()
    torch.testing.assert_close(together, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(in_float32, expected, rtol=1e-5, atol=1e-5)


def test_samples_beyond_k_of_a_last_pass_do_not_count():
    model, _ = linear_gaussian_vae(wrong_by=0.5)
    pixels = pictures(16).double()
    generator, weights = seeded(5), LogMeanExp()
    for _ in range(7):
        weights.add(importance_bound(model, pixels, 1, generator)[None])
    torch.testing.assert_close(importance_bound(model, pixels, 7, seeded(5), samples_per_pass=5), weights.value())


@pytest.mark.parametrize("backbone, most", [("mlp", 5000), ("conv", 1000)])
def test_thousands_of_samples_take_the_memory_of_one_pass(backbone, most):
    """The largest tensor that the decoder sees has the rows of one pass, whatever k is."""
    model = linear_gaussian_vae()[0] if backbone == "mlp" else VAEModel(VAEConfig(**SMALL, latent_channels=2)).eval()
    rows, images = [], pictures(2, SIDE if backbone == "mlp" else 8).to(next(model.parameters()).dtype)
    model.decoder.register_forward_hook(lambda module, arguments, output: rows.append(len(output)))
    importance_bound(model, images, 20_000, seeded())
    assert max(rows) <= most and sum(rows) == 20_000 * 2


def test_log_mean_exp_survives_what_overflows():
    weights = torch.tensor([[-2000.0, 800.0], [-2001.0, 801.0], [-2002.0, 0.0]])
    mean = LogMeanExp()
    mean.add(weights[:1])
    mean.add(weights[1:])
    shifted = torch.tensor([[0.0, -1.0], [-1.0, 0.0], [-2.0, -801.0]]).double().exp().mean(0).log()
    torch.testing.assert_close(mean.value(), shifted + torch.tensor([-2000.0, 801.0]).double())


def test_active_units_are_those_whose_mean_moves():
    model, _ = linear_gaussian_vae()
    with torch.no_grad():
        model.encoder.out.weight[1] = model.encoder.out.bias[1] = 0  # the second unit says the same of every picture
        model.encoder.out.weight[:UNITS] *= 3
    pixels = pictures(200).double()
    use = measure_latent_use(model, pixels.split(64))
    means = model.encode(pixels).latents.flatten(1)
    torch.testing.assert_close(use.variance.flatten(), means.var(0))
    torch.testing.assert_close(use.kl.sum(), model.encode(pixels).latent_dist.kl().mean())
    assert use.active == 2 and use.units == UNITS and use.variance.flatten()[1] == 0


def assert_same_metrics(one, two, tolerance):
    one, two = one.to_dict(), two.to_dict()
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert value == (two[name] if isinstance(value, str) else pytest.approx(two[name], rel=tolerance)), name


def test_a_report_of_uneven_batches_equals_one_of_the_whole_set():
    model, log_likelihood = linear_gaussian_vae()
    pixels = pictures(100).double()
    report = measure_likelihood(model, lambda: pixels.split(48), data_setting(), num_samples=20)
    assert report.images == 100 and report.kind == "continuous" and report.prior == "N(0, I)"
    assert report.importance_bound == pytest.approx(-log_likelihood(pixels).mean().item(), abs=1e-9)
    assert report.bound == pytest.approx(report.importance_bound, abs=0.5)  # one draw an image
    assert report.bits_per_dim == pytest.approx(report.bound / (16 * math.log(2)) + 8)
    again = measure_likelihood(model, lambda: pixels.split(48), data_setting(), num_samples=20)
    assert again == report
    small = measure_likelihood(model, lambda: pixels.split(4), data_setting(), num_samples=20)
    assert_same_metrics(small, report, 1e-9)
    error = mean_importance_bound(model, pixels.split(48), 1)[1]
    assert error == pytest.approx((log_likelihood(pixels).std() / 10).item())
    assert any("-L_20" in line for line in report.lines())


def discrete_model(kind):
    torch.manual_seed(0)
    if kind == "dvae":
        return DVAEModel(DVAEConfig(**SMALL, backbone="conv", codebook_size=6, codebook_dim=4)).eval()
    return VQVAEModel(VQVAEConfig(**SMALL, codebook_size=6, codebook_dim=4, quantizer="vq")).eval()


def test_a_vqvae_pays_ln_k_a_code_under_the_uniform_prior_and_what_a_learned_prior_says():
    model, pixels = discrete_model("vqvae"), pictures(10, 8)
    uniform = measure_likelihood(model, lambda: pixels.split(4), data_setting())
    assert uniform.prior == "uniform codes"
    assert uniform.rate == pytest.approx(16 * math.log(6))
    cheap = measure_likelihood(
        model, lambda: pixels.split(4), data_setting(), code_nats=lambda t: torch.full((len(t),), 2.0)
    )
    assert (cheap.prior, cheap.rate, cheap.reconstruction) == (
        "learned codes",
        2.0,
        pytest.approx(uniform.reconstruction),
    )


@pytest.mark.parametrize("kind", ["vae", "dvae"])
def test_the_draws_of_a_picture_do_not_depend_on_its_batch(kind):
    torch.manual_seed(0)
    model = VAEModel(VAEConfig(**SMALL, latent_channels=2)).eval() if kind == "vae" else discrete_model(kind)
    pixels = pictures(40, 8)
    reports = [
        measure_likelihood(model, lambda size=size: pixels.split(size), data_setting(), num_samples=3)
        for size in (3, 40)
    ]
    assert_same_metrics(*reports, 1e-5)


def test_a_dvae_is_weighed_with_one_hot_samples():
    model, pixels = discrete_model("dvae"), pictures(64, 8)
    report = measure_likelihood(model, lambda: [pixels], data_setting(), seed=4)
    expected = model(pixels, generator=picture_generators(range(64), seed=4), hard=True)
    assert report.bound == pytest.approx((expected.negative_log_likelihood + expected.kl).item())


def test_an_autoencoder_has_no_bound():
    torch.manual_seed(0)
    model = AEModel(AEConfig(**SMALL, reconstruction_loss="bce", latent_channels=2))
    report = measure_likelihood(model, lambda: [pictures(4, 8)], data_setting(), num_samples=5)
    assert (report.prior, report.bound, report.bits_per_dim, report.importance_bound) == ("none", None, None, None)
    assert report.kind == "no likelihood"  # Bernoulli on grey levels
    with pytest.raises(ValueError, match="no image tokens"):
        measure_likelihood(model, lambda: [pictures(4, 8)], data_setting(), code_nats=len)


def test_a_cross_entropy_with_grey_targets_has_no_bits():
    torch.manual_seed(0)
    model = VAEModel(VAEConfig(**SMALL, reconstruction_loss="bce", latent_channels=2))
    both = (pictures(4, 8), -torch.ones(4, 1, 8, 8))
    grey, black = (measure_likelihood(model, lambda p=p: [p], data_setting()) for p in both)
    assert grey.bound > 0 and grey.bits_per_dim is None and "no bits/dim" in " ".join(grey.lines())
    assert black.bits_per_dim == pytest.approx(black.bound / (64 * math.log(2)))


def test_units_follow_likelihood_and_pixels():
    binary = pictures(3).sign()
    assert likelihood_kind("bce", binary) == "discrete"
    assert likelihood_kind("bce", binary * 0.5) == "no likelihood"
    assert likelihood_kind("logit_laplace", binary) == "continuous"


def test_wrong_words_are_named():
    with pytest.raises(ValueError, match="none, dynamic, fixed, got 'static'"):
        data_setting("static")
    model, _ = linear_gaussian_vae()
    with pytest.raises(ValueError, match="at least 1, got 0"):
        importance_bound(model, pictures(2).double(), 0)
    with pytest.raises(ValueError, match="at least one batch"):
        measure_likelihood(model, lambda: [], data_setting())
    with pytest.raises(ValueError, match="at least 2 of them, got 1"):
        measure_latent_use(model, [pictures(1).double()])
