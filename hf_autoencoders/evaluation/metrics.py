# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Metrics of a model on a whole set of images, equal for every batch size and number of processes.

Pixels are given in [-1, 1] and measured on the [0, 1] scale, with reconstructions clamped to it. Sums in float64 and
integer histograms are first added over batches and processes; then metrics are computed from them. No metric is a mean
of means.
"""

import inspect
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from ..models.codebooks import histogram, perplexity, rank, world_size
from .draws import picture_generators


# Scalars of an output that are not means over images. The whole set has its own metrics in their place, or none.
_BATCH_METRICS = ("perplexity", "codebook_usage", "norm_ratio")


def count_codes(image_tokens: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs in `image_tokens` (B, h, w) or (B, h, w, depth): (depth, K) int64."""
    levels = image_tokens.unbind(3) if image_tokens.dim() == 4 else [image_tokens]
    return torch.stack([histogram(level, codebook_size, torch.int64) for level in levels])


class Totals:
    """Sums over images, and a histogram of the codes of each level, (levels, K)."""

    def __init__(self):
        self.sums: dict[str, float] = defaultdict(float)
        self.codes: Tensor | None = None

    def add(self, name: str, value: Tensor | float) -> None:
        """Adds one number, or the sum of a tensor's entries in float64."""
        self.sums[name] += float(value.detach().cpu().double().sum()) if isinstance(value, Tensor) else value

    def add_codes(self, image_tokens: Tensor, codebook_size: int) -> None:
        """Counts the codes of (B, h, w), or of (B, h, w, depth) for each level."""
        counts = count_codes(image_tokens.detach(), codebook_size).cpu()
        self.codes = counts if self.codes is None else self.codes + counts

    def merged(self) -> "Totals":
        """The sum over all processes, equal on each of them. A process without images adds nothing."""
        if world_size() == 1:
            return self
        total = Totals()
        for sums, codes in of_all_processes((dict(self.sums), self.codes)):  # in one order, so that all round alike
            for name, value in sums.items():
                total.sums[name] += value
            if codes is not None:
                total.codes = codes if total.codes is None else total.codes + codes
        return total


def of_all_processes(own: Any) -> list[Any]:
    """`own` of each process, in rank order, equal on all of them; a collective call."""
    if world_size() == 1:
        return [own]
    parts: list = [None] * world_size()
    torch.distributed.all_gather_object(parts, own)
    return parts


# -- single metrics ----------------------------------------------------------------------------------------------------


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB, from a mean squared error on the [0, 1] scale. It is computed from the error of
    the whole set, as torchmetrics' PeakSignalNoiseRatio(data_range=1.0), and is not a mean over images."""
    return math.inf if mse == 0 else -10 * math.log10(mse)


def ssim_sigma(height: int, width: int) -> float | None:
    """Width of SSIM's Gaussian window: the usual 1.5 (11 x 11 pixels) from 16 pixels a side; 0.5 (5 x 5) from 6, since
    torchmetrics leaves out the border where the window does not fit; None (no SSIM) for smaller sides."""
    side = min(height, width)
    return 1.5 if side >= 16 else 0.5 if side >= 6 else None


def ssim_per_image(reconstruction: Tensor, target: Tensor) -> Tensor | None:
    """Structural similarity of each pair on the [0, 1] scale, (B,), by torchmetrics; None for images too small."""
    sigma = ssim_sigma(*target.shape[-2:])
    if sigma is None:
        return None
    from torchmetrics.functional.image import structural_similarity_index_measure

    return structural_similarity_index_measure(
        reconstruction, target, sigma=sigma, data_range=1.0, reduction="none"
    ).view(len(target))


def roughness(pixels: Tensor) -> Tensor:
    """Mean ``|difference|`` of neighbouring pixels, down plus to the right, of each picture (B, C, H, W): (B,).

    That of reconstructions over that of the pictures is their gradient energy: 1 for equal pictures, well below it they
    are blurred, above it they have grids or noise.
    """
    down, right = pixels[..., 1:, :] - pixels[..., :-1, :], pixels[..., 1:] - pixels[..., :-1]
    return down.abs().flatten(1).mean(1) + right.abs().flatten(1).mean(1)


def bernoulli_floor(target: Tensor) -> Tensor:
    """Entropy of the grey levels in nats per image, (B,): the lowest possible Bernoulli loss.

    0 for binary pictures; 45.5 for MNIST's grey levels. On grey levels, BCE is not a likelihood: subtract this floor.
    """
    return (torch.special.entr(target) + torch.special.entr(1 - target)).flatten(1).sum(1)


