# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The published figures in short: minutes cut to seconds, with a range around what was measured.

docs/RESULTS.md has the whole runs; thirty principal components, 13.87, are in test_metrics.py.
"""

import json
import os
from pathlib import Path

import pytest
from training_runs import ROOT, load_script, train_here
from transformers import AutoModel

from hf_autoencoders.evaluation.likelihood import data_setting, measure_likelihood
from hf_autoencoders.hub.results import load_results, put_bake_off
from hf_autoencoders.hub.results_page import results_page
from hf_autoencoders.models.image_processing_autoencoder import AutoencoderImageProcessorPil
from hf_autoencoders.training.data import load_images


MNIST = Path(os.environ.get("HF_AUTOENCODERS_DATA", ROOT.parent / "shared")) / "data" / "mnist"
SCHEDULE = "--learning_rate 1e-3 --lr_scheduler cosine --num_threads 1 --logging_steps 1000"


def trained(folder: Path, flags: str, seed: int = 0) -> dict[str, float]:
    """`train.py FLAGS`: its metrics, of the whole held-out split."""
    assert train_here([*SCHEDULE.split(), *flags.split(), "--seed", str(seed), "--output_dir", str(folder)]) == 0
    return json.loads((folder / "metrics.json").read_text())["metrics"]


def recipe(name: str) -> str:
    return f"--recipe {ROOT / 'scripts/recipes' / name}.yaml"


@pytest.fixture
def mnist():
    if not MNIST.is_dir():
        pytest.skip(f"no MNIST in {MNIST}; HF_AUTOENCODERS_DATA names the folder that holds data/mnist")
    return MNIST


# -- codebooks ---------------------------------------------------------------------------------------------------------


def codebook_of_512(folder: Path, quantizer: str, seed: int = 0) -> dict[str, float]:
    net = "--model_type vqvae --block_out_channels 32 32 --codebook_size 512 --codebook_dim 32 --train_batch_size 32"
    return trained(folder, f"{net} --num_train_epochs 8 --quantizer {quantizer}", seed)


def test_512_codes_stay_in_use_where_the_codebook_loss_leaves_a_handful(tmp_path):
    """Digits, 8 epochs. Three seeds: perplexity 351 to 365, MSE .0140 to .0142; plain 2.1 to 3.7, .029 to .046."""
    ours, plain = (codebook_of_512(tmp_path / name, name) for name in ("ema", "vq"))
    assert 300 <= ours["perplexity"] <= 450 and ours["mse"] <= 0.017
    assert plain["perplexity"] <= 20 and plain["mse"] >= 0.020


def bake_off(folder: Path, *flags: str) -> int:
    script = load_script(ROOT / "scripts/bake_off.py")
    short = "--dataset_name digits --num_train_epochs 1 --block_out_channels 32 32 --num_threads 1 --seeds 0"
    return script.main([*short.split(), *flags, "--output_dir", str(folder)])


def test_the_bake_off_makes_one_table_repeats_no_run_and_enters_the_results(tmp_path, monkeypatch, capsys):
    """Digits, 11 steps: MSEs .13 to .22, of ema and fsq .14 (variance .141), ema ahead of fsq in perplexity."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert bake_off(tmp_path) == 0
    runs = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.json")}
    rows = {row["quantizer"]: row for row in json.loads((tmp_path / "bake_off.json").read_text())["rows"]}
    assert list(rows) == ["vq", "ema", "l2", "rotation", "fsq", "simvq", "residual", "gumbel"]
    assert sorted(path.parent.name for path in runs) == sorted(f"{name}-seed0" for name in rows)
    assert all(0.10 <= row["mse"]["mean"] <= 0.27 and row["images_per_second"]["mean"] > 0 for row in rows.values())
    ema, fsq = rows["ema"], rows["fsq"]
    assert all(0.10 <= row["mse"]["mean"] <= 0.16 for row in (ema, fsq))
    assert ema["perplexity"]["mean"] > fsq["perplexity"]["mean"] > 1
    assert bake_off(tmp_path, "--quantizers", "fsq") == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/metrics.json")} == runs
    assert bake_off(tmp_path, "--quantizers", "ema", "--train_batch_size", "64") == 2
    assert "holds a run of other knobs" in capsys.readouterr().err
    results = load_results(tmp_path)
    put_bake_off(results, tmp_path)
    page = results_page(results)
    assert f"| `fsq` | {fsq['mse']['mean']:.4g} +- 0 |" in page and "scripts/bake_off.py --dataset_name=digits" in page


# -- dVAE --------------------------------------------------------------------------------------------------------------


