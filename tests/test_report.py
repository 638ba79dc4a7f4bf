# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Pictures and reports of small untrained models: what every page shows, that the file stands alone, its numbers."""

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from training_runs import load_script

from hf_autoencoders import (
    AEConfig,
    AEModel,
    AutoencoderImageProcessorPil,
    DVAEConfig,
    DVAEModel,
    VAEConfig,
    VAEModel,
    VQVAEConfig,
    VQVAEModel,
)
from hf_autoencoders.evaluation import plots
from hf_autoencoders.evaluation.encoded_once import content_of, encoded_once
from hf_autoencoders.evaluation.metrics import evaluate
from hf_autoencoders.evaluation.photo_page import photographs_page
from hf_autoencoders.evaluation.photo_plots import as_images, difference_maps, window_of_worst
from hf_autoencoders.evaluation.report import PAGES, Knobs, gaps_page, likelihood_page, pairs_of_classes, write_report
from hf_autoencoders.evaluation.report_html import build_html
from hf_autoencoders.evaluation.subject import Subject
from hf_autoencoders.perception.digits_classifier import DigitsClassifier, load_judge, save_digits_classifier
from hf_autoencoders.perception.feature_nets import load_feature_net
from hf_autoencoders.training.data import CachedImages


ROOT = Path(__file__).parents[1]
PNG = b"\x89PNG\r\n\x1a\n"
CONV = {"image_size": 8, "num_channels": 1, "block_out_channels": (8, 8), "residual_channels": 4}
MLP = {"image_size": 8, "num_channels": 1, "backbone": "mlp", "hidden_sizes": (16,), "reconstruction_loss": "bce"}
MODELS = {
    "ae": lambda: AEModel(AEConfig(**MLP, latent_channels=2, latents_mean=[0.0, 0.0], latents_std=[1.0, 1.0])),
    "vae": lambda: VAEModel(VAEConfig(**MLP, latent_channels=3)),
    "vqvae": lambda: VQVAEModel(VQVAEConfig(**CONV, codebook_size=6, codebook_dim=4, quantizer="vq")),
    "residual": lambda: VQVAEModel(
        VQVAEConfig(**CONV, codebook_size=6, codebook_dim=4, quantizer="residual", num_quantizers=2)
    ),
    "dvae": lambda: DVAEModel(DVAEConfig(**CONV, backbone="conv", codebook_size=6, codebook_dim=4)),
}
ALWAYS = {"reconstructions", "latent_plane", "manifold", "interpolation", "samples"}
OF_CODES = {"code_usage", "code_atlas", "code_map"}
PICTURES = {
    "ae": ALWAYS | {"gaps"},
    "vae": ALWAYS | {"gaps", "unit_kl", "training_curves"},
    "vqvae": ALWAYS | OF_CODES | {"quantization_error"},
    "residual": ALWAYS | OF_CODES | {"quantization_error"},
    "dvae": ALWAYS | OF_CODES | {"relaxation_gap"},
}


