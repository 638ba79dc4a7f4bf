# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Distances between sets of pictures, computed a second way; and the classifier that travels with the package."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance
from training_runs import load_script

from hf_autoencoders.evaluation.features import (
    RealBalls,
    accepted_share,
    class_accuracy,
    fd_cnn,
    frechet_distance,
    measure_coverage,
    measure_samples,
    nearest_radius,
)
from hf_autoencoders.perception import digits_classifier
from hf_autoencoders.perception.digits_classifier import (
    CHECKSUM,
    WEIGHTS,
    DigitsClassifier,
    as_grey_28,
    checksum_of,
    in_batches,
    load_digits_classifier,
    load_judge,
    read_digits_classifier,
    read_weights_metadata,
    save_digits_classifier,
)


ROOT = Path(__file__).parents[1]
MNIST = Path(os.environ.get("HF_AUTOENCODERS_DATA", ROOT.parent / "shared")) / "data" / "mnist"


def normal(rows, width=6, seed=0):
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def noise_pictures(number, seed=0, side=28, channels=1):
    return torch.rand(number, channels, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def other_net(tmp_path_factory):
    """A classifier of the same make with other weights."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    save_digits_classifier(DigitsClassifier(), path, seed=5)
    return path


# -- distances ---------------------------------------------------------------------------------------------------------


def test_frechet_distance_of_two_lines_by_hand():
    """Means 0 and 3, standard deviations 1 and 2: 9 + (1 - 2)^2."""
    a, b = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([[1.0], [3.0], [5.0]])
    assert frechet_distance(a, b) == pytest.approx(10)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)


def test_frechet_distance_agrees_with_the_matrix_root():
    a, b = normal(50) @ normal(6, seed=1), normal(40, seed=2) @ normal(6, seed=3) + 0.5
    covariances = [np.cov(x.numpy(), rowvar=False) for x in (a, b)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = (a.mean(0) - b.mean(0)).square().sum().item() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_a_plane_in_space_is_finite():
    a = torch.cat([normal(30, 2), torch.zeros(30, 3)], 1)  # three dead features
    assert frechet_distance(a, a + 1) == pytest.approx(5)


def test_torchmetrics_computes_the_same_distance_in_our_features(other_net):
    net, a, b = read_digits_classifier(other_net), noise_pictures(40), noise_pictures(60, seed=1).clamp(max=0.5)
    metric = FrechetInceptionDistance(feature=net, input_img_size=(1, 28, 28))
    metric.update(a, real=True)
    metric.update(b, real=False)
    expected = metric.compute().item()
    assert frechet_distance(in_batches(net, a), in_batches(net, b)) == pytest.approx(
        expected, rel=1e-4
    )  # float32 at its end


def test_coverage_on_a_line_by_hand():
    """k = 1: real 0, 1, 10 have the radii 1, 1, 9; samples 0.5, 30 have the radius 29.5 each."""
    real, samples = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([[0.5], [30.0]])
    assert nearest_radius(real, 1).tolist() == [1, 1, 9]
    found = measure_coverage(samples, real, k=1)
    assert found.precision == 0.5  # 30 is in no ball
    assert found.recall == 1.0  # all real ones are within 29.5 of 0.5
    assert found.density == pytest.approx(2 / 2)  # 0.5 lies in the balls of 0 and 1, but 9.5 from 10, whose radius is 9
    assert found.coverage == pytest.approx(2 / 3)


@pytest.mark.parametrize("rows", [7, 1000])
def test_coverage_agrees_with_whole_distance_matrices(rows, monkeypatch):
    monkeypatch.setattr("hf_autoencoders.evaluation.features.ROWS", rows)
    samples, real = normal(30, 3) * 0.7, normal(40, 3, seed=1)
    between = torch.linalg.vector_norm(real[:, None] - samples[None], dim=2)
    real_radius = torch.linalg.vector_norm(real[:, None] - real[None], dim=2).sort(1).values[:, 5]
    sample_radius = torch.linalg.vector_norm(samples[:, None] - samples[None], dim=2).sort(1).values[:, 5]
    found = measure_coverage(samples, real)
    inside = between <= real_radius[:, None]
    assert found.precision == pytest.approx(inside.any(0).double().mean().item())
    assert found.density == pytest.approx(inside.sum(0).double().mean().item() / 5)
    assert found.coverage == pytest.approx((between.amin(1) <= real_radius).double().mean().item())
    assert found.recall == pytest.approx((between <= sample_radius).any(1).double().mean().item())
    balls = RealBalls(real)
    assert torch.equal(balls.contain(samples), inside.any(0))
    assert balls.reached_share(samples) == pytest.approx(found.coverage)


# -- the classifier ----------------------------------------------------------------------------------------------------


def test_the_shipped_net_is_the_pinned_one_and_small():
    net = load_digits_classifier()
    assert net.checksum == CHECKSUM == checksum_of(WEIGHTS)
    assert WEIGHTS.stat().st_size <= 250_000
    metadata = read_weights_metadata(WEIGHTS)
    assert metadata["seed"] == "0" and float(metadata["test_accuracy"]) >= 0.99
    assert not net.training and all(p.dtype == torch.float32 and not p.requires_grad for p in net.parameters())


def test_other_weights_are_refused(other_net):
    with pytest.raises(ValueError, match=f"{CHECKSUM[:12]}.*{checksum_of(other_net)[:12]}"):
        load_digits_classifier(other_net)
    pictures = noise_pictures(10)
    with pytest.raises(ValueError, match="could not be compared"):
        fd_cnn(read_digits_classifier(other_net), pictures, pictures)
    with pytest.raises(ValueError, match="have none"):
        fd_cnn(DigitsClassifier(), pictures, pictures)
    with pytest.raises(ValueError, match="net of FD-CNN itself"):
        load_judge(WEIGHTS)


def test_files_that_are_no_classifier_are_named(tmp_path):
    with pytest.raises(ValueError, match="no classifier .*missing"):
        read_digits_classifier(tmp_path / "missing.safetensors")
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="broken.safetensors holds no classifier"):
        read_digits_classifier(path)


def test_colours_and_sizes_become_grey_28():
    colour = noise_pictures(3, side=32, channels=3)
    assert as_grey_28(colour).shape == (3, 1, 28, 28)
    grey = noise_pictures(2)
    torch.testing.assert_close(as_grey_28(grey.expand(-1, 3, -1, -1)), grey)
    assert as_grey_28(grey * 5).abs().max() == 1  # as a picture would be clamped


def test_real_data_stand_beside_every_metric(other_net):
    """Real against real is the floor; noise is far from it."""
    reference, real, samples = (noise_pictures(60, seed=s) * 0.3 for s in (0, 1, 2))
    samples = samples * 3
    judge, labels = load_judge(other_net), torch.zeros(60, dtype=torch.int64)
    metrics = measure_samples(
        samples, reference, real, load_digits_classifier(), judge=judge, labels=labels, real_labels=labels
    )
    assert metrics["fd_cnn"] > 3 * metrics["fd_cnn_of_real_data"]
    assert metrics["fd_cnn"] == pytest.approx(fd_cnn(load_digits_classifier(), samples, reference))
    assert metrics["coverage"] < metrics["coverage_of_real_data"]
    assert metrics["class_accuracy"] == pytest.approx(class_accuracy(judge, samples, labels))
    assert metrics["accepted_of_real_data"] == pytest.approx(accepted_share(judge, real))
    with pytest.raises(ValueError, match="needs as many real pictures, got 10"):
        measure_samples(samples, reference, real[:10], load_digits_classifier())
    with pytest.raises(ValueError, match="another net"):
        measure_samples(samples, reference, real, load_digits_classifier(), judge=load_digits_classifier())


# -- training it -------------------------------------------------------------------------------------------------------


def script():
    return load_script(ROOT / "scripts/train_digits_classifier.py")


def test_the_training_script_makes_a_classifier(tmp_path):
    classifier = script()
    recipe = classifier.Recipe(seed=3, epochs=3, batch_size=32)
    train, test = classifier.load_digits("digits", recipe)
    path = tmp_path / "judge.safetensors"
    accuracy = classifier.store(classifier.fit(train, recipe), test, recipe, path)
    assert accuracy > 0.8
    assert (
        read_weights_metadata(path)["seed"] == "3" and float(read_weights_metadata(path)["test_accuracy"]) == accuracy
    )
    assert classifier.accuracy_on(load_judge(path), test) == accuracy


def test_the_training_script_ends_mistakes_with_one_line(tmp_path):
    with pytest.raises(SystemExit, match=r"train_digits_classifier.py: .*no such folder"):
        script().main(["--dataset_name", str(tmp_path / "nothing")])


# -- on real digits ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist():
    if not MNIST.is_dir():
        pytest.skip(f"no MNIST in {MNIST}; HF_AUTOENCODERS_DATA names the folder that holds data/mnist")
    classifier = script()
    return classifier.load_digits(str(MNIST), classifier.Recipe())


@pytest.mark.mnist
def test_the_shipped_net_knows_99_percent_of_the_mnist_test_set(mnist):
    _, test = mnist
    pixels = test.batch(range(len(test)))["pixel_values"]
    accuracy = class_accuracy(load_digits_classifier(), pixels, test.labels)
    assert accuracy >= 0.99
    assert accuracy == pytest.approx(
        float(read_weights_metadata(WEIGHTS)["test_accuracy"]), abs=2e-4
    )  # rounding of another CPU


@pytest.mark.mnist
def test_metrics_tell_real_digits_from_blurred_ones_and_from_one_class(mnist):
    train, test = mnist
    train.augmentation = train.augmentation.for_evaluation()  # no shifts
    count = 2000
    reference = test.batch(range(count))["pixel_values"]
    real = train.batch(range(count))["pixel_values"]
    blurred = torch.nn.functional.avg_pool2d(real, 3, stride=1, padding=1, count_include_pad=False)
    ones = train.batch(torch.nonzero(train.labels == 1).flatten()[:count].tolist())["pixel_values"]
    net = digits_classifier.load_digits_classifier()
    of_blurred = measure_samples(blurred, reference, real, net)
    of_ones = measure_samples(ones, reference, real, net)
    assert of_blurred["fd_cnn"] > 2 * of_blurred["fd_cnn_of_real_data"]
    assert of_ones["recall"] < 0.5 * of_ones["recall_of_real_data"]
    assert of_ones["coverage"] < 0.3 * of_ones["coverage_of_real_data"]