def short_dvae(folder: Path, flags: str) -> dict[str, float]:
    """Metrics after 8 of the recipe's 40 epochs over the digits, with shorter averages; `flags` cut the schedules."""
    short = "--num_train_epochs 8 --ema_weights 0.95"
    return trained(folder, f"{recipe('dvae-digits')} {short} {flags}")


def test_the_recipe_of_digits_uses_its_codes(tmp_path):
    """Seed 0, 8 epochs: 63 of 64 codes, perplexity 38, MSE .048; with a logit-Laplace density 45, 14 and .083."""
    metrics = short_dvae(tmp_path / "run", "--gumbel_temperature_steps 300 --kl_weight_steps 80")
    assert metrics["codes_used"] >= 55 and metrics["perplexity"] >= 25 and metrics["mse"] <= 0.060


def test_a_dvae_annealed_has_a_smaller_gap_and_a_weight_on_the_kl_more_codes(tmp_path):
    """DALL-E's density, seed 0: relaxed minus hard ELBO .50 and 73 nats.

    Perplexity 3.3 with kl_weight 6.6, 2.8 with 0 (11.9 with 1).
    """
    density = "--reconstruction_loss logit_laplace --init_output_bias false"
    annealing, warmup = f"{density} --gumbel_temperature_steps 300", "--kl_weight_steps 80"
    fixed = "--gumbel_temperature 1 --gumbel_temperature_start null --gumbel_temperature_steps null"
    runs = {
        "annealed": f"{annealing} {warmup}",
        "fixed": f"{density} {warmup} {fixed}",
        "weighed": f"{annealing} {warmup} --kl_weight 6.6",
        "free": f"{annealing} --kl_weight 0 --kl_weight_start null --kl_weight_steps null",
    }
    metrics = {name: short_dvae(tmp_path / name, flags) for name, flags in runs.items()}
    assert metrics["annealed"]["elbo_gap"] <= 5 and 30 <= metrics["fixed"]["elbo_gap"] <= 140
    assert metrics["weighed"]["perplexity"] > metrics["free"]["perplexity"]


# -- on MNIST ----------------------------------------------------------------------------------------------------------


def short_deep_ae(folder: Path, data: Path, seed: int = 0) -> float:
    """Squared error per test picture after 6 epochs over 5,000 pictures."""
    size = f"--dataset_name {data} --max_train_samples 5000 --num_train_epochs 6"
    return trained(folder, f"{recipe('ae-mnist-30d')} {size}", seed)["squared_error"]


def short_likelihood(folder: Path, name: str, data: Path, seed: int = 0) -> float:
    """-L_50 of 500 test pictures after 8 epochs over 5,000 pictures, in nats."""
    size = f"--dataset_name {data} --max_train_samples 5000 --max_eval_samples 500 --num_train_epochs 8"
    smaller = "--learning_rate 5e-3 --train_batch_size 100 --ema_weights 0.95"
    trained(folder, f"{recipe(name)} {smaller} {size}", seed)
    processor = AutoencoderImageProcessorPil(do_resize=False, num_channels=1)
    images = load_images(
        str(data), to_uint8=processor.to_uint8, binarize="dynamic", max_train_samples=1, max_eval_samples=500
    ).eval
    report = measure_likelihood(
        AutoModel.from_pretrained(folder),
        lambda: (images.batch(range(i, i + 100))["pixel_values"] for i in range(0, 500, 100)),
        setting=data_setting("dynamic"),
        num_samples=50,
    )
    return report.importance_bound


@pytest.mark.mnist
def test_vae_and_iwae_are_on_their_way(mnist, tmp_path):
    """8 epochs over 5,000 pictures: 123.0 and 124.5 nats (seed 0); with Adam 144.4 and 144.9; a mean picture: 206."""
    vae = short_likelihood(tmp_path / "vae", "vae-mnist-dynamic", mnist)
    iwae = short_likelihood(tmp_path / "iwae", "vae-mnist-dynamic-iwae5", mnist)
    assert 118 <= vae <= 130 and 118 <= iwae <= 130


@pytest.mark.mnist
def test_the_deep_autoencoder_is_on_its_way(mnist, tmp_path):
    """6 epochs over 5,000 pictures: 14.7 (seed 0); a mean picture: 52.9, 30 components of all: 13.87."""
    assert 13 <= short_deep_ae(tmp_path / "ae", mnist) <= 17


@pytest.mark.mnist
def test_the_error_of_7x7_codes_of_128_is_on_its_way(mnist, tmp_path):
    """3 epochs over 5,000 pictures: NMSE .454 (seed 0), a mean picture: .71; the whole run: .030."""
    size = f"--dataset_name {mnist} --max_train_samples 5000 --max_eval_samples 1000 --num_train_epochs 3"
    nmse = trained(tmp_path, f"{recipe('vqvae-mnist')} {size}")["nmse"]
    assert 0.3 <= nmse <= 0.6