def digits(number, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (number, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return CachedImages(pixels, torch.arange(number) % 10, [str(digit) for digit in range(10)])


def subject(kind, folder=None):
    torch.manual_seed(0)
    return Subject(kind, MODELS[kind](), digits(80, 0), digits(60, 1), folder=folder)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("judge") / "judge.safetensors"
    save_digits_classifier(DigitsClassifier(), path)
    return load_judge(path)


@pytest.fixture
def run_folder(tmp_path):
    """The log of a run, as train.py writes it."""
    lines = [{"step": 10, "loss": 5.0, "kl": 1.0}, {"step": 20, "loss": 4.0, "kl": 2.0}, {"step": 20, "eval_loss": 4.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


# -- whole reports -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
def test_a_report_shows_what_its_model_has(kind, tmp_path, run_folder, judge):
    one = subject(kind, run_folder if kind == "vae" else None)
    metrics = write_report(one, tmp_path / "report", Knobs(judge, num_samples=40), {"seed": "0"})
    pictures = {path.stem: path.read_bytes() for path in (tmp_path / "report").glob("*.png")}
    assert set(pictures) == PICTURES[kind]
    assert all(content.startswith(PNG) for content in pictures.values())
    record = json.loads((tmp_path / "report" / "metrics.json").read_text())
    assert record["metrics"] == metrics and record["seed"] == "0" and record["data_setting"] == "grey levels"
    assert all(isinstance(value, str) or np.isfinite(value) for value in metrics.values())
    html = (tmp_path / "report" / "index.html").read_text()
    assert html.count("data:image/png;base64,") == len(pictures)
    assert not re.search(r'(src|href)="(?!data:|#)', html)  # nothing is fetched from elsewhere
    titles = re.compile("^(likelihood|gaps|relaxation)_")  # stand above their tables, not in them
    shown = (titles.sub("", name) for name in metrics)
    missing = [name for name in shown if name.replace("_", " ") not in html]
    assert not missing


def test_metrics_of_a_report_are_those_of_the_whole_held_out_set(tmp_path):
    one = subject("vqvae")
    metrics = write_report(one, tmp_path, pages=[page for page in PAGES if page.__name__ == "reconstruction_page"])
    expected = evaluate(one.model, [one.held_out.batch(range(60))], data_variance=one.train.data_variance)
    assert metrics["mse"] == pytest.approx(expected["mse"])
    assert metrics["squared_error"] == pytest.approx(one.errors.mean().item(), rel=1e-5)
    assert metrics["nmse"] == pytest.approx(metrics["mse"] / one.train.data_variance)


def test_gaps_of_two_models_stand_side_by_side(judge):
    page = gaps_page(subject("vae"), Knobs(judge, beside=subject("ae")))
    for name in (
        "share_of_hull",
        "accepted_anywhere_in_hull",
        "plausible_midpoints_of_two_codes",
        "accepted_samples",
        "plausible_normal_samples",
        "covered_by_samples",
        "plausible_training_pictures",
    ):
        assert 0 <= page.metrics[f"gaps_vae_{name}"] <= 1 and 0 <= page.metrics[f"gaps_ae_{name}"] <= 1
    titles = [axes.get_title(loc="left") for axes in page.pictures[0].figure.axes]
    assert titles[0].startswith("vae: gaps are") and titles[1].startswith("ae: gaps are")


def test_a_model_without_prior_says_why_there_are_no_samples(tmp_path):
    one = subject("ae")
    one.model.config.latents_mean = None
    write_report(one, tmp_path, pages=[page for page in PAGES if page.__name__ == "samples_page"])
    assert not (tmp_path / "samples.png").exists()
    assert "no prior to sample from" in (tmp_path / "index.html").read_text()


def test_colour_pictures_without_labels_have_a_report(tmp_path):
    torch.manual_seed(0)
    model = VQVAEModel(VQVAEConfig(**{**CONV, "num_channels": 3}, codebook_size=6, codebook_dim=4, quantizer="vq"))
    pixels = torch.randint(0, 256, (30, 3, 8, 8), dtype=torch.uint8)
    write_report(Subject("colour", model, CachedImages(pixels), CachedImages(pixels)), tmp_path)
    assert {path.stem for path in tmp_path.glob("*.png")} == PICTURES["vqvae"]
    assert "fd cnn" not in (tmp_path / "index.html").read_text()  # its classifier knows only digits


@pytest.mark.parametrize("kind", MODELS)
def test_a_report_encodes_each_batch_once(kind, tmp_path, judge):
    """Seven pages ask for the encodings of the held-out pictures."""
    one, seen = subject(kind), []
    one.model.encoder.register_forward_hook(lambda encoder, inputs, output: seen.append(inputs[0].clone()))
    write_report(one, tmp_path, Knobs(judge, num_samples=40))
    held_out = one.pixels.to(seen[0].dtype)
    shown = [batch for batch in seen if batch.shape == held_out.shape]
    assert len([batch for batch in shown if torch.equal(batch, shown[0])]) == 1
    assert len({content_of(batch) for batch in seen}) == len(seen)
    assert "encode_pixels" not in vars(one.model)  # the model is as it was


def test_encodings_that_would_not_fit_are_made_anew():
    model, pixels = MODELS["vae"]().eval(), torch.zeros(2, 1, 8, 8)
    calls = []
    model.encoder.register_forward_hook(lambda *call: calls.append(1))
    with torch.no_grad(), encoded_once(model, most_values=3):  # two pictures take 2 x 6 numbers
        assert torch.equal(model.encode_pixels(pixels), model.encode_pixels(pixels))
    assert len(calls) == 2
    with encoded_once(model):
        assert model.encode_pixels(pixels).requires_grad  # and a training step always encodes


def photographs(count, seed=0, side=64):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return CachedImages((255 * smooth).to(torch.uint8))


@pytest.mark.parametrize("net", [None, "digits"])
def test_photographs_have_a_page_pixel_by_pixel_and_its_metrics_side_by_side(net, tmp_path):
    torch.manual_seed(0)
    model = VQVAEModel(VQVAEConfig(**{**CONV, "num_channels": 3, "image_size": 64}, codebook_size=16, codebook_dim=4))
    one = Subject("photos", model, photographs(8), photographs(8, seed=1))
    knobs = Knobs(feature_net=None if net is None else load_feature_net(net))
    metrics = write_report(one, tmp_path, knobs, pages=[photographs_page])
    assert {path.stem for path in tmp_path.glob("*.png")} == {"photographs", "worst_crops", "error_map"}
    with Image.open(tmp_path / "photographs.png") as sheet:  # picture, reconstruction, JPEG, difference
        assert sheet.width == 4 * (84 + 4) + 4  # a heading is wider than a picture of 64 pixels
        first = np.asarray(sheet)[14 : 14 + 64, 4 : 4 + 64]
    shown = [np.asarray(picture) for picture in as_images(one.pixels)]
    assert any(np.array_equal(first, picture) for picture in shown)  # no pixel was resized
    html = (tmp_path / "index.html").read_text()
    assert html.count('<figure class="exact">') == 2 and "max-width: none" in html
    record = json.loads((tmp_path / "metrics.json").read_text())
    if net is None:
        assert metrics == {} and "--feature_model" in html and "protocol" not in record
    else:
        assert "<th>JPEG at equal bits</th>" in html and "protocol: net digits" in html
        assert record["protocol"]["net"] == "digits" and metrics["jpeg_psnr"] > 0


def test_the_worst_window_is_where_the_error_is():
    pixels = torch.zeros(3, 20, 30)
    wrong = pixels.clone()
    wrong[:, 12:15, 22:25] = 0.5
    rows, columns = window_of_worst(wrong, pixels, 8)
    assert rows.start <= 12 and rows.stop >= 15 and columns.start <= 22 and columns.stop >= 25
    assert (rows.stop - rows.start, columns.stop - columns.start) == (8, 8)


def test_difference_maps_are_black_where_nothing_differs():
    pixels = torch.zeros(1, 3, 2, 2)
    other = pixels.clone()
    other[..., 0, 0] = 1.0  # half of the [0, 1] scale
    (picture,) = difference_maps(other, pixels)
    levels = np.asarray(picture).astype(int).sum(2)
    assert levels[0, 0] > 600 and (levels.flatten()[1:] < 20).all()


def test_names_cannot_break_the_page():
    html = build_html("<script>x</script>", {"command": 'a "b" & c'}, [], {})
    assert "<script>" not in html and "a &quot;b&quot; &amp; c" in html


def test_ways_lead_between_neighbours_of_different_classes():
    assert pairs_of_classes(torch.tensor([1, 1, 2, 3, 4, 5]), 6, 6) == [(2, 3), (4, 5)]
    assert pairs_of_classes(None, 5, 1) == [(0, 1)]


# -- pictures ----------------------------------------------------------------------------------------------------------


def test_a_mosaic_by_hand():
    black, white = torch.full((1, 1, 2), -1.0), torch.full((1, 1, 2), 5.0)  # 5 is clamped
    picture = plots.mosaic(torch.stack([black, white, black]), columns=2)
    assert picture.tolist() == [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 1, 1]]


def test_drawing_leaves_the_users_matplotlib_alone():
    settings = set(matplotlib.rcParams) - {"backend"}  # found out when it is first asked for
    before = {name: matplotlib.rcParams[name] for name in settings}
    plots.to_png(plots.picture_grid(torch.zeros(4, 1, 8, 8), 2, "title"))
    assert {name: matplotlib.rcParams[name] for name in settings} == before


def test_labels_that_coincide_are_pushed_apart():
    places = np.array([[0.0, 0.0], [0.001, 0.0], [10.0, 10.0]])
    moved = plots.pushed_apart(places)
    assert np.linalg.norm((moved[0] - moved[1]) / 10) >= 0.08 - 1e-3
    np.testing.assert_allclose(moved[2], places[2])


def test_every_axis_of_a_plot_has_a_label(tmp_path, run_folder, judge):
    """Pictures of pictures have none; all that shows numbers has both."""
    for kind in ("vae", "vqvae", "dvae"):
        one = subject(kind, run_folder)
        for page in PAGES:
            for picture in getattr(page(one, Knobs(judge, num_samples=40)), "pictures", ()):
                for axes in getattr(picture.figure, "axes", ()):
                    if axes.axison and axes.lines + list(axes.patches) + list(axes.collections):
                        assert axes.get_xlabel() and axes.get_ylabel(), (kind, picture.name)


def test_a_learned_prior_adds_its_nats_to_those_of_the_decoder(tmp_path):
    """1.5 nats a code, 16 codes, 64 pixels; beside it the uniform prior stays: 16 ln 6."""
    one = subject("vqvae")
    page = likelihood_page(one, Knobs(code_nats=lambda tokens: torch.full((len(tokens),), 24.0)))
    nats = page.metrics["likelihood_learned_prior_reconstruction"] + 24
    assert page.metrics["likelihood_learned_prior_bound"] == pytest.approx(nats)
    assert page.metrics["likelihood_learned_prior_bits_per_dim"] == pytest.approx(nats / (64 * np.log(2)) + 8)
    assert page.metrics["likelihood_rate"] == pytest.approx(16 * np.log(6))
    with pytest.raises(ValueError, match="has no codes"):
        likelihood_page(subject("vae"), Knobs(code_nats=lambda tokens: tokens))


# -- the script --------------------------------------------------------------------------------------------------------


def script():
    return load_script(ROOT / "scripts/evaluate_model.py")


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "my-vae"
    torch.manual_seed(0)
    MODELS["vae"]().save_pretrained(folder)
    AutoencoderImageProcessorPil(num_channels=1, size={"height": 8, "width": 8}).save_pretrained(folder)
    record = {"dataset": {"name": "digits", "binarize": "fixed"}, "settings": {"dataset_name": "digits"}}
    (folder / "metrics.json").write_text(json.dumps(record))
    return folder


def test_the_script_judges_a_run_on_the_data_that_it_names(saved, capsys):
    limits = ["--max_eval_samples", "50", "--max_train_samples", "60"]
    assert script().main([str(saved), *limits, "--num_importance_samples", "3"]) == 0
    assert "index.html" in capsys.readouterr().out
    record = json.loads((saved / "report" / "metrics.json").read_text())
    assert record["data_setting"].startswith("binarised once by a Bernoulli draw of seed 0")
    assert record["metrics"]["likelihood_kind"] == "discrete" and record["metrics"]["likelihood_num_samples"] == 3
    assert record["metrics"]["images"] == 50


def test_the_script_ends_mistakes_with_one_line(saved, tmp_path, capsys):
    (saved / "metrics.json").unlink()
    for words, arguments in (
        ("does not say what it was trained on: give --dataset_name", [str(saved)]),
        ("no such folder", [str(saved), "--dataset_name", str(tmp_path / "nothing")]),
        ("is no folder here; of a model on the Hub, give --output_dir", ["org/model"]),
        ("has no codes, which a prior needs", [str(saved), "--dataset_name", "digits", "--prior", "any"]),
        ("no classifier", [str(saved), "--dataset_name", "digits", "--judge", str(tmp_path / "none.safetensors")]),
    ):
        assert script().main(arguments) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert words in lines[-1] and lines[-1].startswith("hf-autoencoders evaluate_model: ")
