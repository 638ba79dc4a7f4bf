# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The likelihood of pictures under a model: ELBO, importance weighted bound L_k, active units, bits per dimension.

All values are in nats per image unless a name says otherwise, for pixels x = (pixel_values + 1) / 2 in [0, 1], with the
model in eval mode. Values can be compared only for the same data setting (grey levels, binarised in each epoch,
binarised once): see `data_setting`.

    report = measure_likelihood(model, batches, num_samples=5000, setting=data_setting("fixed", seed=0))
    report.lines()
"""

import inspect
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from .draws import picture_generators
from .metrics import bits_per_dim


Generators = torch.Generator | list[torch.Generator] | None

ACTIVE_VARIANCE = 1e-2  # a unit is active if Var_x(E_q[z]) is larger; Burda et al. 2016, section 5.2
# Decoder rows of one pass of the importance bound. Those of an mlp are short: 5,000 of MNIST's pictures take 16 MB, and
# 14 % less time on a CPU than 1,000 of them five times.
ROWS_PER_PASS = 1000
MLP_ROWS_PER_PASS = 5000

CONTINUOUS, DISCRETE, NO_LIKELIHOOD = "continuous", "discrete", "no likelihood"
UNITS = {
    CONTINUOUS: "bits/dim of 8-bit pixels, from a density over [0, 1]",
    DISCRETE: "bits/dim of binary pixels",
}


# -- which data --------------------------------------------------------------------------------------------------------


def data_setting(binarize: str = "none", seed: int = 0, channels: int = 1) -> str:
    """The name of these data: metrics can be compared if it is the same.

    Args:
        binarize: `none`, `dynamic` or `fixed`, as the data set was loaded.
        seed: of the draw.
        channels: of the pictures.

    >>> data_setting(channels=3)
    'colours'
    >>> data_setting("fixed", seed=3)
    'binarised once by a Bernoulli draw of seed 3 (not the published static split)'
    """
    names = {
        "none": "grey levels" if channels == 1 else "colours",
        "dynamic": "dynamically binarised (drawn anew in each epoch)",
        "fixed": f"binarised once by a Bernoulli draw of seed {seed} (not the published static split)",
    }
    if binarize not in names:
        raise ValueError(f"`binarize` must be one of {', '.join(names)}, got {binarize!r}.")
    return names[binarize]


def likelihood_kind(reconstruction_loss: str, pixels: Tensor) -> str:
    """`continuous`, `discrete` or `no likelihood`: the kind of this likelihood for these pixels in [-1, 1].

    Bernoulli on grey levels is only a cross-entropy. Its lowest value is the entropy of the pixels (45.5 nats for
    MNIST's test set).
    """
    if reconstruction_loss != "bce":
        return CONTINUOUS
    return DISCRETE if bool((pixels.abs() == 1).all()) else NO_LIKELIHOOD


# -- one batch ---------------------------------------------------------------------------------------------------------


def offers_importance_weights(model: nn.Module) -> bool:
    """Whether L_k can be computed: the model draws latents from a posterior and weights them."""
    return hasattr(model, "log_importance_weights")


def in_float64(values: Tensor) -> Tensor:
    """`values` on the CPU, in float64, which Apple's GPUs do not have."""
    return values.cpu().double()


@torch.no_grad()
def elbo(model: nn.Module, pixel_values: Tensor, generator: Generators = None) -> Tensor:
    """E_q[ln p(x|z)] - KL(q(z|x) || p(z)) by one draw of z, the KL exact; (B,) float64 in nats. Kingma & Welling 2014.

    Args:
        model: one whose `encode` gives a `latent_dist`.
        pixel_values: (B, C, H, W) in [-1, 1].
        generator: one for all draws, or a list with one for each picture.
    """
    posterior = model.encode(pixel_values, return_dict=True).latent_dist
    logits = model.decode_latents(posterior.sample(generator))
    return -(in_float64(model.negative_log_likelihood(logits, pixel_values)) + in_float64(posterior.kl()))


class LogMeanExp:
    """ln 1/k sum_i exp(w_i) of values that arrive in parts; memory for one number an image, in float64.

    >>> mean = LogMeanExp()
    >>> mean.add(torch.tensor([[0.0, -10.0]]))
    >>> mean.add(torch.tensor([[math.log(3), -10.0]]))
    >>> mean.value()
    tensor([  0.6931, -10.0000], dtype=torch.float64)
    """

    def __init__(self):
        self.total: Tensor | None = None  # (B,) ln of the sum so far
        self.count = 0

    def add(self, log_weights: Tensor) -> None:
        """`log_weights`: (samples, B)."""
        part = in_float64(log_weights).logsumexp(0)
        self.total = part if self.total is None else torch.logaddexp(self.total, part)
        self.count += len(log_weights)

    def value(self) -> Tensor:
        return self.total - math.log(self.count)


@torch.no_grad()
def importance_bound(
    model: nn.Module,
    pixel_values: Tensor,
    num_samples: int,
    generator: Generators = None,
    samples_per_pass: int | None = None,
) -> Tensor:
    """L_k = ln 1/k sum_i p(x|z_i) p(z_i) / q(z_i|x), z_i ~ q(z|x); (B,) float64 in nats. Burda et al. 2016, equation 8.

    A lower bound of ln p(x), in expectation rising with k. Memory does not depend on k.

    Args:
        model: one with `log_importance_weights`.
        pixel_values: (B, C, H, W) in [-1, 1].
        num_samples: k.
        generator: one for all draws, or a list with one for each picture.
        samples_per_pass: how many samples of a picture are decoded together; by default up to 1,000, or 5,000 by an
            mlp. So many pictures are taken together that about as many rows are decoded.
    """
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1, got {num_samples}.")
    rows = MLP_ROWS_PER_PASS if model.config.backbone == "mlp" else ROWS_PER_PASS
    together = min(num_samples, samples_per_pass or rows)
    pictures = max(1, rows // together)
    bounds = []
    for start in range(0, len(pixel_values), pictures):
        own = generator[start : start + pictures] if isinstance(generator, list) else generator
        bounds.append(bound_of_few(model, pixel_values[start : start + pictures], num_samples, own, together))
    return torch.cat(bounds)


def bound_of_few(
    model: nn.Module, pixel_values: Tensor, num_samples: int, generator: Generators, together: int
) -> Tensor:
    """L_k of pictures of which `together` samples each are decoded at once; (B,) float64."""
    batch = len(pixel_values)
    # Whole batches one after the other, so that draws come in the same order however many are decoded together.
    repeated = pixel_values if batch == 1 else pixel_values.repeat(together, 1, 1, 1)  # (together * B, C, H, W)
    posterior = model.encode(pixel_values, return_dict=True).latent_dist
    posterior = type(posterior)(posterior.parameters.repeat(together, 1, 1, 1))
    mean = LogMeanExp()
    while mean.count < num_samples:
        log_weights = model.log_importance_weights(posterior, repeated, generator).view(together, batch)
        mean.add(log_weights[: num_samples - mean.count])
    return mean.value()


# -- a whole set -------------------------------------------------------------------------------------------------------


@dataclass
class LatentUse:
    """How a posterior uses each latent unit, over a data set. Tensors are float64 (z, h, w).

    Args:
        kl: mean over the images of a unit's KL(q || N(0, 1)), in nats.
        variance: Var_x(E_q[z]), of the posterior means over the images.
    """

    kl: Tensor
    variance: Tensor

    @property
    def active(self) -> int:
        """Number of units whose posterior mean has a variance over the images of more than 0.01."""
        return int((self.variance > ACTIVE_VARIANCE).sum())

    @property
    def units(self) -> int:
        return self.variance.numel()


@torch.no_grad()
def measure_latent_use(model: nn.Module, batches: Iterable[Tensor]) -> LatentUse:
    """Active units and KL of each unit of a model whose `encode` gives a `latent_dist`.

    Args:
        batches: of pixels (B, C, H, W) in [-1, 1].
    """
    count, kl, total, square = 0, 0.0, 0.0, 0.0
    for pixel_values in batches:
        posterior = model.encode(pixel_values, return_dict=True).latent_dist
        mean, logvar = in_float64(posterior.mean), in_float64(posterior.logvar)
        kl = kl + 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(0)
        total, square, count = total + mean.sum(0), square + mean.square().sum(0), count + len(mean)
    if count < 2:
        raise ValueError(f"A variance over images needs at least 2 of them, got {count}.")
    return LatentUse(kl / count, (square - total.square() / count) / (count - 1))


@dataclass
class LikelihoodReport:
    """Metrics of a whole set, in nats per image; None if a model does not have them.

    Args:
        setting: the data setting.
        kind: `continuous`, `discrete` or `no likelihood`, of the decoder's distribution.
        prior: `N(0, I)`, `uniform codes`, `learned codes` or `none`.
        images: their number.
        dimensions: C * H * W.
        reconstruction: -E_q[ln p(x|z)], one draw an image.
        rate: nats of the latents: KL(q(z|x) || p(z)), or minus the log-probability of the codes under a learned prior.
        bound: reconstruction + rate, an upper bound of -ln p(x): minus the ELBO.
        bits_per_dim: computed from the bound.
        num_samples, importance_bound: k and -L_k, a tighter upper bound of -ln p(x).
        importance_standard_error: of `importance_bound` as a mean over images.
        active_units, units: see `LatentUse`.
    """

    setting: str
    kind: str
    prior: str
    images: int
    dimensions: int
    reconstruction: float
    rate: float | None = None
    bound: float | None = None
    bits_per_dim: float | None = None
    num_samples: int | None = None
    importance_bound: float | None = None
    importance_standard_error: float | None = None
    active_units: int | None = None
    units: int | None = None

    def to_dict(self) -> dict[str, float | int | str]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def lines(self) -> list[str]:
        """Lines for people: one metric in each, with its unit."""
        text = [
            f"data: {self.setting}, {self.images:,} images",
            f"reconstruction {self.reconstruction:.2f} nats per image",
        ]
        if self.bound is not None:
            text.append(f"-ELBO {self.bound:.2f} nats per image (rate {self.rate:.2f}, prior: {self.prior})")
            if self.bits_per_dim is None:
                text.append("no bits/dim: Bernoulli pixels with grey targets are a cross-entropy, no likelihood")
            else:
                text.append(f"{self.bits_per_dim:.3f} {UNITS[self.kind]}")
        if self.importance_bound is not None:
            error = self.importance_standard_error
            text.append(f"-L_{self.num_samples} {self.importance_bound:.2f} +- {error:.2f} nats per image")
        if self.units is not None:
            text.append(f"{self.active_units} of {self.units} units are active")
        return text


@torch.no_grad()
def measure_likelihood(
    model: nn.Module,
    batches: Callable[[], Iterable[Tensor]],
    setting: str,
    num_samples: int = 0,
    code_nats: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> LikelihoodReport:
    """Measures any model: its reconstruction likelihood, and its latents under N(0, I), uniform or learned codes.

    For a model without a prior (an autoencoder) only the reconstruction is measured: it gives pictures no probability.

    Args:
        batches: returns, at each call, all batches of pixels (B, C, H, W) in [-1, 1] from the start.
        setting: see `data_setting`.
        num_samples: k of L_k, for models that draw from a posterior; 0 leaves it out (5,000 is customary).
        code_nats: a learned prior: image tokens (B, h, w) -> minus their log-probability in nats, (B,). The most likely
            tokens are used then. None: uniform codes.
        seed: of the draws. Each picture has a generator that is keyed by seed and the picture's number, so that batch
            sizes do not change the draws.
    """
    model.eval()
    report = description_length(model, batches(), setting, code_nats, seed)
    if offers_importance_weights(model):
        use = measure_latent_use(model, batches())
        report.active_units, report.units = use.active, use.units
        if num_samples:
            report.num_samples = num_samples
            report.importance_bound, report.importance_standard_error = mean_importance_bound(
                model, batches(), num_samples, seed
            )
    return report


def description_length(
    model: nn.Module,
    batches: Iterable[Tensor],
    setting: str,
    code_nats: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> LikelihoodReport:
    """Reconstruction, rate and their sum over a whole set; arguments as for `measure_likelihood`."""
    images, reconstruction, rate, kinds, prior, dimensions = 0, 0.0, 0.0, set(), "none", 0
    for pixel_values in batches:
        generators = picture_generators(range(images, images + len(pixel_values)), seed)
        output = draw(model, pixel_values, generators, deterministic=code_nats is not None)
        nats, prior = rate_of(output, code_nats)
        batch, dimensions = len(pixel_values), pixel_values[0].numel()
        reconstruction += batch * output.negative_log_likelihood.item()
        rate, images = rate + batch * nats, images + batch
        kinds.add(likelihood_kind(model.config.reconstruction_loss, pixel_values))
    if not images:
        raise ValueError("A likelihood needs at least one batch of pictures, got none.")
    kind = NO_LIKELIHOOD if NO_LIKELIHOOD in kinds else kinds.pop()
    report = LikelihoodReport(setting, kind, prior, images, dimensions, reconstruction / images)
    if prior != "none":
        report.rate = rate / images
        report.bound = report.reconstruction + report.rate
        if kind != NO_LIKELIHOOD:
            report.bits_per_dim = bits_per_dim(report.bound, dimensions, continuous=kind == CONTINUOUS)
    return report


def draw(model: nn.Module, pixel_values: Tensor, generator: Generators, deterministic: bool):
    """A forward pass with latents drawn from q; one-hot latents if the model could also relax them."""
    if deterministic:
        return model(pixel_values, return_dict=True)
    hard = {"hard": True} if "hard" in inspect.signature(model.forward).parameters else {}
    return model(pixel_values, generator=generator, return_dict=True, **hard)


def rate_of(output, code_nats: Callable[[Tensor], Tensor] | None) -> tuple[float, str]:
    """(nats per image for the latents, name of the prior)"""
    tokens = getattr(output, "image_tokens", None)
    if code_nats is not None:
        if tokens is None:
            raise ValueError("`code_nats` is the learned prior of image tokens, but this model gives no image tokens.")
        return in_float64(code_nats(tokens)).mean().item(), "learned codes"
    if getattr(output, "kl", None) is None:
        return 0.0, "none"
    return output.kl.item(), "N(0, I)" if tokens is None else "uniform codes"


def mean_importance_bound(
    model: nn.Module, batches: Iterable[Tensor], num_samples: int, seed: int = 0
) -> tuple[float, float]:
    """(-L_k over a whole set in nats per image, its standard error)"""
    parts, images = [], 0
    for batch in batches:
        generators = picture_generators(range(images, images + len(batch)), seed)
        parts.append(importance_bound(model, batch, num_samples, generators).cpu())
        images += len(batch)
    values = torch.cat(parts)
    return -values.mean().item(), (values.std() / math.sqrt(len(values))).item() if len(values) > 1 else math.nan
