# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Figures of photographs: by hand, against brute force, equal for all batches, beside floors, with a protocol."""

import json

import pytest
import torch
from torchmetrics.image.kid import poly_mmd
from training_runs import ROOT, finish, load_script, start, tiny, train_here

from hf_autoencoders import __version__
from hf_autoencoders.evaluation.jpeg import jpeg_file, jpeg_of_batch, jpeg_within, scan_bits
from hf_autoencoders.evaluation.metrics import evaluate, roughness
from hf_autoencoders.evaluation.photo_metrics import (
    Reconstructed,
    feature_net,
    kernel_distance,
    measure_photographs,
    partners,
)
from hf_autoencoders.evaluation.protocol import protocol_differences, protocol_line
from hf_autoencoders.perception.feature_nets import load_feature_net
from hf_autoencoders.training.data import CachedImages


DIGITS = load_feature_net("digits")


def photographs(count=24, channels=3, side=32, seed=0) -> CachedImages:
    """Smooth pictures with a little noise: a JPEG has something to leave out."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    noisy = (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)
    return CachedImages((255 * noisy).to(torch.uint8))


def blurred(pixels):
    return torch.nn.functional.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)


def batches_of(images, size, reconstruct=blurred, bits=2000.0, order=None):
    rows = torch.arange(len(images)) if order is None else order
    for numbers in rows.split(size):
        pixels = images.batch(numbers.tolist())["pixel_values"]
        yield Reconstructed(pixels, reconstruct(pixels), numbers, bits)


def figures(images, size=8, net=DIGITS, **knobs):
    return measure_photographs(batches_of(images, size, **knobs), images, net).metrics


# -- single figures ----------------------------------------------------------------------------------------------------


def test_roughness_by_hand():
    picture = torch.tensor([[0.0, 1.0], [0.0, 3.0]]).view(1, 1, 2, 2)  # down: 0, 2; right: 1, 3
    assert roughness(picture).tolist() == [1.0 + 2.0]
    assert roughness(torch.cat([picture, 2 * picture])).tolist() == [3.0, 6.0]


def test_evaluation_tells_blur_by_the_gradient_energy():
    class Blurring(torch.nn.Module):
        def forward(self, pixel_values):
            return type("Output", (dict,), {"reconstruction": blurred(pixel_values)})()

    pixels = photographs().batch(range(24))["pixel_values"]
    expected = roughness(blurred(pixels)).mean() / roughness(pixels).mean()
    assert evaluate(Blurring(), [{"pixel_values": pixels}])["gradient_energy"] == pytest.approx(expected.item())
    assert expected < 0.8


def test_kid_is_the_mean_of_gretton_s_h_over_pairs_of_different_rows():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator) + 1

    def k(x, y):
        return (float(x.double() @ y.double()) / 5 + 1) ** 3

    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    h = [k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i, j in pairs]
    assert kernel_distance(a, b) == pytest.approx(sum(h) / len(pairs))
    assert kernel_distance(a, a) == 0


def test_kid_of_independent_sets_is_torchmetrics_up_to_the_pairs_that_it_adds():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 8, generator=generator), torch.randn(400, 8, generator=generator) + 1
    assert kernel_distance(a, b) == pytest.approx(poly_mmd(a.double(), b.double()).item(), rel=0.02)


def test_kid_of_many_pictures_is_the_mean_over_blocks(monkeypatch):
    monkeypatch.setattr("hf_autoencoders.evaluation.photo_metrics.KID_BLOCK", 4)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(9, 3, generator=generator), torch.randn(9, 3, generator=generator)
    blocks = [kernel_distance(a[start : start + 4], b[start : start + 4]) for start in (0, 4)]
    assert kernel_distance(a, b) == pytest.approx(sum(blocks) / 2)  # the ninth has no other row in its block


def test_halves_are_two_sets_of_different_pictures():
    partner = partners(9)
    first, second = (partner >= 0).nonzero().flatten(), partner[partner >= 0]
    assert len(first) == 4 and not set(first.tolist()) & set(second.tolist()) and len(set(second.tolist())) == 4
    assert torch.equal(partner, partners(9)) and not torch.equal(partners(9), partners(9, seed=1))


# -- JPEG at equal bits ------------------------------------------------------------------------------------------------


def test_the_bits_of_a_jpeg_are_those_behind_header_and_tables():
    from hf_autoencoders.evaluation.jpeg import as_pil

    grey = as_pil(torch.zeros(1, 8, 8))  # one block, every coefficient 0
    file = jpeg_file(grey, 50)
    # 2 bits for an equal DC, 4 for the end of the block, filled up to a byte: 64 bytes of tables do not count.
    assert scan_bits(file) == 8 and len(file) > 300


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_takes_no_more_bits_than_it_may_and_is_better_with_more(channels):
    pixels = photographs(channels=channels).batch([0])["pixel_values"][0]
    tried = [jpeg_within(pixels, bits) for bits in (300, 1000, 4000, 1e9)]
    errors = [(one.pixels - pixels).square().mean().item() for one in tried]
    assert [one.bits <= bits for one, bits in zip(tried, (300, 1000, 4000, 1e9), strict=True)] == [True] * 4
    assert errors == sorted(errors, reverse=True) and errors[3] < 1e-2
    assert all(one.pixels.shape == pixels.shape and one.pixels.abs().max() <= 1 for one in tried)


def test_where_no_jpeg_is_small_enough_the_smallest_says_its_bits():
    pixels = photographs().batch([0, 1])["pixel_values"]
    decoded, bits = jpeg_of_batch(pixels, 1.0)
    assert decoded.shape == pixels.shape and (bits > 1).all() and (bits <= 64).all()


# -- the whole set -----------------------------------------------------------------------------------------------------


def test_perfect_reconstructions_are_at_distance_nothing_and_two_halves_are_not():
    found = figures(photographs(), reconstruct=lambda pixels: pixels)
    for name in ("perceptual_distance", "frechet_distance", "kid"):
        assert found[name] == pytest.approx(0, abs=1e-6) and found[f"halves_{name}"] != 0
    assert found["halves_perceptual_distance"] > found["jpeg_perceptual_distance"] > 0


def test_figures_depend_neither_on_batches_nor_on_the_order_of_the_pictures():
    images = photographs()
    whole = figures(images, size=24)
    shuffled = figures(images, size=5, order=torch.randperm(24, generator=torch.Generator().manual_seed(1)))
    assert whole.keys() == shuffled.keys()
    for name, value in whole.items():
        assert shuffled[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_the_bits_of_the_codes_stand_beside_those_of_the_jpeg():
    found = figures(photographs(side=32), bits=2000.0)
    assert found["bits_per_pixel"] == pytest.approx(2000 / 32**2)
    assert 0.7 * found["bits_per_pixel"] < found["jpeg_bits_per_pixel"] <= found["bits_per_pixel"]
    assert 20 < found["jpeg_psnr"] < 45 and 0 < found["jpeg_ssim"] < 1 and 0.3 < found["jpeg_gradient_energy"] < 1.1


def test_latents_without_bits_have_no_jpeg_beside_them_and_the_report_says_why():
    images = photographs()
    found = measure_photographs(batches_of(images, 8, bits=None), images, DIGITS)
    assert not [name for name in found.metrics if name.startswith("jpeg")]
    assert found.notes == ["No comparison with JPEG: latents that are real numbers have no fixed number of bits."]


def test_a_protocol_names_net_weights_pictures_and_versions():
    images = photographs()
    of_all = measure_photographs(batches_of(images, 8), images, DIGITS, reading="resize 32x32").protocol
    assert of_all["net"] == "digits" and of_all["pictures"] == 24 and of_all["shape"] == "3x32x32"
    assert len(of_all["weights"]) == 16 and of_all["versions"]["torch"] == torch.__version__
    assert of_all["versions"]["hf_autoencoders"] == __version__
    assert "resize 32x32" in protocol_line(of_all) and "\n" not in protocol_line(of_all)
    few = photographs(20)
    of_few = measure_photographs(batches_of(few, 8), few, DIGITS, reading="resize 32x32").protocol
    assert protocol_differences(of_all, of_all) == []
    assert [text.split(":")[0] for text in protocol_differences(of_all, of_few)] == ["pictures", "of", "halves"]


@pytest.mark.parametrize(
    "call, words",
    [
        (
            lambda: feature_net("efficientnet-lite9", None, photographs(4, side=64)),
            "No feature net 'efficientnet-lite9'",
        ),
        (
            lambda: feature_net("efficientnet-lite0", None, photographs(4, side=16)),
            "from 32 pixels a side on, got 16x16",
        ),
        (lambda: feature_net("digits", None, photographs(4, channels=2)), "got 2 channels"),
        (lambda: feature_net(None, 64, photographs(4)), "no effect without --feature_model"),
        (lambda: feature_net("digits", None, photographs(3)), "need 4 pictures, got 3: raise --max_eval_samples"),
        (lambda: figures(photographs(3)), "need 4 pictures, got 3"),
    ],
)
def test_what_cannot_be_judged_is_one_line(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# -- the commands ------------------------------------------------------------------------------------------------------


def test_a_run_and_its_report_measure_the_same_under_one_protocol(tmp_path, capsys):
    knobs = ("--max_train_steps", 3, "--max_eval_samples", 30, "--feature_model", "digits", "--cpu")
    assert train_here(tiny("vqvae", tmp_path / "run", *knobs)) == 0
    assert "protocol: net digits; weights" in capsys.readouterr().out
    of_run = json.loads((tmp_path / "run" / "metrics.json").read_text())
    limits = ["--max_eval_samples", "30", "--max_train_samples", "40", "--feature_model", "digits", "--cpu"]
    assert load_script(ROOT / "scripts/evaluate_model.py").main([str(tmp_path / "run"), *limits]) == 0
    assert "protocol: net digits; weights" in capsys.readouterr().out
    of_report = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    assert protocol_differences(of_run["protocol"], of_report["protocol"]) == []
    names = {"gradient_energy", "jpeg_psnr", "halves_frechet_distance", "kid"}
    assert names <= of_run["metrics"].keys() & of_report["metrics"].keys()
    for name in of_run["metrics"].keys() & of_report["metrics"].keys() - {"nmse"}:  # of 40 training pictures there
        assert of_run["metrics"][name] == pytest.approx(of_report["metrics"][name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--feature_model no-such-net", "No feature net 'no-such-net'"),
        ("--feature_model efficientnet-lite0", "from 32 pixels a side on, got 8x8: resize them by --perceptual_size"),
        ("--feature_model digits --max_eval_samples 3", "need 4 pictures, got 3: raise --max_eval_samples"),
        ("--feature_model efficientnet-lite0 --feature_size 1", "from 32 pixels a side on, got 1x1"),
        ("--feature_size 64", "--feature_size: has no effect without --feature_model"),
        ("--perceptual_model no-such-net", "No feature net 'no-such-net'"),
        ("--perceptual_model digits --perceptual_layers 9", "digits has the maps 0..2, finest first; got layer 9"),
        ("--perceptual_model efficientnet-lite0", "from 32 pixels a side on, got 8x8"),
        (
            "--adversarial_weight 0.1 --discriminator patch",
            "Pictures of 8x8 pixels are too small for this discriminator",
        ),
        ("--adversarial_weight 0.1 --discriminator_levels 6", "fewer --discriminator_levels"),
    ],
)
def test_losses_and_nets_that_do_not_fit_the_pictures_stop_a_run_before_it_trains(flags, words, tmp_path, capsys):
    assert train_here(tiny("ae", tmp_path / "run", *flags.split(), "--max_train_samples", 32, "--cpu")) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line and not (tmp_path / "run").exists()


def test_a_discriminator_of_grey_pictures_trains(tmp_path):
    game = "--adversarial_weight 0.1 --discriminator_start 0 --adversarial_start 0 --max_train_steps 2"
    few = ("--max_train_samples", 32, "--max_eval_samples", 4)
    assert train_here(tiny("ae", tmp_path / "run", *game.split(), *few, "--cpu")) == 0


def test_two_processes_measure_like_one(tmp_path):
    knobs = ("--max_train_steps", 1, "--learning_rate", 0, "--max_train_samples", 64, "--max_eval_samples", 21)
    records = []
    for processes, batch in ((1, 32), (2, 16)):
        folder = tmp_path / str(processes)
        flags = tiny("vqvae", folder, *knobs, "--train_batch_size", batch, "--feature_model", "digits")
        code, _, errors = finish(start(flags, processes=processes))
        assert code == 0, errors
        records.append(json.loads((folder / "metrics.json").read_text()))
    one, two = records
    assert protocol_differences(one["protocol"], two["protocol"]) == [] and one["protocol"]["pictures"] == 21
    for name in ("perceptual_distance", "frechet_distance", "kid", "jpeg_psnr", "jpeg_kid", "halves_frechet_distance"):
        assert two["metrics"][name] == pytest.approx(one["metrics"][name], rel=1e-4, abs=1e-7), name