def bits_per_dim(nats: float, dimensions: int, continuous: bool) -> float:
    """Bits for each pixel and channel: nats / (d ln 2). If `nats` comes from a density over [0, 1]^d, 8 bits are added,
    so that it compares with codes for 256 grey levels."""
    return nats / (dimensions * math.log(2)) + (8 if continuous else 0)


def named_bits_per_dim(nats: float, dimensions: int, floor: float | None) -> dict[str, float]:
    """{name: `bits_per_dim`}; the name says whether pixels are continuous or discrete. {} for grey pixels with a
    Bernoulli loss, which is not a likelihood of them.

    Args:
        floor: the pixels' `bernoulli_floor` if the likelihood is Bernoulli; None if it is a density.

    >>> named_bits_per_dim(0.0, 784, floor=None), named_bits_per_dim(90.0, 784, floor=45.5)
    ({'bits_per_dim_continuous': 8.0}, {})
    """
    if floor:
        return {}
    kind = "continuous" if floor is None else "discrete"
    return {f"bits_per_dim_{kind}": bits_per_dim(nats, dimensions, continuous=floor is None)}


def code_metrics(counts: Tensor) -> dict[str, float]:
    """Perplexity exp(entropy) and usage of a histogram (levels, K) of a whole set's codes.

    For a residual quantizer both are means over its levels; `perplexity_level_i` etc. are those of one level.
    """
    levels, size = counts.shape
    perplexities = perplexity(counts.double())
    used = (counts > 0).sum(1)
    metrics = {
        "perplexity": float(perplexities.mean()),
        "codebook_usage": float(used.double().mean() / size),
        "codes_used": float(used.sum()),
        "codes_total": float(levels * size),
    }
    if levels > 1:
        for level in range(levels):
            metrics[f"perplexity_level_{level}"] = float(perplexities[level])
            metrics[f"codebook_usage_level_{level}"] = float(used[level] / size)
    return metrics


# -- the whole set -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    *,
    accelerator: Any = None,
    data_variance: float | None = None,
    temperature: float | None = None,
    seed: int = 0,
    ssim: bool = True,
    clamp: bool = True,
) -> dict[str, float]:
    """Metrics over all images of all processes.

    Args:
        model: bare or prepared by accelerate. It is run in eval mode; its mode is restored afterwards.
        batches: {"pixel_values": (B, C, H, W) in [-1, 1]}, this process's share. Either each image is on one process,
            in batches of any size, or `batches` is a loader prepared by `accelerator`, whose repeated images are left
            out. `index` (B,) beside the pixels gives the images' numbers in their set. Without it, image i is assumed
            to be on process i % processes, as in `training.batches.evaluation_batches`.
        accelerator: gives the device, and unwraps the model to read its signature.
        data_variance: divisor of `nmse`: the variance of the training pixels on [0, 1]; default: of these images.
        temperature: of the relaxed ELBO; None: the model's own.
        seed: of the draws for `elbo`, `relaxed_elbo` and `hard_elbo`. Each image has a generator that is keyed by seed
            and the image's number, so that batch sizes and processes change nothing. `model` gets their list.
        ssim: False leaves SSIM out; it needs torchmetrics and takes about as long as a small model.
        clamp: clamps reconstructions to [0, 1] before they are measured.

    Returns:
        Metrics by name::

            images                  their number
            mse, nmse, psnr [dB], ssim, squared_error [per image, summed over C, H, W], gradient_energy
                                    of the deterministic reconstruction (mean or argmax latents)
            negative_log_likelihood, kl [nats per image], loss and other scalars of the model's output
                                    means over images, of the same pass
            elbo [nats per image]   if the model has a KL; with latents drawn from the posterior, if the model draws
            relaxed_elbo, hard_elbo, elbo_gap = relaxed - hard
                                    if `forward` takes `hard`: with Gumbel-softmax samples, and with one-hot draws
                                    from q; `elbo` is the latter
            bits_per_dim_continuous | bits_per_dim_discrete
                                    from -elbo; discrete for a Bernoulli likelihood, and then for binary pixels only
            bernoulli_floor         entropy of the pixels, for a Bernoulli likelihood
            perplexity, codebook_usage, codes_used, codes_total
                                    if the output has `image_tokens`: from the histogram over the whole set

    Raises:
        ValueError: there is no image, or a batch has no pixel_values.
    """
    bare = _bare(model, accelerator)
    schedules = _Schedules.of(bare, temperature)
    totals = Totals()
    with evaluating(model):
        for pixels, numbers, counted in shares(batches, accelerator, _device(model, accelerator)):
            if counted and counted < len(pixels):
                pixels, numbers = pixels[:counted], numbers[:counted]
            passes = schedules.run(model, pixels, picture_generators(numbers, seed, pixels.device))
            if counted:
                _count(totals, pixels, passes, bare, ssim, clamp)
    totals = totals.merged()
    if not totals.sums["images"]:
        raise ValueError("No image to evaluate on: the evaluation batches are empty on every process.")
    return _metrics(totals, data_variance)


