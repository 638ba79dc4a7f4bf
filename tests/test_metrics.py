# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Whole-set metrics equal those computed at once over all images, for every batch size and number of processes."""

import importlib
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from small_nets import make
from torch import nn
from transformers.utils import ModelOutput

from hf_autoencoders import VAEConfig, VAEModel
from hf_autoencoders.evaluation.metrics import (
    bernoulli_floor,
    bits_per_dim,
    code_metrics,
    evaluate,
    passes_per_image,
    psnr,
    ssim_sigma,
)
from hf_autoencoders.models.noise import draw_noise
from hf_autoencoders.training.data import CachedImages, collate, load_images


REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("HF_AUTOENCODERS_DATA", REPOSITORY.parent / "shared"))


# -- small models that keep the contract -------------------------------------------------------------------------------


@dataclass
class Output(ModelOutput):
    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    negative_log_likelihood: torch.Tensor | None = None
    kl: torch.Tensor | None = None
    perplexity: torch.Tensor | None = None
    image_tokens: torch.Tensor | None = None


class Dim(nn.Module):
    """Reconstructs each picture a third darker, and quantises the mean of each 2x2 patch to one of K levels."""

    def __init__(self, codebook_size=16, depth=1):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(2 / 3))
        self.codebook_size, self.depth = codebook_size, depth

    def forward(self, pixel_values):
        unit = (pixel_values + 1) / 2
        reconstruction = unit * self.gain
        nats = (reconstruction - unit).square().flatten(1).sum(1)
        patches = nn.functional.avg_pool2d(unit.mean(1, keepdim=True), 2)[:, 0]  # (B, h, w)
        tokens = (patches * (self.codebook_size - 1)).round().long()
        if self.depth > 1:
            tokens = torch.stack([tokens // (level + 1) for level in range(self.depth)], -1)
        return Output(
            loss=nats.mean(),
            reconstruction=2 * reconstruction - 1,
            negative_log_likelihood=nats.mean(),
            kl=torch.tensor(patches[0].numel() * math.log(self.codebook_size)),
            perplexity=torch.tensor(-1.0),
            image_tokens=tokens,
        )


class Drawing(nn.Module):
    """A model with a posterior of known spread: nll = 100 + noise, kl = 3; without a generator no noise."""

    def forward(self, pixel_values, generator=None, *, kl_weight=None):
        noise = torch.zeros(len(pixel_values))
        if generator is not None:
            noise = draw_noise(torch.randn, [len(pixel_values)], generator, torch.float32, pixel_values.device)
        return Output(
            reconstruction=pixel_values, negative_log_likelihood=(100 + noise.square()).mean(), kl=torch.tensor(3.0)
        )


class Relaxed(nn.Module):
    """Answers by which pass is asked for."""

    def forward(self, pixel_values, generator=None, *, temperature=None, kl_weight=None, hard=None):
        nats = {None: 1.0, False: 10.0 * temperature, True: 30.0}[hard]
        return Output(reconstruction=pixel_values, negative_log_likelihood=torch.tensor(nats), kl=torch.tensor(2.0))


def images(count=23, channels=1, size=8, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return CachedImages(torch.from_numpy(pixels))


def batches(dataset, batch_size):
    return [dataset.batch(range(i, min(i + batch_size, len(dataset)))) for i in range(0, len(dataset), batch_size)]


def same(a, b, tolerance=1e-6):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name] == pytest.approx(b[name], rel=tolerance, nan_ok=True), name


# -- claims ------------------------------------------------------------------------------------------------------------


def test_metrics_agree_with_numpy_over_all_images():
    dataset = images(channels=3)
    metrics = evaluate(Dim(), batches(dataset, 5), data_variance=0.05)
    unit = dataset.pixels.numpy() / 255
    error = (unit / 3) ** 2
    assert metrics["images"] == 23
    assert metrics["mse"] == pytest.approx(error.mean(), rel=1e-6)
    assert metrics["squared_error"] == pytest.approx(error.reshape(23, -1).sum(1).mean(), rel=1e-6)
    assert metrics["nmse"] == pytest.approx(error.mean() / 0.05, rel=1e-6)
    assert metrics["psnr"] == pytest.approx(-10 * np.log10(error.mean()), rel=1e-6)
    assert metrics["negative_log_likelihood"] == pytest.approx(metrics["squared_error"], rel=1e-6)


def test_batch_size_changes_nothing():
    dataset = images(17)
    reference = evaluate(Dim(), batches(dataset, 17))
    for size in (1, 4, 16):
        same(evaluate(Dim(), batches(dataset, size)), reference)


def test_nmse_divides_by_the_variance_of_these_images_unless_another_is_given():
    dataset = images()
    metrics = evaluate(Dim(), batches(dataset, 5))
    assert metrics["nmse"] == pytest.approx(metrics["mse"] / dataset.data_variance, rel=1e-5)


def test_psnr_and_ssim_are_torchmetrics_of_the_whole_set():
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    dataset = images(10, size=32)
    metrics = evaluate(Dim(), batches(dataset, 3))
    unit = dataset.pixels.float() / 255
    for name, metric in (
        ("psnr", PeakSignalNoiseRatio(1.0)),
        ("ssim", StructuralSimilarityIndexMeasure(data_range=1.0)),
    ):
        for start in range(0, 10, 4):
            metric.update(unit[start : start + 4] * (2 / 3), unit[start : start + 4])
        assert metrics[name] == pytest.approx(float(metric.compute()), rel=1e-5), name


@pytest.mark.parametrize("size", [6, 8, 15, 16, 28])
def test_ssim_is_one_for_equal_pictures_of_every_size_and_finite_else(size):
    dataset = images(3, size=size)
    equal = Dim()
    nn.init.ones_(equal.gain)
    assert evaluate(equal, batches(dataset, 2))["ssim"] == pytest.approx(1)
    assert 0 < evaluate(Dim(), batches(dataset, 2))["ssim"] < 1


def test_too_small_pictures_have_no_ssim():
    assert ssim_sigma(4, 28) is None and "ssim" not in evaluate(Dim(), batches(images(3, size=4), 2))


def test_reconstructions_are_clamped_before_they_are_measured():
    model = Dim()
    nn.init.constant_(model.gain, 10)
    bright = [collate(torch.full((2, 1, 8, 8), 255, dtype=torch.uint8))]
    assert evaluate(model, bright)["mse"] == 0 and evaluate(model, bright)["psnr"] == math.inf
    assert evaluate(model, bright, clamp=False)["mse"] == pytest.approx(81)


def test_perplexity_and_usage_are_those_of_the_whole_set():
    dataset = images(23)
    metrics = evaluate(Dim(), batches(dataset, 4))
    tokens = Dim()(dataset.batch(range(23))["pixel_values"]).image_tokens.numpy()
    _, counts = np.unique(tokens, return_counts=True)
    shares = counts / counts.sum()
    assert metrics["perplexity"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert (metrics["codes_used"], metrics["codes_total"]) == (len(counts), 16)
    assert metrics["codebook_usage"] == pytest.approx(len(counts) / 16)


def test_perplexity_by_hand():
    uniform, one = torch.ones(4, dtype=torch.int64), torch.tensor([9, 0, 0, 0])
    assert code_metrics(uniform[None])["perplexity"] == pytest.approx(4)
    assert code_metrics(one[None])["perplexity"] == pytest.approx(1)
    both = code_metrics(torch.stack([uniform, one]))
    assert both["perplexity"] == pytest.approx(2.5) and both["codebook_usage"] == pytest.approx(0.625)
    assert (both["codes_used"], both["codes_total"]) == (5, 8)


def test_codes_in_depth_are_counted_level_by_level():
    dataset = images(9)
    metrics = evaluate(Dim(depth=2), batches(dataset, 4))
    tokens = Dim(depth=2)(dataset.batch(range(9))["pixel_values"]).image_tokens
    for level in range(2):
        alone = code_metrics(torch.bincount(tokens[..., level].flatten(), minlength=16)[None])
        assert metrics[f"perplexity_level_{level}"] == pytest.approx(alone["perplexity"])
        assert metrics[f"codebook_usage_level_{level}"] == pytest.approx(alone["codebook_usage"])
    mean = (metrics["perplexity_level_0"] + metrics["perplexity_level_1"]) / 2
    assert metrics["perplexity"] == pytest.approx(mean) and metrics["codes_total"] == 32


def test_elbo_of_codes_is_likelihood_and_uniform_prior():
    metrics = evaluate(Dim(), batches(images(7), 3))
    assert metrics["kl"] == pytest.approx(16 * math.log(16))
    assert metrics["elbo"] == pytest.approx(-metrics["negative_log_likelihood"] - 16 * math.log(16))
    assert metrics["bits_per_dim_continuous"] == pytest.approx(-metrics["elbo"] / 64 / math.log(2) + 8)


def test_grey_pixels_have_no_bits_under_a_bernoulli_likelihood():
    """A cross-entropy with grey targets is no likelihood of them; of binary ones it is."""
    fields = {"backbone": "mlp", "hidden_sizes": [8], "latent_channels": 2, "reconstruction_loss": "bce"}
    model = VAEModel(VAEConfig(image_size=8, num_channels=1, **fields))
    grey = torch.rand(5, 1, 8, 8) * 2 - 1
    of_grey, of_binary = (evaluate(model, [{"pixel_values": pixels}], ssim=False) for pixels in (grey, grey.sign()))
    assert of_grey["bernoulli_floor"] > 0 and not any(name.startswith("bits_per_dim") for name in of_grey)
    assert of_binary["bits_per_dim_discrete"] == pytest.approx(-of_binary["elbo"] / 64 / math.log(2))


def test_elbo_draws_from_the_posterior_and_repeats():
    dataset = images(4000, size=2)
    metrics = evaluate(Drawing(), batches(dataset, 64), ssim=False)
    assert metrics["negative_log_likelihood"] == pytest.approx(100)  # of the mean: nothing is drawn
    assert metrics["elbo"] == pytest.approx(-104, abs=5 * 2**0.5 / 4000**0.5)  # E[noise^2] = 1
    same(evaluate(Drawing(), batches(dataset, 64), ssim=False), metrics, tolerance=0)
    assert evaluate(Drawing(), batches(dataset, 64), ssim=False, seed=1)["elbo"] != metrics["elbo"]


def test_what_is_drawn_of_a_picture_does_not_depend_on_its_batch():
    dataset = images(70, size=2)
    reference = evaluate(Drawing(), batches(dataset, 70), ssim=False)
    for size in (1, 4, 64):
        same(evaluate(Drawing(), batches(dataset, size), ssim=False), reference, tolerance=1e-6)
    shuffled = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    named = [{**dataset.batch(rows), "index": rows} for rows in shuffled.split(8)]
    same(evaluate(Drawing(), named, ssim=False), reference, tolerance=1e-6)


def test_a_picture_may_be_judged_twice_by_other_draws():
    """Copies of one picture are drawn each by itself: their mean converges."""
    copies = [collate(torch.zeros(4000, 1, 2, 2, dtype=torch.uint8))]
    assert evaluate(Drawing(), copies, ssim=False)["elbo"] == pytest.approx(-104, abs=5 * 2**0.5 / 4000**0.5)


def test_relaxed_and_hard_elbo_come_from_their_own_passes():
    metrics = evaluate(Relaxed(), batches(images(5), 2), temperature=0.5)
    assert (metrics["relaxed_elbo"], metrics["hard_elbo"], metrics["elbo_gap"]) == (-7, -32, 25)
    assert metrics["elbo"] == -32 and metrics["negative_log_likelihood"] == 1


def test_bits_per_dim_of_a_uniform_density_is_eight():
    assert bits_per_dim(0.0, 784, continuous=True) == 8
    assert bits_per_dim(784 * math.log(2), 784, continuous=False) == pytest.approx(1)


def test_bernoulli_floor_is_the_loss_of_the_pixels_themselves():
    target = torch.rand(3, 1, 5, 5)
    loss = nn.functional.binary_cross_entropy(target, target, reduction="none").flatten(1).sum(1)
    assert torch.allclose(bernoulli_floor(target), loss, atol=1e-4)
    assert bernoulli_floor(target.round()).abs().max() == 0


def test_psnr_by_hand():
    assert psnr(1.0) == 0 and psnr(0.01) == pytest.approx(20) and psnr(0) == math.inf


def test_evaluation_leaves_the_model_as_it_was():
    model = nn.Sequential(Dim(), nn.Dropout())
    model[1].eval()
    model.forward = lambda pixels: model[0](pixels)
    model.codebook_size = 16
    evaluate(model, batches(images(3), 2))
    assert model.training and model[0].training and not model[1].training
    assert model[0].gain.grad is None


def test_nothing_to_evaluate_on_is_an_error():
    with pytest.raises(ValueError, match="No image to evaluate on"):
        evaluate(Dim(), [])
    with pytest.raises(ValueError, match="must hold `pixel_values`, got label"):
        evaluate(Dim(), [{"label": torch.zeros(2)}])


# -- the four models ---------------------------------------------------------------------------------------------------

METRICS = {
    "ae": {"negative_log_likelihood"},
    "vae": {"kl", "elbo"},
    "vqvae": {"kl", "elbo", "perplexity", "codebook_usage", "commitment_loss"},
    "dvae": {"kl", "elbo", "relaxed_elbo", "hard_elbo", "elbo_gap", "perplexity"},
}


@pytest.mark.parametrize("model_type", METRICS)
def test_each_model_is_measured_by_what_its_output_holds(model_type):
    package = importlib.import_module("hf_autoencoders")
    name = {"ae": "AE", "vae": "VAE", "vqvae": "VQVAE", "dvae": "DVAE"}[model_type]
    torch.manual_seed(0)
    config = getattr(package, f"{name}Config")(image_size=8, num_channels=1, block_out_channels=[8, 8, 8])
    model = getattr(package, f"{name}Model")(config)
    dataset = images(10)
    metrics = evaluate(model, batches(dataset, 4))
    assert METRICS[model_type] <= metrics.keys() and all(map(math.isfinite, metrics.values()))
    whole = evaluate(model, batches(dataset, 10))
    for key in metrics.keys() - {"norm_ratio"}:
        assert metrics[key] == pytest.approx(whole[key], rel=1e-4), key
    model.eval()
    error = (model.reconstruct(dataset.batch(range(10))["pixel_values"]).clamp(-1, 1) + 1) / 2 - dataset.pixels / 255
    assert metrics["mse"] == pytest.approx(float(error.square().mean()), rel=1e-4)


@pytest.mark.parametrize("net", ["ae-mlp", "vae-resnet", "vqvae-ema", "dvae-dalle"])
def test_an_evaluation_runs_the_model_as_often_as_is_said(net):
    model, calls = make(net), []
    model.register_forward_hook(lambda *_: calls.append(None))
    evaluate(model, batches(images(), 23))
    assert len(calls) == passes_per_image(model)


# -- processes ---------------------------------------------------------------------------------------------------------

TWO_PROCESSES = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from test_metrics import Dim, Drawing, batches, collate, images
from hf_autoencoders.evaluation.metrics import evaluate
from hf_autoencoders.training.launch import leave_process_groups

accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
rank, metrics = accelerator.process_index, {}
model = accelerator.prepare(Dim())
drawing = Drawing()
for count in (1, 16, 17, 21, 23):  # of batches of 4: none for one process, even, and uneven in each way
    dataset = images(count)
    rows = range(rank, count, 2)
    mine = [dataset.batch(rows[i : i + 4]) for i in range(0, len(rows), 4)]
    loader = accelerator.prepare(DataLoader(dataset, batch_size=4, collate_fn=collate))
    metrics[count] = [  # without SSIM, whose import takes longer than all else here
        evaluate(model, mine, accelerator=accelerator, ssim=False),
        evaluate(model, loader, accelerator=accelerator, ssim=False),
        evaluate(accelerator.unwrap_model(model), iter(mine), ssim=False),
        evaluate(drawing, mine, accelerator=accelerator, ssim=False),
        evaluate(drawing, loader, accelerator=accelerator, ssim=False),
    ]
with open(f"{sys.argv[2]}/{rank}.json", "w") as file:
    json.dump(metrics, file)
accelerator.wait_for_everyone()
del model
accelerator.free_memory()
leave_process_groups()
"""


def test_two_processes_with_uneven_batches_measure_like_one(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(TWO_PROCESSES)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    run = subprocess.run(
        [*command, str(Path(__file__).parent), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    for count, ways in first.items():
        whole = batches(images(int(count)), 8)
        for metrics in ways[:3]:
            same(metrics, evaluate(Dim(), whole, ssim=False))
        for metrics in ways[3:]:
            same(metrics, evaluate(Drawing(), whole, ssim=False))  # the ELBO of drawn latents, too


# -- real data ---------------------------------------------------------------------------------------------------------


class PrincipalComponents(nn.Module):
    """x -> mean + P P^T (x - mean), the best linear autoencoder."""

    def __init__(self, pixels, components):
        super().__init__()
        flat = pixels.flatten(1).double() / 255
        self.mean = nn.Parameter(flat.mean(0))
        covariance = (flat - self.mean).T @ (flat - self.mean)
        self.axes = nn.Parameter(torch.linalg.eigh(covariance)[1][:, -components:])

    def forward(self, pixel_values):
        flat = (pixel_values.flatten(1).double() + 1) / 2 - self.mean
        unit = self.mean + flat @ self.axes @ self.axes.T
        return Output(reconstruction=(2 * unit - 1).view_as(pixel_values))


@pytest.mark.mnist
def test_thirty_principal_components_of_mnist_leave_the_published_error():
    """13.87 per test image: Hinton & Salakhutdinov 2006. Their reconstructions were not clamped."""
    if not (SHARED / "data" / "mnist").is_dir():
        pytest.skip(f"no MNIST below {SHARED} (HF_AUTOENCODERS_DATA)")
    processing = importlib.import_module("hf_autoencoders.models.image_processing_autoencoder")
    processor = processing.AutoencoderImageProcessorPil(num_channels=1, size={"height": 28, "width": 28})
    mnist = load_images(str(SHARED / "data" / "mnist"), to_uint8=processor.to_uint8)
    assert (len(mnist.train), len(mnist.eval)) == (60000, 10000)
    assert mnist.train.data_variance == pytest.approx(0.09493, abs=5e-6)
    model = PrincipalComponents(mnist.train.pixels, 30)
    metrics = evaluate(
        model, batches(mnist.eval, 256), data_variance=mnist.train.data_variance, clamp=False, ssim=False
    )
    assert metrics["squared_error"] == pytest.approx(13.87, abs=0.01)
    assert metrics["mse"] == pytest.approx(0.01769, abs=1e-5)