def _bare(model: nn.Module, accelerator: Any) -> nn.Module:
    return accelerator.unwrap_model(model) if accelerator is not None else getattr(model, "module", model)


def _device(model: nn.Module, accelerator: Any) -> torch.device:
    if accelerator is not None:
        return accelerator.device
    tensor = next(model.parameters(), next(model.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device


def passes_per_image(model: nn.Module) -> int:
    """How often `evaluate` runs the (bare) model on each image: 3 times a dVAE, 2 a VAE, once any other."""
    return _Schedules.of(model, None).passes


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in eval mode; afterwards each module has its old mode."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _continuous(bare: nn.Module) -> bool:
    """Whether the likelihood is a density: all are, except the Bernoulli likelihood."""
    return getattr(getattr(bare, "config", None), "reconstruction_loss", "mse") != "bce"


class _Schedules:
    """Which forward passes a model needs, by its signature. `names`: arguments of its forward."""

    def __init__(self, names: set[str], temperature: float | None):
        self.names = names
        self.deterministic = {"temperature": temperature} if "temperature" in names and temperature is not None else {}

    @classmethod
    def of(cls, bare: nn.Module, temperature: float | None) -> "_Schedules":
        # The class's forward: accelerate puts a wrapper for mixed precision on the instance.
        return cls(set(inspect.signature(type(bare).forward).parameters), temperature)

    @property
    def passes(self) -> int:
        """How many passes `run` makes."""
        return 3 if "hard" in self.names else 2 if "kl_weight" in self.names else 1

    def run(self, model: nn.Module, pixels: Tensor, generator: list[torch.Generator]) -> dict[str, Any]:
        """Outputs by name of the pass: always `mean`; `relaxed` and `hard`, or `sample`, if the model draws latents."""
        passes = {"mean": model(pixels, **self.deterministic)}
        if "hard" in self.names:
            passes["relaxed"] = model(pixels, generator=generator, hard=False, **self.deterministic)
            passes["hard"] = model(pixels, generator=generator, hard=True, **self.deterministic)
        elif "kl_weight" in self.names:
            passes["sample"] = model(pixels, generator=generator)
        return passes


def shares(batches: Iterable[Mapping[str, Tensor]], accelerator: Any, device: torch.device) -> Iterator[tuple]:
    """(pixels on the device, their numbers in the set, how many of them count).

    Every process runs the model equally often, since the gathers of a sharded model (FSDP) wait for all processes. A
    process with fewer batches repeats its last batch, which does not count then.
    """
    rounds, done, seen, pixels = _rounds(batches), 0, 0, None
    for batch in batches:
        if "pixel_values" not in batch:
            raise ValueError(f"An evaluation batch must hold `pixel_values`, got {', '.join(map(str, batch))}.")
        pixels = batch["pixel_values"].to(device)
        numbers = batch.get("index")
        if numbers is None:
            numbers = _numbers(seen, len(pixels), _is_prepared(batches, accelerator))
        done, seen = done + 1, seen + len(pixels)
        yield pixels, numbers, _rows_of_batch(batches, accelerator, len(pixels))
    while pixels is not None and done < rounds:
        done += 1
        yield pixels, numbers, 0


def _numbers(seen: int, size: int, prepared: bool) -> Tensor:
    """Numbers in the whole set of the next `size` images of this process, after `seen` ones; (size,) int64.

    A prepared loader gives each process the same number of consecutive images in each round. Otherwise image i is on
    process i % processes.
    """
    processes = world_size()
    if prepared:
        return seen * processes + rank() * size + torch.arange(size)
    return (seen + torch.arange(size)) * processes + rank()


def _rounds(batches: Iterable) -> int:
    """The largest number of batches on any process; 0 if there is one process or a length is unknown."""
    if world_size() == 1:
        return 0
    lengths = of_all_processes(len(batches) if hasattr(batches, "__len__") else None)
    return 0 if None in lengths else max(lengths)


def _rows_of_batch(batches: Any, accelerator: Any, size: int) -> int:
    """Number of images of this batch that are not repetitions.

    A loader prepared by accelerate fills its last round with images from the start, so that all processes get equal
    batches. In rank order, only the first `remainder` images of that round are new.
    """
    if not _is_prepared(batches, accelerator):
        return size
    if not getattr(getattr(batches, "batch_sampler", None), "even_batches", True):
        return size
    state = accelerator.gradient_state
    if not state.end_of_dataloader or state.remainder <= 0:
        return size
    return min(size, max(0, state.remainder - accelerator.process_index * size))


def _is_prepared(batches: Any, accelerator: Any) -> bool:
    """Whether these batches come from a loader that accelerate shares among several processes."""
    if accelerator is None or accelerator.num_processes == 1:
        return False
    state = accelerator.gradient_state
    return state.in_dataloader and state.active_dataloader is batches


def _count(totals: Totals, pixels: Tensor, passes: dict[str, Any], bare: nn.Module, ssim: bool, clamp: bool) -> None:
    """One batch into the sums; means over a batch are weighted by its size."""
    count, mean = len(pixels), passes["mean"]
    target = (pixels.float() + 1) / 2
    reconstruction = (mean.reconstruction.float() + 1) / 2
    if clamp:
        reconstruction = reconstruction.clamp(0, 1)
    totals.add("images", count)
    totals.add("entries", target.numel())
    totals.add("pixels", target)
    totals.add("squared_pixels", target.square())
    totals.add("squared_error", (reconstruction - target).square().flatten(1).sum(1))
    if min(target.shape[-2:]) > 1:  # else no pixel has a neighbour in both directions
        totals.add("roughness/picture", roughness(target))
        totals.add("roughness/reconstruction", roughness(reconstruction))
    similarities = ssim_per_image(reconstruction, target) if ssim else None
    if similarities is not None:
        totals.add("mean/ssim", similarities)
    for name, value in mean.items():
        if isinstance(value, Tensor) and value.dim() == 0 and name not in _BATCH_METRICS:
            totals.add(f"mean/{name}", count * float(value))
    if not _continuous(bare):
        totals.add("mean/bernoulli_floor", bernoulli_floor(target))
    for name, output in passes.items():
        if getattr(output, "kl", None) is not None and getattr(output, "negative_log_likelihood", None) is not None:
            totals.add(f"bound/{name}", -count * float(output.negative_log_likelihood + output.kl))
    tokens = getattr(mean, "image_tokens", None)
    if tokens is not None:
        totals.add_codes(tokens, bare.codebook_size)


def _metrics(totals: Totals, data_variance: float | None) -> dict[str, float]:
    sums = totals.sums
    images, entries = sums["images"], sums["entries"]
    mse = sums["squared_error"] / entries
    if data_variance is None:
        data_variance = sums["squared_pixels"] / entries - (sums["pixels"] / entries) ** 2
    metrics = {
        "images": images,
        "mse": mse,
        "nmse": mse / data_variance if data_variance > 0 else math.nan,
        "psnr": psnr(mse),
        "squared_error": sums["squared_error"] / images,
    }
    if sums["roughness/picture"] > 0:
        metrics["gradient_energy"] = sums["roughness/reconstruction"] / sums["roughness/picture"]
    metrics.update({name.removeprefix("mean/"): sums[name] / images for name in sums if name.startswith("mean/")})
    metrics.update(
        _bounds({name.removeprefix("bound/"): sums[name] / images for name in sums if name.startswith("bound/")})
    )
    if "elbo" in metrics:
        dimensions = round(entries / images)
        metrics |= named_bits_per_dim(-metrics["elbo"], dimensions, metrics.get("bernoulli_floor"))
    if totals.codes is not None:
        metrics.update(code_metrics(totals.codes))
    return metrics


def _bounds(bounds: dict[str, float]) -> dict[str, float]:
    """ELBOs in nats per image, from the mean bound of each pass."""
    if "hard" in bounds:
        relaxed, hard = bounds["relaxed"], bounds["hard"]
        return {"relaxed_elbo": relaxed, "hard_elbo": hard, "elbo_gap": relaxed - hard, "elbo": hard}
    if "sample" in bounds:
        return {"elbo": bounds["sample"]}
    return {"elbo": bounds["mean"]} if "mean" in bounds else {}
